"""Replay of transitions with the prior of each state stored beside it, so that updates never call the guide."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import Leader


@dataclass(frozen=True)
class Batch:
    """Rows of a replay buffer. `advice` is laid out by `lago_skills.rl.advice.Layout`; of width 0 without a guide."""

    state: NDArray[np.float32]  # (B, S')
    advice: NDArray[np.float32]  # (B, W)
    action: NDArray[np.float32]  # (B, A)
    reward: NDArray[np.float32]  # (B,), discounted sum over up to n steps
    discount: NDArray[np.float32]  # (B,), discount of the bootstrap: 0 after a termination
    next_state: NDArray[np.float32]  # (B, S')
    next_advice: NDArray[np.float32]  # (B, W)


@dataclass
class Running:
    """An episode on its way: one more state than actions."""

    seed: int
    leader: Leader
    shift: NDArray[np.float64] | None
    """Of the targets of its plan (n_plan_steps, 3), metres."""
    observations: list[NDArray[Any]]  # (S,) each
    states: list[NDArray[np.float32]]  # (S',) each
    advice: list[NDArray[np.float32]]  # (W,) each
    actions: list[NDArray[np.float32]] = field(default_factory=list[NDArray[np.float32]])
    rewards: list[float] = field(default_factory=list[float])

    def step(
        self,
        action: NDArray[np.float32],
        reward: float,
        observation: NDArray[Any],
        state: NDArray[np.float32],
        advice: NDArray[np.float32],
    ) -> None:
        """Add one step, and what it led to."""
        self.actions.append(action)
        self.rewards.append(reward)
        self.observations.append(observation)
        self.states.append(state)
        self.advice.append(advice)

    def put(self, checkpoint: Checkpoint, name: str) -> None:
        """Keep it."""
        for part in ("observations", "states", "advice", "actions"):
            rows = getattr(self, part)
            if rows:
                checkpoint.put(f"{name}/{part}", np.stack(rows))
        if self.shift is not None:
            checkpoint.put(f"{name}/shift", self.shift)
        checkpoint.values[name] = [self.seed, self.leader, self.rewards]

    @staticmethod
    def get(checkpoint: Checkpoint, name: str) -> Running:
        """What was kept."""
        seed, leader, rewards = checkpoint.values[name]
        shift = checkpoint.array(f"{name}/shift") if f"{name}/shift" in checkpoint.arrays else None
        observations, states, advice = (
            list(checkpoint.array(f"{name}/{part}")) for part in ("observations", "states", "advice")
        )
        actions = list(checkpoint.array(f"{name}/actions")) if rewards else []
        return Running(seed, leader, shift, observations, states, advice, actions, rewards)


class Replay:
    """A ring of n-step transitions; sums of rewards never cross the end of an episode."""

    def __init__(
        self, capacity: int, state_size: int, action_size: int, advice_size: int, n_step: int, gamma: float
    ) -> None:
        self.capacity, self.n_step, self.gamma = capacity, n_step, gamma
        self.size = self._next = 0
        self._powers = gamma ** np.arange(n_step + 1)
        self._rows = Batch(
            state=np.zeros((capacity, state_size), np.float32),
            advice=np.zeros((capacity, advice_size), np.float32),
            action=np.zeros((capacity, action_size), np.float32),
            reward=np.zeros(capacity, np.float32),
            discount=np.zeros(capacity, np.float32),
            next_state=np.zeros((capacity, state_size), np.float32),
            next_advice=np.zeros((capacity, advice_size), np.float32),
        )

    def add_latest(self, episode: Running, ended: bool, terminated: bool) -> None:
        """Add the transitions that the episode's latest step completes.

        A transition is complete when n steps have followed it, or the episode has ended. A truncated episode bootstraps from its last
        state, a terminated one does not.
        """
        stop = len(episode.actions)
        first = stop - self.n_step
        for start in range(max(first, 0), stop if ended else first + 1):
            self._add(episode, start, stop, terminated and ended)

    def add_episode(self, episode: Running, terminated: bool) -> None:
        """Add all transitions of an episode that has ended."""
        length = len(episode.actions)
        for start in range(length):
            stop = min(start + self.n_step, length)
            self._add(episode, start, stop, terminated and stop == length)

    def _add(self, episode: Running, start: int, stop: int, terminated: bool) -> None:
        rows, row, n = self._rows, self._next, stop - start
        rows.state[row], rows.advice[row], rows.action[row] = (
            episode.states[start],
            episode.advice[start],
            episode.actions[start],
        )
        rows.reward[row] = float(np.asarray(episode.rewards[start:stop]) @ self._powers[:n])
        rows.discount[row] = 0.0 if terminated else self._powers[n]
        rows.next_state[row], rows.next_advice[row] = episode.states[stop], episode.advice[stop]
        self._next = (row + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, rng: np.random.Generator, n_rows: int) -> Batch:
        """Rows drawn uniformly with replacement."""
        rows = rng.integers(0, self.size, n_rows)
        return Batch(**{f.name: getattr(self._rows, f.name)[rows] for f in fields(Batch)})

    def put(self, checkpoint: Checkpoint, name: str) -> None:
        """Keep what has been filled."""
        for f in fields(Batch):
            checkpoint.put(f"{name}/{f.name}", getattr(self._rows, f.name)[: self.size])
        checkpoint.values[name] = [self.size, self._next]

    def get(self, checkpoint: Checkpoint, name: str) -> None:
        """Take back what was kept."""
        self.size, self._next = checkpoint.values[name]
        for f in fields(Batch):
            array: NDArray[Any] = getattr(self._rows, f.name)
            array[: self.size] = checkpoint.array(f"{name}/{f.name}")


def join(first: Batch, second: Batch) -> Batch:
    """Two batches, one after the other."""
    return Batch(**{f.name: np.concatenate([getattr(first, f.name), getattr(second, f.name)]) for f in fields(Batch)})
