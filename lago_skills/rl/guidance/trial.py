"""What a prior is worth, task by task: its return beside the policy's, before and while the policy learns.

Returns, not successes, so that it works with any reward. The untrained policy's return is the zero of the scale: a prior that does no better is
worth nothing, however large its return.
"""

from __future__ import annotations

from typing import Any

import numpy as np

DISCOUNT = 0.9
"""Weight of an episode of the policy one episode later: about the last ten episodes of a task count."""
MARGIN = 0.5
"""Standard errors by which a prior's mean return must be ahead of the untrained policy's: a few episodes decide, and a mistake fades."""


class Trial:
    """Returns of the episodes of each task by who led them. Without `turns` the prior leads all and is taken as it is; 0 is the zero of the scale then."""

    def __init__(self, n_tasks: int, *, turns: bool = True) -> None:
        self.turns = turns
        self.of_prior: list[list[float]] = [[] for _ in range(n_tasks)]
        self.of_untrained: list[list[float]] = [[] for _ in range(n_tasks)]
        self.recent = np.zeros((n_tasks, 2))
        """Discounted sum of the policy's returns, and of ones."""

    def note(self, task: int, by_prior: bool, episode_return: float, untrained: bool) -> None:
        """Count an episode that has ended; `untrained` while the trial lasts."""
        if by_prior:
            self.of_prior[task].append(episode_return)
        elif untrained:
            self.of_untrained[task].append(episode_return)
        else:
            self.recent[task] = DISCOUNT * self.recent[task] + (episode_return, 1.0)

    def over(self, n_episodes: int) -> bool:
        """Whether each task has had so many episodes of both, or of the prior if it leads all."""
        return min(map(len, self.of_prior + (self.of_untrained if self.turns else []))) >= n_episodes

    def accepted(self, task: int) -> bool:
        """Whether the prior did better than the untrained policy."""
        prior, first = self.of_prior[task], self.of_untrained[task]
        if not self.turns:
            return bool(prior)
        if not prior or not first:
            return False
        error = np.sqrt(sum(float(np.var(each, ddof=1)) / len(each) for each in (prior, first) if len(each) > 1))
        return float(np.mean(prior)) > float(np.mean(first)) + MARGIN * error

    def lead(self, task: int) -> float:
        """How far the prior is ahead of the policy, as a share of its lead over the untrained policy: 1 at first, 0 when it is overtaken."""
        if not self.accepted(task):
            return 0.0
        total, count = self.recent[task]
        if count == 0.0:
            return 1.0
        prior, first = float(np.mean(self.of_prior[task])), float(np.mean(self.of_untrained[task] or [0.0]))
        if prior <= first:
            return 0.0
        return float(np.clip((prior - total / count) / (prior - first), 0.0, 1.0))

    def values(self) -> list[Any]:
        """All of it as plain values."""
        return [self.of_prior, self.of_untrained, self.recent.tolist()]

    def set_values(self, values: list[Any]) -> None:
        """Go on from there."""
        self.of_prior, self.of_untrained, recent = values
        self.recent = np.asarray(recent, np.float64)
