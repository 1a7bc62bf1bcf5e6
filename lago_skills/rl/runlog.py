"""The log of a training run: one row of numbers per evaluation, as CSV and for TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lago_skills.errors import StudyError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = dict[str, float]
CURVE_FILE = "curve.csv"


class RunLog:
    """Writes rows as they come; rows of before, where a run goes on, are written first.

    Every row has `step` and exactly the declared keys.
    """

    def __init__(self, folder: Path | None, keys: Sequence[str], before: Sequence[Row] = ()) -> None:
        self.keys = ("step", *keys)
        self.rows: list[Row] = []
        self._path = folder / CURVE_FILE if folder is not None else None
        self._board: SummaryWriter | None = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            folder.mkdir(parents=True, exist_ok=True)
            first = int(before[-1]["step"]) + 1 if before else 0
            self._board = SummaryWriter(str(folder), purge_step=first)
        if self._path is not None:
            with self._path.open("w", newline="", encoding="utf-8") as stream:
                csv.DictWriter(stream, self.keys, lineterminator="\n").writeheader()
        for row in before:
            self._keep(row)

    def add(self, row: Row) -> None:
        """Keep a row.

        Raises:
            StudyError: its keys are not the declared ones.
        """
        self._keep(row)
        if self._board is not None:
            for key in self.keys[1:]:
                self._board.add_scalar(key, row[key], int(row["step"]))  # pyright: ignore[reportUnknownMemberType]
            self._board.flush()

    def _keep(self, row: Row) -> None:
        if tuple(row) != self.keys:
            raise StudyError(
                f"log row: found keys {list(row)}; expected {list(self.keys)}; declare new keys in LOG_KEYS"
            )
        self.rows.append(row)
        if self._path is not None:
            with self._path.open("a", newline="", encoding="utf-8") as stream:
                csv.DictWriter(stream, self.keys, lineterminator="\n").writerow(row)

    def close(self) -> None:
        """Free the TensorBoard file."""
        if self._board is not None:
            self._board.close()
