"""The altered tasks: which task of Meta-World each was made from, and in one sentence what is wanted there."""

from __future__ import annotations

from collections.abc import Mapping

from lago_skills.core import Task
from lago_skills.worlds.metaworld.tasks import GROUPS as METAWORLD_GROUPS
from lago_skills.worlds.metaworld.tasks import METAWORLD_TASKS

SEALED = METAWORLD_GROUPS["twenty"]
"""Tasks of Meta-World's exam. Nothing here is made from one of them, and this world does not play them."""
_ALTERED: dict[str, tuple[str, str]] = {
    "drawer-open-away": (
        "drawer-open",
        "open a drawer whose front and handle are on the side that faces away from the robot",
    ),
    "door-open-right-hinge": (
        "door-open",
        "open a door whose hinge is on the right and whose handle is on the left",
    ),
    "button-press-sideways": (
        "button-press",
        "press a button on the right side of a box towards the left; a plate shields it from the front",
    ),
    "handle-pull-out": ("handle-pull", "pull a handle straight out of its base, towards the robot"),
    "plate-slide-back-far": (
        "plate-slide-back-side",
        "get a plate out of a cabinet that is open on the side that faces away from the robot",
    ),
    "door-unlock-clockwise": ("door-unlock", "unlock the door by rotating the lock clockwise"),
    "faucet-close-far-lever": (
        "faucet-close",
        "close a faucet whose lever points away from the robot, by rotating it clockwise",
    ),
    "dial-turn-reversed": ("dial-turn", "rotate a dial counter-clockwise; it does not turn clockwise"),
    "window-open-leftwards": ("window-open", "open a window whose right pane slides to the left"),
    "coffee-button-behind": ("coffee-button", "push a button on the far side of the coffee machine, towards the robot"),
}
ORIGINALS: Mapping[str, str] = {name: original for name, (original, _) in _ALTERED.items()}
"""The task of Meta-World that each altered one was made from."""
ALTERED_TASKS: Mapping[str, Task] = {
    name: Task(name, sentence, METAWORLD_TASKS[original].env_id) for name, (original, sentence) in _ALTERED.items()
}
UNALTERED_TASKS: Mapping[str, Task] = {name: task for name, task in METAWORLD_TASKS.items() if name not in SEALED}
"""Meta-World's own, as they are."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    **{name: tasks for name, tasks in METAWORLD_GROUPS.items() if name != "twenty"},
    "altered": tuple(ALTERED_TASKS),
    "originals": tuple(ORIGINALS.values()),
}
