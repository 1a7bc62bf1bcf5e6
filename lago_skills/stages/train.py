"""Train: one run per task, algorithm and seed, online with the world's reward."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ArtifactWriter, fingerprint, verify
from lago_skills.core import Task
from lago_skills.data.episodes import EPISODES_FILE, save_episodes
from lago_skills.errors import ShapeError
from lago_skills.playbook import read_playbook, write_playbook
from lago_skills.rl import methods
from lago_skills.rl.config import PPOConfig, SACConfig
from lago_skills.rl.guidance.advisers import AnyGuide
from lago_skills.rl.runlog import CURVE_FILE, Row
from lago_skills.stages import portfolios
from lago_skills.stages.job import Job, digest
from lago_skills.stages.workspace import Workspace
from lago_skills.study import Study, TrainConfig
from lago_skills.worlds.grounding import Grounding

if TYPE_CHECKING:
    from lago_skills.guide.guides import LibraryGuide
    from lago_skills.rl.loop import TrainResult
    from lago_skills.rl.plans.training import BestPlan
    from lago_skills.rl.problem import Problem

VERSION = 4
FINAL_FILE, ACTOR_FILE, PLAN_FILE = "final_episodes.csv", "agent.safetensors", "plan.json"
"""The last is there where exploration or search came to another plan than those that the task has."""


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


def training_runs(study: Study) -> list[TrainingRun]:
    """All runs of a study, seeds outermost, so that a cut leaves complete comparisons."""
    config = study.train
    return [
        TrainingRun(task, algorithm, seed)
        for seed in config.seeds
        for task in study.find(config.tasks)
        for algorithm in config.algorithms
    ]


def learner_config(config: TrainConfig, name: str) -> SACConfig | PPOConfig:
    """The settings of a learner: the study's for its algorithm, with what differs for it."""
    chosen = methods.method(name)
    return (config.sac if chosen.algorithm == "sac" else config.ppo).model_copy(update=chosen.settings)


def jobs(space: Workspace) -> list[Job]:
    """One job per run."""
    made_from = {"bundle": digest(space.artifact("bundle"))}  # once: it hashes every file
    if several := portfolios.recipe(space):
        made_from |= several | {"trial_episodes": space.study.train.trial_episodes}
    steps = {name: getattr(space.study.train, name) for name in ("explore_steps", "search_steps")}
    made_from |= {name: n_steps for name, n_steps in steps.items() if n_steps}
    return [_job(space, run, made_from) for run in training_runs(space.study)]


def is_advised(run: TrainingRun) -> bool:
    """Whether the run takes the library's advice."""
    return methods.method(run.algorithm).adviser == "library"


def problem(study: Study, run: TrainingRun, guide: AnyGuide | None) -> Problem:
    """What a run learns, with the advice of a guide."""
    from lago_skills.rl.world_problem import world_problem

    at_end = study.train.success_at_end
    return world_problem(study.load_world(), [run.task], study.grounding, guide, run.seed, success_at_end=at_end)


def problem_of(space: Workspace, run: TrainingRun) -> Problem:
    """What a finished run has learned, with the advice that it took: of the plan that it followed."""
    return problem(space.study, run, guide_of(space, run)[0] if is_advised(run) else None)


def guide_of(space: Workspace, run: TrainingRun) -> tuple[LibraryGuide, str]:
    """What an advised, finished run was guided by, which follows the plan that the run came to; and the name of the plan that it began with.

    Raises:
        ArtifactMissing: the run is not finished, or a bundle is gone.
        StudyError: there is no such plan any more.
    """
    folder, plans = space.artifact("runs", run.name), portfolios.plans_of(space, run.task)
    name = verify(folder).summary.get("plan", plans[0].name)
    guide = portfolios.plan_named(plans, run.task, name).guide
    if (folder / PLAN_FILE).exists():
        written = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
        guide = guide.with_steps(read_playbook(written, space.study.grounding.vocabulary))
    return guide, name


def _write_plan(writer: ArtifactWriter, run: TrainingRun, best: BestPlan) -> None:
    """The plan that was found, where it is none of the task's own."""
    if best.changed is not None:
        book = best.changed.books[run.task.id]
        text = json.dumps(write_playbook(book), indent=1, ensure_ascii=False)
        (writer.path / PLAN_FILE).write_text(text + "\n", encoding="utf-8")


def load_policy(
    folder: Path, run: TrainingRun, learned_problem: Problem, config: TrainConfig, grounding: Grounding
) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], str]:
    """What a finished run has learned: (B, S) observations -> actions without exploring; and who leads."""
    from lago_skills.rl.guidance.advice import Layout
    from lago_skills.rl.networks import load_networks
    from lago_skills.rl.policy import greedy_policy, layout_for
    from lago_skills.rl.ppo.agent import PPO
    from lago_skills.rl.sac.agent import SAC

    learner = learner_config(config, run.algorithm)
    state_size = _state_size(learned_problem, grounding.observation_size)
    sizes, discrete = (state_size, grounding.action_space.size), grounding.action_space.discrete
    layout = layout_for(learned_problem, grounding.action_space, learner.n_components)
    if isinstance(learner, PPOConfig):
        agent = PPO.create(*sizes, learner, layout, run.seed, discrete=discrete)
    else:
        assert isinstance(layout, Layout | None)  # training refuses soft actor-critic on discrete actions
        agent = SAC.create(*sizes, learner, layout, run.seed)
    load_networks(folder / ACTOR_FILE, **agent.networks())
    leader = verify(folder).summary["leader"]
    act = greedy_policy(learned_problem, agent, leader)
    return lambda observations: act(observations, np.zeros(len(observations), np.int64)), leader


def _state_size(learned_problem: Problem, observation_size: int) -> int:
    """How many numbers networks see; of a world that refuses an observation of zeros, by one of its own."""
    first = np.zeros(1, np.int64)
    try:
        return learned_problem.see(np.zeros((1, observation_size)), first).shape[1]
    except ShapeError:
        env = learned_problem.judged(0)()
        observation, _ = env.reset(seed=learned_problem.eval_seed)
        env.close()
        return learned_problem.see(np.asarray(observation)[None], first).shape[1]


def _job(space: Workspace, run: TrainingRun, made_from: dict[str, Any]) -> Job:
    study, folder, unfinished = space.study, space.artifact("runs", run.name), space.artifact("unfinished", run.name)
    config, final_episodes = learner_config(study.train, run.algorithm), study.train.final_episodes
    advised = methods.method(run.algorithm).adviser != "none"
    recipe: dict[str, Any] = {
        "stage": "train",
        "version": VERSION,
        **(made_from if advised else {"bundle": None}),
        "task": run.task.env_id,
        "horizon": run.task.horizon_steps,
        "algorithm": run.algorithm,
        "seed": run.seed,
        "final_episodes": final_episodes,
        **({"success_at_end": True} if study.train.success_at_end else {}),
        **config.recipe(),
        **study.world_recipe(run.task),
    }

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        from lago_skills.rl.plans.training import train_by_best_plan

        def report(step: int, row: Row) -> None:
            success = row.get("eval/success", float("nan"))
            progress(step, f"{run.algorithm} s{run.seed} success {success:.2f}")

        guides = {each.name: each.guide for each in portfolios.plans_of(space, run.task)} if is_advised(run) else {}
        trained = train_by_best_plan(
            lambda guide: problem(study, run, guide),
            guides,
            config,
            run.seed,
            trial_episodes=study.train.trial_episodes,
            explore_steps=study.train.explore_steps,
            search_steps=study.train.search_steps,
            final_episodes=final_episodes,
            folder=unfinished,
            recipe=recipe,
            report=report,
        )
        _keep_log(writer, unfinished, trained.result.curve)
        _write(writer, run, trained.result, study.load_world().success_text)
        if trained.best.steps:
            writer.summary |= trained.best.summary()
            _write_plan(writer, run, trained.best)
        shutil.rmtree(unfinished, ignore_errors=True)

    return Job("train", run.name, folder, recipe, config.n_steps, "steps", make)


def _write(writer: ArtifactWriter, run: TrainingRun, result: TrainResult[Any], rule: str) -> None:
    """The last evaluation, the networks, episodes that are worth learning from, and what they come to."""
    from lago_skills.rl.networks import save_networks

    with (writer.path / FINAL_FILE).open("w", newline="", encoding="utf-8") as stream:
        plain = csv.writer(stream)
        plain.writerow(["task", "method", "seed", "start_seed", "success", "steps", "return"])
        plain.writerows(
            [run.task.id, run.algorithm, run.seed, r.seed, int(r.success), r.steps, round(r.episode_return, 6)]
            for r in result.final
        )
    save_networks(writer.path / ACTOR_FILE, **result.agent.networks())
    if result.harvested:
        save_episodes(writer.path / EPISODES_FILE, result.harvested)
    last = result.curve[-1]
    writer.summary = {
        "task": run.task.id,
        "method": run.algorithm,
        "seed": run.seed,
        "steps": int(last["step"]),
        "leader": result.leader,
        "success": round(float(np.mean([r.success for r in result.final])), 4),
        "return": round(float(np.mean([r.episode_return for r in result.final])), 4),
        "rule": rule,
        "episodes": len(result.final),
        "harvested": len(result.harvested),
        "steps_per_s": round(last["time/steps_per_s"], 1),
        "guide_share": round(last["time/guide_share"], 4),
    }


def _keep_log(writer: ArtifactWriter, folder: Path, curve: list[Row]) -> None:
    """Copy the curve and the TensorBoard files, of which a run that was resumed has several; of both the digest counts what the curve says, times aside."""
    content = fingerprint(
        [{key: repr(value) for key, value in row.items() if not key.startswith("time/")} for row in curve]
    )
    for path in (folder / CURVE_FILE, *sorted(folder.glob("events.*"))):
        shutil.copy2(path, writer.path / path.name)
    writer.content[CURVE_FILE] = content
    writer.uncounted |= {path.name for path in folder.glob("events.*")}
