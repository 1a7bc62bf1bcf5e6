"""Cut an episode where its motion changes, without a playbook.

Objective: boundaries 0 = b_0 < ... < b_m = T that minimise the sum over segments of the squared distance of a signal from
its mean in the segment, plus a price per segment. Exact, by PELT (Killick, Fearnhead and Eckley 2012, "Optimal detection of
changepoints with a linear computational cost", arXiv 1101.1438, section 3): optimal partitioning whose candidates are pruned.
The cost is that of a Gaussian with known spread; the price is that of the Bayesian information criterion for P means and one
place, (P + 1) log T, times a factor (Yao 1988, "Estimating the number of change-points via Schwarz' criterion").
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode
from lago_skills.worlds.grounding import Grounding

FEATURE_SHARE = 0.1
"""Variance of all features together, in units of that of all actions. Actions show where a motion changes: on the scripted
demonstrations of ten Meta-World tasks their cuts agree best with those of the playbooks (F1 .69 at this share, .68 at
.3, .55 with features and actions alike, .50 for equal thirds; a cut within five steps agrees)."""
MIN_NOISE = 0.5
"""A component's noise is at least this share of its spread: scripted and simulated data may have none at all."""
EXPLAINED = 0.95
"""Components of the signal are kept until they explain so much of its variance."""
CONSTANT = 1e-6
"""A number that varies by less than this share of its size is constant, and says nothing about where to cut."""


def scaled(rows: list[NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (P,), and 1 / spread (P,) of numbers over the rows of all (T, P) arrays; 0 for those that are constant."""
    flat = np.concatenate(rows).astype(np.float64)
    mean, spread = flat.mean(axis=0), flat.std(axis=0)
    varies = spread > CONSTANT * np.maximum(np.abs(flat).max(axis=0), CONSTANT)
    return mean, np.where(varies, 1.0 / np.where(varies, spread, 1.0), 0.0)


def action_rows(episode: Episode, n_actions: int) -> NDArray[np.float64]:
    """(T, A) actions; discrete ones become (T, n_actions) ones and zeros."""
    if episode.discrete:
        return np.eye(n_actions)[np.asarray(episode.actions, np.int64)]
    return episode.actions.astype(np.float64)


def count_actions(episodes: list[Episode]) -> int:
    """How many discrete actions there are; 0 where they are continuous."""
    return 1 + max((int(e.actions.max()) for e in episodes if e.discrete), default=-1)


def signals(episodes: list[Episode], grounding: Grounding) -> list[NDArray[np.float64]]:
    """For each episode of one task, a (T, P) signal in units of its noise: actions, and a little of the grounded features.

    Both are standardised over all episodes and reduced to their principal components. Noise is estimated from the median
    difference of neighbouring steps, which a few changes of motion do not move.
    """
    n_actions = count_actions(episodes)
    blocks = (
        ([action_rows(e, n_actions) for e in episodes], 1.0),
        ([grounding.read(e.observations[:-1].astype(np.float64)).values for e in episodes], FEATURE_SHARE),
    )
    parts: list[list[NDArray[np.float64]]] = []
    for rows, share in blocks:
        mean, scale = scaled(rows)
        weight = np.sqrt(share / max(int((scale > 0).sum()), 1))
        parts.append([(row - mean) * scale * weight for row in rows])
    joined = [np.concatenate(pair, axis=1) for pair in zip(*parts, strict=True)]
    flat = np.concatenate(joined)
    _, sizes, axes = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    explained = np.cumsum(sizes**2) / max(float((sizes**2).sum()), 1e-12)
    n_axes = min(int(np.searchsorted(explained, EXPLAINED)) + 1, len(axes))
    shown = [row @ axes[:n_axes].T for row in joined]
    steps = np.concatenate([np.abs(np.diff(row, axis=0)) for row in shown])
    jumps = np.median(steps, axis=0) / (np.sqrt(2) * 0.6745) if len(steps) else np.zeros(n_axes)  # (P,)
    noise = np.maximum(jumps, MIN_NOISE * np.concatenate(shown).std(axis=0))
    unit = max(float(np.sqrt((noise**2).mean())), 1e-12)
    return [row / unit for row in shown]


def cut(signal: NDArray[np.float64], penalty: float, min_steps: int) -> list[int]:
    """Boundaries of the segments of a (T, P) signal in units of its noise, 0 and T among them.

    No segment is shorter than `min_steps`, but for a signal that is.
    """
    n_steps, n_parts = signal.shape
    if n_steps < 2 * min_steps:
        return [0, n_steps]
    price = penalty * (n_parts + 1) * np.log(n_steps)
    sums = np.concatenate([np.zeros((1, n_parts)), np.cumsum(signal, axis=0)])
    squares = np.concatenate([[0.0], np.cumsum((signal**2).sum(axis=1))])
    best = np.full(n_steps + 1, np.inf)
    best[0] = -price
    before = np.zeros(n_steps + 1, np.int64)
    candidates = np.array([0])
    dead_from = np.full(n_steps + 1, n_steps + 1)
    for stop in range(min_steps, n_steps + 1):
        candidates = candidates[dead_from[candidates] > stop]
        gap = sums[stop] - sums[candidates]  # (n, P)
        cost = squares[stop] - squares[candidates] - (gap**2).sum(axis=1) / (stop - candidates)
        totals = best[candidates] + cost + price
        chosen = int(np.argmin(totals))
        best[stop], before[stop] = totals[chosen], candidates[chosen]
        hopeless = candidates[totals - price > best[stop]]  # the pruning inequality with K = 0: a cut never adds cost
        # A cut at `stop` does as well, but only once a whole segment fits behind it.
        dead_from[hopeless] = np.minimum(dead_from[hopeless], stop + min_steps)
        newest = stop - min_steps + 1
        if newest >= min_steps:
            candidates = np.append(candidates, newest)
    cuts = [n_steps]
    while cuts[-1] > 0:
        cuts.append(int(before[cuts[-1]]))
    return cuts[::-1]
