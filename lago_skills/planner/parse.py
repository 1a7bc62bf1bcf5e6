"""From a model's answer to a playbook: tolerant about the wrapping, strict about the content. Nothing is executed."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import Any, cast

from lago_skills.core import RELATIONS, Condition, PlanForm, Playbook, Step, Target, Vocabulary
from lago_skills.errors import PlanError
from lago_skills.planner.findings import Finding

MAX_STEPS = 12
MAX_CONDITIONS = 24
MAX_ANSWER_CHARS = 100_000
MAX_SENTENCE_CHARS = 500
MAX_OFFSET_M = 1.0
MAX_ABOUT = 2
NEEDS_PLACE = ("behind thing", "before thing", *(name for name in RELATIONS if name.endswith("place")))


@dataclass(frozen=True)
class Reading:
    """What an answer holds: a playbook, or the reasons why it holds none."""

    playbook: Playbook | None
    findings: tuple[Finding, ...]


class _Refused(Exception):
    """Why a part of an answer is not what it should be."""


def read_answer(
    text: str, task_id: str, vocabulary: Vocabulary, key: str, model: str, form: PlanForm = "numbers"
) -> Reading:
    """Read an answer; every step that is not valid becomes a finding, and there is then no playbook.

    Prose or a code fence around the JSON object is ignored; conditions on the last step are dropped (the last
    step is the fallback by definition).
    """
    try:
        steps = _find_steps(text)
    except _Refused as refused:
        return Reading(None, (Finding("invalid", 0, str(refused)),))
    parsed: list[Step] = []
    findings: list[Finding] = []
    for number, raw in enumerate(steps, start=1):
        try:
            parsed.append(_words_step(raw, vocabulary) if form == "words" else _step(raw, vocabulary))
        except _Refused as refused:
            findings.append(Finding("invalid", number, str(refused)))
    if findings:
        return Reading(None, tuple(findings))
    if form == "numbers":
        parsed[-1] = Step(parsed[-1].skill, parsed[-1].target)
    return Reading(Playbook(task_id, tuple(parsed), transcript_key=key, model=model, form=form), ())


def parse_playbook(
    text: str, task_id: str, vocabulary: Vocabulary, key: str, model: str, form: PlanForm = "numbers"
) -> Playbook:
    """The playbook in an answer.

    Raises:
        PlanError: no JSON object, a field of the wrong kind, an unknown feature or anchor, a number out of range.
    """
    reading = read_answer(text, task_id, vocabulary, key, model, form)
    if reading.playbook is None:
        raise PlanError(
            f"the answer for task {task_id!r} (request {key[:12]}, model {model}) is not a playbook: "
            + "; ".join(finding.line() for finding in reading.findings)
            + "; correct it or record it again"
        )
    return reading.playbook


def _find_steps(text: str) -> list[Any]:
    if len(text) > MAX_ANSWER_CHARS:
        raise _Refused(f"found an answer of {len(text)} characters; expected at most {MAX_ANSWER_CHARS}")
    if not text.strip():
        raise _Refused('found an empty answer; expected {"steps": [...]}')
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and "steps" in found:
            steps = cast("dict[str, Any]", found)["steps"]
            if not isinstance(steps, list) or not 1 <= len(cast("list[Any]", steps)) <= MAX_STEPS:
                raise _Refused(f"found no list of 1 to {MAX_STEPS} steps under 'steps'; expected one")
            return cast("list[Any]", steps)
        start = text.find("{", start + 1)
    cut = " (it seems to have been cut off)" if '"steps"' in text else ""
    raise _Refused(f'found no complete JSON object with "steps"{cut}; expected {{"steps": [...]}}')


def _short(raw: Any) -> str:
    text = repr(raw)
    return text if len(text) <= 80 else text[:77] + "..."


def _number(raw: Any, what: str, limit: float) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not abs(raw) <= limit:  # NaN compares as false
        raise _Refused(f"found {_short(raw)} as {what}; expected a finite number of size at most {limit:g}")
    return float(raw)


def clean_sentence(raw: Any) -> str | None:
    """A skill sentence on one line; None for what is none."""
    if not isinstance(raw, str) or len(raw) > MAX_SENTENCE_CHARS:
        return None
    sentence = " ".join(raw.split())
    return sentence if sentence and sentence.isprintable() else None


def _step(raw: Any, vocabulary: Vocabulary) -> Step:
    if not isinstance(raw, dict):
        raise _Refused(f"found {_short(raw)}; expected an object with 'skill', 'target' and 'when'")
    fields = cast("dict[str, Any]", raw)
    skill = clean_sentence(fields.get("skill"))
    if skill is None:
        raise _Refused(
            f"found skill {_short(fields.get('skill'))}; expected a sentence of at most {MAX_SENTENCE_CHARS} characters, without control characters"
        )
    when = fields.get("when", [])
    if not isinstance(when, list) or len(cast("list[Any]", when)) > MAX_CONDITIONS:
        raise _Refused(f"found when={_short(when)}; expected a list of conditions, at most {MAX_CONDITIONS}")
    names = {feature.name for feature in vocabulary.features}
    conditions = tuple(_condition(condition, names) for condition in cast("list[Any]", when))
    return Step(skill=skill, target=_target(fields.get("target"), vocabulary.anchors), when=conditions)


def _words_step(raw: Any, vocabulary: Vocabulary) -> Step:
    fields = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    skill = clean_sentence(fields.get("skill"))
    if skill is None:
        raise _Refused(
            f"found skill {_short(fields.get('skill'))}; expected a sentence of at most {MAX_SENTENCE_CHARS} characters, without control characters"
        )
    if numbers := {"target", "offset", "when"} & set(fields):
        raise _Refused(
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
        raise _Refused(
            f"found about={_short(about)}; expected one or two anchors of {', '.join(subjects)}: the thing, and perhaps the place"
        )
    thing_and_place = tuple(cast("list[str]", names))
    until = fields.get("until")
    if until not in RELATIONS:
        raise _Refused(f"found until={_short(until)}; expected one of {', '.join(RELATIONS)}")
    if len(thing_and_place) == 1 and (until in NEEDS_PLACE):
        raise _Refused(
            f"found until={until!r} in a step about {thing_and_place[0]!r} alone; expected two anchors, the thing and the place"
        )
    return Step(skill, about=thing_and_place, until=until)


def _target(raw: Any, anchors: tuple[str, ...]) -> Target | None:
    if not anchors:
        return None
    fields = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    anchor, offset = fields.get("anchor"), fields.get("offset")
    if anchor not in anchors or not isinstance(offset, list) or len(cast("list[Any]", offset)) != 3:
        raise _Refused(
            f"found target {_short(raw)}; expected an anchor ({', '.join(anchors)}) and an offset of three numbers"
        )
    numbers = [_number(value, "a part of the offset", MAX_OFFSET_M) for value in cast("list[Any]", offset)]
    return Target(anchor=anchor, offset=(numbers[0], numbers[1], numbers[2]))


def _condition(raw: Any, names: set[str]) -> Condition:
    fields = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    feature, op = fields.get("feature"), fields.get("op")
    if not isinstance(feature, str) or feature not in names:
        near = difflib.get_close_matches(str(feature)[:100], names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see the feature table"
        raise _Refused(f"found a condition on {_short(feature)}; expected a named feature; {hint}")
    if op not in ("<", ">"):
        raise _Refused(f"found operator {_short(op)}; expected '<' or '>'")
    return Condition(feature=feature, op=op, value=_number(fields.get("value"), "the number of a condition", 1e6))
