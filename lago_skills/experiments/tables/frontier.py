"""The frontier: what one plan and the library alone cannot, by the plan that leads, and after training.

Plans in words are those of the study, plans in numbers and the portfolio of plans that differ in how a thing is moved those of the study
`NAME-numbers` beside it. The seed is that of demonstrations, decoders, training and start states.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lago_skills import rl
from lago_skills.artifacts.progress import StageProgress
from lago_skills.core import PlanForm, Task
from lago_skills.errors import StudyError
from lago_skills.experiments.baselines.cloning_policies import Forgetful, Uniform
from lago_skills.experiments.baselines.controllers import ControllerGuide, NumbersController, WordsController
from lago_skills.experiments.both_forms import BothForms
from lago_skills.experiments.cells import Cell, Row
from lago_skills.experiments.evaluation_episodes import play_on
from lago_skills.experiments.imperfect import imperfect
from lago_skills.experiments.table import Grid, Opener, Results, as_text, interval
from lago_skills.experiments.tables.compared_advisers import Advisers
from lago_skills.experiments.tables.frontier_rows import (
    CONTROLLERS,
    FORMS,
    FOUND,
    LEARNERS,
    METHODS,
    N_WRONG,
    PLANS,
    POLICY,
    SCHEMA,
    SWITCHED,
    TRIAL_EPISODES,
    USUAL,
    Found,
    Learner,
    summary,
)
from lago_skills.experiments.tables.specs import ALONE, COMMON
from lago_skills.guide.guides import Guide, LibraryGuide
from lago_skills.guide.portfolio import PlanOfTask, PlanSwitch, portfolio
from lago_skills.rl.config import SACConfig
from lago_skills.rl.plans.training import BestPlan
from lago_skills.stages import plan, train

if TYPE_CHECKING:
    from lago_skills.rl.plans.training import TrainedByPlan
    from lago_skills.rl.problem import Problem
    from lago_skills.rl.runlog import Row as LogRow
    from lago_skills.study import Study
    from lago_skills.worlds.rollouts import EpisodePolicy


class Frontier(BothForms):
    """Success, steps to it and episodes to the first, by who leads and what was learned."""

    schema = SCHEMA
    repeated = ("success", "success_last", "steps_to_success", "episodes", "plan")
    known_methods, usual_methods = METHODS, USUAL

    def usual_tasks(self, study: Study) -> list[str]:
        """Those that are not demonstrated."""
        return [task.id for task in study.unseen]

    def _portfolio(self, task: Task, seed: int) -> tuple[PlanOfTask, ...]:
        return portfolio(
            task.id, {"words": self.in_form("words", seed).guide, "numbers": self.in_form("numbers", seed).guide}
        )

    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        """The row of a cell, or those of a run."""
        import torch

        torch.set_num_threads(1)
        (task,) = self.space.study.find([cell["task"]])
        started = time.monotonic()
        if cell["method"] in LEARNERS:
            return self._trained(cell, task, n_episodes, started)
        if cell["method"] in FOUND:
            return [self._tried(cell, task, n_episodes, started)]
        if cell["method"] in PLANS:
            plans, number = self._portfolio(task, cell["seed"]), PLANS[cell["method"]]
            if number >= len(plans):
                raise StudyError(
                    f"found {cell['method']} of {task.id} and {len(plans)} valid plans; expected one of them; leave it out"
                )
            best = BestPlan(plans[number].name, plans[number].guide)
            return [self._alone(cell, task, _follower(plans[number].guide, task), n_episodes, started, best)]
        return [self._alone(cell, task, self._policy(cell, task), n_episodes, started)]

    def _row(self, cell: Cell, task: Task, started: float, **values: Any) -> Row:
        known = {
            "steps": 0,
            "success_last": None,
            "steps_to_success": None,
            "leader": "",
            "plan": "",
            "episodes_to_first_success": None,
            "demos": 0,
            "bundle": "",
            **values,
        }
        wall_s = round(time.monotonic() - started, 1)
        return SCHEMA.row(**cell, level=self.levels[task.id], wall_s=wall_s, commit=self.commit, **known)

    def _alone(
        self,
        cell: Cell,
        task: Task,
        policy: EpisodePolicy,
        n_episodes: int,
        started: float,
        best: BestPlan | None = None,
    ) -> Row:
        return self._row(
            cell,
            task,
            started,
            **_measured(play_on(self.space.world, task, policy, cell["seed"], n_episodes)),
            steps=best.steps if best else 0,
            leader="" if cell["method"] == "random" else "prior",
            plan=best.name if best else "",
            episodes_to_first_success=best.first_success if best else None,
            bundle=self._made_from(cell),
        )

    def _policy(self, cell: Cell, task: Task) -> EpisodePolicy:
        method, seed = cell["method"], cell["seed"]
        if method in CONTROLLERS:
            form, gain = CONTROLLERS[method]
            space = self.in_form(form, seed).space
            book = plan.plans(space)[task.id].book
            return (WordsController if form == "words" else NumbersController)(book, space.study.grounding, gain)
        if method == SWITCHED:
            return PlanSwitch(task.id, self._portfolio(task, seed)).act
        if method in FORMS:
            return _follower(self.in_form(FORMS[method], seed).guide, task)
        return Uniform(self.space.study.grounding.action_space, seed)

    def _made_from(self, cell: Cell) -> str:
        if cell["method"] in ("random", "sac", *CONTROLLERS):
            return ""
        learner = LEARNERS.get(cell["method"])
        found = FOUND.get(cell["method"])
        form = learner.plans if learner else found.plans if found else FORMS.get(cell["method"], "portfolio")
        one: PlanForm | None = "numbers" if form.endswith("numbers") else "words" if form == "words" else None
        used: list[PlanForm] = [one] if one else ["words", "numbers"]
        return "+".join(self.in_form(form, cell["seed"]).bundle("library") for form in used)

    # Plans that are tried, and learners -------------------------------------------------------------------------------

    def _tried(self, cell: Cell, task: Task, n_episodes: int, started: float) -> Row:
        """By the plan that did best in some episodes of the task."""
        from lago_skills.rl.plans.training import find_plan

        wanted, seed = FOUND[cell["method"]], cell["seed"]
        best = find_plan(
            lambda guide: self._problem(task, guide, seed, success_at_end=wanted.success_at_end),
            self._followed(wanted, task, seed),
            seed,
            trial_episodes=TRIAL_EPISODES,
            explore_steps=wanted.explore_steps,
            search_steps=wanted.search_steps,
            n_steps=wanted.n_steps,
        )
        assert best.guide is not None
        return self._alone(cell, task, _follower(best.guide, task), n_episodes, started, best)

    def _followed(self, wanted: Found, task: Task, seed: int) -> dict[str, Guide]:
        """Who follows the plans among which one is found, by the name of the plan."""
        own = (PlanOfTask(task.id, self.in_form("numbers", seed).guide),)
        plans = own if wanted.plans == "numbers" else self._portfolio(task, seed)
        if wanted.plans == "portfolio in numbers":
            plans = [plan for plan in plans if plan.guide.books[task.id].form == "numbers"]
        if wanted.noise:
            rng = np.random.default_rng(seed)
            plans = [PlanOfTask(plan.name, noisy(plan.guide, task.id, wanted.noise, rng)) for plan in plans]
        if wanted.gain is None:
            return {plan.name: plan.guide for plan in plans}
        grounding = self.space.study.grounding
        books = {plan.name: plan.guide.books[task.id] for plan in plans}
        return {name: ControllerGuide(book, grounding, wanted.gain) for name, book in books.items()}

    def _problem(self, task: Task, guide: Guide | None, seed: int, *, success_at_end: bool) -> Problem:
        from lago_skills.rl.world_problem import world_problem

        world, grounding = self.space.world, self.space.study.grounding
        return world_problem(world, (task,), grounding, guide, seed, success_at_end=success_at_end)

    def _guides(self, learner: Learner, task: Task, seed: int, advisers: Advisers) -> dict[str, Guide]:
        """Who may advise a learner, by the name of the plan."""
        if learner.plans == "portfolio":
            return {each.name: each.guide for each in self._portfolio(task, seed)}
        if learner.plans in ("words", "numbers"):
            return {task.id: self.in_form(learner.plans, seed).guide}
        if learner.plans in ("one wrong", "all wrong"):
            n_wrong = 1 if learner.plans == "one wrong" else N_WRONG
            return {
                plan.name: plan.guide for plan in wrong_plans(self.in_form("numbers", seed).guide, task.id, n_wrong)
            }
        if learner.plans == "contradicting":
            guide = self.in_form("numbers", seed).guide.following(task.id)
            return {task.id: guide, "opposite": opposite_plan(guide, task.id)}
        return {"": advisers.cloned((task,), learner.demos)} if learner.plans == "cloned" else {}

    def _trained(self, cell: Cell, task: Task, n_episodes: int, started: float) -> list[Row]:
        from lago_skills.rl.plans.training import train_by_best_plan

        learner, seed = LEARNERS[cell["method"]], cell["seed"]
        advisers = Advisers(self.in_form("words", seed), self.say)
        guides = self._guides(learner, task, seed, advisers)
        usual = train.learner_config(self.space.study.train, learner.algorithm)
        settings = COMMON | ALONE["sac"] | learner.settings
        config = SACConfig.model_validate(usual.model_dump() | settings)
        shown = advisers.demonstrations(task, learner.demos) if learner.demos else []
        folder = self.space.artifact("unfinished", SCHEMA.table, cell.name.replace("/", "__"))
        bundle = self._made_from(cell)

        def report(step: int, log: LogRow) -> None:
            progress.update(cell.name, step, f"{cell.name} success {log.get('eval/success', float('nan')):.2f}")

        in_worker = multiprocessing.parent_process() is not None
        with StageProgress(SCHEMA.table, config.n_steps, "steps", quiet=in_worker) as progress:
            trained = train_by_best_plan(
                lambda guide: self._problem(task, guide, seed, success_at_end=learner.success_at_end),
                guides,
                config,
                seed,
                trial_episodes=TRIAL_EPISODES,
                explore_steps=learner.explore_steps,
                search_steps=learner.search_steps,
                folder=folder,
                recipe={"cell": cell.name, "bundle": bundle, "demos": len(shown), **config.recipe()},
                report=report,
                demonstrations=shown,
            )
        result = trained.result
        known = {
            "plan": trained.best.name,
            "episodes_to_first_success": _first_success(trained),
            "demos": len(shown),
            "bundle": bundle,
        }
        on_the_way = [
            {"steps": int(log["step"]), "success": log["eval/success"], "episodes": config.eval_episodes}
            for log in result.curve[:-1]
        ]
        rows = [self._row(cell, task, started, **each, **known) for each in on_the_way]
        for leader in dict.fromkeys((result.leader, POLICY)):
            act = rl.greedy_policy(trained.problem, result.agent, leader)
            policy = Forgetful(lambda states, act=act: act(states, np.zeros(len(states), np.int64)))
            measured = _measured(play_on(self.space.world, task, policy, seed, n_episodes))
            steps = int(result.curve[-1]["step"])
            rows.append(self._row(cell, task, started, **measured, steps=steps, leader=leader, **known))
        shutil.rmtree(folder, ignore_errors=True)
        return rows

    # Results ----------------------------------------------------------------------------------------------------------

    def message(self, rows: list[Row]) -> str:
        """Success at each evaluation."""
        last = rows[-1]
        name = f" by {last['plan']}" if last["plan"] else ""
        return " ".join(f"{row['success']:.2f}" for row in rows) + f"{name} in {last['wall_s']:.0f} s"

    def results(self, rows: list[Row]) -> Results:
        """Means over the tasks of each group."""
        entries = summary(rows)
        columns = (
            "method",
            "tasks of",
            "steps",
            "leader",
            "success",
            "95 %",
            "least",
            "last step",
            "steps to it",
            "tasks",
            "seeds",
        )
        lines = [
            [
                entry["method"],
                entry["level"],
                f"{entry['steps']:,}" if entry["steps"] else "",
                entry["leader"],
                f"{entry['success']:.3f}",
                interval(entry["low"], entry["high"]),
                f"{entry['least']:.2f}",
                as_text(entry["success_last"]),
                "" if entry["steps_to_success"] is None else f"{entry['steps_to_success']:.0f}",
                str(entry["tasks"]),
                str(entry["seeds"]),
            ]
            for entry in entries
        ]
        return Results([*rows], entries, [Grid(columns, lines)])


def _follower(guide: Guide, task: Task) -> EpisodePolicy:
    return Forgetful(lambda observations: guide.prior(observations, task.id).greedy())


def noisy(guide: LibraryGuide, task: str, noise: str, rng: np.random.Generator) -> LibraryGuide:
    """Who follows the plan of a task with noise on its numbers."""
    return guide.with_steps(
        imperfect(guide.books[task], noise, rng, guide.grounding.vocabulary), guide.step_latents[task]
    )


def wrong_plans(guide: LibraryGuide, task: str, n_plans: int) -> list[PlanOfTask]:
    """Plans in numbers of the tasks that come after this one among those of the guide, followed as if they were of this one."""
    tasks = sorted({book.task_id for book in guide.books.values()})
    place = tasks.index(task)
    others = [*tasks[place + 1 :], *tasks[:place]][:n_plans]
    return [
        PlanOfTask(
            f"of {other}", guide.with_steps(replace(guide.books[other], task_id=task), guide.step_latents[other])
        )
        for other in others
    ]


def opposite_plan(guide: LibraryGuide, task: str) -> LibraryGuide:
    """Who follows the plan in numbers of a task with every target on the other side of its anchor."""
    book = guide.books[task]
    steps = [
        replace(step, target=replace(step.target, offset=tuple(-part for part in step.target.offset)))
        if step.target
        else step
        for step in book.steps
    ]
    return guide.with_steps(replace(book, steps=tuple(steps)), guide.step_latents[task])


def _measured(played: dict[str, Any]) -> dict[str, Any]:
    return {
        "success": played["success"],
        "success_last": played["success_last"],
        "steps_to_success": played["episode_steps"],
        "episodes": played["episodes"],
    }


def _first_success(trained: TrainedByPlan) -> int | None:
    """Number of the first successful episode, from 1, those before training counted."""
    before, harvested = trained.best, trained.result.harvested
    if before.first_success is not None:
        return before.first_success
    return before.episodes + harvested[0].seed - trained.problem.first_seed + 1 if harvested else None


def openers() -> dict[str, Opener]:
    """This table."""
    return {"frontier": Frontier}
