"""Successful training episodes, as demonstrations: what a library grows from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode
from lago_skills.rl.algorithm import RunningEpisode
from lago_skills.rl.checkpoint import Checkpoint

ARRAYS = ("observations", "actions", "rewards")


class Harvest:
    """Episodes that succeeded, in the order in which they ended."""

    def __init__(self) -> None:
        self.episodes: list[Episode] = []

    def add(self, task_id: str, episode: RunningEpisode, *, terminated: bool, truncated: bool) -> None:
        """Add an episode that succeeded, and say what ended it."""
        actions: NDArray[Any] = np.asarray(episode.actions)
        discrete = np.issubdtype(actions.dtype, np.integer)
        self.episodes.append(
            Episode(
                task_id=task_id,
                seed=episode.seed,
                observations=np.asarray(episode.observations, np.float32),
                actions=actions.astype(np.int64) if discrete else actions.astype(np.float32),
                rewards=np.asarray(episode.rewards, np.float32),
                success=True,
                terminated=terminated,
                truncated=truncated,
            )
        )

    def put(self, checkpoint: Checkpoint) -> None:
        """Save all of it in a checkpoint."""
        for number, episode in enumerate(self.episodes):
            for name in ARRAYS:
                checkpoint.put(f"harvest/{number}/{name}", getattr(episode, name))
        checkpoint.values["harvest"] = [
            (episode.task_id, episode.seed, episode.terminated, episode.truncated) for episode in self.episodes
        ]

    def get(self, checkpoint: Checkpoint) -> None:
        """What `put` saved."""
        self.episodes = []
        for number, (task, seed, *ends) in enumerate(checkpoint.values["harvest"]):
            terminated, truncated = ends or (True, False)  # checkpoints of before: success ended an episode
            arrays = (checkpoint.array(f"harvest/{number}/{name}") for name in ARRAYS)
            self.episodes.append(Episode(task, seed, *arrays, success=True, terminated=terminated, truncated=truncated))
