"""Points of learning curves, and what tables say of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.experiments.intervals import probability_of_improvement, stratified_iqm, stratified_mean


@dataclass(frozen=True)
class CurveCell:
    """One training run, measured once."""

    table: str
    study: str
    method: str
    task: str
    seed: int

    @property
    def name(self) -> str:
        """How a run is named on the command line: `guided-sac/push-wall/0`."""
        return f"{self.method}/{self.task}/{self.seed}"


@dataclass(frozen=True)
class CurveRow:
    """One evaluation in a training run."""

    table: str
    study: str
    task: str
    method: str
    seed: int
    steps: int
    """Environment steps of training so far; 0 for what needs none."""
    success: float
    """Share of greedy episodes on separate start states with success at any step."""
    episodes: int
    demos: int
    """Demonstrations of this task that the learner was given."""
    leader: str
    """Who acts in greedy episodes: `policy`, `prior`, or the critic's choice, `mix`."""
    prior_share: float
    """Share of training steps since the last row at which the prior acted."""
    steps_per_s: float
    """Environment steps per second, updates included, evaluations not; one thread on shared cores."""
    guide_share: float
    wall_s: float
    """Of the run; of the part after its last cut, if it was cut."""
    commit: str
    bundle: str
    """Fingerprint of what the guide was made from; empty without one."""

    @property
    def cell(self) -> CurveCell:
        """The run."""
        return CurveCell(self.table, self.study, self.method, self.task, self.seed)


def scores(rows: Iterable[CurveRow], method: str, steps: int) -> dict[str, NDArray[np.float64]]:
    """Success of a method after so many steps, by task, one number a seed in the order of seeds.

    What needs no training has the same score at every step.
    """
    found: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if row.method == method and row.steps in (0, steps):
            found[row.task].append((row.seed, row.success))
    return {task: np.array([score for _, score in sorted(pairs)]) for task, pairs in found.items()}


def summary(rows: list[CurveRow], at: Iterable[int]) -> list[dict[str, Any]]:
    """One entry per method and number of steps: interquartile mean and plain mean, each with its 95 % interval.

    The interquartile mean is the robust one; the plain mean tells methods apart that fail on less than a quarter of the runs.
    """
    entries: list[dict[str, Any]] = []
    for method in dict.fromkeys(row.method for row in rows):
        trained = {row.steps for row in rows if row.method == method} != {0}
        for steps in at if trained else (0,):
            by_task = scores(rows, method, steps)
            if not by_task:
                continue
            middle, interval = stratified_iqm(list(by_task.values()))
            mean, of_mean = stratified_mean(list(by_task.values()))
            entries.append(
                {
                    "method": method,
                    "steps": steps,
                    "iqm": round(middle, 4),
                    "low": interval and round(interval[0], 4),
                    "high": interval and round(interval[1], 4),
                    "mean": round(mean, 4),
                    "mean_low": of_mean and round(of_mean[0], 4),
                    "mean_high": of_mean and round(of_mean[1], 4),
                    "n_tasks": len(by_task),
                    "n_seeds": min(len(each) for each in by_task.values()),
                }
            )
    return entries


def steps_to(rows: list[CurveRow], threshold: float) -> dict[tuple[str, str, int], int | None]:
    """First evaluation of each run (method, task, seed) at which success is at least the threshold, in steps; None if none is."""
    found: dict[tuple[str, str, int], int | None] = {}
    for row in sorted(rows, key=lambda each: each.steps):
        key = (row.method, row.task, row.seed)
        if found.setdefault(key, None) is None and row.success >= threshold:
            found[key] = row.steps
    return found


def reach(rows: list[CurveRow], threshold: float = 0.8) -> list[dict[str, Any]]:
    """By method: in how many runs success came to the threshold at an evaluation, and the median of the steps it took there."""
    found = steps_to(rows, threshold)
    entries: list[dict[str, Any]] = []
    for method in dict.fromkeys(name for name, _, _ in found):
        steps = [value for (name, _, _), value in found.items() if name == method]
        came = [value for value in steps if value is not None]
        median = float(np.median(came)) if came else None
        entries.append({"method": method, "runs": len(steps), "reached": len(came), "median_steps": median})
    return entries


def sooner(rows: list[CurveRow], ours: str, others: Sequence[str], threshold: float = 0.8) -> list[dict[str, Any]]:
    """On each task on which a run of another method ever came to the threshold: how many times fewer steps ours took, at least.

    Runs are evaluated now and then, and not all at the same steps: one came there after the last evaluation below the threshold (`their_least`) and
    by the first one at it (`our_steps`), and the ratio of these two is a bound that holds however runs were evaluated. Medians over all runs on the task; a run
    that never came there counts as infinite, and as its last evaluation in the bound.
    """
    entries: list[dict[str, Any]] = []
    for method in others:
        for task in dict.fromkeys(row.task for row in rows):
            of_task = [row for row in rows if row.task == task and row.steps > 0]
            mine, theirs = ([row for row in of_task if row.method == name] for name in (ours, method))
            came = [list(steps_to(each, threshold).values()) for each in (mine, theirs)]
            if not mine or all(steps is None for steps in came[1]):
                continue
            our_steps, their_steps = (_median(steps) for steps in came)
            their_least = float(np.median(_steps_below(theirs, threshold)))
            counts = {"runs": len(came[1]), "reached": len(came[1]) - came[1].count(None)}
            own = {"our_runs": len(came[0]), "our_reached": len(came[0]) - came[0].count(None), "our_steps": our_steps}
            ratio = None if our_steps is None else round(their_least / our_steps, 1)
            steps = {"their_least": their_least, "their_steps": their_steps}
            entries.append({"than": method, "task": task, **counts, **steps, **own, "times_fewer": ratio})
    return entries


def _steps_below(rows: list[CurveRow], threshold: float) -> list[int]:
    """Last evaluation of each run before its first at the threshold, in steps; 0 where there is none."""
    arrived = steps_to(rows, threshold)
    found = dict.fromkeys(arrived, 0)
    for row in rows:
        run, end = (row.method, row.task, row.seed), arrived[row.method, row.task, row.seed]
        if end is None or row.steps < end:
            found[run] = max(found[run], row.steps)
    return list(found.values())


def _median(steps: Sequence[int | None]) -> float | None:
    """Of all runs, those that never came there counted as infinite; None where it is."""
    middle = float(np.median([np.inf if each is None else each for each in steps]))
    return middle if np.isfinite(middle) else None


def mixed(rows: Iterable[CurveRow]) -> list[str]:
    """Methods whose runs of one seed were made from different things: their means say little."""
    bundles: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for row in rows:
        bundles[row.method, row.seed].add(row.bundle)
    return [f"{method}, seed {seed}" for (method, seed), found in bundles.items() if len(found) > 1]


def improvements(rows: list[CurveRow], ours: str, steps: int) -> list[dict[str, Any]]:
    """Chance that a run of `ours` beats one of each other method on a task after so many steps; only tasks that both have."""
    mine = scores(rows, ours, steps)
    found: list[dict[str, Any]] = []
    for method in dict.fromkeys(row.method for row in rows):
        theirs = scores(rows, method, steps)
        tasks = [task for task in mine if task in theirs]
        if method == ours or not tasks:
            continue
        chance, interval = probability_of_improvement([mine[t] for t in tasks], [theirs[t] for t in tasks])
        low, high = (None, None) if interval is None else (round(end, 4) for end in interval)
        entry = {"method": ours, "over": method, "steps": steps, "probability": round(chance, 4)}
        found.append(entry | {"low": low, "high": high, "n_tasks": len(tasks)})
    return found
