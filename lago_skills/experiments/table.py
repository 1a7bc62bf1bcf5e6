"""A table of experiments: what every one of them says of itself, so that one command runs them all."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import lago_skills
from lago_skills.errors import StudyError
from lago_skills.experiments.cells import Cell, Row, Say, Schema, by_cell
from lago_skills.experiments.result_file import ResultFile
from lago_skills.stages.workspace import Workspace
from lago_skills.study import MAX_SEED, Study

if TYPE_CHECKING:
    from lago_skills.experiments.replicate import Replicate


@dataclass(frozen=True)
class Choice:
    """Which cells are asked for on the command line; None where nothing is said about them."""

    methods: list[str] | None = None
    tasks: list[str] | None = None
    """Names of tasks and of groups of them."""
    demos: list[int] | None = None
    seeds: list[int] | None = None
    episodes: int | None = None

    def seeds_of(self, usual: Sequence[int] = (0, 1, 2)) -> list[int]:
        """The seeds.

        Raises:
            StudyError: one that studies do not have.
        """
        seeds = self.seeds or list(usual)
        refuse("seed", [seed for seed in seeds if not 0 <= seed <= MAX_SEED], f"a number from 0 to {MAX_SEED}")
        return seeds

    def demos_of(self, study: Study) -> list[int]:
        """Numbers of demonstrations of each seen task.

        Raises:
            StudyError: none, or too many.
        """
        demos = self.demos or [study.collect.episodes_per_task]
        refuse("number of demonstrations", [n for n in demos if not 1 <= n <= 1000], "1 to 1000")
        return demos

    def tasks_of(self, study: Study, known: Sequence[str], expected: str, usual: Sequence[str] = ()) -> list[str]:
        """The tasks, each once: `seen` and `unseen` are the study's, other groups its world's; else the usual ones.

        Raises:
            StudyError: one that is not known.
        """
        if self.tasks is None:
            return list(usual or known)
        groups = {name: tuple(task.id for task in getattr(study, name)) for name in ("seen", "unseen")}
        groups = {**study.load_world().groups, **groups}
        tasks = list(dict.fromkeys(task for name in self.tasks for task in groups.get(name, (name,))))
        refuse("task", [task for task in tasks if task not in known], expected)
        return tasks

    def refuse_all(self, names: Iterable[str], what: str, expected: str) -> None:
        """Refuse options that a table has no use for.

        Raises:
            StudyError: one of them is given.
        """
        refuse(what, [f"--{name}" for name in names if getattr(self, name)], expected)


def refuse(what: str, wrong: Sequence[Any], expected: str) -> None:
    """Say what is wrong with an option.

    Raises:
        StudyError: anything is.
    """
    if wrong:
        raise StudyError(f"found {what} {wrong[0]!r}; expected {expected}; correct it")


def demonstrated_tasks(study: Study) -> list[str]:
    """The study's tasks, those that are demonstrated first."""
    return [task.id for task in (*study.seen, *study.unseen)]


@dataclass(frozen=True)
class Grid:
    """Something to be printed in columns."""

    columns: tuple[str, ...]
    lines: list[list[str]]
    wrap: bool = False
    """Whether long texts go on in the next line."""


@dataclass(frozen=True)
class Results:
    """What a table says: one JSON object, and the same for people."""

    rows: list[Mapping[str, Any]]
    summary: Any
    printed: list[Grid | str]
    mixed: list[str] = field(default_factory=list[str])
    """Groups of rows that were made from different things, so that their means say little."""


@dataclass(frozen=True)
class Repetition:
    """A stored cell beside the same one measured again."""

    record: dict[str, Any]
    """What `--json` prints."""
    same: bool
    lines: list[str]
    warnings: list[str] = field(default_factory=list[str])


class Table(ABC):
    """One table in one workspace. What its cells share with each other is made once and kept as long as this object is.

    A cell is measured by itself, in any order and in any process, and its rows come out the same.
    """

    schema: Schema
    repeated: ClassVar[tuple[str, ...]] = ()
    """Columns that come out the same whenever a cell is measured."""
    lasting: ClassVar[bool] = True
    """Whether rows stay for good; where no column says which seed they are of, they are measured anew each time."""

    def __init__(self, space: Workspace, say: Say) -> None:
        self.space, self.say = space, say
        self._replicates: dict[Path, Replicate] = {}

    def replicate(self, seed: int, demos: int = 0, space: Workspace | None = None) -> Replicate:
        """The study, or another one, with this seed and number of demonstrations; the same for all cells of theirs.

        Without a number it has the study's; so have methods that use no demonstration, which share what else there is.
        """
        from lago_skills.experiments.replicate import Replicate, replicate_space

        space = space or self.space
        own = replicate_space(space, seed, demos or space.study.collect.episodes_per_task)
        return self._replicates.setdefault(own.place, Replicate(own, self.say))

    @cached_property
    def commit(self) -> str:
        """Of the code that measures."""
        return commit()

    @property
    def file(self) -> ResultFile:
        """Where its rows are."""
        return ResultFile.of(self.schema, self.space.root)

    @abstractmethod
    def cells(self, choice: Choice) -> list[Cell]:
        """All cells of a choice, in the order in which they are worth having.

        Raises:
            StudyError: the choice names what there is not.
        """

    @abstractmethod
    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        """The rows of a cell: one, or the points of a learning curve."""

    @abstractmethod
    def results(self, rows: list[Row]) -> Results:
        """What some rows say together."""

    @abstractmethod
    def message(self, rows: list[Row]) -> str:
        """What a cell came to, in a few words."""

    def episodes(self) -> int:
        """Episodes of a task where neither the command nor the rows on record say how many."""
        return self.space.study.zero_shot.episodes

    def measured_together(self, cell: Cell) -> Hashable:
        """Cells for which this is the same are measured by one process, one after the other."""
        return cell

    def recorded(self, rows: Iterable[Row]) -> dict[Cell, list[Row]]:
        """The rows of each cell of which none is missing."""
        return by_cell(rows)

    def elsewhere(self, cell: Cell) -> str | None:
        """The other table that measures this cell, if one does."""
        return None

    def selected(self, cells: Sequence[Cell]) -> list[Row]:
        """The rows on record of these cells, in their order."""
        known = self.recorded(self.file.rows())
        return [row for cell in cells for row in known.get(cell, [])]

    def checkable(self, cells: list[Cell]) -> list[Cell]:
        """Of these, the cells of which it says most whether they repeat."""
        return cells

    def compare(self, stored: list[Row], again: list[Row]) -> Repetition:
        """A row on record beside the same cell measured again, in the columns that must repeat."""
        before, now = stored[0], again[0]
        values = {name: (before[name], now[name]) for name in self.repeated}
        same = all(one == other for one, other in values.values())
        lines = [
            f"{name:<18} {one!s:>14} {other!s:>14} {'' if one == other else '  differs'}"
            for name, (one, other) in values.items()
        ]
        lines.append(f"{before.cell.name}: {'the same' if same else 'NOT the same'}")
        return Repetition({"cell": before.cell.name, "same": same, "values": values}, same, lines)


Opener = Callable[[Workspace, Say], Table]
"""Makes a table in a workspace; it is sent to worker processes."""


def as_text(value: str | float | None) -> str:
    """A value of a summary as it is printed."""
    return f"{value:.2f}" if isinstance(value, float) else "" if value is None else str(value)


def interval(low: float | None, high: float | None) -> str:
    """Both ends as they are printed; empty where there are none."""
    return "" if low is None or high is None else f"{low:.2f}-{high:.2f}"


def commit() -> str:
    """The git commit of the code that runs, with a + if it has been changed since; `unknown` outside of a checkout."""
    folder = Path(lago_skills.__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
        ).stdout.strip()

    name = git("rev-parse", "--short", "HEAD")
    return name + "+" * bool(git("status", "--porcelain", ".")) if name else "unknown"
