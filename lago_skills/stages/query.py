"""The learned query of a decoder: made by the stages that need one, and kept beside the decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import ArtifactWriter, verify
from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.artifacts.workers import Progress
from lago_skills.core import Task
from lago_skills.planner.wordings import read_wordings
from lago_skills.query.dataset import query_steps
from lago_skills.query.runtime import LearnedQuery, QueryNetwork
from lago_skills.query.steps import QuerySteps
from lago_skills.stages import collect, pretrain, segment
from lago_skills.stages.job import Job, digest
from lago_skills.stages.workspace import Workspace

VERSION = 1
QUERY_FILE, TASKS_FILE = "query.safetensors", "task_embeddings.safetensors"
MAX_WORDINGS = 32
"""Ways to ask for a task that are trained with, its own sentence among them."""


def wanted(space: Workspace, decoder_dir: Path, seed: int) -> LearnedQuery | None:
    """The learned query for a decoder if the study's guide uses one: made if it is not there.

    Raises:
        ArtifactMissing: the decoder or what it was made from is not there.
    """
    return learned(space, decoder_dir, seed) if space.study.guide.query != "playbook" else None


def learned(space: Workspace, decoder_dir: Path, seed: int) -> LearnedQuery:
    """The learned query for a decoder: made if it is not there.

    Raises:
        ArtifactMissing: the decoder or what it was made from is not there.
    """
    query_job = job(space, decoder_dir, seed)
    if not query_job.done:
        query_job.run(lambda done, note: None)
    verify(query_job.folder)
    return LearnedQuery(QueryNetwork.load(query_job.folder / QUERY_FILE), load_arrays(query_job.folder / TASKS_FILE))


def recipe(space: Workspace, decoder_dir: Path, seed: int) -> dict[str, Any]:
    """Everything that the query network depends on."""
    return {
        "stage": "query",
        "version": VERSION,
        "decoder": digest(decoder_dir),
        "segments": digest(space.artifact("segments")),
        "tasks": {task.id: task.sentence for task in _tasks(space)},
        "words": _words(space),
        "held_out": space.study.decoder.held_out_share,
        "weighting": space.study.weighting.model_dump(mode="json"),
        "seed": seed,
        **space.study.query.model_dump(mode="json"),
    }


def job(space: Workspace, decoder_dir: Path, seed: int) -> Job:
    """Train the query network of a decoder; it is kept beside it."""

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        from lago_skills.query.training import train

        steps, sentences = training_steps(space, decoder_dir)
        network, figures = train(
            steps, space.study.query, seed, lambda update, loss: progress(update, f"loss {loss:.2f}")
        )
        network.save(writer.path / QUERY_FILE)
        save_arrays(sentences, writer.path / TASKS_FILE)
        writer.summary = {"steps": len(steps.inputs), **{name: round(value, 4) for name, value in figures.items()}}

    folder = decoder_dir.with_name(f"query-of-{decoder_dir.name}")
    made_of = recipe(space, decoder_dir, seed)
    return Job("query", folder.name, folder, made_of, space.study.query.n_updates, "updates", make)


def training_steps(space: Workspace, decoder_dir: Path) -> tuple[QuerySteps, dict[str, NDArray[np.float32]]]:
    """What the network is trained on, and the embedding of every task's sentence.

    Raises:
        ArtifactMissing: the decoder or what it was made from is not there.
    """
    from lago_skills.text.embed import embed

    decoder, study = pretrain.load(decoder_dir), space.study
    segments, embeddings = segment.load(space)
    names = list(dict.fromkeys(item.skill for item in segments))
    latents = dict(zip(names, decoder.latents(np.stack([embeddings[name] for name in names])), strict=True))
    others = _words(space)
    ways = {task.id: [task.sentence, *others.get(task.id, ())] for task in _tasks(space)}
    texts = list(dict.fromkeys(text for several in ways.values() for text in several))
    table = dict(zip(texts, embed(texts), strict=True))
    words = {task: np.stack([table[text] for text in several]) for task, several in ways.items()}
    steps = query_steps(
        collect.load(space.collected),
        segments,
        latents,
        words,
        study.grounding,
        study.query,
        study.decoder.held_out_share,
        study.weighting,
    )
    return steps, {task: rows[0] for task, rows in words.items()}


def _tasks(space: Workspace) -> tuple[Task, ...]:
    return (*space.study.seen, *space.study.unseen, *space.study.planned)


def _words(space: Workspace) -> dict[str, list[str]]:
    """Recorded other ways to ask for the demonstrated tasks."""
    from lago_skills.llm.transcripts import TranscriptFile

    known = read_wordings(TranscriptFile(space.transcripts), space.study.seen)
    return {task.id: known.texts.get(task.id, [])[: MAX_WORDINGS - 1] for task in space.study.seen}
