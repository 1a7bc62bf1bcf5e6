"""Looking into bundles: what one holds, whether it is whole, how two differ."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from lago_skills.artifacts.folder import Manifest, verify
from lago_skills.core import Skill
from lago_skills.errors import LibraryDamaged
from lago_skills.guide.any_words import MATCHER_FILE
from lago_skills.guide.bundle import library_folder
from lago_skills.guide.bundle_file import discard, unpacked
from lago_skills.guide.description import Json
from lago_skills.guide.loaded import BundleGuide, load
from lago_skills.library.storage.verify import verify as verify_library
from lago_skills.playbook import write_playbook

Looked = tuple[list[Json], Json, list[str]]
"""Rows, their summary, and lines for people."""
SHOWN_CHARS = 12
"""Of a hash, for people."""


def inspected(path: Path) -> Looked:
    """What a bundle is for and what it holds: a row for each task.

    Raises:
        ArtifactMissing: there is no bundle.
        ArtifactCorrupt: it is damaged.
    """
    with closing(load(path)) as guide:
        said, skills = guide.description, guide.guide.library.list()
        rows = [_task_row(task) | {"leader": _leader(guide, task["id"])} for task in said["tasks"]]
        summary = _summary(guide, skills)
        lines = [
            f"bundle {guide.digest[:SHOWN_CHARS]}: {len(rows)} tasks, {len(skills)} skills, world {said['world']}",
            f"success: {said['success']}",
            f"control rate: {said['control_hz']:g} Hz" if said["control_hz"] else "control rate: nobody has said",
            "observation, in this order:",
            *(_entry(each) for each in said["observation"]),
            f"action, {said['action']['size']} {said['action']['kind']}:",
            *(_entry(each) for each in said["action"]["entries"]),
            "tasks:",
            *(line for row in rows for line in _task_lines(row)),
            "skills:",
            *(
                f"  {each.name}  {each.sentence}  (shown in {', '.join(each.provenance.get('tasks', []))})"
                for each in skills
            ),
            *(["demonstrations:"] if said.get("demonstrations") else []),
            *(
                f"  {each['task']}: {each['episodes']} episodes, {each['digest'][:SHOWN_CHARS]}"
                for each in said.get("demonstrations", [])
            ),
            "tasks are known by any words that mean them (with the extra text)"
            if (guide.folder / MATCHER_FILE).is_file()
            else "tasks are known by their ids, sentences and recorded wordings",
        ]
        return rows, summary, lines


def _summary(guide: BundleGuide, skills: list[Skill]) -> Json:
    said = guide.description
    made_from = verify(guide.folder).recipe
    return {
        "bundle": guide.digest,
        "world": said["world"],
        "world_id": guide.world_id,
        "observation": said["observation"],
        "action": said["action"],
        "control_hz": said["control_hz"],
        "success": said["success"],
        "skills": [{"id": each.name, "sentence": each.sentence, **each.provenance, **each.support} for each in skills],
        "demonstrations": said.get("demonstrations", []),
        "any_words": (guide.folder / MATCHER_FILE).is_file(),
        "made_from": {name: made_from[name] for name in ("decoder", "segments", "playbooks") if name in made_from},
    }


def _task_row(task: Json) -> Json:
    plan = task["plans"][0]
    return {
        "task": task["id"],
        "sentence": task["sentence"],
        "horizon_steps": task["horizon_steps"],
        "plans": len(task["plans"]),
        "form": plan["form"],
        "model": plan["model"],
        "answer": plan["answer"],
        "steps": plan["steps"],
    }


def _leader(guide: BundleGuide, task: str) -> str:
    policy = guide.policies.get(task)
    return "library" if policy is None else policy.name


def _task_lines(row: Json) -> list[str]:
    more = f" and {row['plans'] - 1} more" if row["plans"] > 1 else ""
    head = f"  {row['task']}: {row['sentence']} (plan in {row['form']}{more}, by {row['model']}, answer {row['answer'][:SHOWN_CHARS]}; led by {row['leader']})"
    return [head, *(f"    {number}. {step}" for number, step in enumerate(row["steps"], 1))]


def _entry(entry: Json) -> str:
    stop = entry["start"] + entry["size"]
    places = f"{entry['start']}" if entry["size"] == 1 else f"{entry['start']} to {stop - 1}"
    ends = f" from {entry['low']:g} to {entry['high']:g}" if "low" in entry and "high" in entry else ""
    said = ", ".join(part for part in (f"{entry.get('unit', '')}{ends}".strip(), entry.get("meaning", "")) if part)
    return f"  {places:>9}  {entry['name']}{f': {said}' if said else ''}"


def verified(path: Path) -> Looked:
    """Whether a bundle is whole and works: hashes, its library, and a prior of each task; a row for each task.

    Raises:
        ArtifactMissing: there is no bundle.
        ArtifactCorrupt: it is damaged.
        StudyError: its world is not installed here.
    """
    with closing(load(path, unfamiliar="answer")) as guide:
        manifest = verify(guide.folder)
        if problems := verify_library(library_folder(guide.folder)):
            raise LibraryDamaged(
                f"bundle {str(path)!r}: found {len(problems)} problems in its library, first {problems[0]}; expected none; make the bundle again"
            )
        state = np.zeros((1, guide.guide.grounding.observation_size))
        rows: list[Json] = []
        for task in guide.tasks:
            answer = guide.task(task).answer(state)
            rows.append(
                {"task": task, "prior": type(answer.prior).__name__, "finite": bool(np.isfinite(answer.actions).all())}
            )
        summary = {
            "bundle": guide.digest,
            "files": len(manifest.files),
            "format": manifest.format,
            "made_by": manifest.code_version,
        }
        line = f"bundle {guide.digest[:SHOWN_CHARS]} is whole: {len(manifest.files)} files match their hashes, its library is sound, and {len(rows)} tasks have priors"
        return rows, summary, [line]


def differences(before: Path, after: Path) -> list[Json]:
    """How a later bundle differs from an earlier one: rows `what, before, after`.

    Raises:
        ArtifactMissing: one of them is not there.
        ArtifactCorrupt: one of them is damaged.
    """
    folders = unpacked(before), unpacked(after)
    try:
        manifests = verify(folders[0]), verify(folders[1])
        with closing(load(folders[0])) as one, closing(load(folders[1])) as two:
            rows = [
                *_changed("world", _world(one), _world(two)),
                *_changed("task", _plans(one), _plans(two)),
                *_changed("skill", _skills(one), _skills(two)),
                *_changed("setting", vars(one.guide.config), vars(two.guide.config)),
            ]
        return rows + _changed("file", _weights(manifests[0]), _weights(manifests[1]))
    finally:
        for folder in folders:
            discard(folder)


def _changed(what: str, before: dict[str, Any], after: dict[str, Any]) -> list[Json]:
    rows: list[Json] = []
    for name in sorted({*before, *after}):
        one, two = before.get(name), after.get(name)
        if one != two:
            rows.append(
                {
                    "what": f"{what} {name}",
                    "before": "none" if one is None else one,
                    "after": "none" if two is None else two,
                }
            )
    return rows


def _world(guide: BundleGuide) -> dict[str, Any]:
    said = guide.description
    return {name: said[name] for name in ("world", "observation", "action", "control_hz", "success")}


def _plans(guide: BundleGuide) -> dict[str, Any]:
    return {name: write_playbook(book)["steps"] for name, book in guide.guide.books.items()}


def _skills(guide: BundleGuide) -> dict[str, Any]:
    return {
        each.name: each.sentence if each.enabled else f"{each.sentence} (disabled)"
        for each in guide.guide.library.list()
    }


def _weights(manifest: Manifest) -> dict[str, Any]:
    """Hashes of what is neither words nor settings."""
    return {name: sha[:SHOWN_CHARS] for name, sha in manifest.files.items() if name.endswith(".safetensors")}
