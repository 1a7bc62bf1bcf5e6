"""`lago bundle`: make what a robot loads, look into it, verify it, compare two of them."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lago_skills.errors import StudyError

if TYPE_CHECKING:
    from lago_skills.guide.description import Json


def bundle_command(options: argparse.Namespace) -> int:
    """`lago bundle make|inspect|verify|diff|onnx`; 1 where a comparison finds differences."""
    if options.action == "make":
        _make(options)
        return 0
    if options.action == "diff":
        return _diff(options)
    if options.action == "onnx":
        _onnx(options)
        return 0
    from lago_skills.guide.inspection import inspected, verified

    path = Path(options.what)
    rows, summary, lines = (verified if options.action == "verify" else inspected)(path)
    _show(rows, summary, lines, as_json=options.json)
    return 0


def _make(options: argparse.Namespace) -> None:
    from lago_skills.stages.bundles import make
    from lago_skills.stages.workspace import Workspace
    from lago_skills.study import load_study, study_path

    root = options.root.resolve()
    file = study_path(options.what, root)
    space = Workspace(root, file.resolve(), load_study(file))
    made = make(space, options.to or Path(f"{space.study.name}.zip"), trained=options.trained)
    summary = {
        "bundle": made.digest,
        "path": str(made.path),
        "bytes": made.n_bytes,
        "tasks": made.n_tasks,
        "skills": made.n_skills,
    }
    line = f"{made.path}: {made.n_tasks} tasks, {made.n_skills} skills, {made.n_bytes / 1e6:.2f} MB, {made.digest[:12]}"
    _show(
        [summary],
        summary,
        [
            line,
            *(f"{task}: led by the policy of {run}" for task, run in made.policies.items()),
            f"look into it: lago bundle inspect {made.path}",
            f"serve it: lago serve {made.path}",
        ],
        as_json=options.json,
    )


def _onnx(options: argparse.Namespace) -> None:
    from lago_skills.guide.loaded import load
    from lago_skills.guide.onnx_export import export

    with closing(load(Path(options.what))) as guide:
        task = guide.task(options.task, library_alone=True).name
        path = options.to or Path(f"{task}.onnx")
        export(guide, task, path)
        size, digest = path.stat().st_size, guide.digest
    line = f"{path}: task {task} of bundle {digest[:12]}, {size / 1e6:.2f} MB; observation in, action, prior, step and unfamiliarity out"
    summary = {"task": task, "path": str(path), "bytes": size, "bundle": digest}
    _show([summary], summary, [line], as_json=options.json)


def _diff(options: argparse.Namespace) -> int:
    from lago_skills.guide.inspection import differences

    if options.other is None:
        raise StudyError(
            "found one bundle to compare; expected two; name the later one too: lago bundle diff BUNDLE BUNDLE"
        )
    rows = differences(Path(options.what), options.other)
    lines = [f"{row['what']}: {row['before']} -> {row['after']}" for row in rows] or ["no difference"]
    _show(rows, {"differences": len(rows)}, lines, as_json=options.json)
    return 1 if rows else 0


def _show(rows: list[Json], summary: dict[str, Any], lines: list[str], *, as_json: bool) -> None:
    print(json.dumps({"rows": rows, "summary": summary}) if as_json else "\n".join(lines))  # noqa: T201
