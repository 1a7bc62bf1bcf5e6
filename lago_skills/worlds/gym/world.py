"""The world of a Gymnasium environment that a study file describes."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import gymnasium

from lago_skills.core import ActionSpace, Task
from lago_skills.errors import RenderingUnavailable, StudyError
from lago_skills.worlds.config import OwnTask
from lago_skills.worlds.grounding import Grounding, check_actions
from lago_skills.worlds.gym.config import GymConfig
from lago_skills.worlds.gym.env import Adapted, EndsSparse, adapted_inside
from lago_skills.worlds.gym.features import NamedFeatures, named_entries
from lago_skills.worlds.gym.look import look
from lago_skills.worlds.gym.make import load_grounding, load_policy, make_environment, registered_spec
from lago_skills.worlds.gym.read_spaces import read_actions, read_observations
from lago_skills.worlds.gym.spaces import ActionCodec, ObservationCodec, flat_observation
from lago_skills.worlds.interface import Entry, Interface
from lago_skills.worlds.success import FORMS, EpisodeSoFar, SuccessRule, success_rule
from lago_skills.worlds.world import Demonstrator, Env, Provenance, World

Codecs = tuple[ObservationCodec, ActionCodec]


class GymWorld(World):
    """Tasks, environment, features and success as a study file declares them.

    Spaces are read from the environment, once, and compared with what the file says of them; where the environment is not installed, those that the
    file or a bundle declares are taken.

    Args:
        name: the study's.
        tasks: as the study has them, or as JSON.
        config: settings of `[world]`, or as JSON.
        spaces: of a bundle, the codecs that it was made with.
    """

    def __init__(
        self,
        name: str,
        tasks: Sequence[OwnTask | Mapping[str, Any]],
        config: GymConfig | Mapping[str, Any],
        spaces: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.config = config if isinstance(config, GymConfig) else GymConfig.model_validate(config)
        self._own = {
            t.id: t for t in (each if isinstance(each, OwnTask) else OwnTask.model_validate(each) for each in tasks)
        }
        self.tasks: Mapping[str, Task] = {
            name: task.task(self.config.id, self.config.horizon_steps) for name, task in self._own.items()
        }
        self._declared = spaces
        self.ends_at_success = self.config.reward == "sparse"
        self.instances = self.config.instances

    @cached_property
    def rule(self) -> SuccessRule | None:
        """When a task is solved; None where nobody has said."""
        return None if self.config.success is None else success_rule(self.config.success)

    @cached_property
    def grounding(self) -> Grounding:  # pyright: ignore[reportIncompatibleVariableOverride]  (computed at first use)
        """What the study file names of the observation, or its class; where it says all, no environment is made: `make` compares them.

        Raises:
            StudyError: the environment or the class cannot be used, or what the file says of them contradicts them.
        """
        if self._class is not None:
            return self._class
        observations, actions = (None if self._declared else self._declared_codecs()) or self.codecs
        config = self.config
        return NamedFeatures(
            config.features,
            config.anchors,
            config.about,
            observations,
            actions.space,
            section=config.section,
            anchor_unit=config.anchor_unit,
            anchor_range=config.anchor_range,
            nouns=config.nouns.nouns(),
        )

    @cached_property
    def _class(self) -> Grounding | None:
        return None if self.config.grounding is None else load_grounding(self.config.grounding)

    @cached_property
    def codecs(self) -> Codecs:
        """How observations and actions of the environment become those inside.

        Raises:
            StudyError: the environment cannot be made and the file does not say what its spaces are, or they cannot be used.
        """
        if self._declared is not None:
            return ObservationCodec.of_spec(self._declared["observation"]), ActionCodec.of_spec(
                self._declared["action"]
            )
        declared = self._declared_codecs()
        if declared is not None and self.instances == 1:
            return declared
        first = next(iter(self.tasks.values()), None)
        if first is None:
            raise StudyError(f"study {self.name!r}: found no task of its environment; expected some; add [[tasks.own]]")
        try:
            env = self._made(first, rendered=False)
        except StudyError:
            if declared is not None:
                return declared
            raise
        try:
            return self._codecs_of(env, first)
        finally:
            Adapted(env, flat_observation(1), ActionCodec(ActionSpace(1))).close()

    def _declared_codecs(self) -> Codecs | None:
        config = self.config
        if self._class is not None:
            return flat_observation(self._class.observation_size), ActionCodec(self._class.action_space)
        n_actions = config.n_actions or config.action_size
        if not (config.observation_size and n_actions) or config.observation:
            return None
        space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(n_actions)
        if config.action_size:
            space = gymnasium.spaces.Box(-1.0, 1.0, (n_actions,))
        return flat_observation(config.observation_size), read_actions(space, config.action_range)

    def _codecs_of(self, env: gymnasium.Env[Any, Any], task: Task) -> Codecs:
        config, what = self.config, f"task {task.id!r}"
        try:
            actions = read_actions(env.action_space, config.action_range, flatten=config.flatten_actions)
            if self._flatten is not None and self._class is not None:
                return flat_observation(self._class.observation_size), actions
            parts = self._own[task.id].observation or config.observation
            observations = read_observations(env.observation_space, parts, f"{config.section}.observation")
        except StudyError as error:
            raise StudyError(f"{what}, environment {task.env_id!r}: {error}") from error
        said = config.observation_size or (self._class.observation_size if self._class is not None else 0)
        if said and said != observations.size:
            raise StudyError(
                f"{what}: found observations of {observations.size} numbers, {env.observation_space}; expected {said}, as "
                f"{'the grounding' if self._class is not None else f'{config.section}.observation_size'} says; correct it, or leave it out"
            )
        declared = self._class.action_space if self._class is not None else _declared_actions(config)
        if declared is not None and declared != actions.space:
            size = (
                f"n_actions = {actions.space.size}" if actions.space.discrete else f"action_size = {actions.space.size}"
            )
            where = "the grounding" if self._class is not None else f"[{config.section}]"
            remedy = (
                f"say action_space = {actions.space!r} there"
                if self._class is not None
                else f"say {size}, or leave it out"
            )
            raise StudyError(
                f"{what}: found environment {task.env_id!r} with action space {env.action_space}; expected {declared}, as {where} says; {remedy}"
            )
        return observations, actions

    @property
    def _flatten(self) -> Callable[[Any], Any] | None:
        return getattr(self._class, "flatten", None)

    def find(self, names: list[str]) -> tuple[Task, ...]:
        """Tasks by name.

        Raises:
            StudyError: an unknown name.
        """
        if unknown := [name for name in names if name not in self.tasks]:
            raise StudyError(
                f"study {self.name!r}: found task {unknown[0]!r}, expected one of its own environment's tasks {sorted(self.tasks)}; "
                "add it as [[tasks.own]]"
            )
        return super().find(names)

    def make(self, task: str, *, reward: str | None = None, rendered: bool = False) -> Env:
        """The environment of a task, behind codecs, cut at the task's horizon; with `reward`, "own" or "sparse", instead of the study's.

        Raises:
            StudyError: no such task or reward, it cannot be made, or its spaces are not those that the grounding is for.
            RenderingUnavailable: it shall be rendered, and draws no pictures.
        """
        (known,) = self.find([task])
        wanted = reward or self.config.reward
        if wanted not in ("own", "sparse"):
            raise StudyError(f"found reward {wanted!r}; expected one of own, sparse; correct it")
        grounding, observations = self.grounding, self.codecs[0]
        env = self._made(known, rendered=rendered)
        try:
            here, these_actions = self._codecs_of(env, known)
            if (here.size, [p.name for p in here.parts]) != (observations.size, [p.name for p in observations.parts]):
                raise StudyError(
                    f"task {task!r}: found observations of {_parts(here)}; expected {_parts(observations)}, as the study's other tasks have them; say which "
                    "entries are meant with observation = [...] of [[tasks.own]]"
                )
            check_actions(f"task {task!r}", these_actions.space, grounding)
        except BaseException:
            env.close()
            raise
        adapted = Adapted(env, here, these_actions, known.horizon_steps, self._flatten)
        return EndsSparse(adapted, self.success) if wanted == "sparse" else adapted

    def _made(self, task: Task, *, rendered: bool) -> gymnasium.Env[Any, Any]:
        """The environment as its package makes it."""
        given, options = dict(self._own[task.id].kwargs), self._own[task.id].reset_options
        if not task.env_id:
            raise StudyError(
                f"task {task.id!r}: found no environment; expected a Gymnasium id; add {self.config.section}.id, or env_id to [[tasks.own]]"
            )
        try:
            env = make_environment(self.config, task.env_id, given, options)
            if not rendered:
                return env
            modes = env.metadata.get("render_modes") or ()
            env.close()
            if "rgb_array" in modes:
                return make_environment(self.config, task.env_id, {**given, "render_mode": "rgb_array"}, options)
        except Exception as error:  # each environment package fails in its own way
            raise StudyError(
                f"task {task.id!r}: found env_id = {task.env_id!r}, which cannot be made ({type(error).__name__}: {error}); "
                "expected a Gymnasium id, or MODULE:CLASS; correct it, install the package, or name the module that registers it with import = [...]"
            ) from error
        raise RenderingUnavailable(
            f"task {task.id!r}: found environment {task.env_id!r} with render modes {list(modes)}; expected 'rgb_array' among them, to draw it; pictures are left out"
        )

    def success(self, so_far: EpisodeSoFar) -> bool:
        """Whether the declared rule holds.

        Raises:
            StudyError: nobody declared one.
        """
        if self.rule is None:
            self.check_success()
            raise AssertionError("unreachable: there is no rule")
        return self.rule.solved(so_far)

    def check_success(self) -> None:
        """Refuse to judge without a rule, saying what the environment shows.

        Raises:
            StudyError: nobody declared one.
        """
        if self.rule is not None:
            return
        task = next(iter(self.tasks.values()))
        env = self._made(task, rendered=False)
        try:
            shown = str(look(env))
        finally:
            env.close()
        raise StudyError(
            f"study {self.name!r}: found an environment without a rule of success; expected one, since nobody else knows when a task is solved. Of {task.env_id!r}, {shown}. "
            f"Add success = ... to [{self.config.section}]: {FORMS}"
        )

    @property
    def success_text(self) -> str:
        """The declared rule."""
        return "nobody has declared one" if self.config.success is None else self.config.success

    def action_codec(self) -> ActionCodec:
        """How recorded actions of the environment become those inside.

        Raises:
            StudyError: the environment cannot be made and the file does not say what its spaces are.
        """
        return self.codecs[1]

    def observation_parts(self, task: str) -> tuple[str, ...]:
        """The entries that a task's observation is made of, in order."""
        return tuple(self._own[task].observation or self.config.observation)

    def interface(self) -> Interface:
        """The entries of the observation, those that are features by their names; and the ranges of the environment's own actions."""
        observations, actions = self.codecs
        entries = named_entries(observations, self.config.features)
        if actions.space.discrete:
            names = tuple(Entry(f"action {number}") for number in range(actions.space.size))
            return Interface(entries, names, self.config.control_hz)
        low, high = actions.bounds()
        sizes = actions.keys or ((("action", 1),) * actions.space.size)
        said: list[Entry] = []
        at = 0
        for name, size in sizes:
            ends = f"from {low[at : at + size].tolist()} to {high[at : at + size].tolist()} in the environment"
            said.append(Entry(name, size, "", -1.0, 1.0, ends))
            at += size
        return Interface(entries, tuple(said), self.config.control_hz)

    def demonstrator(self, task: str) -> Demonstrator | None:
        """The policy that the study names, for environments whose observation is flat already.

        Raises:
            StudyError: it cannot be imported.
        """
        return self._demonstrator(task, None)

    def demonstrator_in(self, task: str, env: Env) -> Demonstrator | None:
        """The policy that the study names, of what the environment returns: a dictionary, where that gives one.

        Raises:
            StudyError: it cannot be imported.
        """
        return self._demonstrator(task, adapted_inside(env))

    def _demonstrator(self, task: str, env: Adapted | None) -> Demonstrator | None:
        path = self._own[task].demonstrator or self.config.demonstrator
        if path is None:
            return None
        policy, actions = load_policy(path), self.codecs[1]
        return lambda flat: actions.encoded(policy(flat if env is None else env.raw))

    def provenance(self, task: str) -> Provenance:
        """What Gymnasium knows of the environment."""
        (known,) = self.find([task])
        path = self._own[task].demonstrator or self.config.demonstrator
        return Provenance(
            f"policy {path}" if path else "the study's own demonstrator", (), registered_spec(known.env_id)
        )

    def spec(self) -> dict[str, Any]:
        """All of it, with the spaces: enough to read observations where the environment is not installed."""
        observations, actions = self.codecs
        return {
            "use": "gym",
            "name": self.name,
            "tasks": [task.model_dump(mode="json", exclude_defaults=True) for task in self._own.values()],
            "config": self.config.model_dump(mode="json", exclude_defaults=True, by_alias=True),
            "spaces": {"observation": observations.spec(), "action": actions.spec()},
        }


def _declared_actions(config: GymConfig) -> ActionSpace | None:
    size = config.n_actions or config.action_size
    return ActionSpace(size, discrete=config.n_actions > 0) if size else None


def _parts(observations: ObservationCodec) -> str:
    return ", ".join(f"{part.name} ({part.size})" for part in observations.parts)
