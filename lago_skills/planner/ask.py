"""Playbooks of a study, from recorded answers; and the requests still to be answered.

Training tasks are planned in rounds: each request lists the skill sentences of the rounds before it, so that words are
shared. Unseen tasks are asked with the sentences of all training tasks: what the library will hold. An answer with
findings is sent back once, in one repair round; the words that later requests list are those of the first answers, so
that a repair changes no other request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from lago_skills.core import PlanForm, Playbook, Task
from lago_skills.errors import TranscriptMissing
from lago_skills.llm.reply import CUT, ending
from lago_skills.llm.transcripts import Request, Transcript, TranscriptFile
from lago_skills.planner.alike import exchange, wording_of
from lago_skills.planner.findings import Finding, LintFile
from lago_skills.planner.lint import lint_logic, lint_words_form
from lago_skills.planner.parse import read_answer
from lago_skills.planner.portfolio import Portfolio, read_portfolio
from lago_skills.planner.requests import playbook_request, portfolio_request, repair_request, same_but_words
from lago_skills.planner.scenes import Scene
from lago_skills.planner.versions import Plan, Version
from lago_skills.playbook import MAX_STEPS
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
class Planner:
    """Everything that fixes the requests of a study."""

    study: str
    """How commands name the study."""
    grounding: Grounding
    scenes: dict[str, Scene]
    transcripts: TranscriptFile
    lint: LintFile = field(default_factory=lambda: LintFile(Path("/nonexistent")))
    model: str | None = None
    """Use only answers of this model; None takes the latest recorded answer, `best` the one with the best score."""
    use_repairs: bool = True
    """Without them a first answer that holds a playbook is used as it came."""
    repairs: int = 1
    """How often an answer goes back with what is wrong with it, at most."""
    brief: bool = False
    """Whether tasks without demonstrations are asked for with one sentence of instructions."""
    form: PlanForm = "numbers"
    """How plans are to be written."""
    words: tuple[str, ...] | None = ()
    """Sentences that data without playbooks has taught; None while its motions have no names, and nothing can be asked."""
    settled: bool = False
    """Whether the words are known beforehand, so that every task is asked with them alone, and all at once."""
    samples: int = 1
    """How many different answers of a task (of each model, where `model` is `best`) are asked for and compared."""
    portfolio: int = 0
    """How many plans that differ in how the task is done a further request asks for, of each task that is not demonstrated; 0 is none."""

    # One task -------------------------------------------------------------------------------------------------------

    def version(self, answer: Transcript, task: Task) -> Version:
        """An answer read and linted: by logic here, and with what the lint file knows about it."""
        vocabulary = self.grounding.vocabulary
        most = MAX_STEPS * task.parts
        ended = ending(answer.reply, answer.cap)
        cut_at = answer.cap if ended is not None and ended.kind == CUT else None
        reading = read_answer(answer.response, task.id, vocabulary, answer.key, answer.model, self.form, most, ended)
        passed_over = reading.passed_over
        if reading.playbook is None:
            return Version(answer, None, reading.findings, passed_over=passed_over, cut_at=cut_at)
        known = self.lint.get(answer.id)
        logic = lint_words_form if self.form == "words" else lint_logic
        findings = reading.findings + logic(reading.playbook, vocabulary) + (known.findings if known else ())
        score = known.score if known else None
        return Version(answer, reading.playbook, findings, score=score, passed_over=passed_over)

    def _chain(self, request: Request, task: Task, first: Transcript) -> Plan:
        """A first answer and its repairs, by the same model where the study names one or takes the best."""
        model = first.model if self.model == BEST else self.model
        last = self.version(first, task)
        last = replace(last, authors=_authors(last.playbook, None, f"{first.model} (1)"))
        versions, best, open_repair = [last], last, None
        while last.findings and len(versions) <= self.repairs and not (last.usable and not self.use_repairs):
            if last.cut_at is not None:  # a repair would be cut off as well: it is to be asked again, with a larger cap
                break
            repair = repair_request(request, last.transcript.response, last.findings, self.form)
            answer = self.transcripts.get(repair, model)
            if answer is None:
                open_repair = repair
                break
            after = self.version(answer, task)
            after = replace(after, authors=_authors(after.playbook, last, f"{answer.model} ({len(versions) + 1})"))
            versions.append(after)
            best = after if after.usable and not _worse(after, best) else best
            last = after
        chosen = best if best.usable else None
        return Plan(task, request, tuple(versions), chosen, open_repair, repaired=len(versions) > 1)

    def _earlier(self, request: Request, task: Task, n_latest: int) -> Plan | None:
        """An earlier answer that holds a playbook: a later one that holds none does not take its place."""
        model = None if self.model == BEST else self.model
        for first in reversed(self.transcripts.different(request, model)[:-n_latest]):
            chain = self._chain(request, task, first)
            if chain.chosen is not None:
                return replace(chain, superseded=True)
        return None

    def _first_answers(self, request: Request) -> list[Transcript]:
        """The answers that count, oldest first."""
        if self.model == BEST:
            own = [self.transcripts.different(request, model)[-self.samples :] for model in self.transcripts.models()]
            return [answer for answers in own for answer in answers]
        return self.transcripts.different(request, self.model)[-self.samples :]

    def plan(self, task: Task, request: Request, *, words_changed: bool = False) -> Plan:
        """The state of one task: its versions, and the one to use.

        A person's edit of an answer that counts comes last and wins. With several answers, the best counts.
        """
        chains = [self._chain(request, task, first) for first in self._first_answers(request)]
        usable = [chain for chain in chains if chain.chosen is not None]
        if chains and not usable and (earlier := self._earlier(request, task, len(chains))) is not None:
            chains, usable = [earlier], [earlier]
        best = max(usable, key=_rank, default=chains[-1] if chains else Plan(task, request))
        for edit in self.transcripts.edits(request):
            parent = next(((c, v) for c in chains for v in c.versions if v.transcript.id == edit.parent), None)
            if parent is None:
                continue
            chain, before = parent
            version = self.version(edit, task)
            who = f"{edit.model} ({len(chain.versions) + 1})"
            version = replace(version, authors=_authors(version.playbook, before, who))
            best = replace(chain, versions=(*chain.versions, version), chosen=version, open_repair=None)
            chains[chains.index(chain)] = best
        samples = tuple(chains) if len(chains) > 1 else ()
        return replace(best, samples=samples, words_changed=words_changed, study=self.study)

    # All tasks ------------------------------------------------------------------------------------------------------

    def plans(self, seen: tuple[Task, ...], unseen: tuple[Task, ...]) -> dict[str, Plan]:
        """The state of every task, by id, as far as the rounds of training tasks have been answered."""
        return {task.id: plan for task, plan in self._plans(seen, unseen)}

    def playbooks(self, seen: tuple[Task, ...], unseen: tuple[Task, ...]) -> dict[str, Playbook]:
        """Playbooks of all tasks, by task id, from recorded answers alone.

        Raises:
            TranscriptMissing: an answer has not been recorded.
            PlanError: a recorded answer and its repair are not valid playbooks.
        """
        books: dict[str, Playbook] = {}
        for task, plan in self._plans(seen, unseen):
            if not plan.versions:
                self.transcripts.replay(plan.request, self.study, None if self.model == BEST else self.model)
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

    def missing(
        self,
        seen: tuple[Task, ...],
        unseen: tuple[Task, ...],
        *,
        repairs: bool = True,
        asked: str | None = None,
        cap: int | None = None,
    ) -> list[Request]:
        """Requests that can be asked now, repairs of answers with findings among them; one that lacks several answers is there as often.

        A training task's request lists the sentences of earlier rounds, so of the training tasks one round is open. A task whose answers
        hold no playbook is open for another model, and for a larger cap where one was cut off.

        Args:
            seen: tasks that are demonstrated.
            unseen: the others.
            repairs: whether answers that hold a playbook are repaired too.
            asked: the model that will answer, if that is known.
            cap: how long an answer it may give; None where nobody says.
        """
        requests: list[Request] = []
        for _, plan in self._plans(seen, unseen):
            if plan.like:
                continue
            requests += [plan.request] * self._lacking(plan, asked, cap)
            for each in plan.samples or (plan,):
                if each.open_repair is not None and (repairs or each.chosen is None):
                    requests.append(each.open_repair)
            if plan.portfolio is not None and self._lacks_portfolio(plan.portfolio, asked, cap):
                requests.append(plan.portfolio.request)
        return requests

    def _lacks_portfolio(self, portfolio: Portfolio, asked: str | None, cap: int | None) -> bool:
        """Whether several plans are to be asked for: nobody has answered, or without a plan."""
        if portfolio.transcript is None:
            return True
        if portfolio.playbooks:
            return False
        if portfolio.cut_at is not None and (cap is None or cap > portfolio.cut_at):
            return True
        return asked is not None and not self.transcripts.answers(portfolio.request, asked)

    def _lacking(self, plan: Plan, asked: str | None, cap: int | None) -> int:
        """How many answers are to be asked for."""
        who = asked if self.model == BEST else self.model
        known = self.transcripts.different(plan.request, who)
        if len(known) < self.samples:
            return self.samples - len(known)
        if plan.chosen is not None or any(each.open_repair is not None for each in plan.samples or (plan,)):
            return 0
        if plan.cut_at is not None and (cap is None or cap > plan.cut_at):
            return 1
        return int(asked is not None and not self.transcripts.answers(plan.request, asked))

    def requests(self, seen: tuple[Task, ...], unseen: tuple[Task, ...]) -> Iterator[tuple[Task, Request]]:
        """The request of each task, in order; stops where words of an unanswered training task are needed."""
        return ((task, plan.request) for task, plan in self._plans(seen, unseen))

    def _plans(self, seen: tuple[Task, ...], unseen: tuple[Task, ...]) -> Iterator[tuple[Task, Plan]]:
        """The plan of each task, those that are like an earlier one's but for names right after it."""
        alike = self.grounding.vocabulary.alike
        if not alike:
            yield from self._asked(seen, unseen)
            return
        wordings = {task.id: wording_of(task.sentence, alike) for task in (*seen, *unseen)}
        first: dict[str, Task] = {}
        others: dict[str, list[Task]] = {}
        for task in (*seen, *unseen):
            own = first.setdefault(wordings[task.id].form, task)
            if own is not task:
                others.setdefault(own.id, []).append(task)
        asked = set(first.values())
        chosen = (tuple(task for task in group if task in asked) for group in (seen, unseen))
        for task, plan in self._asked(*chosen):
            yield task, plan
            for other in others.get(task.id, ()):
                names = exchange(wordings[task.id].names, wordings[other.id].names, alike)
                yield other, plan.exchanged(other, names)

    def _asked(self, seen: tuple[Task, ...], unseen: tuple[Task, ...]) -> Iterator[tuple[Task, Plan]]:
        if self.words is None:
            return
        known: dict[str, None] = dict.fromkeys(self.words)
        for members in rounds(seen) if not self.settled else [seen]:
            plans = [self._plan(task, known) for task in members]
            yield from zip(members, plans, strict=True)
            for plan in plans:
                words = plan.words
                if (
                    words is None
                    and not self.settled
                    and (not plan.versions or plan.open_repair is not None or plan.cut_at is not None)
                ):
                    return
                if words and not self.settled:
                    known.update(dict.fromkeys(step.skill for step in words.steps))
        for task in unseen:
            one = self._plan(task, known, brief=self.brief)
            yield task, replace(one, portfolio=self._portfolio(task, known)) if self.portfolio else one

    def _portfolio(self, task: Task, known: dict[str, None]) -> Portfolio:
        """A task's plans that differ in how it is done; of several answers the latest that holds one."""

        def request(words: list[str]) -> Request:
            return portfolio_request(
                task, self.grounding, self.scenes, words, self.portfolio, brief=self.brief, form=self.form
            )

        def rollouts(plan: str) -> tuple[tuple[Finding, ...], float | None]:
            tried = self.lint.get(plan)
            return (tried.findings, tried.score) if tried else ((), None)

        asked = self._as_asked(request(list(known)), request)
        model = None if self.model == BEST else self.model
        answers = self.transcripts.different(asked, model)
        read = [
            read_portfolio(asked, each, task, self.grounding.vocabulary, self.form, rollouts) for each in answers[::-1]
        ]
        return next((each for each in read if each.playbooks), read[0] if read else Portfolio(asked))

    def _as_asked(self, now: Request, request: Callable[[list[str]], Request]) -> Request:
        """The request as it was asked, where an answer to one that differs only in the sentences it lists is recorded."""
        if not self.transcripts.answers(now):
            earlier = [t for t in self.transcripts.named(now.name) if same_but_words(t, request)]
            if earlier:
                return Request(now.name, str(earlier[-1].request["messages"][0]["content"]), now.schema)
        return now

    def _plan(self, task: Task, known: dict[str, None], *, brief: bool = False) -> Plan:
        """A task's plan; an answer to a request that differs only in the sentences it lists is used as it is."""

        def request(words: list[str]) -> Request:
            return playbook_request(task, self.grounding, self.scenes, words, brief=brief, form=self.form)

        now = request(list(known))
        asked = self._as_asked(now, request)
        return self.plan(task, asked, words_changed=asked != now)


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


__all__ = ["BEST", "Plan", "Planner", "TranscriptMissing", "Version", "rounds"]
