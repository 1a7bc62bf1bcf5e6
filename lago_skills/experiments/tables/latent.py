"""Do the skills act? Plans in numbers and in words, followed by the library and by a controller of a few lines, as they are and with faults.

A cell is (form of the plan, actor, fault, task, seed); the same tasks, start states and episodes for all. The seed is that of demonstrations, decoder and
start states, and of the fault. Each becomes one row of `data/results/latent.csv`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lago_skills.core import PlanForm, Playbook, Task
from lago_skills.errors import StudyError
from lago_skills.experiments import imperfect
from lago_skills.experiments.baselines import direct
from lago_skills.experiments.baselines.controllers import METRES, ControllerGuide, NumbersController, WordsController
from lago_skills.experiments.intervals import stratified_mean
from lago_skills.experiments.tables.zero_shot import EVAL_SPAN, Say, Variant, commit, variant
from lago_skills.guide.guides import LibraryGuide
from lago_skills.stages import plan
from lago_skills.stages.planning.lint import with_playbook
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.study import study_path
from lago_skills.worlds.world import DEFAULT

if TYPE_CHECKING:
    from lago_skills.experiments.tables.latent_learners import Learned
    from lago_skills.worlds.rollouts import EpisodePolicy

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
WAYPOINTS = "waypoints"
"""No plan: the language model's whole motion for a start state."""


@dataclass(frozen=True)
class Cell:
    """What is measured once."""

    plan_form: str
    actor: str
    noise: str
    task: str
    seed: int
    study: str = DEFAULT
    prior_of: str = ""
    steps: int = 0

    @property
    def name(self) -> str:
        """How a cell is named on the command line: `words/library//push/0`, or `words/library/+sac@5000/push/0`."""
        learner = f"+{self.prior_of}@{self.steps}" if self.prior_of else ""
        return f"{self.plan_form}/{self.actor}/{self.noise}{learner}/{self.task}/{self.seed}"


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
    success_last: float | None
    """Of a learner that goes on learning it is not measured."""
    episodes: int
    episode_steps: float | None
    environment_steps: int
    """Of measuring; of a learner, those that it learned from."""
    wall_s: float
    commit: str

    @property
    def cell(self) -> Cell:
        """What was measured."""
        return Cell(
            self.plan_form, self.actor, self.noise, self.task, self.seed, prior_of=self.prior_of, steps=self.steps
        )

    @property
    def bundle(self) -> str:
        """Fingerprint of what the policy was made from: the commit stands for it."""
        return ""

    @property
    def group(self) -> tuple[str, int, int]:
        """Rows of one group have one bundle."""
        return f"{self.plan_form}/{self.actor}/{self.noise}/{self.prior_of}", 0, self.seed

    @property
    def told(self) -> str:
        """What was found."""
        last = "" if self.success_last is None else f" (last step {self.success_last:.2f})"
        return f"{self.success:.2f}{last} in {self.wall_s:.0f} s"


REPEATED = ("success", "success_last", "episodes", "episode_steps", "environment_steps")
GROUPS = ("ten", "eight", "twelve")


LEARNERS = {"sac": "guided-sac", "ppo": "guided-ppo"}
"""The learners whose prior an actor may be, and what they are called in the other tables."""
AFTER = (5_000, 20_000)
"""Training steps after which a learner is measured."""


class Bench:
    """Measures cells; what a form and a seed need is made once."""

    def __init__(self, space: Workspace, say: Say) -> None:
        words = open_workspace(space.root, study_path(WORDS_STUDY, space.root))
        self._spaces: dict[str, Workspace] = {"numbers": space, "words": words, WAYPOINTS: space}
        self._say, self._commit = say, commit()
        self._made: dict[tuple[str, int], Variant] = {}
        self._runs: dict[Cell, dict[int, Learned]] = {}
        self._groups = {task.id: name for name in GROUPS for task in space.study.find([name])}

    def measure(self, cell: Cell, n_episodes: int) -> Row:
        """The row of a cell."""
        from lago_skills.worlds.rollouts import full_rollouts
        from lago_skills.worlds.seeds import EVAL_SEED

        space = self._spaces[cell.plan_form]
        (task,) = space.study.find([cell.task])
        if cell.prior_of:
            return self._learned(cell, task, n_episodes)
        seeds = [EVAL_SEED + EVAL_SPAN * cell.seed + i for i in range(n_episodes)]
        policy, taken, started = self._policy(cell, task, seeds), list[int](), time.monotonic()
        results = full_rollouts(space.world, task, policy, seeds, taken.append)
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

    def _learned(self, cell: Cell, task: Task, n_episodes: int) -> Row:
        """The row of a learner after so many steps; one run gives those of all numbers of steps."""
        from lago_skills.experiments.tables.latent_learners import learn

        run = replace(cell, steps=0)
        if run not in self._runs:
            book, space = self._plan(cell, task), self._spaces[cell.plan_form]
            guide = (
                self._guide(cell, book)
                if cell.actor == LIBRARY
                else ControllerGuide(book, space.study.grounding, CONTROLLERS[cell.actor])
            )
            self._runs[run] = learn(
                self._spaces["numbers"], task, guide, LEARNERS[cell.prior_of], cell.seed, n_episodes
            )
        found = self._runs[run][cell.steps]
        return Row(
            table=TABLE,
            task=task.id,
            level=self._groups[task.id],
            plan_form=cell.plan_form,
            actor=cell.actor,
            prior_of=cell.prior_of,
            noise=cell.noise,
            steps=cell.steps,
            seed=cell.seed,
            success=round(found.success, 4),
            success_last=None if found.success_last is None else round(found.success_last, 4),
            episodes=found.episodes,
            episode_steps=None,
            environment_steps=cell.steps,
            wall_s=round(found.wall_s, 1),
            commit=self._commit,
        )

    def _policy(self, cell: Cell, task: Task, seeds: list[int]) -> EpisodePolicy:
        if cell.plan_form == WAYPOINTS:
            space = self._spaces["numbers"]
            motions = direct.motions(space, task, seeds)
            return direct.WaypointController(motions, space.study.grounding, CONTROLLERS[cell.actor])
        book = self._plan(cell, task)
        grounding = self._spaces[cell.plan_form].study.grounding
        if cell.actor == LIBRARY:
            guide = self._guide(cell, book)
            return lambda observations, episodes: guide.prior(observations, task.id).greedy()
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
        vocabulary = space.study.grounding.vocabulary
        return imperfect.imperfect(book, cell.noise, np.random.default_rng(seed), vocabulary)

    def _terms(self, space: Workspace) -> tuple[tuple[str, ...], ...]:
        from lago_skills.llm.transcripts import TranscriptFile
        from lago_skills.planner.wordings import read_wordings
        from lago_skills.stages.planning.phrases import VERBS

        known = read_wordings(TranscriptFile(plan.transcripts_path(space)), (*space.study.seen, *space.study.unseen))
        return (*VERBS, *space.study.grounding.synonyms, *known.terms)

    def _guide(self, cell: Cell, book: Playbook) -> LibraryGuide:
        key = (cell.plan_form, cell.seed)
        if key not in self._made:
            space = self._spaces[cell.plan_form]
            self._made[key] = Variant(variant(space, cell.seed, space.study.collect.episodes_per_task), self._say)
        guide = self._made[key].guide
        return guide if cell.noise == imperfect.NONE else with_playbook(guide, book)


def cells(space: Workspace, methods: list[str], seeds: list[int], tasks: list[str]) -> list[Cell]:
    """All cells of a choice of methods, each `FORM/ACTOR[/FAULT][+LEARNER]`; of a learner, one for each number of steps.

    Raises:
        StudyError: a method that is none.
    """
    chosen: list[Cell] = []
    for method in methods:
        alone, _, learner = method.partition("+")
        form, _, rest = alone.partition("/")
        actor, _, fault = rest.partition("/")
        faults = {"numbers": imperfect.NUMBERS, "words": imperfect.WORDS}.get(form, ())
        known = form in FORMS and actor in ACTORS and fault in (imperfect.NONE, *faults) and learner in ("", *LEARNERS)
        known = known or (form == WAYPOINTS and actor in CONTROLLERS and alone == method and not fault)
        if not known or (actor == GUESSED and (form == "numbers" or learner)):
            raise StudyError(
                f"found method {method!r}; expected FORM/ACTOR or FORM/ACTOR/FAULT, with +LEARNER behind it where it is a learner's prior: a form of "
                f"{', '.join(FORMS)}, an actor of {', '.join(ACTORS)} (the last of plans in words alone), a fault of {', '.join(imperfect.NUMBERS)} (numbers) or "
                f"{', '.join(imperfect.WORDS)} (words), a learner of {', '.join(LEARNERS)}; or {WAYPOINTS}/ and a controller; correct it"
            )
        steps = AFTER if learner else (0,)
        chosen += [
            Cell(form, actor, fault, task, seed, space.study.name, learner, after)
            for seed in seeds
            for task in tasks
            if form != WAYPOINTS or task in direct.TASKS
            for after in steps
        ]
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
    """One entry per (plan_form, actor, noise, learner, steps, group): the mean over tasks, with a 95 % interval over tasks and seeds."""
    groups: defaultdict[tuple[str, str, str, str, int, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.plan_form, row.actor, row.noise, row.prior_of, row.steps, row.level].append(row)
    found: list[dict[str, Any]] = []
    for (form, actor, noise, learner, steps, group), members in groups.items():
        by_task: defaultdict[str, list[float]] = defaultdict(list)
        for row in members:
            by_task[row.task].append(row.success)
        mean, interval = stratified_mean([np.array(values) for values in by_task.values()])
        last = [row.success_last for row in members if row.success_last is not None]
        found.append(
            {
                "plan_form": form,
                "actor": actor,
                "prior_of": learner,
                "noise": noise,
                "steps": steps,
                "level": group,
                "success": round(mean, 4),
                "low": interval and round(interval[0], 4),
                "high": interval and round(interval[1], 4),
                "success_last": round(float(np.mean(last)), 4) if last else None,
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
