"""What a stream of tasks is summed up by: forward and backward transfer, area under the curve, what is forgotten, what carries over to the next task.

R[i, j] is the success on the j-th task of the stream after its i-th stage (stage 0: before the stream); tasks that were there from the start have no stage.

    FWT   mean over stages of R[i, i]: LIBERO's forward transfer (arXiv 2306.03310, eq. 3), of the library alone after its training
    BWT   mean over pairs i < k of R[k, i] - R[i, i]: minus LIBERO's negative backward transfer; negative is forgetting
    AUC   mean over tasks i of the mean of R[i, i] and of R[k, i] for the stages k after it
    next  mean over stages of R[i - 1, i]: zero-shot on the task that comes next, with the growth before it; `next_before` is R[0, i], without; `carried` is how much
          the first is more, with the interval over the tasks of the stream
    fall  mean over stages of what old tasks, those from the start among them, have less than in the stage before, from the same start states
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES = 2_000


@dataclass(frozen=True)
class Matrix:
    """Success of every task after every stage."""

    stages: tuple[int, ...]
    """Those that are measured, from 0 on without a gap."""
    tasks: tuple[str, ...]
    """Those from the start, then those of the stream in its order."""
    n_built: int
    """How many were there from the start."""
    success: NDArray[np.float64]
    """(stages, tasks)."""


def matrix_of(rows: Sequence[Mapping[str, Any]]) -> Matrix:
    """The matrix of one stream's rows: `stage`, `task`, `kind`, `success`."""
    by_stage: dict[int, dict[str, float]] = {}
    for row in rows:
        by_stage.setdefault(row["stage"], {})[row["task"]] = row["success"]
    stages = [stage for stage in range(len(by_stage)) if all(n in by_stage for n in range(stage + 1))]
    first = [row for row in rows if row["stage"] == stages[0]]
    built = [row["task"] for row in first if row["kind"] == "built"]
    others = [row["task"] for row in first if row["kind"] != "built"]
    tasks = [*built, *others]
    success = np.array([[by_stage[stage][task] for task in tasks] for stage in stages])
    return Matrix(tuple(stages), tuple(tasks), len(built), success)


def metrics(matrix: Matrix) -> dict[str, Any]:
    """The figures of a stream, None where no stage tells."""
    n, first = len(matrix.stages) - 1, matrix.n_built
    stream = matrix.success[:, first : first + n]  # (n + 1, n): only tasks that have come
    own = [float(stream[i + 1, i]) for i in range(n)]
    later = [stream[i + 2 :, i] - stream[i + 1, i] for i in range(n)]
    pairs = np.concatenate(later) if later else np.zeros(0)
    areas = [float(np.mean(stream[i + 1 :, i])) for i in range(n)]
    falls = [matrix.success[i, : first + i] - matrix.success[i + 1, : first + i] for i in range(n)]
    last = matrix.success[-1, : first + n]
    low, high = _interval(falls)
    carried = [float(stream[i, i] - stream[0, i]) for i in range(n)]
    carried_low, carried_high = _interval_of_mean(carried)
    return {
        "stages": n,
        "fwt": _mean(own),
        "bwt": _mean(pairs),
        "auc": _mean(areas),
        "last": _mean(last),
        "least": float(last.min()),
        "fall": _mean([float(each.mean()) for each in falls]),
        "fall_low": low,
        "fall_high": high,
        "next": _mean([float(stream[i, i]) for i in range(n)]),
        "next_before": _mean([float(stream[0, i]) for i in range(n)]),
        "carried": _mean(carried),
        "carried_low": carried_low,
        "carried_high": carried_high,
    }


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float | None:
    return round(float(np.mean(values)), 4) if len(values) else None


def _interval(falls: Sequence[NDArray[np.float64]]) -> tuple[float | None, float | None]:
    """95 % of the mean fall of a stage: bootstrap over tasks within each stage."""
    if not falls:
        return None, None
    rng = np.random.default_rng(0)
    drawn = np.mean([each[rng.integers(0, len(each), (N_RESAMPLES, len(each)))].mean(axis=1) for each in falls], axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return round(float(low), 4), round(float(high), 4)


def _interval_of_mean(values: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % of a mean: bootstrap over its values."""
    if not values:
        return None, None
    every, rng = np.asarray(values), np.random.default_rng(0)
    low, high = np.quantile(every[rng.integers(0, len(every), (N_RESAMPLES, len(every)))].mean(axis=1), [0.025, 0.975])
    return round(float(low), 4), round(float(high), 4)
