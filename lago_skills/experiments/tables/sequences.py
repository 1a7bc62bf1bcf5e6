"""Sequences of things that were demonstrated one at a time: how many of them are done, alone and after training.

A cell is (method, task, seed): one row, or for a learner one for each evaluation of its run, in `data/results/sequences.csv`. The seed is that of
demonstrations, decoder and start states. Plans in words are those of the study; plans in numbers those of the study `NAME-numbers` beside it.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lago_skills import rl
from lago_skills.artifacts.progress import StageProgress
from lago_skills.core import Episode, Task
from lago_skills.experiments.baselines.cloning_policies import Forgetful, Uniform
from lago_skills.experiments.baselines.controllers import NumbersController, WordsController
from lago_skills.experiments.baselines.sequences import ClonedInSequence, NearestSegment
from lago_skills.experiments.both_forms import BothForms
from lago_skills.experiments.cells import Cell, Column, Row, Schema, mixed
from lago_skills.experiments.evaluation_episodes import eval_seeds
from lago_skills.experiments.intervals import stratified_mean
from lago_skills.experiments.replicate import Replicate
from lago_skills.experiments.table import Grid, Opener, Results, interval
from lago_skills.guide.guides import Guide
from lago_skills.rl import methods
from lago_skills.rl.config import SACConfig
from lago_skills.stages import plan, train
from lago_skills.stages.workspace import Workspace

if TYPE_CHECKING:
    from lago_skills.rl.runlog import Row as LogRow
    from lago_skills.worlds.rollouts import EpisodePolicy
    from lago_skills.worlds.world import Env

CONTROLLERS = {
    f"{form}/controller-{gain:g}": (form, gain) for form in ("words", "numbers") for gain in (5.0, 10.0, 20.0)
}
LIBRARIES = {"words/library": "library", "numbers/library": "library", "words/shuffled library": "shuffled"}
CLONES = {"cloned by sentence": "bc-text", "cloned by number": "bc-onehot"}
IN_SEQUENCE, NEAREST = "cloned in sequence", "words/nearest segment"
UNTRAINED = (
    "random",
    *CONTROLLERS,
    NEAREST,
    *CLONES,
    IN_SEQUENCE,
    "words/shuffled library",
    "words/library",
    "numbers/library",
    "demonstrator",
)
LEARNERS = ("sac", "rlpd", "ibrl", "guided-sac")
SETTINGS: dict[str, Any] = {"n_steps": 100_000, "eval_every": 10_000, "eval_episodes": 10}
FINAL_EPISODES = 20
MOSTLY = 0.75
"""Share of its things with which a task counts as mostly done: three of four."""
SCHEMA = Schema(
    "sequences",
    (
        Column("table"),
        Column("study"),
        Column("task"),
        Column("level", about="the group of tasks: demonstrated one at a time, or never"),
        Column("method"),
        Column("seed", int),
        Column("steps", int, "environment steps of training; 0 for what needs none"),
        Column("subtasks", float, "things done in an episode, the mean"),
        Column("asked", int, "things that the task asks for"),
        Column("success", float, "share of episodes in which all were done"),
        Column("episodes", int),
        Column("demos", int, "demonstrated episodes of single things that a learner's replay began with"),
        Column("leader"),
        Column("prior_share", float),
        Column("steps_per_s", float),
        Column("wall_s", float),
        Column("commit"),
        Column("bundle", about="fingerprint of what the policy or its guide was made from"),
    ),
    keys=("table", "study", "method", "task", "seed"),
    form="METHOD/TASK/SEED",
    label="{method}/{task}/{seed}".format_map,
)


class Sequences(BothForms):
    """Things done, by method and by how many a task asks for."""

    schema = SCHEMA
    known_methods, usual_methods = (*UNTRAINED, *LEARNERS), UNTRAINED
    repeated = ("subtasks", "success", "episodes")

    def _replicate(self, method: str, seed: int) -> Replicate:
        return self.in_form("numbers" if method.startswith("numbers/") else "words", seed)

    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        """The row of a cell, or those of a run."""
        import torch

        torch.set_num_threads(1)
        (task,) = self.space.study.find([cell["task"]])
        return self._trained(cell, task) if cell["method"] in LEARNERS else [self._alone(cell, task, n_episodes)]

    def _row(self, cell: Cell, task: Task, **values: Any) -> Row:
        known = {"demos": 0, "leader": "", "prior_share": 0.0, "steps_per_s": 0.0, "bundle": "", **values}
        return SCHEMA.row(**cell, level=self.levels[task.id], asked=task.parts, commit=self.commit, **known)

    def _alone(self, cell: Cell, task: Task, n_episodes: int) -> Row:
        from lago_skills.worlds.rollouts import full_rollouts

        started, replicate = time.monotonic(), self._replicate(cell["method"], cell["seed"])
        seeds, world = eval_seeds(cell["seed"], n_episodes), self.space.world
        if cell["method"] == "demonstrator":
            done = [_shown(self.space, task, seed) for seed in seeds]
        else:
            policy = self._policy(cell["method"], task, replicate)
            results = full_rollouts(world, task, policy, seeds, lambda n: None)
            done = [(each.episode_return, each.success) for each in results]
        return self._row(
            cell,
            task,
            steps=0,
            subtasks=round(float(np.mean([n for n, _ in done])), 4),
            success=round(float(np.mean([success for _, success in done])), 4),
            episodes=len(done),
            wall_s=round(time.monotonic() - started, 1),
            bundle=self._made_from(cell["method"], replicate),
        )

    def _policy(self, method: str, task: Task, replicate: Replicate) -> EpisodePolicy:
        """What acts in a method that needs no training."""
        if method in LIBRARIES:
            guide = replicate.guide if LIBRARIES[method] == "library" else replicate.shuffled
            return Forgetful(lambda observations: guide.prior(observations, task.id).greedy())
        if method in CLONES:
            return replicate.policy(CLONES[method], task)
        if method == IN_SEQUENCE:
            chain = self._in_sequence(replicate, task)
            return Forgetful(lambda observations: chain.prior(observations, task.id).greedy())
        if method == NEAREST:
            return NearestSegment(replicate.guide, replicate.labelled, task.id)
        if method in CONTROLLERS:
            form, gain = CONTROLLERS[method]
            grounding = replicate.space.study.grounding
            replicate.make(lambda: plan.jobs(replicate.space))
            book = plan.load(replicate.space.artifact("playbooks"), grounding.vocabulary)[task.id]
            return (WordsController if form == "words" else NumbersController)(book, grounding, gain)
        return Uniform(replicate.space.study.grounding.action_space, replicate.space.study.seed)

    def _made_from(self, method: str, replicate: Replicate) -> str:
        names = {"words/library": "library", "numbers/library": "library", "words/shuffled library": "random-library"}
        names |= {NEAREST: "library", IN_SEQUENCE: "bc-onehot", **CLONES}
        return replicate.bundle(names[method]) if method in names else ""

    def _in_sequence(self, replicate: Replicate, task: Task) -> ClonedInSequence:
        parts = self.space.study.find(list(self.space.world.parts(task.id)))
        clones = {part.id: replicate.cloned("bc-onehot", part) for part in parts}
        return ClonedInSequence(self.space.world, clones, self.space.study.guide.floor)

    # Learners ---------------------------------------------------------------------------------------------------------

    def _trained(self, cell: Cell, task: Task) -> list[Row]:
        from lago_skills.rl.world_problem import world_problem

        started, replicate = time.monotonic(), self._replicate(cell["method"], cell["seed"])
        method, study = methods.method(cell["method"]), self.space.study
        usual = train.learner_config(study.train, cell["method"])
        config = SACConfig.model_validate(usual.model_dump() | SETTINGS)
        advisers: dict[str, Callable[[], Guide]] = {
            "library": lambda: replicate.guide,
            "cloned": lambda: self._in_sequence(replicate, task),
        }
        guide = advisers[method.adviser]() if method.adviser in advisers else None
        bundle = self._made_from({"library": "words/library", "cloned": IN_SEQUENCE}.get(method.adviser, ""), replicate)
        problem = world_problem(self.space.world, (task,), study.grounding, guide, cell["seed"])
        shown = self._demonstrations(replicate, task) if cell["method"] in ("rlpd", "ibrl") else []
        folder = self.space.artifact("unfinished", SCHEMA.table, cell.name.replace("/", "__"))

        def report(step: int, log: LogRow) -> None:
            progress.update(cell.name, step, f"{cell.name} {log.get('eval/return', float('nan')):.2f} things done")

        in_worker = multiprocessing.parent_process() is not None
        with StageProgress(SCHEMA.table, config.n_steps, "steps", quiet=in_worker) as progress:
            result = rl.train(
                problem,
                config,
                cell["seed"],
                final_episodes=FINAL_EPISODES,
                folder=folder,
                recipe={"cell": cell.name, "bundle": bundle, "demos": len(shown), **config.recipe()},
                report=report,
                demonstrations=shown,
            )
        rows: list[Row] = []
        for log in result.curve:
            last = log is result.curve[-1]
            done, success = log["eval/return"], log["eval/success"]
            if last:
                done = float(np.mean([each.episode_return for each in result.final]))
                success = float(np.mean([each.success for each in result.final]))
            rows.append(
                self._row(
                    cell,
                    task,
                    steps=int(log["step"]),
                    subtasks=round(done, 4),
                    success=round(success, 4),
                    episodes=len(result.final) if last else config.eval_episodes,
                    demos=len(shown),
                    leader=result.leader if last else "",
                    prior_share=round(log.get("train/prior_share", 0.0), 4),
                    steps_per_s=round(log.get("time/steps_per_s", 0.0), 1),
                    wall_s=round(time.monotonic() - started + result.earlier_s, 1),
                    bundle=bundle,
                )
            )
        shutil.rmtree(folder, ignore_errors=True)
        return rows

    def _demonstrations(self, replicate: Replicate, task: Task) -> list[Episode]:
        """All demonstrations of the task's things, as episodes of the task that did one of them and were then cut off."""
        episodes = replicate.labelled.episodes
        return [
            replace(run, task_id=task.id, success=False, success_step=None, terminated=False, truncated=True)
            for part in self.space.world.parts(task.id)
            for run in episodes[part]
        ]

    # Results ----------------------------------------------------------------------------------------------------------

    def message(self, rows: list[Row]) -> str:
        """Things done at each evaluation."""
        return (
            " ".join(f"{row['subtasks']:.2f}" for row in rows) + f" of {rows[0]['asked']} in {rows[-1]['wall_s']:.0f} s"
        )

    def results(self, rows: list[Row]) -> Results:
        """Means over the tasks of each group."""
        entries = summary(rows)
        columns = ("method", "tasks of", "steps", "things done", "95 %", "of", "all done", "tasks", "seeds")
        lines = [
            [
                entry["method"],
                entry["level"],
                f"{entry['steps']:,}" if entry["steps"] else "",
                f"{entry['subtasks']:.2f}",
                interval(entry["low"], entry["high"]),
                str(entry["asked"]),
                f"{entry['success']:.2f}",
                str(entry["tasks"]),
                str(entry["seeds"]),
            ]
            for entry in entries
        ]
        return Results([*rows], entries, [Grid(columns, lines), *_sooner(rows)], mixed(rows, ("method",)))


def _shown(space: Workspace, task: Task, seed: int) -> tuple[float, bool]:
    """Things that whoever demonstrates does in one episode, without noise, and whether that is all."""
    env: Env = space.world.make(task.id)
    show = space.world.demonstrator_in(task.id, env)
    assert show is not None
    observation, _ = env.reset(seed=seed)
    total, over, info = 0.0, False, dict[str, Any]()
    while not over:
        observation, reward, terminated, truncated, info = env.step(np.asarray(show(observation), np.float32))
        total, over = total + float(reward), terminated or truncated
    env.close()
    return total, bool(info["success"])


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry per (method, group, steps): the mean over tasks with its 95 % interval over seeds."""
    groups: defaultdict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["level"], row["steps"]].append(row)
    entries: list[dict[str, Any]] = []
    for (method, level, steps), members in groups.items():
        by_task: defaultdict[str, list[float]] = defaultdict(list)
        for row in members:
            by_task[row["task"]].append(row["subtasks"])
        mean, ends = stratified_mean([np.array(each) for each in by_task.values()])
        low, high = ends or (None, None)
        entries.append(
            {
                "method": method,
                "level": level,
                "steps": steps,
                "subtasks": round(mean, 4),
                "low": low if low is None else round(low, 4),
                "high": high if high is None else round(high, 4),
                "asked": members[0]["asked"],
                "success": round(float(np.mean([row["success"] for row in members])), 4),
                "tasks": len(by_task),
                "seeds": min(len(each) for each in by_task.values()),
            }
        )
    order = {name: number for number, name in enumerate((*UNTRAINED, *LEARNERS))}
    return sorted(entries, key=lambda entry: (entry["asked"], order[entry["method"]], entry["steps"]))


def _sooner(rows: Sequence[Row]) -> list[str]:
    """In how many steps runs came to most of their things, where they did."""
    arrived: defaultdict[str, list[float]] = defaultdict(list)
    runs: defaultdict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        if row["steps"]:
            runs[row["method"], row["task"], row["seed"]].append(row)
    for (method, _, _), own in runs.items():
        there = [row["steps"] for row in own if row["subtasks"] >= MOSTLY * row["asked"]]
        arrived[method].append(min(there, default=np.inf))
    return [
        f"{method}: {sum(np.isfinite(steps))} of {len(steps)} runs came to {MOSTLY:.0%} of their things, the median run after "
        + (f"{np.median(steps):,.0f} steps" if np.isfinite(np.median(steps)) else "more steps than it had")
        for method, steps in arrived.items()
    ]


def openers() -> dict[str, Opener]:
    """This table."""
    return {"sequences": Sequences}
