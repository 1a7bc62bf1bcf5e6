"""Intervals for success shares and for scores over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

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


def stratified_mean(
    scores: list[NDArray[np.float64]], seed: int = 0, n_resamples: int = 2000
) -> tuple[float, tuple[float, float] | None]:
    """Mean over tasks of each task's mean over its (n_seeds,) scores, and its 95 % stratified bootstrap interval.

    The seeds of each task are resampled by themselves, so the interval is about other seeds of the same tasks; a task of one
    seed has nothing to resample, and then there is no interval. Tasks may differ in how many seeds they have.

    Source: Agarwal et al. (arXiv 2108.13264), section 4.1; the resampling of their library rliable.
    """
    mean = float(np.mean([each.mean() for each in scores]))
    if any(len(each) < 2 for each in scores):
        return mean, None
    rng = np.random.default_rng(seed)
    means = np.mean([rng.choice(each, (n_resamples, len(each))).mean(axis=1) for each in scores], axis=0)
    return mean, (float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975)))


def success_over_tasks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean over tasks of the mean over a task's seeds with its 95 % interval, and how much was measured.

    Rows have `task`, `seed`, `success` and `episodes`; `stratified_mean` says how the interval is made.
    """
    by_task: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_task[row["task"]].append(row["success"])
    mean, ends = stratified_mean([np.array(each) for each in by_task.values()])
    return {
        "success": round(mean, 4),
        "low": ends and round(ends[0], 4),
        "high": ends and round(ends[1], 4),
        "tasks": len(by_task),
        "seeds": len({row["seed"] for row in rows}),
        "episodes": sum(row["episodes"] for row in rows),
    }


def iqm(scores: NDArray[np.float64]) -> float:
    """Interquartile mean: the mean of the middle half of all values, those at its ends counted by the share that is inside.

    Source: Agarwal et al. (arXiv 2108.13264), section 4.3.
    """
    values = np.sort(scores.reshape(-1))
    n = len(values)
    inside = np.clip(np.minimum(np.arange(1, n + 1), 0.75 * n) - np.maximum(np.arange(n), 0.25 * n), 0.0, None)
    return float(values @ inside / inside.sum())


def stratified_iqm(
    scores: list[NDArray[np.float64]], seed: int = 0, n_resamples: int = 2000
) -> tuple[float, tuple[float, float] | None]:
    """Interquartile mean over all (n_seeds,) scores of all tasks, and its 95 % stratified bootstrap interval.

    Seeds are resampled within each task; a task of one seed has nothing to resample, and then there is no interval.
    """
    middle = iqm(np.concatenate(scores))
    if any(len(each) < 2 for each in scores):
        return middle, None
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([rng.choice(each, (n_resamples, len(each))) for each in scores], axis=1)
    middles = np.array([iqm(row) for row in drawn])
    return middle, (float(np.quantile(middles, 0.025)), float(np.quantile(middles, 0.975)))


def probability_of_improvement(
    ours: list[NDArray[np.float64]], theirs: list[NDArray[np.float64]], seed: int = 0, n_resamples: int = 500
) -> tuple[float, tuple[float, float] | None]:
    """Chance that a run of ours on a task scores higher than one of theirs (a tie counts half), mean over tasks; and its 95 % interval.

    There is none where a task has one seed.

    Source: Agarwal et al. (arXiv 2108.13264), section 4.3 (the Mann-Whitney statistic), seeds resampled within each task.
    """

    def once(a: list[NDArray[np.float64]], b: list[NDArray[np.float64]]) -> float:
        signs = [np.sign(x[:, None] - y[None, :]).mean() for x, y in zip(a, b, strict=True)]
        return float(0.5 + 0.5 * np.mean(signs))

    if any(len(each) < 2 for each in (*ours, *theirs)):
        return once(ours, theirs), None
    rng = np.random.default_rng(seed)
    drawn = [
        once([rng.choice(each, len(each)) for each in ours], [rng.choice(each, len(each)) for each in theirs])
        for _ in range(n_resamples)
    ]
    return once(ours, theirs), (float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975)))
