"""What a study on this machine has recorded: episodes, their segments, runs. All of it is optional: a study may be half done."""

from __future__ import annotations

import difflib
import json
import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from lago_skills.artifacts.folder import fingerprint, read_manifest
from lago_skills.core import Episode, Segment
from lago_skills.data.episodes import EPISODES_FILE, load_episodes
from lago_skills.explorer import studies
from lago_skills.explorer.source import Json, Recorded, page_name
from lago_skills.explorer.studies import optional
from lago_skills.planner.ask import Plan
from lago_skills.playbook import playbook_json
from lago_skills.stages import plan, segment
from lago_skills.stages.workspace import Workspace

PLAYED_DIR = "played"
"""Of a study's artifacts: episodes played for the explorer, see `lago_skills.explorer.playing`."""


class StudyRecords:
    """A study's artifacts as far as they are there; each is read once, when it is first asked for.

    Args:
        space: project folder and study.
    """

    def __init__(self, space: Workspace) -> None:
        self.space = space

    @property
    def name(self) -> str:
        """Of the study."""
        return self.space.study.name

    @property
    def library(self) -> Path:
        """The folder of the study's own library."""
        return self.space.library

    @staticmethod
    def stamp(space: Workspace) -> str:
        """What changes when an artifact is made anew."""
        folders = [*space.collected.values(), *(space.artifact(name) for name in ("playbooks", "segments", "bundle"))]
        folders += sorted(space.artifact(PLAYED_DIR).glob("[!.]*"))
        folders += sorted(space.artifact("runs").glob("[!.]*")) + sorted(space.artifact("zero-shot").glob("[!.]*"))
        files = [folder / "manifest.json" for folder in folders]
        return fingerprint([[str(file), file.stat().st_mtime_ns if file.is_file() else 0] for file in files])

    @property
    def demonstrations(self) -> dict[str, list[Episode]]:
        """By task; those that have been collected."""
        return self._collected

    @property
    def recorded(self) -> list[Recorded]:
        """All episodes: first what was played for the explorer, then the demonstrations."""
        return self._recorded

    @property
    def segments(self) -> list[Segment]:
        """Of the demonstrations; none where they are not labelled yet."""
        return self._segments

    @cached_property
    def _collected(self) -> dict[str, list[Episode]]:
        there = {task: folder for task, folder in self.space.collected.items() if read_manifest(folder) is not None}
        return {task: load_episodes(folder / EPISODES_FILE) for task, folder in there.items()}

    @cached_property
    def _recorded(self) -> list[Recorded]:
        return [*self._played(), *self._demonstrated()]

    def _demonstrated(self) -> Iterator[Recorded]:
        for task, episodes in self.demonstrations.items():
            for number, episode in enumerate(episodes):
                yield Recorded(
                    page_name("demo", task, str(number)),
                    "demonstration",
                    f"demonstration {number + 1} of {len(episodes)}",
                    episode,
                )

    def _played(self) -> Iterator[Recorded]:
        for folder in sorted(self.space.artifact(PLAYED_DIR).glob("[!.]*")):
            manifest = read_manifest(folder)
            if manifest is not None:
                (episode,) = load_episodes(folder / EPISODES_FILE)
                said = manifest.summary
                yield Recorded(
                    page_name("played", folder.name), str(said["method"]), str(said["about"]), episode, folder
                )

    @cached_property
    def _segments(self) -> list[Segment]:
        folder = self.space.artifact("segments")
        return [] if read_manifest(folder) is None else segment.load(folder)[0]

    @cached_property
    def plans(self) -> dict[str, Plan]:
        """What is known about each task's playbook: answers, repairs, edits; none where nothing is recorded."""
        return optional(lambda: plan.plans(self.space)) or {}

    @cached_property
    def lint(self) -> dict[str, dict[str, Any]]:
        """What is kept beside each playbook, by task."""
        return optional(lambda: plan.load_lint(self.space.artifact("playbooks"))) or {}

    def playbook(self, task: str) -> Json:
        """Who wrote the playbook of a task, its versions, and what lint found."""
        lint, known = self.lint.get(task, {}), self.plans.get(task)
        return {
            "findings": [{name: each[name] for name in ("kind", "step", "text")} for each in lint.get("findings", [])],
            "score": lint.get("score"),
            "source": lint.get("source", ""),
            "authors": lint.get("authors", []),
            "versions": [] if known is None else versions(known),
        }

    def study(self) -> Json:
        """Tables, failures, lineage."""
        return studies.study(self.space, self.lint)

    def curves(self) -> Json:
        """Success over steps of every training run, those at work among them."""
        return studies.curves(self.space)


def versions(known: Plan) -> list[Json]:
    """Every version of a playbook, oldest first, each with its difference from the one before."""
    rows: list[Json] = []
    before: list[str] = []
    for number, version in enumerate(known.versions, 1):
        said = version.transcript
        text = (playbook_json(version.playbook) if version.playbook is not None else said.response).splitlines()
        rows.append(
            {
                "number": number,
                "by": said.model,
                "at": said.recorded_at,
                "source": said.source,
                "id": said.id,
                "in_use": version is known.chosen,
                "score": version.score,
                "findings": [each.line() for each in version.findings],
                "difference": list(difflib.unified_diff(before, text, lineterm="", n=1))[2:] if before else [],
                "prompt": prompt_of(said.request),
                "response": said.response,
                "text": "\n".join(text),
            }
        )
        before = text
    return rows


def prompt_of(request: Json) -> str:
    """What a model was told, as text."""
    messages: list[Json] = request.get("messages", [])
    return "\n\n".join(
        content if isinstance(content := each.get("content", ""), str) else json.dumps(content, ensure_ascii=False)
        for each in messages
    )


class FollowedStudy:
    """A study as it is now: read again when an artifact of it is made anew. May be asked from several threads."""

    def __init__(self, space: Workspace) -> None:
        self._space, self._guard = space, threading.Lock()
        self._known: tuple[str, StudyRecords] | None = None

    def __call__(self) -> tuple[str, StudyRecords]:
        """What tells the study from how it was before, and what it has recorded."""
        with self._guard:
            stamp = StudyRecords.stamp(self._space)
            if self._known is None or self._known[0] != stamp:
                self._known = stamp, StudyRecords(self._space)
            return self._known
