"""Policies of proximal policy optimisation as distributions over actions, and how far they are from a prior."""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from dataclasses import dataclass

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

    def sample(self, generator: torch.Generator) -> Tensor:
        """(B, A) draws; differentiable."""
        noise = torch.randn(self.mean.shape, generator=generator).to(self.mean.device)
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        """(B, A) likeliest action within [-1, 1]."""
        return self.mean.clamp(-1.0, 1.0)

    def log_prob(self, actions: Tensor) -> Tensor:
        """(B, A) -> (B,) log-density."""
        z = (actions - self.mean) * (-self.log_std).exp()
        return (-0.5 * (z * z + LOG_2PI) - self.log_std).sum(dim=1)

    def entropy(self) -> Tensor:
        """(B,) nats."""
        return (self.log_std + 0.5 * (1.0 + LOG_2PI)).sum(dim=1)

    def spread(self) -> Tensor:
        """() mean standard deviation."""
        return self.log_std.exp().mean()

    def reverse_divergence(self, layout: Layout | DiscreteLayout, advice: Tensor, generator: torch.Generator) -> Tensor:
        """(B,) KL(policy || prior): the entropy exactly, the prior at one reparametrised sample of each state."""
        assert isinstance(layout, Layout)
        log_uniform = -layout.action_size * math.log(2.0)
        return -self.entropy() - (layout.rho(advice, self.sample(generator)) + log_uniform)

    def forward_divergence(self, layout: Layout | DiscreteLayout, advice: Tensor) -> Tensor:
        """(B,) KL(Gaussian of the prior's mean and std || policy), up to a constant."""
        assert isinstance(layout, Layout)
        mean, std = layout.hint(advice).chunk(2, dim=1)
        squared = (std * std + (self.mean - mean).square()) * (-2.0 * self.log_std).exp()
        return (self.log_std + 0.5 * squared).sum(dim=1)


@dataclass(frozen=True)
class Categorical:
    """Probabilities of A actions for each of B states."""

    log_probs: Tensor  # (B, A)

    def at(self, rows: Tensor) -> Categorical:
        """Of some of the states."""
        return Categorical(self.log_probs[rows])

    def sample(self, generator: torch.Generator) -> Tensor:
        """(B,) draws."""
        drawn = torch.multinomial(self.log_probs.exp().cpu(), 1, generator=generator)[:, 0]
        return drawn.to(self.log_probs.device)

    def mode(self) -> Tensor:
        """(B,) likeliest action."""
        return self.log_probs.argmax(dim=1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """(B,) -> (B,) log-probability."""
        return self.log_probs.gather(1, actions[:, None])[:, 0]

    def entropy(self) -> Tensor:
        """(B,) nats."""
        return -(self.log_probs.exp() * self.log_probs).sum(dim=1)

    def spread(self) -> Tensor:
        """() nothing: discrete actions have none."""
        return self.log_probs.new_zeros(())

    def reverse_divergence(self, layout: Layout | DiscreteLayout, advice: Tensor, generator: torch.Generator) -> Tensor:
        """(B,) KL(policy || prior), exactly."""
        return (self.log_probs.exp() * (self.log_probs - advice.clamp_min(LEAST_PROBABILITY).log())).sum(dim=1)

    def forward_divergence(self, layout: Layout | DiscreteLayout, advice: Tensor) -> Tensor:
        """(B,) cross-entropy of the policy under the prior."""
        return -(advice * self.log_probs).sum(dim=1)
