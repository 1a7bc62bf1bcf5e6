"""Steps of several environments side by side, and generalised advantage estimation over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.rl.checkpoint import Checkpoint


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
    crashed: NDArray[
        np.bool_
    ]  # (T, N) whether the environment crashed: nobody knows where the step led, so nothing is learned from it
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
            np.zeros(shape, np.bool_),
        )

    def put(self, checkpoint: Checkpoint, name: str) -> None:
        """Keep it."""
        for part in ROWS:
            checkpoint.put(f"{name}/{part}", getattr(self, part))
        checkpoint.values[name] = [list(key) for key in self.cut_off]
        for number, (observation, state) in enumerate(self.cut_off.values()):
            checkpoint.put(f"{name}/cut/{number}/observation", observation)
            checkpoint.put(f"{name}/cut/{number}/state", state)

    @staticmethod
    def get(checkpoint: Checkpoint, name: str) -> Rollout:
        """What was kept."""
        cut = {
            (t, n): (
                checkpoint.array(f"{name}/cut/{number}/observation"),
                checkpoint.array(f"{name}/cut/{number}/state"),
            )
            for number, (t, n) in enumerate(checkpoint.values[name])
        }
        return Rollout(**{part: checkpoint.array(f"{name}/{part}") for part in ROWS}, cut_off=cut)

    @property
    def ended(self) -> NDArray[np.bool_]:
        """(T, N) whether the step was an episode's last that is known: of a crashed one, the step before the crash."""
        before_crash = np.zeros_like(self.crashed)
        before_crash[:-1] = self.crashed[1:]
        return self.terminated | self.truncated | before_crash


ROWS = tuple(each.name for each in fields(Rollout) if each.name != "cut_off")


def join(rollouts: Sequence[Rollout]) -> Rollout:
    """Rollouts of the same environments, one after the other."""
    starts = np.cumsum([0, *(len(each.rewards) for each in rollouts[:-1])]).tolist()
    cut = {
        (start + t, n): value
        for start, each in zip(starts, rollouts, strict=True)
        for (t, n), value in each.cut_off.items()
    }
    return Rollout(**{part: np.concatenate([getattr(each, part) for each in rollouts]) for part in ROWS}, cut_off=cut)


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
    estimates = np.zeros_like(errors)
    later = np.zeros(errors.shape[1], errors.dtype)
    for step in range(len(errors) - 1, -1, -1):
        later = errors[step] + gamma * gae_lambda * later * ~ended[step]
        estimates[step] = later
    return estimates.astype(np.float32)


def advantages_and_targets(
    rollout: Rollout,
    values: NDArray[np.float32],
    later: NDArray[np.float32],
    gamma: float,
    gae_lambda: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(T, N) advantages, and what the critic is drawn to.

    `values` (T, N) are of the states that steps began in; `later` of the N last states and then of those that a time limit cut off.
    """
    n_envs = values.shape[1]
    following = np.concatenate([values[1:], later[None, :n_envs]])
    for key, value in zip(rollout.cut_off, later[n_envs:], strict=True):
        following[key] = value
    estimates = advantages(rollout.rewards, values, following, rollout.terminated, rollout.ended, gamma, gae_lambda)
    return estimates, estimates + values
