"""A library is kept in order: skills that no plan looks up are proposed for retirement, near duplicates for merging, and its size may have a cap.

What is proposed is said with its figures; what is applied makes a version like any other, judged by the old tasks that it may touch. Nothing is lost: a retired skill
is disabled, a merged one forwards to the other, and the version before stays.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import file_hash
from lago_skills.core import Skill
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.errors import StudyError
from lago_skills.grow import material
from lago_skills.grow.judging import judged
from lago_skills.grow.making import first_version, guide_of, write_version
from lago_skills.grow.settings import Settings
from lago_skills.grow.skills import GROWER
from lago_skills.grow.versions import Version, Versions
from lago_skills.guide.bundle import DECODER_FILE, load_bundle
from lago_skills.guide.guides import LibraryGuide
from lago_skills.library import SkillLibrary
from lago_skills.library.duplicates import SAME_WORDS, near_duplicates
from lago_skills.library.exchange import copy
from lago_skills.stages.workspace import Workspace

UNUSED_WEIGHT = 0.01
"""Of the weight of one plan's step: a skill that gets less in every step of every plan is not looked up."""


@dataclass(frozen=True)
class Proposal:
    """A skill that the library could do without."""

    what: Literal["retire", "merge"]
    skill: int
    sentence: str
    into: int | None
    """Of a merge: the skill that stays."""
    why: str

    def line(self) -> str:
        """For people."""
        place = "" if self.into is None else f" into s{self.into:04d}"
        return f"{self.what} s{self.skill:04d}{place}: {self.sentence!r}, {self.why}"


def proposals(guide: LibraryGuide, probes: NDArray[np.float32], cap: int | None = None) -> list[Proposal]:
    """What the library of a guide could do without: merges first, then skills that nothing looks up, then those looked up least, down to a cap.

    Args:
        guide: with the plans that matter.
        probes: (P, I) states in which skills are compared.
        cap: most skills that may stay enabled; None where there is no such limit.
    """
    skills = {skill.id: skill for skill in guide.library.list() if skill.enabled}
    merges, used = _merges(guide, skills, probes), _used(guide)
    merged = {each.skill for each in merges}
    stay = [skill for number, skill in skills.items() if number not in merged]
    by_use = sorted(stay, key=lambda skill: (used[skill.id], skill.support.get("steps", 0.0), -skill.id))
    surplus = 0 if cap is None else max(len(stay) - cap, 0)
    retired: list[Proposal] = []
    for place, skill in enumerate(by_use):
        looked_up = f"no step of a plan gives it more than {used[skill.id]:.3f} of its weight"
        if used[skill.id] < UNUSED_WEIGHT and skill.provenance.get("by") != "hand":
            retired.append(Proposal("retire", skill.id, skill.sentence, None, looked_up))
        elif place < surplus:
            retired.append(Proposal("retire", skill.id, skill.sentence, None, f"{looked_up}, and {cap} may stay"))
    return [*merges, *retired]


def _used(guide: LibraryGuide) -> dict[int, float]:
    """By skill, the most that a step of any plan gives it."""
    used = dict.fromkeys((skill.id for skill in guide.library.list()), 0.0)
    for name in guide.books:
        neighbors, weights = guide.neighbors(name)
        for number, weight in zip(neighbors.ids.ravel().tolist(), weights.ravel().tolist(), strict=True):
            if number >= 0:
                used[number] = max(used[number], weight)
    return used


def _merges(guide: LibraryGuide, skills: Mapping[int, Skill], probes: NDArray[np.float32]) -> list[Proposal]:
    """Pairs that say the same and do the same; the one with fewer demonstrated steps goes into the other."""

    def behaviour(latents: NDArray[np.float32]) -> NDArray[np.float32]:
        return _behaviour(guide.decoder, latents, probes)

    found: list[Proposal] = []
    gone = set[int]()
    by_support = sorted(skills.values(), key=lambda skill: (-skill.support.get("steps", 0.0), skill.id))
    for skill in by_support:
        if skill.id in gone:
            continue
        alike = near_duplicates(
            guide.library,
            skill.sentence,
            skill.latent,
            embedding=guide.library.get(skill.id).embedding,
            behaviour=behaviour,
            exclude_id=skill.id,
        )
        for each in alike:
            if each.id in gone or each.id not in skills or not each.near or (each.words or 0.0) < SAME_WORDS:
                continue
            if by_support.index(skills[each.id]) < by_support.index(skill):
                continue
            gone.add(each.id)
            why = f"says ({each.words:.2f} alike) and does ({each.actions:.3f} apart) what {skill.sentence!r} does"
            found.append(Proposal("merge", each.id, each.sentence, skill.id, why))
    return found


def _behaviour(decoder: Decoder, latents: NDArray[np.float32], probes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, Z) latents -> (N, P, A) mean actions."""
    every = np.repeat(latents[None], len(probes), axis=0)  # (P, N, Z)
    return np.moveaxis(decoder.decode(probes, every).behaviour(), 1, 0)


def current_proposals(space: Workspace, cap: int | None = None) -> tuple[Version, list[Proposal]]:
    """The version in use of a study, and what its library could do without.

    Raises:
        ArtifactMissing: nothing has been built.
    """
    versions = Versions(space.artifact("grown"))
    version = versions.current or first_version(space, versions)
    guide = load_bundle(version.folder, grounding=space.study.grounding)
    with closing(guide.library):
        return version, proposals(guide, material.load_probes(version.folder), cap)


def tidied(
    space: Workspace, version: Version, chosen: Sequence[Proposal], settings: Settings, say: Callable[[str], None]
) -> Version:
    """A version without what is proposed; in use afterwards, unless it is held.

    Raises:
        StudyError: nothing is proposed.
    """
    if not chosen:
        raise StudyError(
            f"found nothing to tidy in version {version.number}: every skill is looked up by a plan, and no two say and do the same; expected something; nothing has to be done"
        )
    began, versions = time.monotonic(), Versions(space.artifact("grown"))
    shown, number = material.load(version.folder, space.study), int(versions.next_folder().name)
    old = load_bundle(version.folder, grounding=space.study.grounding)
    with closing(old.library), tempfile.TemporaryDirectory(prefix="lago-grow-") as scratch:
        old.decoder.save(Path(scratch) / DECODER_FILE)
        with _changed(old.library, Path(scratch) / "library", chosen) as library:
            assert library.decoder in ("", file_hash(Path(scratch) / DECODER_FILE))  # the decoder is the same
            new = guide_of(space, old.decoder, library, shown)
            growth: dict[str, Any] = {
                "number": number,
                "before": version.number,
                "tidied": [asdict(each) for each in chosen],
                **judged(space.world, version.outcomes, (old, new), {}, None, settings, say).growth,
                "skills": library.n_active,
                "seconds": round(time.monotonic() - began, 1),
            }
            probes = material.load_probes(version.folder)
            write_version(space, versions.next_folder(), new, shown, probes, growth, version)
    return versions.get(number) if growth["verdict"] == "held" else versions.use(number)


def _changed(old: SkillLibrary, folder: Path, chosen: Sequence[Proposal]) -> SkillLibrary:
    copy(old, folder)
    library = SkillLibrary.open(folder, mode="write")
    for each in chosen:
        if each.into is not None:
            library.merge([each.skill], each.into, who=GROWER)
        else:
            library.disable(each.skill, who=GROWER)
    return library
