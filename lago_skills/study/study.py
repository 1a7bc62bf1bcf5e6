"""A study: everything that is run, and the world and tasks that it is run in."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator

from lago_skills.core import Task
from lago_skills.data.config import SegmentConfig, SourceConfig, WeightingConfig
from lago_skills.decoder.config import DecoderConfig
from lago_skills.query.config import QueryConfig
from lago_skills.study.config import (
    MAX_WORKERS,
    Approval,
    CollectConfig,
    GuideConfig,
    PlanConfig,
    Section,
    Seed,
    TasksConfig,
    TrainConfig,
    ZeroShotConfig,
)
from lago_skills.worlds.config import WorldConfig
from lago_skills.worlds.grounding import Grounding
from lago_skills.worlds.gym.config import EnvironmentConfig, GymConfig
from lago_skills.worlds.gym.world import GymWorld
from lago_skills.worlds.world import World, find_world

KINDS_OF_WORLDS: dict[str, type[BaseModel]] = {"described": GymConfig, "named": WorldConfig}


def _kind_of_world(value: Any) -> str:
    use = value.get("use") if isinstance(value, dict) else getattr(value, "use", None)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return "described" if use == "gym" else "named"


class Study(Section):
    """Everything a study fixes."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """As the file is called, without `.toml`; artifacts lie in folders of this name."""
    seed: Seed = 0
    """Of demonstrations, of whatever is trained on them, and of start states."""
    workers: int = Field(default=2, ge=1, le=MAX_WORKERS)
    """Processes that work at the same time."""
    approve: list[Approval] = Field(default_factory=list[Approval])
    """What waits for a person's approval before it is used, `playbooks` or `skills` or both: `lago approve`."""
    approve_within_s: float = Field(default=86_400, gt=0)
    """How long a run on a schedule waits for that; then it fails, and nothing new is used."""
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

    @field_validator("approve", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

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
        settings = self._settings
        return find_world(self.world.use, **settings, **({"own": self.own_tasks} if self.tasks.own else {}))

    @property
    def _settings(self) -> dict[str, bool | int | float | str]:
        """Of a world that is named."""
        return self.world.settings if isinstance(self.world, WorldConfig) else {}

    def world_recipe(self, task: Task | None = None) -> dict[str, Any]:
        """What artifacts depend on of the environment that this study describes, for their recipes; empty where a world is named and has no settings."""
        if (gym := self.gym) is None:
            return {"world": {"use": self.world.use, "settings": self._settings}} if self._settings else {}
        described = gym.model_dump(mode="json", exclude={"about", "nouns", "control_hz"}, exclude_defaults=True)
        own = [
            each.model_dump(mode="json", exclude={"sentence"} if each.reset_options else {"sentence", "reset_options"})
            for each in self.tasks.own
            if task is None or each.id == task.id
        ]
        return {"world": {**described, "tasks": own}}

    @property
    def recordings(self) -> str:
        """What the files of recorded answers, scenes and lint results are called."""
        return self.plan.name or (self.name if self.gym else self.load_world().name)


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
