"""The log of a training run: one row of numbers per evaluation, as CSV and for TensorBoard."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lago_skills.artifacts.folder import disk_is_full, write_text
from lago_skills.errors import StudyError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = dict[str, float]
CURVE_FILE = "curve.csv"


class RunLog:
    """Keeps rows as they come, in memory and, with a folder, on disk; rows of before, where a run goes on, come first.

    Every row has `step` and exactly the declared keys. A disk that is full does not stop a run: what found no room is written with the next row.
    """

    def __init__(self, folder: Path | None, keys: Sequence[str], before: Sequence[Row] = ()) -> None:
        self.keys = ("step", *keys)
        self.rows: list[Row] = []
        self._folder = folder
        self._board: SummaryWriter | None = None
        self._n_on_board = len(before)
        for row in before:
            self._keep(row)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._write()

    def add(self, row: Row) -> None:
        """Keep a row.

        Raises:
            StudyError: its keys are not the declared ones.
        """
        self._keep(row)
        self._write()

    def _keep(self, row: Row) -> None:
        if tuple(row) != self.keys:
            raise StudyError(
                f"log row: found keys {list(row)}; expected {list(self.keys)}; declare new keys in LOG_KEYS"
            )
        self.rows.append(row)

    def _write(self) -> None:
        if self._folder is None:
            return
        try:
            text = io.StringIO()
            table = csv.DictWriter(text, self.keys, lineterminator="\n")
            table.writeheader()
            table.writerows(self.rows)
            write_text(self._folder / CURVE_FILE, text.getvalue())
            self._show(self._folder)
        except OSError as error:
            if not disk_is_full(error):
                raise
            # a writer that has failed once fails for ever: the next row gets a new one, and all rows again
            self._board, self._n_on_board = None, 0
            print(  # noqa: T201
                f"lago: the disk of {str(self._folder)!r} is full; expected room for the log; free some space (training goes on, and "
                "the log is written again with its next row)",
                file=sys.stderr,
            )

    def _show(self, folder: Path) -> None:
        """Give TensorBoard the rows that it has not got yet."""
        missing = self.rows[self._n_on_board :]
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            before = self.rows[self._n_on_board - 1]["step"] + 1 if self._n_on_board else 0
            self._board = SummaryWriter(str(folder), purge_step=int(before))
        for row in missing:
            for key in self.keys[1:]:
                self._board.add_scalar(key, row[key], int(row["step"]))  # pyright: ignore[reportUnknownMemberType]
        self._board.flush()
        self._n_on_board = len(self.rows)

    def close(self) -> None:
        """Free the TensorBoard file."""
        if self._board is not None:
            self._board.close()
