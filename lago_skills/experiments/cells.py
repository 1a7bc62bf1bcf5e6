"""What tables measure: cells, the rows that become of them, and the columns of both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Say = Callable[[str], None]
"""Tells whoever waits what is being made."""


def optional_float(text: str) -> float | None:
    """A number, or None where a column is left empty."""
    return float(text) if text else None


def optional_int(text: str) -> int | None:
    """A whole number, or None where a column is left empty."""
    return int(text) if text else None


@dataclass(frozen=True)
class Column:
    """One column of a table's CSV file."""

    name: str
    read: Callable[[str], Any] = str
    """Text of the file -> value: `str`, `int`, `float` or `optional_float`."""
    about: str = ""
    """What it holds, where the name does not say."""


@dataclass(frozen=True)
class Cell(Mapping[str, Any]):
    """What a table measures once: texts and whole numbers by name, such as table, study, method, task and seed.

    Cells are equal where all of these are.
    """

    name: str
    """How it is named on the command line: `library/push/5/0`."""
    key: tuple[tuple[str, Any], ...]
    """Names and values, in order."""
    _by_name: dict[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", dict(self.key))

    def __getitem__(self, name: str) -> Any:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self.key)


@dataclass(frozen=True)
class Row(Mapping[str, Any]):
    """One measurement: the values of its table's columns by name, those of its cell among them, in the order of the file."""

    cell: Cell
    """What was measured; the points of a learning curve are rows of one cell."""
    _values: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True)
class Schema:
    """The columns of one table, and which of them say what was measured."""

    table: str
    """Its name, which fills the column `table` where there is one."""
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    """Columns that make a cell."""
    form: str
    """How cells are named on the command line, for people: `METHOD/TASK/DEMOS/SEED`."""
    label: Callable[[Mapping[str, Any]], str]
    """Key columns by name -> the cell's name."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the columns, in the order of the file."""
        return tuple(column.name for column in self.columns)

    @property
    def _own(self) -> dict[str, str]:
        return {"table": self.table} if "table" in self.names else {}

    def cell(self, **values: Any) -> Cell:
        """What is measured.

        Raises:
            KeyError: a key column is missing.
        """
        known = self._own | values
        key = tuple((name, known[name]) for name in self.keys)
        return Cell(self.label(dict(key)), key)

    def row(self, **values: Any) -> Row:
        """A measurement; `table` is filled in where it is not given.

        Raises:
            TypeError: a column is missing, or there is no such column.
        """
        known = self._own | values
        if known.keys() != set(self.names):
            raise TypeError(
                f"row of {self.table}: columns {sorted(known.keys() ^ set(self.names))} are missing or unknown"
            )
        return Row(self.cell(**known), {name: known[name] for name in self.names})

    def read(self, texts: Mapping[str, str]) -> Row:
        """A row of the file; nothing in it is left out, or it would be lost when the file is written again.

        Raises:
            KeyError: there are other columns, or a line is too short or too long.
            ValueError: a value is not of its column's kind.
        """
        if set(texts) != set(self.names) or None in texts.values():
            raise KeyError(f"columns {', '.join(map(str, texts))}")
        return self.row(**{column.name: column.read(texts[column.name]) for column in self.columns})


def by_cell(rows: Iterable[Row]) -> dict[Cell, list[Row]]:
    """Rows of each cell, in the order in which they were measured."""
    measured: defaultdict[Cell, list[Row]] = defaultdict(list)
    for row in rows:
        measured[row.cell].append(row)
    return dict(measured)


def mixed(rows: Iterable[Row], columns: Sequence[str]) -> list[str]:
    """Groups, of equal `columns` and seed, whose rows were made from different things (column `bundle`): their means say little.

    It comes about when a decoder or a playbook changes while a table grows.
    """
    bundles: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in rows:
        bundles[*(str(row[name]) for name in columns), f"seed {row['seed']}"].add(row["bundle"])
    return [", ".join(group) for group, fingerprints in bundles.items() if len(fingerprints) > 1]
