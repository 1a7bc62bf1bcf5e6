"""Recorded episodes in the environment's own units, and what a layout of files can say of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lago_skills.data.config import SourceConfig


@dataclass(frozen=True)
class Recording:
    """An episode in the environment's own units: actions in their own range, or numbers from `start`."""

    observations: NDArray[np.float32]  # (T+1, S)
    actions: NDArray[Any]  # (T, A) or (T,)
    rewards: NDArray[np.float32]  # (T,)
    terminated: bool
    truncated: bool
    success: NDArray[np.bool_]  # (T,)
    task: str = "go"


@dataclass(frozen=True)
class Actions:
    """What an environment declares."""

    low: list[float]
    high: list[float]
    start: int = 0
    n: int = 0
    """How many actions there are, where they are discrete."""

    @property
    def space(self) -> gymnasium.Space[Any]:
        if self.n:
            return gymnasium.spaces.Discrete(self.n, start=self.start)
        return gymnasium.spaces.Box(np.array(self.low, np.float32), np.array(self.high, np.float32))


@dataclass(frozen=True)
class Layout:
    """A way to write recordings."""

    write: Callable[[Path, list[Recording], Actions], SourceConfig]
    last: bool = True
    """Whether the observation after the last action is written."""
    ends: tuple[str, ...] = ("terminated", "truncated")
    """What it says of an episode's end."""
    cut: bool = True
    """Whether episodes that nothing ended can be told from their neighbours."""
    success: bool = True


def survives(recording: Recording, layout: Layout) -> Recording | None:
    """What a layout can say of a recording; None where that is no step at all."""
    if layout.last:
        return recording
    if len(recording.actions) < 2:
        return None
    rewards = recording.rewards[:-1].astype(np.float64)
    rewards[-1] += recording.rewards[-1]
    success = recording.success[:-1].copy()
    success[-1] |= recording.success[-1]
    return replace(
        recording,
        observations=recording.observations[:-1],
        actions=recording.actions[:-1],
        rewards=rewards.astype(np.float32),
        success=success,
    )
