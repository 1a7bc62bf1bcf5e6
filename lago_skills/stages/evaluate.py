"""Evaluate: the library alone on tasks it has no demonstration of."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np

from lago_skills.artifacts.folder import ArtifactWriter
from lago_skills.artifacts.workers import Progress
from lago_skills.core import Task
from lago_skills.stages import build
from lago_skills.stages.job import Job, digest
from lago_skills.stages.workspace import Workspace

VERSION = 1
RESULTS_FILE = "episodes.csv"


def jobs(space: Workspace) -> list[Job]:
    """One job per unseen task."""
    bundle = digest(space.artifact("bundle"))
    return [_job(space, task, bundle) for task in space.study.unseen]


def _job(space: Workspace, task: Task, bundle: str) -> Job:
    n_episodes = space.study.zero_shot.episodes

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        from lago_skills.worlds.rollouts import rollouts
        from lago_skills.worlds.seeds import EVAL_SEED

        guide = build.guide(space)
        taken = 0

        def report(n: int) -> None:
            nonlocal taken
            taken += n
            progress(min(taken, n_episodes * task.horizon_steps), task.id)

        seeds = [EVAL_SEED + i for i in range(n_episodes)]
        results = rollouts(
            space.world, task, lambda observations: guide.prior(observations, task.id).greedy(), seeds, report
        )
        with (writer.path / RESULTS_FILE).open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow(["task", "method", "start_seed", "success", "steps"])
            table.writerows([task.id, "library", r.seed, int(r.success), r.steps] for r in results)
        writer.summary = {
            "task": task.id,
            "method": "library",
            "success": round(float(np.mean([r.success for r in results])), 4),
            "episodes": len(results),
            "steps": sum(r.steps for r in results),
        }

    recipe: dict[str, Any] = {
        "stage": "evaluate",
        "version": VERSION,
        "bundle": bundle,
        "task": task.env_id,
        "horizon": task.horizon_steps,
        "episodes": n_episodes,
    }
    total = n_episodes * task.horizon_steps
    return Job("evaluate", task.id, space.artifact("zero-shot", task.id), recipe, total, "steps", make)
