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
BY_PLANS = (*zero_shot.GAINS, "random-library", "library")


def without_plans() -> str:
    """Success by altered task of what follows no plan, at any step and at the last one, in Markdown."""
    return _table("metaworld-altered", WITHOUT_PLANS)


def by_plans() -> str:
    """The same of what follows plans, in words and in numbers, and beside it the library on the task that was altered."""
    return "\n\n".join(
        f"Plans {form}:\n\n{_table(study, BY_PLANS, beside='library')}" for form, study in STUDIES.items()
    )


def _table(study: str, methods: tuple[str, ...], beside: str = "") -> str:
    rows = [row for row in on_record(zero_shot.SCHEMA) if row["study"] == study]
    more = (f"{beside}, unaltered",) if beside else ()
    lines = [f"| task | {' | '.join((*methods, *more))} |", f"|---|{'---|' * (len(methods) + len(more))}"]
    for task, original in ORIGINALS.items():
        cells = [_success(rows, method, (task,)) for method in methods]
        lines.append(f"| {task} | {' | '.join([*cells, *(_success(rows, beside, (original,)) for _ in more)])} |")
    cells = [_success(rows, method, tuple(ORIGINALS)) for method in methods]
    cells += [_success(rows, beside, tuple(ORIGINALS.values())) for _ in more]
    return "\n".join([*lines, f"| mean | {' | '.join(cells)} |"])


def _success(rows: list[Row], method: str, tasks: tuple[str, ...]) -> str:
    """Mean over tasks and seeds at any step, and at the last one in brackets; empty until every task has been measured."""
    own = [row for row in rows if row["method"] == method and row["task"] in tasks]
    if {row["task"] for row in own} != set(tasks):
        return ""
    return f"{np.mean([row['success'] for row in own]):.2f} ({np.mean([row['success_last'] for row in own]):.2f})"
