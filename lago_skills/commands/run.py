"""`lago run STUDY` and `lago report STUDY`: every stage of a study, and what came out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from lago_skills.commands import terminal
from lago_skills.commands.stages import STAGES, first_unfinished, require_earlier
from lago_skills.errors import ApprovalNeeded, LagoError
from lago_skills.report import study_page
from lago_skills.stages.workspace import Workspace

RunStages = Callable[[Workspace, Sequence[str]], None]
"""Runs stages of a study in order."""


def run_command(space: Workspace, run_stages: RunStages, *, as_json: bool, shared: bool = False) -> None:
    """Run the stages that are not finished and print the study's table; where artifacts are shared through a store, finished stages are put there.

    With `as_json` one object is printed whatever happens: its summary's `state` is `done`, `waiting` (for approval) or `failed`, with the
    sentence of the error.

    Raises:
        LagoError: what a stage raised.
    """
    try:
        first = first_unfinished(space)  # before any server is started
        if shared:
            run_stages(space, list(STAGES))
        elif first is None:
            print(f"{space.study.name}: all stages are already done, nothing to run", file=sys.stderr)  # noqa: T201
        else:
            names = list(STAGES)
            run_stages(space, names[names.index(first) :])
        rows, summary = study_page.results(space)
    except LagoError as error:
        if as_json:
            state = "waiting" if isinstance(error, ApprovalNeeded) else "failed"
            _print_json([], {"study": space.study.name, "state": state, "error": str(error)})
        raise
    if as_json:
        _print_json(rows, {**summary, "state": "done", "report": str(_page(space))})
        return
    print_table(rows)
    print(json.dumps(summary))  # noqa: T201
    print(f"report: {_page(space)}")  # noqa: T201


def report_command(space: Workspace, run_stages: RunStages, *, as_json: bool, shared: bool = False) -> None:
    """Make the report, unless it is there, and print the study's table; where artifacts are shared through a store, it is fetched from there or put there.

    Raises:
        LagoError: a stage before is not done, or what the report raised.
    """
    if not shared:
        require_earlier(space, "report")
    if shared or not all(job.done for job in study_page.jobs(space)):
        run_stages(space, ["report"])
    rows, summary = study_page.results(space)
    if as_json:
        _print_json(rows, summary)
        return
    print_table(rows)
    print(f"report: {_page(space)}")  # noqa: T201


def _page(space: Workspace) -> Any:
    return space.artifact("report") / study_page.REPORT_FILE


def _print_json(rows: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    print(json.dumps({"rows": rows, "summary": summary}))  # noqa: T201


def print_table(rows: list[dict[str, Any]]) -> None:
    """A study's table for people."""
    lines = [
        (
            row["task"],
            row["method"],
            f"{row['steps']:,}",
            "" if row["seed"] is None else str(row["seed"]),
            f"{row['success']:.2f}",
            str(row["episodes"]),
            f"{row['leader']} ({row['plan_from']})" if row.get("plan_from") else row.get("leader") or "",
        )
        for row in rows
    ]
    terminal.print_table(("task", "method", "steps", "seed", "success", "episodes", "led by"), lines)
