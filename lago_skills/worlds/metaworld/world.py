"""Meta-World as a world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode, Task
from lago_skills.errors import StudyError
from lago_skills.worlds.grounding import Grounding
from lago_skills.worlds.interface import Entry, Interface
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import GROUPS, METAWORLD_TASKS, expand
from lago_skills.worlds.rollouts import record
from lago_skills.worlds.world import Demonstrator, EpisodeSoFar, Provenance, World

if TYPE_CHECKING:
    from lago_skills.worlds.metaworld.env import MetaWorldEnv

CONTROL_HZ = 80.0
"""Five simulator steps of 2.5 ms are a control step."""
_THINGS = (
    Entry("hand", 3, "m", meaning="4.5 cm above the point between the finger tips: x to the right, y forward, z up"),
    Entry("opening", 1, "0-1", 0.0, 1.0, "of the fingers: 1 is fully open"),
    Entry("object", 3, "m", meaning="place of the thing the task is about"),
    Entry("object_turn", 4, meaning="its quaternion"),
    Entry("object2", 3, "m", meaning="place of the second thing; zeros where there is none"),
    Entry("object2_turn", 4, meaning="its quaternion"),
)
INTERFACE = Interface(
    (
        *_THINGS,
        *(replace(each, name=f"{each.name}_before", meaning="the same a control step earlier") for each in _THINGS),
        Entry("goal", 3, "m", meaning="where the task wants the object, or the gripper"),
    ),
    (
        Entry("move", 3, "cm/step", -1.0, 1.0, "of the hand, along x, y and z"),
        Entry("fingers", 1, "", -1.0, 1.0, "1 closes them, -1 opens them"),
    ),
    CONTROL_HZ,
)


class MetaWorld(World):
    """The fifty tasks, and those that a study defines beside them."""

    name = "metaworld"
    groups: Mapping[str, tuple[str, ...]] = GROUPS
    plays_on: bool = True
    settle: NDArray[Any] | None = np.array([0, 0, 0, -1], np.float32)
    """Observations right after a reset show some things (windows, faucets, doors) where the last episode left them."""

    def __init__(self, own: Mapping[str, Task] | None = None) -> None:
        self._own = dict(own or {})
        self.tasks: Mapping[str, Task] = METAWORLD_TASKS | self._own
        self.grounding: Grounding = MetaWorldGrounding()

    def find(self, names: list[str]) -> tuple[Task, ...]:
        """Tasks for names of tasks and groups.

        Raises:
            StudyError: an unknown name.
        """
        return expand(names, self._own)

    def make(self, task: str, *, reward: str = "sparse", rendered: bool = False) -> MetaWorldEnv:
        """An environment of a task.

        Raises:
            StudyError: no such task or reward.
        """
        from lago_skills.worlds.metaworld.env import MetaWorldEnv, Reward
        from lago_skills.worlds.offscreen import prepare_rendering

        if reward not in get_args(Reward):
            raise StudyError(f"found reward {reward!r}; expected one of {', '.join(get_args(Reward))}; correct it")
        if rendered:
            prepare_rendering()
        (known,) = self.find([task])
        return MetaWorldEnv(known, cast("Reward", reward))

    def success(self, so_far: EpisodeSoFar) -> bool:
        """The package's own flag at the last step."""
        return bool(so_far.infos[-1]["success"])

    def demonstrator(self, task: str) -> Demonstrator:
        """The package's scripted policy."""
        from lago_skills.worlds.metaworld.env import scripted

        (known,) = self.find([task])
        return scripted(known)

    def interface(self) -> Interface:
        """The 39 numbers of the observation and the four of the action."""
        return INTERFACE

    def provenance(self, task: str) -> Provenance:
        """The package and its policies."""
        from lago_skills.worlds.metaworld.env import env_spec

        (known,) = self.find([task])
        package = f"metaworld {version('metaworld')}"
        return Provenance(f"scripted policy of {package}", (package.replace(" ", "=="),), env_spec(known))

    def spec(self) -> dict[str, Any]:
        """Its registered name."""
        return {"use": self.name}


def demonstrate(env: MetaWorldEnv, seed: int, noise_std: float) -> Episode:
    """One episode of the package's scripted policy with Gaussian action noise; failed ones are returned too."""
    from lago_skills.worlds.metaworld.env import scripted

    return record(env, scripted(env.task), env.task.id, seed, noise_std, MetaWorld())
