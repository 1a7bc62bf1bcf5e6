"""Steps of several environments side by side, and generalised advantage estimation over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class Rollout:
    """T steps of N environments; filled one step at a time."""

    observations: NDArray[Any]  # (T, N, S)
    states: NDArray[np.float32]  # (T, N, S') what networks see of them
    advice: NDArray[np.float32]  # (T, N, W)
    advised: NDArray[np.bool_]  # (T, N) whether the advice is there
    actions: NDArray[Any]  # (T, N, A) as drawn, or (T, N) of discrete ones
    rewards: NDArray[np.float32]  # (T, N)
    terminated: NDArray[np.bool_]  # (T, N)
    truncated: NDArray[np.bool_]  # (T, N)
    by_prior: NDArray[np.bool_]  # (T, N) whether the prior acted
    cut_off: dict[tuple[int, int], tuple[NDArray[Any], NDArray[np.float32]]] = field(
        default_factory=dict[tuple[int, int], tuple[NDArray[Any], NDArray[np.float32]]]
    )
    """By step and environment: the observation, and its state, that a time limit cut off."""

    @staticmethod
    def empty(
        n_steps: int, observations: NDArray[Any], states: NDArray[Any], width: int, action: tuple[int, ...], kind: Any
    ) -> Rollout:
        """Room for steps of environments whose observations (N, S) and states (N, S') are like these."""
        shape = (n_steps, len(states))
        return Rollout(
            np.zeros((*shape, observations.shape[1]), observations.dtype),
            np.zeros((*shape, states.shape[1]), np.float32),
            np.zeros((*shape, width), np.float32),
            np.zeros(shape, np.bool_),
            np.zeros((*shape, *action), kind),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.bool_),
            np.zeros(shape, np.bool_),
            np.zeros(shape, np.bool_),
        )

    @property
    def ended(self) -> NDArray[np.bool_]:
        """(T, N) whether the step was an episode's last."""
        return self.terminated | self.truncated


def next_values(
    values: NDArray[np.float32], last: NDArray[np.float32], cut_off: dict[tuple[int, int], float]
) -> NDArray[np.float32]:
    """(T, N) values of the states that steps led to, given those of the states they began in, of the N last states, and of those cut off."""
    found = np.concatenate([values[1:], last[None]])
    for place, value in cut_off.items():
        found[place] = value
    return found


def advantages(
    rewards: NDArray[np.float32],
    values: NDArray[np.float32],
    following: NDArray[np.float32],
    terminated: NDArray[np.bool_],
    ended: NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> NDArray[np.float32]:
    """(T, N) generalised advantages; a termination has no following value, and no sum goes beyond the end of an episode.

    Source: arXiv 1506.02438, equations 11 to 16.
    """
    errors = rewards + gamma * following * ~terminated - values
    found = np.zeros_like(errors)
    later = np.zeros(errors.shape[1], errors.dtype)
    for step in range(len(errors) - 1, -1, -1):
        later = errors[step] + gamma * gae_lambda * later * ~ended[step]
        found[step] = later
    return found.astype(np.float32)
