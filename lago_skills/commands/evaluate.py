"""`lago evaluate STUDY --table`: `zero-shot` is the library beside its baselines, `ablations` its parts; `--check` measures what is on record again."""

from __future__ import annotations

import argparse
import json
import random
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from lago_skills.commands.train import TABLE_NAMES, evaluate_training
from lago_skills.errors import StudyError

if TYPE_CHECKING:
    from lago_skills.experiments.cells import AnyRow, Row
    from lago_skills.experiments.tables import ablations
    from lago_skills.stages.workspace import Workspace

R = TypeVar("R", bound="AnyRow")

ANY = "any"
MIN_WIDTH = 140
"""Characters of a printed line: a number that is cut off says something else."""


def add_options(evaluate: argparse.ArgumentParser) -> None:
    """The options that turn `lago evaluate` into a table of methods."""
    table = evaluate.add_argument_group("a table of methods, tasks, demonstrations and seeds")
    table.add_argument(
        "--table",
        choices=["zero-shot", "latent", "skills", "ablations", "opposites", *TABLE_NAMES],
        help="measure the cells that are missing and print all of them: the library beside its baselines, or with one part changed; "
        "opposites: what latents make of sentences and their opposites, of the first seed",
    )
    table.add_argument(
        "--methods", type=_names, metavar="A,B", help="only these methods, or variants of ablations (default: all)"
    )
    table.add_argument("--tasks", type=_names, metavar="A,B", help="only these (default: the study's seen and unseen)")
    table.add_argument(
        "--demos", type=_counts, metavar="N,M", help="demonstrations per seen task (default: the study's)"
    )
    table.add_argument("--seeds", type=_counts, metavar="N,M", help="default: 0,1,2")
    table.add_argument("--episodes", type=int, metavar="N", help="per cell (default: the study's zero_shot.episodes)")
    table.add_argument("--workers", type=int, default=1, metavar="N", help="processes of zero-shot (default: 1)")
    table.add_argument(
        "--check",
        nargs="?",
        const=ANY,
        metavar="CELL",
        help="measure a stored cell again, such as library/push/5/0 or 'k 8/5/0' (default: any of the chosen ones), and compare; exits with "
        "1 if it differs",
    )
    table.add_argument("--json", action="store_true", help="print one JSON object, nothing else, on standard output")


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def wanted(options: argparse.Namespace) -> bool:
    """Whether a table is asked for.

    Raises:
        StudyError: an option of tables, without one.
    """
    if options.table:
        return True
    given = [name for name in ("methods", "tasks", "demos", "seeds", "episodes", "check") if getattr(options, name)]
    if given or options.json or options.workers != 1:
        raise StudyError(
            f"found --{[*given, 'json' if options.json else 'workers'][0]} without --table; expected the table that it is about; "
            "add --table zero-shot, or ablations"
        )
    return False


def evaluate_command(space: Workspace, options: argparse.Namespace) -> int:
    """Measure what is missing of the chosen cells and print them; or check one. Returns the exit code.

    Raises:
        StudyError: an option names what there is not, or the study cannot be measured so.
        ArtifactCorrupt: the results file cannot be read.
    """
    if options.table in TABLE_NAMES:
        return evaluate_training(space, options)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Constant.s. may be too high")  # of the scripted policies
        tables = {
            "zero-shot": _zero_shot,
            "latent": _latent,
            "skills": _skills,
            "ablations": _ablations,
            "opposites": _opposites,
        }
        return tables[options.table](space, options)


def _zero_shot(space: Workspace, options: argparse.Namespace) -> int:
    from lago_skills.experiments import cells
    from lago_skills.experiments.tables import zero_shot as zero_shot_table

    file = cells.ResultFile(space.root / zero_shot_table.RESULTS, cells.Row)
    chosen = _chosen(space, options)
    if options.check:
        stored = _stored(options, [row for row in file.rows() if row.cell in chosen])
        return _checked(options, zero_shot_table.check(space, stored, _say))
    missing = cells.missing(file.rows(), chosen, options.episodes, space.study.zero_shot.episodes)
    zero_shot_table.run(space, file, missing, _say, options.workers)
    by_cell = {row.cell: row for row in file.rows()}
    _print(options, [by_cell[cell] for cell in chosen], _zero_shot_tables, cells.summary)
    return 0


def _latent(space: Workspace, options: argparse.Namespace) -> int:
    from lago_skills.experiments import cells as cells_
    from lago_skills.experiments.tables import latent as latent_table

    seeds, demos = _seeds_and_demos(space, options)
    _refuse(
        "--demos",
        [n for n in demos if n != space.study.collect.episodes_per_task],
        "the study's number of demonstrations",
    )
    known = [task.id for task in space.study.find(list(latent_table.GROUPS))]
    tasks: list[str] = options.tasks or known
    _refuse("task", [name for name in tasks if name not in known], f"one of {', '.join(known)}")
    file = cells_.ResultFile(space.root / latent_table.RESULTS, latent_table.Row)
    chosen = latent_table.cells(space, options.methods or list(latent_table.DEFAULT_METHODS), seeds, tasks)
    if options.check:
        stored = _stored(options, [row for row in file.rows() if row.cell in chosen])
        return _checked(options, latent_table.check(space, stored, _say))
    missing = cells_.missing(file.rows(), chosen, options.episodes, space.study.zero_shot.episodes)
    cells_.measure(latent_table.Bench(space, _say).measure, file, missing, _say)
    by_cell = {row.cell: row for row in file.rows()}
    _print(options, [by_cell[cell] for cell in chosen], _latent_tables, latent_table.summary)
    return 0


def _latent_tables(rows: list[Any], entries: list[dict[str, Any]]) -> list[Any]:
    columns = (
        "plan",
        "actor",
        "fault",
        "learner",
        "steps",
        "tasks of",
        "success",
        "95 %",
        "last step",
        "tasks",
        "seeds",
    )
    lines: list[list[str]] = []
    for entry in entries:
        interval = "" if entry["low"] is None else f"{entry['low']:.2f}-{entry['high']:.2f}"
        names = [entry[name] for name in ("plan_form", "actor", "noise", "prior_of")]
        steps = f"{entry['steps']:,}" if entry["steps"] else ""
        numbers = [str(entry[name]) for name in ("tasks", "seeds")]
        success = [f"{entry['success']:.3f}", interval, _short(entry["success_last"])]
        lines.append([*names, steps, entry["level"], *success, *numbers])
    return [_table(columns, lines)]


def _skills(space: Workspace, options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from lago_skills.experiments import cells as cells_
    from lago_skills.experiments.behaviour import CHANGES
    from lago_skills.experiments.tables import skills as skills_table

    _refuse("--demos", options.demos or [], "none, since skills are those of the study's demonstrations")
    seeds = options.seeds or [0]
    bench = skills_table.Bench(space, _say)
    known = [task.id for task in (*bench.space.study.seen, *bench.space.study.unseen)]
    tasks: list[str] = options.tasks or known
    _refuse("task", [name for name in tasks if name not in known], f"one of {', '.join(known)}")
    file = cells_.ResultFile(space.root / skills_table.RESULTS, skills_table.Row)
    chosen = skills_table.cells(bench, options.methods or list(CHANGES), seeds, tasks)
    if options.check:
        stored = _stored(options, [row for row in file.rows() if row.cell in chosen])
        return _checked(options, skills_table.check(space, stored, _say))
    missing = cells_.missing(file.rows(), chosen, options.episodes, 10)
    cells_.measure(bench.measure, file, missing, _say)
    by_cell = {row.cell: row for row in file.rows()}
    rows = [by_cell[cell] for cell in chosen]
    found = skills_table.summary(bench, rows)
    if options.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "summary": found}))  # noqa: T201
        return 0
    _show([_skills_lines(found)])
    right, apart = found["round_trip"]["right"], found["opposites_told_apart"]
    print(f"round trip: {right:.2f} of unseen segments find their sentence; opposites told apart: {apart:.2f}")  # noqa: T201
    return 0


def _skills_lines(found: dict[str, Any]) -> Any:
    lines: list[list[str]] = []
    for entry in found["skills"]:
        first = [entry["skill"], "redundant" if "redundant" in entry else "needed" if entry["needed"] else ""]
        for change, of_change in entry["changes"].items():
            numbers = [f"{of_change[name]:.2f}" for name in ("costs", "direction", "speed", "fingers")]
            lines.append([*first, change, *numbers, of_change["effect"]])
            first = ["", ""]
    return _table(("skill", "", "change", "costs", "direction", "speed", "fingers", "effect"), lines, wrap=True)


def _ablations(space: Workspace, options: argparse.Namespace) -> int:
    from lago_skills.experiments import cells
    from lago_skills.experiments.tables import ablations

    variants: list[str] = options.methods or list(ablations.VARIANTS)
    expected = f"one of {', '.join(ablations.VARIANTS)}"
    _refuse("variant", [name for name in variants if name not in ablations.VARIANTS], expected)
    _refuse("--tasks", options.tasks or [], "none, since a row of ablations is about all tasks of the study")
    _refuse("number of workers", [n for n in [options.workers] if n != 1], "1 for ablations")
    file = cells.ResultFile(space.root / ablations.RESULTS, ablations.Row)
    chosen = ablations.cells(space, variants, *_seeds_and_demos(space, options))
    if options.check:
        stored = _stored(options, [row for row in file.rows() if row.cell in chosen])
        return _checked(options, ablations.check(space, stored, _say))
    missing = cells.missing(file.rows(), chosen, options.episodes, space.study.zero_shot.episodes)
    cells.measure(ablations.Bench(space, _say).measure, file, missing, _say)
    by_cell = {row.cell: row for row in file.rows()}
    _print(options, [by_cell[cell] for cell in chosen], _ablation_tables, ablations.summary)
    return 0


def _opposites(space: Workspace, options: argparse.Namespace) -> int:
    from lago_skills.experiments.tables import opposites
    from lago_skills.experiments.tables.zero_shot import Variant, variant

    given = [name for name in ("methods", "tasks", "episodes", "check") if getattr(options, name)]
    _refuse("--table opposites with", [f"--{name}" for name in given], "--seeds, --demos and --json alone")
    seeds, demos = _seeds_and_demos(space, options)
    rows = opposites.measure(Variant(variant(space, seeds[0], demos[0]), _say))
    told = {when: opposites.told(rows, when) for when in ("before", "after")}
    if options.json:
        print(json.dumps({"rows": rows, "summary": told}))  # noqa: T201
        return 0
    columns = ("sentence", "opposite", "paraphrase", "")
    lines: list[list[str]] = []
    for row in rows:
        for when in ("before", "after"):
            first = [row["sentence"], row["opposite"], row["paraphrase"]] if when == "before" else ["", "", ""]
            lines.append([*first, f"{when} {row[f'opposite_{when}']:.2f} {row[f'paraphrase_{when}']:.2f}"])
            if when == "after":
                lines.append([f"  nearest: {row['skill_after']}", f"  {row['opposite_skill_after']}", "", ""])
    _show([_table(columns, lines, wrap=True)])
    for when, found in told.items():
        cosines = f"cosine {found['opposite']:.2f} to the opposite, {found['paraphrase']:.2f} to the paraphrase"
        print(f"{when} g: {cosines}, told apart {found['told']:.2f}")  # noqa: T201
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _chosen(space: Workspace, options: argparse.Namespace) -> list[Any]:
    from lago_skills.experiments.cells import METHODS
    from lago_skills.experiments.tables import zero_shot as zero_shot_table

    study = space.study
    methods: list[str] = options.methods or list(METHODS)
    known = [task.id for task in (*study.seen, *study.unseen)]
    tasks: list[str] = options.tasks or known
    _refuse("method", [name for name in methods if name not in METHODS], f"one of {', '.join(METHODS)}")
    _refuse(
        "task", [name for name in tasks if name not in known], f"a seen or unseen task of the study, {', '.join(known)}"
    )
    _refuse("number of workers", [n for n in [options.workers] if not 1 <= n <= 64], "1 to 64")
    return zero_shot_table.cells(space, methods, *_seeds_and_demos(space, options), tasks)


def _seeds_and_demos(space: Workspace, options: argparse.Namespace) -> tuple[list[int], list[int]]:
    from lago_skills.experiments.tables.zero_shot import EVAL_SPAN
    from lago_skills.study import MAX_SEED

    seeds: list[int] = options.seeds or [0, 1, 2]
    demos: list[int] = options.demos or [space.study.collect.episodes_per_task]
    episodes = options.episodes
    _refuse("seed", [seed for seed in seeds if not 0 <= seed <= MAX_SEED], f"a number from 0 to {MAX_SEED}")
    _refuse("number of demonstrations", [n for n in demos if not 1 <= n <= 1000], "1 to 1000")
    _refuse(
        "number of episodes", [n for n in [episodes] if n is not None and not 1 <= n <= EVAL_SPAN], f"1 to {EVAL_SPAN}"
    )
    return seeds, demos


def _refuse(what: str, wrong: list[Any], expected: str) -> None:
    if wrong:
        raise StudyError(f"found {what} {wrong[0]!r}; expected {expected}; correct it")


def _stored(options: argparse.Namespace, rows: list[R]) -> R:
    """The row that is to be checked."""
    if options.check != ANY:
        rows = [row for row in rows if row.cell.name == options.check]
    if not rows:
        raise StudyError(
            f"found no stored row of {'the chosen cells' if options.check == ANY else 'cell ' + repr(options.check)}; expected "
            "METHOD/TASK/DEMOS/SEED of a measured one, random and scripted with 0 demonstrations, or VARIANT/DEMOS/SEED of ablations; "
            "measure it first"
        )
    stored = random.choice(rows)
    _say(f"measuring {stored.cell.name} again")
    return stored


def _checked(options: argparse.Namespace, found: dict[str, Any]) -> int:
    if options.json:
        print(json.dumps(found))  # noqa: T201
    else:
        for name, (before, now) in found["values"].items():
            print(f"{name:<18} {before!s:>14} {now!s:>14} {'' if before == now else '  differs'}")  # noqa: T201
        print(f"{found['cell']}: {'the same' if found['same'] else 'NOT the same'}")  # noqa: T201
    return 0 if found["same"] else 1


def _print(
    options: argparse.Namespace,
    rows: list[R],
    tables: Callable[[list[R], list[dict[str, Any]]], list[Any]],
    summary: Callable[[list[R]], list[dict[str, Any]]],
) -> None:
    from dataclasses import asdict

    from lago_skills.experiments.cells import mixed

    entries = summary(rows)
    if different := mixed(rows):
        _say(
            f"cells of {'; '.join(different)} were made from different decoders or playbooks (column bundle); remove the older rows "
            "to measure them again"
        )
    if options.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "summary": entries}))  # noqa: T201
        return
    _show(tables(rows, entries))


def _show(tables: list[Any]) -> None:
    from rich.console import Console

    console = Console(width=max(Console().width, MIN_WIDTH))
    for number, table in enumerate(tables):
        console.print(*([""] * number), table, sep="\n")


def _zero_shot_tables(rows: list[Row], entries: list[dict[str, Any]]) -> list[Any]:
    columns = ("method", "level", "demos", "success", "95 %", "last step", "tasks", "seeds", "episodes")
    lines: list[list[str]] = []
    for entry in entries:
        interval = "" if entry["low"] is None else f"{entry['low']:.2f}-{entry['high']:.2f}"
        numbers = (str(entry[name]) for name in ("tasks", "seeds", "episodes"))
        shares = (f"{entry['success']:.3f}", interval, f"{entry['success_last']:.3f}")
        lines.append([entry["method"], entry["level"], str(entry["demos"]), *shares, *numbers])
    return [_by_task(rows), _table(columns, lines)]


def _ablation_tables(rows: list[ablations.Row], entries: list[dict[str, Any]]) -> list[Any]:
    shown = ("seen", "unseen", "weakest", "", "nll", "coverage_90", "told_apart", "agrees", "train_s", "seeds")
    lines: list[list[str]] = []
    for entry in entries:
        values = {**entry, "": entry["weakest_success"]}
        lines.append([entry["variant"], str(entry["demos"]), *(_short(values[name]) for name in shown)])
    return [_table(("variant", "demos", *shown), lines)]


def _short(value: str | float | None) -> str:
    return f"{value:.2f}" if isinstance(value, float) else "" if value is None else str(value)


def _table(columns: tuple[str, ...], lines: list[list[str]], *, wrap: bool = False) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=not wrap)
    for line in lines:
        table.add_row(*line)
    return table


def _by_task(rows: list[Row]) -> Any:
    """Success by task and method, the mean over seeds."""
    from rich.table import Table

    methods = list(dict.fromkeys((row.method, row.demos) for row in rows))
    table = Table(box=None, pad_edge=False)
    for name in ("task", "level", *(f"{name} {demos}" if demos else name for name, demos in methods)):
        table.add_column(name.replace("-", "- ") if name.startswith(("bc", "random-")) else name, overflow="fold")
    for task, level in dict.fromkeys((row.task, row.level) for row in rows):
        shown: list[str] = []
        for method in methods:
            found = [row.success for row in rows if (row.task, (row.method, row.demos)) == (task, method)]
            shown.append(f"{sum(found) / len(found):.2f}" if found else "")
        table.add_row(task, level, *shown)
    return table
