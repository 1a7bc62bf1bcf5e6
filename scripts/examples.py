"""data/results/examples.csv: what the training runs of the example studies came to, from their artifacts, once `lago run` has made them.

`python -m scripts.examples STUDY ...` puts the rows of these studies in the place of those that were there; the table in the documents is made from the file.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

from lago_skills.artifacts.folder import verify
from lago_skills.stages import build, evaluate, train
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.study import study_path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "data/results/examples.csv"
COLUMNS: tuple[str, ...] = (
    "study",
    "task",
    "method",
    "seed",
    "steps",
    "alone",
    "success",
    "return",
    "episodes",
    "rule",
)
Row = dict[str, Any]
N_ALONE = 50
"""Episodes of the library alone."""


def rows_of(space: Workspace) -> list[Row]:
    """A row per run; `alone` is what the library does there without any training."""
    rows: list[Row] = []
    guide = build.guide(space.artifact("bundle"), space.study.grounding)
    alone = {
        task.id: [each.success for each in evaluate.play(space.world, task, guide, N_ALONE, lambda done, note: None)]
        for task in space.study.find(space.study.train.tasks)
    }
    for run in train.training_runs(space.study):
        folder = space.artifact("runs", run.name)
        figures = verify(folder).summary
        own = {
            name: figures[name] for name in ("task", "method", "seed", "steps", "success", "return", "episodes", "rule")
        }
        rows.append({"study": space.study.name, "alone": round(sum(alone[run.task.id]) / N_ALONE, 4), **own})
    return rows


def main(names: list[str]) -> None:
    """Write the rows of these studies, and keep the others'."""
    kept: list[Row] = []
    if RESULTS.exists():
        with RESULTS.open(encoding="utf-8") as stream:
            kept = [row for row in csv.DictReader(stream) if row["study"] not in names]
    made = [row for name in names for row in rows_of(open_workspace(ROOT, study_path(name, ROOT)))]
    with RESULTS.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, COLUMNS)
        table.writeheader()
        table.writerows(
            sorted([*kept, *made], key=lambda row: (row["study"], row["task"], row["method"], int(row["seed"])))
        )
    print(json.dumps({"rows": len(kept) + len(made), "file": str(RESULTS)}))


if __name__ == "__main__":
    main(sys.argv[1:])
