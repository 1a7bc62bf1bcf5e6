"""A study as documents: its numbers with intervals, its curves, what failed and why, and where every number comes from."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from lago_skills.artifacts.folder import read_manifest
from lago_skills.errors import ArtifactMissing, PlanError, TranscriptMissing
from lago_skills.experiments.tables import training_runs as tables
from lago_skills.experiments.tables.specs import SPECS
from lago_skills.explorer.source import Json, rounded
from lago_skills.report import study_page, table_page
from lago_skills.rl.runlog import CURVE_FILE
from lago_skills.stages import approval
from lago_skills.stages.lineage import Lineage
from lago_skills.stages.train import training_runs
from lago_skills.stages.workspace import Workspace

UNFINISHED = "unfinished"
"""Where runs keep their log until they are done."""
MOST_POINTS = 400


T = TypeVar("T")


def optional(make: Callable[[], T]) -> T | None:
    """What a study has, or None while it has not come so far."""
    try:
        return make()
    except (ArtifactMissing, TranscriptMissing, PlanError):
        return None


def study(space: Workspace, lint: Mapping[str, Json]) -> Json:
    """The study's tables, and what is not done yet; `lint` by task."""
    rows, summary = study_page.results(space, finished_only=True)
    lineage = Lineage.of(space)
    return {
        "study": space.study.name,
        "file": str(space.study_file.name),
        "rows": rows,
        "summary": summary,
        "missing": missing(space),
        "failures": failures(lint, rows),
        "tables": _tables(space),
        "waiting": waiting(space),
        "lineage": {
            "nodes": [
                {"name": node.name, "digest": node.digest[:12], "about": node.about} for node in lineage.nodes.values()
            ],
            "made_from": lineage.made_from,
        },
    }


def missing(space: Workspace) -> list[str]:
    """Artifacts that the study asks for and that are not there yet."""
    folders = {f"episodes/{task}": folder for task, folder in space.collected.items()}
    folders |= {name: space.artifact(name) for name in ("playbooks", "segments", "decoder", "bundle")}
    folders |= {f"zero-shot/{task.id}": space.artifact("zero-shot", task.id) for task in space.study.unseen}
    folders |= {f"runs/{run.name}": space.artifact("runs", run.name) for run in training_runs(space.study)}
    return [name for name, folder in folders.items() if read_manifest(folder) is None]


def failures(lint: Mapping[str, Json], rows: list[Json]) -> list[Json]:
    """Tasks that never succeeded, with what lint found in their plans."""
    failed: list[Json] = []
    for row in rows:
        if row["success"] > 0.0:
            continue
        found = lint.get(row["task"], {}).get("findings", [])
        failed.append(
            {name: row[name] for name in ("task", "method", "seed", "episodes")}
            | {"why": [f"step {each['step']}: {each['text']}" for each in found][:6]}
        )
    return failed


def waiting(space: Workspace) -> list[Json]:
    """What a person has to approve before it is used."""
    rows: list[Json] = []
    for what in space.study.approve:
        held = optional(lambda what=what: approval.held(space, what))
        if held is not None:
            rows.append(
                {
                    "what": held.what,
                    "digest": held.digest,
                    "difference": list(held.difference[: approval.MAX_LINES]),
                    "findings": list(held.findings),
                    "rejected": None if held.rejected is None else f"{held.rejected.by}: {held.rejected.comment}",
                }
            )
    return rows


def _tables(space: Workspace) -> list[Json]:
    """Tables of training runs that are on record about this study."""
    shown: list[Json] = []
    for name, rows in table_page.on_record(space).items():
        if rows:
            entries, summary = tables.findings(name, SPECS[name], rows)
            shown.append({"name": name, "question": summary["question"], "rows": entries})
    return shown


def curves(space: Workspace) -> Json:
    """Success over steps of every run, those at work among them."""
    runs: list[Json] = []
    for run in training_runs(space.study):
        for state, folder in (
            ("finished", space.artifact("runs", run.name)),
            ("running", space.artifact(UNFINISHED, run.name)),
        ):
            points = read_curve(folder / CURVE_FILE)
            if points is not None:
                facts = {"name": run.name, "task": run.task.id, "method": run.algorithm, "seed": run.seed}
                runs.append(facts | {"state": state, **points})
                break
    return {"runs": runs}


COLUMNS = {
    "success": "eval/success",
    "return": "eval/return",
    "trained": "train/success",
    "prior_share": "train/prior_share",
    "fade": "train/fade",
    "speed": "time/steps_per_s",
}
"""What is shown of a curve, and what its log calls it."""


def read_curve(path: Path) -> Json | None:
    """`step` and the columns of a run's log, evenly thinned; None where there is none, or it is being written."""
    try:
        with path.open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        rows = rows[:: max(len(rows) // MOST_POINTS, 1)]
        known = {name: key for name, key in COLUMNS.items() if rows and key in rows[0]}
        return {
            "step": [int(float(row["step"])) for row in rows],
            **{name: rounded([float(row[key]) for row in rows]) for name, key in known.items()},
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None
