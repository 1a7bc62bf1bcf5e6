"""Results on disk: rows of one table in a CSV file that only ever grows, whatever interrupts it."""

from __future__ import annotations

import csv
import fcntl
import io
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lago_skills.artifacts.folder import write_text
from lago_skills.errors import ArtifactCorrupt
from lago_skills.experiments.cells import Row, Schema

RESULTS = Path("data/results")
"""Where the tables of a project folder are."""


@dataclass(frozen=True)
class ResultFile:
    """Rows on disk. They are added by replacing the whole file in one step, under a lock."""

    path: Path
    schema: Schema

    @classmethod
    def of(cls, schema: Schema, root: Path) -> ResultFile:
        """The table's file in a project folder."""
        return cls(root / RESULTS / f"{schema.table}.csv", schema)

    def rows(self) -> list[Row]:
        """All rows, in the order in which they were measured.

        Raises:
            ArtifactCorrupt: the file is not of this form.
        """
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as stream:
            entries = list(csv.DictReader(stream))
        try:
            return [self.schema.read(entry) for entry in entries]
        except (KeyError, ValueError) as error:
            raise ArtifactCorrupt(
                f"results {str(self.path)!r} cannot be read ({type(error).__name__}: {error}); expected the columns "
                f"{', '.join(self.schema.names)}; restore the file, or move it away to measure anew"
            ) from error

    def add(self, *rows: Row) -> None:
        """Put all rows of some cells on record for good; nothing happens where one of the cells is there already."""
        with self._locked():
            known = self.rows()
            if not {row.cell for row in known} & {row.cell for row in rows}:
                self._write([*known, *rows])

    def replace(self, rows: Sequence[Row]) -> None:
        """Have these rows and no others."""
        with self._locked():
            self._write(rows)

    def _write(self, rows: Sequence[Row]) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, self.schema.names, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_text(self.path, text.getvalue())

    @contextmanager
    def _locked(self) -> Generator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f".{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
