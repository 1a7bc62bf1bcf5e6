"""The wording matcher of a study: trained once on recorded wordings, kept beside the other artifacts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ArtifactWriter
from lago_skills.artifacts.progress import StageProgress
from lago_skills.core import Task
from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.planner.wordings import NONE, check_wordings, read_wordings
from lago_skills.stages.job import Job
from lago_skills.stages.workspace import Workspace
from lago_skills.text.matcher import N_UPDATES, WordingMatcher, train_matcher

VERSION = 1


def job(space: Workspace) -> Job:
    """Train the matcher of all tasks of a study.

    Raises:
        PlanError: a task has no recorded wordings.
    """
    tasks = space.study.all_tasks
    known = read_wordings(TranscriptFile(space.transcripts), tasks)
    check_wordings(known, tasks, space.argument)
    texts = {task.id: [task.sentence, *known.texts[task.id]] for task in tasks}

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        matcher = train_matcher(
            texts,
            known.texts[NONE],
            known.terms,
            progress,
            n_updates=N_UPDATES,
            n_threads=space.study.workers,
            seed=space.study.seed,
        )
        matcher.save(writer.path)
        writer.summary = {
            "tasks": len(texts),
            "wordings": sum(map(len, texts.values())),
            "threshold": matcher.threshold,
        }

    recipe: dict[str, Any] = {
        "stage": "wordings",
        "version": VERSION,
        "texts": texts,
        "unrelated": known.texts[NONE],
        "terms": known.terms,
        "seed": space.study.seed,
    }
    return Job("wordings", "wordings", space.artifact("wordings"), recipe, N_UPDATES, "updates", make)


def matcher(work: Job, tasks: tuple[Task, ...], say: Callable[[str], None]) -> WordingMatcher:
    """The matcher of all these tasks that a job makes: trained now if that has not been done or wordings have changed.

    Raises:
        ArtifactCorrupt: the trained matcher is damaged.
    """
    if not work.done:
        say("training the sentence encoder on the recorded wordings, once: a few minutes")
        with StageProgress("wordings", work.total, work.unit) as progress:
            work.run(lambda done, note: progress.update(work.name, done, note))
            progress.finish(work.name, work.total)
    return WordingMatcher.load(work.folder, tuple(task.id for task in tasks))


def find(space: Workspace, sentences: list[str], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The task that each sentence asks for: `sentence, task (null where none is near), nearest, score, runner_up, ...`.

    Raises:
        PlanError: a task of the study has no recorded wordings.
        ArtifactCorrupt: the trained matcher is damaged.
    """
    known = matcher(job(space), space.study.all_tasks, say)
    rows = [{"sentence": text, **asdict(match)} for text, match in zip(sentences, known.match(sentences), strict=True)]
    return [{**row, "threshold": known.threshold} for row in rows]
