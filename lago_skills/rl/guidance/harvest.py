"""Successful training episodes, kept as demonstrations: what a library grows from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.sac.replay import Running

ARRAYS = ("observations", "actions", "rewards")


class Harvest:
    """Episodes, and the plan shifts that led to them."""

    def __init__(self) -> None:
        self.episodes: list[Episode] = []
        self.shifts: list[NDArray[np.float64]] = []

    def add(self, task_id: str, running: Running) -> None:
        """Keep an episode that succeeded."""
        actions: NDArray[Any] = np.asarray(running.actions)
        discrete = np.issubdtype(actions.dtype, np.integer)
        self.episodes.append(
            Episode(
                task_id=task_id,
                seed=running.seed,
                observations=np.asarray(running.observations, np.float32),
                actions=actions.astype(np.int64) if discrete else actions.astype(np.float32),
                rewards=np.asarray(running.rewards, np.float32),
                success=True,
            )
        )
        if running.shift is not None:
            self.shifts.append(running.shift)

    def put(self, checkpoint: Checkpoint) -> None:
        """Keep all of it."""
        for number, shift in enumerate(self.shifts):
            checkpoint.put(f"shifts/{number}", shift)
        for number, episode in enumerate(self.episodes):
            for name in ARRAYS:
                checkpoint.put(f"harvest/{number}/{name}", getattr(episode, name))
        checkpoint.values["n_shifts"] = len(self.shifts)
        checkpoint.values["harvest"] = [(episode.task_id, episode.seed) for episode in self.episodes]

    def get(self, checkpoint: Checkpoint) -> None:
        """Take all of it back."""
        self.shifts = [checkpoint.array(f"shifts/{number}") for number in range(checkpoint.values["n_shifts"])]
        self.episodes = [
            Episode(task, seed, *(checkpoint.array(f"harvest/{number}/{name}") for name in ARRAYS), success=True)
            for number, (task, seed) in enumerate(checkpoint.values["harvest"])
        ]
