"""Versions of a grown library: shown, and gone back to."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lago_skills.grow.versions import Versions


def rollback(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any], list[str]]:
    """`lago skills rollback STUDY NUMBER`: rows, summary and lines.

    Raises:
        StudyError: there is no such version.
        ArtifactCorrupt: it is damaged; the one before stays in use.
    """
    version = Versions(options.root / "checkpoints" / Path(options.library).stem / "grown").use(options.number)
    return [], {"version": version.number}, [f"version {version.number} is in use: {version.folder}"]


def print_versions(versions: Versions, *, as_json: bool) -> None:
    """`lago grow STUDY --list`: a row for each version, and which one is in use."""
    current = versions.current
    rows = [
        {
            name: each.growth.get(name)
            for name in ("number", "verdict", "task", "success", "skills", "refreshed", "seconds")
        }
        | {
            "in_use": current is not None and each.number == current.number,
            "tidied": len(each.growth.get("tidied", [])),
            "named": len(each.growth.get("named", [])),
        }
        for each in versions.all()
    ]
    if as_json:
        print(json.dumps({"rows": rows, "summary": {"versions": len(rows)}}))  # noqa: T201
        return
    for row in rows:
        mark = "*" if row["in_use"] else " "
        what = f"- {row['tidied']} skills" if row["tidied"] else "as built"
        if row["named"]:
            what = f"+ {row['named']} kinds of motion named"
        if row["task"]:
            what = f"+ {row['task']} ({row['success']:.2f})"
        print(f"{mark} {row['number']:>4}  {row['verdict']:<9} {row['skills']:>4} skills  {what}")  # noqa: T201
    if not rows:
        print("no versions yet: lago grow STUDY --task TASK makes the first one")  # noqa: T201
