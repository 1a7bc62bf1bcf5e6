"""The states of a task's playbook: first answer, repairs, a person's edits; and which of them is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lago_skills.core import Playbook, Task
from lago_skills.errors import PlanError
from lago_skills.llm.transcripts import Request, Transcript
from lago_skills.planner.alike import exchanged
from lago_skills.planner.findings import Finding
from lago_skills.planner.portfolio import Portfolio


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
    passed_over: tuple[str, ...] = ()
    """Other plans in the same answer (drafts, reasoning), which were not taken."""
    cut_at: int | None = None
    """The cap at which the answer was cut off (0 where that is not known), if it was."""

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
    samples: tuple[Plan, ...] = ()
    """Where several answers count (`plan.samples`, `plan.model = "best"`), each with its repair, oldest first; this plan is one of them."""
    portfolio: Portfolio | None = None
    """Plans that differ in how the task is done, where the study asks for them (`plan.portfolio`)."""
    study: str = "STUDY"
    """How commands name the study."""
    superseded: bool = False
    """Whether a later answer holds no playbook, so that this one is used."""
    words_changed: bool = False
    """Whether the skill sentences that the request lists are others by now: it keeps those it was asked with."""
    like: str = ""
    """The task whose plan this is with names exchanged, where nothing is asked for this one."""

    def exchanged(self, task: Task, names: Mapping[str, str]) -> Plan:
        """The plan of another task, which differs by names of things alone."""

        def other(version: Version) -> Version:
            book = version.playbook
            return version if book is None else replace(version, playbook=exchanged(book, task, names))

        versions = tuple(other(version) for version in self.versions)
        chosen = None if self.chosen is None else versions[self.versions.index(self.chosen)]
        return replace(self, task=task, versions=versions, chosen=chosen, samples=(), portfolio=None, like=self.task.id)

    @property
    def words(self) -> Playbook | None:
        """The playbook whose sentences later requests list: the first that was answered."""
        return next(
            (v.playbook for each in self.samples or (self,) for v in each.versions if v.playbook is not None), None
        )

    @property
    def cut_at(self) -> int | None:
        """The cap at which the answer was cut off, where that left no playbook."""
        return self.versions[-1].cut_at if self.versions and self.chosen is None else None

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
                f"({last.transcript.source}){' and its repair are' if self.repaired else ' is'} not valid: "
                + "; ".join(finding.line() for finding in last.findings)
                + f"; ask again with: lago plan {self.study} --live --again {self.task.id} (the same model, or --model NAME), or write one with: lago "
                f"plan edit {self.task.id} --study {self.study}"
            )
        return self.chosen.playbook

    @property
    def tokens(self) -> int:
        """What all exchanges about this playbook cost, in tokens."""
        return sum(version.transcript.tokens for version in self.versions)
