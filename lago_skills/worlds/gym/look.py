"""What an environment shows of itself: spaces, what its infos and rewards hold, how random episodes end."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from lago_skills.worlds.gym.env import as_number
from lago_skills.worlds.gym.old_gym import step_values

MAX_STEPS = 1_000
"""An episode of the look ends here."""


@dataclass(frozen=True)
class Look:
    """What random episodes showed."""

    infos: dict[str, str]
    """Entries of the steps' infos, with what they hold; of nested ones, names joined by a dot."""
    returns: tuple[float, ...]
    """Of each episode."""
    rewards: tuple[float, float]
    """Smallest and largest of a step."""
    lengths: tuple[int, ...]
    """Control steps of each episode."""
    terminated: int
    """How many episodes the environment ended."""
    truncated: int
    """How many a limit of steps did; the rest were cut after `MAX_STEPS`."""

    def __str__(self) -> str:
        """In a sentence, for messages."""
        infos = ", ".join(f"info.{name} ({what})" for name, what in self.infos.items()) or "no entries in its infos"
        n = len(self.lengths)
        return (
            f"{n} random episodes showed {infos}; rewards from {self.rewards[0]:.4g} to {self.rewards[1]:.4g} a step, returns from {min(self.returns):.4g} to "
            f"{max(self.returns):.4g}; {self.terminated} ended by termination, {self.truncated} by truncation, after {min(self.lengths)} to {max(self.lengths)} steps"
        )


def look(env: gymnasium.Env[Any, Any], n_episodes: int = 5, seed: int = 0) -> Look:
    """Play random episodes of an environment as it is."""
    infos: dict[str, set[str]] = {}
    returns, lengths, low, high = list[float](), list[int](), np.inf, -np.inf
    n_terminated = n_truncated = 0
    env.action_space.seed(seed)
    for episode in range(n_episodes):
        env.reset(seed=seed + episode)
        total, steps, terminated, truncated = 0.0, 0, False, False
        while not (terminated or truncated) and steps < MAX_STEPS:
            _, reward, terminated, truncated, info = step_values(env.step(env.action_space.sample()))
            number, steps = as_number(reward), steps + 1
            total, low, high = total + number, min(low, number), max(high, number)
            for name, value in _entries(info):
                infos.setdefault(name, set()).add(_said(value))
        returns.append(total)
        lengths.append(steps)
        n_terminated += terminated
        n_truncated += truncated and not terminated
    shown = {name: _joined(values) for name, values in infos.items()}
    return Look(shown, tuple(returns), (float(low), float(high)), tuple(lengths), n_terminated, n_truncated)


def _entries(info: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in info.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _said(value: Any) -> str:
    array = np.asarray(value)
    if array.dtype == np.bool_ and array.size == 1:
        return str(bool(array.reshape(-1)[0])).lower()
    if array.dtype.kind in "iuf" and array.size == 1:
        return "numbers"
    return (
        "text"
        if array.dtype.kind in "US"
        else f"{type(value).__name__} of shape {array.shape}"
        if array.ndim
        else type(value).__name__
    )


def _joined(values: set[str]) -> str:
    return " or ".join(sorted(values)[:3])
