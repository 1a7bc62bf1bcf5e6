"""What may go into a skill library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import check_finite
from lago_skills.errors import LibraryConflict, ShapeError
from lago_skills.library.storage.schema import compact_json

MAX_SENTENCE = 2000
"""Characters. The text model reads about 256 words; what is longer is not a skill sentence."""


@dataclass(frozen=True)
class NewSkill:
    """A skill to be added."""

    sentence: str
    latent: NDArray[Any]  # (Z,), unit norm
    embedding: NDArray[Any] | None = None  # (D,)
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])
    support: dict[str, float] = field(default_factory=dict[str, float])
    enabled: bool = True

    @property
    def texts(self) -> tuple[str, str]:
        """Provenance and support as JSON.

        Raises:
            LibraryConflict: a value that is no JSON, or a number that is not finite.
        """
        return details_json(self.provenance, "provenance"), details_json(self.support, "support")


def check_sentence(sentence: str) -> None:
    """Refuse an empty or endless sentence.

    Raises:
        LibraryConflict: it is one.
    """
    if not sentence.strip() or len(sentence) > MAX_SENTENCE or "\x00" in sentence:
        raise LibraryConflict(
            f"found a skill sentence of {len(sentence)} characters ({sentence[:40]!r}); expected 1 to {MAX_SENTENCE}, not all of "
            "them blank, and no NUL; say what the skill does in one sentence"
        )


def details_json(details: dict[str, Any], what: str) -> str:
    """Details in the one form of JSON that they are kept in.

    Raises:
        LibraryConflict: a value that is no JSON, or a number that is not finite.
    """
    try:
        return compact_json(details)
    except (TypeError, ValueError) as error:
        raise LibraryConflict(
            f"found {what} that cannot be kept ({error}); expected texts, finite numbers, lists and dictionaries; convert it"
        ) from error


def check_latents(latents: NDArray[Any], what: str, *, unit: bool = True) -> NDArray[np.float32]:
    """(N, Z) latents as float32.

    Raises:
        ShapeError: a value that is not finite, a zero vector, or one that is not of unit length where that is expected.
    """
    check_finite(latents, what)
    lengths = np.linalg.norm(latents.astype(np.float64), axis=1)
    if (lengths < 1e-12).any():
        raise ShapeError(
            f"{what}: found a zero vector in row {int(np.argmin(lengths))}; expected a direction; "
            "check the encoder that it comes from"
        )
    if unit and (np.abs(lengths - 1.0) > 1e-3).any():
        row = int(np.argmax(np.abs(lengths - 1.0)))
        raise ShapeError(
            f"{what}: found length {lengths[row]:.4g} in row {row}; expected unit length; divide each latent by its norm"
        )
    return np.ascontiguousarray(latents, np.float32)


def check_embedding(embedding: NDArray[Any]) -> NDArray[np.float32]:
    """(D,) sentence embedding as float32.

    Raises:
        ShapeError: not a vector, or values that are not finite.
    """
    if embedding.ndim != 1 or not len(embedding):
        raise ShapeError(f"sentence embedding: found shape {embedding.shape}; expected (D,); embed one sentence")
    check_finite(embedding, "sentence embedding")
    return embedding.astype(np.float32)
