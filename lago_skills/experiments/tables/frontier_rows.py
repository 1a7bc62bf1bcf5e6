"""Rows of the frontier table: methods, columns, and means over tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from lago_skills.core import PlanForm
from lago_skills.experiments.cells import Column, Row, Schema, optional_float, optional_int
from lago_skills.experiments.intervals import stratified_mean

GAINS = (10.0, 20.0, 30.0)
CONTROLLERS: dict[str, tuple[PlanForm, float]] = {
    **{f"words/controller-{gain:g}": ("words", gain) for gain in GAINS},
    **{f"numbers/controller-{gain:g}": ("numbers", gain) for gain in GAINS},
}
N_PLANS = 7
"""Of a task: one in words, one in numbers, and at most five more in numbers."""
PLANS = {f"plan-{number}": number - 1 for number in range(1, N_PLANS + 1)}
SWITCHED, TRIED = "portfolio", "portfolio-20-episodes"
TRIAL_EPISODES, EXPLORE_STEPS, SEARCH_STEPS = 20, 10_000, 10_000
DEMOS = 3
"""Of the task itself, for those that learn from some."""
OVERTAKING: dict[str, Any] = {"follow_weight": 4.0, "observe_prior": False, "keep_quickest": 20, "speed_share": 0.5}
"""A policy that needs no library to act: drawn to the prior wherever it comes, and to its own quickest successes."""
N_WRONG = 3
AT_END: dict[str, Any] = {"reward_scale": 0.01}


@dataclass(frozen=True)
class Found:
    """A method that follows a plan which it finds in episodes of the task, and learns nothing else."""

    plans: Literal["portfolio", "numbers", "portfolio in numbers"] = "portfolio"
    explore_steps: int = 0
    search_steps: int = 0
    n_steps: int | None = None
    """In all, as of a run; None where only exploration and search have a limit of their own."""
    success_at_end: bool = False
    gain: float | None = None
    """Of the controller that follows the plans in the library's place."""
    noise: str = ""
    """On every offset and threshold of every plan, such as "2 cm"."""


FOUND: dict[str, Found] = {
    **{f"controller-{gain:g}-portfolio-20-episodes": Found(gain=gain) for gain in GAINS},
    TRIED: Found(),
    "portfolio-20-episodes-at-end": Found(success_at_end=True),
    "numbers/explored": Found("numbers", EXPLORE_STEPS),
    "portfolio-search": Found("portfolio", EXPLORE_STEPS, SEARCH_STEPS),
    "noise-2cm/numbers": Found("numbers", noise="2 cm"),
    "noise-2cm/portfolio-20-episodes": Found("portfolio in numbers", noise="2 cm"),
    "noise-2cm/portfolio-5000-steps": Found("portfolio in numbers", EXPLORE_STEPS, SEARCH_STEPS, 5_000, noise="2 cm"),
}


@dataclass(frozen=True)
class Learner:
    """A method that trains."""

    plans: Literal["words", "numbers", "portfolio", "cloned", "none", "one wrong", "all wrong", "contradicting"]
    """Who advises: the one plan of a form, the best of all, a policy cloned from demonstrations of the task, or nobody; or of bad portfolios: the plan in numbers of
    another task, those of three others, or the right one and one that is headed to the other side of everything."""
    algorithm: str = "guided-sac"
    explore_steps: int = 0
    search_steps: int = 0
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    """What differs from the study's."""
    success_at_end: bool = False

    @property
    def demos(self) -> int:
        """Demonstrations of the task itself that it has."""
        return DEMOS if self.algorithm in ("rlpd", "ibrl") else 0


WHOLE = Learner("portfolio", "guided-sac", EXPLORE_STEPS, SEARCH_STEPS, OVERTAKING)
ALL_PARTS = "portfolio-search-guided-sac"
LEARNERS: dict[str, Learner] = {
    "guided-sac": Learner("words"),
    "numbers-guided-sac": Learner("numbers"),
    "explored-guided-sac": Learner("numbers", explore_steps=EXPLORE_STEPS),
    "portfolio-guided-sac": Learner("portfolio"),
    ALL_PARTS: WHOLE,
    "without-portfolio": replace(WHOLE, plans="numbers"),
    "without-portfolio-and-exploration": replace(WHOLE, plans="numbers", explore_steps=0),
    "without-search": replace(WHOLE, search_steps=0),
    "without-following": replace(WHOLE, settings=OVERTAKING | {"follow_weight": 0.0}),
    "without-speed": replace(WHOLE, settings=OVERTAKING | {"keep_quickest": None, "speed_share": 0.0}),
    "portfolio-search-guided-sac-at-end": replace(WHOLE, settings=OVERTAKING | AT_END, success_at_end=True),
    "one-wrong-plan": replace(WHOLE, plans="one wrong"),
    "all-plans-wrong": replace(WHOLE, plans="all wrong"),
    "contradicting-plans": replace(WHOLE, plans="contradicting"),
    "sac": Learner("none", "sac"),
    "rlpd": Learner("none", "rlpd"),
    "ibrl": Learner("cloned", "ibrl"),
}
FORMS: dict[str, PlanForm] = {"words/library": "words", "numbers/library": "numbers"}
"""Methods that follow one plan as it is."""
UNTRAINED = ("random", *CONTROLLERS, *FORMS, SWITCHED, *FOUND, *PLANS)
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
    form="STUDY/METHOD/TASK/SEED",
    label="{study}/{method}/{task}/{seed}".format_map,
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
