"""The loop of a soft actor-critic run: environments, replay, leaders, log and checkpoints around `lago_skills.rl.sac.update`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode
from lago_skills.errors import StudyError, TrainingStopped
from lago_skills.rl.checkpoint import Checkpoint, digest_of
from lago_skills.rl.config import Leader, SACConfig
from lago_skills.rl.drive import REPORT_EVERY, Report, TrainResult, Window, drive
from lago_skills.rl.envs import Envs
from lago_skills.rl.guidance.advice import Layout
from lago_skills.rl.guidance.harvest import Harvest
from lago_skills.rl.guidance.leaders import Leaders
from lago_skills.rl.policy import greedy_policy, look
from lago_skills.rl.problem import EpisodeOutcome, Problem, Stopwatch, evaluate, success_by_task, task_keys
from lago_skills.rl.runlog import Row
from lago_skills.rl.sac.replay import Batch, Columns, Replay, Running
from lago_skills.rl.sac.update import LOG_KEYS, SAC


def train(
    problem: Problem,
    config: SACConfig,
    seed: int,
    *,
    final_episodes: int = 0,
    demonstrations: Sequence[Episode] = (),
    folder: Path | None = None,
    recipe: dict[str, Any] | None = None,
    report: Report = lambda step, row: None,
) -> TrainResult[SAC]:
    """Train one policy; `report(step, row)` every 100 steps.

    With a `folder`, the log goes there (`curve.csv`, TensorBoard) and so does a checkpoint at each evaluation: the same call goes on from it, to
    the very curve of a run that was never cut if torch has as many threads. It must be of the same `recipe`, by default the configuration, the
    seed, the problem's name, the demonstrations and the priors of the first states. The last evaluation has `final_episodes` of each task.

    Raises:
        TrainingStopped: a reward, an observation or a loss that is not finite, with the step it came at; or an environment crashes again and again.
        StudyError: spaces that this algorithm does not know.
    """
    loop = SACLoop(problem, config, seed, demonstrations)
    keys = (*LOG_KEYS, *task_keys(problem))
    curve, final, earlier_s = drive(loop, config.n_steps, keys, recipe, folder, final_episodes, report)
    return TrainResult(loop.agent, loop.leaders.best(), curve, final, loop.harvest.episodes, earlier_s)


class SACLoop:
    """One run, a step of all environments at a time."""

    def __init__(self, problem: Problem, config: SACConfig, seed: int, demonstrations: Sequence[Episode]) -> None:
        self.problem, self.config, self.seed = problem, config, seed
        n_envs = problem.n_envs
        self.tasks = np.asarray(problem.env_tasks, np.int64)
        names = [f"environment {i} ({problem.tasks[task]})" for i, task in enumerate(problem.env_tasks)]
        self.envs = Envs([problem.make(task) for task in problem.env_tasks], names, problem.vectorize)
        space = self.envs.action_space
        if not isinstance(space, gymnasium.spaces.Box):
            self.envs.close()
            raise StudyError(
                f"action space: found {space}; soft actor-critic expected a Box of one axis; train with PPO instead"
            )
        self.action_size = int(space.shape[0])
        self.layout = Layout(self.action_size, config.n_components) if problem.adviser is not None else None
        self.rng = np.random.default_rng(seed)
        self.guiding = Stopwatch()
        self.step = self.n_episodes = self.n_updates = 0
        self.harvest = Harvest()
        self.debt = 0.0
        self.leaders = Leaders(config.leaders if self.layout is not None else ("policy",))
        self.window = Window()
        self.critic_losses: list[float] = []
        self.actor_losses: list[tuple[float, float]] = []
        self.places: list[Running] = []
        self.demonstrations = demonstrations
        self._started, self._before, self._evaluating = time.perf_counter(), 0.0, Stopwatch()
        first = self.envs.reset([problem.first_seed + i for i in range(n_envs)])
        self.n_episodes = n_envs
        states = problem.see(first, self.tasks)
        self.agent = SAC.create(states.shape[1], self.action_size, config, self.layout, seed)
        capacity = min(config.buffer_size, config.n_steps + n_envs)
        n_demonstrated = sum(len(each.actions) for each in demonstrations)
        self.columns = Columns(states.shape[1], self.action_size, self.layout.width if self.layout else 0)
        self.memory = Replay(capacity, self.columns, config.n_step, config.gamma)
        self.successful = Replay(capacity + n_demonstrated, self.columns, config.n_step, config.gamma)
        self._first = first

    def recipe(self) -> dict[str, Any]:
        """What this run is made from; another guide has other priors of the first states."""
        _, advice = self._look(self._first, self.tasks, [None] * len(self.tasks))
        shown = (array for each in self.demonstrations for array in (each.observations, each.actions, each.rewards))
        return {
            "problem": self.problem.name,
            "config": self.config.model_dump(),
            "seed": self.seed,
            "advice": digest_of([advice]),
            "demonstrations": digest_of(shown),
        }

    # Beginning and going on -------------------------------------------------------------------------------------------

    def begin(self, saved: Checkpoint | None) -> None:
        """Start, or go on from a checkpoint."""
        if saved is not None:
            self._load(saved)
            return
        for episode in self.demonstrations:
            self.successful.add_episode(self._remembered(episode), episode.success)
        for number in range(len(self.tasks)):
            self.places.append(self._begin_episode(number, self._first[number], self.problem.first_seed + number))

    def _remembered(self, episode: Episode) -> Running:
        """A demonstration with what networks see of each state, and the prior of each."""
        tasks = np.full(len(episode.observations), self.problem.tasks.index(episode.task_id), np.int64)
        states, advice = self._look(episode.observations.astype(np.float64), tasks, [None] * len(tasks))
        actions, rewards = list(episode.actions.astype(np.float32)), [float(reward) for reward in episode.rewards]
        return Running(
            episode.seed, "policy", None, list(episode.observations), list(states), list(advice), actions, rewards
        )

    def _next_episode(self, number: int) -> Running:
        seed = self.problem.first_seed + self.n_episodes
        self.n_episodes += 1
        return self._begin_episode(number, self.envs.restart(number, seed), seed)

    def _begin_episode(self, number: int, observation: NDArray[Any], seed: int) -> Running:
        shift: NDArray[np.float64] | None = None
        leader: Leader = "policy"
        states, advice = self._look(observation[None], self.tasks[number : number + 1], [None])
        if self.layout is not None and advice[0, 2 * self.action_size] < 1.0:  # it says something
            leader = self.leaders.draw(self.rng)
            if leader == "mix" and self.step < self.config.random_steps and "prior" in self.leaders.leaders:
                leader = "prior"  # there is no critic yet to choose
            if self.config.warm_start_updates and self.step < self.config.random_steps:
                leader = "explore"  # the policy is to know what to do where the prior leads
            shift = self._draw_shift(leader)
            if shift is not None:
                states, advice = self._look(observation[None], self.tasks[number : number + 1], [shift])
        return Running(seed, leader, shift, [observation], [states[0]], [advice[0]])

    def _draw_shift(self, leader: Leader) -> NDArray[np.float64] | None:
        adviser, scale = self.problem.adviser, self.config.plan_noise_m
        if (
            adviser is None
            or not adviser.n_plan_steps
            or leader != "explore"
            or scale == 0.0
            or self.rng.random() < 0.5
        ):
            return None
        centre = np.zeros((adviser.n_plan_steps, 3))
        shifts = self.harvest.shifts
        if shifts and self.rng.random() < 0.5:
            centre = shifts[int(self.rng.integers(len(shifts)))]
            scale = 0.25 * scale
        return centre + self.rng.normal(0.0, scale, centre.shape)

    # Stepping ---------------------------------------------------------------------------------------------------------

    def advance(self, tick: Callable[[int], None] = lambda step: None) -> None:
        """One step of every environment, and the updates that are due for it."""
        actions, by_prior = self._actions()
        observations, rewards, terminated, truncated, infos = self.envs.step(actions)
        n_envs = len(self.places)
        self.step += n_envs
        self.window.steps += n_envs
        self.window.prior_steps += int(by_prior.sum())
        states, advice = self._look(observations, self.tasks, [place.shift for place in self.places])
        for number, place in enumerate(self.places):
            ended = bool(terminated[number] or truncated[number])
            if infos[number].get("crashed"):  # nobody knows where that step led
                self.memory.add_cut_off(place)
            else:
                place.step(
                    actions[number], float(rewards[number]), observations[number], states[number], advice[number]
                )
                self.memory.add_latest(place, ended, bool(terminated[number]))
            if ended:
                self._end_episode(place, number, bool(terminated[number]), infos[number])
                self.places[number] = self._next_episode(number)
        self._learn(n_envs)
        if self.step % REPORT_EVERY < n_envs:
            tick(self.step)

    def _look(
        self, observations: NDArray[Any], tasks: NDArray[np.int64], shifts: Sequence[NDArray[np.float64] | None]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with self.guiding:
            return look(self.problem, self.layout, observations, tasks, shifts)

    def _actions(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(N, A) actions of all environments, and at which of them the prior acted."""
        places, early = self.places, self.step < self.config.random_steps
        states = np.stack([place.states[-1] for place in places])
        advice = np.stack([place.advice[-1] for place in places])
        leaders = [place.leader for place in places]
        asked = np.array([leader == "policy" or (leader == "mix" and not early) for leader in leaders])
        actions = np.zeros((len(places), self.action_size), np.float32)
        if asked.any():
            if early:
                actions[asked] = self.rng.uniform(-1.0, 1.0, (int(asked.sum()), self.action_size))
            else:
                actions[asked] = self.agent.act(states[asked], advice[asked], greedy=False)
        by_prior = np.array([leader != "policy" for leader in leaders])
        if not by_prior.any():
            return actions, by_prior
        assert self.layout is not None
        proposals = advice[:, : self.action_size].copy()
        explored = np.array([leader == "explore" for leader in leaders])
        if explored.any():
            proposals[explored] = self.layout.samples(advice[explored], self.rng)
        chosen = by_prior & asked  # led by the critic's choice
        if chosen.any():
            of_policy = self.agent.value(states[chosen], advice[chosen], actions[chosen])
            of_prior = self.agent.value(states[chosen], advice[chosen], proposals[chosen])
            by_prior[np.flatnonzero(chosen)[of_policy >= of_prior]] = False
        return np.where(by_prior[:, None], proposals, actions), by_prior

    def _end_episode(self, place: Running, number: int, terminated: bool, info: dict[str, Any]) -> None:
        success = self.problem.success_of(info, terminated)
        self.window.successes.append(success)
        self.window.returns.append(float(np.sum(place.rewards)))
        self.leaders.note(place.leader, success)
        if success and self.config.harvest:
            self.successful.add_episode(place, terminated)
            self.harvest.add(self.problem.tasks[int(self.tasks[number])], place)

    def fade(self) -> float:
        """What is left now of the weights of density and imitation, 1 to 0."""
        if self.config.fade == "linear":
            return max(0.0, 1.0 - self.step / (self.config.fade_until * self.config.n_steps))
        return self.leaders.lead_of_prior() if self.config.fade == "adaptive" else 1.0

    def _learn(self, n_steps: int) -> None:
        config = self.config
        if self.step <= config.random_steps or self.memory.size < config.batch_size:
            return
        if self.n_updates == 0 and self.leaders.spoken:
            for _ in range(config.warm_start_updates):
                self.agent.warm_start(Batch(self.memory.sample(self.rng, config.batch_size), self.columns))
        self.debt += config.updates_per_step * n_steps
        fade = self.fade()
        density, imitation = fade * config.density_weight, fade * config.imitation_weight
        while self.debt >= 1.0:
            self.debt -= 1.0
            n_successful = int(config.success_share * config.batch_size) if self.successful.size else 0
            rows = self.memory.sample(self.rng, config.batch_size - n_successful)
            if n_successful:
                rows = np.concatenate([rows, self.successful.sample(self.rng, n_successful)])
            batch = Batch(rows, self.columns)
            self.critic_losses.append(self._checked(self.agent.update_critics(batch, density)))
            self.n_updates += 1
            if self.n_updates % config.actor_every == 0:
                self.actor_losses.append(self.agent.update_actor(batch, n_successful, imitation, density))
        del self.critic_losses[:-100], self.actor_losses[:-100]

    def _checked(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise TrainingStopped(
                f"{self.problem.name}, update {self.n_updates + 1} at step {self.step}: found loss/critic = {loss}; expected a finite number; "
                "lower the learning rate, or scale the rewards"
            )
        return loss

    # Telling ----------------------------------------------------------------------------------------------------------

    def due(self) -> bool:
        """Whether a row of the log is due: every `eval_every` steps, at `eval_early`, and at the end."""
        before, every = self.step - len(self.places), self.config.eval_every
        early = any(before < at <= self.step for at in self.config.eval_early)
        return early or self.step // every > before // every or self.step >= self.config.n_steps

    def evaluate(self, n_episodes: int) -> list[EpisodeOutcome]:
        """Greedy episodes on the evaluation seeds."""
        leader = self.leaders.best()
        with self._evaluating:
            return evaluate(self.problem, greedy_policy(self.problem, self.agent, leader), n_episodes)

    def _elapsed(self) -> float:
        return self._before + time.perf_counter() - self._started - self._evaluating.seconds

    def row(self) -> Row:
        """Evaluate, and say how things stand."""
        outcomes = self.evaluate(self.config.eval_episodes)
        window, self.window = self.window, Window()
        critic = np.asarray(self.critic_losses or [np.nan])
        actor = np.asarray(self.actor_losses or [(np.nan, np.nan)])
        crashes = sum(crashed for _, crashed in self.envs.counts())
        return {
            "step": self.step,
            "eval/success": float(np.mean([each.success for each in outcomes])),
            "eval/return": float(np.mean([each.episode_return for each in outcomes])),
            "eval/crashes": sum(each.crashed for each in outcomes),
            "train/success": window.success(),
            "train/return": window.mean_return(),
            "train/episodes": self.n_episodes - len(self.places),
            "train/harvested": len(self.harvest.episodes),
            "train/prior_share": window.prior_share(),
            "train/fade": self.fade(),
            "train/crashes": crashes,
            "loss/critic": float(critic.mean()),
            "loss/actor": float(actor[:, 0].mean()),
            "value/q": float(actor[-1, 1]),
            "value/alpha": self.agent.alpha,
            "time/steps_per_s": self.step / self._elapsed(),
            "time/guide_share": self.guiding.seconds / self._elapsed(),
            **success_by_task(self.problem, outcomes),
        }

    # Keeping ----------------------------------------------------------------------------------------------------------

    def checkpoint(self, curve: list[Row]) -> Checkpoint:
        """Everything that the run goes on from."""
        kept = Checkpoint()
        self.agent.put(kept)
        self.memory.put(kept, "memory")
        self.successful.put(kept, "successful")
        kept.put_generator("generator", self.rng)
        self.harvest.put(kept)
        for number, (place, (_, actions)) in enumerate(zip(self.places, self.envs.positions(), strict=True)):
            place.put(kept, f"running/{number}")
            if len(actions):
                kept.put(f"replay/{number}", actions)
        kept.put("losses/critic", np.asarray(self.critic_losses, np.float64))
        kept.put("losses/actor", np.asarray(self.actor_losses, np.float64).reshape(-1, 2))
        kept.values |= {
            "curve": curve,
            "counters": [self.step, self.n_episodes, self.n_updates, self.debt],
            "leaders": self.leaders.values(),
            "counts": self.envs.counts(),
            "seconds": [self._elapsed(), self.guiding.seconds],
        }
        return kept

    def _load(self, kept: Checkpoint) -> None:
        values = kept.values
        self.agent.get(kept)
        self.memory.get(kept, "memory")
        self.successful.get(kept, "successful")
        self.harvest.get(kept)
        self.step, self.n_episodes, self.n_updates, self.debt = values["counters"]
        self.leaders.set_values(values["leaders"])
        self.critic_losses = kept.array("losses/critic").tolist()
        self.actor_losses = [(float(a), float(b)) for a, b in kept.array("losses/actor")]
        kept.load_generator("generator", self.rng)
        for number, counts in enumerate(values["counts"]):
            place = Running.get(kept, f"running/{number}")
            replay = list(kept.array(f"replay/{number}")) if f"replay/{number}" in kept.arrays else []
            there = self.envs.go_back(number, place.seed, replay, counts, place.observations[-1])
            self.places.append(place if there else self._next_episode(number))
        self._before, self.guiding.seconds = values["seconds"]

    def close(self) -> None:
        """Free the environments."""
        self.envs.close()
