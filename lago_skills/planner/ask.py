"""Playbooks of a study, from recorded answers; and the requests still to be answered.

Training tasks are planned in rounds: each request lists the skill sentences of the rounds before it, so that words are
shared. Unseen tasks are asked with the sentences of all training tasks: what the library will hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from lago_skills.core import Feature, Playbook, Task
from lago_skills.envs.grounding import Grounding
from lago_skills.errors import PlanError, TranscriptMissing
from lago_skills.llm.transcripts import Request, Transcript, TranscriptFile
from lago_skills.planner.parse import parse_playbook
from lago_skills.planner.requests import PLAYBOOK_SCHEMA, playbook_request
from lago_skills.planner.scenes import Scene

FIRST_ROUNDS, ROUND_SIZE = 2, 2
"""The first two tasks are planned alone, to settle the words; later ones in pairs, so that two can be asked at once."""


def rounds(tasks: tuple[Task, ...]) -> list[tuple[Task, ...]]:
    """Training tasks in the order in which they are planned; tasks of one round do not see each other's sentences."""
    alone = [(task,) for task in tasks[:FIRST_ROUNDS]]
    rest = tasks[FIRST_ROUNDS:]
    return alone + [rest[i : i + ROUND_SIZE] for i in range(0, len(rest), ROUND_SIZE)]


@dataclass(frozen=True)
class Planner:
    """Everything that fixes the requests of a study."""

    study: str
    grounding: Grounding
    scenes: dict[str, Scene]
    transcripts: TranscriptFile
    model: str | None = None
    """Use only answers of this model; None takes the latest recorded answer."""

    def _playbook(self, request: Request, task: Task) -> Playbook:
        answer = self.transcripts.replay(request, self.study, self.model)
        return parse_playbook(answer.response, task.id, self.grounding.features, answer.key, answer.model)

    def playbooks(self, seen: tuple[Task, ...], unseen: tuple[Task, ...]) -> dict[str, Playbook]:
        """Playbooks of all tasks, by task id, from recorded answers alone.

        Raises:
            TranscriptMissing: an answer has not been recorded.
            PlanError: a recorded answer is not a valid playbook.
        """
        return {
            task.id: self._playbook(request, task) for task, request in self._ask(seen, unseen, stop_at_missing=False)
        }

    def missing(self, seen: tuple[Task, ...], unseen: tuple[Task, ...]) -> list[Request]:
        """Requests without an answer that can be asked now.

        A training task's request lists the sentences of earlier rounds, so of the training tasks one round is open.
        """
        asked = self._ask(seen, unseen, stop_at_missing=True)
        return [request for _, request in asked if self.transcripts.get(request, self.model) is None]

    def _ask(
        self, seen: tuple[Task, ...], unseen: tuple[Task, ...], stop_at_missing: bool
    ) -> Iterator[tuple[Task, Request]]:
        known: dict[str, None] = {}
        for members in rounds(seen):
            asked = [(task, playbook_request(task, self.grounding, self.scenes, list(known))) for task in members]
            yield from asked
            if stop_at_missing and any(self.transcripts.get(request, self.model) is None for _, request in asked):
                return
            for task, request in asked:
                known.update(dict.fromkeys(step.skill for step in self._playbook(request, task).steps))
        for task in unseen:
            yield task, playbook_request(task, self.grounding, self.scenes, list(known))


def export_requests(requests: list[Request], path: Path) -> None:
    """Write requests in the Batch API's line format: `custom_id` is the request's name and key."""
    lines = [
        json.dumps(
            {
                "custom_id": f"{request.name}#{request.key}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "messages": request.canonical()["messages"],
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {"name": "playbook", "strict": True, "schema": request.schema},
                    },
                },
            },
            ensure_ascii=False,
        )
        for request in requests
    ]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def import_responses(
    path: Path,
    open_requests: list[Request],
    transcripts: TranscriptFile,
    features: tuple[Feature, ...],
    model: str,
    source: str,
) -> int:
    """Record answers from the Batch API's line format; returns how many. All are recorded or none.

    Raises:
        PlanError: the file cannot be read, an answer belongs to no open request or is not a valid playbook.
    """
    by_key = {request.key: request for request in open_requests}
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise PlanError(
            f"responses file {str(path)!r} cannot be read ({error}); expected JSON lines in the Batch API's format"
        ) from error
    answers = [_answer(line, str(path)) for line in lines]
    for key, text, _ in answers:
        if key not in by_key:
            raise PlanError(
                f"responses file {str(path)!r} answers a request with key {key[:12]!r} that is not open; expected one of "
                f"{[request.name for request in open_requests]}; export the requests again and answer those"
            )
        parse_playbook(
            text, by_key[key].name.removeprefix("plan/"), features, key, model
        )  # before anything is recorded
    for key, text, usage in answers:
        request = by_key[key]
        transcripts.append(
            Transcript(
                key=key,
                name=request.name,
                request={"messages": request.canonical()["messages"], "schema": PLAYBOOK_SCHEMA},
                response=text,
                model=model,
                source=source,
                recorded_at=datetime.now(UTC).isoformat(timespec="seconds"),
                usage=usage,
            )
        )
    return len(answers)


def _answer(line: Any, where: str) -> tuple[str, str, dict[str, int]]:
    try:
        body = line["response"]["body"]
        text = body["choices"][0]["message"]["content"]
        key = str(line["custom_id"]).rpartition("#")[2]
    except (KeyError, IndexError, TypeError) as error:
        raise PlanError(
            f"responses file {where!r}: a line lacks custom_id or response.body.choices[0].message.content; "
            "expected the Batch API's format; download or write the file again"
        ) from error
    if not isinstance(text, str):
        raise PlanError(f"responses file {where!r}: found content {text!r}; expected text; answer that request again")
    usage = cast("dict[str, Any]", body.get("usage") or {})
    return key, text, {name: int(n) for name, n in usage.items() if isinstance(n, int)}


__all__ = ["Planner", "TranscriptMissing", "export_requests", "import_responses"]
