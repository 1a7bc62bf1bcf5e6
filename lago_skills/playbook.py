"""The grammar of playbooks, in one place: the JSON schema of each form, how a step is read and checked, how it is written; and playbooks at run time.

A plan in numbers and a plan in words differ in what a step says. Each has a `Form` here, from which the planner's requests, the parser of
answers, the files of a study and those of a bundle come.
"""

from __future__ import annotations

import difflib
import json
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Condition, PlanForm, Playbook, Step, Target, Vocabulary
from lago_skills.errors import PlanError

MAX_STEPS, MAX_CONDITIONS, MAX_ABOUT = 12, 24, 2
MAX_PLANS = 16
"""Of one task, in one answer."""
MAX_SENTENCE_CHARS = 500
MAX_THRESHOLD = 1e6
LEAST_PACE, MOST_PACE = 0.25, 4.0
SAME_WORDS = 1e-5
"""Cosines that differ by less are of the same sentence."""
COUNT = {2: "two", 3: "three"}


class Form(Protocol):
    """How steps of one form of plan are asked for, read and written."""

    def schema(self, vocabulary: Vocabulary) -> dict[str, Any]:
        """JSON schema of an answer, in the strict subset that OpenAI-compatible endpoints agree on."""
        ...

    def read(self, raw: Any, vocabulary: Vocabulary) -> Step:
        """A step from its JSON form.

        Raises:
            PlanError: it is not one; says what was found and expected.
        """
        ...

    def write(self, step: Step) -> dict[str, Any]:
        """The JSON form of a step."""
        ...


class Numbers:
    """A step says where to head (an anchor and an offset) and when (features compared with numbers)."""

    def schema(self, vocabulary: Vocabulary) -> dict[str, Any]:
        """`{skill, target: {anchor, offset}, when: [{feature, op, value}]}`; no target where there are no anchors."""
        step: dict[str, Any] = {
            "skill": {"type": "string"},
            "target": strict_object(
                {
                    "anchor": {"type": "string", "enum": list(vocabulary.anchors)},
                    "offset": {"type": "array", "items": {"type": "number"}},
                }
            ),
            "when": {
                "type": "array",
                "items": strict_object(
                    {
                        "feature": {"type": "string"},
                        "op": {"type": "string", "enum": ["<", ">"]},
                        "value": {"type": "number"},
                    }
                ),
            },
        }
        if not vocabulary.anchors:
            del step["target"]
        return strict_object({"steps": {"type": "array", "items": strict_object(step)}})

    def read(self, raw: Any, vocabulary: Vocabulary) -> Step:
        """A step in numbers.

        Raises:
            PlanError: an unknown feature or anchor, a field of the wrong kind, a number out of range.
        """
        if not isinstance(raw, dict):
            raise PlanError(f"found {_short(raw)}; expected an object with 'skill', 'target' and 'when'")
        fields = cast("dict[str, Any]", raw)
        skill = _skill(fields)
        when = fields.get("when", [])
        if not isinstance(when, list) or len(cast("list[Any]", when)) > MAX_CONDITIONS:
            raise PlanError(f"found when={_short(when)}; expected a list of conditions, at most {MAX_CONDITIONS}")
        names = {feature.name for feature in vocabulary.features}
        conditions = tuple(_condition(condition, names) for condition in cast("list[Any]", when))
        return Step(skill=skill, target=_target(fields.get("target"), vocabulary), when=conditions)

    def write(self, step: Step) -> dict[str, Any]:
        """`skill`, `target` and `when`."""
        target = step.target and {"anchor": step.target.anchor, "offset": list(step.target.offset)}
        when = [{"feature": each.feature, "op": each.op, "value": each.value} for each in step.when]
        return {"skill": step.skill, "target": target, "when": when}


class Words:
    """A step says what is done with what, and how things lie when that is over; where and when is the skill's to know."""

    def schema(self, vocabulary: Vocabulary) -> dict[str, Any]:
        """`{skill, about: [anchors], until: relation}`; `skill` alone where there are no anchors."""
        step: dict[str, Any] = {"skill": {"type": "string"}}
        if vocabulary.subjects:
            step["about"] = {"type": "array", "items": {"type": "string", "enum": list(vocabulary.subjects)}}
            step["until"] = {"type": "string", "enum": [relation.name for relation in vocabulary.relations]}
        return strict_object({"steps": {"type": "array", "items": strict_object(step)}})

    def read(self, raw: Any, vocabulary: Vocabulary) -> Step:
        """A step in words.

        Raises:
            PlanError: numbers, an unknown anchor or relation, or a relation to a place in a step that names none.
        """
        fields = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
        skill = _skill(fields)
        if numbers := {"target", "offset", "when"} & set(fields):
            raise PlanError(
                f"found {sorted(numbers)[0]!r}; expected a plan in words, with 'skill' and 'about' alone; say it in the sentence, or set "
                'plan.form = "numbers"'
            )
        subjects = vocabulary.subjects
        if not subjects:
            return Step(skill)
        about = fields.get("about")
        names = [about] if isinstance(about, str) else about
        known = isinstance(names, list) and all(name in subjects for name in cast("list[Any]", names))
        if not known or not 1 <= len(cast("list[Any]", names)) <= MAX_ABOUT:
            raise PlanError(
                f"found about={_short(about)}; expected one or two anchors of {', '.join(subjects)}: the thing, and perhaps the place"
            )
        thing_and_place = tuple(cast("list[str]", names))
        relations, until = {relation.name: relation for relation in vocabulary.relations}, fields.get("until")
        if not isinstance(until, str) or until not in relations:
            raise PlanError(f"found until={_short(until)}; expected one of {', '.join(relations)}")
        if len(thing_and_place) == 1 and relations[until].needs_place:
            raise PlanError(
                f"found until={until!r} in a step about {thing_and_place[0]!r} alone; expected two anchors, the thing and the place"
            )
        return Step(skill, about=thing_and_place, until=relations[until])

    def write(self, step: Step) -> dict[str, Any]:
        """`skill`, `about` and `until`."""
        return {"skill": step.skill, "about": list(step.about), "until": step.until and step.until.name}


FORMS: dict[PlanForm, Form] = {"numbers": Numbers(), "words": Words()}


def read_playbook(raw: Any, vocabulary: Vocabulary) -> Playbook:
    """A playbook from the JSON form in files of a study or a bundle.

    Raises:
        PlanError: it is not one that this vocabulary can express; says which step and why.
    """
    try:
        form: PlanForm = raw.get("form", "numbers")
        steps = tuple(FORMS[form].read(step, vocabulary) for step in raw["steps"])
        return Playbook(raw["task_id"], steps, raw["transcript_key"], raw["model"], form, read_pace(raw))
    except (AttributeError, KeyError, TypeError) as error:
        raise PlanError(
            f"found {_short(raw)} as a playbook ({type(error).__name__}: {error}); expected task_id, steps, transcript_key and model; "
            "plan and build again"
        ) from error


def write_playbook(book: Playbook) -> dict[str, Any]:
    """The JSON form of a playbook; of one in numbers, as it was before there were others, so that its hash stays."""
    steps = [FORMS[book.form].write(step) for step in book.steps]
    raw = {"task_id": book.task_id, "steps": steps, "transcript_key": book.transcript_key, "model": book.model}
    raw |= {} if book.pace == 1.0 else {"pace": book.pace}
    return raw if book.form == "numbers" else {**raw, "form": book.form}


def playbook_json(book: Playbook) -> str:
    """A playbook in the form in which a model answers."""
    written = [FORMS[book.form].write(step) for step in book.steps]
    steps = [{name: value for name, value in step.items() if value or name == "when"} for step in written]
    lines = ",\n".join("  " + json.dumps(step, ensure_ascii=False) for step in steps)
    pace = "" if book.pace == 1.0 else f'"pace": {book.pace:g}, '
    return "{" + pace + '"steps": [\n' + lines + "\n]}\n"


def read_pace(raw: Any) -> float:
    """The pace beside the steps of a plan; 1 where nothing is said.

    Raises:
        PlanError: it is no number, or too small or too large.
    """
    pace = cast("dict[str, Any]", raw).get("pace", 1.0)
    if isinstance(pace, bool) or not isinstance(pace, int | float) or not LEAST_PACE <= pace <= MOST_PACE:
        raise PlanError(
            f"found pace={_short(pace)}; expected a number from {LEAST_PACE:g} to {MOST_PACE:g}; 1 is as shown"
        )
    return float(pace)


def plan_name(task: str, number: int) -> str:
    """What a plan of a task's portfolio is called, beside the task's own plan, which has the task's name."""
    return f"{task}/{number}"


def clean_sentence(raw: Any) -> str | None:
    """A skill sentence on one line; None for what is none."""
    if not isinstance(raw, str) or len(raw) > MAX_SENTENCE_CHARS:
        return None
    sentence = " ".join(raw.split())
    return sentence if sentence and sentence.isprintable() else None


def strict_object(properties: dict[str, Any]) -> dict[str, Any]:
    """JSON schema of an object with these fields, all of them and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _short(raw: Any) -> str:
    text = repr(raw)
    return text if len(text) <= 80 else text[:77] + "..."


def _skill(fields: dict[str, Any]) -> str:
    skill = clean_sentence(fields.get("skill"))
    if skill is None:
        raise PlanError(
            f"found skill {_short(fields.get('skill'))}; expected a sentence of at most {MAX_SENTENCE_CHARS} characters, without control characters"
        )
    return skill


def _number(raw: Any, what: str, limit: float) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not abs(raw) <= limit:  # NaN compares as false
        raise PlanError(f"found {_short(raw)} as {what}; expected a finite number of size at most {limit:g}")
    return float(raw)


def _target(raw: Any, vocabulary: Vocabulary) -> Target | None:
    if not vocabulary.anchors:
        return None
    fields = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    anchor, offset, size = fields.get("anchor"), fields.get("offset"), vocabulary.target_size
    if (
        anchor not in vocabulary.anchors
        or not isinstance(offset, list | tuple)
        or len(cast("list[Any]", offset)) != size
    ):
        raise PlanError(
            f"found target {_short(raw)}; expected an anchor ({', '.join(vocabulary.anchors)}) and an offset of {COUNT[size]} numbers"
        )
    numbers = [_number(value, "a part of the offset", vocabulary.largest_offset) for value in cast("list[Any]", offset)]
    return Target(anchor=anchor, offset=tuple(numbers))


def _condition(raw: Any, names: set[str]) -> Condition:
    fields = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    feature, op = fields.get("feature"), fields.get("op")
    if not isinstance(feature, str) or feature not in names:
        near = difflib.get_close_matches(str(feature)[:100], names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see the feature table"
        raise PlanError(f"found a condition on {_short(feature)}; expected a named feature; {hint}")
    if op not in ("<", ">"):
        raise PlanError(f"found operator {_short(op)}; expected '<' or '>'")
    return Condition(
        feature=feature, op=op, value=_number(fields.get("value"), "the number of a condition", MAX_THRESHOLD)
    )


class CompiledPlaybook:
    """A playbook in numbers as index and threshold arrays: which step is active and where it heads, without a Python loop over rows."""

    def __init__(self, playbook: Playbook, vocabulary: Vocabulary) -> None:
        index = {feature.name: i for i, feature in enumerate(vocabulary.features)}
        self.playbook, self.target_size = playbook, vocabulary.target_size
        conditions = [(number, c) for number, step in enumerate(playbook.steps) for c in step.when]
        self._features = np.array([index[c.feature] for _, c in conditions], dtype=np.int64)  # (n_conditions,)
        self._signs = np.array([1.0 if c.op == "<" else -1.0 for _, c in conditions])
        self._bounds = np.array([c.value for _, c in conditions])
        self._counts = np.zeros((len(conditions), len(playbook.steps)))  # 1 where a condition is of a step
        self._counts[np.arange(len(conditions)), [number for number, _ in conditions]] = 1.0
        targets, still = [step.target for step in playbook.steps], (0.0,) * self.target_size
        self._anchor = np.array([vocabulary.anchors.index(t.anchor) if t else -1 for t in targets])
        self._offset = np.array([t.offset if t else still for t in targets])  # (n_steps, D)

    def ready(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """(B, F) feature values -> (B, n_steps) whether all conditions of each step hold; the last has none."""
        failed = ~(self._signs * (values[:, self._features] - self._bounds) < 0.0)  # (B, n_conditions)
        holds: NDArray[np.bool_] = failed @ self._counts == 0.0  # (B, n_steps)
        holds[:, -1] = True
        return holds

    def active(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """(B, F) feature values -> (B,) index of the first step whose conditions all hold."""
        return np.argmax(self.ready(values), axis=1)

    def answering(self, values: NDArray[Any], similar: NDArray[Any]) -> NDArray[np.int64]:
        """(B, F) feature values and (B, n_steps) how well each step answers what is wanted -> (B,) the step that answers best.

        Steps that share their words answer alike; of those, the first whose conditions hold, and the last if none of theirs do.
        """
        best: NDArray[np.bool_] = similar >= similar.max(axis=1, keepdims=True) - SAME_WORDS
        ready: NDArray[np.bool_] = best & self.ready(values)
        first: NDArray[np.int64] = np.argmax(ready, axis=1)
        last: NDArray[np.int64] = best.shape[1] - 1 - np.argmax(best[:, ::-1], axis=1)
        chosen: NDArray[np.int64] = np.where(ready[np.arange(len(ready)), first], first, last)
        return chosen

    def targets(self, steps: NDArray[np.int64], anchors: NDArray[Any]) -> NDArray[np.float64]:
        """(B,) active steps and (B, n_anchors, D) anchor points -> (B, D) target points."""
        if not self.target_size:
            return np.zeros((len(steps), 0))
        return anchors[np.arange(len(steps)), self._anchor[steps]] + self._offset[steps]
