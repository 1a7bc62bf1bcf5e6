"""The tasks of the world: each goal that a level has, or a sample of them, by an id that says it."""

from __future__ import annotations

import numpy as np

from lago_skills.core import Task
from lago_skills.worlds.ball_push.balls import COLOURS, ENV_ID, HORIZON_STEPS, SIDES
from lago_skills.worlds.ball_push.drawing import MOVES, PAIRS, draw_goal
from lago_skills.worlds.ball_push.goals import GATHER, HOWS, LINE_UP, Goal, Part
from lago_skills.worlds.ball_push.sentences import sentences

SEPARATOR = "."
"""Between the parts of a task's id: `red-left-blue.green-behind-cyan`."""
N_SAMPLED, SEED = 20, 11
"""Tasks of two and of three parts, and what they are drawn with."""
SHOWN_BALLS = ("red", "blue", "green")
"""Pairs of these are for demonstrations; others test whether what was learned holds for any ball."""


def task_id(level: str, goal: Goal) -> str:
    """The id of a goal at a level."""
    if level in ("gather", "line-up"):
        return level
    name = SEPARATOR.join(_part_id(part) for part in goal.parts)
    return f"rephrased{SEPARATOR}{name}" if level == "rephrased" else name


def _part_id(part: Part) -> str:
    words = [COLOURS[part.moved], HOWS[part.how], *([COLOURS[part.reference]] if part.reference >= 0 else [])]
    return "-".join(words)


def _goals() -> dict[str, list[Goal]]:
    rng = np.random.default_rng(SEED)
    pairs = [Goal("pair", (part,)) for part in PAIRS]
    several: dict[str, list[Goal]] = {}
    for level in ("two", "three"):
        drawn = several[level] = list[Goal]()
        while len(drawn) < N_SAMPLED:
            goal = draw_goal(level, rng, feasible_only=True)
            if all(set(goal.parts) != set(known.parts) for known in drawn):
                drawn.append(goal)
    easy = [Goal("easy", (part,)) for part in MOVES]
    return {"pair": pairs, "rephrased": pairs, "easy": easy, **several, "gather": [GATHER], "line-up": [LINE_UP]}


def _sentence(level: str, number: int, goal: Goal) -> str:
    known = sentences(level, goal)
    text = known[number // len(SIDES) % len(known)] if level == "rephrased" else known[0]
    return text if level == "rephrased" else f"{text[0].lower()}{text[1:]}".rstrip(".")


_BY_LEVEL = _goals()
GOALS: dict[str, tuple[str, Goal]] = {
    task_id(level, goal): (level, goal) for level, goals in _BY_LEVEL.items() for goal in goals
}
"""Level and goal of each task."""
BALL_PUSH_TASKS: dict[str, Task] = {
    task_id(level, goal): Task(
        task_id(level, goal),
        _sentence(level, number, goal),
        ENV_ID,
        1 if level == "easy" else HORIZON_STEPS,
        parts=len(goal.parts) if level in ("two", "three") else 1,
    )
    for level, goals in _BY_LEVEL.items()
    for number, goal in enumerate(goals)
}
_NAMES = {level: tuple(task_id(level, goal) for goal in goals) for level, goals in _BY_LEVEL.items()}
_SHOWN = tuple(name for name in _NAMES["pair"] if {name.split("-")[0], name.split("-")[-1]} <= set(SHOWN_BALLS))
_FOUR = ("red-behind-blue", "blue-left-green", "green-front-red", "red-right-green")
GROUPS: dict[str, tuple[str, ...]] = {
    **_NAMES,
    "four": _FOUR,
    "76": tuple(name for name in _NAMES["pair"] if name not in _FOUR),
    "shown": _SHOWN,
    "unshown": tuple(name for name in _NAMES["pair"] if name not in _SHOWN),
}
"""Levels; `four` is a pair for each side, `76` are the other pairs, `shown` the 24 pairs of three balls, `unshown` the 56 with a purple or cyan one."""
