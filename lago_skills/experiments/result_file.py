"""Results on disk: rows of one kind in a CSV file that only ever grows, whatever interrupts it."""

from __future__ import annotations

import csv
import fcntl
import io
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from lago_skills.artifacts.folder import write_text
from lago_skills.errors import ArtifactCorrupt


def _perhaps(text: str) -> float | None:
    return float(text) if text else None


KINDS: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str, "float | None": _perhaps}


class Measured(Protocol):
    """A row: a frozen dataclass of numbers and texts, and what was measured."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def cell(self) -> Hashable:
        """What was measured, once."""
        ...


R = TypeVar("R", bound=Measured)


class RowFile(Generic[R]):
    """Rows on disk. Rows are added by replacing the whole file in one step, under a lock."""

    def __init__(self, path: Path, kind: type[R]) -> None:
        self.path, self.kind = path, kind
        self._read = {field.name: KINDS[str(field.type)] for field in fields(kind)}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self._read)

    def rows(self) -> list[R]:
        """All rows, in the order in which they were measured.

        Raises:
            ArtifactCorrupt: the file is not of this form.
        """
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as stream:
            found = list(csv.DictReader(stream))
        try:
            return [self.kind(**{name: read(entry[name]) for name, read in self._read.items()}) for entry in found]
        except (KeyError, ValueError, TypeError) as error:
            raise ArtifactCorrupt(
                f"results {str(self.path)!r} cannot be read ({type(error).__name__}: {error}); expected the columns "
                f"{', '.join(self.columns)}; restore the file, or move it away to measure anew"
            ) from error

    def cells(self) -> set[Hashable]:
        """What has been measured."""
        return {row.cell for row in self.rows()}

    def add_all(self, rows: Sequence[R]) -> None:
        """Keep the rows of one cell for good; a cell that is there already stays as it is."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            known = self.rows()
            if {row.cell for row in known} & {row.cell for row in rows}:
                return
            text = io.StringIO()
            table = csv.DictWriter(text, self.columns, lineterminator="\n")
            table.writeheader()
            table.writerows(asdict(each) for each in (*known, *rows))
            write_text(self.path, text.getvalue())

    @contextmanager
    def _locked(self) -> Generator[None]:
        with self.path.with_name(f".{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
