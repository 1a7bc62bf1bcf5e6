"""The loop of a PPO run: environments, rollouts, trial of the prior, log and checkpoints around `lago_skills.rl.ppo.update`."""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from lago_skills.errors import TrainingStopped
from lago_skills.rl.checkpoint import Checkpoint, digest_of
from lago_skills.rl.config import Leader, PPOConfig
from lago_skills.rl.drive import REPORT_EVERY, Report, TrainResult, Window, drive
from lago_skills.rl.envs import Envs
from lago_skills.rl.guidance.advice import DiscreteLayout, Layout
from lago_skills.rl.guidance.harvest import Harvest
from lago_skills.rl.guidance.trial import Trial
from lago_skills.rl.policy import greedy_policy, pack
from lago_skills.rl.ppo.rollout import Rollout, advantages_and_targets, join
from lago_skills.rl.ppo.update import LOG_KEYS, PPO, UPDATE_KEYS, Rows
from lago_skills.rl.problem import EpisodeOutcome, Problem, Stopwatch, evaluate, success_by_task, task_keys
from lago_skills.rl.runlog import Row
from lago_skills.rl.sac.replay import Running

TRIAL_SHARE = 0.1
"""Of the run after which a trial ends in any case."""


def train(
    problem: Problem,
    config: PPOConfig,
    seed: int,
    *,
    final_episodes: int = 0,
    folder: Path | None = None,
    recipe: dict[str, Any] | None = None,
    report: Report = lambda step, row: None,
) -> TrainResult[PPO]:
    """Train one policy; `report(step, row)` every 100 steps.

    With a `folder`, the log goes there (`curve.csv`, TensorBoard) and so does a checkpoint at each evaluation: the same call goes on from it, to
    the very curve of a run that was never cut if torch has as many threads. It must be of the same `recipe`, by default the configuration, the
    seed, the problem's name and the priors of the first states. The last evaluation has `final_episodes` of each task.

    Raises:
        TrainingStopped: a reward, an observation or a loss that is not finite, with the step it came at; or an environment crashes again and again.
        StudyError: spaces that this algorithm does not know.
        ShapeError: a prior over other actions than the environment has.
    """
    loop = PPOLoop(problem, config, seed)
    keys = (*LOG_KEYS, *task_keys(problem))
    curve, final, earlier_s = drive(loop, config.n_steps, keys, recipe, folder, final_episodes, report)
    return TrainResult(loop.agent, "policy", curve, final, loop.harvest.episodes, earlier_s)


class PPOLoop:
    """One run, a rollout and its update at a time."""

    def __init__(self, problem: Problem, config: PPOConfig, seed: int) -> None:
        self.problem, self.config, self.seed = problem, config, seed
        self.tasks = np.asarray(problem.env_tasks, np.int64)
        names = [f"environment {i} ({problem.tasks[task]})" for i, task in enumerate(problem.env_tasks)]
        self.envs = Envs([problem.make(task) for task in problem.env_tasks], names, problem.vectorize)
        space = self.envs.action_space
        self.discrete = isinstance(space, gymnasium.spaces.Discrete)
        self.action_size = int(space.n) if isinstance(space, gymnasium.spaces.Discrete) else int(space.shape[0])
        self.layout: Layout | DiscreteLayout | None = None
        if problem.adviser is not None:
            size = self.action_size
            self.layout = DiscreteLayout(size) if self.discrete else Layout(size, config.n_components)
        self.guiding, self._evaluating = Stopwatch(), Stopwatch()
        self.step = self._rollout_start = 0
        self.harvest, self.window = Harvest(), Window()
        self.trial = Trial(len(problem.tasks), turns=config.trial_by == "turns")
        self.trying = self.layout is not None and config.trial_episodes > 0
        self.warm = False
        """Whether the latest rollout ended in a warm start."""
        self.tried: list[Rollout] = []
        self.said: dict[str, float] = dict.fromkeys(UPDATE_KEYS, np.nan)
        self.explained = float("nan")
        self.places: list[Running] = []
        self._started, self._before = time.perf_counter(), 0.0
        self._first = self.envs.reset([problem.first_seed + i for i in range(problem.n_envs)])
        self.n_episodes = problem.n_envs
        size = problem.see(self._first, self.tasks).shape[1]
        self.agent = PPO.create(size, self.action_size, config, self.layout, seed, discrete=self.discrete)

    def recipe(self) -> dict[str, Any]:
        """What this run is made from; another guide has other priors of the first states."""
        advice = [] if self.layout is None else [self._advice(self._first, self.tasks)]
        return {
            "problem": self.problem.name,
            "config": self.config.model_dump(),
            "seed": self.seed,
            "advice": digest_of(advice),
        }

    # Beginning and going on -------------------------------------------------------------------------------------------

    def begin(self, saved: Checkpoint | None) -> None:
        """Start, or go on from a checkpoint."""
        if saved is not None:
            self._load(saved)
            return
        for number in range(len(self.tasks)):
            seed = self.problem.first_seed + number
            self.places.append(self._begin_episode(number, self._first[number], seed, ("policy", "prior")[number % 2]))

    def _begin_episode(self, number: int, observation: NDArray[Any], seed: int, turn: Leader) -> Running:
        tasks = self.tasks[number : number + 1]
        leader: Leader = "policy"
        if self.trying and (turn == "prior" or not self.trial.turns) and self.layout is not None:
            advice = torch.from_numpy(self._advice(observation[None], tasks))
            if not bool(self.layout.silent(advice)[0]):
                leader = "prior"
        state = self.problem.see(observation[None], tasks)[0]
        return Running(seed, leader, None, [observation], [state], [np.zeros(1, np.float32)])

    # Stepping ---------------------------------------------------------------------------------------------------------

    def advance(self, tick: Callable[[int], None] = lambda step: None) -> None:
        """A rollout and the updates on it."""
        n_envs, self._rollout_start, self.warm = len(self.places), self.step, False
        n_steps = min(self.config.rollout_steps, -(-(self.config.n_steps - self.step) // n_envs))
        width = self.layout.width if self.layout is not None else 0
        observations = np.stack([place.observations[-1] for place in self.places])
        states = np.stack([place.states[-1] for place in self.places])
        shape, kind = ((), np.int64) if self.discrete else ((self.action_size,), np.float32)
        rollout = Rollout.empty(n_steps, observations, states, width, shape, kind)
        for t in range(n_steps):
            observations, states = self._step(rollout, t, observations, states)
            if self.step % REPORT_EVERY < n_envs:
                tick(self.step)
        self._learn(rollout, observations, states)

    def _step(
        self, rollout: Rollout, t: int, observations: NDArray[Any], states: NDArray[np.float32]
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """One step of every environment; returns the observations and states after it."""
        n_envs = len(self.places)
        by_prior = np.array([place.leader == "prior" for place in self.places])
        rollout.observations[t], rollout.states[t], rollout.by_prior[t] = observations, states, by_prior
        asked = np.ones(n_envs, np.bool_) if self.agent.layout is not None else by_prior
        if asked.any():
            rollout.advice[t, asked] = self._advice(observations[asked], self.tasks[asked])
            rollout.advised[t] = asked
        actions = self.agent.act(states, rollout.advice[t])
        if by_prior.any():
            led = self.agent.greedy(states, rollout.advice[t], "prior")
            actions = np.where(by_prior if self.discrete else by_prior[:, None], led, actions)
        rollout.actions[t] = actions
        done = actions if self.discrete else np.clip(actions, -1.0, 1.0)
        after, rewards, terminated, truncated, infos = self.envs.step(done)
        self.step += n_envs
        self.window.steps += n_envs
        self.window.prior_steps += int(by_prior.sum())
        rollout.rewards[t], rollout.terminated[t], rollout.truncated[t] = rewards, terminated, truncated & ~terminated
        for number, place in enumerate(self.places):
            rollout.crashed[t, number] = crashed = bool(infos[number].get("crashed", False))
            if not crashed:
                place.actions.append(done[number])
                place.rewards.append(float(rewards[number]))
                place.observations.append(after[number])
            if terminated[number] or truncated[number]:
                if not terminated[number] and not crashed:
                    cut = self.problem.see(after[number : number + 1], self.tasks[number : number + 1])[0]
                    rollout.cut_off[t, number] = after[number].copy(), cut
                after[number] = self._end_episode(place, number, bool(terminated[number]), infos[number])
        states = self.problem.see(after, self.tasks)
        for place, state in zip(self.places, states, strict=True):
            place.states[0] = state
        return after, states

    def _end_episode(self, place: Running, number: int, terminated: bool, info: dict[str, Any]) -> NDArray[Any]:
        """Count an episode and begin the next; returns its first observation."""
        task, by_prior = int(self.tasks[number]), place.leader == "prior"
        success, total = self.problem.success_of(info, terminated), float(np.sum(place.rewards))
        self.window.successes.append(success)
        self.window.returns.append(total)
        self.trial.note(task, by_prior, total, untrained=self.trying)
        if success and self.config.harvest:
            self.harvest.add(self.problem.tasks[task], place)
        return self._next_episode(number, "policy" if by_prior else "prior")

    def _next_episode(self, number: int, turn: Leader) -> NDArray[Any]:
        seed = self.problem.first_seed + self.n_episodes
        self.n_episodes += 1
        observation = self.envs.restart(number, seed)
        self.places[number] = self._begin_episode(number, observation, seed, turn)
        return observation

    def _advice(self, observations: NDArray[Any], tasks: NDArray[np.int64]) -> NDArray[np.float32]:
        assert self.layout is not None
        assert self.problem.adviser is not None
        with self.guiding:
            prior = self.problem.adviser.prior(observations, tasks, [None] * len(tasks))
            return pack(prior, self.layout, self.problem.name)

    # Learning ---------------------------------------------------------------------------------------------------------

    def density_weights(self) -> NDArray[np.float32]:
        """(n_tasks,) weights of the divergence now."""
        config, n_tasks = self.config, len(self.problem.tasks)
        if self.layout is None:
            return np.zeros(n_tasks, np.float32)
        fade = max(0.0, 1.0 - self.step / (config.fade_until * config.n_steps))
        leads = np.ones(n_tasks)
        if config.fade == "adaptive":
            leads = np.array([self.trial.lead(task) for task in range(n_tasks)])
        return (config.density_weight * leads * (1.0 if config.fade == "constant" else fade)).astype(np.float32)

    def _learn(self, rollout: Rollout, observations: NDArray[Any], states: NDArray[np.float32]) -> None:
        weights = np.broadcast_to(self.density_weights()[self.tasks], rollout.rewards.shape)
        self._advise(rollout, np.ones_like(rollout.advised) if self.trying else weights > 0.0)
        rows = self._rows(rollout, observations, states, weights, self.config.gae_lambda)
        chosen = torch.from_numpy(np.flatnonzero(~(rollout.by_prior | rollout.crashed).reshape(-1)))
        if len(chosen) > 1:
            progress = self.step / self.config.n_steps
            self.said = self.agent.update(rows if len(chosen) == len(rows) else rows[chosen], progress)
            self._check()
        if self.config.normalize_states:
            self.agent.normalizer.see(rows.state[torch.from_numpy(~rollout.crashed.reshape(-1))])
        if self.trying:
            self.tried.append(rollout)
            if self.trial.over(self.config.trial_episodes) or self.step >= TRIAL_SHARE * self.config.n_steps:
                self.trying = False
                self._warm_start(observations, states)

    def _check(self) -> None:
        """Refuse to go on with losses that are not finite."""
        for name, value in self.said.items():
            if not np.isfinite(value):
                raise TrainingStopped(
                    f"{self.problem.name}, update after step {self.step}: found {name} = {value}; expected finite numbers; lower the "
                    "learning rate, or scale the rewards"
                )

    def _advise(self, rollout: Rollout, wanted: NDArray[np.bool_]) -> None:
        """Ask for the priors that are wanted and not there yet, all at once."""
        if self.layout is None:
            return
        missing = wanted & ~rollout.advised
        if missing.any():
            tasks = np.broadcast_to(self.tasks, missing.shape)[missing]
            rollout.advice[missing] = self._advice(rollout.observations[missing], tasks)
            rollout.advised |= missing

    def _rows(
        self,
        rollout: Rollout,
        observations: NDArray[Any],
        states: NDArray[np.float32],
        weights: NDArray[np.float32],
        gae_lambda: float,
    ) -> Rows:
        """A rollout as rows to learn from, step by step, the environments of a step side by side."""
        agent, n_steps, n_envs = self.agent, *rollout.rewards.shape
        advice = torch.from_numpy(rollout.advice.reshape(n_steps * n_envs, -1))
        flat = torch.from_numpy(rollout.states.reshape(n_steps * n_envs, -1))
        actions = torch.from_numpy(rollout.actions.reshape(n_steps * n_envs, *rollout.actions.shape[2:]))
        cut = list(rollout.cut_off.values())
        after = np.concatenate([states, *(state[None] for _, state in cut)])
        after_advice = np.zeros((len(after), advice.shape[1]), np.float32)
        if agent.layout is not None:
            seen = np.concatenate([observations, *(observation[None] for observation, _ in cut)])
            tasks = np.concatenate([self.tasks, self.tasks[[number for _, number in rollout.cut_off]]])
            after_advice = self._advice(seen, tasks)
        with torch.inference_mode():
            values = agent.values(flat, advice).numpy().reshape(n_steps, n_envs)
            log_probs = agent.policy(flat, advice).log_prob(actions)
            later = agent.values(torch.from_numpy(after), torch.from_numpy(after_advice)).numpy()
        found, targets = advantages_and_targets(rollout, values, later, self.config.gamma, gae_lambda)
        errors, spread = (float(np.var(each, dtype=np.float64)) for each in (targets - values, targets))
        self.explained = 1.0 - errors / (spread + 1e-8)
        weight = torch.from_numpy(np.ascontiguousarray(weights).reshape(-1))
        if self.layout is not None:
            weight = torch.where(self.layout.silent(advice), torch.zeros_like(weight), weight)
        ahead, goals = torch.from_numpy(found.reshape(-1)), torch.from_numpy(targets.reshape(-1))
        return Rows(flat, advice, actions, log_probs.clone(), ahead, goals, weight)

    def _warm_start(self, observations: NDArray[Any], states: NDArray[np.float32]) -> None:
        """Draw policy and critic to the prior on the tasks where it did better than the untrained policy."""
        tried, self.tried = self.tried, []
        good = np.array([self.trial.accepted(task) for task in range(len(self.problem.tasks))])[self.tasks]
        if not good.any() or not self.config.warm_start_updates:
            return
        whole = join(tried)
        # returns of whole episodes as they were: the critic has nothing to say yet
        rows = self._rows(whole, observations, states, np.zeros(whole.rewards.shape, np.float32), 1.0)
        self.warm = True
        on_good = good & ~whole.crashed
        assert self.layout is not None
        speaks = ~self.layout.silent(rows.advice).numpy() & on_good.reshape(-1)
        led = (whole.by_prior & on_good).reshape(-1)
        self.agent.warm_start(*(rows[torch.from_numpy(np.flatnonzero(chosen))] for chosen in (speaks, led)))

    # Telling ----------------------------------------------------------------------------------------------------------

    def due(self) -> bool:
        """Whether a row of the log is due: when a rollout has passed a multiple of `eval_every`, after a warm start, and at the end."""
        before, every = self._rollout_start, self.config.eval_every
        return self.warm or self.step // every > before // every or self.step >= self.config.n_steps

    def evaluate(self, n_episodes: int) -> list[EpisodeOutcome]:
        """Episodes by the policy's mode on the evaluation seeds."""
        with self._evaluating:
            return evaluate(self.problem, greedy_policy(self.problem, self.agent, "policy"), n_episodes)

    def _elapsed(self) -> float:
        return self._before + time.perf_counter() - self._started - self._evaluating.seconds

    def row(self) -> Row:
        """Evaluate, and say how things stand."""
        outcomes = self.evaluate(self.config.eval_episodes)
        window, self.window = self.window, Window()
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
            "train/density_weight": float(self.density_weights().mean()),
            "train/crashes": sum(crashed for _, crashed in self.envs.counts()),
            **self.said,
            "value/explained_variance": self.explained,
            "time/steps_per_s": self.step / self._elapsed(),
            "time/guide_share": self.guiding.seconds / self._elapsed(),
            **success_by_task(self.problem, outcomes),
        }

    # Keeping ----------------------------------------------------------------------------------------------------------

    def checkpoint(self, curve: list[Row]) -> Checkpoint:
        """Everything that the run goes on from."""
        kept = Checkpoint()
        self.agent.put(kept)
        self.harvest.put(kept)
        for number, (place, (_, actions)) in enumerate(zip(self.places, self.envs.positions(), strict=True)):
            place.put(kept, f"running/{number}")
            if len(actions):
                kept.put(f"replay/{number}", actions)
        for number, each in enumerate(self.tried):
            each.put(kept, f"tried/{number}")
        kept.values |= {
            "curve": curve,
            "counters": [self.step, self.n_episodes, self.trying],
            "trial": self.trial.values(),
            "n_tried": len(self.tried),
            "said": [self.said, self.explained],
            "counts": self.envs.counts(),
            "seconds": [self._elapsed(), self.guiding.seconds],
        }
        return kept

    def _load(self, kept: Checkpoint) -> None:
        values = kept.values
        self.agent.get(kept)
        self.harvest.get(kept)
        self.step, self.n_episodes, self.trying = values["counters"]
        self.trial.set_values(values["trial"])
        self.said, self.explained = values["said"]
        self.tried = [Rollout.get(kept, f"tried/{number}") for number in range(values["n_tried"])]
        for number, counts in enumerate(values["counts"]):
            place = Running.get(kept, f"running/{number}")
            replay = list(kept.array(f"replay/{number}")) if f"replay/{number}" in kept.arrays else []
            self.places.append(place)
            if not self.envs.go_back(number, place.seed, replay, counts, place.observations[-1]):
                self._next_episode(number, place.leader)
        self._before, self.guiding.seconds = values["seconds"]

    def close(self) -> None:
        """Free the environments."""
        self.envs.close()
