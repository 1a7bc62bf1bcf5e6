"""Levels of a world of discrete actions and goals in words: groups of tasks, of which only a few were demonstrated (`lago table T4`).

A cell is (method, level, seed): one row of `data/results/T4.csv`. Episodes go round the tasks of the level; actions are drawn from what a method thinks of
them, since whoever always takes the likeliest goes round in circles (`library-likeliest`). The seed is that of demonstrations, decoder, training and start states.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lago_skills import rl
from lago_skills.core import Task
from lago_skills.errors import StudyError
from lago_skills.experiments.baselines.cloning_policies import Forgetful, Uniform
from lago_skills.experiments.baselines.controllers import StepFollower
from lago_skills.experiments.cells import Cell, Column, Row, Schema, mixed
from lago_skills.experiments.evaluation_episodes import eval_seeds
from lago_skills.experiments.intervals import wilson
from lago_skills.experiments.replicate import Replicate, demonstrator
from lago_skills.experiments.table import Choice, Grid, Opener, Results, Table, demonstrated_tasks, refuse
from lago_skills.prior import DiscretePrior, Prior
from lago_skills.rl.config import PPOConfig
from lago_skills.stages import plan, train

if TYPE_CHECKING:
    from lago_skills.worlds.rollouts import EpisodePolicy, EpisodeResult

CLONES = {"bc": "bc-text", "cql": "cql-text"}
LIBRARIES = ("shuffled-library", "library", "library-likeliest")
LEARNERS = {"ppo": "ppo", "guided-ppo": "guided-ppo", "ppo-4x": "ppo"}
"""Methods that train online, and their learners; the last one has four times the steps."""
FROM_NOTHING = ("plan-controller", "demonstrator", "random")
N_EPISODES = 200
POWER = 1.5
"""Chances of clones and libraries are raised to this power before actions are drawn: all imitate demonstrators some of whose actions were random."""
ROLLOUT_STEPS = 2_000
"""Of all environments together, between updates."""
SCHEMA = Schema(
    "T4",
    (
        Column("table"),
        Column("study"),
        Column("task", about="the level: a group of the world's tasks"),
        Column("tasks", int, "how many it has"),
        Column("shown", int, "how many of them were demonstrated"),
        Column("method"),
        Column("seed", int),
        Column("steps", int, "environment steps of training; 0 for what needs none"),
        Column("success", float, "share of episodes"),
        Column("episodes", int),
        Column("episode_steps", float, "mean control steps of successful episodes; 0 where there are none"),
        Column("wall_s", float),
        Column("commit"),
        Column("bundle", about="fingerprint of what the policy or its guide was made from"),
    ),
    keys=("table", "study", "method", "task", "seed"),
    form="METHOD/LEVEL/SEED",
    label="{method}/{task}/{seed}".format_map,
)
Chances = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""(B, S) observations -> (B, A) chances of the actions."""


@dataclass
class Drawn:
    """Actions drawn from their chances; an episode's draws are always the same for one seed."""

    chances: Chances
    seed: int
    _generators: dict[int, np.random.Generator] = field(default_factory=dict[int, np.random.Generator])

    def __call__(self, observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, S) observations and (B,) numbers of the episodes they are of -> (B,) actions."""
        cumulative = np.cumsum(self.chances(observations), axis=1)
        draws = np.array([self._generator(number).random() for number in episodes.tolist()])
        beyond = draws[:, None] * cumulative[:, -1:] > cumulative
        return np.minimum(beyond.sum(axis=1), cumulative.shape[1] - 1)

    def _generator(self, episode: int) -> np.random.Generator:
        return self._generators.setdefault(episode, np.random.default_rng((self.seed, episode)))


def chances_of(prior: Prior) -> NDArray[np.float64]:
    """(B, A) what is drawn from of a prior over discrete actions, without its floor: its probabilities to the power `POWER`.

    Raises:
        StudyError: actions are continuous.
    """
    if not isinstance(prior, DiscretePrior):
        raise StudyError(
            "found a prior over continuous actions; expected discrete ones, of which this table draws; take the table zero-shot"
        )
    sharp = prior.probabilities() ** POWER
    return sharp / sharp.sum(axis=1, keepdims=True)


class Levels(Table):
    """Success by method and level."""

    schema = SCHEMA
    repeated = ("success", "episodes", "episode_steps", "bundle")

    @property
    def rules(self) -> tuple[str, ...]:
        """What a sceptic would write, by name."""
        return tuple(self.space.world.rules(self.space.study.seen[0].id))

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order in which they are printed: the simplest first."""
        return (*self.rules, *FROM_NOTHING, *CLONES, *LIBRARIES, *LEARNERS)

    def levels(self) -> list[str]:
        """Groups of the world all of whose tasks the study has, but those that are a part of another such group."""
        known, groups = set(demonstrated_tasks(self.space.study)), self.space.world.groups
        whole = {name: set(tasks) for name, tasks in groups.items() if set(tasks) <= known}
        return [name for name, own in whole.items() if not any(own < other for other in whole.values())]

    def cells(self, choice: Choice) -> list[Cell]:
        """Seeds, then methods, then levels."""
        choice.refuse_all(("demos",), "option", "none, since all methods have the study's demonstrations")
        names, known = choice.methods or list(self.methods), self.levels()
        refuse("method", [name for name in names if name not in self.methods], f"one of {', '.join(self.methods)}")
        levels = choice.tasks or known
        refuse("level", [name for name in levels if name not in known], f"one of {', '.join(known)}")
        return [
            SCHEMA.cell(study=self.space.study.name, method=method, task=level, seed=seed)
            for seed in choice.seeds_of()
            for method in names
            for level in levels
        ]

    def episodes(self) -> int:
        """Of a level."""
        return N_EPISODES

    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        """The row of a cell."""
        import torch

        torch.set_num_threads(1)
        started, replicate = time.monotonic(), self.replicate(cell["seed"])
        tasks = self.space.study.find([cell["task"]])
        steps, policy = 0, self._policies(cell, replicate)
        if cell["method"] in LEARNERS:
            steps, policy = self._trained(cell, replicate, tasks)
        results = self._played(tasks, policy, cell["seed"], n_episodes)
        needed = [each.steps for each in results if each.success]
        row = SCHEMA.row(
            **cell,
            tasks=len(tasks),
            shown=sum(task in self.space.study.seen for task in tasks),
            steps=steps,
            success=round(float(np.mean([each.success for each in results])), 4),
            episodes=len(results),
            episode_steps=round(float(np.mean(needed)), 1) if needed else 0.0,
            wall_s=round(time.monotonic() - started, 1),
            commit=self.commit,
            bundle=self._made_from(cell["method"], replicate),
        )
        return [row]

    def _played(
        self, tasks: Sequence[Task], policy: Callable[[Task], EpisodePolicy], seed: int, n_episodes: int
    ) -> list[EpisodeResult]:
        from lago_skills.worlds.rollouts import remembered_rollouts

        results: list[EpisodeResult] = []
        for number, task in enumerate(tasks[:n_episodes]):
            seeds = eval_seeds(seed, n_episodes)[number :: len(tasks)]
            results += remembered_rollouts(self.space.world, task, policy(task), seeds, lambda n: None)
        return results

    def _policies(self, cell: Cell, replicate: Replicate) -> Callable[[Task], EpisodePolicy]:
        """What acts in each task, of a method that needs no training."""
        method, seed = cell["method"], cell["seed"]
        if method in self.rules:
            return lambda task: _shown(self.space.world.rules(task.id)[method])
        if method == "demonstrator":
            return lambda task: _shown(demonstrator(self.space.world, task))
        if method == "plan-controller":
            return lambda task: self._follower(replicate, task)
        if method in CLONES:
            kind = "bc-text" if method == "bc" else "cql-text"
            return lambda task: _drawn(replicate.cloned(kind, task).prior, seed)
        if method in LIBRARIES:
            guide = replicate.shuffled if method == "shuffled-library" else replicate.guide
            if method == "library-likeliest":
                return lambda task: Forgetful(lambda seen: guide.prior(seen, task.id).greedy())
            return lambda task: _drawn(lambda seen: guide.prior(seen, task.id), seed)
        return lambda task: Uniform(self.space.study.grounding.action_space, seed)

    def _follower(self, replicate: Replicate, task: Task) -> EpisodePolicy:
        replicate.make(lambda: plan.jobs(replicate.space))
        grounding = replicate.space.study.grounding
        book = plan.load(replicate.space.artifact("playbooks"), grounding.vocabulary)[task.id]
        return StepFollower(book, self.space.world)

    def _made_from(self, method: str, replicate: Replicate) -> str:
        names = {"library": "library", "library-likeliest": "library", "guided-ppo": "library"}
        names |= {"shuffled-library": "random-library", **CLONES}
        return replicate.bundle(names[method]) if method in names else ""

    def _trained(
        self, cell: Cell, replicate: Replicate, tasks: tuple[Task, ...]
    ) -> tuple[int, Callable[[Task], EpisodePolicy]]:
        """Train one policy for all tasks of a level, which sees the goal as data; steps of training, and what it has learned."""
        from lago_skills.rl.policy import Priors
        from lago_skills.rl.world_problem import world_problem

        usual = train.learner_config(self.space.study.train, LEARNERS[cell["method"]])
        n_steps = usual.n_steps * (4 if cell["method"].endswith("-4x") else 1)
        changes = {"n_steps": n_steps, "eval_every": n_steps, "eval_episodes": 1}
        changes["rollout_steps"] = max(ROLLOUT_STEPS // len(tasks), 1)
        config = PPOConfig.model_validate(usual.model_dump() | changes)
        guide = replicate.guide if cell["method"] == "guided-ppo" else None
        problem = world_problem(self.space.world, tasks, self.space.study.grounding, guide, cell["seed"])
        result = rl.train(problem, config, cell["seed"])
        priors, numbers = Priors(problem, result.agent.layout), {task.id: n for n, task in enumerate(tasks)}

        def policy(task: Task) -> EpisodePolicy:
            if result.leader == "prior":
                return _drawn(lambda seen: replicate.guide.prior(seen, task.id), cell["seed"])

            def act(seen: NDArray[np.float64]) -> NDArray[Any]:
                own = np.full(len(seen), numbers[task.id])
                return result.agent.act(problem.see(seen, own), priors.rows(seen, own))

            return Forgetful(act)

        return n_steps, policy

    def message(self, rows: list[Row]) -> str:
        """Success."""
        (row,) = rows
        return f"{row['success']:.3f} of {row['episodes']} in {row['wall_s']:.0f} s"

    def results(self, rows: list[Row]) -> Results:
        """Success by method and level, over seeds; the simplest method first."""
        entries = summary(rows, self.methods)
        levels = list(dict.fromkeys(row["task"] for row in rows))
        lines: list[list[str]] = []
        for method in dict.fromkeys(entry["method"] for entry in entries):
            own = {entry["task"]: entry for entry in entries if entry["method"] == method}
            lines.append([method, *(_told(own.get(level)) for level in levels)])
        return Results([*rows], entries, [Grid(("method", *levels), lines)], mixed(rows, ("method",)))


def _drawn(prior: Callable[[NDArray[np.float64]], Prior], seed: int) -> EpisodePolicy:
    return Drawn(lambda seen: chances_of(prior(seen)), seed)


def _shown(choose: Callable[[NDArray[np.float64]], Any]) -> EpisodePolicy:
    return Forgetful(lambda seen: np.array([choose(row) for row in seen]))


def _told(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return ""
    return f"{entry['success']:.3f}"


def summary(rows: Sequence[Row], order: Sequence[str]) -> list[dict[str, Any]]:
    """One entry for each method and level: success over all episodes of all seeds, with Wilson's 95 % interval."""
    groups: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["task"]].append(row)
    entries: list[dict[str, Any]] = []
    for method, level in sorted(groups, key=lambda key: order.index(key[0])):
        own = groups[method, level]
        n_episodes = sum(row["episodes"] for row in own)
        n_good = round(sum(row["success"] * row["episodes"] for row in own))
        low, high = wilson(n_good, n_episodes)
        entries.append(
            {
                "method": method,
                "task": level,
                "success": round(n_good / n_episodes, 4),
                "low": round(low, 4),
                "high": round(high, 4),
                "episodes": n_episodes,
                "seeds": len(own),
                "steps": own[0]["steps"],
            }
        )
    return entries


def openers() -> dict[str, Opener]:
    """This table."""
    return {"T4": Levels}
