"""From a model's answer to a playbook: tolerant about the wrapping, strict about the content. Nothing is executed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

from lago_skills.core import PlanForm, Playbook, Step, Vocabulary
from lago_skills.errors import PlanError
from lago_skills.planner.findings import Finding
from lago_skills.playbook import FORMS, MAX_STEPS

MAX_ANSWER_CHARS = 100_000


@dataclass(frozen=True)
class Reading:
    """What an answer holds: a playbook, or the reasons why it holds none."""

    playbook: Playbook | None
    findings: tuple[Finding, ...]


def read_answer(
    text: str,
    task_id: str,
    vocabulary: Vocabulary,
    key: str,
    model: str,
    form: PlanForm = "numbers",
    most_steps: int = MAX_STEPS,
) -> Reading:
    """Read an answer; every step that is not valid becomes a finding, and there is then no playbook.

    Prose or a code fence around the JSON object is ignored; conditions on the last step are dropped (the last
    step is the fallback by definition).
    """
    try:
        raw_steps = _find_steps(text, most_steps)
    except PlanError as error:
        return Reading(None, (Finding("invalid", 0, str(error)),))
    steps: list[Step] = []
    findings: list[Finding] = []
    for number, raw in enumerate(raw_steps, start=1):
        try:
            steps.append(FORMS[form].read(raw, vocabulary))
        except PlanError as error:
            findings.append(Finding("invalid", number, str(error)))
    if findings:
        return Reading(None, tuple(findings))
    if form == "numbers":
        steps[-1] = Step(steps[-1].skill, steps[-1].target)
    return Reading(Playbook(task_id, tuple(steps), transcript_key=key, model=model, form=form), ())


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


def _find_steps(text: str, most_steps: int) -> list[Any]:
    if len(text) > MAX_ANSWER_CHARS:
        raise PlanError(f"found an answer of {len(text)} characters; expected at most {MAX_ANSWER_CHARS}")
    if not text.strip():
        raise PlanError('found an empty answer; expected {"steps": [...]}')
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            candidate, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            candidate = None
        if isinstance(candidate, dict) and "steps" in candidate:
            steps = cast("dict[str, Any]", candidate)["steps"]
            if not isinstance(steps, list) or not 1 <= len(cast("list[Any]", steps)) <= most_steps:
                raise PlanError(f"found no list of 1 to {most_steps} steps under 'steps'; expected one")
            return cast("list[Any]", steps)
        start = text.find("{", start + 1)
    cut = " (it seems to have been cut off)" if '"steps"' in text else ""
    raise PlanError(f'found no complete JSON object with "steps"{cut}; expected {{"steps": [...]}}')
