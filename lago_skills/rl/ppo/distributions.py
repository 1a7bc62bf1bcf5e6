"""Policies of proximal policy optimisation as distributions over actions, and how far they are from a prior.

Each quantity has its gradient beside it, as `by_...` or with it: of the sum over states of (B,) weights times the quantity, by the distribution's parameters.
"""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lago_skills.prior import LOG_2PI
from lago_skills.rl.guidance.advice import DiscreteLayout, Layout

LEAST_PROBABILITY = 1e-6
"""Below it a discrete prior without floor is not trusted to exclude an action."""


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian for each of B states."""

    mean: Tensor  # (B, A)
    log_std: Tensor  # (B, A)

    def at(self, rows: Tensor) -> Gaussian:
        """Of some of the states."""
        return Gaussian(self.mean[rows], self.log_std[rows])

    @cached_property
    def _inverse(self) -> Tensor:
        return (-self.log_std).exp()  # (B, A)

    def noise(self, generator: torch.Generator) -> Tensor:
        """(B, A) standard normal."""
        return torch.randn(self.mean.shape, generator=generator)

    def sample(self, generator: torch.Generator) -> Tensor:
        """(B, A) draws."""
        return self._at(self.noise(generator))

    def _at(self, noise: Tensor) -> Tensor:
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        """(B, A) likeliest action within [-1, 1]."""
        return self.mean.clamp(-1.0, 1.0)

    def log_prob(self, actions: Tensor) -> Tensor:
        """(B, A) -> (B,) log-density."""
        z = (actions - self.mean) * self._inverse
        return (-0.5 * (z * z + LOG_2PI) - self.log_std).sum(dim=1)

    def by_log_prob(self, actions: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        """Of `log_prob`."""
        z, weights = (actions - self.mean) * self._inverse, weights[:, None]
        return weights * z * self._inverse, weights * (z * z - 1.0)

    def entropy(self) -> Tensor:
        """(B,) nats."""
        return (self.log_std + 0.5 * (1.0 + LOG_2PI)).sum(dim=1)

    def by_entropy(self, weights: Tensor) -> tuple[Tensor, ...]:
        """Of `entropy`."""
        return torch.zeros_like(self.mean), weights[:, None].expand_as(self.log_std)

    def spread(self) -> Tensor:
        """() mean standard deviation."""
        return self.log_std.exp().mean()

    def divergence(
        self, layout: Layout | DiscreteLayout, advice: Tensor, noise: Tensor, weights: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B,) KL(policy || prior), the entropy exactly, the prior at one reparametrised sample of each state; and its gradient."""
        assert isinstance(layout, Layout)
        log_uniform = -layout.action_size * float(np.log(2.0))
        rho, by_action = layout.rho_and_gradient(advice, self._at(noise))
        by_mean = -weights[:, None] * by_action
        by_log_std = by_mean * self.log_std.exp() * noise - weights[:, None]
        return -self.entropy() - (rho + log_uniform), (by_mean, by_log_std)

    def apart_from(
        self, layout: Layout | DiscreteLayout, advice: Tensor, weights: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B,) KL(Gaussian of the prior's mean and std || policy), up to a constant; and its gradient."""
        assert isinstance(layout, Layout)
        mean, std = layout.hint(advice).chunk(2, dim=1)
        apart, precision, weights = self.mean - mean, self._inverse * self._inverse, weights[:, None]
        squared = (std * std + apart * apart) * precision
        gradient = weights * apart * precision, weights * (1.0 - squared)
        return (self.log_std + 0.5 * squared).sum(dim=1), gradient


@dataclass(frozen=True)
class Categorical:
    """Probabilities of A actions for each of B states."""

    log_probs: Tensor  # (B, A)

    def at(self, rows: Tensor) -> Categorical:
        """Of some of the states."""
        return Categorical(self.log_probs[rows])

    def noise(self, generator: torch.Generator) -> Tensor:
        """Nothing: its divergence is exact."""
        return torch.zeros(0)

    def sample(self, generator: torch.Generator) -> Tensor:
        """(B,) draws."""
        return torch.multinomial(self.log_probs.exp(), 1, generator=generator)[:, 0]

    def mode(self) -> Tensor:
        """(B,) likeliest action."""
        return self.log_probs.argmax(dim=1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """(B,) -> (B,) log-probability."""
        return self.log_probs.gather(1, actions[:, None])[:, 0]

    def by_log_prob(self, actions: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        """Of `log_prob`."""
        return (torch.zeros_like(self.log_probs).scatter_(1, actions[:, None], weights[:, None]),)

    def entropy(self) -> Tensor:
        """(B,) nats."""
        return -(self.log_probs.exp() * self.log_probs).sum(dim=1)

    def by_entropy(self, weights: Tensor) -> tuple[Tensor, ...]:
        """Of `entropy`."""
        return (-weights[:, None] * self.log_probs.exp() * (self.log_probs + 1.0),)

    def spread(self) -> Tensor:
        """() nothing: discrete actions have none."""
        return torch.zeros(())

    def divergence(
        self, layout: Layout | DiscreteLayout, advice: Tensor, noise: Tensor, weights: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B,) KL(policy || prior), exactly; and its gradient."""
        apart, probabilities = self.log_probs - advice.clamp_min(LEAST_PROBABILITY).log(), self.log_probs.exp()
        return (probabilities * apart).sum(dim=1), (weights[:, None] * probabilities * (apart + 1.0),)

    def apart_from(
        self, layout: Layout | DiscreteLayout, advice: Tensor, weights: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B,) cross-entropy of the policy under the prior; and its gradient."""
        return -(advice * self.log_probs).sum(dim=1), (-weights[:, None] * advice,)
