"""Other words for the tasks, written by a language model once, offline: what a sentence never seen is compared with."""

from __future__ import annotations

import json
from typing import Any, cast

from lago_skills.core import Task
from lago_skills.errors import PlanError
from lago_skills.llm.transcripts import Request, TranscriptFile
from lago_skills.planner.requests import template

TASKS_PER_REQUEST = 10
WORDINGS_PER_TASK = 14
UNRELATED = 60
NONE = "none"
"""The pretended task of sentences that fit no task."""
MAX_CHARS = 300

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["wordings"],
    "properties": {
        "wordings": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["task", "texts"],
                "properties": {
                    "task": {"type": "string"},
                    "texts": {"type": "array", "items": {"type": "string"}},
                },
            },
        }
    },
}


def wordings_requests(tasks: tuple[Task, ...], known: dict[str, list[str]]) -> list[Request]:
    """What is still to be asked: wordings of tasks that have none, and sentences that fit no task."""
    groups = [tasks[i : i + TASKS_PER_REQUEST] for i in range(0, len(tasks), TASKS_PER_REQUEST)]
    requests = [
        _request(f"wordings/{group[0].id}", tasks, ", ".join(task.id for task in group), WORDINGS_PER_TASK)
        for group in groups
        if any(task.id not in known for task in group)
    ]
    if NONE not in known and tasks:
        requests.append(_request(f"wordings/{NONE}", tasks, "", UNRELATED))
    return requests


def _request(name: str, every: tuple[Task, ...], tasks: str, n: int) -> Request:
    prompt = template("wordings.md").render(every=every, tasks=tasks, n=n)
    return Request(name=name, prompt=prompt, schema=SCHEMA)


def read_wordings(transcripts: TranscriptFile, tasks: tuple[Task, ...]) -> dict[str, list[str]]:
    """Recorded wordings by task id (and under `none` those that fit no task).

    An answer counts for every study that has a task of that id, whatever other tasks were on the list that was asked
    about. What cannot be read of an answer is left out; wordings are a help, not a plan.
    """
    ids = {task.id for task in tasks} | {NONE}
    found: dict[str, list[str]] = {}
    for transcript in transcripts.all():
        if not transcript.name.startswith("wordings/"):
            continue
        for task, texts in _parse(transcript.response).items():
            if task in ids:
                kept = found.setdefault(task, [])
                kept += [text for text in texts if text not in kept]
    return found


def _parse(text: str) -> dict[str, list[str]]:
    start = text.find("{")
    try:
        raw, _ = json.JSONDecoder().raw_decode(text, max(start, 0))
        entries = cast("list[Any]", raw["wordings"])
        found: dict[str, list[str]] = {}
        for entry in entries:
            texts = [" ".join(str(t).split()) for t in entry["texts"] if isinstance(t, str)]
            found[str(entry["task"])] = [t for t in texts if 0 < len(t) <= MAX_CHARS and t.isprintable()]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found


def check_wordings(transcripts: TranscriptFile, tasks: tuple[Task, ...], study: str) -> dict[str, list[str]]:
    """Recorded wordings of all tasks.

    Raises:
        PlanError: a task has none, or nobody has said what fits no task.
    """
    found = read_wordings(transcripts, tasks)
    missing = [name for name in (*(task.id for task in tasks), NONE) if not found.get(name)]
    if missing:
        raise PlanError(
            f"found no recorded wordings for {', '.join(missing[:5])}{' and others' * (len(missing) > 5)}; expected some for "
            f"every task, to compare a new sentence with; record them with: lago plan {study} --live, or --export and --import"
        )
    return found
