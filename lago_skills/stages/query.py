"""The learned query of a decoder: made by the stages that need one, and kept beside the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ArtifactWriter, verify
from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.core import Task
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.planner.wordings import read_wordings
from lago_skills.query.query_dataset import QuerySteps, query_steps
from lago_skills.query.query_network import LearnedQuery, QueryNetwork
from lago_skills.stages import pretrain, segment
from lago_skills.stages.job import Job, digest
from lago_skills.stages.segment import Labelled
from lago_skills.stages.workspace import Workspace
from lago_skills.study import Study

VERSION = 1
QUERY_FILE, TASKS_FILE = "query.safetensors", "task_embeddings.safetensors"
MAX_WORDINGS = 32
"""Ways to ask for a task that are trained with, its own sentence among them."""


def wanted(space: Workspace, decoder_dir: Path, seed: int) -> LearnedQuery | None:
    """The learned query for a decoder if the study's guide uses one: made if it is not there.

    Raises:
        ArtifactMissing: the decoder or what it was made from is not there.
    """
    return learned(job(space, decoder_dir, seed)) if space.study.guide.query != "playbook" else None


def learned(query_job: Job) -> LearnedQuery:
    """The learned query that a job makes: made if it is not there.

    Raises:
        ArtifactMissing: the decoder or what it was made from is not there.
    """
    if not query_job.done:
        query_job.run(lambda done, note: None)
    verify(query_job.folder)
    return LearnedQuery(QueryNetwork.load(query_job.folder / QUERY_FILE), load_arrays(query_job.folder / TASKS_FILE))


def job(space: Workspace, decoder_dir: Path, seed: int) -> Job:
    """Train the query network of a decoder; it is kept beside it."""
    study, others = space.study, other_words(space.study.seen, space.transcripts)

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        from lago_skills.query.training import train

        ways = {task.id: [task.sentence, *others.get(task.id, ())] for task in study.all_tasks}
        steps, sentences = training_steps(segment.labelled(space), pretrain.load(decoder_dir), ways, study)
        network, figures = train(steps, study.query, seed, lambda update, loss: progress(update, f"loss {loss:.2f}"))
        network.save(writer.path / QUERY_FILE)
        save_arrays(sentences, writer.path / TASKS_FILE)
        writer.summary = {"steps": len(steps.inputs), **{name: round(value, 4) for name, value in figures.items()}}

    recipe = {
        "stage": "query",
        "version": VERSION,
        "decoder": digest(decoder_dir),
        "segments": digest(space.artifact("segments")),
        "tasks": {task.id: task.sentence for task in study.all_tasks},
        "words": others,
        "held_out": study.decoder.held_out_share,
        "weighting": study.weighting.model_dump(mode="json"),
        "seed": seed,
        **study.query.model_dump(mode="json"),
    }
    folder = decoder_dir.with_name(f"query-of-{decoder_dir.name}")
    return Job("query", folder.name, folder, recipe, study.query.n_updates, "updates", make)


def training_steps(
    shown: Labelled, decoder: Decoder, ways: Mapping[str, list[str]], study: Study
) -> tuple[QuerySteps, dict[str, NDArray[np.float32]]]:
    """What the network is trained on, and the (E,) embedding of every task's sentence.

    `ways` are the sentences that ask for each task, by task id, its own first.
    """
    from lago_skills.text.embed import embed

    names = shown.skills
    latents = dict(zip(names, decoder.latents(np.stack([shown.embeddings[name] for name in names])), strict=True))
    texts = list(dict.fromkeys(text for several in ways.values() for text in several))
    table = dict(zip(texts, embed(texts), strict=True))
    words = {task: np.stack([table[text] for text in several]) for task, several in ways.items()}
    steps = query_steps(
        shown.episodes,
        shown.segments,
        latents,
        words,
        shown.grounding,
        study.query,
        study.decoder.held_out_share,
        study.weighting,
    )
    return steps, {task: rows[0] for task, rows in words.items()}


def other_words(tasks: tuple[Task, ...], transcripts: Path) -> dict[str, list[str]]:
    """Recorded other ways to ask for demonstrated tasks, by task id."""
    from lago_skills.llm.transcripts import TranscriptFile

    known = read_wordings(TranscriptFile(transcripts), tasks)
    return {task.id: known.texts.get(task.id, [])[: MAX_WORDINGS - 1] for task in tasks}
