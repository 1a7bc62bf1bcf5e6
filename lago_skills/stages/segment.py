"""Segment: playbooks, or change points and recorded names, label the offline steps; skill sentences are embedded."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import ArtifactWriter, verify
from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.artifacts.workers import Progress
from lago_skills.core import Episode, Playbook, Segment
from lago_skills.decoder.dataset import label_episodes
from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.planner.motion_names import Naming
from lago_skills.stages import collect, plan
from lago_skills.stages.job import Job, digest
from lago_skills.stages.planning import measured_motions
from lago_skills.stages.workspace import Workspace
from lago_skills.words.ends import Ends
from lago_skills.worlds.grounding import anchored

if TYPE_CHECKING:
    from lago_skills.words.alignment import Alignment

VERSION, ALIGNMENT_VERSION = 1, 4
SEGMENTS_FILE, SENTENCES_FILE, EMBEDDINGS_FILE = "segments.json", "sentences.json", "embeddings.safetensors"


def jobs(space: Workspace) -> list[Job]:
    """One job: segments of all episodes, and embeddings of the skill sentences of the study's playbooks and motions.

    Raises:
        ArtifactMissing: episodes or playbooks have not been made.
        PlanError: motions of data without playbooks have no names yet.
    """
    unplanned = [task.id for task in space.study.unplanned]
    names = Naming({}, {}, None)
    if unplanned:
        names = measured_motions.complete(space, TranscriptFile(space.transcripts))

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        from lago_skills.text.embed import MODEL_SHA256, embed

        books, episodes = plan.playbooks(space), collect.load(space.collected)
        planned = {name: runs for name, runs in episodes.items() if name not in unplanned}
        if space.study.plan.form == "words":
            segments = _align(space, planned, books, writer, progress)
        else:
            segments = label_episodes(planned, books, space.study.grounding)
        if unplanned:
            segments += measured_motions.segments(space, names, episodes)
        progress(1, f"{len(segments)} segments")
        sentences = list(
            dict.fromkeys([*(step.sentence for book in books.values() for step in book.steps), *names.words])
        )
        vectors = embed(sentences)
        (writer.path / SEGMENTS_FILE).write_text(json.dumps([asdict(s) for s in segments]) + "\n", encoding="utf-8")
        (writer.path / SENTENCES_FILE).write_text(
            json.dumps(sentences, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        save_arrays({"embeddings": vectors}, writer.path / EMBEDDINGS_FILE)
        progress(2, f"{len(segments)} segments, {len(sentences)} sentences")
        writer.summary = {
            "segments": len(segments),
            "sentences": len(sentences),
            "demonstrated": len(Counter(s.skill for s in segments)),
            "embedding_model_sha256": MODEL_SHA256,
            **writer.summary,
        }

    recipe: dict[str, Any] = {
        "stage": "segment",
        "version": VERSION,
        "playbooks": digest(space.artifact("playbooks")),
        "episodes": {task.id: digest(space.episodes(task.id)) for task in space.study.seen},
    }
    if space.study.plan.form == "words":
        recipe["alignment"] = ALIGNMENT_VERSION
    if unplanned:
        known = measured_motions.load(space)
        recipe["change_points"] = space.study.segment.model_dump(mode="json")
        recipe["motions"] = {name: asdict(known[name]) for name in unplanned}
        recipe["names"] = {name: [answer.id, answer.model] for name, answer in names.answers.items()}
    return [Job("segment", "segments", space.artifact("segments"), recipe, 2, "parts", make)]


def _align(
    space: Workspace,
    episodes: dict[str, list[Episode]],
    books: dict[str, Playbook],
    writer: ArtifactWriter,
    progress: Progress,
) -> list[Segment]:
    """Lay plans in words over their demonstrations, and keep what their words turn out to mean."""
    from lago_skills.words.alignment import align
    from lago_skills.words.learning import learn

    grounding = anchored(space.study.grounding)
    alignments: dict[str, Alignment] = {}
    for number, (task, runs) in enumerate(episodes.items()):
        alignments[task] = align(runs, books[task], grounding)
        progress(0, f"aligned {number + 1} of {len(episodes)} tasks")
    segments, ends = learn(episodes, books, alignments, grounding)
    ends.save(writer.path)
    writer.summary = {"aligned": {task: [round(s, 2) for s in each.scores] for task, each in alignments.items()}}
    return segments


def ends(space: Workspace) -> Ends | None:
    """What the words of the study's plans mean; None where they are in numbers.

    Raises:
        ArtifactCorrupt: the file is damaged.
    """
    return (
        Ends.load(space.artifact("segments"), space.study.grounding.vocabulary)
        if space.study.plan.form == "words"
        else None
    )


def provenance(segments: list[Segment]) -> dict[str, Any]:
    """Where a skill comes from: the tasks of its segments, and what cut them."""
    return {"tasks": sorted({s.task_id for s in segments}), "cut": sorted({s.cut for s in segments})}


def load(space: Workspace) -> tuple[list[Segment], dict[str, NDArray[np.float32]]]:
    """Segments, and the embedding of every skill sentence.

    Raises:
        ArtifactMissing: the stage has not run.
        ArtifactCorrupt: a file is damaged.
    """
    folder = space.artifact("segments")
    verify(folder)
    segments = [Segment(**entry) for entry in json.loads((folder / SEGMENTS_FILE).read_text(encoding="utf-8"))]
    sentences: list[str] = json.loads((folder / SENTENCES_FILE).read_text(encoding="utf-8"))
    vectors = load_arrays(folder / EMBEDDINGS_FILE)["embeddings"]
    return segments, dict(zip(sentences, vectors, strict=True))
