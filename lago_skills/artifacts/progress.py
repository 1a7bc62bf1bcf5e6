"""Progress of a stage on standard error: units per second and time left; one line per change where it is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

LINE_EVERY_S = 10.0


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.completed / task.elapsed if task.elapsed else 0.0
        left = (task.total or 0) - task.completed
        return Text(_pace(rate, left, str(task.fields["unit"])))


def _pace(rate: float, left: float, unit: str) -> str:
    if rate <= 0.0:
        return f"- {unit}/s"
    shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
    return f"{shown} {unit}/s, {_clock(left / rate)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


class StageProgress:
    """Adds up the progress of a stage's jobs. Use as a context manager; `update` may come from any thread."""

    def __init__(self, stage: str, total: int, unit: str, quiet: bool = False) -> None:
        self.heard: Callable[[float, str], None] | None = None
        """`heard(share of all that is done, note)` is called with each change."""
        self.stage, self.total, self.unit, self.quiet = stage, max(total, 1), unit, quiet
        self._done: dict[str, int] = {}
        self._started = self._printed = time.monotonic()
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        if self._console.is_terminal and not quiet:
            self._bar = Progress(
                TextColumn("{task.description:<9}"),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
                _Speed(),
                TextColumn("{task.fields[note]}", style="dim"),
                console=self._console,
            )
            self._row = self._bar.add_task(stage, total=self.total, unit=unit, note="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None and not self.quiet:
            seconds = time.monotonic() - self._started
            print(f"{self.stage:<9} done: {self.total:,} {self.unit} in {seconds:.1f} s", file=sys.stderr)  # noqa: T201

    def update(self, job: str, done: int, note: str) -> None:
        """Note that a job has done so many of its units."""
        self._done[job] = done
        completed = min(sum(self._done.values()), self.total)
        if self.heard is not None:
            self.heard(completed / self.total, note)
        if self._bar:
            self._bar.update(self._row, completed=completed, note=note)
            return
        now = time.monotonic()
        if not self.quiet and now - self._printed >= LINE_EVERY_S:
            self._printed = now
            rate = completed / (now - self._started)
            print(  # noqa: T201 (this is the progress display)
                f"{self.stage:<9} {completed:,}/{self.total:,}  {_pace(rate, self.total - completed, self.unit)}  {note}",
                file=sys.stderr,
            )

    def finish(self, job: str, total: int) -> None:
        """Note that a job is finished."""
        self.update(job, total, "")
