"""A run of proximal policy optimisation: rollouts, the trial of the prior, and the weight of the prior in the loss.

The objective and every log key: `docs/algorithms/ppo.md`. Networks and losses: `lago_skills.rl.ppo.agent`.
"""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lago_skills.errors import StudyError, TrainingStopped
from lago_skills.rl.algorithm import Choice, Phase, RunningEpisode, Setup, Transition
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import Leader, PPOConfig
from lago_skills.rl.guidance.trial import Trial
from lago_skills.rl.policy import Priors, layout_for
from lago_skills.rl.ppo.agent import PPO, UPDATE_KEYS, Rows
from lago_skills.rl.ppo.rollout import Rollout, advantages_and_targets, join

LOG_KEYS = (
    "eval/success",
    "eval/return",
    "eval/crashes",
    "train/success",
    "train/return",
    "train/episodes",
    "train/harvested",
    "train/prior_share",
    "train/density_weight",
    "train/crashes",
    *UPDATE_KEYS,
    "value/explained_variance",
    "time/steps_per_s",
    "time/guide_share",
)
TRIAL_SHARE = 0.1
"""Of the run after which a trial ends in any case."""


class ProximalPolicyOptimisation:
    """Rollouts, trial and updates of one run; see `lago_skills.rl.algorithm.Algorithm` for the methods.

    Raises:
        StudyError: demonstrations, of which this algorithm learns nothing, or a device that is not there.
    """

    log_keys: tuple[str, ...] = LOG_KEYS

    def __init__(self, setup: Setup, config: PPOConfig) -> None:
        if setup.demonstrations:
            raise StudyError(
                f"demonstrations: found {len(setup.demonstrations)}; expected none, since PPO learns of its own rollouts alone; "
                "train with soft actor-critic, or leave them out"
            )
        actions, problem = setup.actions, setup.problem
        self.setup, self.config, self.tasks = setup, config, setup.tasks
        self.discrete, self.action_size = actions.discrete, actions.size
        self.layout = layout_for(problem, actions, config.n_components)
        self.priors = Priors(problem, self.layout)
        self.agent = PPO.create(
            setup.state_size, self.action_size, config, self.layout, setup.seed, discrete=self.discrete
        )
        self.trial = Trial(len(problem.tasks), turns=config.trial_by == "turns")
        self.trying = self.layout is not None and config.trial_episodes > 0
        """Whether the trial of the prior goes on."""
        self.turns: list[Leader] = ["prior" if number % 2 else "policy" for number in range(problem.n_envs)]
        """Who leads the next episode of each environment while the trial goes on."""
        self.trial_rollouts: list[Rollout] = []
        self.rollout: Rollout | None = None
        self.t = 0
        """Steps of the rollout so far."""
        self.losses: dict[str, float] = dict.fromkeys(UPDATE_KEYS, math.nan)
        self.explained_variance = math.nan

    # Episodes ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Nothing."""

    def begin_episode(
        self, number: int, seed: int, observation: NDArray[Any], state: NDArray[np.float32], step: int
    ) -> RunningEpisode:
        """The prior leads while it is tried and says something: every other episode, or all of them."""
        leader: Leader = "policy"
        if self.trying and self.layout is not None and (self.turns[number] == "prior" or not self.trial.turns):
            advice = self.priors.rows(observation[None], self.tasks[number : number + 1])
            if not bool(self.layout.silent(torch.from_numpy(advice))[0]):
                leader = "prior"
        return RunningEpisode(seed, leader, None, [observation], [state], [])

    def end_episode(self, number: int, episode: RunningEpisode, terminated: bool, success: bool) -> None:
        """Compare its return with those that the other led."""
        by_prior = episode.leader == "prior"
        self.trial.note(int(self.tasks[number]), by_prior, float(np.sum(episode.rewards)), untrained=self.trying)
        self.turns[number] = "policy" if by_prior else "prior"

    # Steps ------------------------------------------------------------------------------------------------------------

    def act(self, episodes: Sequence[RunningEpisode], step: int) -> Choice:
        """A sample of the policy, or the prior's mean where it leads. The guide is asked now only where that needs it."""
        observations = np.stack([episode.observations[-1] for episode in episodes])
        states = np.stack([episode.states[-1] for episode in episodes])
        rollout = self.rollout = self.rollout or self._empty_rollout(observations, states, step)
        by_prior = np.array([episode.leader == "prior" for episode in episodes])
        t = self.t
        rollout.observations[t], rollout.states[t], rollout.by_prior[t] = observations, states, by_prior
        needed = np.ones(len(episodes), np.bool_) if self.agent.layout is not None else by_prior
        if needed.any():
            rollout.advice[t, needed] = self.priors.rows(observations[needed], self.tasks[needed])
            rollout.advised[t] = needed
        actions = self.agent.act(states, rollout.advice[t])
        if by_prior.any():
            proposals = self.agent.greedy(states, rollout.advice[t], "prior")
            actions = np.where(by_prior if self.discrete else by_prior[:, None], proposals, actions)
        rollout.actions[t] = actions
        return Choice(actions if self.discrete else np.clip(actions, -1.0, 1.0), by_prior)

    def _empty_rollout(self, observations: NDArray[Any], states: NDArray[np.float32], step: int) -> Rollout:
        """Of `rollout_steps` steps, or of what is left of the run."""
        self.t = 0
        n_steps = min(self.config.rollout_steps, -(-(self.config.n_steps - step) // len(states)))
        width = self.layout.width if self.layout is not None else 0
        shape, kind = ((), np.int64) if self.discrete else ((self.action_size,), np.float32)
        return Rollout.empty(n_steps, observations, states, width, shape, kind)

    def observe(self, transition: Transition, episodes: Sequence[RunningEpisode]) -> None:
        """Add a step to the rollout."""
        assert self.rollout is not None
        rollout, t = self.rollout, self.t
        rollout.rewards[t], rollout.terminated[t] = transition.rewards, transition.terminated
        rollout.truncated[t], rollout.crashed[t] = transition.truncated & ~transition.terminated, transition.crashed
        for number in np.flatnonzero(rollout.truncated[t] & ~transition.crashed).tolist():
            rollout.cut_off[t, number] = transition.observations[number], transition.states[number]
        self.t += 1

    # Updates ----------------------------------------------------------------------------------------------------------

    def learn(self, episodes: Sequence[RunningEpisode], step: int) -> Phase:
        """At the end of a rollout: the updates on it, and a warm start when the trial ends with it, which is a milestone."""
        rollout = self.rollout
        if rollout is None or self.t < len(rollout.rewards):
            return "collecting"
        self.rollout = None
        observations = np.stack([episode.observations[-1] for episode in episodes])
        states = np.stack([episode.states[-1] for episode in episodes])
        self._update(rollout, observations, states, step)
        if not self.trying:
            return "between updates"
        self.trial_rollouts.append(rollout)
        over = self.trial.over(self.config.trial_episodes) or step >= TRIAL_SHARE * self.config.n_steps
        self.trying = not over
        return "milestone" if over and self._warm_start(observations, states) else "between updates"

    def _update(self, rollout: Rollout, observations: NDArray[Any], states: NDArray[np.float32], step: int) -> None:
        """Some epochs on a rollout; observations and states are those after it."""
        weights = np.broadcast_to(self.density_weights(step)[self.tasks], rollout.rewards.shape)
        self._advise(rollout, np.ones_like(rollout.advised) if self.trying else weights > 0.0)
        rows = self._rows(rollout, observations, states, weights, self.config.gae_lambda)
        own = torch.from_numpy(np.flatnonzero(~(rollout.by_prior | rollout.crashed).reshape(-1)))
        if len(own) > 1:
            progress = step / self.config.n_steps
            self.losses = self.agent.update(rows if len(own) == len(rows) else rows[own], progress)
            self._check(step)
        if self.config.normalize_states:
            self.agent.normalizer.update(rows.state[torch.from_numpy(~rollout.crashed.reshape(-1))])

    def density_weights(self, step: int) -> NDArray[np.float32]:
        """(n_tasks,) weights of the divergence from the prior."""
        config, n_tasks = self.config, len(self.setup.problem.tasks)
        if self.layout is None:
            return np.zeros(n_tasks, np.float32)
        fade = max(0.0, 1.0 - step / (config.fade_until * config.n_steps))
        leads = np.ones(n_tasks)
        if config.fade == "adaptive":
            leads = np.array([self.trial.lead(task) for task in range(n_tasks)])
        return (config.density_weight * leads * (1.0 if config.fade == "constant" else fade)).astype(np.float32)

    def _check(self, step: int) -> None:
        """Refuse to go on with losses that are not finite."""
        for name, value in self.losses.items():
            if not np.isfinite(value):
                raise TrainingStopped(
                    f"{self.setup.problem.name}, update after step {step}: found {name} = {value}; expected finite numbers; lower the "
                    "learning rate, or scale the rewards"
                )

    def _advise(self, rollout: Rollout, wanted: NDArray[np.bool_]) -> None:
        """Ask for the priors that are wanted (T, N) and not there yet, all at once."""
        missing = wanted & ~rollout.advised
        if self.layout is not None and missing.any():
            tasks = np.broadcast_to(self.tasks, missing.shape)[missing]
            rollout.advice[missing] = self.priors.rows(rollout.observations[missing], tasks)
            rollout.advised |= missing

    def _rows(
        self,
        rollout: Rollout,
        observations: NDArray[Any],
        states: NDArray[np.float32],
        weights: NDArray[np.float32],
        gae_lambda: float,
    ) -> Rows:
        """A rollout as rows to learn from, step by step, the environments of a step side by side; `weights` (T, N) of the divergence."""
        n_steps, n_envs = rollout.rewards.shape
        advice = rollout.advice.reshape(n_steps * n_envs, -1)
        flat = rollout.states.reshape(n_steps * n_envs, -1)
        actions = rollout.actions.reshape(n_steps * n_envs, *rollout.actions.shape[2:])
        cut = list(rollout.cut_off.values())
        after = np.concatenate([states, *(state[None] for _, state in cut)])
        after_advice = np.zeros((len(after), advice.shape[1]), np.float32)
        if self.agent.layout is not None:
            after_observations = np.concatenate([observations, *(observation[None] for observation, _ in cut)])
            tasks = np.concatenate([self.tasks, self.tasks[[number for _, number in rollout.cut_off]]])
            after_advice = self.priors.rows(after_observations, tasks)
        values = self.agent.value(flat, advice).reshape(n_steps, n_envs)
        ahead, targets = advantages_and_targets(
            rollout, values, self.agent.value(after, after_advice), self.config.gamma, gae_lambda
        )
        errors, spread = (float(np.var(each, dtype=np.float64)) for each in (targets - values, targets))
        self.explained_variance = 1.0 - errors / (spread + 1e-8)
        log_probs = self.agent.log_prob(flat, advice, actions)
        flat_arrays = (each.reshape(-1) for each in (ahead, targets, weights))
        return self.agent.rows(flat, advice, actions, log_probs, *flat_arrays)

    def _warm_start(self, observations: NDArray[Any], states: NDArray[np.float32]) -> bool:
        """Draw policy and critic to the prior on the tasks where it did better than the untrained policy; whether there are any."""
        rollouts, self.trial_rollouts = self.trial_rollouts, []
        good = np.array([self.trial.accepted(task) for task in range(len(self.setup.problem.tasks))])[self.tasks]
        if not good.any() or not self.config.warm_start_updates:
            return False
        whole = join(rollouts)
        # returns of whole episodes as they were: the critic has nothing to say yet
        rows = self._rows(whole, observations, states, np.zeros(whole.rewards.shape, np.float32), 1.0)
        on_good = good & ~whole.crashed
        assert self.layout is not None
        speaks = ~self.layout.silent(rows.advice).cpu().numpy() & on_good.reshape(-1)
        by_prior = (whole.by_prior & on_good).reshape(-1)
        self.agent.warm_start(*(rows[torch.from_numpy(np.flatnonzero(chosen))] for chosen in (speaks, by_prior)))
        return True

    def leader(self) -> Leader:
        """The policy, always."""
        return "policy"

    def metrics(self, step: int) -> dict[str, float]:
        """Averages over the last update, and the weight of the prior."""
        return {
            **self.losses,
            "train/density_weight": float(self.density_weights(step).mean()),
            "value/explained_variance": self.explained_variance,
        }

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def put(self, checkpoint: Checkpoint) -> None:
        """Agent, trial and the latest losses; a run is only cut between rollouts."""
        self.agent.put(checkpoint)
        for number, rollout in enumerate(self.trial_rollouts):
            rollout.put(checkpoint, f"trial/{number}")
        checkpoint.values |= {
            "trial": [self.trying, self.turns, self.trial.values(), len(self.trial_rollouts)],
            "losses": [self.losses, self.explained_variance],
        }

    def get(self, checkpoint: Checkpoint) -> None:
        """What `put` saved."""
        self.agent.get(checkpoint)
        self.trying, self.turns, returns, n_rollouts = checkpoint.values["trial"]
        self.trial.set_values(returns)
        self.trial_rollouts = [Rollout.get(checkpoint, f"trial/{number}") for number in range(n_rollouts)]
        self.losses, self.explained_variance = checkpoint.values["losses"]
