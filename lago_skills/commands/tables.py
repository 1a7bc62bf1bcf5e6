"""What tables of experiments say, on paper: `lago evaluate STUDY --table` and `lago report STUDY --table`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from lago_skills.errors import StudyError
from lago_skills.experiments.registry import TRAINING_TABLES, find_table

if TYPE_CHECKING:
    from lago_skills.experiments.table import Grid, Repetition, Results
    from lago_skills.stages.workspace import Workspace

MIN_WIDTH = 140
"""Characters of a printed line: a number that is cut off says something else."""


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def print_results(results: Results, *, as_json: bool) -> None:
    """One JSON object, or grids and lines for people."""
    if results.mixed:
        say(
            f"cells of {'; '.join(results.mixed)} were made from different decoders or playbooks (column bundle); remove the older rows "
            "to measure them again"
        )
    if as_json:
        print(json.dumps({"rows": [dict(row) for row in results.rows], "summary": results.summary}))  # noqa: T201
        return
    from rich.console import Console

    console = Console(width=max(Console().width, MIN_WIDTH))
    for number, part in enumerate(results.printed):
        if isinstance(part, str):
            print(part)  # noqa: T201
            continue
        if number and not isinstance(results.printed[number - 1], str):
            print()  # noqa: T201
        console.print(_table(part))


def print_repetition(repetition: Repetition, *, as_json: bool) -> None:
    """One JSON object, or lines for people."""
    for warning in repetition.warnings:
        say(warning)
    lines = [json.dumps(repetition.record)] if as_json else repetition.lines
    print("\n".join(lines))  # noqa: T201


def _table(grid: Grid) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in grid.columns:
        table.add_column(name, no_wrap=not grid.wrap, overflow="fold" if grid.wrap else "ellipsis")
    for line in grid.lines:
        table.add_row(*line)
    return table


def report_table(space: Workspace, name: str, *, as_json: bool) -> None:
    """Print what the cells on record say; of training runs, write a page of their curves too.

    Raises:
        StudyError: none has been measured.
    """
    from lago_skills.experiments.tables import training_runs
    from lago_skills.report.table_page import write_page

    if name in TRAINING_TABLES:
        table = training_runs.table(space, name)
        rows = table.rows()
    else:
        table = find_table(name)(space, say)
        rows = [row for row in table.file.rows() if row.get("study") in (None, space.study.name)]
    if not rows:
        raise StudyError(
            f"found no row of study {space.study.name!r} in {str(table.file.path)!r}; expected some; measure them: lago evaluate "
            f"{space.study.name} --table {name}"
        )
    print_results(table.results(rows), as_json=as_json)
    if not as_json and name in TRAINING_TABLES:
        print(f"page: {write_page(space.artifact('tables'), space.study.name, name, rows)}")  # noqa: T201
