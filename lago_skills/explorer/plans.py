"""Playbooks as documents: the plans of a task side by side, who wrote them, what lint says, and the recorded states that their conditions divide."""

from __future__ import annotations

import numpy as np

from lago_skills.core import Condition, Feature, Playbook, Step
from lago_skills.errors import StudyError
from lago_skills.explorer.source import Json, Source, rounded
from lago_skills.planner.lint import lint_logic, lint_words_form
from lago_skills.playbook import write_playbook

MOST_EPISODES, MOST_STATES = 12, 400
"""Of a task, whose states are shown; and of each of them."""


def task_in(source: Source, task: str) -> str:
    """The task, if the bundle has a plan of it.

    Raises:
        StudyError: it has none.
    """
    if not source.guide.plans(task):
        raise StudyError(f"found task {task!r}; expected one of {list(source.bundle.tasks)}; choose one of them")
    return task


def portfolio(source: Source, task: str) -> Json:
    """The plans of a task side by side, with versions and lint where the study is here.

    Raises:
        StudyError: the bundle has no plan of it.
    """
    names = source.guide.plans(task_in(source, task))
    known: Json = {"versions": [], "findings": []} if source.records is None else source.records.playbook(task)
    return {
        **known,
        "task": task,
        "sentence": next(each["sentence"] for each in source.bundle.description["tasks"] if each["id"] == task),
        "plans": [_plan(source, name) for name in names],
    }


def _plan(source: Source, name: str) -> Json:
    book, words = source.guide.books[name], source.guide.grounding.vocabulary
    neighbors, weights = source.guide.neighbors(name)
    logic = lint_words_form(book, words) if book.form == "words" else lint_logic(book, words)
    return {
        "name": name,
        "form": book.form,
        "model": book.model,
        "answer": book.transcript_key,
        "pace": book.pace,
        "findings": [f"{each.kind}: {each.line()}" for each in logic],
        "json": write_playbook(book),
        "steps": [
            _step(source, step)
            | {
                "skills": [
                    {"id": number, "sentence": source.library.get(number).sentence, "weight": round(weight, 3)}
                    for number, weight in zip(neighbors.ids[place].tolist(), weights[place].tolist(), strict=True)
                    if number >= 0
                ]
            }
            for place, step in enumerate(book.steps)
        ],
    }


def _step(source: Source, step: Step) -> Json:
    features = {each.name: each for each in source.guide.grounding.vocabulary.features}
    unit = source.guide.grounding.vocabulary.unit
    return {
        "sentence": step.sentence,
        "goes": "" if step.target is None else goes(step.target.anchor, step.target.offset, unit),
        "about": list(step.about),
        "until": "" if step.until is None else step.until.sentence,
        "when": [
            {
                "feature": each.feature,
                "op": each.op,
                "value": each.value,
                "unit": features[each.feature].unit,
                "words": in_words(each, features[each.feature]),
            }
            for each in step.when
        ],
    }


AXES = (("to the right", "to the left"), ("forward", "back"), ("up", "down"))


def goes(anchor: str, offset: tuple[float, ...], unit: str) -> str:
    """Where a step heads: "to the object, 0.02 m up"."""
    parts = [
        f"{abs(value):g} {unit} {AXES[axis][0 if value > 0 else 1]}" if len(offset) == 3 else f"{value:+g} {unit}"
        for axis, value in enumerate(offset)
        if value
    ]
    return ", ".join([f"to the {anchor}", *parts])


def in_words(condition: Condition, feature: Feature) -> str:
    """A condition as a sentence: the feature's meaning, and what it is compared with."""
    compared = "less than" if condition.op == "<" else "more than"
    unit = f" {feature.unit}" if feature.unit and feature.unit not in ("1", "0-1") else ""
    return f"{feature.sentence}: {compared} {condition.value:g}{unit}"


def states(source: Source, task: str) -> Json:
    """Recorded states of a task: the features that its plans compare, and where the things are. With them a page tells which step owns which.

    Raises:
        StudyError: the bundle has no plan of it.
    """
    names = source.guide.plans(task_in(source, task))
    books: list[Playbook] = [source.guide.books[name] for name in names]
    features = source.guide.grounding.vocabulary.features
    compared = sorted({each.feature for book in books for step in book.steps for each in step.when})
    places = [place for name in compared for place, each in enumerate(features) if each.name == name]
    episodes: list[Json] = []
    of_task = [each for each in source.episodes if each.episode.task_id == task]
    for recorded in of_task[:MOST_EPISODES]:
        observations = recorded.episode.observations[:-1].astype(np.float64)
        rows = np.unique(np.linspace(0, len(observations) - 1, min(len(observations), MOST_STATES)).astype(int))
        state = source.guide.grounding.read(observations[rows])
        episodes.append(
            {
                "name": recorded.name,
                "about": recorded.about,
                "success": recorded.episode.success,
                "at": rows.tolist(),
                "values": rounded(state.values[:, places].T),
                "points": rounded(state.anchors[:, :2]),
            }
        )
    return {"features": compared, "episodes": episodes}
