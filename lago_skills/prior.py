"""The action prior: a mixture over retrieved skills, and its density relative to uniform. One place, no library."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace
from lago_skills.errors import ShapeError

LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True)
class Components:
    """What a decoder says of B states and K latents each: M Gaussian components."""

    weights: NDArray[np.float32]  # (B, K, M), sum to 1 over M
    means: NDArray[np.float32]  # (B, K, M, A)
    stds: NDArray[np.float32]  # (B, K, M, A)

    def flat(self, weights: NDArray[Any], floor: float = 0.0) -> ActionPrior:
        """The mixture over all K * M components, given (B, K) weights of the latents."""
        batch, action_size = len(self.means), self.means.shape[3]
        return ActionPrior(
            weights=(weights[:, :, None] * self.weights).reshape(batch, -1).astype(np.float32, copy=False),
            means=self.means.reshape(batch, -1, action_size),
            stds=self.stds.reshape(batch, -1, action_size),
            floor=floor,
        )

    def paced(self, paces: NDArray[np.float32]) -> Components:
        """The same with the means of each state (B,) times as large, within [-1, 1]."""
        return replace(self, means=np.clip(paces[:, None, None, None] * self.means, -1.0, 1.0).astype(np.float32))

    def behaviour(self) -> NDArray[np.float32]:
        """(B, K, A) what each latent does: its mean action."""
        return np.einsum("bkm,bkma->bka", self.weights, self.means).astype(np.float32)


@dataclass(frozen=True)
class DiscreteComponents:
    """What a decoder of discrete actions says of B states and K latents each."""

    log_probs: NDArray[np.float32]  # (B, K, A)

    def flat(self, weights: NDArray[Any], floor: float = 0.0) -> DiscretePrior:
        """The mixture over all latents, given their (B, K) weights."""
        return DiscretePrior(weights.astype(np.float32), self.log_probs, floor)

    def paced(self, paces: NDArray[np.float32]) -> DiscreteComponents:
        """The same: one of a set of actions is neither brisk nor slow."""
        return self

    def behaviour(self) -> NDArray[np.float32]:
        """(B, K, A) what each latent does: how probable it makes each action."""
        return np.exp(self.log_probs)


@dataclass(frozen=True)
class ActionPrior:
    """A mixture of diagonal Gaussians over actions in [-1, 1]^A and a floor.

    K counts components: one or several for each retrieved skill.
    """

    weights: NDArray[np.float32]  # (B, K), rows sum to 1
    means: NDArray[np.float32]  # (B, K, A)
    stds: NDArray[np.float32]  # (B, K, A)
    floor: float = 0.0
    """Share of the uniform distribution; 1 is no guidance at all."""

    def __post_init__(self) -> None:
        """Check shapes.

        Raises:
            ShapeError: the arrays do not belong together, or the floor leaves [0, 1].
        """
        shape = self.means.shape
        if len(shape) != 3 or self.stds.shape != shape or self.weights.shape != shape[:2]:
            raise ShapeError(
                f"action prior: found weights {self.weights.shape}, means {shape}, stds {self.stds.shape}; "
                "expected (B, K), (B, K, A), (B, K, A)"
            )
        if not 0.0 <= self.floor <= 1.0:
            raise ShapeError(f"action prior: found floor {self.floor}; expected a share between 0 and 1")

    def mean(self) -> NDArray[np.float32]:
        """(B, A) mean action of the mixture, in [-1, 1] whatever rounding makes of it."""
        mean = np.einsum("bk,bka->ba", self.weights, self.means)
        return np.minimum(np.maximum(mean, -1.0), 1.0)

    def greedy(self) -> NDArray[np.float32]:
        """(B, A) what a guide does by itself: the mean."""
        return self.mean()

    def std(self) -> NDArray[np.float32]:
        """(B, A) standard deviation of the mixture."""
        return self.moments()[1]

    def moments(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of the mixture, (B, A) each."""
        mean = self.mean()
        second = np.einsum("bk,bka->ba", self.weights, self.means**2 + self.stds**2)
        return mean, np.sqrt(np.maximum(second - mean**2, 1e-8))

    def mode(self) -> NDArray[np.float32]:
        """(B, A) the component mean at which the mixture is densest: where skills disagree, one of them and no compromise.

        Source: Carreira-Perpinan (2000), "Mode-finding for mixtures of Gaussian distributions": modes lie near component means.
        """
        n = self.means.shape[1]
        density = np.stack([self._density(self.means[:, k]) for k in range(n)], axis=1)  # (B, K)
        density = np.where(self.weights > 0.0, density, -1.0)
        return self.means[np.arange(len(self.means)), np.argmax(density, axis=1)]

    def _density(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        """(B, A) -> (B,) density of the mixture relative to uniform on [-1, 1]^A."""
        z = (actions[:, None, :] - self.means) / self.stds
        log_p = -0.5 * np.sum(z**2 + LOG_2PI + 2.0 * np.log(self.stds), axis=2) + self.means.shape[2] * np.log(2.0)
        return np.sum(self.weights * np.exp(log_p), axis=1)

    def sample(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """(B, A) actions: a component by its weight, then its Gaussian, clipped to [-1, 1]."""
        cumulative = np.cumsum(self.weights, axis=1)
        draw = rng.random((len(cumulative), 1)) * cumulative[:, -1:]
        chosen = np.minimum((draw > cumulative).sum(axis=1), cumulative.shape[1] - 1)
        rows = np.arange(len(chosen))
        noise = rng.standard_normal(self.means.shape[::2])
        return np.clip(self.means[rows, chosen] + noise * self.stds[rows, chosen], -1.0, 1.0).astype(np.float32)

    def log_ratio(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        """rho(a|s) = log(f + (1-f) * sum_k w_k p_k(a|s)/u(a)) for (B, A) actions -> (B,).

        u is uniform on [-1, 1]^A. Exactly 0 at floor 1; never below log f.
        """
        ratio = self._density(actions)
        return np.log(self.floor + (1.0 - self.floor) * ratio + (1e-300 if self.floor == 0.0 else 0.0))


@dataclass(frozen=True)
class DiscretePrior:
    """A mixture of categorical distributions over A actions, one per retrieved skill, and a floor."""

    weights: NDArray[np.float32]  # (B, K), rows sum to 1
    log_probs: NDArray[np.float32]  # (B, K, A)
    floor: float = 0.0
    """Share of the uniform distribution; 1 is no guidance at all."""

    def __post_init__(self) -> None:
        """Check shapes.

        Raises:
            ShapeError: the arrays do not belong together, or the floor leaves [0, 1].
        """
        if self.log_probs.ndim != 3 or self.weights.shape != self.log_probs.shape[:2]:
            raise ShapeError(
                f"discrete prior: found weights {self.weights.shape}, log-probabilities {self.log_probs.shape}; "
                "expected (B, K), (B, K, A); decode the latents whose weights these are"
            )
        if not 0.0 <= self.floor <= 1.0:
            raise ShapeError(
                f"discrete prior: found floor {self.floor}; expected a share between 0 and 1; correct guide.floor"
            )

    def probabilities(self) -> NDArray[np.float64]:
        """(B, A) of the mixture, without the floor."""
        return np.einsum("bk,bka->ba", self.weights, np.exp(self.log_probs.astype(np.float64)))

    def greedy(self) -> NDArray[np.int64]:
        """(B,) what a guide does by itself: the most probable action."""
        return self.mode()

    def mode(self) -> NDArray[np.int64]:
        """(B,) the most probable action."""
        return np.argmax(self.probabilities(), axis=1)

    def sample(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """(B,) actions."""
        cumulative = np.cumsum(self.probabilities(), axis=1)
        draw = rng.random((len(cumulative), 1)) * cumulative[:, -1:]
        return np.minimum((draw > cumulative).sum(axis=1), cumulative.shape[1] - 1)

    def log_ratio(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        """rho(a|s) of (B,) actions: as for `ActionPrior`, with u uniform over the A actions."""
        probabilities = self.probabilities()
        ratio = probabilities[np.arange(len(probabilities)), actions] * probabilities.shape[1]
        return np.log(self.floor + (1.0 - self.floor) * ratio + (1e-300 if self.floor == 0.0 else 0.0))


Prior = ActionPrior | DiscretePrior


def uninformed(batch: int, space: ActionSpace) -> Prior:
    """A prior that knows nothing, over continuous or discrete actions."""
    if space.discrete:
        even = np.full((batch, 1, space.size), -np.log(space.size), np.float32)
        return DiscretePrior(np.ones((batch, 1), np.float32), even, floor=1.0)
    return uniform_prior(batch, space.size)


def uniform_prior(batch: int, action_size: int) -> ActionPrior:
    """A prior over continuous actions that knows nothing: full floor, wide components."""
    return ActionPrior(
        weights=np.ones((batch, 1), np.float32),
        means=np.zeros((batch, 1, action_size), np.float32),
        stds=np.ones((batch, 1, action_size), np.float32),
        floor=1.0,
    )
