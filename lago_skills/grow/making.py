"""A version is made: its guide from what was shown, and its folder with what the next one is made from."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import verify, writing
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.errors import ArtifactMissing, StudyError
from lago_skills.grow import material
from lago_skills.grow.versions import Version, Versions
from lago_skills.guide.bundle import load_bundle, write_bundle
from lago_skills.guide.description import DESCRIPTION_FILE
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.skill_story import GROWTH_FILE
from lago_skills.library import SkillLibrary
from lago_skills.stages import build, segment
from lago_skills.stages.segment import Labelled
from lago_skills.stages.workspace import Workspace

FORMAT = 1


def first_version(space: Workspace, versions: Versions) -> Version:
    """Version 0: what the study's stages built.

    Raises:
        ArtifactMissing: they have not run.
        ArtifactCorrupt: something of it is damaged.
        StudyError: the study looks skills up by a learned query, which nothing here trains anew.
    """
    if space.study.guide.query != "playbook":
        raise StudyError(
            f"study {space.study.name!r}: found guide.query = {space.study.guide.query!r}; expected 'playbook' for a library that grows; set that, or build anew"
        )
    bundle = space.artifact("bundle")
    if not bundle.is_dir():
        raise ArtifactMissing(
            f"study {space.study.name!r}: found no bundle to grow; expected a built one; run: lago run {space.argument}"
        )
    shown = segment.labelled(space)
    guide = load_bundle(bundle, grounding=space.study.grounding)
    with closing(guide.library):
        growth = {"number": 0, "verdict": "built", "from": verify(bundle).digest, "skills": guide.library.n_active}
        write_version(space, versions.next_folder(), guide, shown, build.probes(shown), growth, None)
    return versions.use(0)


def guide_of(space: Workspace, decoder: Decoder, library: SkillLibrary, shown: Labelled) -> LibraryGuide:
    """Who looks skills up in a library for the plans of what was shown, by the study's settings."""
    latents = build.step_latents(shown.books, decoder, shown.embeddings)
    return LibraryGuide(
        shown.grounding, decoder, library, shown.books, latents, build.retrieval(space.study.guide), None, shown.ends
    )


def write_version(
    space: Workspace,
    folder: Path,
    guide: LibraryGuide,
    shown: Labelled,
    probes: NDArray[np.float32],
    growth: dict[str, Any],
    before: Version | None,
) -> None:
    """A version's folder: a bundle, and what the next one is made from."""
    recipe = {
        "stage": "grow",
        "version": FORMAT,
        "before": None if before is None else verify(before.folder).digest,
        "growth": {name: growth[name] for name in ("number", "task", "sources", "from") if name in growth},
    }
    with writing(folder, "grow", recipe) as writer:
        write_bundle(
            writer.path,
            guide.decoder,
            guide.library,
            shown.books,
            build.step_latents(shown.books, guide.decoder, shown.embeddings),
            guide.config,
            None,
            space.study.load_world(),
            shown.ends,
        )
        writer.uncounted |= {DESCRIPTION_FILE, GROWTH_FILE}
        build.summarise(writer, guide.library, shown.books)
        material.save(shown, probes, writer.path, None if before is None else before.folder)
        text = json.dumps(growth, indent=1, ensure_ascii=False) + "\n"
        (writer.path / GROWTH_FILE).write_text(text, encoding="utf-8")
        writer.summary |= {name: growth[name] for name in ("number", "task", "verdict") if name in growth}
