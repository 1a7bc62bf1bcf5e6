"""Build: one library record per demonstrated skill sentence, and the bundle a guide is loaded from."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Playbook, Segment, Skill
from lago_skills.decoder.runtime import DecoderWeights
from lago_skills.envs.grounding import Grounding
from lago_skills.guide.bundle import load_bundle, write_bundle
from lago_skills.guide.guides import LibraryGuide, RetrievalConfig
from lago_skills.library import SkillLibrary
from lago_skills.stages import plan, pretrain, segment
from lago_skills.stages.job import Job, Progress, Workspace, digest
from lago_skills.store import ArtifactWriter

VERSION = 1


def jobs(space: Workspace) -> list[Job]:
    """One job: the bundle, which holds the library."""
    config = space.study.guide

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        guide = assemble(space, pretrain.load(space.artifact("decoder")))
        books = {name: book.playbook for name, book in guide.playbooks.items()}
        library, decoder = guide.library, guide.decoder
        write_bundle(writer.path, decoder, library, books, guide.step_latents, guide.config)
        progress(1, f"{len(library)} skills, {len(books)} playbooks")
        writer.summary = {"skills": len(library), "playbooks": len(books), "latent_size": decoder.latent_size}

    recipe = {
        "stage": "build",
        "version": VERSION,
        "decoder": digest(space.artifact("decoder")),
        "segments": digest(space.artifact("segments")),
        "playbooks": digest(space.artifact("playbooks")),
        **config.model_dump(),
    }
    return [Job("build", "bundle", space.artifact("bundle"), recipe, 1, "bundles", make)]


def assemble(space: Workspace, decoder: DecoderWeights) -> LibraryGuide:
    """The guide of a study with a decoder: library, playbooks and latents of their steps.

    Raises:
        ArtifactMissing: segments or playbooks have not been made.
        ArtifactCorrupt: they are damaged.
    """
    found, embeddings = segment.load(space)
    config = RetrievalConfig(**space.study.guide.model_dump())
    return assemble_from(space.study.grounding, decoder, found, embeddings, plan.playbooks(space), config)


def assemble_from(
    grounding: Grounding,
    decoder: DecoderWeights,
    found: list[Segment],
    embeddings: dict[str, NDArray[np.float32]],
    books: dict[str, Playbook],
    config: RetrievalConfig,
) -> LibraryGuide:
    """A guide from its parts: a skill for every sentence of the segments, latents for every step of the playbooks."""
    latents = {
        name: decoder.latents(np.stack([embeddings[step.skill] for step in book.steps])) for name, book in books.items()
    }
    return LibraryGuide(grounding, decoder, _library(found, decoder, embeddings), books, latents, config)


def _library(found: list[Segment], decoder: DecoderWeights, embeddings: dict[str, Any]) -> SkillLibrary:
    by_sentence: defaultdict[str, list[Segment]] = defaultdict(list)
    for item in found:
        by_sentence[item.skill].append(item)
    sentences = list(by_sentence)
    latents = decoder.latents(np.stack([embeddings[sentence] for sentence in sentences]))
    return SkillLibrary(
        tuple(
            Skill(
                id=number,
                version=1,
                sentence=sentence,
                latent=latents[number],
                provenance={"tasks": sorted({s.task_id for s in by_sentence[sentence]})},
                support={
                    "segments": float(len(by_sentence[sentence])),
                    "steps": float(sum(s.stop - s.start for s in by_sentence[sentence])),
                },
            )
            for number, sentence in enumerate(sentences)
        )
    )


def guide(space: Workspace) -> LibraryGuide:
    """The study's guide.

    Raises:
        ArtifactMissing: the stage has not run.
        ArtifactCorrupt: the bundle is damaged.
    """
    return load_bundle(space.artifact("bundle"))
