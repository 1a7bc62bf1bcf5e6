"""The library as documents: what the first page needs, the list in parts, the map, and a card for each skill."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Skill
from lago_skills.errors import LibraryConflict
from lago_skills.explorer.source import Json, Source, rounded, skill_row
from lago_skills.library import SkillLibrary
from lago_skills.library.projection import on_a_plane
from lago_skills.library.storage import schema

FIRST, PART = 200, 2000
"""Skills of the first page, and of each part of the list that follows."""
N_NEAREST, N_CANDIDATES = 8, 64


def home(source: Source) -> Json:
    """What every view needs, and the first skills."""
    said, library = source.bundle.description, source.library
    study = source.records.name if source.records is not None else None
    return {
        "bundle": source.bundle.digest,
        "world": said["world"],
        "success": said["success"],
        "control_hz": said["control_hz"],
        "tasks": [
            {name: task[name] for name in ("id", "sentence", "horizon_steps")} | {"plans": len(task["plans"])}
            for task in said["tasks"]
        ],
        "features": said["features"],
        "anchors": said["anchors"],
        "actions": {"kind": said["action"]["kind"], "names": source.action_names},
        "skills": len(library),
        "active": library.n_active,
        "change": library.change,
        "parts": -(-max(len(library) - FIRST, 0) // PART),
        "first": columns(source, 0, FIRST),
        "study": study,
        "edits": source.edits,
    }


def part(source: Source, number: int) -> Json:
    """A part of the list, from 0: the skills after those of the first page."""
    return columns(source, FIRST + number * PART, PART)


def columns(source: Source, skipped: int, limit: int) -> Json:
    """Skills by id, a column for each field: equal texts lie side by side, which packs well."""
    tasks = list(source.library.tasks())
    numbers = {name: number for number, name in enumerate(tasks)}
    rows = list(source.library.store.rows("ORDER BY id LIMIT ? OFFSET ?", (limit, skipped)))
    skills = [schema.skill(row) for row in rows]
    return {
        "tasks_known": tasks,
        "id": [each.id for each in skills],
        "sentence": [each.sentence for each in skills],
        "state": [state_of(each) for each in skills],
        "tasks": [[numbers[name] for name in row.tasks if name in numbers] for row in rows],
        "steps": [int(each.support.get("steps", 0)) for each in skills],
    }


def state_of(skill: Skill) -> int:
    """0 enabled, 1 disabled, 2 merged into another."""
    return 2 if skill.merged_into is not None else 0 if skill.enabled else 1


def latent_map(source: Source) -> Json:
    """All latents on their first two principal components, in thousandths of the map's half width."""
    rows = list(source.library.store.rows("ORDER BY id"))
    latents = np.stack([schema.vector(row.latent) for row in rows]) if rows else np.zeros((0, 1))
    points = on_a_plane(latents)
    largest = max(float(np.abs(points).max(initial=0.0)), 1e-9)
    verbs = [row.sentence.split()[0].lower()[:24] if row.sentence.split() else "" for row in rows]
    kinds = sorted(set(verbs), key=lambda verb: -verbs.count(verb)) if len(rows) < 3000 else _commonest(verbs)
    places = {verb: number for number, verb in enumerate(kinds)}
    return {
        "id": [row.id for row in rows],
        "x": np.rint(1000 * points[:, 0] / largest).astype(int).tolist(),
        "y": np.rint(1000 * points[:, 1] / largest).astype(int).tolist(),
        "verb": [places[verb] for verb in verbs],
        "verbs": kinds,
        "enabled": [row.enabled if row.merged_into is None else 0 for row in rows],
    }


def _commonest(texts: Sequence[str]) -> list[str]:
    names, counts = np.unique(np.array(texts), return_counts=True)
    return [str(name) for name in names[np.argsort(-counts, kind="stable")]]


def card(source: Source, skill_id: int) -> Json:
    """All that is known of a skill.

    Raises:
        LibraryConflict: no such id.
    """
    library = source.library
    skill = library.get(skill_id)
    return {
        **skill_row(skill),
        "version": skill.version,
        "merged_into": skill.merged_into,
        "provenance": skill.provenance,
        "support": skill.support,
        "like_in_words": by_words(source, skill),
        "like_in_behaviour": by_behaviour(source, skill),
        "history": [
            {
                "version": version.version,
                "change": change.id,
                "action": change.action,
                "who": change.who,
                "at": change.at,
                "note": change.note,
                "sentence": version.sentence,
                "enabled": version.enabled,
            }
            for change, version in library.history(skill_id)[:50]
        ],
        "does": does(source, skill.latent),
        "answers": answered_steps(source, skill_id),
    }


def by_words(source: Source, skill: Skill) -> list[Json]:
    """The skills with the most similar sentences, by their embeddings; none where the library keeps none."""
    if skill.embedding is None:
        return []
    ids, vectors = embedded(source.library, source.library.change)
    scores = vectors @ (skill.embedding / max(float(np.linalg.norm(skill.embedding)), 1e-9))
    best: list[int] = np.argsort(-scores, kind="stable")[: N_NEAREST + 1].tolist()
    return [
        skill_row(source.library.get(int(ids[i]))) | {"score": round(float(scores[i]), 3)}
        for i in best
        if ids[i] != skill.id
    ][:N_NEAREST]


@lru_cache(maxsize=2)
def embedded(library: SkillLibrary, change: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(N,) ids of the skills that stand for themselves and whose sentences have an embedding, and (N, D) these, of unit length; at a change of the library."""
    rows = list(library.store.rows("WHERE merged_into IS NULL ORDER BY id"))
    known = library.store.embeddings(dict.fromkeys(row.sentence for row in rows))
    own = [row for row in rows if row.sentence in known]
    if not own:
        return np.zeros(0, np.int64), np.zeros((0, 1), np.float32)
    vectors = np.stack([known[row.sentence] for row in own])
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return np.array([row.id for row in own], np.int64), vectors


def by_behaviour(source: Source, skill: Skill) -> list[Json]:
    """The enabled skills that do the most similar things: by their actions in demonstrated states, or where no states are kept by their latents."""
    library = source.library
    neighbors = library.search(skill.latent[None], N_CANDIDATES)
    near: list[tuple[int, float]] = [
        (number, score)
        for number, score in zip(neighbors.ids[0].tolist(), neighbors.scores[0].tolist(), strict=True)
        if number >= 0 and number != skill.id
    ]
    if not near:
        return []
    ids = np.array([number for number, _ in near], np.int64)
    actions = source.behaviour(np.concatenate([skill.latent[None], library.latents(ids)]))
    gaps: dict[int, float] = {}
    if actions is not None:
        differences = np.sqrt(((actions[1:] - actions[:1]) ** 2).mean(axis=(1, 2)))
        gaps = dict(zip(ids.tolist(), differences.tolist(), strict=True))
        near.sort(key=lambda each: gaps[each[0]])
    return [
        skill_row(library.get(number)) | {"score": round(score, 3), "apart": round(gaps[number], 3) if gaps else None}
        for number, score in near[:N_NEAREST]
    ]


def does(source: Source, latent: NDArray[np.float32]) -> Json | None:
    """What a latent does: its mean action, and from the fifth to the ninety-fifth of a hundred demonstrated states; None where no states are kept."""
    known = source.behaviour(latent[None])
    if known is None:
        return None
    actions = known[0]  # (P, A)
    low, middle, high = np.quantile(actions, (0.05, 0.5, 0.95), axis=0)
    return {
        "states": len(actions),
        "names": source.action_names,
        "low": rounded(low, 3),
        "middle": rounded(middle, 3),
        "high": rounded(high, 3),
    }


def answered_steps(source: Source, skill_id: int) -> list[Json]:
    """The steps of plans that a skill answers, with its weight there."""
    found: list[Json] = []
    for name, book in source.guide.books.items():
        neighbors, weights = source.guide.neighbors(name)
        for step, place in np.argwhere(neighbors.ids == skill_id).tolist():
            found.append(
                {
                    "task": book.task_id,
                    "plan": name,
                    "step": step + 1,
                    "sentence": book.steps[step].sentence,
                    "weight": round(float(weights[step, place]), 3),
                }
            )
    return sorted(found, key=lambda each: -float(each["weight"]))[:24]


def number_of(text: str) -> int:
    """The id in the name of a document.

    Raises:
        LibraryConflict: it is none.
    """
    if not text.isdecimal():
        raise LibraryConflict(f"found skill {text!r}; expected the number of one; see the list")
    return int(text)
