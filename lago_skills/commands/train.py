"""`lago evaluate STUDY --table T2` and its kin: training runs, cell by cell; and `lago report STUDY --table T2`, what they say."""

from __future__ import annotations

import argparse
import json
import random
import sys
from typing import TYPE_CHECKING

from lago_skills.errors import StudyError

if TYPE_CHECKING:
    from lago_skills.experiments.curves import CurveCell, CurveRow
    from lago_skills.stages.workspace import Workspace

TABLE_NAMES = ("T1", "T2", "T3", "T5", "tuning")
ANY = "any"


def evaluate_training(space: Workspace, options: argparse.Namespace) -> int:
    """Measure what is missing of the chosen runs and print what all of them say; or check one. Returns the exit code.

    Raises:
        StudyError: an option names what there is not.
        ArtifactCorrupt: the results file cannot be read.
    """
    from lago_skills.experiments.curves import CurveRow
    from lago_skills.experiments.result_file import RowFile
    from lago_skills.experiments.tables import training as training_tables

    spec = training_tables.TABLES[options.table]
    file = RowFile(spec.path(space.root, options.table), CurveRow)
    chosen = _chosen(space, options)
    wanted = set(chosen)
    if options.check:
        return _check(space, options, [row for row in file.rows() if training_tables.run_of(row) in wanted])
    done = training_tables.recorded(space, options.table)
    own = [cell for cell in chosen if cell not in done and cell.method not in spec.shared]
    training_tables.run(space, options.table, own, _say, options.workers)
    found = [row for row in training_tables.rows(space, options.table) if training_tables.run_of(row) in wanted]
    for method, other in spec.shared.items():
        if any(cell.method == method for cell in wanted - {training_tables.run_of(row) for row in found}):
            _say(
                f"{method}: runs of table {other}; measure those that are missing with --table {other} --methods {method}"
            )
    show(options.table, found, as_json=options.json)
    return 0


def report_training(space: Workspace, table: str, *, as_json: bool) -> None:
    """Print what the runs on record say.

    Raises:
        StudyError: none has been measured.
    """
    from lago_skills.experiments.tables import training as training_tables

    rows = training_tables.rows(space, table)
    if not rows:
        path = training_tables.TABLES[table].path(space.root, table)
        raise StudyError(
            f"found no run of study {space.study.name!r} in {str(path)!r}; expected some; measure them: lago evaluate "
            f"{space.study.name} --table {table}"
        )
    show(table, rows, as_json=as_json)
    if not as_json:
        from lago_skills.report.table_page import write_page

        print(f"page: {write_page(space, table, rows)}")  # noqa: T201


def show(table: str, rows: list[CurveRow], *, as_json: bool) -> None:
    """Print interquartile means by method and steps, and the chance that ours beats each other method."""
    from lago_skills.report.table_page import ours, results

    entries, summary = results(table, rows)
    if different := summary["mixed"]:
        _say(
            f"runs of {'; '.join(different)} were made from different decoders or playbooks (column bundle); remove the older rows to measure them again"
        )
    if as_json:
        print(json.dumps({"rows": entries, "summary": summary}))  # noqa: T201
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"{table}: {summary['question']}")
    shown = Table(box=None, pad_edge=False)
    for name in ("method", "steps", "IQM", "95 %", "mean", "95 % ", "tasks", "seeds"):
        shown.add_column(name, no_wrap=True)
    for entry in entries:
        shown.add_row(
            entry["method"],
            f"{entry['steps']:,}",
            f"{entry['iqm']:.2f}",
            _interval(entry["low"], entry["high"]),
            f"{entry['mean']:.2f}",
            _interval(entry["mean_low"], entry["mean_high"]),
            str(entry["n_tasks"]),
            str(entry["n_seeds"]),
        )
    console.print(shown)
    last = max((entry["steps"] for entry in summary["improvement"]), default=0)
    for entry in summary["improvement"]:
        if entry["steps"] != last:
            continue
        console.print(
            f"{ours(rows)} beats {entry['over']} with probability {entry['probability']:.2f} "
            f"({_interval(entry['low'], entry['high']) or 'no interval, one seed'}) after {entry['steps']:,} steps, {entry['n_tasks']} tasks"
        )


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.2f}-{high:.2f}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _chosen(space: Workspace, options: argparse.Namespace) -> list[CurveCell]:
    from lago_skills.experiments.tables import training as training_tables
    from lago_skills.study import MAX_SEED

    spec, study = training_tables.TABLES[options.table], space.study
    known = [task.id for task in (*study.seen, *study.unseen)]
    names: list[str] = options.methods or list(spec.methods)
    tasks: list[str] = options.tasks or [task.id for task in study.unseen]
    if spec.together and options.tasks:
        raise StudyError(
            f"found --tasks with --table {options.table}; expected none, since its runs train one policy for all seen tasks; leave it out"
        )
    seeds: list[int] = options.seeds or [0, 1, 2]
    for what, wrong, expected in (
        ("method", [name for name in names if name not in spec.methods], f"one of {', '.join(spec.methods)}"),
        ("task", [task for task in tasks if task not in known], f"a task of the study, {', '.join(known)}"),
        ("seed", [seed for seed in seeds if not 0 <= seed <= MAX_SEED], f"a number from 0 to {MAX_SEED}"),
        ("number of workers", [n for n in [options.workers] if not 1 <= n <= 64], "1 to 64"),
    ):
        if wrong:
            raise StudyError(f"found {what} {wrong[0]!r}; expected {expected}; correct it")
    if options.demos or options.episodes:
        raise StudyError(
            f"found --{'demos' if options.demos else 'episodes'} with --table {options.table}; expected neither, since the table fixes "
            "both; leave it out"
        )
    return training_tables.cells(space, options.table, names, tasks, seeds)


def _check(space: Workspace, options: argparse.Namespace, rows: list[CurveRow]) -> int:
    import torch

    from lago_skills.experiments.tables import training as training_tables

    cells = list(dict.fromkeys(training_tables.run_of(row) for row in rows))
    if options.check != ANY:
        cells = [cell for cell in cells if cell.name == options.check]
    else:
        cells = [cell for cell in cells if cell.method not in training_tables.UNTRAINED] or cells
    if not cells:
        raise StudyError(
            f"found no stored run of {'the chosen ones' if options.check == ANY else repr(options.check)}; expected METHOD/TASK/SEED of "
            "a measured one; measure it first"
        )
    torch.set_num_threads(1)
    cell = random.choice(cells)
    _say(f"measuring {cell.name} again")
    measured = training_tables.Bench(space, options.table, _say).measure(cell)
    kept = [row for row in rows if training_tables.run_of(row) == cell]
    stored, again = _successes(kept), _successes(measured)
    values = {
        f"{task} at {step}": (stored.get((step, task)), again.get((step, task)))
        for step, task in sorted(stored.keys() | again.keys())
    }
    common = stored.keys() & again.keys()
    ends = {max(found)[0] for found in (stored, again)}  # an older run may lack evaluations on its way, but not its end
    same = len(ends) == 1 and all(stored[key] == again[key] for key in common)
    commits = [sorted({row.commit for row in side}) for side in (kept, measured)]
    if not same and commits[0] != commits[1]:
        _say(
            f"the stored rows are of commit {', '.join(commits[0])}, these of {', '.join(commits[1])}; a trained run repeats itself to the "
            "last bit only on the same commit, processor and torch: check out that commit to tell a mistake from rounding"
        )
    if options.json:
        apart = max((abs(stored[key] - again[key]) for key in common), default=0.0)
        found = {
            "cell": cell.name,
            "same": same,
            "compared": len(common),
            "greatest_difference": round(apart, 4),
            "commits": commits,
            "values": values,
        }
        print(json.dumps({"rows": [], "summary": found}))  # noqa: T201
    else:
        print(f"{cell.name}: {'same' if same else 'differs'} at {len(common)} evaluations: {values}")  # noqa: T201
    return 0 if same else 1


def _successes(rows: list[CurveRow]) -> dict[tuple[int, str], float]:
    """By steps and task."""
    return {(row.steps, row.task): row.success for row in rows}
