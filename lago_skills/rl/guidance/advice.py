"""A prior as rows of numbers: computed once when the environment is stepped, stored, and scored in torch without the guide.

A row of `advice` for actions of A numbers and C components is, in this order,

    mean (A), std (A)     of the mixture, what the networks may see; zeros where the floor is 1
    floor (1)             share of the uniform distribution
    weights (C)           of the heaviest components, sum to 1
    means (C * A), stds (C * A)

For one of A discrete actions a row is the probabilities of the mixture, floor included (A). A prior with a floor of 1 says nothing: its rows
score every action with exactly 0, with a gradient of exactly 0, so a learner with such a guide is the plain learner, bit for bit.
"""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lago_skills.prior import LOG_2PI, ActionPrior, DiscretePrior


@dataclass(frozen=True)
class Layout:
    """Where what is in a row of advice on continuous actions."""

    action_size: int
    n_components: int
    """Most components kept of a mixture, the heaviest."""

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return 2 * self.action_size + 1 + self.n_components * (1 + 2 * self.action_size)

    def pack(self, prior: ActionPrior) -> NDArray[np.float32]:
        """(B, width) rows of a prior."""
        n, size = len(prior.weights), self.action_size
        weights, means, stds = prior.weights, prior.means, prior.stds
        if weights.shape[1] > self.n_components:
            order = np.argsort(-weights, axis=1, kind="stable")[:, : self.n_components]
            chosen = np.arange(n)[:, None], order
            weights, means, stds = weights[chosen], means[chosen], stds[chosen]
            weights = weights / weights.sum(axis=1, keepdims=True)
        rows = np.zeros((n, self.width), np.float32)
        if prior.floor < 1.0:
            rows[:, :size], rows[:, size : 2 * size] = prior.moments()
        rows[:, 2 * size] = prior.floor
        start, count = 2 * size + 1, weights.shape[1]
        rows[:, start : start + count] = weights
        start += self.n_components
        rows[:, start : start + count * size] = means.reshape(n, -1)
        start += self.n_components * size
        rows[:, start:] = 1.0  # of components that are not there
        rows[:, start : start + count * size] = stds.reshape(n, -1)
        return rows

    def hint(self, advice: Tensor) -> Tensor:
        """(B, 2A): mean and std of the mixture."""
        return advice[:, : 2 * self.action_size]

    @property
    def hint_size(self) -> int:
        """Numbers in a hint."""
        return 2 * self.action_size

    def mean(self, advice: Tensor) -> Tensor:
        """(B, A): mean of the mixture."""
        return advice[:, : self.action_size]

    def mode(self, advice: Tensor) -> Tensor:
        """(B, A): what the prior does where it leads."""
        return self.mean(advice).clamp(-1.0, 1.0)

    def silent(self, advice: Tensor) -> Tensor:
        """(B,) where the prior says nothing."""
        return advice[:, 2 * self.action_size] >= 1.0

    def parts(self, advice: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (B, C), means and stds (B, C, A)."""
        size, n, start = self.action_size, self.n_components, 2 * self.action_size + 1
        middle, stop = start + n, start + n + n * size
        return (
            advice[:, start:middle],
            advice[:, middle:stop].reshape(-1, n, size),
            advice[:, stop:].reshape(-1, n, size),
        )

    def rho(self, advice: Tensor, actions: Tensor) -> Tensor:
        """(B,) log of prior over uniform at (B, A) actions: `ActionPrior.log_ratio`, differentiable."""
        weights, means, stds = self.parts(advice)
        floor = advice[:, 2 * self.action_size]
        z = (actions[:, None, :] - means) / stds
        log_p = (-0.5 * (z * z + LOG_2PI) - stds.log()).sum(dim=2) + self.action_size * float(np.log(2.0))
        log_mixture = torch.logsumexp(log_p + weights.clamp_min(1e-30).log(), dim=1)
        return log_floored(log_mixture, floor)

    def samples(self, advice: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """(B, A) actions drawn from the mixture, clipped to [-1, 1]."""
        weights, means, stds = (part.numpy() for part in self.parts(torch.from_numpy(advice)))
        return ActionPrior(weights, means, stds).sample(rng)


@dataclass(frozen=True)
class DiscreteLayout:
    """Where what is in a row of advice on discrete actions: their probabilities."""

    action_size: int
    """Number of actions."""

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return self.action_size

    @property
    def hint_size(self) -> int:
        """Numbers in a hint."""
        return self.action_size

    def pack(self, prior: DiscretePrior) -> NDArray[np.float32]:
        """(B, width) rows of a prior."""
        return pack_discrete(prior)

    def hint(self, advice: Tensor) -> Tensor:
        """(B, A): how much likelier than by chance each action is; zeros where the prior says nothing."""
        return torch.where(self.silent(advice)[:, None], torch.zeros_like(advice), self.action_size * advice - 1.0)

    def mode(self, advice: Tensor) -> Tensor:
        """(B,): what the prior does where it leads."""
        return advice.argmax(dim=1)

    def silent(self, advice: Tensor) -> Tensor:
        """(B,) where the prior says nothing: all actions are alike."""
        return (advice == advice[:, :1]).all(dim=1)


def log_floored(log_ratio: Tensor, floor: Tensor) -> Tensor:
    """log(floor + (1 - floor) * exp(log_ratio)) without overflow; exactly 0 at floor 1, and at least log(floor)."""
    floor = floor.expand_as(log_ratio)
    with_floor = torch.logaddexp(torch.log(floor.clamp_min(1e-12)), torch.log1p(-floor.clamp_max(1 - 1e-7)) + log_ratio)
    return torch.where(floor < 1.0, with_floor, torch.zeros_like(log_ratio))


def pack_discrete(prior: DiscretePrior) -> NDArray[np.float32]:
    """(B, A) probabilities of a prior over discrete actions, its floor mixed in."""
    probabilities = prior.probabilities()
    return (prior.floor / probabilities.shape[1] + (1.0 - prior.floor) * probabilities).astype(np.float32)


def null_row(layout: Layout) -> NDArray[np.float32]:
    """(1, width): the row of a prior that says nothing."""
    from lago_skills.prior import uniform_prior

    return layout.pack(uniform_prior(1, layout.action_size))
