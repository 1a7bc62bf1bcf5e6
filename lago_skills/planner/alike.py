"""Tasks whose sentences differ only by the names of things that are alike: one is asked for, and the others have its plan with the names exchanged."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lago_skills.core import Playbook, Step, Task


@dataclass(frozen=True)
class Wording:
    """A sentence without the names of things that are alike."""

    form: str
    """With a number for each thing, in the order in which the sentence names them first."""
    names: tuple[str, ...]
    """Of the things, in this order."""


def wording_of(sentence: str, alike: Sequence[str]) -> Wording:
    """The form of a sentence, and the names in it."""
    found: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        name = match.group().lower()
        if name not in found:
            found.append(name)
        return f"<{found.index(name)}>"

    form = _pattern(alike).sub(numbered, sentence) if alike else sentence
    return Wording(form, tuple(found))


def exchange(names: Sequence[str], others: Sequence[str], alike: Sequence[str]) -> dict[str, str]:
    """What becomes of each name where some become others; those that neither task names keep their order among themselves."""
    rest = [name for name in alike if name not in names]
    left = [name for name in alike if name not in others]
    return {**dict(zip(names, others, strict=True)), **dict(zip(rest, left, strict=True))}


def exchanged(book: Playbook, task: Task, names: Mapping[str, str]) -> Playbook:
    """The plan of another task, which is the same but for names."""
    pattern = _pattern(tuple(names))

    def renamed(step: Step) -> Step:
        skill = pattern.sub(lambda match: names[match.group().lower()], step.skill)
        return replace(step, skill=skill, about=tuple(names.get(each, each) for each in step.about))

    return replace(book, task_id=task.id, steps=tuple(renamed(step) for step in book.steps))


def _pattern(names: Sequence[str]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\b", re.IGNORECASE)
