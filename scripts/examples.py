"""data/results/examples.csv: what the training runs of the example studies came to, from their artifacts, once `lago run` has made them.

`python -m scripts.examples STUDY ...` puts the rows of these studies in the place of those that were there; the table in the documents is made from the file.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from lago_skills.artifacts.folder import verify
from lago_skills.experiments.table import commit
from lago_skills.rl.runlog import CURVE_FILE
from lago_skills.stages import evaluate, portfolios, train
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
    "on_the_way",
    "commit",
)
Row = dict[str, Any]
N_ALONE = 50
"""Episodes of the library alone."""


def rows_of(space: Workspace, commit: str) -> list[Row]:
    """A row per run; `alone` is what the library does there without any training, `on_the_way` the mean success of the evaluations during it."""
    rows: list[Row] = []
    alone = {
        task.id: [
            each.success
            for each in evaluate.play(
                space.world, task, portfolios.plans_of(space, task), N_ALONE, lambda done, note: None
            )
        ]
        for task in space.study.find(space.study.train.tasks)
    }
    for run in train.training_runs(space.study):
        folder = space.artifact("runs", run.name)
        figures = verify(folder).summary
        own = {
            name: figures[name] for name in ("task", "method", "seed", "steps", "success", "return", "episodes", "rule")
        }
        with (folder / CURVE_FILE).open(encoding="utf-8") as stream:
            course = [float(row["eval/success"]) for row in csv.DictReader(stream) if int(row["step"])]
        rows.append(
            {
                "study": space.study.name,
                "alone": round(sum(alone[run.task.id]) / N_ALONE, 4),
                **own,
                "on_the_way": round(sum(course) / len(course), 4),
                "commit": commit,
            }
        )
    return rows


def main() -> None:
    """Write the rows of these studies, and keep the others'."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+")
    parser.add_argument("--root", type=Path, default=ROOT, help="where the runs lie, if not here")
    parser.add_argument("--commit", default=commit(), help="what the runs were made with (default: this checkout)")
    options = parser.parse_args()
    names, root = options.studies, options.root
    kept: list[Row] = []
    if RESULTS.exists():
        with RESULTS.open(encoding="utf-8") as stream:
            kept = [row for row in csv.DictReader(stream) if row["study"] not in names]
    made = [row for name in names for row in rows_of(open_workspace(root, study_path(name, root)), options.commit)]
    with RESULTS.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, COLUMNS)
        table.writeheader()
        table.writerows(
            sorted([*kept, *made], key=lambda row: (row["study"], row["task"], row["method"], int(row["seed"])))
        )
    print(json.dumps({"rows": len(kept) + len(made), "file": str(RESULTS)}))


if __name__ == "__main__":
    main()
