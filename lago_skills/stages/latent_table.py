"""Do the skills act? Plans in numbers and in words, followed by the library and by a controller of a few lines, as they are and with faults.

A cell is (form of the plan, actor, fault, task, seed); the same tasks, start states and episodes for all. The seed is that of demonstrations, decoder and
start states, and of the fault. Each becomes one row of `data/results/latent.csv`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lago_skills.core import PlanForm, Playbook, Task
from lago_skills.errors import StudyError
from lago_skills.evaluate.controllers import METRES, NumbersController, WordsController
from lago_skills.evaluate.intervals import stratified_mean
from lago_skills.guide.guides import LibraryGuide
from lago_skills.stages import imperfect, plan
from lago_skills.stages.job import Workspace
from lago_skills.stages.lint import with_playbook
from lago_skills.stages.pool import open_workspace
from lago_skills.stages.zero_shot_table import EVAL_SPAN, Say, Variant, commit, variant
from lago_skills.study import study_path

if TYPE_CHECKING:
    from lago_skills.evaluate.rollouts import EpisodePolicy

TABLE = "latent"
RESULTS = Path("data/results/latent.csv")
WORDS_STUDY = "words"
"""The study whose plans are in words."""
LIBRARY = "library"
CONTROLLERS = {"controller-10": 10.0, "controller-20": 20.0, "controller-30": 30.0}
GUESSED = "controller-metres"
"""Of plans in words: with a person's guess of what each relation means in metres, gain 10."""
ACTORS = (LIBRARY, *CONTROLLERS, GUESSED)
FORMS: tuple[PlanForm, ...] = ("numbers", "words")


@dataclass(frozen=True)
class Cell:
    """What is measured once."""

    plan_form: str
    actor: str
    noise: str
    task: str
    seed: int
    study: str = "metaworld"

    @property
    def name(self) -> str:
        """How a cell is named on the command line: `words/library//push/0`."""
        return f"{self.plan_form}/{self.actor}/{self.noise}/{self.task}/{self.seed}"


@dataclass(frozen=True)
class Row:
    """A measured cell."""

    table: str
    task: str
    level: str
    """Group of tasks: `ten` are demonstrated."""
    plan_form: str
    actor: str
    prior_of: str
    """The learner that the actor is the prior of; empty where it acts alone."""
    noise: str
    steps: int
    """Environment steps of training."""
    seed: int
    success: float
    success_last: float
    episodes: int
    episode_steps: float
    environment_steps: int
    wall_s: float
    commit: str

    @property
    def cell(self) -> Cell:
        """What was measured."""
        return Cell(self.plan_form, self.actor, self.noise, self.task, self.seed)

    @property
    def bundle(self) -> str:
        """Fingerprint of what the policy was made from: the commit stands for it."""
        return ""

    @property
    def group(self) -> tuple[str, int, int]:
        """Rows of one group have one bundle."""
        return f"{self.plan_form}/{self.actor}/{self.noise}", 0, self.seed

    @property
    def told(self) -> str:
        """What was found."""
        return f"{self.success:.2f} (last step {self.success_last:.2f}) in {self.wall_s:.0f} s"


REPEATED = ("success", "success_last", "episodes", "episode_steps", "environment_steps")
GROUPS = ("ten", "eight", "twelve")


class Bench:
    """Measures cells; what a form and a seed need is made once."""

    def __init__(self, space: Workspace, say: Say) -> None:
        words = open_workspace(space.root, study_path(WORDS_STUDY, space.root))
        self._spaces: dict[str, Workspace] = {"numbers": space, "words": words}
        self._say, self._commit = say, commit()
        self._made: dict[tuple[str, int], Variant] = {}
        self._groups = {task.id: name for name in GROUPS for task in space.study.find([name])}

    def measure(self, cell: Cell, n_episodes: int) -> Row:
        """The row of a cell."""
        from lago_skills.envs.metaworld import EVAL_SEED
        from lago_skills.evaluate.rollouts import full_rollouts

        space = self._spaces[cell.plan_form]
        (task,) = space.study.find([cell.task])
        policy, taken, started = self._policy(cell, task), list[int](), time.monotonic()
        seeds = [EVAL_SEED + EVAL_SPAN * cell.seed + i for i in range(n_episodes)]
        results = full_rollouts(task, policy, seeds, taken.append)
        return Row(
            table=TABLE,
            task=task.id,
            level=self._groups[task.id],
            plan_form=cell.plan_form,
            actor=cell.actor,
            prior_of="",
            noise=cell.noise,
            steps=0,
            seed=cell.seed,
            success=round(float(np.mean([result.success for result in results])), 4),
            success_last=round(float(np.mean([bool(result.success_last) for result in results])), 4),
            episodes=n_episodes,
            episode_steps=round(float(np.mean([result.steps for result in results])), 1),
            environment_steps=sum(taken),
            wall_s=round(time.monotonic() - started, 1),
            commit=self._commit,
        )

    def _policy(self, cell: Cell, task: Task) -> EpisodePolicy:
        book = self._plan(cell, task)
        grounding = self._spaces[cell.plan_form].study.grounding
        if cell.actor == LIBRARY:
            guide = self._guide(cell, book)
            return lambda observations, episodes: guide.prior(observations, task.id).mean()
        if cell.plan_form == "numbers":
            return NumbersController(book, grounding, CONTROLLERS[cell.actor])
        guess = METRES if cell.actor == GUESSED else {}
        return WordsController(book, grounding, CONTROLLERS.get(cell.actor, 10.0), guess)

    def _plan(self, cell: Cell, task: Task) -> Playbook:
        space = self._spaces[cell.plan_form]
        book = plan.plans(space)[task.id].book
        seed = (cell.seed, sum(map(ord, task.id)), sum(map(ord, cell.noise)))
        if cell.noise == "reworded":
            return imperfect.reworded(book, self._terms(space), cell.seed)
        anchors = space.study.grounding.vocabulary.subjects
        return imperfect.imperfect(book, cell.noise, np.random.default_rng(seed), anchors)

    def _terms(self, space: Workspace) -> tuple[tuple[str, ...], ...]:
        from lago_skills.llm.transcripts import TranscriptFile
        from lago_skills.planner.wordings import read_wordings
        from lago_skills.stages.phrases import MOTIONS

        known = read_wordings(TranscriptFile(plan.transcripts_path(space)), (*space.study.seen, *space.study.unseen))
        return (*MOTIONS, *known.terms)

    def _guide(self, cell: Cell, book: Playbook) -> LibraryGuide:
        key = (cell.plan_form, cell.seed)
        if key not in self._made:
            space = self._spaces[cell.plan_form]
            self._made[key] = Variant(variant(space, cell.seed, space.study.collect.episodes_per_task), self._say)
        guide = self._made[key].guide
        return guide if cell.noise == imperfect.NONE else with_playbook(guide, book)


def cells(space: Workspace, methods: list[str], seeds: list[int], tasks: list[str]) -> list[Cell]:
    """All cells of a choice of methods, each `FORM/ACTOR` or `FORM/ACTOR/FAULT`.

    Raises:
        StudyError: a method that is none.
    """
    chosen: list[Cell] = []
    for method in methods:
        form, _, rest = method.partition("/")
        actor, _, fault = rest.partition("/")
        faults = {"numbers": imperfect.NUMBERS, "words": imperfect.WORDS}.get(form, ())
        if actor not in ACTORS or fault not in (imperfect.NONE, *faults) or (form, actor) == ("numbers", GUESSED):
            raise StudyError(
                f"found method {method!r}; expected FORM/ACTOR or FORM/ACTOR/FAULT with a form of {', '.join(FORMS)}, an actor of {', '.join(ACTORS)} "
                f"and a fault of {', '.join(imperfect.NUMBERS)} (numbers) or {', '.join(imperfect.WORDS)} (words); correct it"
            )
        chosen += [Cell(form, actor, fault, task, seed, space.study.name) for seed in seeds for task in tasks]
    return list(dict.fromkeys(chosen))


DEFAULT_METHODS = (
    "words/library",
    "numbers/library",
    *(f"{form}/{actor}" for form in FORMS for actor in CONTROLLERS),
    f"words/{GUESSED}",
    *(f"words/library/{fault}" for fault in imperfect.WORDS),
    *(f"numbers/library/{fault}" for fault in imperfect.NUMBERS),
)


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """One entry per (plan_form, actor, noise, group): the mean over tasks, with a 95 % interval over tasks and seeds."""
    groups: defaultdict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.plan_form, row.actor, row.noise, row.level].append(row)
    found: list[dict[str, Any]] = []
    for (form, actor, noise, group), members in groups.items():
        by_task: defaultdict[str, list[float]] = defaultdict(list)
        for row in members:
            by_task[row.task].append(row.success)
        mean, interval = stratified_mean([np.array(values) for values in by_task.values()])
        found.append(
            {
                "plan_form": form,
                "actor": actor,
                "noise": noise,
                "level": group,
                "success": round(mean, 4),
                "low": interval and round(interval[0], 4),
                "high": interval and round(interval[1], 4),
                "success_last": round(float(np.mean([row.success_last for row in members])), 4),
                "tasks": len(by_task),
                "seeds": len({row.seed for row in members}),
                "episodes": sum(row.episodes for row in members),
            }
        )
    return found


def check(space: Workspace, stored: Row, say: Say) -> dict[str, Any]:
    """Measure a stored row again: `values` has each column that must repeat as (stored, now), `same` says whether all do."""
    now = Bench(space, say).measure(stored.cell, stored.episodes)
    values = {name: (getattr(stored, name), getattr(now, name)) for name in REPEATED}
    return {"cell": stored.cell.name, "same": all(a == b for a, b in values.values()), "values": values}


__all__ = ["ACTORS", "DEFAULT_METHODS", "RESULTS", "Bench", "Cell", "Row", "cells", "check", "summary"]
