"""Playbooks of a study, from recorded answers; and the requests still to be answered.

Training tasks are planned in rounds: each request lists the skill sentences of the rounds before it, so that words are
shared. Unseen tasks are asked with the sentences of all training tasks: what the library will hold. An answer with
findings is sent back once, in one repair round; the words that later requests list are those of the first answers, so
that a repair changes no other request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from lago_skills.core import PlanForm, Playbook, Task
from lago_skills.errors import PlanError, TranscriptMissing
from lago_skills.llm.transcripts import HUMAN, Request, Transcript, TranscriptFile
from lago_skills.planner.findings import Finding, LintFile
from lago_skills.planner.lint import lint_logic, lint_words_form
from lago_skills.planner.parse import read_answer
from lago_skills.planner.requests import playbook_request, repair_request
from lago_skills.planner.scenes import Scene
from lago_skills.playbook import FORMS, MAX_STEPS
from lago_skills.worlds.grounding import Grounding

FIRST_ROUNDS, ROUND_SIZE = 2, 2
"""The first two tasks are planned alone, to settle the words; later ones in pairs, so that two can be asked at once."""
BEST = "best"
"""As a study's `plan.model`: of several models' playbooks take the one with the best offline score."""


def rounds(tasks: tuple[Task, ...]) -> list[tuple[Task, ...]]:
    """Training tasks in the order in which they are planned; tasks of one round do not see each other's sentences."""
    alone = [(task,) for task in tasks[:FIRST_ROUNDS]]
    rest = tasks[FIRST_ROUNDS:]
    return alone + [rest[i : i + ROUND_SIZE] for i in range(0, len(rest), ROUND_SIZE)]


@dataclass(frozen=True)
class Version:
    """One state of a task's playbook: the first answer, its repair, or a person's edit."""

    transcript: Transcript
    playbook: Playbook | None
    findings: tuple[Finding, ...]
    authors: tuple[str, ...] = ()
    """Who wrote each step: `model (version)`."""
    score: float | None = None
    """Offline score, where the playbook has been tried in rollouts."""

    @property
    def usable(self) -> bool:
        """Whether the answer holds a playbook."""
        return self.playbook is not None


@dataclass(frozen=True)
class Plan:
    """Everything known about one task's playbook."""

    task: Task
    request: Request
    versions: tuple[Version, ...] = ()
    """In the order in which they were made."""
    chosen: Version | None = None
    open_repair: Request | None = None
    """The repair request that nobody has answered yet."""
    repaired: bool = False
    """Whether the repair round was taken."""

    @property
    def book(self) -> Playbook:
        """The playbook to use.

        Raises:
            PlanError: no answer holds one.
        """
        if self.chosen is None or self.chosen.playbook is None:
            last = self.versions[-1]
            raise PlanError(
                f"task {self.task.id!r} has no playbook: the answer of {last.transcript.model} "
                f"({last.transcript.source}) and its repair are not valid: "
                + "; ".join(finding.line() for finding in last.findings)
                + f"; write one with: lago plan edit {self.task.id}, or record another answer"
            )
        return self.chosen.playbook

    @property
    def tokens(self) -> int:
        """What all exchanges about this playbook cost, in tokens."""
        return sum(version.transcript.tokens for version in self.versions)


@dataclass(frozen=True)
class Planner:
    """Everything that fixes the requests of a study."""

    study: str
    grounding: Grounding
    scenes: dict[str, Scene]
    transcripts: TranscriptFile
    lint: LintFile = field(default_factory=lambda: LintFile(Path("/nonexistent")))
    model: str | None = None
    """Use only answers of this model; None takes the latest recorded answer, `best` the one with the best score."""
    use_repairs: bool = True
    """Without them a first answer that holds a playbook is used as it came."""
    brief: bool = False
    """Whether tasks without demonstrations are asked for with one sentence of instructions."""
    form: PlanForm = "numbers"
    """How plans are to be written."""
    words: tuple[str, ...] | None = ()
    """Sentences that data without playbooks has taught; None while its motions have no names, and nothing can be asked."""

    # One task -------------------------------------------------------------------------------------------------------

    def version(self, answer: Transcript, task: Task) -> Version:
        """An answer read and linted: by logic here, and with what the lint file knows about it."""
        vocabulary = self.grounding.vocabulary
        most = MAX_STEPS * task.parts
        reading = read_answer(answer.response, task.id, vocabulary, answer.key, answer.model, self.form, most)
        if reading.playbook is None:
            return Version(answer, None, reading.findings)
        known = self.lint.get(answer.id)
        logic = lint_words_form if self.form == "words" else lint_logic
        findings = reading.findings + logic(reading.playbook, vocabulary) + (known.findings if known else ())
        return Version(answer, reading.playbook, findings, score=known.score if known else None)

    def _chain(self, request: Request, task: Task, model: str | None) -> Plan:
        """First answer and repair of one model (or of whoever answered last)."""
        first = self.transcripts.get(request, model)
        if first is None:
            return Plan(task, request)
        before = self.version(first, task)
        before = replace(before, authors=_authors(before.playbook, None, f"{first.model} (1)"))
        if not before.findings or (before.usable and not self.use_repairs):
            return Plan(task, request, (before,), before)
        repair = repair_request(request, first.response, before.findings, self.form)
        second = self.transcripts.get(repair, model)
        if second is None:
            return Plan(task, request, (before,), before if before.usable else None, open_repair=repair)
        after = self.version(second, task)
        after = replace(after, authors=_authors(after.playbook, before, f"{second.model} (2)"))
        chosen = after if after.usable and not _worse(after, before) else before
        return Plan(task, request, (before, after), chosen if chosen.usable else None, repaired=True)

    def plan(self, task: Task, request: Request) -> Plan:
        """The state of one task: its versions, and the one to use.

        A person's edit of the playbook in use comes last and wins. With several models, `model` says whose answer counts.
        """
        if self.model == BEST:
            plans = [p for m in self.transcripts.models() if (p := self._chain(request, task, m)).versions]
            usable = [p for p in plans if p.chosen is not None]
            best = max(usable, key=_rank, default=plans[-1] if plans else Plan(task, request))
        else:
            best = self._chain(request, task, self.model)
        ids = {version.transcript.id for version in best.versions}
        for edit in self.transcripts.edits(request):
            if edit.parent not in ids:
                continue
            parent = next(v for v in best.versions if v.transcript.id == edit.parent)
            version = self.version(edit, task)
            who = f"{HUMAN} ({len(best.versions) + 1})"
            version = replace(version, authors=_authors(version.playbook, parent, who))
            ids.add(edit.id)
            best = replace(best, versions=(*best.versions, version), chosen=version, open_repair=None)
        return best

    # All tasks ------------------------------------------------------------------------------------------------------

    def plans(self, seen: tuple[Task, ...], unseen: tuple[Task, ...]) -> dict[str, Plan]:
        """The state of every task, by id, as far as the rounds of training tasks have been answered."""
        return {task.id: self.plan(task, request) for task, request in self.requests(seen, unseen)}

    def playbooks(self, seen: tuple[Task, ...], unseen: tuple[Task, ...]) -> dict[str, Playbook]:
        """Playbooks of all tasks, by task id, from recorded answers alone.

        Raises:
            TranscriptMissing: an answer has not been recorded.
            PlanError: a recorded answer and its repair are not valid playbooks.
        """
        books: dict[str, Playbook] = {}
        for task, request in self.requests(seen, unseen):
            plan = self.plan(task, request)
            if not plan.versions:
                self.transcripts.replay(request, self.study, None if self.model == BEST else self.model)
            if plan.chosen is None and plan.open_repair is not None:
                self.transcripts.replay(plan.open_repair, self.study)
            books[task.id] = plan.book
        missing = [task.id for task in (*seen, *unseen) if task.id not in books]
        if missing:
            raise TranscriptMissing(
                f"no answer is recorded for {', '.join(missing)}; their requests list the words of tasks that have no "
                f"playbook yet; run: lago plan {self.study} --export requests.jsonl"
            )
        return books

    def missing(self, seen: tuple[Task, ...], unseen: tuple[Task, ...], *, repairs: bool = True) -> list[Request]:
        """Requests without an answer that can be asked now, repairs of answers with findings among them.

        A training task's request lists the sentences of earlier rounds, so of the training tasks one round is open.
        """
        requests: list[Request] = []
        for task, request in self.requests(seen, unseen):
            plan = self.plan(task, request)
            if not plan.versions:
                requests.append(request)
            elif plan.open_repair is not None and (repairs or plan.chosen is None):
                requests.append(plan.open_repair)
        return requests

    def requests(self, seen: tuple[Task, ...], unseen: tuple[Task, ...]) -> Iterator[tuple[Task, Request]]:
        """The request of each task, in order; stops where words of an unanswered training task are needed."""
        if self.words is None:
            return
        known: dict[str, None] = dict.fromkeys(self.words)
        for members in rounds(seen):
            asked = [(task, self._request(task, known)) for task in members]
            yield from asked
            for task, request in asked:
                plan = self.plan(task, request)
                words = next((v.playbook for v in plan.versions if v.playbook is not None), None)
                if words is None and (not plan.versions or plan.open_repair is not None):
                    return
                known.update(dict.fromkeys(step.skill for step in words.steps) if words else {})
        for task in unseen:
            yield task, self._request(task, known, brief=self.brief)

    def _request(self, task: Task, known: dict[str, None], *, brief: bool = False) -> Request:
        return playbook_request(task, self.grounding, self.scenes, list(known), brief=brief, form=self.form)


def _rank(plan: Plan) -> tuple[float, int, str]:
    chosen = plan.chosen
    assert chosen is not None
    score = chosen.score if chosen.score is not None else -1.0
    return score, -len(chosen.findings), chosen.transcript.recorded_at


def _worse(after: Version, before: Version) -> bool:
    """Whether a repair lost against what it repaired: by rollouts if both were tried, else by the number of findings."""
    if not before.usable:
        return False
    if after.score is not None and before.score is not None:
        return after.score < before.score
    return len(after.findings) > len(before.findings)


def _authors(book: Playbook | None, parent: Version | None, who: str) -> tuple[str, ...]:
    """Author of each step: whoever wrote it first, word for word and number for number."""
    if book is None:
        return ()
    before = dict(zip(parent.playbook.steps, parent.authors, strict=True)) if parent and parent.playbook else {}
    return tuple(before.get(step, who) for step in book.steps)


def playbook_json(book: Playbook) -> str:
    """A playbook in the form in which a model answers."""
    written = [FORMS[book.form].write(step) for step in book.steps]
    steps = [{name: value for name, value in step.items() if value or name == "when"} for step in written]
    lines = ",\n".join("  " + json.dumps(step, ensure_ascii=False) for step in steps)
    return '{"steps": [\n' + lines + "\n]}\n"


__all__ = ["BEST", "Plan", "Planner", "TranscriptMissing", "Version", "playbook_json", "rounds"]
