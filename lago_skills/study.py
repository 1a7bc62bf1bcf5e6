"""A study: one TOML file that says what is run. A misspelt key or an impossible value is refused with a sentence."""

from __future__ import annotations

import difflib
import itertools
import sys
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from lago_skills.core import PlanForm, Task
from lago_skills.data.config import SegmentConfig, SourceConfig, WeightingConfig
from lago_skills.decoder.config import DecoderConfig
from lago_skills.errors import StudyError
from lago_skills.llm.config import LiveConfig
from lago_skills.query.config import QueryConfig
from lago_skills.rl.config import PPOConfig, SACConfig
from lago_skills.rl.methods import TRAINABLE
from lago_skills.worlds.config import OwnTask, WorldConfig
from lago_skills.worlds.grounding import Grounding
from lago_skills.worlds.gym.config import EnvironmentConfig, GymConfig
from lago_skills.worlds.gym.world import GymWorld
from lago_skills.worlds.world import World, find_world

MAX_WORKERS = 64
MAX_SEED = 99
"""Seeds up to here keep the start states of demonstrations, training and evaluation in ranges of their own."""
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TasksConfig(_Section):
    """Task and group names (`ten`, `eight`, `twelve`, `twenty`), and one's own tasks."""

    seen: list[str] = Field(min_length=1)
    """Demonstrated training tasks."""
    unseen: list[str] = Field(default_factory=list)
    """Tasks without any demonstration."""
    planned: list[str] = Field(default_factory=list)
    """Tasks that get a playbook and are otherwise left alone: no rollout, no evaluation."""
    own: list[OwnTask] = Field(default_factory=list[OwnTask])


class CollectConfig(_Section):
    """Demonstrations from scripted policies."""

    episodes_per_task: int = Field(default=5, ge=0, le=1000)
    """May be 0 where every seen task has `[[data]]` of its own."""
    action_noise_std: float = Field(default=0.1, ge=0, le=1)
    """Of Gaussian noise on the demonstrator's actions; of discrete actions, the share that is drawn at random."""
    max_tries: int = Field(default=3, ge=1, le=10)
    """At most this many episodes are tried per episode kept; failed ones are dropped."""


class PlanConfig(_Section):
    """Language-model answers: where they are recorded, whose count, how they are asked for."""

    name: str | None = None
    """What the files below are called; without it the world's name, or the study's if it brings its own environment."""
    model: str | None = None
    """Use only this model's answers; without it the latest recorded ones; `best` takes, task by task, the one with the
    best score in rollouts and the fewest findings."""
    prompt: Literal["whole", "brief"] = "whole"
    """What tasks without demonstrations are asked for with: all that is known about writing playbooks, or one sentence of instructions."""
    form: PlanForm = "numbers"
    """`numbers`: steps with a target in metres and thresholds. `words`: steps that say what is done with what; where to head, how fast
    and until when is learned from demonstrations."""
    repair: bool = True
    """Whether recorded repairs are used; without them, first answers as they came."""
    live: LiveConfig = LiveConfig()


class GuideConfig(_Section):
    """Retrieval at run time."""

    k: int = Field(default=4, ge=1, le=64)
    """Skills retrieved per state."""
    temperature: float = Field(default=0.5, gt=0)
    """Of the softmax over similarities. At 0.1, with latents as far apart as the text head puts them, one skill answers alone; there is
    a row for it in data/results/ablations.csv."""
    floor: Share = 0.02
    query: Literal["playbook", "learned", "blend"] = "playbook"
    """What skills are looked up with: the playbook's active step, a learned query of state and task, or a blend."""
    blend: Share = 0.5
    """Share of the learned query in the blend."""
    support_weight: float = Field(default=0.0, ge=0, le=1)
    """Weights are multiplied by (demonstrated steps of the skill) ** this; 0 is off."""


class ZeroShotConfig(_Section):
    """Scoring the library alone."""

    episodes: int = Field(default=20, ge=1)


class TrainConfig(_Section):
    """Which unseen tasks are trained online, how often, with which algorithms."""

    tasks: list[str] = Field(default_factory=list)
    algorithms: list[str] = Field(default_factory=lambda: ["guided-sac", "sac"])
    seeds: list[Seed] = Field(default_factory=lambda: [0, 1, 2], min_length=1)
    sac: SACConfig = SACConfig()
    ppo: PPOConfig = PPOConfig()
    final_episodes: int = Field(default=50, ge=1)
    """Episodes of the last evaluation of a run."""


KINDS_OF_WORLDS: dict[str, type[BaseModel]] = {"described": GymConfig, "named": WorldConfig}


def _kind_of_world(value: Any) -> str:
    use = value.get("use") if isinstance(value, dict) else getattr(value, "use", None)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return "described" if use == "gym" else "named"


class Study(_Section):
    """Everything a study fixes."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    seed: Seed = 0
    workers: int = Field(default=2, ge=1, le=MAX_WORKERS)
    """Processes that work at the same time."""
    tasks: TasksConfig
    world: Annotated[
        Annotated[GymConfig, Tag("described")] | Annotated[WorldConfig, Tag("named")], Discriminator(_kind_of_world)
    ] = WorldConfig()
    """A registered world, a class of one's own, or `use = "gym"` with everything about an environment that Gymnasium makes."""
    environment: EnvironmentConfig | None = None
    """The same as `[world] use = "gym"`, as older studies have it."""
    collect: CollectConfig = CollectConfig()
    data: list[SourceConfig] = Field(default_factory=list[SourceConfig])
    """Offline data from files, instead of scripted demonstrations or beside them."""
    weighting: WeightingConfig = WeightingConfig()
    segment: SegmentConfig = SegmentConfig()
    plan: PlanConfig = PlanConfig()
    decoder: DecoderConfig = DecoderConfig()
    query: QueryConfig = QueryConfig()
    """Training of the query network, if `guide.query` needs one."""
    guide: GuideConfig = GuideConfig()
    zero_shot: ZeroShotConfig = ZeroShotConfig()
    train: TrainConfig = TrainConfig()

    @property
    def own_tasks(self) -> dict[str, Task]:
        """Tasks that this study defines, by id."""
        gym = self.gym
        if gym is None:
            return {task.id: task.task() for task in self.tasks.own}
        return {task.id: task.task(gym.id, gym.horizon_steps) for task in self.tasks.own}

    @property
    def gym(self) -> GymConfig | None:
        """The environment that this study describes; None where it names a world."""
        if self.environment is not None:
            return self.environment.as_gym()
        return self.world if isinstance(self.world, GymConfig) else None

    @property
    def instances(self) -> int:
        """How many environments may be open at once."""
        gym = self.gym
        return MAX_WORKERS if gym is None or gym.instances is None else gym.instances

    def find(self, names: list[str]) -> tuple[Task, ...]:
        """Tasks for names and group names, this study's own among them.

        Raises:
            StudyError: an unknown name.
        """
        return self.load_world().find(names)

    @property
    def seen(self) -> tuple[Task, ...]:
        """Training tasks."""
        return self.find(self.tasks.seen)

    @property
    def unseen(self) -> tuple[Task, ...]:
        """Tasks without demonstrations."""
        return self.find(self.tasks.unseen)

    @property
    def planned(self) -> tuple[Task, ...]:
        """Tasks that get a playbook and are otherwise left alone."""
        return self.find(self.tasks.planned)

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        """Training tasks, tasks without demonstrations and merely planned ones, in this order."""
        return (*self.seen, *self.unseen, *self.planned)

    @property
    def unplanned(self) -> tuple[Task, ...]:
        """Seen tasks whose data is cut by change points; they need no playbook."""
        return self.find(self.segment.change_points)

    def sources(self, task: Task) -> list[SourceConfig]:
        """Data sources that may hold episodes of a seen task, with the world's rule of success and parts of observations where they say none."""
        sources = [source for source in self.data if source.task in (None, task.id)]
        if (gym := self.gym) is None:
            return sources
        parts = list(self.load_world().observation_parts(task.id))
        return [_completed(source, gym, parts) for source in sources]

    def n_scripted(self, task: Task) -> int:
        """How many scripted demonstrations of a seen task are collected."""
        sources = self.sources(task)
        beside = not sources or any(source.beside_scripted for source in sources)
        return self.collect.episodes_per_task if beside else 0

    @property
    def grounding(self) -> Grounding:
        """What the features of this study's environment are.

        Raises:
            StudyError: the study's own grounding cannot be loaded.
        """
        return self.load_world().grounding

    def load_world(self) -> World:
        """The world of the study's tasks, made once.

        Raises:
            StudyError: it cannot be found or made, or the study's own grounding cannot be loaded.
        """
        return self._world

    @cached_property
    def _world(self) -> World:
        if (gym := self.gym) is not None:
            return GymWorld(self.name, self.tasks.own, gym)
        return find_world(self.world.use, **({"own": self.own_tasks} if self.tasks.own else {}))

    def world_recipe(self, task: Task | None = None) -> dict[str, Any]:
        """What artifacts depend on of the environment that this study describes, for their recipes; empty where a registered world is named."""
        if (gym := self.gym) is None:
            return {}
        described = gym.model_dump(mode="json", exclude={"about", "nouns"}, exclude_defaults=True)
        own = [
            each.model_dump(mode="json", exclude={"sentence"})
            for each in self.tasks.own
            if task is None or each.id == task.id
        ]
        return {"world": {**described, "tasks": own}}

    @property
    def recordings(self) -> str:
        """What the files of recorded answers, scenes and lint results are called."""
        return self.plan.name or (self.name if self.gym else self.load_world().name)


STUDIES_DIR = Path("data/studies")


def study_path(name: str, root: Path) -> Path:
    """The file of a study given by name (`demo`; those in folders of `data/studies` too) or path.

    Raises:
        StudyError: there is no such file.
    """
    path = Path(name) if name.endswith(".toml") else root / STUDIES_DIR / f"{name}.toml"
    if path.is_file():
        return path
    inside = {each.stem: each for each in sorted((root / STUDIES_DIR).glob("*/*.toml"))}
    if name in inside:
        return inside[name]
    known = sorted({*(each.stem for each in (root / STUDIES_DIR).glob("*.toml")), *inside})
    raise StudyError(
        f"no study {name!r} (looked for {str(path)!r}); expected one of {known} or the path of a TOML file; name one of them, or write one of an environment of your "
        "own with: lago init --env ID"
    )


def load_study(path: Path) -> Study:
    """Read and check a study file; Python that lies beside it can be imported from then on.

    Raises:
        StudyError: not TOML, a misspelt key, an impossible value, or an unknown task or algorithm.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"study {str(path)!r} cannot be read: {error}; expected TOML; correct that line") from error
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        raise StudyError(f"study {str(path)!r}: " + "; ".join(_explain(e) for e in error.errors()[:3])) from error
    if (beside := str(path.parent.resolve())) not in sys.path:
        sys.path.append(beside)
    _check_names(study, path)
    _check_tasks(study, path)
    _check_sentences(study, path)
    _check_data(study, path)
    _check_train(study, path)
    return study


def _check_names(study: Study, path: Path) -> None:
    if study.name != path.stem:
        raise StudyError(
            f"study {str(path)!r}: found name = {study.name!r}; expected {path.stem!r}, as the file is called, since artifacts "
            "are kept by name; rename one of them"
        )
    if study.environment is not None and "world" in study.model_fields_set:
        raise StudyError(
            f"study {str(path)!r}: found [world] use = {study.world.use!r} and [environment]; expected one of them, since both say what the "
            "tasks are of; remove one"
        )
    if study.gym is None and (homeless := [task.id for task in study.tasks.own if task.env_id is None]):
        raise StudyError(
            f"study {str(path)!r}: found own task {homeless[0]!r} without env_id; expected a Gymnasium id, as the world has none of its own; add it"
        )


def _check_tasks(study: Study, path: Path) -> None:
    groups = {"seen": study.seen, "unseen": study.unseen, "planned": study.planned}
    names = {task.id for task in (*study.seen, *study.unseen)}
    for (one, first), (two, second) in itertools.combinations(groups.items(), 2):
        overlap = {task.id for task in first} & {task.id for task in second}
        if overlap:
            raise StudyError(
                f"study {str(path)!r}: found {sorted(overlap)} in both tasks.{one} and tasks.{two}; expected each task once; "
                "remove it from one of them"
            )
    for task in study.find(study.train.tasks):
        if task.id not in names:
            raise StudyError(
                f"study {str(path)!r}: found {task.id!r} in train.tasks; expected a task of tasks.seen or tasks.unseen; "
                "add it there too"
            )


def _check_sentences(study: Study, path: Path) -> None:
    """Two tasks with one sentence could not be told apart: not by the planner, and not by who asks for one of them."""
    known: dict[str, str] = {}
    for task in study.all_tasks:
        sentence = " ".join(task.sentence.casefold().split())
        if sentence in known:
            raise StudyError(
                f"study {str(path)!r}: found tasks {known[sentence]!r} and {task.id!r} with the same sentence {_short(task.sentence)}; "
                "expected one of its own for each, since tasks are told apart by their sentences; change one of them"
            )
        known[sentence] = task.id


def _check_data(study: Study, path: Path) -> None:
    seen = {task.id for task in study.seen}
    for source in study.data:
        if source.task is not None and source.task not in seen:
            raise StudyError(
                f"study {str(path)!r}: found data {source.name!r} of task {source.task!r}; expected a task of tasks.seen; add "
                "it there, or correct task"
            )
    for task in study.seen:
        if not study.sources(task) and not study.collect.episodes_per_task:
            raise StudyError(
                f"study {str(path)!r}: found collect.episodes_per_task = 0 and no [[data]] of task {task.id!r}; expected one of "
                "them, since a seen task needs episodes; add one"
            )
    for task in study.unplanned:
        if task.id not in seen:
            raise StudyError(
                f"study {str(path)!r}: found {task.id!r} in segment.change_points; expected a task of tasks.seen, since only "
                "those have data; correct it"
            )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}... ({len(text)} characters)"


def _check_train(study: Study, path: Path) -> None:
    config = study.train
    for what, values in (("algorithms", config.algorithms), ("seeds", config.seeds), ("tasks", config.tasks)):
        if len(set(values)) != len(values):
            raise StudyError(
                f"study {str(path)!r}: found train.{what} = {values}; expected each once; remove what is repeated"
            )
    for name in config.algorithms:
        if name not in TRAINABLE:
            raise StudyError(
                f"study {str(path)!r}: found {name!r} in train.algorithms; expected one of {list(TRAINABLE)}; correct it"
            )


def _completed(source: SourceConfig, gym: GymConfig, parts: list[str]) -> SourceConfig:
    """A data source that says no rule of success, no rewards or no parts of observations, has those of the world."""
    changes: dict[str, Any] = {}
    if gym.success is not None and "success" not in source.model_fields_set:
        changes["success"] = gym.success
    if gym.reward == "own" and "rewards" not in source.model_fields_set:
        changes["rewards"] = "recorded"
    if parts and not source.observations:
        changes["observations"] = parts
    return source.model_copy(update=changes) if changes else source


def _is_section(item: Any) -> bool:
    return isinstance(item, type) and issubclass(item, BaseModel)


def _explain(error: Any) -> str:
    loc = [part for number, part in enumerate(error["loc"]) if not (number == 1 and part in KINDS_OF_WORLDS)]
    where = ".".join(str(part) for part in loc)
    if error["type"] == "extra_forbidden":
        model: type[BaseModel] = Study
        for number, part in enumerate(error["loc"][:-1]):
            if number == 1 and part in KINDS_OF_WORLDS:
                model = KINDS_OF_WORLDS[str(part)]
            elif str(part) in model.model_fields:  # else a place in a list, or the name of a user's own
                annotation: Any = model.model_fields[str(part)].annotation
                inside = (item for item in (annotation, *get_args(annotation)) if _is_section(item))
                model = next(inside, model)
        near = difflib.get_close_matches(str(error["loc"][-1]), model.model_fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "remove it"
        if model is WorldConfig:
            hint += "; an environment is described with use = 'gym'"
        return f"found unknown key {where!r}; expected one of {sorted(model.model_fields)}; {hint}"
    problem = f"found {where} = {_short(error['input'])}" if error["type"] != "missing" else f"found no {where!r}"
    said = error["msg"].removeprefix("Value error, ")
    said = said if error["type"] == "value_error" else said.lower()
    return f"{problem}; expected: {said}; correct that value"
