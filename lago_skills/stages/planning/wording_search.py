"""The wording matcher of a study: trained once on recorded wordings, kept beside the other artifacts.

Studies whose recordings come with the package have theirs in `data/matchers`: an artifact like any other, used while it is of
the wordings as they are. `checkpoints/STUDY/wordings`, copied there, is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ArtifactWriter, fingerprint, is_current
from lago_skills.artifacts.progress import StageProgress
from lago_skills.errors import PlanError
from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.planner.wordings import NONE, check_wordings, read_wordings
from lago_skills.stages.job import Job
from lago_skills.stages.workspace import Workspace
from lago_skills.text.matcher import MATCHER_FILE, NEAR, WordingMatcher

VERSION, N_UPDATES = 2, 1200


def job(space: Workspace) -> Job:
    """Train the matcher of all tasks of a study's world that have recorded wordings, so that one serves all studies with the same recordings.

    Raises:
        PlanError: a task of the study has no recorded wordings.
    """
    tasks = {task.id: task for task in (*space.world.tasks.values(), *space.study.all_tasks)}
    known = read_wordings(TranscriptFile(space.transcripts), tuple(tasks.values()))
    check_wordings(known, space.study.all_tasks, space.argument)
    texts = {name: [task.sentence, *known.texts[name]] for name, task in sorted(tasks.items()) if known.texts.get(name)}

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        from lago_skills.text.matcher_training import train_matcher

        trained = train_matcher(
            texts,
            known.texts[NONE],
            known.terms,
            progress,
            n_updates=N_UPDATES,
            n_threads=space.study.workers,
            seed=space.study.seed,
        )
        trained.save(writer.path / MATCHER_FILE)
        writer.summary = {
            "tasks": len(texts),
            "wordings": sum(map(len, texts.values())),
        }

    recipe: dict[str, Any] = {
        "stage": "wordings",
        "version": VERSION,
        "wordings": fingerprint([texts, known.texts[NONE], known.terms]),
        "seed": space.study.seed,
    }
    with_the_package = is_current(space.matcher, fingerprint(recipe))
    folder = space.matcher if with_the_package else space.artifact("wordings")
    return Job("wordings", "wordings", folder, recipe, N_UPDATES, "updates", make)


def matcher(work: Job, say: Callable[[str], None]) -> WordingMatcher:
    """The matcher that a job makes: trained now if that has not been done or wordings have changed.

    Raises:
        ArtifactCorrupt: the trained matcher is damaged.
    """
    if not work.done:
        say("training the sentence encoder on the recorded wordings, once: a few minutes")
        with StageProgress("wordings", work.total, work.unit) as progress:
            work.run(lambda done, note: progress.update(work.name, done, note))
            progress.finish(work.name, work.total)
    return WordingMatcher.load(work.folder / MATCHER_FILE)


def trained(space: Workspace) -> Path | None:
    """The file of a study's trained matcher, where there is one for the wordings as they are."""
    try:
        work = job(space)
    except PlanError:  # tasks without wordings
        return None
    return work.folder / MATCHER_FILE if work.done else None


def find(space: Workspace, sentences: list[str], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The task of the study that each sentence asks for: `sentence, task (null where none is near), nearest, score, runner_up, ...`.

    Raises:
        PlanError: a task of the study has no recorded wordings.
        ArtifactCorrupt: the trained matcher is damaged.
    """
    known = matcher(job(space), say)
    matches = known.match(sentences, [task.id for task in space.study.all_tasks])
    rows = [{"sentence": text, **asdict(match)} for text, match in zip(sentences, matches, strict=True)]
    return [{**row, "threshold": NEAR} for row in rows]
