"""From a model's answer to a playbook: tolerant about the wrapping, strict about the content. Nothing is executed.

Of all plans in an answer the last one that is valid counts; drafts, a restated form and what stands in a model's reasoning are passed over, and
that is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from lago_skills.core import PlanForm, Playbook, Step, Vocabulary
from lago_skills.errors import PlanError
from lago_skills.llm.json_objects import JsonObject, JsonText, read_objects, spoken_length
from lago_skills.llm.reply import Ending
from lago_skills.planner.findings import Finding
from lago_skills.playbook import FORMS, MAX_PLANS, MAX_STEPS, clean_sentence, read_pace

MAX_ANSWER_CHARS, MAX_CHARS = 100_000, 2_000_000
"""Without the reasoning before it, and with it."""
EXPECTED = 'expected {"steps": [...]}'
SHOWN_CHARS, MOST_SHOWN = 120, 20
"""Of a plan that was passed over, and how many of them."""


@dataclass(frozen=True)
class Reading:
    """What an answer holds: a playbook, or the reasons why it holds none."""

    playbook: Playbook | None
    findings: tuple[Finding, ...]
    passed_over: tuple[str, ...] = ()
    """Plans in the answer that were not taken, a sentence each."""


def read_answer(
    text: str,
    task_id: str,
    vocabulary: Vocabulary,
    key: str,
    model: str,
    form: PlanForm = "numbers",
    most_steps: int = MAX_STEPS,
    ending: Ending | None = None,
) -> Reading:
    """Read an answer; every step that is not valid becomes a finding, and there is then no playbook.

    Prose or a code fence around the JSON object is ignored; conditions on the last step are dropped (the last
    step is the fallback by definition). `ending` is how the answer ended, where that was not by itself.
    """
    if len(text) > MAX_CHARS or spoken_length(text) > MAX_ANSWER_CHARS:
        return _nothing(f"found an answer of {len(text)} characters; expected at most {MAX_ANSWER_CHARS}")
    whole = read_objects(text)
    plans = whole.with_key("steps")
    readings = [(each, _read(each.value, task_id, vocabulary, key, model, form, most_steps)) for each in plans]
    said = [(each, reading) for each, reading in readings if not each.in_reasoning]
    valid = [pair for pair in said if pair[1].playbook is not None]
    if not said:
        return _nothing(_why_nothing(whole, readings, ending))
    taken = (valid or said)[-1]
    left = [each for each, _ in readings if each is not taken[0]]
    passed_over = tuple(_passed_over(whole, each) for each in left[-MOST_SHOWN:])
    if taken[1].playbook is None and ending is not None:
        return Reading(None, (Finding("invalid", 0, ending.text), *taken[1].findings), passed_over)
    return Reading(taken[1].playbook, taken[1].findings, passed_over)


@dataclass(frozen=True)
class WayReading:
    """One plan of an answer that holds several."""

    way: str
    """How it does the task, in the model's words."""
    reading: Reading


def read_several(
    text: str,
    task_id: str,
    vocabulary: Vocabulary,
    key: str,
    model: str,
    form: PlanForm = "numbers",
    most_steps: int = MAX_STEPS,
    ending: Ending | None = None,
) -> tuple[list[WayReading], tuple[Finding, ...]]:
    """Read an answer that was to hold several plans: each that it holds, valid or not, and why it holds none.

    Of several lists the last counts; plans that stand beside each other without a list are taken too, and what stands in a model's reasoning is not.
    """
    if len(text) > MAX_CHARS or spoken_length(text) > MAX_ANSWER_CHARS:
        return [], _nothing(f"found an answer of {len(text)} characters; expected at most {MAX_ANSWER_CHARS}").findings
    whole = read_objects(text)
    lists = [each.value["plans"] for each in whole.with_key("plans") if not each.in_reasoning]
    entries = [cast("list[Any]", each) for each in lists if isinstance(each, list)][-1:]
    if not entries:
        entries = [[each.value for each in whole.with_key("steps") if not each.in_reasoning]]
    readings: list[WayReading] = []
    for entry in entries[0][:MAX_PLANS]:
        fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        reading = _read(fields, task_id, vocabulary, key, model, form, most_steps)
        readings.append(WayReading(clean_sentence(fields.get("way")) or "", reading))
    if readings:
        return readings, ()
    why = _why_nothing(whole, [], ending).replace(EXPECTED, 'expected {"plans": [{"steps": [...]}, ...]}')
    return [], _nothing(why).findings


def _nothing(why: str) -> Reading:
    return Reading(None, (Finding("invalid", 0, why),))


def _passed_over(whole: JsonText, plan: JsonObject) -> str:
    words = " ".join(whole.text[plan.start : min(plan.end, plan.start + 4 * SHOWN_CHARS)].split())[:SHOWN_CHARS]
    return f"{whole.where(plan.start)}{', in its reasoning' if plan.in_reasoning else ''}: {words}"


def _why_nothing(whole: JsonText, readings: list[tuple[JsonObject, Reading]], ending: Ending | None) -> str:
    """Why there is no plan in an answer: how it ended, or what is wrong with the text where it begins to be one."""
    expected = EXPECTED
    if ending is not None:
        return ending.text
    if not whole.text.strip():
        return f"found an empty answer; {expected}"
    if readings:
        return f"found a plan only in the model's reasoning ({whole.where(readings[-1][0].start)}); {expected} after it"
    begun = [flaw for flaw in whole.flaws if '"steps"' in whole.text[flaw.start : flaw.start + 400]]
    if not begun:
        return f'found no complete JSON object with "steps"; {expected}'
    flaw = begun[-1]
    if flaw.cut_off:
        return f'found no complete JSON object with "steps": the text is cut off ({flaw.text}, {whole.where(flaw.place)}); {expected}'
    return f'found no complete JSON object with "steps", for a slip at {whole.where(flaw.place)}: {flaw.text}; correct it there'


def _read(
    fields: dict[str, Any],
    task_id: str,
    vocabulary: Vocabulary,
    key: str,
    model: str,
    form: PlanForm,
    most_steps: int,
) -> Reading:
    raw = fields.get("steps")
    if not isinstance(raw, list) or not 1 <= len(cast("list[Any]", raw)) <= most_steps:
        return _nothing(f"found no list of 1 to {most_steps} steps under 'steps'; expected one")
    steps: list[Step] = []
    findings: list[Finding] = []
    for number, entry in enumerate(cast("list[Any]", raw), start=1):
        try:
            steps.append(FORMS[form].read(entry, vocabulary))
        except PlanError as error:
            findings.append(Finding("invalid", number, str(error)))
    pace = 1.0
    try:
        pace = read_pace(fields)
    except PlanError as error:
        findings.append(Finding("invalid", 0, str(error)))
    if findings:
        return Reading(None, tuple(findings))
    if form == "numbers":
        steps[-1] = Step(steps[-1].skill, steps[-1].target)
    return Reading(Playbook(task_id, tuple(steps), transcript_key=key, model=model, form=form, pace=pace), ())


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
