"""What Prefect's pages show of a run: tables of what was made, progress of long stages, and why a run failed."""

from __future__ import annotations

import contextvars
import re
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from lago_skills.commands.stage_run import say
from lago_skills.errors import LagoError
from lago_skills.stages.workspace import Workspace

PROGRESS_AFTER_S, PROGRESS_EVERY_S = 5.0, 5.0


def key(*parts: str) -> str:
    """The key under which Prefect keeps the versions of an artifact: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


@contextmanager
def at_best() -> Generator[None]:
    """What is only shown is no reason to fail: a server that is gone by now loses nobody's work."""
    try:
        yield
    except Exception as error:
        say(f"Prefect's server shows no more of this run ({type(error).__name__}): the work goes on")


def stage_rows(space: Workspace, stage: str, rows: list[dict[str, Any]]) -> None:
    """A table of the artifacts that a stage has made; of plans what their answers cost, after the report the results and where its page is."""
    with at_best():
        _stage_rows(space, stage, rows)


def _stage_rows(space: Workspace, stage: str, rows: list[dict[str, Any]]) -> None:
    study = space.study.name
    if rows:
        table = [{name: _cell(value) for name, value in row.items()} for row in rows]
        create_table_artifact(table, key(study, stage), f"What stage {stage} of study {study} made.")
    if stage == "plan":
        from lago_skills.commands.plan import rows_of

        answers, summary = rows_of(space)
        about = f"Recorded answers in use: {summary['tokens']:,} tokens for {summary['playbooks']} playbooks (`tokens_estimated`: nobody counted them, so a quarter of the characters)."
        create_table_artifact(answers, key(study, "answers"), about)
    if stage == "report":
        from lago_skills.report.study_page import REPORT_FILE, results

        found, summary = results(space)
        page = space.artifact("report") / REPORT_FILE
        said = ", ".join(f"{name} {value}" for name, value in summary.items() if not isinstance(value, dict))
        create_table_artifact(
            found, key(study, "results"), f"{said}\n\nThe report, on the machine that made it: `{page}`"
        )


def _cell(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


@contextmanager
def failures(study: str, stage: str) -> Generator[None]:
    """Show why a stage failed, and what to do, in the words of the error.

    Raises:
        LagoError: what the block raised.
    """
    try:
        yield
    except LagoError as error:
        with at_best():
            create_markdown_artifact(
                f"**Stage `{stage}` of study `{study}` failed.**\n\n{error}\n\nWhat is finished is kept. Once that is mended, go on with "
                f"`lago run {study}`, or run this flow again.",
                key(study, stage, "failure"),
                f"Why stage {stage} of study {study} failed",
            )
        raise


class StageProgress:
    """The progress of a stage that takes longer than a few seconds, as an artifact that changes."""

    def __init__(self, study: str, stage: str) -> None:
        self._key, self._about = key(study, stage, "progress"), f"Stage {stage} of study {study}"
        self._last = time.monotonic()
        self._share, self._note = 0.0, ""
        self._artifact: UUID | None = None
        self._over = threading.Event()
        in_this_run = contextvars.copy_context().run  # else the artifact would belong to no flow run
        self._thread = threading.Thread(target=in_this_run, args=(self._show,), daemon=True)

    def heard(self, share: float, note: str) -> None:
        """Note how far the stage is."""
        self._share, self._note = share, note

    def _show(self) -> None:
        """Off the way of the work, since each change is a request."""
        wait = PROGRESS_AFTER_S
        while not self._over.wait(wait):
            with at_best():
                self._update()
            wait = PROGRESS_EVERY_S

    def _update(self) -> None:
        percent, about = round(100 * self._share, 1), f"{self._about}: {self._note}".rstrip(": ")
        if self._artifact is None:
            self._artifact = cast("UUID", create_progress_artifact(percent, self._key, about))
        else:
            update_progress_artifact(self._artifact, percent, about)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._artifact is not None and kind is None:
            self.heard(1.0, "done")
            with at_best():
                self._update()
