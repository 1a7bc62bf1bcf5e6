"""Other words for the tasks, written by a language model once, offline: what a sentence never seen is compared with."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any, cast

from lago_skills.core import Task
from lago_skills.errors import PlanError
from lago_skills.llm.json_objects import read_objects
from lago_skills.llm.transcripts import Request, TranscriptFile
from lago_skills.planner.requests import template

FIRST_GROUP, FIRST_EACH = 10, 14
"""First round: tasks per request, wordings per task."""
MORE_GROUP, MORE_EACH = 6, 36
"""Second round, for tasks in use."""
TERM_SETS, UNRELATED, CONTRASTS = 40, 60, 12
CONTRAST_ROUNDS = ("contrast", "contrast-more")
"""Minimal pairs, then longer requests."""
NONE = "none"
"""The pretended task of sentences that fit no task."""
MAX_CHARS = 300
WORDINGS = "wordings/"
"""How the names of such requests begin."""


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


TEXT: dict[str, Any] = {"type": "string"}
WORDINGS_SCHEMA = _object(wordings=_array(_object(task=TEXT, texts=_array(TEXT))))
TERMS_SCHEMA = _object(terms=_array(_array(TEXT)))


@dataclass(frozen=True)
class Wordings:
    """What recorded answers say about how people ask for tasks."""

    texts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """By task id; under `none`, sentences that fit no task."""
    terms: tuple[tuple[str, ...], ...] = ()
    """Sets of interchangeable words."""
    contrasts: frozenset[str] = frozenset()
    """Which rounds of pairs of easily mistaken tasks are among the texts."""


def wordings_requests(tasks: tuple[Task, ...], in_use: tuple[Task, ...], known: Wordings) -> list[Request]:
    """What is still to be asked: wordings of tasks that have few, words that mean the same, sentences that fit no task."""

    def request(name: str, kind: str, n: int, group: tuple[Task, ...] = ()) -> Request:
        listed = ", ".join(task.id for task in group)
        prompt = template("wordings.md").render(every=tasks, tasks=listed, n=n, kind=kind)
        return Request(f"{WORDINGS}{name}", prompt, TERMS_SCHEMA if kind == "terms" else WORDINGS_SCHEMA)

    def few(group: tuple[Task, ...], n: int) -> bool:
        return any(len(known.texts.get(task.id, ())) < n for task in group)

    firsts = [tasks[i : i + FIRST_GROUP] for i in range(0, len(tasks), FIRST_GROUP)]
    mores = [in_use[i : i + MORE_GROUP] for i in range(0, len(in_use), MORE_GROUP)]
    requests = [request(group[0].id, "first", FIRST_EACH, group) for group in firsts if few(group, 1)]
    enough = FIRST_EACH + MORE_EACH // 2
    requests += [request(f"more-{group[0].id}", "more", MORE_EACH, group) for group in mores if few(group, enough)]
    rounds = [kind for kind in CONTRAST_ROUNDS if kind not in known.contrasts and len(in_use) > 1]
    requests += [request(kind, kind, CONTRASTS, in_use) for kind in rounds]
    if not known.terms and tasks:
        requests.append(request("terms", "terms", TERM_SETS))
    if NONE not in known.texts and tasks:
        requests.append(request(NONE, NONE, UNRELATED))
    return requests


def read_wordings(transcripts: TranscriptFile, tasks: tuple[Task, ...]) -> Wordings:
    """Recorded wordings of tasks.

    An answer counts for every study that has a task of that id, whatever other tasks were on the list that was asked
    about. What cannot be read of an answer is left out; wordings are a help, not a plan.
    """
    ids = {task.id for task in tasks} | {NONE}
    texts: dict[str, list[str]] = {}
    terms: dict[tuple[str, ...], None] = {}
    contrasts: set[str] = set()
    for transcript in transcripts.all():
        if not transcript.name.startswith(WORDINGS):
            continue
        answer = _parse(transcript.response, ids)
        if answer is None:
            continue
        contrasts |= {transcript.name.removeprefix(WORDINGS)} & set(CONTRAST_ROUNDS)
        for task, rewordings in answer.texts.items():
            of_task = texts.setdefault(task, [])
            of_task += [text for text in dict.fromkeys(rewordings) if text not in of_task]
        terms.update(dict.fromkeys(answer.terms))
    return Wordings(texts, tuple(terms), frozenset(contrasts))


def _clean(raw: Any) -> list[str]:
    texts = [" ".join(text.split()) for text in _list(raw) if isinstance(text, str)]
    return [text for text in texts if 0 < len(text) <= MAX_CHARS and text.isprintable()]


def _parse(text: str, tasks: Container[str] | None = None) -> Wordings | None:
    """What an answer says of these tasks (of any, without them), its last object of either form that says something; None where it holds none."""
    whole = read_objects(text)
    found = [each for key in ("wordings", "terms") for each in whole.with_key(key) if not each.in_reasoning]
    for each in sorted(found, key=lambda each: -each.start):
        texts: dict[str, list[str]] = {}
        for entry in _entries(each.value.get("wordings")):  # a task may have several entries
            if tasks is None or str(entry.get("task")) in tasks:
                texts.setdefault(str(entry["task"]), []).extend(_clean(entry.get("texts")))
        sets = [_clean(entry) for entry in _list(each.value.get("terms"))]
        terms = tuple(tuple(entry) for entry in sets if len(entry) > 1)
        if any(texts.values()) or terms:
            return Wordings(texts, terms)
    return None


def _list(raw: Any) -> list[Any]:
    return cast("list[Any]", raw) if isinstance(raw, list) else []


def _entries(raw: Any) -> list[dict[str, Any]]:
    return [cast("dict[str, Any]", each) for each in _list(raw) if isinstance(each, dict)]


def unreadable_wordings(transcripts: TranscriptFile) -> list[str]:
    """Names of requests whose answers, the latest and all earlier ones, hold no wordings of any task."""
    readable: dict[str, bool] = {}
    for transcript in transcripts.all():
        if transcript.name.startswith(WORDINGS):
            readable[transcript.name] = readable.get(transcript.name, False) or _parse(transcript.response) is not None
    return [name for name, read in readable.items() if not read]


def check_wordings(known: Wordings, tasks: tuple[Task, ...], study: str) -> None:
    """Make sure that every task has wordings.

    Raises:
        PlanError: a task has none, or nobody has said what fits no task.
    """
    missing = [name for name in (*(task.id for task in tasks), NONE) if not known.texts.get(name)]
    if missing:
        raise PlanError(
            f"found no recorded wordings for {', '.join(missing[:5])}{' and others' * (len(missing) > 5)}; expected some for "
            f"every task, to compare a new sentence with; record them with: lago plan {study} --wordings --live, or --export "
            "and --import"
        )
