"""Franka Kitchen as a world."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Task
from lago_skills.errors import StudyError
from lago_skills.worlds.grounding import Grounding
from lago_skills.worlds.interface import Entry, Interface
from lago_skills.worlds.kitchen.grounding import KitchenGrounding
from lago_skills.worlds.kitchen.kinematics import FULL_SPEED, STEP_S
from lago_skills.worlds.kitchen.subtasks import CLOSE_ENOUGH, SEPARATOR, SUBTASKS, subtasks_of
from lago_skills.worlds.kitchen.tasks import GROUPS, KITCHEN_TASKS
from lago_skills.worlds.offscreen import prepare_rendering
from lago_skills.worlds.world import Demonstrator, Env, EpisodeSoFar, Provenance, World, find_tasks

PACKAGE = "gymnasium-robotics"
INTERFACE = Interface(
    (
        Entry("arm", 7, "rad", meaning="its joints, from the base to the wrist"),
        Entry("fingers", 2, "m", meaning="how far each is open"),
        Entry("arm_speed", 7, "rad/s"),
        Entry("fingers_speed", 2, "m/s"),
        Entry(
            "things",
            21,
            meaning="joints of burners, switch, cabinets and microwave; place and quaternion of the kettle",
        ),
        Entry("things_speed", 20, meaning="their velocities"),
    ),
    (
        Entry("arm", 7, f"{FULL_SPEED:g} rad/s", -1.0, 1.0, "velocities of its joints"),
        Entry("fingers", 2, "", -1.0, 1.0, "velocities of the fingers: 1 opens, -1 closes"),
    ),
    1.0 / STEP_S,
)


class KitchenWorld(World):
    """Seven things to move, alone and in sequences; a task is solved when each of its things has been where it shall be."""

    name = "kitchen"
    groups: Mapping[str, tuple[str, ...]] = GROUPS
    tasks: Mapping[str, Task] = KITCHEN_TASKS
    grounding: Grounding = KitchenGrounding()
    ends_at_success = False
    """The environment ends episodes itself: sequences once all is done, single subtasks a little later."""

    def find(self, names: list[str]) -> tuple[Task, ...]:
        """Tasks for names of tasks and groups, in order, without repeats.

        Raises:
            StudyError: an unknown name, or a sequence that asks for something twice.
        """
        for name in names:
            asked = name.split(SEPARATOR)
            twice = next((each for each in asked if asked.count(each) > 1), None)
            if twice is not None and twice in SUBTASKS:
                raise StudyError(
                    f"world {self.name!r}: found task {name!r}, which asks for {twice!r} twice; expected each of its subtasks once, since what is done "
                    "stays done; leave one out"
                )
        return find_tasks(self, names)

    def make(self, task: str, *, reward: str = "sparse", rendered: bool = False) -> Env:
        """An environment of a task; single subtasks start with the arm elsewhere and other things already moved, as they do in a sequence.

        Rewards are 1 for each subtask that a step finishes.

        Raises:
            StudyError: no such task or reward, or the package that the kitchen comes from is not installed.
        """
        (known,) = self.find([task])
        if reward != "sparse":
            raise StudyError(f"found reward {reward!r}; expected sparse, the only one that the kitchen has; correct it")
        try:
            if rendered:
                prepare_rendering()
            from lago_skills.worlds.kitchen.env import Kitchen

            subtasks = subtasks_of(known.id)
            env = Kitchen(subtasks, varied=len(subtasks) == 1, render_mode="rgb_array" if rendered else None)
        except ImportError as error:
            raise StudyError(
                f"world 'kitchen': found no {PACKAGE} here ({error}); expected it; install it with: pip install 'lago-skills[kitchen]'"
            ) from error
        return cast("Env", gymnasium.wrappers.TimeLimit(env, known.horizon_steps))

    def success(self, so_far: EpisodeSoFar) -> bool:
        """Whether all subtasks have been done."""
        return bool(so_far.infos[-1]["success"])

    @property
    def success_text(self) -> str:
        """As published evaluations count."""
        return "every subtask's object has been within 0.3 of its goal"

    def demonstrator_in(self, task: str, env: Env) -> Demonstrator:
        """A hand led along way points, which looks at the simulator."""
        from lago_skills.worlds.kitchen.demonstrator import Demonstrator as Shown
        from lago_skills.worlds.kitchen.env import Kitchen

        return Shown(cast("Kitchen", env.unwrapped))

    def parts(self, task: str) -> tuple[str, ...]:
        """Its subtasks, each a task of its own."""
        return tuple(each.id for each in subtasks_of(task))

    def next_part(self, task: str, observations: NDArray[np.float64]) -> list[str]:
        """The first subtask whose object is not where it shall be; the last one where all are."""
        subtasks = subtasks_of(task)
        left = np.stack([each.distance(np.asarray(observations, np.float64)) >= CLOSE_ENOUGH for each in subtasks])
        left[-1] = True
        return [subtasks[int(number)].id for number in left.argmax(axis=0)]

    def interface(self) -> Interface:
        """Joints and velocities."""
        return INTERFACE

    def provenance(self, task: str) -> Provenance:
        """The package and this demonstrator."""
        try:
            requirement = f"{PACKAGE}=={version(PACKAGE)}"
        except PackageNotFoundError:
            requirement = PACKAGE
        return Provenance("damped least squares along way points (lago_skills.worlds.kitchen)", (requirement,))

    def spec(self) -> dict[str, Any]:
        """Its registered name."""
        return {"use": self.name}
