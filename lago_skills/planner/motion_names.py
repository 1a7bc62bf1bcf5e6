"""Names for the motions of data without a playbook: asked of a language model once, from numbers, offline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from lago_skills.core import Feature, Task
from lago_skills.data.motion_clusters import Motions
from lago_skills.errors import PlanError
from lago_skills.llm.json_objects import read_objects
from lago_skills.llm.transcripts import Request, Transcript, TranscriptFile
from lago_skills.planner.requests import template
from lago_skills.playbook import clean_sentence
from lago_skills.worlds.grounding import Grounding

GROUP = 5
"""Tasks per request; later requests list the sentences of earlier ones."""

NAMES_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["names"],
    "properties": {
        "names": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["task", "motion", "skill"],
                "properties": {
                    "task": {"type": "string"},
                    "motion": {"type": "integer"},
                    "skill": {"type": "string"},
                },
            },
        }
    },
}

Names = dict[str, dict[int, str]]
"""By task id and number of the motion: its sentence."""


@dataclass(frozen=True)
class Naming:
    """What is known about the names of a study's motions."""

    names: Names
    answers: dict[str, Transcript]
    """By task id: who named its motions."""
    open: Request | None
    """What is to be asked next; None when every motion has a name."""
    fault: str = ""
    """What is wrong with the answers to the open request, if there are some."""

    @property
    def words(self) -> tuple[str, ...]:
        """All sentences, each once."""
        return tuple(dict.fromkeys(skill for of_task in self.names.values() for skill in of_task.values()))


def naming_request(tasks: list[tuple[Task, Motions]], grounding: Grounding, words: list[str]) -> Request:
    """The request for the motions of a few tasks; depends on nothing but its arguments."""
    shown = {name for _, motions in tasks for motion in motions.motions for name in motion.start}
    features: list[Feature] = [feature for feature in grounding.vocabulary.features if feature.name in shown]
    prompt = template("motions.md").render(
        world=grounding.world,
        features=features,
        tasks=tasks,
        nouns=grounding.nouns,
        anchors=grounding.vocabulary.anchors,
        skills=words,
    )
    return Request(f"motions/{tasks[0][0].id}", prompt, NAMES_SCHEMA)


def read_names(
    tasks: list[tuple[Task, Motions]], grounding: Grounding, transcripts: TranscriptFile, model: str | None
) -> Naming:
    """Names from recorded answers, as far as they go; the latest answer that names every motion counts."""
    names: Names = {}
    answers: dict[str, Transcript] = {}
    for group in _groups(tasks):
        words = list(dict.fromkeys(skill for of_group in names.values() for skill in of_group.values()))
        request = naming_request(group, grounding, words)
        fault = ""
        for answer in reversed(transcripts.answers(request, model)):
            try:
                of_group = parse_names(answer.response, group)
            except PlanError as error:
                fault = fault or f"{error} (answer of {answer.model})"
                continue
            names |= of_group
            answers |= {task.id: answer for task, _ in group}
            break
        else:
            return Naming(names, answers, request, fault)
    return Naming(names, answers, None)


def _groups(tasks: list[tuple[Task, Motions]]) -> Iterator[list[tuple[Task, Motions]]]:
    for start in range(0, len(tasks), GROUP):
        yield tasks[start : start + GROUP]


def parse_names(text: str, tasks: list[tuple[Task, Motions]]) -> Names:
    """The sentence of every motion of these tasks.

    Raises:
        PlanError: no JSON object, a motion without a sentence, or one that is no sentence.
    """
    found = [each.value["names"] for each in read_objects(text).with_key("names") if not each.in_reasoning]
    fault: PlanError | None = None
    for entries in reversed(found):
        try:
            return _names_in(entries, tasks)
        except PlanError as error:
            fault = fault or error
    raise fault or PlanError(
        'found no names of motions in an answer; expected {"names": [{"task": ..., "motion": ..., "skill": ...}]}; record another answer'
    )


def _names_in(raw: Any, tasks: list[tuple[Task, Motions]]) -> Names:
    """The sentence of every motion, of one object of an answer.

    Raises:
        PlanError: a motion without a sentence, or one that is no sentence.
    """
    try:
        entries = cast("list[dict[str, Any]]", raw)
        sentences = {(str(entry["task"]), int(entry["motion"])): entry["skill"] for entry in entries}
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise PlanError(
            f'found no names of motions in an answer ({type(error).__name__}: {error}); expected {{"names": [{{"task": ..., '
            '"motion": ..., "skill": ...}]}; record another answer'
        ) from error
    names: Names = {task.id: {} for task, _ in tasks}
    for task, known in tasks:
        for motion in known.motions:
            sentence = clean_sentence(sentences.get((task.id, motion.number)))
            if sentence is None:
                raise PlanError(
                    f"found {sentences.get((task.id, motion.number))!r:.80} as the name of motion {motion.number} of task {task.id!r}; "
                    "expected a sentence of at most 500 characters, without control characters; record another answer"
                )
            names[task.id][motion.number] = sentence
    return names
