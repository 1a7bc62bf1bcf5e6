"""The action prior: a mixture over retrieved skills, and its density relative to uniform. One place, no library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import ShapeError

LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True)
class ActionPrior:
    """A mixture of diagonal Gaussians over actions in [-1, 1]^A, one component per retrieved skill, and a floor."""

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
        """(B, A) mean action of the mixture."""
        return np.einsum("bk,bka->ba", self.weights, self.means)

    def std(self) -> NDArray[np.float32]:
        """(B, A) standard deviation of the mixture."""
        second = np.einsum("bk,bka->ba", self.weights, self.means**2 + self.stds**2)
        return np.sqrt(np.maximum(second - self.mean() ** 2, 1e-8))

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
        size = self.means.shape[2]
        z = (actions[:, None, :] - self.means) / self.stds
        log_p = -0.5 * np.sum(z**2 + LOG_2PI + 2.0 * np.log(self.stds), axis=2) + size * np.log(2.0)  # (B, K)
        ratio = np.sum(self.weights * np.exp(log_p), axis=1)
        return np.log(self.floor + (1.0 - self.floor) * ratio + (1e-300 if self.floor == 0.0 else 0.0))


def uniform_prior(batch: int, action_size: int) -> ActionPrior:
    """A prior that knows nothing: full floor, wide components."""
    return ActionPrior(
        weights=np.ones((batch, 1), np.float32),
        means=np.zeros((batch, 1, action_size), np.float32),
        stds=np.ones((batch, 1, action_size), np.float32),
        floor=1.0,
    )
