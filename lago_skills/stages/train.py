"""Train: one run per task, algorithm and seed, online with the sparse reward."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Any

import numpy as np

from lago_skills.core import Task
from lago_skills.envs.tasks import expand
from lago_skills.rl.config import SACConfig
from lago_skills.stages import build
from lago_skills.stages.job import Job, Progress, Workspace, digest
from lago_skills.store import ArtifactWriter

VERSION = 3
CURVE_FILE, FINAL_FILE, ACTOR_FILE = "curve.csv", "final_episodes.csv", "agent.safetensors"


@dataclass(frozen=True)
class Cell:
    """One run of the table."""

    task: Task
    algorithm: str
    seed: int

    @property
    def name(self) -> str:
        """`<task>__<algorithm>__s<seed>`."""
        return f"{self.task.id}__{self.algorithm}__s{self.seed}"


def cells(space: Workspace) -> list[Cell]:
    """All runs of the study, seeds outermost, so that a cut leaves complete comparisons."""
    config = space.study.train
    return [
        Cell(task, algorithm, seed)
        for seed in config.seeds
        for task in expand(config.tasks)
        for algorithm in config.algorithms
    ]


def sac_config(space: Workspace, algorithm: str) -> SACConfig:
    """The settings of an algorithm: `sac` is the same code with guidance switched off."""
    sac = space.study.train.sac
    return sac if algorithm == "guided-sac" else sac.model_copy(update={"guidance": "none"})


def jobs(space: Workspace) -> list[Job]:
    """One job per run."""
    bundle = digest(space.artifact("bundle"))
    return [_job(space, cell, bundle) for cell in cells(space)]


def _job(space: Workspace, cell: Cell, bundle: str) -> Job:
    config = sac_config(space, cell.algorithm)
    final_episodes = space.study.train.final_episodes
    guided = config.guidance != "none"

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        from lago_skills.rl.networks import save_agent
        from lago_skills.rl.sac import LOG_KEYS, Row, train

        def report(step: int, row: Row) -> None:
            progress(step, f"{cell.algorithm} s{cell.seed} success {row.get('eval/success', float('nan')):.2f}")

        result = train(
            cell.task,
            space.study.grounding,
            build.guide(space) if guided else None,
            config,
            cell.seed,
            final_episodes,
            report,
        )
        with (writer.path / CURVE_FILE).open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, ["step", *LOG_KEYS])
            table.writeheader()
            table.writerows(result.curve)
        with (writer.path / FINAL_FILE).open("w", newline="", encoding="utf-8") as stream:
            plain = csv.writer(stream)
            plain.writerow(["task", "method", "seed", "start_seed", "success", "steps"])
            plain.writerows(
                [cell.task.id, cell.algorithm, cell.seed, r.seed, int(r.success), r.steps] for r in result.final
            )
        save_agent(result.agent, writer.path / ACTOR_FILE)
        writer.summary = {
            "task": cell.task.id,
            "method": cell.algorithm,
            "seed": cell.seed,
            "steps": config.n_steps,
            "leader": result.leader,
            "success": round(float(np.mean([r.success for r in result.final])), 4),
            "episodes": len(result.final),
            "steps_per_s": round(result.curve[-1]["time/steps_per_s"], 1),
            "guide_share": round(result.curve[-1]["time/guide_share"], 4),
        }

    recipe: dict[str, Any] = {
        "stage": "train",
        "version": VERSION,
        "bundle": bundle if guided else None,
        "task": cell.task.env_id,
        "horizon": cell.task.horizon_steps,
        "algorithm": cell.algorithm,
        "seed": cell.seed,
        "final_episodes": final_episodes,
        **config.model_dump(),
    }
    return Job("train", cell.name, space.artifact("runs", cell.name), recipe, config.n_steps, "steps", make)
