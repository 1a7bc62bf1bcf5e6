"""What a version is made from and what it holds beside its bundle: labelled demonstrations of all that has been taken in so far."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.core import Episode, Playbook
from lago_skills.data.episodes import load_episodes, save_episodes
from lago_skills.decoder.dataset import label_episodes
from lago_skills.guide.bundle import read_plans
from lago_skills.playbook import plan_name
from lago_skills.stages import segment
from lago_skills.stages.segment import Labelled
from lago_skills.study import Study
from lago_skills.words.ends import Ends
from lago_skills.words.hindsight import relations_segments
from lago_skills.worlds.grounding import anchored, related

EPISODES_DIR = "episodes"
PROBES_FILE = "probes.safetensors"


def save(shown: Labelled, probes: NDArray[np.float32], folder: Path, before: Path | None = None) -> None:
    """Write labelled demonstrations beside a bundle; episodes that the version before has too are linked, not copied."""
    (folder / EPISODES_DIR).mkdir()
    for task, episodes in shown.episodes.items():
        place = folder / EPISODES_DIR / f"{task}.npz"
        old = before / EPISODES_DIR / place.name if before is not None else None
        if old is not None and old.is_file() and len(load_episodes(old)) == len(episodes):
            _link(old, place)
        else:
            save_episodes(place, episodes)
    segments = [asdict(each) for each in shown.segments]
    (folder / segment.SEGMENTS_FILE).write_text(json.dumps(segments) + "\n", encoding="utf-8")
    sentences = list(shown.embeddings)
    text = json.dumps(sentences, indent=1, ensure_ascii=False)
    (folder / segment.SENTENCES_FILE).write_text(text + "\n", encoding="utf-8")
    save_arrays(
        {"embeddings": np.stack([shown.embeddings[each] for each in sentences])}, folder / segment.EMBEDDINGS_FILE
    )
    save_arrays({"inputs": probes}, folder / PROBES_FILE)


def _link(source: Path, place: Path) -> None:
    try:
        os.link(source, place)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, place)


def load(folder: Path, study: Study) -> Labelled:
    """The labelled demonstrations of a version.

    Raises:
        ArtifactCorrupt: a file is damaged.
    """
    segments, embeddings = segment.load(folder)
    books = read_plans(folder, study.grounding.vocabulary)
    episodes = {path.stem: load_episodes(path) for path in sorted((folder / EPISODES_DIR).glob("*.npz"))}
    ends = Ends.load(folder, study.grounding.vocabulary) if study.plan.form == "words" else None
    return Labelled(study.grounding, episodes, books, segments, embeddings, ends)


def has_episodes(folder: Path, task: str) -> bool:
    """Whether a version holds episodes of a task."""
    return (folder / EPISODES_DIR / f"{task}.npz").is_file()


def load_probes(folder: Path) -> NDArray[np.float32]:
    """(P, I) states in which skills are compared."""
    return load_arrays(folder / PROBES_FILE)["inputs"]


def with_plans(shown: Labelled, plans: Mapping[str, Playbook]) -> Labelled:
    """With the plans of a task; their sentences are embedded."""
    from lago_skills.text.embed import embed

    sentences = dict.fromkeys(step.sentence for book in plans.values() for step in book.steps)
    new = [sentence for sentence in sentences if sentence not in shown.embeddings]
    vectors = dict(zip(new, embed(new), strict=True)) if new else {}
    return replace(shown, books={**shown.books, **plans}, embeddings={**shown.embeddings, **vectors})


def led_by(shown: Labelled, lead: Playbook) -> Labelled:
    """With this plan as that of its task; the one before goes where this one was, or under a new name of the task's portfolio."""
    task, books = lead.task_id, dict(shown.books)
    if books[task] == lead:
        return shown
    free = (plan_name(task, number) for number in count(1))
    name = next((name for name, book in books.items() if book == lead), None) or next(n for n in free if n not in books)
    books[name], books[task] = books[task], lead
    return replace(shown, books=books)


def with_episodes(shown: Labelled, task: str, episodes: Sequence[Episode], study: Study) -> Labelled:
    """With episodes of a task whose plan is there, cut and labelled by it.

    Raises:
        DataError: the plan cannot be laid over them.
    """
    known = shown.episodes.get(task, [])
    ends = shown.ends
    if not shown.grounding.vocabulary.acting and shown.books[task].form == "words":
        segments = relations_segments(
            {task: list(episodes)}, shown.books, related(shown.grounding), study.segment.hindsight
        )
    elif ends is None:
        segments = label_episodes({task: list(episodes)}, shown.books, shown.grounding)
    else:
        from lago_skills.words.alignment import align
        from lago_skills.words.learning import learn

        grounding, books = anchored(shown.grounding), {task: shown.books[task]}
        alignments = {task: align(list(episodes), books[task], grounding, n_starts=study.segment.starts)}
        segments, own = learn({task: list(episodes)}, books, alignments, grounding)
        ends = ends.joined(own, [shown.books[each] for each in dict.fromkeys((*shown.episodes, task))])
    moved = [replace(each, episode=each.episode + len(known)) for each in segments]
    laid = [each for each in shown.segments if each.cut == "alignment"]  # entry i of the ends is of segment i
    others = [each for each in shown.segments if each.cut != "alignment"]
    return replace(
        shown,
        episodes={**shown.episodes, task: [*known, *episodes]},
        segments=[*laid, *moved, *others],
        ends=ends,
    )
