"""Segment: playbooks, or change points and recorded names, label the offline steps; skill sentences are embedded."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ArtifactWriter, verify
from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.core import Episode, Playbook, Segment
from lago_skills.data.config import SegmentConfig, WeightingConfig
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.dataset import label_episodes, labelled_steps
from lago_skills.decoder.steps import LabelledSteps
from lago_skills.errors import ArtifactCorrupt
from lago_skills.llm.transcripts import TranscriptFile
from lago_skills.planner.motion_names import Naming
from lago_skills.stages import collect, plan
from lago_skills.stages.job import Job, digest
from lago_skills.stages.planning import measured_motions
from lago_skills.stages.workspace import Workspace
from lago_skills.study import Study
from lago_skills.words.ends import ENDS_FILE, Ends
from lago_skills.words.hindsight import relations_segments
from lago_skills.worlds.grounding import AnchoredGrounding, Grounding, anchored, hand_actions_of, related

if TYPE_CHECKING:
    from lago_skills.words.alignment import Alignment

VERSION, ALIGNMENT_VERSION, HAND_VERSION, RELATIONS_VERSION = 1, 4, 1, 1
SEGMENTS_FILE, SENTENCES_FILE, EMBEDDINGS_FILE = "segments.json", "sentences.json", "embeddings.safetensors"


@dataclass(frozen=True)
class Labelled:
    """Labelled demonstrations: what decoders are trained on and libraries are built from."""

    grounding: Grounding
    episodes: dict[str, list[Episode]]
    """By task id."""
    books: dict[str, Playbook]
    """By plan: that of a task has its id, those of its portfolio `TASK/NUMBER`."""
    segments: list[Segment]
    embeddings: dict[str, NDArray[np.float32]]
    """(E,) of every skill sentence, of plans and of motions."""
    ends: Ends | None
    """What the words of the plans mean; None where plans are in numbers."""

    @property
    def skills(self) -> list[str]:
        """The demonstrated skill sentences, in the order of segments."""
        return list(dict.fromkeys(item.skill for item in self.segments))

    def steps(self, config: DecoderConfig, weighting: WeightingConfig | None = None) -> LabelledSteps:
        """One row per demonstrated step, as a decoder of these settings is trained on it."""
        return labelled_steps(
            self.episodes, self.books, self.segments, self.embeddings, self.grounding, config, weighting, self.ends
        )


def labelled(space: Workspace) -> Labelled:
    """The study's demonstrations with their labels.

    Raises:
        ArtifactMissing: one of the stages up to this one has not run.
        ArtifactCorrupt: a file is damaged.
    """
    grounding, folder = space.study.grounding, space.artifact("segments")
    segments, embeddings = load(folder)
    return Labelled(
        grounding=grounding,
        episodes=collect.load(space.collected),
        books=_books(space),
        segments=segments,
        embeddings=embeddings,
        ends=Ends.load(folder, grounding.vocabulary) if (folder / ENDS_FILE).is_file() else None,
    )


def _books(space: Workspace) -> dict[str, Playbook]:
    """Every plan: those of tasks, and those of portfolios under names of their own."""
    folder, vocabulary = space.artifact("playbooks"), space.study.grounding.vocabulary
    return plan.load(folder, vocabulary) | plan.load_portfolios(folder, vocabulary)


def jobs(space: Workspace) -> list[Job]:
    """One job: segments of all episodes, and embeddings of the skill sentences of the study's playbooks and motions.

    Raises:
        ArtifactMissing: episodes or playbooks have not been made.
        PlanError: motions of data without playbooks have no names yet.
    """
    study, motions = space.study, measured_motions.load(space.motions) if space.study.unplanned else {}
    names = Naming({}, {}, None)
    if study.unplanned:
        names = measured_motions.complete(study, motions, TranscriptFile(space.transcripts))

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        books = _books(space)
        episodes = collect.load(space.collected)
        unplanned = {task.id for task in study.unplanned}
        planned = {name: runs for name, runs in episodes.items() if name not in unplanned}
        if by_relations(study):
            known = related(study.grounding)
            segments = relations_segments(planned, books, known, study.segment.hindsight)
        elif study.plan.form == "words":
            segments = align(planned, books, anchored(study.grounding), writer, progress, study.segment.starts)
        else:
            segments = label_episodes(planned, books, study.grounding)
        segments += measured_motions.segments(study, motions, names, episodes)
        progress(1, f"{len(segments)} segments")
        sentences = [step.sentence for book in books.values() for step in book.steps]
        sentences += [segment.skill for segment in segments if segment.about]
        _write(writer, segments, list(dict.fromkeys([*sentences, *names.words])), progress)
        shown = {segment.skill for segment in segments}
        lacking = [
            f"no step of the demonstrations of {name!r} is of {sentence!r}, so no skill is made of it"
            for name in planned
            for sentence in dict.fromkeys(step.sentence for step in books[name].steps)
            if sentence not in shown
        ]
        if lacking:
            writer.summary["notes"] = lacking

    recipe: dict[str, Any] = {
        "stage": "segment",
        "version": VERSION,
        "playbooks": digest(space.artifact("playbooks")),
        "episodes": {task: digest(folder) for task, folder in space.collected.items()},
        **study.world_recipe(),
    }
    if study.plan.form == "words":
        recipe |= _recipe_of_words(study)
    if study.unplanned:
        recipe["change_points"] = study.segment.model_dump(mode="json", exclude={"starts", "hindsight"})
        recipe["motions"] = {task.id: asdict(motions[task.id]) for task in study.unplanned}
        recipe["names"] = {name: [answer.id, answer.model] for name, answer in names.answers.items()}
    return [Job("segment", "segments", space.artifact("segments"), recipe, 2, "parts", make)]


def _recipe_of_words(study: Study) -> dict[str, Any]:
    """What segments depend on where plans are in words."""
    if by_relations(study):
        return {"relations": {"version": RELATIONS_VERSION, "hindsight": study.segment.hindsight}}
    recipe: dict[str, Any] = {"alignment": ALIGNMENT_VERSION}
    if hand_actions_of(anchored(study.grounding)) is not None:
        recipe["hand"] = HAND_VERSION
    if study.segment.starts != SegmentConfig().starts:
        recipe["starts"] = study.segment.starts
    return recipe


def _write(writer: ArtifactWriter, segments: list[Segment], sentences: list[str], progress: Progress) -> None:
    from lago_skills.text.embed import MODEL_SHA256, embed

    (writer.path / SEGMENTS_FILE).write_text(json.dumps([_values(s) for s in segments]) + "\n", encoding="utf-8")
    text = json.dumps(sentences, indent=1, ensure_ascii=False)
    (writer.path / SENTENCES_FILE).write_text(text + "\n", encoding="utf-8")
    save_arrays({"embeddings": embed(sentences)}, writer.path / EMBEDDINGS_FILE)
    progress(2, f"{len(segments)} segments, {len(sentences)} sentences")
    writer.summary = {
        "segments": len(segments),
        "sentences": len(sentences),
        "demonstrated": len(Counter(s.skill for s in segments)),
        "embedding_model_sha256": MODEL_SHA256,
        **writer.summary,
    }


def _values(segment: Segment) -> dict[str, Any]:
    return {name: value for name, value in asdict(segment).items() if name != "about" or value}


def by_relations(study: Study) -> bool:
    """Whether plans are in words and states tell which of their relations hold."""
    return study.plan.form == "words" and not study.grounding.vocabulary.acting


def align(
    episodes: dict[str, list[Episode]],
    books: dict[str, Playbook],
    grounding: AnchoredGrounding,
    writer: ArtifactWriter,
    progress: Progress,
    n_starts: int,
) -> list[Segment]:
    """Lay plans in words over their demonstrations, both by task id, and keep what their words turn out to mean."""
    from lago_skills.words import alignment as words_alignment
    from lago_skills.words.learning import learn

    alignments: dict[str, Alignment] = {}
    for number, (task, runs) in enumerate(episodes.items()):
        alignments[task] = words_alignment.align(runs, books[task], grounding, n_starts=n_starts)
        progress(0, f"aligned {number + 1} of {len(episodes)} tasks")
    segments, ends = learn(episodes, books, alignments, grounding)
    ends.save(writer.path)
    writer.summary = {"aligned": {task: [round(s, 2) for s in each.scores] for task, each in alignments.items()}}
    return segments


def provenance(segments: list[Segment]) -> dict[str, Any]:
    """Where a skill comes from: the tasks of its segments, and what cut them."""
    return {"tasks": sorted({s.task_id for s in segments}), "cut": sorted({s.cut for s in segments})}


def load(folder: Path) -> tuple[list[Segment], dict[str, NDArray[np.float32]]]:
    """Segments, and the (E,) embedding of every skill sentence.

    Raises:
        ArtifactMissing: the stage has not run.
        ArtifactCorrupt: a file is damaged, or of another version.
    """
    verify(folder)
    try:
        entries: list[dict[str, Any]] = json.loads((folder / SEGMENTS_FILE).read_text(encoding="utf-8"))
        segments = [replace(Segment(**entry), about=tuple(entry.get("about", ()))) for entry in entries]
        sentences: list[str] = json.loads((folder / SENTENCES_FILE).read_text(encoding="utf-8"))
        vectors = load_arrays(folder / EMBEDDINGS_FILE)["embeddings"]
        return segments, dict(zip(sentences, vectors, strict=True))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactCorrupt(
            f"segments {str(folder)!r} cannot be read ({error}); expected the files that this version writes; delete the folder and run: lago segment STUDY"
        ) from error
