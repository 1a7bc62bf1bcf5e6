"""`lago evaluate STUDY --table NAME`: the cells of any table of experiments; `--check` measures again what is on record."""

from __future__ import annotations

import argparse
import random
import warnings
from typing import TYPE_CHECKING, Any

from lago_skills.commands import runner_options
from lago_skills.commands.tables import print_repetition, print_results, say
from lago_skills.errors import StudyError
from lago_skills.experiments.registry import TABLES, find_table

if TYPE_CHECKING:
    from lago_skills.artifacts.executor import Runner
    from lago_skills.experiments.cells import Cell, Row
    from lago_skills.experiments.table import Opener, Table
    from lago_skills.stages.workspace import Workspace

ANY = "any"


def add_parser(commands: Any) -> None:
    """`lago table NAME [STUDY]`: the same tables, by their names."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "table", help="a table of experiments: measures the cells that are missing and prints all of them"
    )
    parser.add_argument("table", choices=list(TABLES), help="its name")
    parser.add_argument("study", nargs="?", help="default: the study that the table was first measured in")
    _add_choice(parser.add_argument_group("which cells"))
    runner_options.add_options(parser, workers="processes that measure cells (default: this one)")


def add_options(evaluate: argparse.ArgumentParser) -> None:
    """The options that turn `lago evaluate` into a table of methods."""
    table = evaluate.add_argument_group("a table of methods, tasks, demonstrations and seeds")
    table.add_argument(
        "--table",
        choices=list(TABLES),
        help="measure the cells that are missing and print all of them: the library beside its baselines, or with one part changed; "
        "opposites: what latents make of sentences and their opposites, of the first seed",
    )
    _add_choice(table)
    runner_options.add_options(
        evaluate, workers="jobs at the same time (default: as the study says), or cells (default: one, in this process)"
    )


def _add_choice(table: Any) -> None:
    """Options that say which cells of a table are meant, and what is done with them."""
    table.add_argument(
        "--methods", type=_names, metavar="A,B", help="only these methods, or variants of ablations (default: all)"
    )
    table.add_argument(
        "--tasks",
        type=_names,
        metavar="A,B",
        help="only these tasks, or groups of them: seen, unseen, those of the world (default: the study's seen and unseen)",
    )
    table.add_argument(
        "--demos", type=_counts, metavar="N,M", help="demonstrations per seen task (default: the study's)"
    )
    table.add_argument("--seeds", type=_counts, metavar="N,M", help="default: 0,1,2")
    table.add_argument("--episodes", type=int, metavar="N", help="per cell (default: the study's zero_shot.episodes)")
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
    if given or options.json:
        raise StudyError(
            f"found --{[*given, 'json'][0]} without --table; expected the table that it is about; "
            "add --table zero-shot, or ablations"
        )
    return False


def evaluate_command(space: Workspace, options: argparse.Namespace) -> int:
    """Measure what is missing of the chosen cells and print them; or check one. Returns the exit code.

    Raises:
        StudyError: an option names what there is not, or the study cannot be measured so.
        ArtifactCorrupt: the results file cannot be read.
    """
    from lago_skills.experiments.evaluation_episodes import EVAL_SPAN
    from lago_skills.experiments.table import Choice, refuse

    choice = Choice(options.methods, options.tasks, options.demos, options.seeds, options.episodes)
    runner = runner_options.runner_of(options)
    wrong = [n for n in [options.episodes] if n is not None and not 1 <= n <= EVAL_SPAN]
    refuse("number of episodes", wrong, f"1 to {EVAL_SPAN}")
    opener = find_table(options.table)
    table = opener(space, say)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Constant.s. may be too high")  # of the scripted policies
        cells = table.cells(choice)
        if options.check:
            return _check(table, cells, options)
        rows = _measured(table, opener, cells, options.episodes, runner) if table.lasting else _anew(table, cells)
        print_results(table.results(rows), as_json=options.json)
    return 0


def _measured(table: Table, opener: Opener, cells: list[Cell], n_episodes: int | None, runner: Runner) -> list[Row]:
    """The rows of the cells, those that were missing measured now."""
    from lago_skills.experiments.measuring import measure, missing

    known = table.recorded(table.file.rows())
    own = [cell for cell in cells if table.elsewhere(cell) is None]
    measure(table, opener, missing(known, own, n_episodes, table.episodes()), runner)
    return table.selected(cells)


def _anew(table: Table, cells: list[Cell]) -> list[Row]:
    rows = [row for cell in cells for row in table.measure(cell, table.episodes())]
    table.file.replace(rows)
    return rows


def _check(table: Table, cells: list[Cell], options: argparse.Namespace) -> int:
    """Measure a stored cell again and print both; 1 if they differ."""
    from lago_skills.experiments.measuring import on_record
    from lago_skills.experiments.table import refuse

    if not table.lasting:
        refuse(f"--table {table.schema.table} with", ["--check"], "none, since it is measured anew each time")
    known = on_record(table, cells)
    named = [cell for cell in known if options.check in (ANY, cell.name)]
    stored = table.checkable(named)
    if not stored:
        raise StudyError(
            f"found no stored row of {'the chosen cells' if options.check == ANY else 'cell ' + repr(options.check)}; expected "
            f"{table.schema.form} of a measured one; measure it first"
        )
    cell = random.choice(stored)
    say(f"measuring {cell.name} again")
    repetition = table.compare(known[cell], table.measure(cell, known[cell][-1]["episodes"]))
    print_repetition(repetition, as_json=options.json)
    return 0 if repetition.same else 1
