"""The frontier: what one plan and the library alone cannot, by the plan that leads, and after training.

Plans in words are those of the study, plans in numbers and the portfolio of plans that differ in how a thing is moved those of the study
`NAME-numbers` beside it. The seed is that of demonstrations, decoders, training and start states.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lago_skills import rl
from lago_skills.artifacts.progress import StageProgress
from lago_skills.core import Task
from lago_skills.errors import StudyError
from lago_skills.experiments.baselines.cloning_policies import Forgetful, Uniform
from lago_skills.experiments.baselines.controllers import ControllerGuide, NumbersController, WordsController
from lago_skills.experiments.cells import Cell, Row
from lago_skills.experiments.evaluation_episodes import play_on
from lago_skills.experiments.replicate import Replicate
from lago_skills.experiments.table import (
    Choice,
    Grid,
    Opener,
    Results,
    Table,
    as_text,
    demonstrated_tasks,
    interval,
    refuse,
)
from lago_skills.experiments.tables.compared_advisers import Advisers
from lago_skills.experiments.tables.frontier_rows import (
    CONTROLLERS,
    DEMOS,
    LEARNERS,
    METHODS,
    PLANS,
    POLICY,
    SCHEMA,
    SEARCH_STEPS,
    SEARCHED,
    SEARCHED_SAC,
    SWITCHED,
    TRIAL_EPISODES,
    TRIED,
    TRIED_BY_CONTROLLER,
    USUAL,
    WITH_PORTFOLIO,
    summary,
)
from lago_skills.experiments.tables.sequences import NUMBERS
from lago_skills.experiments.tables.specs import ALONE, COMMON
from lago_skills.guide.guides import Guide
from lago_skills.guide.portfolio import PlanOfTask, PlanSwitch, portfolio
from lago_skills.rl import methods
from lago_skills.rl.config import SACConfig
from lago_skills.rl.plans.training import BestPlan
from lago_skills.stages import plan, train
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.study import study_path

if TYPE_CHECKING:
    from lago_skills.rl.plans.training import TrainedByPlan
    from lago_skills.rl.problem import Problem
    from lago_skills.rl.runlog import Row as LogRow
    from lago_skills.worlds.rollouts import EpisodePolicy


class Frontier(Table):
    """Success, steps to it and episodes to the first, by who leads and what was learned."""

    schema = SCHEMA
    repeated = ("success", "success_last", "steps_to_success", "episodes", "plan")

    def cells(self, choice: Choice) -> list[Cell]:
        """Seeds, then methods, then tasks."""
        study, names = self.space.study, choice.methods or list(USUAL)
        refuse("method", [name for name in names if name not in METHODS], ", ".join(METHODS))
        known = demonstrated_tasks(study)
        tasks = choice.tasks_of(study, known, f"a task of the study, {', '.join(known)}", [t.id for t in study.unseen])
        return [
            SCHEMA.cell(study=study.name, method=method, task=task, seed=seed)
            for seed in choice.seeds_of()
            for method in names
            for task in tasks
        ]

    @cached_property
    def _levels(self) -> dict[str, str]:
        return {task: name for name, tasks in self.space.world.groups.items() for task in tasks}

    @cached_property
    def _numbers(self) -> Workspace:
        """The study of plans in numbers."""
        return open_workspace(self.space.root, study_path(self.space.study.name + NUMBERS, self.space.root))

    def _replicate(self, form: str, seed: int) -> Replicate:
        return self.replicate(seed, space=self._numbers if form == "numbers" else self.space)

    def _portfolio(self, task: Task, seed: int) -> tuple[PlanOfTask, ...]:
        return portfolio(task.id, {form: self._replicate(form, seed).guide for form in ("words", "numbers")})

    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        """The row of a cell, or those of a run."""
        import torch

        torch.set_num_threads(1)
        (task,) = self.space.study.find([cell["task"]])
        started = time.monotonic()
        if cell["method"] in LEARNERS:
            return self._trained(cell, task, n_episodes, started)
        if cell["method"] in (TRIED, SEARCHED, *TRIED_BY_CONTROLLER):
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
        return SCHEMA.row(**cell, level=self._levels[task.id], wall_s=wall_s, commit=self.commit, **known)

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
            space = self._replicate(form, seed).space
            book = plan.plans(space)[task.id].book
            return (WordsController if form == "words" else NumbersController)(book, space.study.grounding, gain)
        if method == SWITCHED:
            return PlanSwitch(task.id, self._portfolio(task, seed)).act
        if method.endswith("/library"):
            return _follower(self._replicate(method.partition("/")[0], seed).guide, task)
        return Uniform(self.space.study.grounding.action_space, seed)

    def _made_from(self, cell: Cell) -> str:
        if cell["method"] in ("random", "sac", *CONTROLLERS):
            return ""
        forms = {"words/library": ["words"], "guided-sac": ["words"], "numbers/library": ["numbers"]}
        used = forms.get(cell["method"], ["words", "numbers"])
        return "+".join(self._replicate(form, cell["seed"]).bundle("library") for form in used)

    # Plans that are tried, and learners -------------------------------------------------------------------------------

    def _tried(self, cell: Cell, task: Task, n_episodes: int, started: float) -> Row:
        """By the plan that did best in some episodes of the task."""
        from lago_skills.rl.plans.training import find_plan

        plans: dict[str, Guide] = {each.name: each.guide for each in self._portfolio(task, cell["seed"])}
        if cell["method"] in TRIED_BY_CONTROLLER:
            gain, grounding = TRIED_BY_CONTROLLER[cell["method"]], self.space.study.grounding
            plans = {
                each.name: ControllerGuide(each.guide.books[task.id], grounding, gain)
                for each in self._portfolio(task, cell["seed"])
            }
        best = find_plan(
            lambda guide: self._problem(task, guide, cell["seed"]),
            plans,
            cell["seed"],
            trial_episodes=TRIAL_EPISODES,
            search_steps=SEARCH_STEPS if cell["method"] == SEARCHED else 0,
        )
        assert best.guide is not None
        return self._alone(cell, task, _follower(best.guide, task), n_episodes, started, best)

    def _problem(self, task: Task, guide: Guide | None, seed: int) -> Problem:
        from lago_skills.rl.world_problem import world_problem

        return world_problem(self.space.world, (task,), self.space.study.grounding, guide, seed)

    def _guides(self, cell: Cell, task: Task, advisers: Advisers) -> dict[str, Guide]:
        """Who may advise a learner, by the name of the plan."""
        if cell["method"] in WITH_PORTFOLIO:
            return {each.name: each.guide for each in self._portfolio(task, cell["seed"])}
        if cell["method"] == "guided-sac":
            return {task.id: self._replicate("words", cell["seed"]).guide}
        return {"": advisers.cloned((task,), DEMOS)} if cell["method"] == "ibrl" else {}

    def _trained(self, cell: Cell, task: Task, n_episodes: int, started: float) -> list[Row]:
        from lago_skills.rl.plans.training import train_by_best_plan

        advisers = Advisers(self._replicate("words", cell["seed"]), self.say)
        guides, method = self._guides(cell, task, advisers), methods.method(LEARNERS[cell["method"]])
        usual = train.learner_config(self.space.study.train, LEARNERS[cell["method"]])
        settings = COMMON | ALONE[method.algorithm] | WITH_PORTFOLIO.get(cell["method"], {})
        config = SACConfig.model_validate(usual.model_dump() | settings)
        shown = advisers.demonstrations(task, DEMOS) if cell["method"] in ("rlpd", "ibrl") else []
        folder = self.space.artifact("unfinished", SCHEMA.table, cell.name.replace("/", "__"))
        bundle = self._made_from(cell)

        def report(step: int, log: LogRow) -> None:
            progress.update(cell.name, step, f"{cell.name} success {log.get('eval/success', float('nan')):.2f}")

        in_worker = multiprocessing.parent_process() is not None
        with StageProgress(SCHEMA.table, config.n_steps, "steps", quiet=in_worker) as progress:
            trained = train_by_best_plan(
                lambda guide: self._problem(task, guide, cell["seed"]),
                guides,
                config,
                cell["seed"],
                trial_episodes=TRIAL_EPISODES,
                search_steps=SEARCH_STEPS if cell["method"] == SEARCHED_SAC else 0,
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
            measured = _measured(play_on(self.space.world, task, policy, cell["seed"], n_episodes))
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
