"""Measuring what is missing of a table, here or in worker processes; each cell is on disk when its process begins the next."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Collection, Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import lock_descriptor

from lago_skills.artifacts.calls import Call, Progress
from lago_skills.artifacts.executor import Direct, Runner
from lago_skills.artifacts.folder import fingerprint
from lago_skills.errors import StudyError
from lago_skills.experiments.cells import Cell, Row
from lago_skills.experiments.table import Opener, Table
from lago_skills.stages.workspace import open_workspace

HERE = Runner()
"""One plain worker: this process."""


@dataclass(frozen=True)
class Work:
    """A cell, and how many episodes of each task it is measured with."""

    cell: Cell
    n_episodes: int


def missing(known: Mapping[Cell, list[Row]], cells: Sequence[Cell], n_episodes: int | None, usual: int) -> list[Work]:
    """Cells that are not among the known ones, with as many episodes as asked, else as the study's other cells have, else as usual.

    Raises:
        StudyError: a cell was measured with another number of episodes than is asked for.
    """
    studies = {cell.get("study") for cell in cells}
    others = [rows[-1]["episodes"] for cell, rows in known.items() if cell.get("study") in studies]
    for cell in cells:
        if cell in known and n_episodes not in (None, known[cell][-1]["episodes"]):
            raise StudyError(
                f"cell {cell.name}: found it measured with {known[cell][-1]['episodes']} episodes; expected {n_episodes}, but finished "
                "cells are never measured again; leave --episodes out, or move the results file away"
            )
    needed = n_episodes or (others[-1] if others else usual)
    return [Work(cell, needed) for cell in cells if cell not in known]


def measure(table: Table, opener: Opener, works: Sequence[Work], runner: Runner = HERE) -> list[int]:
    """Measure cells and put their rows on record; returns by which process each was measured.

    One plain worker is this process; others are the runner's.

    Raises:
        LagoError: a worker was killed, or what measuring raised.
    """
    n_workers = runner.n_workers or 1
    if n_workers == 1 and runner.name == "processes" and runner.limit_s is None:
        for number, work in enumerate(works, 1):
            table.say(f"{number}/{len(works)} {work.cell.name}: {measure_one(table, work)}")
        return [os.getpid()] * len(works)
    groups: defaultdict[Hashable, list[Work]] = defaultdict(list)
    for work in works:
        groups[table.measured_together(work.cell)].append(work)
    where = (opener, table.space.root, table.space.study_file)
    by_name = {group[0].cell.name: group for group in groups.values()}
    calls = [Call(name, f"cell {name}", partial(_measure_there, *where, group)) for name, group in by_name.items()]
    processes: list[int] = []

    def finished(call: Call[tuple[int, list[str]]], measured: tuple[int, list[str]]) -> None:
        process, messages = measured
        for work, message in zip(by_name[call.name], messages, strict=True):
            processes.append(process)
            table.say(f"{len(processes)}/{len(works)} {work.cell.name}: {message}")

    Direct(runner).run(calls, n_workers, finished=finished)
    return processes


_opened: dict[str, Table] = {}
"""The one table that a worker process measures cells of, by name."""


def _measure_there(
    opener: Opener, root: Path, study_file: Path, group: list[Work], _: Progress
) -> tuple[int, list[str]]:
    name = str(group[0].cell["table"])
    if name not in _opened:
        _opened[name] = opener(open_workspace(root, study_file), _say_there)
    return os.getpid(), [measure_one(_opened[name], work) for work in group]


def _say_there(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def measure_one(table: Table, work: Work) -> str:
    """Measure a cell, unless another process has done so or is at it; what came of it, in a few words."""
    with claim(table, work.cell) as mine:
        if not mine:
            return "left to another process, which is at it"
        if work.cell in table.recorded(table.file.rows()):
            return "measured by another process"
        rows = table.measure(work.cell, work.n_episodes)
        table.file.add(*rows)
    return table.message(rows)


@contextmanager
def claim(table: Table, cell: Cell) -> Generator[bool]:
    """Have a cell for oneself, so that several commands share a table; whether it could be had. A claim goes with its process, however that ends.

    The lock's file goes once the cell is on record: whoever still waits with the old file finds it there.
    """
    folder = table.space.artifact("unfinished", table.schema.table)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{fingerprint(dict(cell))[:16]}.lock"
    with path.open("w") as lock:
        if not lock_descriptor(lock.fileno(), blocking=False):
            yield False
            return
        yield True
        if cell in table.recorded(table.file.rows()):
            path.unlink(missing_ok=True)


def on_record(table: Table, cells: Collection[Cell]) -> dict[Cell, list[Row]]:
    """The rows of those of the cells that have been measured."""
    wanted = set(cells)
    return {cell: rows for cell, rows in table.recorded(table.file.rows()).items() if cell in wanted}
