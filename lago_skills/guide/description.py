"""What a bundle says of itself, for whoever loads it somewhere else: its world entry by entry, its tasks, and where their plans come from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lago_skills.core import Feature, Playbook
from lago_skills.errors import ArtifactCorrupt, FormatTooNew, StudyError
from lago_skills.worlds.world import World, interface_of

DESCRIPTION_FILE = "bundle.json"
FORMAT = 1
Json = dict[str, Any]


def describe(
    world: World,
    books: Mapping[str, Playbook],
    wordings: Mapping[str, Sequence[str]] | None = None,
    demonstrations: Sequence[Json] = (),
) -> Json:
    """The description of a bundle for a world with these plans.

    Args:
        world: that it was made for.
        books: by name.
        wordings: other sentences by which people ask for a task, by its id.
        demonstrations: what its skills were learned from: `task`, `episodes`, `steps`, `digest` of the artifact with the episodes, and its `recipe`.
    """
    grounding = world.grounding
    return {
        "format": FORMAT,
        "world": world.name,
        **interface_of(world).as_json(grounding.action_space),
        "success": world.success_text,
        "features": [_feature(each) for each in grounding.vocabulary.features],
        "anchors": {"names": list(grounding.vocabulary.anchors), "unit": grounding.vocabulary.unit},
        "tasks": [_task(world, name, books, wordings or {}) for name in sorted({b.task_id for b in books.values()})],
        "demonstrations": list(demonstrations),
    }


def _feature(feature: Feature) -> Json:
    """Ranges without ends are left out: JSON has no infinity."""
    ends = {name: value for name in ("low", "high") if abs(value := getattr(feature, name)) != float("inf")}
    return {"name": feature.name, "unit": feature.unit, "meaning": feature.sentence, **ends}


def _task(world: World, task: str, books: Mapping[str, Playbook], wordings: Mapping[str, Sequence[str]]) -> Json:
    known = world.tasks.get(task)
    plans = {name: book for name, book in books.items() if book.task_id == task}
    return {
        "id": task,
        "sentence": known.sentence if known is not None else "",
        "horizon_steps": known.horizon_steps if known is not None else None,
        "wordings": list(wordings.get(task, ())),
        "plans": [
            {
                "name": name,
                "form": book.form,
                "model": book.model,
                "answer": book.transcript_key,
                "steps": [step.sentence for step in book.steps],
            }
            for name, book in sorted(plans.items(), key=lambda each: (each[0] != task, len(each[0]), each[0]))
        ],
    }


def write_description(folder: Path, description: Json) -> None:
    """Beside the other files of a bundle."""
    text = json.dumps(description, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / DESCRIPTION_FILE).write_text(text, encoding="utf-8")


def read_description(folder: Path) -> Json | None:
    """What a bundle says of itself; None for bundles of before they said anything.

    Raises:
        ArtifactCorrupt: the file cannot be read.
        FormatTooNew: a later version of this package wrote it.
    """
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        return None
    try:
        description: Json = json.loads(path.read_text(encoding="utf-8"))
        written = int(description["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactCorrupt(
            f"{str(path)!r} cannot be read ({error}); expected what a bundle says of itself; make the bundle again (lago bundle make)"
        ) from error
    if written > FORMAT:
        raise FormatTooNew(
            f"bundle {str(folder)!r} describes itself in format {written}; this version reads formats up to {FORMAT}; upgrade lago-skills"
        )
    return description


def plain(sentence: str) -> str:
    """A sentence as wordings are compared: small letters, words and numbers alone."""
    return " ".join(re.findall(r"[^\W_]+", sentence.casefold()))


def task_named(description: Json, words: str) -> str:
    """The task of that id, sentence or recorded wording, whatever its capitals and stops.

    Raises:
        StudyError: none has it, or several have.
    """
    tasks: list[Json] = description["tasks"]
    if words in (known := [task["id"] for task in tasks]):
        return words
    asked = plain(words)
    matching = [
        task["id"]
        for task in tasks
        if asked in {plain(text) for text in (task["id"], task["sentence"], *task["wordings"])} - {""}
    ]
    if len(matching) == 1:
        return str(matching[0])
    raise StudyError(
        f"found task {words!r}, which {'no task of the bundle is called' if not matching else f'{matching} are all called'}; expected an id of {known}, "
        "or a sentence by which one of them is known; name the task by its id"
    )
