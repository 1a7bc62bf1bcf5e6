"""The kitchen's tasks: each subtask alone, pairs and sequences of four."""

from __future__ import annotations

import itertools

import numpy as np

from lago_skills.core import Task
from lago_skills.worlds.kitchen.subtasks import SEPARATOR, STEPS_OF_ONE, STEPS_PER_SUBTASK, SUBTASKS

ENV_ID = "FrankaKitchen-v1"
PUBLISHED = (
    ("microwave", "kettle", "bottom-burner", "light-switch"),  # D4RL's complete sequence; SPiRL's and SkiMo's
    ("microwave", "kettle", "light-switch", "slide-cabinet"),  # D4RL's partial one
    ("microwave", "light-switch", "slide-cabinet", "hinge-cabinet"),  # SkiMo's that play data rarely shows
)
"""The sequences of published evaluations."""
N_PAIRS, N_FOURS, N_SEALED = 10, 6, 8
SEED = 21
"""Of the samples of pairs and fours."""


def _sampled() -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    rng = np.random.default_rng(SEED)
    pairs = list(itertools.permutations(SUBTASKS, 2))
    fours = [each for each in itertools.permutations(SUBTASKS, 4) if each not in PUBLISHED]
    n_fours = N_FOURS - len(PUBLISHED) + N_SEALED
    few: list[int] = rng.choice(len(pairs), N_PAIRS, replace=False).tolist()
    many: list[int] = rng.choice(len(fours), n_fours, replace=False).tolist()
    return [pairs[i] for i in few], [fours[i] for i in many]


_PAIRS, _FOURS = _sampled()


def _task(names: tuple[str, ...]) -> Task:
    sentence = ", then ".join(SUBTASKS[name].sentence for name in names)
    steps = STEPS_OF_ONE if len(names) == 1 else STEPS_PER_SUBTASK * len(names)
    return Task(SEPARATOR.join(names), sentence, ENV_ID, steps, parts=len(names))


_KNOWN = len(PUBLISHED), N_FOURS - len(PUBLISHED)
_BY_GROUP = {
    "single": tuple((name,) for name in SUBTASKS),
    "pairs": tuple(_PAIRS),
    "fours": (*PUBLISHED, *_FOURS[: _KNOWN[1]]),
    "sealed": tuple(_FOURS[_KNOWN[1] :]),
}
KITCHEN_TASKS: dict[str, Task] = {task.id: task for sequences in _BY_GROUP.values() for task in map(_task, sequences)}
GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(SEPARATOR.join(names) for names in sequences) for group, sequences in _BY_GROUP.items()
}
"""Single subtasks are demonstrated; pairs and fours never are; the sealed ones are left alone for an exam."""
