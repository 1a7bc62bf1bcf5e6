"""A world: one family of environments, as everything outside its folder sees it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Step, Task
from lago_skills.errors import StudyError
from lago_skills.worlds.grounding import Grounding
from lago_skills.worlds.imports import imported
from lago_skills.worlds.interface import Interface, unnamed
from lago_skills.worlds.success import EpisodeSoFar as EpisodeSoFar

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.envs.registration import EnvSpec

    from lago_skills.worlds.gym.spaces import ActionCodec

Env: TypeAlias = "gymnasium.Env[Any, Any]"
"""A name alone: who loads a guide needs no Gymnasium."""
Demonstrator = Callable[[NDArray[np.float64]], Any]
"""(S,) observation -> (A,) action of one control step, or the number of a discrete one; it remembers nothing."""
ENTRY_POINTS = "lago_skills.worlds"


@dataclass(frozen=True)
class Provenance:
    """Where episodes of a task come from, for those who get them."""

    demonstrator: str
    """Whose actions they are, in words."""
    requirements: tuple[str, ...] = ()
    """Packages that make the environment, as pip writes them."""
    env_spec: EnvSpec | None = None
    """From which Gymnasium makes it; None where nobody knows."""


@runtime_checkable
class World(Protocol):
    """One environment family. A class that inherits from it needs `name`, `tasks`, `grounding`, `make` and `success`; the rest has defaults."""

    name: str
    tasks: Mapping[str, Task]
    """All tasks, by id."""
    grounding: Grounding
    """How its observations are read, and which actions it takes."""
    groups: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """Names for sets of tasks."""
    plays_on: bool = False
    """Whether an environment that ended solved may be stepped further, to see whether that holds."""
    settle: NDArray[Any] | None = None
    """Action of an idle control step after which a start state shows things where they are; None where it does at once."""
    ends_at_success: bool = True
    """Whether an episode is over once it is solved; where it is not, returns are of whole episodes."""
    instances: int | None = None
    """How many environments may be open at once; None where as many as one likes."""

    @abstractmethod
    def make(self, task: str, *, reward: str = "sparse", rendered: bool = False) -> Env:
        """An environment of a task, with the world's usual reward unless another is named; `rendered` where `render()` will be called.

        Raises:
            StudyError: no such task or reward, or the environment cannot be made.
        """
        ...

    @abstractmethod
    def success(self, so_far: EpisodeSoFar) -> bool:
        """Whether the task is solved at the last step of an episode so far.

        Raises:
            StudyError: the world has no rule for that.
        """
        ...

    def find(self, names: list[str]) -> tuple[Task, ...]:
        """Tasks for names of tasks and groups, in order, without repeats.

        Raises:
            StudyError: an unknown name.
        """
        return find_tasks(self, names)

    def check_success(self) -> None:
        """Refuse to judge episodes where nobody has said when a task is solved, before any is played.

        Raises:
            StudyError: nobody has; says what the environment shows.
        """
        return

    @property
    def success_text(self) -> str:
        """The rule of success, for people."""
        return f"as world {self.name} judges"

    def demonstrator(self, task: str) -> Demonstrator | None:
        """Who can show the task; None where nobody can."""
        return None

    def demonstrator_in(self, task: str, env: Env) -> Demonstrator | None:
        """The same for one environment of the task, where who shows it looks at more than the observation; by default it does not."""
        return self.demonstrator(task)

    def rules(self, task: str) -> Mapping[str, Demonstrator]:
        """What a sceptic would write for the task instead of anything learned, in a few lines each, by name; by default nothing."""
        return {}

    def follower(self, step: Step) -> Demonstrator | None:
        """The same for one step of a plan in words; None where nobody has written it."""
        return None

    def action_codec(self) -> ActionCodec | None:
        """How recorded actions of the environment become those inside; None where they are in [-1, 1] or numbered from 0 already.

        Raises:
            StudyError: the environment cannot be asked.
        """
        return None

    def observation_parts(self, task: str) -> tuple[str, ...]:
        """The entries that a task's observation is made of, where the environment gives a dictionary."""
        return ()

    def interface(self) -> Interface:
        """Names, units and ranges of observations and actions, for whoever drives a controller by a bundle; by default their sizes alone."""
        return unnamed(self.grounding.observation_size, self.grounding.action_space)

    def parts(self, task: str) -> tuple[str, ...]:
        """Of a task that asks for several things: the tasks that ask for one each, in order; by default itself alone."""
        return (task,)

    def next_part(self, task: str, observations: NDArray[np.float64]) -> list[str]:
        """The first part of a task that is not done, by (B, S) observations; the last one where all are."""
        return [task] * len(observations)

    def spec(self) -> dict[str, Any]:
        """From which the world can be made again: by default its class, made without arguments."""
        return {"use": f"{type(self).__module__}:{type(self).__qualname__}"}

    def provenance(self, task: str) -> Provenance:
        """What an exported dataset says of a task's environment."""
        return Provenance(f"demonstrator of world {self.name!r}")


def interface_of(world: World) -> Interface:
    """`World.interface`, or its default for a class that does not inherit it."""
    own = getattr(world, "interface", None)
    return unnamed(world.grounding.observation_size, world.grounding.action_space) if own is None else own()


def rules_of(world: World, task: str) -> Mapping[str, Demonstrator]:
    """`World.rules`, or its default for a class that does not inherit it."""
    own = getattr(world, "rules", None)
    return {} if own is None else own(task)


def find_tasks(world: World, names: list[str]) -> tuple[Task, ...]:
    """Tasks of a world for names of tasks and groups, in order, without repeats.

    Raises:
        StudyError: an unknown name.
    """
    wanted = [each for name in names for each in world.groups.get(name, (name,))]
    unknown = [name for name in wanted if name not in world.tasks]
    if unknown:
        raise StudyError(
            f"world {world.name!r}: found task {unknown[0]!r}; expected one of {sorted(world.tasks)}"
            + (f", or a group, {sorted(world.groups)}" if world.groups else "")
            + "; correct it"
        )
    return tuple(world.tasks[name] for name in dict.fromkeys(wanted))


PARTS = (
    "name",
    "tasks",
    "groups",
    "plays_on",
    "settle",
    "ends_at_success",
    "instances",
    "grounding",
    "find",
    "make",
    "success",
    "check_success",
    "success_text",
    "action_codec",
    "observation_parts",
    "demonstrator",
    "demonstrator_in",
    "spec",
    "provenance",
)


def find_world(use: str, **settings: Any) -> World:
    """The world of a registered name, or of a class at `module:Class`, made with these settings.

    Raises:
        StudyError: no such world, it cannot be imported or made, or lacks a part of a world.
    """
    try:
        world = _class(use)(**settings)
    except StudyError:
        raise
    except Exception as error:  # whatever a user's module does at import
        raise StudyError(
            f"found world.use = {use!r}, which cannot be made ({type(error).__name__}: {error}); expected MODULE:CLASS, importable "
            f"from here and made from {sorted(settings) or 'no arguments'}; correct it or install the package"
        ) from error
    if missing := [part for part in PARTS if not hasattr(world, part)]:
        raise StudyError(
            f"found world.use = {use!r} without {', '.join(missing)}; expected the parts of lago_skills.worlds.world.World; add them"
        )
    return cast("World", world)


@cache
def _class(use: str) -> Any:
    registered = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    path = use if ":" in use else registered.get(use, "")
    if not path:
        raise StudyError(
            f"found world.use = {use!r}; expected one of {', '.join(sorted(registered))}, or the import path of a class, such as "
            "'my_lab.arm:ArmWorld'; correct it, or install the package that brings it"
        )
    return imported(path)
