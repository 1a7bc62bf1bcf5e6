"""Training by the plan that is worth following: plans are tried, the numbers of the best are searched, and a learner goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, Unpack

from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.portfolio import PlanOfTask
from lago_skills.rl.config import PPOConfig, SACConfig
from lago_skills.rl.guidance.advisers import AnyGuide
from lago_skills.rl.loop import Report, TrainOptions, TrainResult, train
from lago_skills.rl.plans.best import BestPlan, load_best, save_best
from lago_skills.rl.plans.exploration import explore_plans
from lago_skills.rl.plans.search import search_plan
from lago_skills.rl.plans.trial import try_plans
from lago_skills.rl.problem import Problem
from lago_skills.rl.runlog import Row

NEARLY = 0.75
"""Of the rank of the best plan: what another one must have to be searched in its place."""
GuideT = TypeVar("GuideT", bound=AnyGuide)
TRIAL_SHARE, FOUND_SHARE = 0.5, 0.75
"""Of a run's steps: after so many no episode of a trial begins, and trial and search together go no further than that; the rest is the learner's."""


@dataclass(frozen=True)
class TrainedByPlan:
    """A run, and the plan that it follows."""

    result: TrainResult[Any]
    """Steps of its curve are counted from the first episode in which plans were tried."""
    best: BestPlan
    problem: Problem
    """What was learned, with the advice of that plan."""


def find_plan(
    problem_of: Callable[[AnyGuide | None], Problem],
    guides: Mapping[str, GuideT],
    seed: int,
    *,
    trial_episodes: int,
    explore_steps: int = 0,
    search_steps: int = 0,
    n_steps: int | None = None,
) -> BestPlan:
    """Find the plan to follow, of one task: by trial, where nothing succeeds by variation, and then by search of its numbers.

    Args:
        problem_of: the problem with a guide's advice.
        guides: who follows each plan, by the plan's name; with one, or without a trial, the first is followed, and with none nobody is.
        seed: of the trial and of the search.
        trial_episodes: episodes in which the plans are tried.
        explore_steps: environment steps in which variations of the plans in numbers are followed, where none has succeeded.
        search_steps: environment steps in which the numbers of the best are searched.
        n_steps: of the whole run: no episode of the trial begins after half of them, exploration and search end by three quarters; None where there is no such
            limit.

    Raises:
        StudyError, TrainingStopped: as `lago_skills.rl.train` does.
    """
    names = list(guides)
    if not names:
        return BestPlan("", None)
    trial = None
    if len(names) > 1 and trial_episodes:
        most = None if n_steps is None else int(TRIAL_SHARE * n_steps)
        trial = try_plans(problem_of(guides[names[0]]), [*guides.items()], trial_episodes, seed, most_steps=most)
    best = BestPlan(names[trial.best] if trial else names[0], guides[names[trial.best if trial else 0]], trial)
    if (n_more := _left(explore_steps, best, n_steps)) > 0:
        best = _explored(problem_of, guides, best, n_more, seed)
    if (n_more := _left(search_steps, best, n_steps)) > 0:
        best = _searched(problem_of, guides, best, n_more, seed)
    return best


def _left(n_wanted: int, best: BestPlan, n_steps: int | None) -> int:
    return n_wanted if n_steps is None else min(n_wanted, int(FOUND_SHARE * n_steps) - best.steps)


def _next_starts(problem_of: Callable[[AnyGuide | None], Problem], best: BestPlan) -> Problem:
    """The problem from the start states on that have not been used yet."""
    problem = problem_of(best.guide)
    return replace(problem, first_seed=problem.first_seed + best.n_starts)


def _explored(
    problem_of: Callable[[AnyGuide | None], Problem],
    guides: Mapping[str, AnyGuide],
    best: BestPlan,
    n_steps: int,
    seed: int,
) -> BestPlan:
    """Variations of the plans, where nothing has succeeded; a plan that has not been tried is followed first."""
    plans = [PlanOfTask(name, guide) for name, guide in guides.items() if isinstance(guide, LibraryGuide)]
    if not plans or best.first_success is not None:
        return best
    explored = explore_plans(_next_starts(problem_of, best), plans, n_steps, seed, tried=best.trial is not None)
    if not explored.episodes:
        return best
    if explored.plan is None:
        return replace(best, exploration=explored)
    return replace(best, name=explored.plan.name, guide=explored.plan.guide, exploration=explored)


def _searched(
    problem_of: Callable[[AnyGuide | None], Problem],
    guides: Mapping[str, AnyGuide],
    best: BestPlan,
    n_steps: int,
    seed: int,
) -> BestPlan:
    """The numbers of the best plan; where that is in words and has hardly any, those of one in numbers that is nearly as good."""
    problem = _next_starts(problem_of, best)
    rival = _plan(best.name, best.guide)
    if rival is None:
        return best
    searched = search_plan(problem, _with_numbers(guides, best, problem.tasks[0]) or rival, n_steps, seed, rival=rival)
    if not searched.steps:
        return best
    return replace(best, name=searched.plan.name, guide=searched.plan.guide, search=searched)


def _with_numbers(guides: Mapping[str, AnyGuide], best: BestPlan, task: str) -> PlanOfTask | None:
    """The best plan in numbers of the trial, where the plan that leads is in words and that one is nearly as good."""
    followed = _plan(best.name, best.guide)
    if followed is None or best.trial is None or followed.guide.books[task].form == "numbers":
        return None
    enough = NEARLY * best.trial.plans[best.trial.best].rank
    for tried in sorted(best.trial.plans, key=lambda each: -each.rank):
        other = _plan(tried.name, guides[tried.name])
        if tried.successes and tried.rank >= enough and other and other.guide.books[task].form == "numbers":
            return other
    return None


def _plan(name: str, guide: AnyGuide | None) -> PlanOfTask | None:
    return PlanOfTask(name, guide) if isinstance(guide, LibraryGuide) else None


def train_by_best_plan(
    problem_of: Callable[[AnyGuide | None], Problem],
    guides: Mapping[str, GuideT],
    config: SACConfig | PPOConfig,
    seed: int,
    *,
    trial_episodes: int,
    explore_steps: int = 0,
    search_steps: int = 0,
    **options: Unpack[TrainOptions],
) -> TrainedByPlan:
    """Find the plan to follow, as `find_plan` does, and train with its advice: `n_steps` in all.

    Args:
        problem_of: the problem with a guide's advice.
        guides: who follows each plan.
        config: as for `lago_skills.rl.train`.
        seed: as there.
        trial_episodes: as for `find_plan`.
        explore_steps: as for `find_plan`.
        search_steps: as for `find_plan`.
        options: as for `lago_skills.rl.train`; what has succeeded by then is added to the demonstrations that soft actor-critic is given.

    Raises:
        StudyError, TrainingStopped: as `lago_skills.rl.train` does.
    """
    folder, recipe = options.get("folder"), options.get("recipe")
    search = {
        "trial_episodes": trial_episodes,
        "explore_steps": explore_steps,
        "search_steps": search_steps,
        "n_steps": config.n_steps,
    }
    if folder is None or recipe is None or not guides:
        best = find_plan(problem_of, guides, seed, **search)
    else:
        best = _found_before(problem_of, guides, seed, search, folder / "best", recipe)
    problem = problem_of(best.guide)
    if not best.steps:
        return TrainedByPlan(train(problem, config, seed, **options), best, problem)
    problem = replace(problem, first_seed=problem.first_seed + best.n_starts)  # it goes on from other start states
    left = config.model_copy(update={"n_steps": max(config.n_steps - best.steps, 1)})
    if isinstance(config, SACConfig):
        options["demonstrations"] = [*options.get("demonstrations", ()), *best.harvested]
    for name in ("report", "on_row"):
        if (told := options.get(name)) is not None:
            options[name] = partial(_later, told, best.steps)
    result = train(problem, left, seed, **options)
    curve = [{**row, "step": int(row["step"]) + best.steps} for row in result.curve]
    return TrainedByPlan(replace(result, curve=curve), best, problem)


def _found_before(
    problem_of: Callable[[AnyGuide | None], Problem],
    guides: Mapping[str, AnyGuide],
    seed: int,
    search: dict[str, int],
    folder: Path,
    recipe: dict[str, Any],
) -> BestPlan:
    """The plan that this run found before it was cut, or that it finds now."""
    task = problem_of(None).tasks[0]
    best = load_best(guides, task, folder, recipe | search)
    if best is None:
        best = find_plan(problem_of, guides, seed, **search)
        if best.steps:
            save_best(best, task, folder, recipe | search)
    return best


def _later(told: Report, before: int, step: int, row: Row) -> None:
    told(before + step, row)
