"""Skills in growth: which of them answer the steps of a new plan, and what new episodes add to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Playbook, Segment, Skill
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.guide.guides import LibraryGuide
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.library.exchange import copy
from lago_skills.stages.segment import provenance

GROWER = "grow"
"""Who changes the library when it grows."""
ALIKE = 0.9
"""Cosine of latents from which on a step counts as answered by a skill of other words."""


@dataclass(frozen=True)
class Matched:
    """A step of a plan, and the skill that is nearest to it."""

    step: int
    """From 1."""
    sentence: str
    how: Literal["same", "alike", "new"]
    """`same`: the skill has this sentence; `alike`: other words, nearly the same latent; `new`: the library knows nothing like it."""
    skill: str
    """The nearest one's sentence."""
    cosine: float
    """Of the latents."""

    def line(self) -> str:
        """For people."""
        if self.how == "same":
            return f"step {self.step}: {self.sentence!r} is a skill of the library"
        known = "is answered by" if self.how == "alike" else "is new; the nearest is"
        return f"step {self.step}: {self.sentence!r} {known} {self.skill!r} ({self.cosine:.2f})"


def matched(guide: LibraryGuide, book: Playbook, embeddings: dict[str, NDArray[np.float32]]) -> list[Matched]:
    """The skills of a guide's library that are nearest to the steps of a plan."""
    latents = guide.decoder.latents(np.stack([embeddings[step.sentence] for step in book.steps]))
    nearest = guide.library.search(latents, 1)
    rows: list[Matched] = []
    for number, (step, skill, score) in enumerate(
        zip(book.steps, nearest.ids[:, 0].tolist(), nearest.scores[:, 0].tolist(), strict=True), start=1
    ):
        sentence = guide.library.get(skill).sentence
        how = "same" if sentence == step.sentence else "alike" if score >= ALIKE else "new"
        rows.append(Matched(number, step.sentence, how, sentence, round(score, 4)))
    return rows


def grown_library(
    old: SkillLibrary,
    folder: Path,
    decoder: Decoder,
    decoder_name: str,
    segments: Sequence[Segment],
    embeddings: dict[str, NDArray[np.float32]],
    note: dict[str, Any],
) -> SkillLibrary:
    """A copy of a library, with its history, to which new segments are added: to the skills they show, or as skills of their own.

    Args:
        old: stays as it is.
        folder: for the copy.
        decoder: that latents are for; all are made anew where it is another one.
        decoder_name: its hash.
        segments: the new ones.
        embeddings: (E,) of their sentences.
        note: what the history of each skill says of them: `version`, `task`, `from`, `learned`.
    """
    copy(old, folder)
    library = SkillLibrary.open(folder, mode="write")
    if library.decoder != decoder_name:
        library.reembed(lambda sentences, rows: decoder.latents(rows), decoder_name, who=GROWER)
    by_sentence: defaultdict[str, list[Segment]] = defaultdict(list)
    for item in segments:
        by_sentence[item.skill].append(item)
    known = {skill.sentence: skill for skill in library.list() if skill.merged_into is None}
    for sentence, items in by_sentence.items():
        if sentence in known:
            _extended(library, known[sentence], items, note)
    new = {sentence: items for sentence, items in by_sentence.items() if sentence not in known}
    if new:
        latents = decoder.latents(np.stack([embeddings[sentence] for sentence in new]))
        library.add_many(
            [
                NewSkill(
                    sentence=sentence,
                    latent=latent,
                    embedding=embeddings[sentence],
                    provenance={"by": GROWER, "label": sentence, **provenance(items), "grown": [_noted(items, note)]},
                    support=_support(items),
                )
                for (sentence, items), latent in zip(new.items(), latents, strict=True)
            ],
            who=GROWER,
        )
    return library


def _extended(library: SkillLibrary, skill: Skill, items: list[Segment], note: dict[str, Any]) -> None:
    tasks = sorted({*skill.provenance.get("tasks", []), *(item.task_id for item in items)})
    cut = sorted({*skill.provenance.get("cut", []), *(item.cut for item in items)})
    grown = [*skill.provenance.get("grown", []), _noted(items, note)]
    more = _support(items)
    library.edit(
        skill.id,
        provenance={**skill.provenance, "tasks": tasks, "cut": cut, "grown": grown},
        support={name: skill.support.get(name, 0.0) + more.get(name, 0.0) for name in {*skill.support, *more}},
        who=GROWER,
    )


def _noted(items: list[Segment], note: dict[str, Any]) -> dict[str, Any]:
    return {**note, "segments": len(items)}


def _support(items: list[Segment]) -> dict[str, float]:
    return {"segments": float(len(items)), "steps": float(sum(item.stop - item.start for item in items))}
