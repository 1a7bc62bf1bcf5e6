"""The fifty Meta-World tasks and the groups that the protocol names.

The sentences follow the task descriptions in the appendix of the Meta-World paper (arXiv 1910.10897).
"""

from __future__ import annotations

import difflib

from lago_skills.core import Task
from lago_skills.errors import StudyError

_SENTENCES: dict[str, str] = {
    "assembly": "pick up a nut and place it onto a peg",
    "basketball": "dunk the basketball into the basket",
    "bin-picking": "grasp the puck from one bin and place it into another bin",
    "box-close": "grasp the cover and close the box with it",
    "button-press": "press a button",
    "button-press-topdown": "press a button from the top",
    "button-press-topdown-wall": "bypass a wall and press a button from the top",
    "button-press-wall": "bypass a wall and press a button",
    "coffee-button": "push a button on the coffee machine",
    "coffee-pull": "pull a mug from a coffee machine",
    "coffee-push": "push a mug under a coffee machine",
    "dial-turn": "rotate a dial 180 degrees",
    "disassemble": "pick a nut out of a peg",
    "door-close": "close a door with a revolving joint",
    "door-lock": "lock the door by rotating the lock clockwise",
    "door-open": "open a door with a revolving joint",
    "door-unlock": "unlock the door by rotating the lock counter-clockwise",
    "drawer-close": "push and close a drawer",
    "drawer-open": "open a drawer",
    "faucet-close": "rotate the faucet clockwise",
    "faucet-open": "rotate the faucet counter-clockwise",
    "hammer": "hammer a screw on the wall",
    "hand-insert": "insert the gripper into a hole",
    "handle-press": "press a handle down",
    "handle-press-side": "press a handle down sideways",
    "handle-pull": "pull a handle up",
    "handle-pull-side": "pull a handle up sideways",
    "lever-pull": "pull a lever down 90 degrees",
    "peg-insert-side": "insert a peg sideways",
    "peg-unplug-side": "unplug a peg sideways",
    "pick-out-of-hole": "pick up a puck from a hole",
    "pick-place": "pick and place a puck to a goal",
    "pick-place-wall": "pick a puck, bypass a wall and place the puck",
    "plate-slide": "slide a plate into a cabinet",
    "plate-slide-back": "get a plate from the cabinet",
    "plate-slide-back-side": "get a plate from the cabinet sideways",
    "plate-slide-side": "slide a plate into a cabinet sideways",
    "push": "push the puck to a goal",
    "push-back": "pull a puck to a goal",
    "push-wall": "bypass a wall and push a puck to a goal",
    "reach": "reach a goal position",
    "reach-wall": "bypass a wall and reach a goal",
    "shelf-place": "pick and place a puck onto a shelf",
    "soccer": "kick a soccer ball into the goal",
    "stick-pull": "grasp a stick and pull a box with the stick",
    "stick-push": "grasp a stick and push a box using the stick",
    "sweep": "sweep a puck off the table",
    "sweep-into": "sweep a puck into a hole",
    "window-close": "push and close a window",
    "window-open": "push and open a window",
}

METAWORLD_TASKS: dict[str, Task] = {
    name: Task(id=name, sentence=sentence, env_id=f"metaworld/{name}-v3") for name, sentence in _SENTENCES.items()
}

GROUPS: dict[str, tuple[str, ...]] = {
    "ten": (
        "reach",
        "push",
        "pick-place",
        "button-press",
        "door-unlock",
        "door-open",
        "window-open",
        "faucet-open",
        "coffee-push",
        "coffee-button",
    ),
    "eight": (
        "reach-wall",
        "push-wall",
        "pick-place-wall",
        "button-press-wall",
        "door-lock",
        "door-close",
        "window-close",
        "faucet-close",
    ),
}
GROUPS["twelve"] = (
    "basketball",
    "handle-pull",
    "plate-slide-back-side",
    "coffee-pull",
    "dial-turn",
    "drawer-open",
    "hammer",
    "peg-insert-side",
    "push-back",
    "soccer",
    "stick-pull",
    "sweep",
)
GROUPS["twenty"] = tuple(sorted(set(_SENTENCES) - {name for group in GROUPS.values() for name in group}))
"""The exam: planned once, never rolled out, linted, repaired or tuned on."""


def find_task(name: str) -> Task:
    """The Meta-World task of that name.

    Raises:
        StudyError: no such task; names the nearest.
    """
    if name not in METAWORLD_TASKS:
        near = difflib.get_close_matches(name, METAWORLD_TASKS, n=3)
        raise StudyError(
            f"unknown task {name!r}; expected one of the {len(METAWORLD_TASKS)} Meta-World tasks; "
            + (f"did you mean {', '.join(map(repr, near))}?" if near else "see lago_skills/worlds/metaworld/tasks.py")
        )
    return METAWORLD_TASKS[name]


def expand(names: list[str], own: dict[str, Task] | None = None) -> tuple[Task, ...]:
    """Tasks for a list of task names and group names ("ten", "eight", "twelve", "twenty"), in order, without repeats.

    A name in `own` is that task. `twelve` and `twenty` named together come in one alphabetical order, as recorded requests list them.

    Raises:
        StudyError: an unknown name.
    """
    flat = [task for name in names for task in GROUPS.get(name, (name,))]
    if {"twelve", "twenty"} <= set(names):
        rest = {*GROUPS["twelve"], *GROUPS["twenty"]}
        ordered = iter(sorted(rest))
        flat = [next(ordered) if task in rest else task for task in dict.fromkeys(flat)]
    return tuple((own or {}).get(name) or find_task(name) for name in dict.fromkeys(flat))
