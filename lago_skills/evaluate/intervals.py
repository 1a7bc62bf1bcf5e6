"""Intervals for success shares and for scores over seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of successes (Wilson 1927, score interval).

    Unlike the normal approximation it stays inside [0, 1] and is not empty at 0 or n successes.
    """
    share = successes / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return max(float(centre - half), 0.0), min(float(centre + half), 1.0)


def bootstrap_mean(scores: NDArray[np.float64], seed: int = 0, n_resamples: int = 2000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of (n_runs,) scores."""
    rng = np.random.default_rng(seed)
    means = rng.choice(scores, (n_resamples, len(scores))).mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))
