"""A world of one point on a line: it goes right, waits, and comes back."""

from __future__ import annotations

import numpy as np

from lago_skills.core import ActionSpace, Episode, Feature
from lago_skills.data.motion_clusters import Motions, find_motions
from lago_skills.worlds.own import NamedEntries

# A world of one point on a line: it goes right, waits, and comes back ------------------------------------------------

LINE = {
    "x": (0, Feature("x", "m", "where the point is", -2.0, 2.0)),
    "still": (1, Feature("still", "1", "never", 0, 1)),
}
PHASES = ((1.0, 12), (0.0, 10), (-1.0, 12))


def line() -> NamedEntries:
    return NamedEntries(LINE, "A point on a line.", 2, ActionSpace(1))


def there_and_back(seed: int, task: str = "task-0", *, discrete: bool = False) -> Episode:
    rng = np.random.default_rng(seed)
    speeds = np.concatenate([np.full(n + int(rng.integers(-2, 3)), speed) for speed, n in PHASES])
    moves = np.clip(speeds + rng.normal(0, 0.05, len(speeds)), -1, 1)
    x = np.concatenate([[0.0], np.cumsum(moves) * 0.1])
    observations = np.stack([x, np.ones(len(x))], axis=1).astype(np.float32)
    actions = (np.round(speeds).astype(np.int64) + 1) if discrete else moves[:, None].astype(np.float32)
    return Episode(task, seed, observations, actions, np.eye(len(moves), dtype=np.float32)[-1], True)


def found_in(episodes: list[Episode]) -> Motions:
    return find_motions("task-0", episodes, line(), 3.0, 5, 8)
