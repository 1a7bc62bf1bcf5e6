"""Cells of a table: one row each of a CSV file that only ever grows, whatever interrupts it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from lago_skills.errors import StudyError
from lago_skills.experiments.baselines.controllers import GAINS
from lago_skills.experiments.intervals import stratified_mean
from lago_skills.experiments.result_file import RowFile

METHODS = ("library", "bc-text", "bc-onehot", "replay", "random-library", *GAINS, "random", "scripted")
UNTRAINED = (*GAINS, "random", "scripted")
"""Methods that use no demonstration: their cells have demos = 0."""


class AnyCell(Protocol):
    """What any table measures once."""

    @property
    def study(self) -> str:
        """The study's name."""
        ...

    @property
    def name(self) -> str:
        """How the cell is named on the command line."""
        ...


class AnyRow(Protocol):
    """A measured cell of any table; a dataclass of texts and numbers."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def cell(self) -> AnyCell:
        """What was measured."""
        ...

    @property
    def episodes(self) -> int:
        """Episodes of each task."""
        ...

    @property
    def told(self) -> str:
        """What was found, in a few words."""
        ...

    @property
    def group(self) -> tuple[str, int, int]:
        """Method, demonstrations and seed: rows of one group should have been made from the same things."""
        ...

    @property
    def bundle(self) -> str:
        """Fingerprint of what it was made from."""
        ...


R = TypeVar("R", bound=AnyRow)
C = TypeVar("C", bound=AnyCell)


@dataclass(frozen=True)
class Cell:
    """What is measured once."""

    study: str
    method: str
    task: str
    demos: int
    """Demonstrations of each seen task."""
    seed: int

    @property
    def name(self) -> str:
        """How a cell is named on the command line: `library/push/5/0`."""
        return f"{self.method}/{self.task}/{self.demos}/{self.seed}"


@dataclass(frozen=True)
class Row:
    """A measured cell."""

    table: str
    study: str
    task: str
    level: str
    """`seen` (demonstrated) or `unseen`."""
    method: str
    demos: int
    seed: int
    success: float
    """Share of episodes with success at any step."""
    success_last: float
    """Share of episodes with success at the horizon's last step, when they are played on."""
    episodes: int
    episode_steps: float
    """Mean control steps up to the first success, or the horizon."""
    environment_steps: int
    """All control steps that were simulated."""
    wall_s: float
    commit: str
    """Of the code that measured it; with a + if it had been changed since."""
    bundle: str
    """Fingerprint of what the policy was made from; empty where it was made from nothing."""

    @property
    def cell(self) -> Cell:
        """What was measured."""
        return Cell(self.study, self.method, self.task, self.demos, self.seed)

    @property
    def group(self) -> tuple[str, int, int]:
        """Rows of one group have one bundle."""
        return self.method, self.demos, self.seed

    @property
    def told(self) -> str:
        """What was found."""
        return f"{self.success:.2f} (last step {self.success_last:.2f}) in {self.wall_s:.0f} s"


class ResultFile(RowFile[R]):
    """Cells of one row each."""

    def find(self, cell: AnyCell) -> R | None:
        """The row of a cell, if it has been measured."""
        return next((row for row in self.rows() if row.cell == cell), None)

    def add(self, row: R) -> None:
        """Keep a row for good; a cell that is there already stays as it is."""
        self.add_all([row])


def missing(known: Iterable[AnyRow], wanted: list[C], n_episodes: int | None, usual: int) -> list[tuple[C, int]]:
    """Cells that have no row yet, and how many episodes each needs: as asked, else as the study's other cells, else as usual.

    Raises:
        StudyError: a cell was measured with another number of episodes than is asked for.
    """
    rows = {row.cell: row for row in known}
    studies = {cell.study for cell in wanted}
    others = [row.episodes for row in rows.values() if row.cell.study in studies]
    for cell in wanted:
        if cell in rows and n_episodes not in (None, rows[cell].episodes):
            raise StudyError(
                f"cell {cell.name}: found it measured with {rows[cell].episodes} episodes; expected {n_episodes}, but finished "
                "cells are never measured again; leave --episodes out, or move the results file away"
            )
    needed = n_episodes or (others[-1] if others else usual)
    return [(cell, needed) for cell in wanted if cell not in rows]


def measure(
    bench: Callable[[C, int], R], file: ResultFile[R], missing: list[tuple[C, int]], say: Callable[[str], None]
) -> None:
    """Measure cells with so many episodes each; each is on disk when the next begins."""
    for number, (cell, n_episodes) in enumerate(missing, 1):
        if file.find(cell) is None:  # else another process was quicker
            row = bench(cell, n_episodes)
            file.add(row)
            say(f"{number}/{len(missing)} {cell.name}: {row.told}")


def mixed(rows: Iterable[AnyRow]) -> list[str]:
    """Methods whose cells of one seed were made from different things: their means say little.

    It comes about when a decoder or a playbook changes while a table grows.
    """
    bundles: defaultdict[tuple[str, int, int], set[str]] = defaultdict(set)
    for row in rows:
        bundles[row.group].add(row.bundle)
    return [f"{method}, {demos}, seed {seed}" for (method, demos, seed), found in bundles.items() if len(found) > 1]


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """One entry per (method, level, demos): the mean over tasks, with a 95 % interval.

    The mean is over tasks of the mean over a task's seeds; how the interval is made is told at `stratified_mean`.
    """
    groups: defaultdict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.method, row.level, row.demos].append(row)
    order = {name: number for number, name in enumerate(METHODS)}
    found: list[dict[str, Any]] = []
    for method, level, demos in sorted(
        groups, key=lambda key: (key[1], key[2] or np.inf, order.get(key[0], len(order)))
    ):
        group = groups[method, level, demos]
        by_task: defaultdict[str, list[Row]] = defaultdict(list)
        for row in group:
            by_task[row.task].append(row)
        mean, interval = stratified_mean([np.array([row.success for row in each]) for each in by_task.values()])
        last = [float(np.mean([row.success_last for row in each])) for each in by_task.values()]
        found.append(
            {
                "method": method,
                "level": level,
                "demos": demos,
                "success": round(mean, 4),
                "low": interval and round(interval[0], 4),
                "high": interval and round(interval[1], 4),
                "success_last": round(float(np.mean(last)), 4),
                "tasks": len(by_task),
                "seeds": len({row.seed for row in group}),
                "episodes": sum(row.episodes for row in group),
            }
        )
    return found
