"""A task asked for in words that nobody has recorded: the matcher in a bundle, where the extra `text` is installed.

A sentence is looked up once, before control begins; nothing else in a guide knows a text model.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from lago_skills.errors import StudyError
from lago_skills.extras import missing

MATCHER_FILE = "matcher.safetensors"
"""Only in bundles of studies whose recordings hold wordings; see `lago_skills.text.matcher`."""


def task_meant(folder: Path, words: str, tasks: Collection[str]) -> str | None:
    """The one of these tasks that a sentence asks for; None where the bundle in the folder has no matcher.

    Raises:
        StudyError: no task of the bundle is near, or the extra `text` is not installed.
        ArtifactCorrupt: the matcher is damaged, or the installed sentence model is not the expected one.
    """
    if not (folder / MATCHER_FILE).is_file():
        return None
    try:
        from lago_skills.text.matcher import WordingMatcher

        match = WordingMatcher.load(folder / MATCHER_FILE).match([words], tasks)[0]
    except ModuleNotFoundError as error:
        raise missing(error, f"a task in words that were not recorded ({words!r})") or error from error
    if match.task is None:
        raise StudyError(
            f"found task {words!r}, which no task of the bundle is near to; the nearest is {match.nearest!r} ({match.score:.2f}), runner-up "
            f"{match.runner_up!r} ({match.runner_up_score:.2f}); expected one of {sorted(tasks)}; name the task by its id"
        )
    return match.task
