"""Who leads an episode; a bandit over recent success.

"prior" acts by the prior's mean, "explore" by its samples and with shifted plans, "policy" by the learned policy, and "mix"
by whichever of prior and policy the critic prefers. Greedy episodes are led by the leader with the best recent
success, so training on top of a good library does not end below it.

This is what lets guidance fade by itself: a prior that never succeeds is asked less and less, a policy that overtakes it
leads more and more, and neither needs a schedule. Beta-Bernoulli Thompson sampling (Thompson 1933) with discounted
counts, because the policy changes while it learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lago_skills.rl.config import Leader

DISCOUNT = 0.9
"""Weight of an episode of the same leader one episode later: about the last ten episodes count."""


class Leaders:
    """Discounted success counts of each leader."""

    def __init__(self, leaders: Sequence[Leader]) -> None:
        self.leaders = tuple(leaders)
        self._wins = dict.fromkeys(leaders, 0.0)
        self._losses = dict.fromkeys(leaders, 0.0)
        self.spoken = False
        """Whether there ever was a prior to choose between; a silent one leads nothing, not even an evaluation."""

    def draw(self, rng: np.random.Generator) -> Leader:
        """Who leads the next training episode: the largest of one draw from each leader's posterior."""
        self.spoken = True
        draws = [rng.beta(self._wins[name] + 1.0, self._losses[name] + 1.0) for name in self.leaders]
        return self.leaders[int(np.argmax(draws))]

    def note(self, leader: Leader, score: float) -> None:
        """Count an episode that this leader led, by what it did of its task, 0 to 1; one that may not be drawn is not counted."""
        if leader not in self._wins:
            return
        self._wins[leader] = DISCOUNT * self._wins[leader] + score
        self._losses[leader] = DISCOUNT * self._losses[leader] + (1.0 - score)

    def best(self) -> Leader:
        """Who leads greedy episodes: the highest share of recent successes, counting one failure more, so that whoever was hardly tried does not lead.

        On a tie, as before any success, the highest posterior mean; then the earlier one. The policy, as long as no prior has spoken.
        """
        if not self.spoken:
            return "policy"

        def rank(name: Leader) -> tuple[float, float]:
            wins, n = self._wins[name], self._wins[name] + self._losses[name]
            return wins / (n + 1.0), (wins + 1.0) / (n + 2.0)

        return max(self.leaders, key=rank)

    def lead_of_prior(self) -> float:
        """How far the prior's recent success is ahead of the policy's, as a share of the prior's, 0 to 1.

        1 as long as the policy has not succeeded, 0 once it succeeds as often: the weight of an adaptive fade. A leader that is not among
        these counts as never tried.
        """
        return self._lead_over(("policy", "mix"))

    def lead_over_policy(self) -> float:
        """The same over the policy by itself."""
        return self._lead_over(("policy",))

    def _lead_over(self, names: tuple[Leader, ...]) -> float:
        prior = self._rate(("prior", "explore"), untried=1.0)
        policy = self._rate(names, untried=0.0)
        return float(np.clip((prior - policy) / prior, 0.0, 1.0)) if prior > 0.0 else 0.0

    def _rate(self, names: tuple[Leader, ...], untried: float) -> float:
        """Best recent success of some leaders, drawn to a first guess by the weight of one episode."""
        rates = [
            (self._wins[name] + untried) / (self._wins[name] + self._losses[name] + 1.0)
            for name in names
            if name in self._wins
        ]
        return max(rates, default=untried)

    def values(self) -> dict[str, Any]:
        """Discounted successes and failures of each leader, and whether a prior has spoken."""
        counts = {name: (self._wins[name], self._losses[name]) for name in self.leaders}
        return {"counts": counts, "spoken": self.spoken}

    def set_values(self, values: dict[str, Any]) -> None:
        """Go on from there."""
        self.spoken = values["spoken"]
        for name in self.leaders:
            self._wins[name], self._losses[name] = values["counts"][name]
