"""A portfolio: several plans of one task that differ in how it is done, from one recorded answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lago_skills.core import PlanForm, Playbook, Task, Vocabulary
from lago_skills.llm.reply import CUT, ending
from lago_skills.llm.transcripts import Request, Transcript
from lago_skills.planner.findings import Finding
from lago_skills.planner.lint import lint_logic, lint_words_form
from lago_skills.planner.parse import read_several
from lago_skills.playbook import MAX_STEPS


@dataclass(frozen=True)
class Alternative:
    """One plan of a portfolio."""

    number: int
    """Its place in the answer, from 1."""
    way: str
    """How it does the task, in the model's words; empty where the model did not say."""
    playbook: Playbook | None
    findings: tuple[Finding, ...]
    transcript: Transcript
    score: float | None = None
    """Offline score, where the plan has been tried in rollouts."""

    @property
    def id(self) -> str:
        """What lint knows it by."""
        return f"{self.transcript.id}/{self.number}"


@dataclass(frozen=True)
class Portfolio:
    """What was asked for, and what was answered so far."""

    request: Request
    transcript: Transcript | None = None
    alternatives: tuple[Alternative, ...] = ()
    """All plans of the answer, in its order, valid or not."""
    findings: tuple[Finding, ...] = ()
    """Why the answer holds no plan."""
    cut_at: int | None = None
    """The cap at which the answer was cut off (0 where that is not known), if it was."""

    @property
    def playbooks(self) -> tuple[Playbook, ...]:
        """The valid plans."""
        return tuple(each.playbook for each in self.alternatives if each.playbook is not None)


def read_portfolio(
    request: Request,
    answer: Transcript,
    task: Task,
    vocabulary: Vocabulary,
    form: PlanForm,
    known: Callable[[str], tuple[tuple[Finding, ...], float | None]],
) -> Portfolio:
    """The plans of an answer, each linted by logic and with what is known of it by its id: findings and score from rollouts."""
    ended = ending(answer.reply, answer.cap)
    cut_at = answer.cap if ended is not None and ended.kind == CUT else None
    most = MAX_STEPS * task.parts
    ways, findings = read_several(answer.response, task.id, vocabulary, answer.key, answer.model, form, most, ended)
    logic = lint_words_form if form == "words" else lint_logic
    alternatives: list[Alternative] = []
    for number, each in enumerate(ways, start=1):
        one = Alternative(number, each.way, each.reading.playbook, each.reading.findings, answer)
        if one.playbook is not None:
            tried, score = known(one.id)
            one = replace(one, findings=one.findings + logic(one.playbook, vocabulary) + tried, score=score)
        alternatives.append(one)
    return Portfolio(request, answer, tuple(alternatives), findings, cut_at)
