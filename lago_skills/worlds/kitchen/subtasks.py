"""What there is to do in the kitchen: seven things to move, and where each has to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lago_skills.worlds.kitchen.kinematics import OBJECTS

CLOSE_ENOUGH = 0.3
"""Largest distance of an object's joints from their goal, as `gymnasium-robotics` has it (`BONUS_THRESH`)."""


@dataclass(frozen=True)
class Subtask:
    """One thing to move; done once its joints have come close to their goal."""

    id: str
    theirs: str
    """What `gymnasium-robotics` calls it."""
    sentence: str
    handle: str
    joints: tuple[int, ...]
    """Of the objects' (21,)."""
    goal: tuple[float, ...]

    def distance(self, observations: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) how far the object's joints are from their goal, for (N, 59) observations."""
        objects = observations[:, OBJECTS]
        return np.linalg.norm(objects[:, list(self.joints)] - np.array(self.goal), axis=1)


_KETTLE_GOAL = (-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06)
SUBTASKS = {
    each.id: each
    for each in (
        Subtask("microwave", "microwave", "open the microwave door", "microwave", (13,), (-0.75,)),
        Subtask("kettle", "kettle", "move the kettle to the back burner", "kettle", tuple(range(14, 21)), _KETTLE_GOAL),
        Subtask("bottom-burner", "bottom burner", "turn the lower burner knob", "bottom_knob", (2, 3), (-0.88, -0.01)),
        Subtask("top-burner", "top burner", "turn the upper burner knob", "top_knob", (6, 7), (-0.92, -0.01)),
        Subtask("light-switch", "light switch", "flip the light switch", "light_switch", (8, 9), (-0.69, -0.05)),
        Subtask("slide-cabinet", "slide cabinet", "slide the cabinet door open", "slide_cabinet", (10,), (0.37,)),
        Subtask(
            "hinge-cabinet", "hinge cabinet", "open the hinged cabinet door", "hinge_cabinet", (11, 12), (0.0, 1.45)
        ),
    )
}
STEPS_PER_SUBTASK, STEPS_OF_ONE = 70, 140
"""Control steps of an episode for each subtask of a sequence, 280 for four as published evaluations have it; a single one starts anywhere and has more."""
SEPARATOR = "."
"""Between the subtasks of a task's id: `microwave.kettle`."""


def subtasks_of(task: str) -> tuple[Subtask, ...]:
    """The subtasks of a task, by its id, in order."""
    return tuple(SUBTASKS[name] for name in task.split(SEPARATOR))
