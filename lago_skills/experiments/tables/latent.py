"""Do the skills act? Plans in numbers and in words, followed by the library and by a controller of a few lines, as they are and with faults.

A cell is (form of the plan, actor, fault, task, seed); the same tasks, start states and episodes for all. The seed is that of demonstrations, decoder and
start states, and of the fault. Each becomes one row of `data/results/latent.csv`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lago_skills.core import PlanForm, Playbook, Task
from lago_skills.errors import StudyError
from lago_skills.experiments import imperfect
from lago_skills.experiments.baselines import direct
from lago_skills.experiments.baselines.controllers import METRES, ControllerGuide, NumbersController, WordsController
from lago_skills.experiments.cells import Cell, Column, Row, Say, Schema, optional_float
from lago_skills.experiments.evaluation_episodes import eval_seeds, play_on
from lago_skills.experiments.intervals import success_over_tasks
from lago_skills.experiments.table import Choice, Grid, Opener, Results, Table, as_text, interval, refuse
from lago_skills.guide.guides import LibraryGuide
from lago_skills.stages import plan
from lago_skills.stages.planning.plan_checks import with_playbook
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.study import Study, study_path
from lago_skills.worlds import DEFAULT

if TYPE_CHECKING:
    from lago_skills.experiments.tables.latent_learners import Evaluation
    from lago_skills.planner.waypoints import Waypoint
    from lago_skills.worlds.rollouts import EpisodePolicy

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
GROUPS = ("ten", "eight", "twelve")
LEARNERS = {"sac": "guided-sac", "ppo": "guided-ppo"}
"""The learners whose prior an actor may be, and what they are called in the other tables."""
AFTER = (5_000, 20_000)
"""Training steps after which a learner is measured."""
METHODS = (
    "words/library",
    "numbers/library",
    *(f"{form}/{actor}" for form in FORMS for actor in CONTROLLERS),
    f"words/{GUESSED}",
    *(f"words/library/{fault}" for fault in imperfect.WORDS),
    *(f"numbers/library/{fault}" for fault in imperfect.NUMBERS),
)
"""What is measured where nobody says what."""


def _label(cell: Mapping[str, Any]) -> str:
    """`words/library//push/0`, or `words/library/+sac@5000/push/0`."""
    learner = f"+{cell['prior_of']}@{cell['steps']}" if cell["prior_of"] else ""
    return f"{cell['plan_form']}/{cell['actor']}/{cell['noise']}{learner}/{cell['task']}/{cell['seed']}"


SCHEMA = Schema(
    "latent",
    (
        Column("table"),
        Column("task"),
        Column("level", about="group of tasks: `ten` are demonstrated"),
        Column("plan_form"),
        Column("actor"),
        Column("prior_of", about="the learner that the actor is the prior of; empty where it acts alone"),
        Column("noise", about="the fault; empty where the plan is as it is"),
        Column("steps", int, "environment steps of training"),
        Column("seed", int),
        Column("success", float),
        Column("success_last", optional_float, "of a learner that goes on learning it is not measured"),
        Column("episodes", int),
        Column("episode_steps", optional_float),
        Column("environment_steps", int, "of measuring; of a learner, those that it learned from"),
        Column("wall_s", float),
        Column("commit"),
    ),
    keys=("table", "plan_form", "actor", "noise", "task", "seed", "prior_of", "steps"),
    form="FORM/ACTOR/FAULT/TASK/SEED",
    label=_label,
)


class Latent(Table):
    """Success by form of the plan, who follows it, and what is wrong with it."""

    schema = SCHEMA
    repeated = ("success", "success_last", "episodes", "episode_steps", "environment_steps")

    def __init__(self, space: Workspace, say: Say) -> None:
        if space.study.name != DEFAULT:
            raise StudyError(
                f"found study {space.study.name!r} with --table latent; expected {DEFAULT}, since its rows do not say of which study they "
                f"are; plans in words are those of study {WORDS_STUDY!r} beside it"
            )
        super().__init__(space, say)
        self._evaluations: dict[Cell, dict[int, Evaluation]] = {}

    @cached_property
    def _spaces(self) -> dict[str, Workspace]:
        """By form of the plan."""
        words = open_workspace(self.space.root, study_path(WORDS_STUDY, self.space.root))
        return {"numbers": self.space, "words": words, WAYPOINTS: self.space}

    @cached_property
    def _levels(self) -> dict[str, str]:
        """Group of each task."""
        return {task.id: name for name in GROUPS for task in self.space.study.find([name])}

    def cells(self, choice: Choice) -> list[Cell]:
        """Those of methods, each `FORM/ACTOR[/FAULT][+LEARNER]`; of a learner, one for each number of steps."""
        seeds, known = choice.seeds_of(), list(self._levels)
        tasks = choice.tasks_of(self.space.study, known, f"one of {', '.join(known)}")
        usual = self.space.study.collect.episodes_per_task
        others = [n for n in choice.demos_of(self.space.study) if n != usual]
        refuse("--demos", others, "the study's number of demonstrations")
        return cells(choice.methods or METHODS, seeds, tasks)

    def measured_together(self, cell: Cell) -> Hashable:
        """One training run gives the cells of all its numbers of steps."""
        return _run_of(cell)

    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        """The row of a cell."""
        (task,) = self._spaces[cell["plan_form"]].study.find([cell["task"]])
        known = {**cell, "level": self._levels[task.id], "commit": self.commit}
        if cell["prior_of"]:
            return [SCHEMA.row(**known, **self._learned(cell, task, n_episodes))]
        policy = self._policy(cell, task, eval_seeds(cell["seed"], n_episodes))
        world = self._spaces[cell["plan_form"]].world
        return [SCHEMA.row(**known, **play_on(world, task, policy, cell["seed"], n_episodes))]

    def _learned(self, cell: Cell, task: Task, n_episodes: int) -> dict[str, Any]:
        """Columns of a learner after so many steps; one run gives those of all numbers of steps."""
        from lago_skills.experiments.tables.latent_learners import learn

        run = _run_of(cell)
        if run not in self._evaluations:
            book, grounding = self._plan(cell, task), self._spaces[cell["plan_form"]].study.grounding
            controller = CONTROLLERS.get(cell["actor"])
            guide = ControllerGuide(book, grounding, controller) if controller else self._guide(cell, book)
            method = LEARNERS[cell["prior_of"]]
            self._evaluations[run] = learn(self.space.study, task, guide, method, cell["seed"], n_episodes)
        after = self._evaluations[run][cell["steps"]]
        return {
            "success": round(after.success, 4),
            "success_last": None if after.success_last is None else round(after.success_last, 4),
            "episodes": after.episodes,
            "episode_steps": None,
            "environment_steps": cell["steps"],
            "wall_s": round(after.wall_s, 1),
        }

    def _policy(self, cell: Cell, task: Task, seeds: list[int]) -> EpisodePolicy:
        actor, grounding = cell["actor"], self._spaces[cell["plan_form"]].study.grounding
        if cell["plan_form"] == WAYPOINTS:
            return direct.WaypointController(self._motions(task, seeds), grounding, CONTROLLERS[actor])
        book = self._plan(cell, task)
        if actor == LIBRARY:
            guide = self._guide(cell, book)
            return lambda observations, episodes: guide.prior(observations, task.id).greedy()
        if cell["plan_form"] == "numbers":
            return NumbersController(book, grounding, CONTROLLERS[actor])
        guess = METRES if actor == GUESSED else {}
        return WordsController(book, grounding, CONTROLLERS.get(actor, 10.0), guess)

    def _motions(self, task: Task, seeds: list[int]) -> list[tuple[Waypoint, ...]]:
        from lago_skills.llm.transcripts import TranscriptFile

        return direct.motions(self.space.study, TranscriptFile(self.space.transcripts), task, seeds)

    def _plan(self, cell: Cell, task: Task) -> Playbook:
        space, fault = self._spaces[cell["plan_form"]], cell["noise"]
        book = plan.plans(space)[task.id].book
        if fault == "reworded":
            return imperfect.reworded(book, _terms(space.study, space.transcripts), cell["seed"])
        rng = np.random.default_rng((cell["seed"], sum(map(ord, task.id)), sum(map(ord, fault))))
        return imperfect.imperfect(book, fault, rng, space.study.grounding.vocabulary)

    def _guide(self, cell: Cell, book: Playbook) -> LibraryGuide:
        guide = self.replicate(cell["seed"], space=self._spaces[cell["plan_form"]]).guide
        return guide if cell["noise"] == imperfect.NONE else with_playbook(guide, book)

    def message(self, rows: list[Row]) -> str:
        """Both readings of success, where there are two."""
        (row,) = rows
        last = "" if row["success_last"] is None else f" (last step {row['success_last']:.2f})"
        return f"{row['success']:.2f}{last} in {row['wall_s']:.0f} s"

    def results(self, rows: list[Row]) -> Results:
        """Means over the tasks of each group."""
        entries = summary(rows)
        named = ("plan", "actor", "fault", "learner", "steps", "tasks of")
        lines: list[list[str]] = []
        for entry in entries:
            names = [entry[name] for name in ("plan_form", "actor", "noise", "prior_of")]
            steps = f"{entry['steps']:,}" if entry["steps"] else ""
            shares = [f"{entry['success']:.3f}", interval(entry["low"], entry["high"]), as_text(entry["success_last"])]
            lines.append([*names, steps, entry["level"], *shares, *(str(entry[name]) for name in ("tasks", "seeds"))])
        return Results([*rows], entries, [Grid((*named, "success", "95 %", "last step", "tasks", "seeds"), lines)])


def _terms(study: Study, transcripts: Path) -> tuple[tuple[str, ...], ...]:
    """Interchangeable words: those of motions, of the world and of recorded answers."""
    from lago_skills.llm.transcripts import TranscriptFile
    from lago_skills.planner.wordings import read_wordings
    from lago_skills.stages.planning.phrases import VERBS

    known = read_wordings(TranscriptFile(transcripts), (*study.seen, *study.unseen))
    return (*VERBS, *study.grounding.synonyms, *known.terms)


def _run_of(cell: Cell) -> Cell:
    return SCHEMA.cell(**{**cell, "steps": 0})


def cells(methods: Sequence[str], seeds: Sequence[int], tasks: Sequence[str]) -> list[Cell]:
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
            SCHEMA.cell(plan_form=form, actor=actor, noise=fault, task=task, seed=seed, prior_of=learner, steps=after)
            for seed in seeds
            for task in tasks
            if form != WAYPOINTS or task in direct.TASKS
            for after in steps
        ]
    return list(dict.fromkeys(chosen))


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """One entry per (plan_form, actor, noise, learner, steps, group): the mean over tasks, with a 95 % interval over tasks and seeds."""
    groups: defaultdict[tuple[str, str, str, str, int, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["plan_form"], row["actor"], row["noise"], row["prior_of"], row["steps"], row["level"]].append(row)
    entries: list[dict[str, Any]] = []
    for (form, actor, noise, learner, steps, group), members in groups.items():
        last = [row["success_last"] for row in members if row["success_last"] is not None]
        entries.append(
            {
                "plan_form": form,
                "actor": actor,
                "prior_of": learner,
                "noise": noise,
                "steps": steps,
                "level": group,
                **success_over_tasks(members),
                "success_last": round(float(np.mean(last)), 4) if last else None,
            }
        )
    return entries


def openers() -> dict[str, Opener]:
    """This table."""
    return {"latent": Latent}
