"""Points of learning curves, and what tables say of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.experiments.cells import Column, Row, Schema
from lago_skills.experiments.intervals import probability_of_improvement, stratified_iqm, stratified_mean


def schema(table: str) -> Schema:
    """The columns of a table of learning curves: a row is one evaluation in a training run, a cell is a run."""
    return Schema(
        table,
        (
            Column("table"),
            Column("study"),
            Column("task"),
            Column("method"),
            Column("seed", int),
            Column("steps", int, "environment steps of training so far; 0 for what needs none"),
            Column("success", float, "share of greedy episodes on separate start states with success at any step"),
            Column("episodes", int),
            Column("demos", int, "demonstrations of this task that the learner was given"),
            Column("leader", about="who acts in greedy episodes: `policy`, `prior`, or the critic's choice, `mix`"),
            Column("prior_share", float, "share of training steps since the last row at which the prior acted"),
            Column(
                "steps_per_s",
                float,
                "environment steps per second, updates included, evaluations not; one thread on shared cores",
            ),
            Column("guide_share", float, "the guide's share of that time"),
            Column("wall_s", float, "of the run; of the part after its last cut, if it was cut"),
            Column("commit", about="of the code that measured it; with a + if it had been changed since"),
            Column("bundle", about="fingerprint of what the guide was made from; empty without one"),
        ),
        keys=("table", "study", "method", "task", "seed"),
        form="METHOD/TASK/SEED",
        label="{method}/{task}/{seed}".format_map,
    )


def scores(rows: Iterable[Mapping[str, Any]], method: str, steps: int) -> dict[str, NDArray[np.float64]]:
    """Success of a method after so many steps, by task, one number a seed in the order of seeds.

    What needs no training has the same score at every step.
    """
    pairs: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if row["method"] == method and row["steps"] in (0, steps):
            pairs[row["task"]].append((row["seed"], row["success"]))
    return {task: np.array([score for _, score in sorted(own)]) for task, own in pairs.items()}


def summary(rows: Sequence[Mapping[str, Any]], at: Iterable[int]) -> list[dict[str, Any]]:
    """One entry per method and number of steps: interquartile mean and plain mean, each with its 95 % interval.

    The interquartile mean is the robust one; the plain mean tells methods apart that fail on less than a quarter of the runs.
    """
    entries: list[dict[str, Any]] = []
    for method in dict.fromkeys(row["method"] for row in rows):
        trained = {row["steps"] for row in rows if row["method"] == method} != {0}
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


def steps_to(rows: list[Row], threshold: float) -> dict[tuple[str, str, int], int | None]:
    """First evaluation of each run (method, task, seed) at which success is at least the threshold, in steps; None if none is."""
    arrivals: dict[tuple[str, str, int], int | None] = {}
    for row in sorted(rows, key=lambda each: each["steps"]):
        key = (row["method"], row["task"], row["seed"])
        if arrivals.setdefault(key, None) is None and row["success"] >= threshold:
            arrivals[key] = row["steps"]
    return arrivals


def reach(rows: list[Row], threshold: float = 0.8) -> list[dict[str, Any]]:
    """By method: in how many runs success came to the threshold at an evaluation, and the median of the steps it took there."""
    arrivals = steps_to(rows, threshold)
    entries: list[dict[str, Any]] = []
    for method in dict.fromkeys(name for name, _, _ in arrivals):
        steps = [value for (name, _, _), value in arrivals.items() if name == method]
        came = [value for value in steps if value is not None]
        median = float(np.median(came)) if came else None
        entries.append({"method": method, "runs": len(steps), "reached": len(came), "median_steps": median})
    return entries


def sooner(rows: list[Row], ours: str, others: Sequence[str], threshold: float = 0.8) -> list[dict[str, Any]]:
    """On each task on which a run of another method ever came to the threshold: how many times fewer steps ours took, at least.

    Runs are evaluated now and then, and not all at the same steps: one came there after the last evaluation below the threshold (`their_least`) and
    by the first one at it (`our_steps`), and the ratio of these two is a bound that holds however runs were evaluated. Medians over all runs on the task; a run
    that never came there counts as infinite, and as its last evaluation in the bound.
    """
    entries: list[dict[str, Any]] = []
    for method in others:
        for task in dict.fromkeys(row["task"] for row in rows):
            of_task = [row for row in rows if row["task"] == task and row["steps"] > 0]
            mine, theirs = ([row for row in of_task if row["method"] == name] for name in (ours, method))
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


def _steps_below(rows: list[Row], threshold: float) -> list[int]:
    """Last evaluation of each run before its first at the threshold, in steps; 0 where there is none."""
    arrived = steps_to(rows, threshold)
    last = dict.fromkeys(arrived, 0)
    for row in rows:
        run, end = (row["method"], row["task"], row["seed"]), arrived[row["method"], row["task"], row["seed"]]
        if end is None or row["steps"] < end:
            last[run] = max(last[run], row["steps"])
    return list(last.values())


def _median(steps: Sequence[int | None]) -> float | None:
    """Of all runs, those that never came there counted as infinite; None where it is."""
    middle = float(np.median([np.inf if each is None else each for each in steps]))
    return middle if np.isfinite(middle) else None


def improvements(rows: list[Row], ours: str, steps: int) -> list[dict[str, Any]]:
    """Chance that a run of `ours` beats one of each other method on a task after so many steps; only tasks that both have."""
    mine = scores(rows, ours, steps)
    entries: list[dict[str, Any]] = []
    for method in dict.fromkeys(row["method"] for row in rows):
        theirs = scores(rows, method, steps)
        tasks = [task for task in mine if task in theirs]
        if method == ours or not tasks:
            continue
        chance, interval = probability_of_improvement([mine[t] for t in tasks], [theirs[t] for t in tasks])
        low, high = (None, None) if interval is None else (round(end, 4) for end in interval)
        entry = {"method": ours, "over": method, "steps": steps, "probability": round(chance, 4)}
        entries.append(entry | {"low": low, "high": high, "n_tasks": len(tasks)})
    return entries
