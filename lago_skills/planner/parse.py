"""From a model's answer to a playbook: tolerant about the wrapping, strict about the content. Nothing is executed."""

from __future__ import annotations

import difflib
import json
import math
from typing import Any, cast

from lago_skills.core import ANCHORS, Condition, Feature, Playbook, Step, Target
from lago_skills.errors import PlanError

MAX_STEPS = 12
MAX_ANSWER_CHARS = 100_000
MAX_OFFSET_M = 1.0


def parse_playbook(text: str, task_id: str, features: tuple[Feature, ...], key: str, model: str) -> Playbook:
    """The playbook in a model's answer.

    Prose or a code fence around the JSON object is ignored; conditions on the last step are dropped (the last
    step is the fallback by definition).

    Raises:
        PlanError: no JSON object, a field of the wrong kind, an unknown feature or anchor, a number out of range.
    """
    where = f"the answer for task {task_id!r} (transcript {key[:12]})"
    if len(text) > MAX_ANSWER_CHARS:
        raise PlanError(f"{where} has {len(text)} characters; expected at most {MAX_ANSWER_CHARS}; record it again")
    steps = _find_object(text, where).get("steps")
    if not isinstance(steps, list) or not 1 <= len(cast("list[Any]", steps)) <= MAX_STEPS:
        raise PlanError(f"{where}: found no list of 1 to {MAX_STEPS} steps under 'steps'; record it again")
    names = {feature.name for feature in features}
    parsed = [_step(raw, f"{where}, step {i}", names) for i, raw in enumerate(cast("list[Any]", steps), start=1)]
    parsed[-1] = Step(parsed[-1].skill, parsed[-1].target)
    return Playbook(task_id=task_id, steps=tuple(parsed), transcript_key=key, model=model)


def _find_object(text: str, where: str) -> dict[str, Any]:
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and "steps" in found:
            return cast("dict[str, Any]", found)
        start = text.find("{", start + 1)
    raise PlanError(f'{where} holds no JSON object with "steps"; expected {{"steps": [...]}}; record it again')


def _number(raw: Any, where: str, limit: float) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw) or abs(raw) > limit:
        raise PlanError(f"{where}: found {raw!r}; expected a finite number of size at most {limit:g}; record it again")
    return float(raw)


def _step(raw: Any, where: str, names: set[str]) -> Step:
    if not isinstance(raw, dict):
        raise PlanError(
            f"{where}: found {raw!r}; expected an object with 'skill', 'target' and 'when'; record it again"
        )
    fields = cast("dict[str, Any]", raw)
    skill = fields.get("skill")
    if not isinstance(skill, str) or not skill.strip() or len(skill) > 500:
        raise PlanError(
            f"{where}: found skill {skill!r}; expected a sentence of at most 500 characters; record it again"
        )
    when = fields.get("when", [])
    if not isinstance(when, list):
        raise PlanError(f"{where}: found when={when!r}; expected a list of conditions; record it again")
    conditions = tuple(_condition(c, where, names) for c in cast("list[Any]", when))
    return Step(skill=" ".join(skill.split()), target=_target(fields.get("target"), where), when=conditions)


def _target(raw: Any, where: str) -> Target:
    fields = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    anchor, offset = fields.get("anchor"), fields.get("offset")
    if anchor not in ANCHORS or not isinstance(offset, list) or len(cast("list[Any]", offset)) != 3:
        raise PlanError(
            f"{where}: found target {raw!r}; expected an anchor ({', '.join(ANCHORS)}) and an offset of three numbers; "
            "record it again"
        )
    numbers = [_number(value, f"{where}, offset", MAX_OFFSET_M) for value in cast("list[Any]", offset)]
    return Target(anchor=anchor, offset=(numbers[0], numbers[1], numbers[2]))


def _condition(raw: Any, where: str, names: set[str]) -> Condition:
    fields = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    feature, op = fields.get("feature"), fields.get("op")
    if not isinstance(feature, str) or feature not in names:
        near = difflib.get_close_matches(str(feature), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see the feature table of the request"
        raise PlanError(f"{where}: found a condition on {feature!r}; expected a named feature; {hint}")
    if op not in ("<", ">"):
        raise PlanError(f"{where}: found operator {op!r}; expected '<' or '>'; record it again")
    return Condition(feature=feature, op=op, value=_number(fields.get("value"), f"{where}, condition", 1e3))
