"""Train: one run per task, algorithm and seed, online with the sparse reward."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import ArtifactWriter, fingerprint, verify
from lago_skills.artifacts.workers import Progress
from lago_skills.core import Task
from lago_skills.data.episodes import EPISODES_FILE, save_episodes
from lago_skills.rl import methods
from lago_skills.rl.config import PPOConfig, SACConfig
from lago_skills.rl.runlog import CURVE_FILE, Row
from lago_skills.stages import build
from lago_skills.stages.job import Job, digest
from lago_skills.stages.workspace import Workspace

if TYPE_CHECKING:
    from lago_skills.rl.problem import Problem

VERSION = 4
FINAL_FILE, ACTOR_FILE = "final_episodes.csv", "agent.safetensors"


@dataclass(frozen=True)
class TrainingRun:
    """One run of the table."""

    task: Task
    algorithm: str
    seed: int

    @property
    def name(self) -> str:
        """`<task>__<algorithm>__s<seed>`."""
        return f"{self.task.id}__{self.algorithm}__s{self.seed}"


def training_runs(space: Workspace) -> list[TrainingRun]:
    """All runs of the study, seeds outermost, so that a cut leaves complete comparisons."""
    config = space.study.train
    return [
        TrainingRun(task, algorithm, seed)
        for seed in config.seeds
        for task in space.study.find(config.tasks)
        for algorithm in config.algorithms
    ]


def learner_config(space: Workspace, name: str) -> SACConfig | PPOConfig:
    """The settings of a learner: the study's for its algorithm, with what differs for it."""
    chosen, study = methods.method(name), space.study.train
    return (study.sac if chosen.algorithm == "sac" else study.ppo).model_copy(update=chosen.settings)


def jobs(space: Workspace) -> list[Job]:
    """One job per run."""
    bundle = digest(space.artifact("bundle"))
    return [_job(space, training_run, bundle) for training_run in training_runs(space)]


def problem(space: Workspace, training_run: TrainingRun) -> Problem:
    """What a run learns."""
    from lago_skills.rl.world_problem import world_problem

    adviser = methods.method(training_run.algorithm).adviser
    guide = build.guide(space) if adviser == "library" else None
    return world_problem(space.world, [training_run.task], space.study.grounding, guide, training_run.seed)


def learned(space: Workspace, training_run: TrainingRun) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], str]:
    """What a finished run has learned: (B, S) observations -> actions without exploring; and who leads."""
    from lago_skills.rl.guidance.advice import Layout
    from lago_skills.rl.networks import load_networks
    from lago_skills.rl.policy import greedy_policy, layout_for
    from lago_skills.rl.ppo.agent import PPO
    from lago_skills.rl.sac.agent import SAC

    folder, learned_problem = space.artifact("runs", training_run.name), problem(space, training_run)
    grounding, config = space.study.grounding, learner_config(space, training_run.algorithm)
    state_size = learned_problem.see(np.zeros((1, grounding.observation_size)), np.zeros(1, np.int64)).shape[1]
    sizes, discrete = (state_size, grounding.action_space.size), grounding.action_space.discrete
    layout = layout_for(learned_problem, grounding.action_space, config.n_components)
    if isinstance(config, PPOConfig):
        agent = PPO.create(*sizes, config, layout, training_run.seed, discrete=discrete)
    else:
        assert isinstance(layout, Layout | None)  # training refuses soft actor-critic on discrete actions
        agent = SAC.create(*sizes, config, layout, training_run.seed)
    load_networks(folder / ACTOR_FILE, **agent.networks())
    leader = verify(folder).summary["leader"]
    act = greedy_policy(learned_problem, agent, leader)
    return lambda observations: act(observations, np.zeros(len(observations), np.int64)), leader


def _job(space: Workspace, training_run: TrainingRun, bundle: str) -> Job:
    config = learner_config(space, training_run.algorithm)
    final_episodes = space.study.train.final_episodes
    recipe: dict[str, Any] = {
        "stage": "train",
        "version": VERSION,
        "bundle": bundle if methods.method(training_run.algorithm).adviser != "none" else None,
        "task": training_run.task.env_id,
        "horizon": training_run.task.horizon_steps,
        "algorithm": training_run.algorithm,
        "seed": training_run.seed,
        "final_episodes": final_episodes,
        **config.recipe(),
    }

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        from lago_skills.rl import train
        from lago_skills.rl.networks import save_networks

        def report(step: int, row: Row) -> None:
            progress(
                step,
                f"{training_run.algorithm} s{training_run.seed} success {row.get('eval/success', float('nan')):.2f}",
            )

        unfinished = space.artifact("unfinished", training_run.name)
        result = train(
            problem(space, training_run),
            config,
            training_run.seed,
            final_episodes=final_episodes,
            folder=unfinished,
            recipe=recipe,
            report=report,
        )
        _keep_log(writer, unfinished, result.curve)
        with (writer.path / FINAL_FILE).open("w", newline="", encoding="utf-8") as stream:
            plain = csv.writer(stream)
            plain.writerow(["task", "method", "seed", "start_seed", "success", "steps"])
            plain.writerows(
                [training_run.task.id, training_run.algorithm, training_run.seed, r.seed, int(r.success), r.steps]
                for r in result.final
            )
        save_networks(writer.path / ACTOR_FILE, **result.agent.networks())
        if result.harvested:
            save_episodes(writer.path / EPISODES_FILE, result.harvested)
        writer.summary = {
            "task": training_run.task.id,
            "method": training_run.algorithm,
            "seed": training_run.seed,
            "steps": int(result.curve[-1]["step"]),
            "leader": result.leader,
            "success": round(float(np.mean([r.success for r in result.final])), 4),
            "episodes": len(result.final),
            "harvested": len(result.harvested),
            "steps_per_s": round(result.curve[-1]["time/steps_per_s"], 1),
            "guide_share": round(result.curve[-1]["time/guide_share"], 4),
        }
        shutil.rmtree(unfinished, ignore_errors=True)

    return Job(
        "train", training_run.name, space.artifact("runs", training_run.name), recipe, config.n_steps, "steps", make
    )


def _keep_log(writer: ArtifactWriter, folder: Path, curve: list[Row]) -> None:
    """Copy the curve and the TensorBoard files; what they say, times aside, is what the artifact's digest is made from."""
    content = fingerprint(
        [{key: repr(value) for key, value in row.items() if not key.startswith("time/")} for row in curve]
    )
    for path in (folder / CURVE_FILE, *sorted(folder.glob("events.*"))):
        shutil.copy2(path, writer.path / path.name)
        writer.content[path.name] = content
