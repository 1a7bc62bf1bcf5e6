"""The tables of altered Meta-World in the documents, made from results on record."""

from __future__ import annotations

import numpy as np

from lago_skills.experiments.cells import Row
from lago_skills.experiments.tables import zero_shot
from lago_skills.worlds.metaworld_altered.tasks import ORIGINALS
from lago_skills.worlds.metaworld_altered.world import SCRIPT, STRAIGHT
from tests.doc_tables import on_record

STUDIES = {"in words": "metaworld-altered", "in numbers": "metaworld-altered-numbers"}
WITHOUT_PLANS = ("random", STRAIGHT, SCRIPT, "bc-text", "scripted")
MEAN_OF_REST = f"mean of those that `{STRAIGHT}` does not solve"
BY_PLANS = (*zero_shot.GAINS, "random-library", "library")


def without_plans() -> str:
    """Success by altered task of what follows no plan, at any step and at the last one, in Markdown."""
    return _table("metaworld-altered", WITHOUT_PLANS, beside=(STRAIGHT, "bc-text"))


def by_plans() -> str:
    """The same of what follows plans, in words and in numbers, and beside it the library on the task that was altered."""
    return "\n\n".join(
        f"Plans {form}:\n\n{_table(study, BY_PLANS, beside=('library',))}" for form, study in STUDIES.items()
    )


def _table(study: str, methods: tuple[str, ...], beside: tuple[str, ...]) -> str:
    rows = [row for row in on_record(zero_shot.SCHEMA) if row["study"] == study]
    if not any(row["method"] in methods for row in rows):
        return "(nothing on record yet)"
    heads = (*methods, *(f"{method}, unaltered" for method in beside))
    lines = [f"| task | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    told = tuple(task for task in ORIGINALS if task not in solved_straight())
    for name, tasks in (*((task, (task,)) for task in ORIGINALS), ("mean", tuple(ORIGINALS)), (MEAN_OF_REST, told)):
        cells = [_success(rows, method, tasks) for method in methods]
        cells += [_success(rows, method, tuple(ORIGINALS[task] for task in tasks)) for method in beside]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def solved_straight() -> set[str]:
    """Altered tasks that whoever heads straight for the object and on to the goal mostly solves."""
    rows = [row for row in on_record(zero_shot.SCHEMA) if row["method"] == STRAIGHT and row["task"] in ORIGINALS]
    return {row["task"] for row in rows if row["success"] > 0.5}


def _success(rows: list[Row], method: str, tasks: tuple[str, ...]) -> str:
    """Mean over tasks of the mean over their seeds, at any step, and at the last one in brackets; empty until every task has been measured."""
    by_task = [[row for row in rows if row["method"] == method and row["task"] == task] for task in tasks]
    if not all(by_task):
        return ""
    means = (np.mean([np.mean([row[name] for row in own]) for own in by_task]) for name in ("success", "success_last"))
    return "{:.2f} ({:.2f})".format(*means)
