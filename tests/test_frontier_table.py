"""Rows of the frontier table become means over tasks; learners have one entry for whoever leads and one for the policy."""

from __future__ import annotations

from typing import Any

from lago_skills.experiments.cells import Row
from lago_skills.experiments.tables.frontier_rows import SCHEMA, summary


def row(task: str, method: str, success: float, **values: Any) -> Row:
    known: dict[str, Any] = {
        "study": "small",
        "level": "twelve",
        "steps": 0,
        "seed": 0,
        "success_last": None,
        "steps_to_success": None,
        "leader": "prior",
        "plan": "",
        "episodes_to_first_success": None,
        "demos": 0,
        "episodes": 20,
        "wall_s": 1.0,
        "commit": "abc",
        "bundle": "",
    }
    return SCHEMA.row(task=task, method=method, success=success, **(known | values))


def test_means_are_over_tasks_and_the_least_of_them_is_said() -> None:
    rows = [
        row("sweep", "portfolio", 1.0, success_last=0.5, steps_to_success=60.0),
        row("sweep", "portfolio", 0.8, seed=1, success_last=0.5, steps_to_success=80.0),
        row("hammer", "portfolio", 0.1, success_last=0.1, steps_to_success=190.0),
        row("hammer", "portfolio", 0.3, seed=1, success_last=0.1, steps_to_success=150.0),
    ]
    (entry,) = summary(rows)
    assert (entry["success"], entry["least"], entry["tasks"], entry["seeds"]) == (0.55, 0.1, 2, 2)
    assert (entry["success_last"], entry["steps_to_success"]) == (0.3, 120.0)
    assert entry["low"] <= 0.55 <= entry["high"]


def test_runs_of_unlike_trials_are_counted_to_the_next_thousand_steps() -> None:
    rows = [
        row("sweep", "portfolio-guided-sac", 0.5, steps=4_620, leader=""),
        row("hammer", "portfolio-guided-sac", 0.7, steps=4_130, leader=""),
        row("sweep", "portfolio-guided-sac", 1.0, steps=20_010, leader="mix", success_last=1.0),
        row("sweep", "portfolio-guided-sac", 0.9, steps=20_010, leader="policy", success_last=0.9),
        row("sweep", "portfolio-20-episodes", 1.0, steps=1_711),
    ]
    named = {(e["method"], e["steps"], e["leader"]): e["success"] for e in summary(rows)}
    assert named == {
        ("portfolio-20-episodes", 0, "prior"): 1.0,
        ("portfolio-guided-sac", 5_000, ""): 0.6,
        ("portfolio-guided-sac", 21_000, "mix"): 1.0,
        ("portfolio-guided-sac", 21_000, "policy"): 0.9,
    }
    assert next(e for e in summary(rows) if e["leader"] == "")["success_last"] is None, "it is not measured on the way"
