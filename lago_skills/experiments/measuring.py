"""Measuring what is missing of a table, here or in worker processes; each cell is on disk when its process begins the next."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Collection, Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import lock_descriptor

from lago_skills.artifacts.calls import Call, Progress
from lago_skills.artifacts.executor import Direct, Runner
from lago_skills.artifacts.folder import fingerprint
from lago_skills.errors import StudyError
from lago_skills.experiments.cells import Cell, Row
from lago_skills.experiments.table import Opener, Table
from lago_skills.stages.elsewhere import Elsewhere, Place, artifacts_of_project, share, texts_of_project
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
    if runner.store is not None and runner.name != "dask":
        raise StudyError(
            f"found the store {runner.store!r} for a table that processes of this machine measure; expected it with --runner dask only, since rows are "
            "put on record here; add --runner dask, or leave --store out"
        )
    n_workers = runner.n_workers or 1
    if n_workers == 1 and runner.name == "processes" and runner.limit_s is None:
        for number, work in enumerate(works, 1):
            table.say(f"{number}/{len(works)} {work.cell.name}: {measure_one(table, work)}")
        return [os.getpid()] * len(works)
    groups: defaultdict[Hashable, list[Work]] = defaultdict(list)
    for work in works:
        groups[table.measured_together(work.cell)].append(work)
    by_name = {group[0].cell.name: tuple(group) for group in groups.values()}
    away = _away(table, runner)
    calls: list[Call[Measured]] = []
    for name, group in by_name.items():
        there = CellsThere(opener, table.space.root, table.space.study_file, group, recording=away is None)
        calls.append(Call(name, f"cell {name}", Elsewhere(*away, (), there) if away is not None else there))
    processes: list[int] = []

    def finished(call: Call[Measured], measured: Measured) -> None:
        for work, message, rows in zip(by_name[call.name], measured.messages, measured.rows, strict=True):
            processes.append(measured.process)
            if rows and work.cell not in table.recorded(table.file.rows()):
                table.file.add(*rows)
            table.say(f"{len(processes)}/{len(works)} {work.cell.name}: {message}")

    Direct(runner).run(calls, n_workers, finished=finished)
    return processes


def _away(table: Table, runner: Runner) -> tuple[str, str, tuple[Place, ...]] | None:
    """Where workers that share nothing but a store find what they read there; None where they share the project folder."""
    store = runner.opened_store()
    if store is None:
        return None
    space = table.space
    return store.url, *share(store, space, artifacts_of_project(space), texts_of_project(space))


_opened: dict[tuple[str, Path, Path], Table] = {}
"""The tables that a worker process measures cells of, by name, project folder and study; such a process works for one command."""


@dataclass(frozen=True)
class Measured:
    """What a worker returns of cells that are measured together."""

    process: int
    messages: list[str]
    rows: list[list[Row]]
    """Of each cell; empty where the worker has put them on record."""


@dataclass(frozen=True)
class CellsThere:
    """Cells that are measured together, by another process."""

    opener: Opener
    root: Path
    study_file: Path
    group: tuple[Work, ...]
    recording: bool = True
    """Whether that process puts rows on record itself."""

    def at(self, root: Path) -> CellsThere:
        """The same cells in a copy of the project."""
        return replace(self, root=root, study_file=root / self.study_file.relative_to(self.root))

    def __call__(self, progress: Progress) -> Measured:
        """Measure them.

        Raises:
            LagoError: what measuring raised.
        """
        name = (str(self.group[0].cell["table"]), self.root, self.study_file)
        if name not in _opened:
            _opened[name] = self.opener(open_workspace(self.root, self.study_file), _say_there)
        table = _opened[name]
        if self.recording:
            return Measured(os.getpid(), [measure_one(table, work) for work in self.group], [[] for _ in self.group])
        rows = [table.measure(work.cell, work.n_episodes) for work in self.group]
        return Measured(os.getpid(), [table.message(each) for each in rows], rows)


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
