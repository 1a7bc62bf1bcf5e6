"""Build: one library record per demonstrated skill sentence, and the bundle a guide is loaded from."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from lago_skills.core import Segment, Skill
from lago_skills.decoder.runtime import DecoderWeights
from lago_skills.guide.bundle import load_bundle, write_bundle
from lago_skills.guide.guides import LibraryGuide, RetrievalConfig
from lago_skills.library import SkillLibrary
from lago_skills.stages import plan, segment
from lago_skills.stages.job import Job, Progress, Workspace, digest
from lago_skills.stages.pretrain import DECODER_FILE
from lago_skills.store import ArtifactWriter, verify

VERSION = 1


def jobs(space: Workspace) -> list[Job]:
    """One job: the bundle, which holds the library."""
    config = space.study.guide

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        verify(space.artifact("decoder"))
        decoder = DecoderWeights.load(space.artifact("decoder") / DECODER_FILE)
        found, embeddings = segment.load(space)
        books = plan.playbooks(space)
        library = _library(found, decoder, embeddings)
        latents = {
            name: decoder.latents(np.stack([embeddings[step.skill] for step in book.steps]))
            for name, book in books.items()
        }
        write_bundle(writer.path, decoder, library, books, latents, RetrievalConfig(**config.model_dump()))
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
