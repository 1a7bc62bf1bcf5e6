"""Replay of transitions with the prior of each state stored beside it, so that updates never call the guide."""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lago_skills.rl.algorithm import RunningEpisode
from lago_skills.rl.checkpoint import Checkpoint


@dataclass(frozen=True)
class Columns:
    """Where what is in a row: state, action, advice, reward, discount, next state, next advice."""

    state_size: int
    action_size: int
    advice_size: int
    """Width of `lago_skills.rl.guidance.advice.Layout`; 0 without a guide."""

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return 2 * (self.state_size + self.advice_size) + self.action_size + 2


class Batch:
    """Rows of a replay buffer (B, width), as tensors that share their memory."""

    def __init__(self, rows: NDArray[np.float32] | Tensor, columns: Columns) -> None:
        tensor: Tensor = torch.as_tensor(rows)
        self.rows, self.columns = tensor, columns
        s, a, w = columns.state_size, columns.action_size, columns.advice_size
        start = s + a + w
        self.state = tensor[:, :s]  # (B, S')
        self.action = tensor[:, s : s + a]  # (B, A)
        self.advice = tensor[:, s + a : start]  # (B, W)
        self.reward = tensor[:, start]  # (B,), discounted sum over up to n steps
        self.discount = tensor[:, start + 1]  # (B,), discount of the bootstrap: 0 after a termination
        self.next_state = tensor[:, start + 2 : start + 2 + s]  # (B, S')
        self.next_advice = tensor[:, start + 2 + s :]  # (B, W)

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return self if self.rows.device == device else Batch(self.rows.to(device), self.columns)


@dataclass(frozen=True)
class Returns:
    """How rewards become what critics learn."""

    n_step: int
    """Rewards that are summed before bootstrapping."""
    gamma: float
    scale: float = 1.0
    """What rewards are multiplied by."""


class Replay:
    """A ring of n-step transitions; sums of rewards never cross the end of an episode."""

    def __init__(self, capacity: int, columns: Columns, returns: Returns) -> None:
        self.capacity, self.columns, self.returns, self.n_step = capacity, columns, returns, returns.n_step
        self.size = self._next = 0
        self._powers = returns.gamma ** np.arange(returns.n_step + 1)
        self._rows = np.zeros((capacity, columns.width), np.float32)

    def add_latest(self, episode: RunningEpisode, ended: bool, terminated: bool) -> None:
        """Add the transitions that the episode's latest step completes.

        A transition is complete when n steps have followed it, or the episode has ended. A truncated episode bootstraps from its last
        state, a terminated one does not.
        """
        stop = len(episode.actions)
        first = stop - self.n_step
        for start in range(max(first, 0), stop if ended else first + 1):
            self._add(episode, start, stop, terminated and ended)

    def add_cut_off(self, episode: RunningEpisode) -> None:
        """Add the transitions that wait for steps which will not come, since the environment has crashed; they bootstrap from the last state."""
        stop = len(episode.actions)
        for start in range(max(stop - self.n_step + 1, 0), stop):
            self._add(episode, start, stop, terminated=False)

    def add_episode(self, episode: RunningEpisode, terminated: bool) -> None:
        """Add all transitions of an episode that has ended."""
        length = len(episode.actions)
        for start in range(length):
            stop = min(start + self.n_step, length)
            self._add(episode, start, stop, terminated and stop == length)

    def _add(self, episode: RunningEpisode, start: int, stop: int, terminated: bool) -> None:
        n = stop - start
        reward = sum(r * p for r, p in zip(episode.rewards[start:stop], self._powers.tolist(), strict=False))
        self._rows[self._next] = np.concatenate(
            [
                episode.states[start],
                episode.actions[start],
                episode.advice[start],
                (self.returns.scale * reward, 0.0 if terminated else self._powers[n]),
                episode.states[stop],
                episode.advice[stop],
            ]
        )
        self._next = (self._next + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, rng: np.random.Generator, n_rows: int) -> NDArray[np.float32]:
        """(n_rows, width) drawn uniformly with replacement."""
        return self._rows.take(rng.integers(0, self.size, n_rows), axis=0)

    def put(self, checkpoint: Checkpoint, name: str) -> None:
        """Save the rows in a checkpoint."""
        checkpoint.put(name, self._rows[: self.size])
        checkpoint.values[name] = [self.size, self._next]

    def get(self, checkpoint: Checkpoint, name: str) -> None:
        """What `put` saved."""
        self.size, self._next = checkpoint.values[name]
        self._rows[: self.size] = checkpoint.array(name)


class QuickestReplay(Replay):
    """Transitions of so many episodes at most, those with the fewest steps before success; of equally quick ones the later.

    What a learner imitates then gets quicker with its own best episodes, and slow ones of whoever led at first are forgotten.
    """

    def __init__(self, n_episodes: int, columns: Columns, returns: Returns) -> None:
        super().__init__(0, columns, returns)
        self.n_episodes = n_episodes
        self._lengths: list[int] = []
        self._unsolved: list[int] = []

    def add_episode(self, episode: RunningEpisode, terminated: bool) -> None:
        """Add all transitions of an episode that has ended; the slowest one goes where there are too many."""
        length = len(episode.actions)
        own = Replay(length, self.columns, self.returns)
        own.add_episode(episode, terminated)
        blocks = [*np.split(self._rows, np.cumsum(self._lengths)[:-1]), own._rows] if self._lengths else [own._rows]
        self._lengths.append(length)
        self._unsolved.append(episode.steps_unsolved)
        if len(self._lengths) > self.n_episodes:
            slowest = int(np.argmax(self._unsolved))
            del self._lengths[slowest], self._unsolved[slowest], blocks[slowest]
        self._rows = np.concatenate(blocks)
        self.size = self.capacity = len(self._rows)

    def put(self, checkpoint: Checkpoint, name: str) -> None:
        """Save the rows in a checkpoint."""
        super().put(checkpoint, name)
        checkpoint.values[f"{name}/lengths"] = [self._lengths, self._unsolved]

    def get(self, checkpoint: Checkpoint, name: str) -> None:
        """What `put` saved."""
        self._lengths, self._unsolved = (list(each) for each in checkpoint.values[f"{name}/lengths"])
        self._rows = checkpoint.array(name)
        self.size = self.capacity = len(self._rows)
