"""What is wrong with a playbook, in words that a person and a language model can act on; and the file of what was found.

Findings from demonstrations and rollouts are measured once and committed (`data/lint/*.jsonl`), like the scenes: repair
requests quote them, and the keys of recorded answers must be the same on every machine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lago_skills.errors import PlanError
from lago_skills.llm.transcripts import append_line

Kind = Literal[
    "invalid",  # the answer is not a playbook, or a part of it had to be refused
    "impossible",  # a condition, or all conditions of a step together, that no state can meet
    "shadowed",  # a step that can never be reached because one above it always holds
    "never-active",  # a step that was active in no demonstration, or in no rollout
    "unmet",  # a condition that no state of the demonstrations or rollouts met
    "chatters",  # two steps that hand over to each other back and forth
    "stuck",  # a step that never hands over
    "never-starts",  # rollouts that stay in the opening step to the end
    "undemonstrated",  # a sentence that the controller never learned, in a plan that does not work
    "number",  # a sentence of a plan in words with a number in it
    "one-anchor-twice",  # a step whose thing and place are one anchor
    "unfulfilled",  # a relation that does not hold where demonstrations end
    "unaligned",  # demonstrations that do not follow a plan in words
    "out-of-order",  # a step of a plan in words that does not follow what demonstrations show before it
    "unsolved",  # rollouts that did not solve the task: what they did, in numbers
    "unfinished",  # demonstrations that end although the final step was never reached
]


@dataclass(frozen=True)
class Finding:
    """One fault of one playbook."""

    kind: Kind
    step: int
    """Number of the step, from 1; 0 for the playbook as a whole."""
    text: str
    """What was found, what was expected."""

    def line(self) -> str:
        """One line for people and for the repair request."""
        return f"step {self.step}: {self.text}" if self.step else self.text


@dataclass(frozen=True)
class LintRecord:
    """What demonstrations and rollouts said about one answer."""

    answer: str
    """`id` of the transcript that was checked."""
    task_id: str
    findings: tuple[Finding, ...]
    demonstrations: int
    """Episodes that were looked at."""
    rollouts: int
    solved: int
    """Rollouts that ended before the horizon."""
    environment_steps: int
    """What the rollouts cost."""

    @property
    def score(self) -> float:
        """Offline score of a playbook, more is better: share of rollouts solved, then few findings."""
        return (self.solved / self.rollouts if self.rollouts else 0.0) - 0.01 * len(self.findings)


class LintFile:
    """An append-only file of lint records; the last one about an answer counts.

    Raises:
        PlanError: a line is not a lint record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._by_answer: dict[str, LintRecord] = {}
        if not path.exists():
            return
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                raw: dict[str, Any] = json.loads(line)
                findings = tuple(Finding(**entry) for entry in raw.pop("findings"))
                record = LintRecord(**raw, findings=findings)
            except (ValueError, TypeError, KeyError) as error:
                raise PlanError(
                    f"line {number} of lint file {str(path)!r} is not a lint record ({error}); expected one JSON object; "
                    "restore the file from version control, or delete the line and run: lago plan lint TASK"
                ) from error
            self._by_answer[record.answer] = record

    def get(self, answer: str) -> LintRecord | None:
        """What is known about an answer, by its transcript's `id`."""
        return self._by_answer.get(answer)

    def append(self, record: LintRecord) -> None:
        """Keep a record durably."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append_line(self.path, json.dumps(asdict(record), ensure_ascii=False))
        self._by_answer[record.answer] = record
