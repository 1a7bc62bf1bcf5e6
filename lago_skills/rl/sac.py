"""Soft actor-critic, plain and guided.

Objective (SAC, arXiv 1801.01290 and 1812.05905): maximise reward plus alpha times entropy, twin critics with the minimum
in the target, a tanh-Gaussian actor, alpha tuned towards a target entropy. Details that differ from that paper, plain
and guided alike: LayerNorm in the critics (RLPD, arXiv 2302.02948), n-step returns, both critics as one batched network (`lago_skills.rl.networks`).

Guidance adds (all off with `guidance = "none"`, which is plain SAC on the same states):
  1. the actor and the critics see the prior's mean and spread of the state (zeros without guidance);
  2. leaders: an episode is led by the prior's mean, by the prior's samples, by the policy, or by the critic's choice between
     prior and policy (IBRL, arXiv 2311.02198); a bandit over recent success decides (`lago_skills.rl.leaders`), so guidance
     fades by itself;
  3. proposals: the bootstrap target takes the better of the policy's and the prior's action (IBRL);
  4. harvest: successful episodes are kept in a second buffer that fills a fixed share of each batch (RLPD), and the actor is
     pulled to their actions (self-imitation, arXiv 1806.05635, but without its filter by value: with a sparse reward and a
     young critic the filter kept good actions out);
  5. exploration in plan space: in half of the episodes led by the prior's samples, the playbook's targets are shifted by a
     random few centimetres, around zero or around the shift of an earlier success.

The prior of each state is computed once, when the environment is stepped, and stored; updates never call the guide.

Log keys, one row per evaluation (`curve.csv`):
  eval/success         share of evaluation episodes with success, acting greedily on separate seeds
  train/success        share of the training episodes since the last row that ended in success
  train/episodes       training episodes so far
  train/harvested      successful training episodes so far
  train/prior_share    share of training steps since the last row at which the prior's action was taken
  loss/critic          mean squared Bellman error, average of the last 100 updates
  loss/actor           actor loss, average of the last 100 updates
  value/q              mean of the minimum critic on the last batch
  value/alpha          entropy temperature
  time/steps_per_s     environment steps per second since the start, updates and evaluations included
  time/guide_share     share of wall time spent in the guide
"""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lago_skills.core import Task, check_finite
from lago_skills.envs.grounding import Grounding
from lago_skills.envs.metaworld import EVAL_SEED, TRAIN_SEED, MetaWorldEnv
from lago_skills.errors import TrainingStopped
from lago_skills.evaluate.rollouts import EpisodeResult, rollouts
from lago_skills.guide.guides import LibraryGuide
from lago_skills.prior import ActionPrior
from lago_skills.rl.config import SACConfig
from lago_skills.rl.guidance import Guidance, greedy_policy
from lago_skills.rl.leaders import LEADERS, Leader, Leaders
from lago_skills.rl.networks import Agent
from lago_skills.rl.replay import Batch, Replay, join

LOG_KEYS = (
    "eval/success",
    "train/success",
    "train/episodes",
    "train/harvested",
    "train/prior_share",
    "loss/critic",
    "loss/actor",
    "value/q",
    "value/alpha",
    "time/steps_per_s",
    "time/guide_share",
)
Row = dict[str, float]


def update_critics(agent: Agent, batch: Batch, config: SACConfig) -> float:
    """One gradient step of the critics and of their targets; returns the mean squared Bellman error."""
    next_x = torch.cat([torch.from_numpy(batch.next_state), torch.from_numpy(batch.next_hint)], dim=1)
    size = batch.action.shape[1]
    with torch.no_grad():
        noise = torch.randn(batch.action.shape, generator=agent.generator)
        next_action, next_log_p = agent.actor(next_x, noise)
        choices = [torch.cat([next_x, next_action], dim=1)]
        if config.guidance != "none":
            choices.append(torch.cat([next_x, next_x[:, -2 * size : -size]], dim=1))
        next_values = agent.targets(torch.cat(choices)).amin(dim=0).view(len(choices), -1)  # (1 or 2, B)
        next_values[0] -= agent.log_alpha.exp() * next_log_p  # the prior's action has no entropy term
        next_value = next_values.amax(dim=0)
        goal = torch.from_numpy(batch.reward) + torch.from_numpy(batch.discount) * next_value
    x = torch.cat([torch.from_numpy(v) for v in (batch.state, batch.hint, batch.action)], dim=1)
    loss = ((agent.critics(x) - goal) ** 2).mean()  # critics: (2, B)
    agent.critic_optimizer.zero_grad()
    loss.backward()
    agent.critic_optimizer.step()
    with torch.no_grad():
        torch._foreach_lerp_(list(agent.targets.parameters()), list(agent.critics.parameters()), config.tau)
    return float(loss.detach())


def update_actor(agent: Agent, batch: Batch, n_harvest: int, config: SACConfig) -> tuple[float, float]:
    """One gradient step of actor and temperature; returns the actor's loss and the mean value of its actions."""
    x = torch.cat([torch.from_numpy(batch.state), torch.from_numpy(batch.hint)], dim=1)
    size = batch.action.shape[1]
    alpha = agent.log_alpha.exp().detach()
    agent.critics.requires_grad_(False)
    noise = torch.randn(batch.action.shape, generator=agent.generator)
    action, log_p = agent.actor(x, noise)
    value = agent.critics(torch.cat([x, action], dim=1)).amin(dim=0)
    loss = (alpha * log_p - value).mean()
    if n_harvest and config.imitation_weight > 0:  # the last rows come from successful episodes
        succeeded = torch.from_numpy(batch.action)[-n_harvest:]
        loss = loss + config.imitation_weight * ((action[-n_harvest:] - succeeded) ** 2).sum(dim=1).mean()
    agent.actor_optimizer.zero_grad()
    loss.backward()
    agent.actor_optimizer.step()
    agent.critics.requires_grad_(True)

    target_entropy = config.target_entropy_per_action * size
    alpha_loss = -(agent.log_alpha.exp() * (log_p.detach() + target_entropy)).mean()
    agent.alpha_optimizer.zero_grad()
    alpha_loss.backward()
    agent.alpha_optimizer.step()
    return float(loss.detach()), float(value.detach().mean())


@dataclass(frozen=True)
class TrainResult:
    """A finished run."""

    agent: Agent
    leader: Leader
    """Who leads greedy episodes."""
    curve: list[Row]
    final: list[EpisodeResult]


def train(
    task: Task,
    grounding: Grounding,
    guide: LibraryGuide | None,
    config: SACConfig,
    seed: int,
    final_episodes: int,
    report: Callable[[int, Row], None],
) -> TrainResult:
    """Train one policy on one task with the sparse reward; `report(step, row)` every 100 steps.

    The last evaluation has `final_episodes` episodes, on the evaluation seeds.

    Raises:
        TrainingStopped: a reward that is not finite, with the step it came at.
        ShapeError: an observation that is not finite, with the step it came at.
    """
    learner = _Learner(task, grounding, guide, config, seed)
    try:
        while learner.step < config.n_steps:
            learner.episode(report)
        final = learner.evaluate(final_episodes)
    finally:
        learner.env.close()
    return TrainResult(learner.agent, learner.leaders.best(), learner.curve, final)


class _Learner:
    """The loop of one run, an episode at a time."""

    def __init__(
        self, task: Task, grounding: Grounding, guide: LibraryGuide | None, config: SACConfig, seed: int
    ) -> None:
        self.config, self.task = config, task
        guided = config.guidance != "none"
        self.guidance = Guidance(task, grounding, guide if guided else None)
        self.env = MetaWorldEnv(task, reward="sparse")
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.action_size = grounding.action_size
        first, _ = self.env.reset(seed=TRAIN_SEED + seed * 10_000)
        state_size = self.guidance.state(first[None]).shape[1]
        self.agent = Agent.create(state_size, self.action_size, config, seed)
        self.memory = Replay(
            config.n_steps + task.horizon_steps, state_size, self.action_size, config.n_step, config.gamma
        )
        self.harvest = Replay(
            config.n_steps + task.horizon_steps, state_size, self.action_size, config.n_step, config.gamma
        )
        self.step = self.n_episodes = self.n_harvested = 0
        self.debt = 0.0
        self.started = time.perf_counter()
        self.curve: list[Row] = []
        self.recent: list[bool] = []
        self.prior_steps = self.window_steps = 0
        self.n_updates = 0
        self.critic_losses: list[float] = []
        self.actor_losses: list[tuple[float, float]] = []
        self.leaders = Leaders(LEADERS if self.guidance.guide is not None else ("policy",))
        self.leader: Leader = "policy"
        self.good_shifts: list[NDArray[np.float64]] = []
        self.last: Row = {}

    def episode(self, report: Callable[[int, Row], None]) -> None:
        """Run one training episode, updating on the way."""
        config, guidance = self.config, self.guidance
        self.leader = self.leaders.draw(self.rng)
        self._draw_shift()
        observation, _ = self.env.reset(seed=TRAIN_SEED + self.seed * 10_000 + self.n_episodes)
        states, hints, actions = list[NDArray[np.float32]](), list[NDArray[np.float32]](), list[NDArray[np.float32]]()
        rewards: list[float] = []
        state, hint, prior = self._look(observation)
        states.append(state[0])
        hints.append(hint[0])
        terminated = truncated = False
        while not (terminated or truncated) and self.step < config.n_steps:
            action = self._action(state, hint, prior)
            observation, reward, terminated, truncated, _ = self.env.step(action)
            self._check(reward, observation)
            self.step += 1
            self.window_steps += 1
            state, hint, prior = self._look(observation)
            states.append(state[0])
            hints.append(hint[0])
            actions.append(action)
            rewards.append(reward)
            self._learn()
            if self.step % config.eval_every == 0 or self.step == config.n_steps:
                self._log()
            if self.step % 100 == 0:
                report(self.step, self.last)
        arrays = (np.stack(states), np.stack(hints), np.stack(actions), np.asarray(rewards, np.float32))
        self.memory.add_episode(*arrays, terminated)
        self.n_episodes += 1
        self.recent.append(terminated)
        if terminated or truncated:
            self.leaders.note(self.leader, terminated)
        if terminated and guidance.guide is not None:
            self.harvest.add_episode(*arrays, terminated)
            self.n_harvested += 1
            if guidance.shift is not None:
                self.good_shifts.append(guidance.shift)
        guidance.shift = None

    def _look(
        self, observation: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], ActionPrior | None]:
        prior = self.guidance.prior(observation[None])
        return self.guidance.state(observation[None]), self.guidance.hint(prior, 1), prior

    def _draw_shift(self) -> None:
        if self.leader != "explore" or self.config.plan_noise_m == 0.0 or self.rng.random() < 0.5:
            return
        centre = np.zeros((self.guidance.n_plan_steps, 3))
        if self.good_shifts and self.rng.random() < 0.5:
            centre = self.good_shifts[int(self.rng.integers(len(self.good_shifts)))]
            scale = 0.25 * self.config.plan_noise_m
        else:
            scale = self.config.plan_noise_m
        self.guidance.shift = centre + self.rng.normal(0.0, scale, centre.shape)

    def _action(
        self, state: NDArray[np.float32], hint: NDArray[np.float32], prior: ActionPrior | None
    ) -> NDArray[np.float32]:
        if prior is None or self.leader == "policy":
            if self.step < self.config.random_steps:
                return self.rng.uniform(-1.0, 1.0, self.action_size).astype(np.float32)
            return self.agent.act(state, hint, greedy=False)[0]
        proposal = prior.sample(self.rng) if self.leader == "explore" else prior.mean()
        if self.leader == "mix" and self.step >= self.config.random_steps:
            action = self.agent.act(state, hint, greedy=False)
            if self.agent.value(state, hint, action)[0] >= self.agent.value(state, hint, proposal)[0]:
                return action[0]
        self.prior_steps += 1
        return proposal[0]

    def _learn(self) -> None:
        if self.step <= self.config.random_steps or self.memory.size < self.config.batch_size:
            return
        self.debt += self.config.updates_per_step
        while self.debt >= 1.0:
            self.debt -= 1.0
            n_harvest = int(self.config.success_share * self.config.batch_size) if self.harvest.size else 0
            batch = self.memory.sample(self.rng, self.config.batch_size - n_harvest)
            if n_harvest:
                batch = join(batch, self.harvest.sample(self.rng, n_harvest))
            self.critic_losses.append(update_critics(self.agent, batch, self.config))
            self.n_updates += 1
            if self.n_updates % self.config.actor_every == 0:
                self.actor_losses.append(update_actor(self.agent, batch, n_harvest, self.config))

    def _check(self, reward: float, observation: NDArray[np.float64]) -> None:
        if not np.isfinite(reward):
            raise TrainingStopped(
                f"task {self.task.id!r}, environment step {self.step + 1}: found reward {reward}; expected a finite "
                "number; check the environment's reward"
            )
        check_finite(observation, f"observation of task {self.task.id!r} at environment step {self.step + 1}")

    def evaluate(self, n_episodes: int) -> list[EpisodeResult]:
        """Greedy episodes on the evaluation seeds."""
        shift, self.guidance.shift = self.guidance.shift, None
        seeds = [EVAL_SEED + i for i in range(n_episodes)]
        results = rollouts(
            self.task, greedy_policy(self.agent, self.guidance, self.leaders.best()), seeds, lambda n: None
        )
        self.guidance.shift = shift
        return results

    def _log(self) -> None:
        results = self.evaluate(self.config.eval_episodes)
        elapsed = time.perf_counter() - self.started
        critic = np.asarray(self.critic_losses[-100:] or [np.nan])
        actor = np.asarray(self.actor_losses[-100:] or [(np.nan, np.nan)])
        self.last = {
            "step": self.step,
            "eval/success": float(np.mean([r.success for r in results])),
            "train/success": float(np.mean(self.recent)) if self.recent else 0.0,
            "train/episodes": self.n_episodes,
            "train/harvested": self.n_harvested,
            "train/prior_share": self.prior_steps / max(self.window_steps, 1),
            "loss/critic": float(critic.mean()),
            "loss/actor": float(actor[:, 0].mean()),
            "value/q": float(actor[-1, 1]),
            "value/alpha": float(self.agent.log_alpha.detach().exp()),
            "time/steps_per_s": self.step / elapsed,
            "time/guide_share": self.guidance.seconds / elapsed,
        }
        self.curve.append(self.last)
        self.recent, self.prior_steps, self.window_steps = [], 0, 0
