"""Rows of the frontier table: methods, columns, and means over tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from lago_skills.experiments.cells import Column, Row, Schema, optional_float, optional_int
from lago_skills.experiments.intervals import stratified_mean

CONTROLLERS = {
    f"{form}/controller-{gain:g}": (form, gain) for form in ("words", "numbers") for gain in (10.0, 20.0, 30.0)
}
N_PLANS = 7
"""Of a task: one in words, one in numbers, and at most five more in numbers."""
PLANS = {f"plan-{number}": number - 1 for number in range(1, N_PLANS + 1)}
SWITCHED, TRIED = "portfolio", "portfolio-20-episodes"
TRIED_BY_CONTROLLER = {f"controller-{gain:g}-portfolio-20-episodes": gain for gain in (10.0, 20.0, 30.0)}
"""The same plans in the same trial, followed by a controller of that gain."""
SEARCHED = "portfolio-search"
"""And its numbers searched then."""
TRIAL_EPISODES, SEARCH_STEPS = 20, 10_000
DEMOS = 3
"""Of the task itself, for those that learn from some."""
LEARNERS = {
    "guided-sac": "guided-sac",
    "portfolio-guided-sac": "guided-sac",
    "portfolio-search-guided-sac": "guided-sac",
    "sac": "sac",
    "rlpd": "rlpd",
    "ibrl": "ibrl",
}
SEARCHED_SAC = "portfolio-search-guided-sac"
WITH_PORTFOLIO: dict[str, dict[str, Any]] = {
    "portfolio-guided-sac": {},
    SEARCHED_SAC: {"keep_quickest": 20, "speed_share": 0.5},
}
"""Learners that first find their plan, and what differs from the study's settings."""
UNTRAINED = (
    "random",
    *CONTROLLERS,
    "words/library",
    "numbers/library",
    *TRIED_BY_CONTROLLER,
    SWITCHED,
    TRIED,
    SEARCHED,
    *PLANS,
)
METHODS = (*UNTRAINED, *LEARNERS)
USUAL = ("random", "words/controller-10", "numbers/controller-30", "words/library", "numbers/library", SWITCHED, TRIED)
"""What is measured where nobody says what."""
POLICY = "policy"
SCHEMA = Schema(
    "frontier",
    (
        Column("table"),
        Column("study"),
        Column("task"),
        Column("level", about="group of tasks: `ten` are demonstrated"),
        Column("method"),
        Column(
            "steps",
            int,
            "environment steps of the task before this measurement, those in which plans were tried among them",
        ),
        Column("seed", int),
        Column("success", float),
        Column(
            "success_last", optional_float, "at the horizon's last step; of evaluations on the way it is not measured"
        ),
        Column("steps_to_success", optional_float, "mean control steps up to the first success, or the horizon"),
        Column(
            "leader",
            about="who leads the episodes: `prior`, `mix` or `policy`; of a learner's last evaluation there is one row for `policy` too",
        ),
        Column("plan", about="name of the plan that is followed"),
        Column(
            "episodes_to_first_success",
            optional_int,
            "of the task, before or in training; empty where there was none",
        ),
        Column("demos", int, "demonstrations of the task itself"),
        Column("episodes", int),
        Column("wall_s", float),
        Column("commit"),
        Column("bundle"),
    ),
    keys=("table", "study", "method", "task", "seed"),
    form="METHOD/TASK/SEED",
    label="{method}/{task}/{seed}".format_map,
)


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry per (method, group, leader, steps to the next thousand): means over tasks, success with its 95 % interval over seeds."""
    groups: defaultdict[tuple[str, str, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        steps = 0 if row["method"] in UNTRAINED else -(-row["steps"] // 1000) * 1000
        groups[row["method"], row["level"], row["leader"], steps].append(row)
    entries: list[dict[str, Any]] = []
    for (method, level, leader, steps), members in groups.items():
        by_task: defaultdict[str, list[Row]] = defaultdict(list)
        for row in members:
            by_task[row["task"]].append(row)
        mean, ends = stratified_mean([np.array([row["success"] for row in own]) for own in by_task.values()])
        low, high = ends or (None, None)
        entries.append(
            {
                "method": method,
                "level": level,
                "leader": leader,
                "steps": steps,
                "success": round(mean, 4),
                "low": low if low is None else round(low, 4),
                "high": high if high is None else round(high, 4),
                "least": min(row["success"] for row in members),
                "success_last": _mean([row["success_last"] for row in members]),
                "steps_to_success": _mean([row["steps_to_success"] for row in members]),
                "tasks": len(by_task),
                "seeds": min(len(own) for own in by_task.values()),
            }
        )
    order = {name: number for number, name in enumerate(METHODS)}
    return sorted(entries, key=lambda e: (e["level"], order[e["method"]], e["steps"], e["leader"]))


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean where all are known."""
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if known and len(known) == len(values) else None
