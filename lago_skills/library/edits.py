"""What a change does to the rows it touches."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import skill_name
from lago_skills.errors import LibraryConflict, ShapeError
from lago_skills.library.storage import schema
from lago_skills.library.storage.checks import check_embedding, check_latents, check_sentence, details_json
from lago_skills.library.storage.schema import Row, compact_json
from lago_skills.library.storage.store import SkillStore
from lago_skills.library.storage.transaction import Transaction

Encoder = Callable[[list[str], NDArray[np.float32]], NDArray[np.float32]]
"""(sentences, their (N, D) embeddings) -> (N, Z) unit latents of a new latent space."""


@dataclass(frozen=True)
class Edit:
    """New content of a skill; what is None stays."""

    sentence: str | None = None
    latent: NDArray[Any] | None = None
    embedding: NDArray[Any] | None = None
    provenance: dict[str, Any] | None = None
    support: dict[str, float] | None = None


def _changeable(store: SkillStore, skill_id: int) -> Row:
    row = store.row(skill_id)
    if row.merged_into is not None:
        into = skill_name(row.merged_into)
        raise LibraryConflict(
            f"skill {skill_name(skill_id)} was merged into {into}; expected one that stands for itself; change {into}, or undo "
            f"the merge first (lago skills history {store.where} {skill_id} has its number)"
        )
    return row


def edit(store: SkillStore, change: Transaction, skill_id: int, given: Edit, latent_size: int) -> None:
    """Write a new version with what is given.

    Raises:
        LibraryConflict: no such skill, it was merged, or the content is not valid.
        ShapeError: a latent or an embedding of the wrong form.
    """
    before = _changeable(store, skill_id)
    row = before
    if given.sentence is not None:
        check_sentence(given.sentence)
        row = row._replace(sentence=given.sentence)
    if given.latent is not None:
        if given.latent.shape != (latent_size,):
            raise ShapeError(
                f"edit of {skill_name(skill_id)}: found a latent of shape {given.latent.shape}; expected ({latent_size},); "
                "encode the sentence with the decoder this library was made with"
            )
        latent = check_latents(given.latent[None], f"latent of {skill_name(skill_id)}")
        row = row._replace(latent=schema.blob(latent[0]))
    for name, value in (("provenance", given.provenance), ("support", given.support)):
        if value is not None:
            row = row._replace(**{name: details_json(value, name)})
    if given.embedding is not None:
        change.embed(row.sentence, check_embedding(given.embedding))
    change.put(row, before)


def switch(store: SkillStore, change: Transaction, skill_id: int, *, enabled: bool) -> None:
    """Enable or disable a skill.

    Raises:
        LibraryConflict: no such skill, or it was merged.
    """
    before = _changeable(store, skill_id)
    change.put(before._replace(enabled=int(enabled)), before)


def merge(store: SkillStore, change: Transaction, ids: list[int], into: int) -> None:
    """Let `into` stand for the others.

    Raises:
        LibraryConflict: nothing to merge, a skill into itself, no such skill, or one that was merged before.
    """
    if not ids or into in ids:
        raise LibraryConflict(
            f"merge: found {[skill_name(i) for i in ids]} into {skill_name(into)}; expected at least one other skill; "
            "name the skills that another shall stand for"
        )
    target = _changeable(store, into)
    others = [_changeable(store, skill_id) for skill_id in ids]
    support: dict[str, float] = json.loads(target.support)
    provenance: dict[str, Any] = json.loads(target.provenance)
    for row in others:
        support = _add_support(support, json.loads(row.support))
        provenance = _add_provenance(provenance, json.loads(row.provenance))
        change.put(row._replace(merged_into=into), row)
    change.put(target._replace(support=compact_json(support), provenance=compact_json(provenance)), target)


def _add_support(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """Counts add up; `success`, a share, is averaged by steps."""
    total = {name: one.get(name, 0.0) + other.get(name, 0.0) for name in {*one, *other} if name != "success"}
    if "success" in one or "success" in other:
        weights = [(s.get("success"), max(s.get("steps", 1.0), 1e-9)) for s in (one, other)]
        known = [(share, weight) for share, weight in weights if share is not None]
        total["success"] = sum(share * weight for share, weight in known) / sum(weight for _, weight in known)
    return total


def _items(value: object) -> list[Any] | None:
    return cast("list[Any]", value) if isinstance(value, list) else None


def _add_provenance(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Lists are joined without repetition; else what is there first stays."""
    joined = {**other, **one}
    for name in {*one, *other}:
        ours, theirs = _items(one.get(name)), _items(other.get(name))
        if ours is not None and theirs is not None:
            joined[name] = [*ours, *[item for item in theirs if item not in ours]]
    return joined


def undo(store: SkillStore, change: Transaction, number: int | None, encode: Encoder | None) -> list[int]:
    """Give each skill that a change touched its earlier content back, as a new version.

    Raises:
        LibraryConflict: no such change, it touched no skill, or a skill has changed since.
    """
    if number is None:
        number = change.change - 1
    touched = list(store.rows("WHERE change = ? ORDER BY id", (number,), table="version"))
    if not touched:
        raise LibraryConflict(
            f"library {store.where!r}: found no skill that change {number} touched; expected the number of a change to a skill; "
            f"list them with: lago skills history {store.where}"
        )
    for row in touched:
        present = store.row(row.id)
        if present.version != row.version:
            raise LibraryConflict(
                f"change {number} cannot be undone: skill {skill_name(row.id)} has changed since (version {row.version} then, "
                f"{present.version} now); expected it as that change left it; undo the later change first"
            )
        change.put(_earlier(store, present, encode), present)
    return [row.id for row in touched]


def _earlier(store: SkillStore, present: Row, encode: Encoder | None) -> Row:
    """The version before, with a latent of the present latent space; disabled where there is none before."""
    if present.version == 1:
        return present._replace(enabled=0)
    earlier = next(store.rows("WHERE id = ? AND version = ?", (present.id, present.version - 1), table="version"), None)
    if earlier is None:
        raise LibraryConflict(
            f"skill {skill_name(present.id)} has lost its version {present.version - 1}; expected it in the history; "
            f"run: lago skills verify {store.where}"
        )
    if earlier.generation == present.generation:
        return earlier
    if encode is None and earlier.sentence == present.sentence:
        return earlier._replace(latent=present.latent, generation=present.generation)
    if encode is None:
        raise LibraryConflict(
            f"skill {skill_name(present.id)}: found earlier words {earlier.sentence[:60]!r} from before the latent space changed; "
            "expected a decoder to place them; pass encode, or on the command line --decoder"
        )
    latent = encoded(store, [earlier], encode)[0]
    return earlier._replace(latent=latent, generation=present.generation)


def encoded(store: SkillStore, rows: list[Row], encode: Encoder) -> list[bytes]:
    """Latents of rows in a new latent space, from the embeddings of their sentences.

    Raises:
        LibraryConflict: a sentence without an embedding.
        ShapeError: not one latent a sentence, or latents that are not finite or not of unit length.
    """
    sentences = [row.sentence for row in rows]
    known = store.embeddings(dict.fromkeys(sentences))
    missing = [row for row in rows if row.sentence not in known]
    if missing:
        raise LibraryConflict(
            f"library {store.where!r}: found {len(missing)} skills without an embedding, {skill_name(missing[0].id)} first; expected "
            "one for each sentence, to place them in the new latent space; edit them with an embedding first"
        )
    latents = encode(sentences, np.stack([known[sentence] for sentence in sentences]))
    if latents.ndim != 2 or len(latents) != len(rows):
        raise ShapeError(
            f"re-embedding: found latents {latents.shape} for {len(rows)} sentences; expected one each; check the encoder"
        )
    return [schema.blob(latent) for latent in check_latents(latents, "new latents")]
