"""Near duplicates of a skill: alike in words, in the latent learned from behaviour, and in what they really do.

Words alone mislead ("open the drawer" and "close the drawer" are .905 alike, a true paraphrase .920), so behaviour is
compared by decoding both latents in the same states.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.library.library import SkillLibrary
from lago_skills.library.storage import schema

Behaviour = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(N, Z) latents -> (N, P, A) mean actions in P probe states."""
N_CANDIDATES = 16
SAME_WORDS, SAME_LATENT, SAME_ACTIONS = 0.9, 0.98, 0.1
"""Cosine of sentences, cosine of latents, and root mean square difference of actions (in half ranges of the actions) from which
on two skills count as near duplicates."""


@dataclass(frozen=True)
class Duplicate:
    """A skill that is much like another."""

    id: int
    sentence: str
    latent: float
    """Cosine of the latents."""
    words: float | None
    """Cosine of the sentence embeddings; None where one is missing."""
    actions: float | None
    """Root mean square difference of the actions in the probe states, in half ranges; None without a decoder."""

    @property
    def near(self) -> bool:
        """Whether it is worth merging: it does the same, or, where nobody can tell, its latent is the same."""
        if self.actions is not None:
            return self.actions <= SAME_ACTIONS
        return self.latent >= SAME_LATENT


def near_duplicates(
    library: SkillLibrary,
    sentence: str,
    latent: NDArray[Any],
    *,
    embedding: NDArray[Any] | None = None,
    behaviour: Behaviour | None = None,
    exclude_id: int | None = None,
) -> list[Duplicate]:
    """Skills like this one, the most alike first: the same words, or near in latent and in actions.

    `exclude_id` leaves out the skill itself. With the same words a skill is listed whatever it does.

    Raises:
        ShapeError: a latent that the library could not hold.
    """
    neighbors = library.search(np.asarray(latent)[None], N_CANDIDATES)
    scores = {int(i): float(s) for i, s in zip(neighbors.ids[0], neighbors.scores[0], strict=True) if i >= 0}
    same_words = {
        row.id: row for row in library.store.rows("WHERE sentence = ? AND merged_into IS NULL LIMIT 8", (sentence,))
    }
    for row in same_words.values():
        scores.setdefault(row.id, float(schema.vector(row.latent) @ latent))
    scores.pop(-1 if exclude_id is None else exclude_id, None)
    if not scores:
        return []
    rows = [library.store.row(skill_id) for skill_id in scores]
    known = library.store.embeddings([row.sentence for row in rows])
    differences: list[float | None] = [None] * len(rows)
    if behaviour is not None:
        latents = np.stack([np.asarray(latent, np.float32), *[schema.vector(row.latent) for row in rows]])
        actions = behaviour(latents)
        gaps = np.sqrt(((actions[1:] - actions[:1]) ** 2).mean(axis=(1, 2)))
        differences = [float(gap) for gap in gaps]
    alike = [
        Duplicate(row.id, row.sentence, scores[row.id], _cosine(embedding, known.get(row.sentence)), gap)
        for row, gap in zip(rows, differences, strict=True)
    ]
    listed = [d for d in alike if d.near or d.sentence == sentence or (d.words or 0.0) >= SAME_WORDS]
    return sorted(listed, key=lambda d: (not d.near, d.actions if d.actions is not None else -d.latent))


def _cosine(one: NDArray[Any] | None, other: NDArray[Any] | None) -> float | None:
    if one is None or other is None or one.shape != other.shape:
        return None
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12))
