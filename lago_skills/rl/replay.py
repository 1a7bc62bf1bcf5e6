"""Replay of transitions with the prior of each state stored beside it, so that updates never call the guide."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Batch:
    """Rows of a replay buffer. `hint` is the prior's mean and std side by side."""

    state: NDArray[np.float32]  # (B, S')
    hint: NDArray[np.float32]  # (B, 2A)
    action: NDArray[np.float32]  # (B, A)
    reward: NDArray[np.float32]  # (B,), discounted sum over up to n steps
    discount: NDArray[np.float32]  # (B,), discount of the bootstrap: 0 after a termination
    next_state: NDArray[np.float32]  # (B, S')
    next_hint: NDArray[np.float32]  # (B, 2A)


class Replay:
    """A ring of n-step transitions. Whole episodes are added, so n-step sums never cross an episode's end."""

    def __init__(self, capacity: int, state_size: int, action_size: int, n_step: int, gamma: float) -> None:
        self.capacity, self.n_step, self.gamma = capacity, n_step, gamma
        self.size = self._next = 0
        self._rows = Batch(
            state=np.zeros((capacity, state_size), np.float32),
            hint=np.zeros((capacity, 2 * action_size), np.float32),
            action=np.zeros((capacity, action_size), np.float32),
            reward=np.zeros(capacity, np.float32),
            discount=np.zeros(capacity, np.float32),
            next_state=np.zeros((capacity, state_size), np.float32),
            next_hint=np.zeros((capacity, 2 * action_size), np.float32),
        )

    def add_episode(
        self,
        states: NDArray[np.float32],  # (T+1, S')
        hints: NDArray[np.float32],  # (T+1, 2A)
        actions: NDArray[np.float32],  # (T, A)
        rewards: NDArray[np.float32],  # (T,)
        terminated: bool,
    ) -> None:
        """Add one episode. A truncated one bootstraps from its last state, a terminated one does not."""
        n_steps = len(actions)
        for t in range(n_steps):
            stop = min(t + self.n_step, n_steps)
            row = self._next
            self._rows.state[row], self._rows.hint[row] = states[t], hints[t]
            self._rows.action[row] = actions[t]
            powers = self.gamma ** np.arange(stop - t)
            self._rows.reward[row] = float(rewards[t:stop] @ powers)
            ended = terminated and stop == n_steps
            self._rows.discount[row] = 0.0 if ended else self.gamma ** (stop - t)
            self._rows.next_state[row], self._rows.next_hint[row] = states[stop], hints[stop]
            self._next = (row + 1) % self.capacity
            self.size = min(self.size + 1, self.capacity)

    def sample(self, rng: np.random.Generator, n_rows: int) -> Batch:
        """Rows drawn uniformly with replacement."""
        rows = rng.integers(0, self.size, n_rows)
        return Batch(**{f.name: getattr(self._rows, f.name)[rows] for f in fields(Batch)})


def join(first: Batch, second: Batch) -> Batch:
    """Two batches, one after the other."""
    return Batch(**{f.name: np.concatenate([getattr(first, f.name), getattr(second, f.name)]) for f in fields(Batch)})
