"""The frontier table in the documents, made from results on record."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean

from lago_skills.experiments.cells import Row
from lago_skills.experiments.tables import frontier_rows
from lago_skills.experiments.tables.frontier_rows import METHODS, POLICY, UNTRAINED
from tests.doc_tables import on_record

LIBRARIES = {
    "frontier": "ten tasks, 5 demonstrations each",
    "frontier-five": "five tasks, 5 demonstrations each",
    "frontier-one": "ten tasks, 1 demonstration each",
}
GROUPS = ("eight", "twelve")


def means() -> str:
    """Means over the tasks of each group, in Markdown; learners at the end of their runs."""
    lines = [
        "| library | method | led by | eight | twelve | least of any task and seed | steps to success | at the last step | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for study, about in LIBRARIES.items():
        rows = [row for row in on_record(frontier_rows.SCHEMA) if row["study"] == study]
        for method in METHODS:
            for leader in ("", POLICY):
                own = list(_last(row for row in rows if row["method"] == method and _is_led(row, leader)))
                if own and not method.startswith("plan-"):
                    lines.append(f"| {about} | {method} | {leader} | {_cells(own)} |")
    return "\n".join(lines)


def _is_led(row: Row, leader: str) -> bool:
    """Learners have a row for whoever leads, and one for the policy alone, which may be the same."""
    if row["method"] in UNTRAINED:
        return not leader
    return row["success_last"] is not None and (row["leader"] == POLICY if leader else True)


def _last(rows: Iterable[Row]) -> Iterable[Row]:
    """The first of the rows of each cell: with the leader that a run chose."""
    seen: set[str] = set()
    for row in rows:
        if row.cell.name not in seen:
            seen.add(row.cell.name)
            yield row


def _cells(rows: list[Row]) -> str:
    shares = [_mean([row["success"] for row in rows if row["level"] == level]) for level in GROUPS]
    by_task = {row["task"]: sum(other["task"] == row["task"] for other in rows) for row in rows}
    steps, last = (
        [row[name] for row in rows if row[name] is not None] for name in ("steps_to_success", "success_last")
    )
    least = min(rows, key=lambda row: row["success"])
    named = f"{least['success']:.2f} ({least['task']})" if least["success"] < 1.0 else "1.00"
    return " | ".join([*shares, named, f"{mean(steps):.0f}", f"{mean(last):.2f}", str(min(by_task.values()))])


def _mean(values: list[float]) -> str:
    return f"{mean(values):.2f}" if values else ""


def by_task() -> str:
    """Success of one plan in words and in numbers and of the portfolio, task by task, in Markdown, means over seeds."""
    rows = [row for row in on_record(frontier_rows.SCHEMA) if row["study"] == "frontier"]
    methods = ("words/library", "numbers/library", "portfolio", "portfolio-20-episodes")
    lines = ["| task | " + " | ".join(methods) + " | plan that leads then |", "|---" * (len(methods) + 2) + "|"]
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        shares = [_mean([row["success"] for row in own if row["method"] == method]) for method in methods]
        led = dict.fromkeys(row["plan"] for row in own if row["method"] == methods[-1])
        lines.append(f"| {task} | {' | '.join(shares)} | {', '.join(led)} |")
    return "\n".join(lines)
