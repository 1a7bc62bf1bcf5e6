"""Evaluate: the library alone on tasks it has no demonstration of."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lago_skills.artifacts.folder import ArtifactWriter
from lago_skills.artifacts.workers import Progress
from lago_skills.core import Task
from lago_skills.guide.guides import Guide
from lago_skills.stages import build
from lago_skills.stages.job import Job, digest
from lago_skills.stages.workspace import Workspace
from lago_skills.study import Study
from lago_skills.worlds.world import World

if TYPE_CHECKING:
    from lago_skills.worlds.rollouts import EpisodeResult

VERSION = 1
RESULTS_FILE = "episodes.csv"


def jobs(space: Workspace) -> list[Job]:
    """One job per unseen task."""
    bundle, study = space.artifact("bundle"), space.study
    bundle_digest = digest(bundle)  # once: it hashes every file
    return [_job(study, task, bundle, bundle_digest, space.artifact("zero-shot", task.id)) for task in study.unseen]


def _job(study: Study, task: Task, bundle: Path, bundle_digest: str, folder: Path) -> Job:
    n_episodes = study.zero_shot.episodes

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        world = study.load_world()
        world.check_success()
        results = play(world, task, build.guide(bundle, study.grounding), n_episodes, progress)
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
        "bundle": bundle_digest,
        "task": task.env_id,
        "horizon": task.horizon_steps,
        "episodes": n_episodes,
        **study.world_recipe(task),
    }
    total = n_episodes * task.horizon_steps
    return Job("evaluate", task.id, folder, recipe, total, "steps", make)


def play(world: World, task: Task, guide: Guide, n_episodes: int, progress: Progress) -> list[EpisodeResult]:
    """Episodes of a task in which the guide alone acts, from the start states of evaluation."""
    from lago_skills.worlds.rollouts import rollouts
    from lago_skills.worlds.seeds import EVAL_SEED

    taken = 0

    def report(n: int) -> None:
        nonlocal taken
        taken += n
        progress(min(taken, n_episodes * task.horizon_steps), task.id)

    seeds = [EVAL_SEED + i for i in range(n_episodes)]
    return rollouts(world, task, lambda observations: guide.prior(observations, task.id).greedy(), seeds, report)


def save(results: list[EpisodeResult], task: str, folder: Path) -> None:
    """Write a row for each episode."""
    with (folder / RESULTS_FILE).open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["task", "method", "start_seed", "success", "steps", "return"])
        table.writerows([task, "library", r.seed, int(r.success), r.steps, round(r.episode_return, 6)] for r in results)
