"""`lago bench decoder`: what a decoder costs as demonstrations grow: labels, embeddings, training; one run, one process."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lago_skills.core import Episode, Playbook, Segment
from lago_skills.decoder.dataset import label_episodes, labelled_steps
from lago_skills.experiments.replicate import Replicate, replicate_space
from lago_skills.stages import collect, plan
from lago_skills.stages.planning.phrases import phrases
from lago_skills.text.embed import embed

if TYPE_CHECKING:
    from lago_skills.stages.workspace import Workspace
    from lago_skills.study import Study

COUNTS = (1, 2, 5, 10)
"""Demonstrations of each task."""
Row = dict[str, Any]


def bench(space: Workspace, counts: tuple[int, ...], say: Callable[[str], None]) -> tuple[list[Row], Row]:
    """A row for each number of demonstrations, and what was measured on. Collecting them is not counted.

    Raises:
        StudyError: the study has an environment or data of its own.
    """
    import torch

    whole = replicate_space(space, space.study.seed, max(counts))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Constant.s. may be too high")  # of the scripted policies
        for stage in (collect, plan):
            Replicate(whole, say).make(lambda stage=stage: stage.jobs(whole))
    embed(["load the model"])
    shown = collect.load(whole.collected)
    books = plan.load(whole.artifact("playbooks"), whole.study.grounding.vocabulary)
    rows: list[Row] = []
    for count in counts:
        say(f"{count} demonstrations of each task")
        rows.append(_row(whole.study, whole.transcripts, books, shown, count))
    config = space.study.decoder
    return rows, {
        "study": space.study.name,
        "tasks": len(space.study.seen),
        "algorithm": config.algorithm,
        "updates": config.n_updates,
        "batch_size": config.batch_size,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def _row(
    study: Study, transcripts: Path, books: dict[str, Playbook], shown: dict[str, list[Episode]], count: int
) -> Row:
    from lago_skills.decoder.pretrain import pretrain

    config, grounding = study.decoder, study.grounding
    episodes = {task: runs[:count] for task, runs in shown.items()}
    times, cpu = [time.perf_counter()], time.process_time()
    segments: list[Segment] = label_episodes(episodes, books, grounding)
    times.append(time.perf_counter())
    sentences = list(dict.fromkeys(step.skill for book in books.values() for step in book.steps))
    embeddings = dict(zip(sentences, embed(sentences), strict=True))
    known = list(dict.fromkeys(segment.skill for segment in segments))
    words = phrases(known, transcripts, study.all_tasks, grounding.synonyms) if config.uses_phrases else None
    times.append(time.perf_counter())
    steps = labelled_steps(episodes, books, segments, embeddings, grounding, config, study.weighting)
    times.append(time.perf_counter())
    pretrain(steps, config, study.seed, lambda update, metrics: None, words)
    times.append(time.perf_counter())
    spent = {
        name: round(after - before, 2)
        for name, before, after in zip(("label_s", "embed_s", "prepare_s", "train_s"), times, times[1:], strict=False)
    }
    sizes = {"demos": count, "steps": len(steps.actions), "segments": len(segments)}
    cpu = time.process_time() - cpu  # what it takes where nothing else runs, with one thread
    return {**sizes, **spent, "total_s": round(times[-1] - times[0], 2), "cpu_s": round(cpu, 2)}
