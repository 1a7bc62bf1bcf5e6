"""The effect of a change before it is saved: a copy of the library is changed, and the same guide asked with both."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Skill
from lago_skills.explorer.skills import does
from lago_skills.explorer.source import Json, Source
from lago_skills.guide.guides import LibraryGuide
from lago_skills.library import SkillLibrary, exchange

MOST_STATES = 60
"""Recorded states of each task in which actions are compared."""
Change = Callable[[SkillLibrary], object]


def effect(source: Source, skill: Skill, latent: NDArray[np.float32]) -> Json:
    """What becomes of guidance if a skill gets another latent: how far it moves, what it does then, and what `consequences` says."""
    return {
        "id": skill.id,
        "cosine": round(float(skill.latent @ latent), 3),
        "before": does(source, skill.latent),
        "after": does(source, latent),
        **consequences(source, lambda library: library.edit(skill.id, latent=latent)),
    }


def consequences(source: Source, change: Change) -> Json:
    """What a change of the library does to guidance: `steps` that other skills, or others first, answer then, and by how much the `actions` of tasks differ.

    Raises:
        LibraryConflict: the change cannot be made, or leaves no enabled skill.
    """
    now = source.guide
    with tempfile.TemporaryDirectory(prefix="lago-preview-") as scratch:
        folder = Path(scratch) / "library"
        exchange.copy(source.library, folder)
        with SkillLibrary.open(folder, mode="write") as changed:
            change(changed)
            config = replace(now.config, correct_plans=False)  # the plans have been put in order
            then = LibraryGuide(
                now.grounding, now.decoder, changed, now.books, now.step_latents, config, now.learned, now.ends
            )
            return {"steps": _steps(now, then), "actions": _actions(source, now, then)}


def _steps(now: LibraryGuide, then: LibraryGuide) -> list[Json]:
    """Steps whose mixture changes, those that change most first."""
    rows: list[Json] = []
    for name, book in now.books.items():
        (before, weights), (after, others) = now.neighbors(name), then.neighbors(name)
        for place, step in enumerate(book.steps):
            old = dict(zip(before.ids[place].tolist(), weights[place].tolist(), strict=True))
            new = dict(zip(after.ids[place].tolist(), others[place].tolist(), strict=True))
            moved = 0.5 * sum(abs(old.get(each, 0.0) - new.get(each, 0.0)) for each in {*old, *new})
            if moved > 0.005:
                rows.append(
                    {
                        "task": book.task_id,
                        "plan": name,
                        "step": place + 1,
                        "sentence": step.sentence,
                        "moved": round(moved, 3),
                        "first_before": int(before.ids[place, 0]),
                        "first_after": int(after.ids[place, 0]),
                    }
                )
    return sorted(rows, key=lambda each: -each["moved"])[:40]


def _actions(source: Source, now: LibraryGuide, then: LibraryGuide) -> list[Json]:
    """By task, the root mean square difference of what the library would do in recorded states, and the share of states where it differs."""
    by_task: dict[str, list[NDArray[np.float32]]] = {}
    for each in source.episodes:
        if each.episode.task_id in now.books:
            by_task.setdefault(each.episode.task_id, []).append(each.episode.observations[:-1])
    rows: list[Json] = []
    for task, parts in by_task.items():
        observations = np.concatenate(parts).astype(np.float64)
        chosen = observations[np.unique(np.linspace(0, len(observations) - 1, MOST_STATES).astype(int))]
        apart = np.asarray(now.prior(chosen, task).greedy(), np.float64) - then.prior(chosen, task).greedy()
        gaps = np.sqrt((apart.reshape(len(chosen), -1) ** 2).mean(axis=1))
        if float(gaps.max()) > 1e-3:
            share = float((gaps > 0.05).mean())
            rows.append(
                {
                    "task": task,
                    "apart": round(float(np.sqrt((gaps**2).mean())), 4),
                    "share": round(share, 3),
                    "states": len(chosen),
                }
            )
    return sorted(rows, key=lambda each: -each["apart"])
