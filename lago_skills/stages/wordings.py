"""The wording index of a study: recorded wordings, embedded once and kept."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.planner.wordings import NONE, check_wordings
from lago_skills.stages import plan
from lago_skills.stages.job import Workspace
from lago_skills.store import fingerprint, is_current, verify, writing
from lago_skills.tensors import load_arrays, save_arrays
from lago_skills.wording import WordingIndex

VERSION = 1
EMBEDDINGS_FILE, TEXTS_FILE = "embeddings.safetensors", "wordings.json"


def index(space: Workspace) -> tuple[WordingIndex, dict[str, list[str]]]:
    """The index of all tasks of a study, and the wordings it was made from; embedded on first use.

    Raises:
        PlanError: a task has no recorded wordings.
    """
    tasks = (*space.study.seen, *plan.undemonstrated(space))
    texts = check_wordings(TranscriptFile(plan.transcripts_path(space)), tasks, space.study.name)
    for task in tasks:
        texts[task.id] = [task.sentence, *texts[task.id]]
    folder = space.artifact("wordings")
    recipe = {"stage": "wordings", "version": VERSION, "texts": texts}
    if not is_current(folder, fingerprint(recipe)):
        from lago_skills.embed import embed

        flat = [text for task in texts for text in texts[task]]
        with writing(folder, "wordings", recipe) as writer:
            save_arrays({"embeddings": embed(flat)}, writer.path / EMBEDDINGS_FILE)
            (writer.path / TEXTS_FILE).write_text(
                json.dumps(texts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
            )
    verify(folder)
    rows = load_arrays(folder / EMBEDDINGS_FILE)["embeddings"]
    cuts = np.cumsum([len(texts[task]) for task in texts])[:-1]
    by_task = dict(zip(texts, np.split(rows, cuts), strict=True))
    return WordingIndex.fit({task.id: by_task[task.id] for task in tasks}, by_task[NONE]), texts


def find(space: Workspace, sentences: list[str]) -> list[dict[str, Any]]:
    """The task that each sentence asks for: `sentence, task (null where none is near), nearest, score, runner_up, ...`.

    Raises:
        PlanError: a task of the study has no recorded wordings.
    """
    from lago_skills.embed import embed

    known, _ = index(space)
    matches = known.match(embed(sentences))
    rows = [{"sentence": text, **asdict(match)} for text, match in zip(sentences, matches, strict=True)]
    return [{**row, "threshold": known.threshold} for row in rows]
