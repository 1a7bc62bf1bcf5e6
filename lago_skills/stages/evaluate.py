"""Evaluate: the library alone on tasks it has no demonstration of."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ArtifactWriter
from lago_skills.core import Task
from lago_skills.guide.portfolio import PlanOfTask, PlanSwitch
from lago_skills.stages import portfolios
from lago_skills.stages.job import Job, digest
from lago_skills.stages.workspace import Workspace
from lago_skills.worlds.world import World

if TYPE_CHECKING:
    from lago_skills.worlds.rollouts import EpisodeResult

VERSION = 1
RESULTS_FILE = "episodes.csv"


def jobs(space: Workspace) -> list[Job]:
    """One job per unseen task."""
    made_from = {"bundle": digest(space.artifact("bundle")), **portfolios.recipe(space)}  # once: it hashes every file
    return [_job(space, task, made_from) for task in space.study.unseen]


def _job(space: Workspace, task: Task, made_from: dict[str, Any]) -> Job:
    study, folder, n_episodes = space.study, space.artifact("zero-shot", task.id), space.study.zero_shot.episodes

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        world = study.load_world()
        world.check_success()
        results = play(world, task, portfolios.plans_of(space, task), n_episodes, progress)
        save(results, task.id, writer.path)
        writer.summary = {
            "task": task.id,
            "method": "library",
            "success": round(float(np.mean([r.success for r in results])), 4),
            "episodes": len(results),
            "steps": sum(r.steps for r in results),
            "return": round(float(np.mean([r.episode_return for r in results])), 4),
            "rule": world.success_text,
        }

    recipe: dict[str, Any] = {
        "stage": "evaluate",
        "version": VERSION,
        **made_from,
        "task": task.env_id,
        "horizon": task.horizon_steps,
        "episodes": n_episodes,
        **study.world_recipe(task),
    }
    total = n_episodes * task.horizon_steps
    return Job("evaluate", task.id, folder, recipe, total, "steps", make)


def play(
    world: World, task: Task, plans: Sequence[PlanOfTask], n_episodes: int, progress: Progress
) -> list[EpisodeResult]:
    """Episodes of a task in which the library alone acts, from the start states of evaluation: by one plan, or by several one after another."""
    from lago_skills.worlds.rollouts import remembered_rollouts, rollouts
    from lago_skills.worlds.seeds import EVAL_SEED

    taken = 0

    def report(n: int) -> None:
        nonlocal taken
        taken += n
        progress(min(taken, n_episodes * task.horizon_steps), task.id)

    seeds = [EVAL_SEED + i for i in range(n_episodes)]
    if len(plans) > 1:
        return remembered_rollouts(world, task, PlanSwitch(task.id, plans).act, seeds, report)
    guide = plans[0].guide
    return rollouts(world, task, lambda observations: guide.prior(observations, task.id).greedy(), seeds, report)


def save(results: list[EpisodeResult], task: str, folder: Path) -> None:
    """Write a row for each episode."""
    with (folder / RESULTS_FILE).open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["task", "method", "start_seed", "success", "steps", "return"])
        table.writerows([task, "library", r.seed, int(r.success), r.steps, round(r.episode_return, 6)] for r in results)
