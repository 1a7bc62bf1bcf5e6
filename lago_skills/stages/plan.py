"""Plan: recorded language-model answers become playbooks. Nothing is asked here; a missing answer is an error."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from lago_skills.core import Playbook
from lago_skills.envs.grounding import MetaWorldGrounding
from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.planner import scenes
from lago_skills.planner.ask import Planner
from lago_skills.playbook import playbook_from
from lago_skills.stages.job import Job, Progress, Workspace
from lago_skills.store import ArtifactWriter, verify

VERSION = 1
PLAYBOOKS_FILE = "playbooks.json"


def planner(space: Workspace) -> Planner:
    """The planner of a study: its grounding, scenes and transcripts.

    Raises:
        ArtifactCorrupt: the transcript file is damaged.
        PlanError: the scene file cannot be read.
    """
    config = space.study.plan
    return Planner(
        study=space.study.name,
        grounding=MetaWorldGrounding(),
        scenes=scenes.load(space.root / config.scenes),
        transcripts=TranscriptFile(space.root / config.transcripts),
        model=config.model,
    )


def jobs(space: Workspace) -> list[Job]:
    """One job: all playbooks of the study.

    Raises:
        TranscriptMissing: an answer has not been recorded.
        PlanError: a recorded answer is not a valid playbook.
    """
    books = planner(space).playbooks(space.study.seen, space.study.unseen)

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        text = json.dumps({name: asdict(book) for name, book in books.items()}, indent=1, ensure_ascii=False)
        (writer.path / PLAYBOOKS_FILE).write_text(text + "\n", encoding="utf-8")
        progress(len(books), f"{len({s.skill for b in books.values() for s in b.steps})} skill sentences")
        writer.summary = {
            "playbooks": len(books),
            "models": sorted({book.model for book in books.values()}),
            "skills": len({step.skill for book in books.values() for step in book.steps}),
        }

    recipe = {
        "stage": "plan",
        "version": VERSION,
        "tasks": {task.id: books[task.id].transcript_key for task in (*space.study.seen, *space.study.unseen)},
        "playbooks": {name: asdict(book) for name, book in books.items()},
    }
    return [Job("plan", "playbooks", space.artifact("playbooks"), recipe, len(books), "playbooks", make)]


def playbooks(space: Workspace) -> dict[str, Playbook]:
    """The study's playbooks, by task id.

    Raises:
        ArtifactMissing: the stage has not run.
        ArtifactCorrupt: the file is damaged.
    """
    folder = space.artifact("playbooks")
    verify(folder)
    raw: dict[str, dict[str, Any]] = json.loads((folder / PLAYBOOKS_FILE).read_text(encoding="utf-8"))
    return {name: playbook_from(entry) for name, entry in raw.items()}
