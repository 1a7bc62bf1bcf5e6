"""A run of soft actor-critic: who leads an episode, exploration, replay, and when to update.

The objective and every log key: `docs/algorithms/sac.md`. Networks and losses: `lago_skills.rl.sac.agent`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode
from lago_skills.errors import StudyError, TrainingStopped
from lago_skills.rl.algorithm import Choice, Phase, RunningEpisode, Setup, Transition
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import Leader, SACConfig
from lago_skills.rl.guidance.advice import Layout
from lago_skills.rl.guidance.leaders import Leaders
from lago_skills.rl.policy import Priors
from lago_skills.rl.sac.agent import SAC
from lago_skills.rl.sac.replay import Batch, Columns, QuickestReplay, Replay, Returns

LOG_KEYS = (
    "eval/success",
    "eval/return",
    "eval/crashes",
    "train/success",
    "train/return",
    "train/episodes",
    "train/harvested",
    "train/prior_share",
    "train/fade",
    "train/crashes",
    "loss/critic",
    "loss/actor",
    "value/q",
    "value/alpha",
    "time/steps_per_s",
    "time/guide_share",
)
AVERAGED = 100
"""Updates over which logged losses are averaged."""


class SoftActorCritic:
    """Memory, leaders and updates of one run; see `lago_skills.rl.algorithm.Algorithm` for the methods.

    Raises:
        StudyError: actions that are not continuous, or a device that is not there.
    """

    log_keys: tuple[str, ...] = LOG_KEYS

    def __init__(self, setup: Setup, config: SACConfig) -> None:
        space, problem = setup.action_space, setup.problem
        if not isinstance(space, gymnasium.spaces.Box):
            raise StudyError(
                f"action space: found {space}; soft actor-critic expected a Box of one axis; train with PPO instead"
            )
        self.setup, self.config, self.tasks = setup, config, setup.tasks
        self.action_size = int(space.shape[0])
        self.layout = Layout(self.action_size, config.n_components) if problem.adviser is not None else None
        self.priors = Priors(problem, self.layout)
        self.agent = SAC.create(setup.state_size, self.action_size, config, self.layout, setup.seed)
        self.rng = np.random.default_rng(setup.seed)
        self.leaders = Leaders(config.leaders if self.layout is not None else ("policy",))
        self.successful_shifts: list[NDArray[np.float64]] = []
        self.best_score = 0.0
        """What the best episode so far did of its task."""
        self.columns = Columns(setup.state_size, self.action_size, self.layout.width if self.layout else 0)
        capacity = min(config.buffer_size, config.n_steps + problem.n_envs)
        n_demonstrated = sum(len(each.actions) for each in setup.demonstrations)
        returns = Returns(config.n_step, config.gamma, config.reward_scale)
        self.memory = Replay(capacity, self.columns, returns)
        kept = config.keep_quickest
        self.successful = (
            Replay(capacity + n_demonstrated, self.columns, returns)
            if kept is None
            else QuickestReplay(kept, self.columns, returns)
        )
        """Demonstrations and successful episodes."""
        self.longest = 1
        """Steps of the longest episode so far."""
        self.n_updates, self.updates_owed = 0, 0.0
        self.critic_losses: list[float] = []
        self.actor_losses: list[tuple[float, float]] = []

    # Episodes ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Remember the demonstrations."""
        for episode in self.setup.demonstrations:
            self.successful.add_episode(self._demonstrated(episode), episode.success)

    def _demonstrated(self, episode: Episode) -> RunningEpisode:
        """A demonstration with what networks see of each state, and the prior of each."""
        problem, observations = self.setup.problem, episode.observations.astype(np.float64)
        tasks = np.full(len(observations), problem.tasks.index(episode.task_id), np.int64)
        states, advice = list(problem.see(observations, tasks)), list(self.priors.rows(observations, tasks))
        actions, rewards = list(episode.actions.astype(np.float32)), [float(reward) for reward in episode.rewards]
        return RunningEpisode(
            episode.seed, "policy", None, list(episode.observations), states, advice, actions, rewards
        )

    def begin_episode(
        self, number: int, seed: int, observation: NDArray[Any], state: NDArray[np.float32], step: int
    ) -> RunningEpisode:
        """Who leads is drawn where the prior says something; else the policy does."""
        shift: NDArray[np.float64] | None = None
        leader: Leader = "policy"
        task = self.tasks[number : number + 1]
        advice = self.priors.rows(observation[None], task)
        if self.layout is not None and advice[0, 2 * self.action_size] < 1.0:  # it says something
            leader = self._draw_leader(step)
            shift = self._draw_shift(leader)
            if shift is not None:
                advice = self.priors.rows(observation[None], task, [shift])
        return RunningEpisode(seed, leader, shift, [observation], [state], [advice[0]])

    def _draw_leader(self, step: int) -> Leader:
        leader, early = self.leaders.draw(self.rng), step < self.config.random_steps
        if early and self.config.warm_start_updates:
            return "explore"  # the policy is to know what to do where the prior leads
        if early and leader == "mix" and "prior" in self.leaders.leaders:
            return "prior"  # there is no critic yet to choose
        return leader

    def _draw_shift(self, leader: Leader) -> NDArray[np.float64] | None:
        """Of a plan's targets (steps, D), in the unit of the anchors: in half of the exploring episodes, around none or around that of an earlier success."""
        adviser, scale = self.setup.problem.adviser, self.config.plan_noise_m
        if adviser is None or not adviser.plan_shape[0] or leader != "explore" or scale == 0.0:
            return None
        if self.rng.random() < 0.5:
            return None
        centre = np.zeros(adviser.plan_shape)
        if self.successful_shifts and self.rng.random() < 0.5:
            centre = self.successful_shifts[int(self.rng.integers(len(self.successful_shifts)))]
            scale = 0.25 * scale
        return centre + self.rng.normal(0.0, scale, centre.shape)

    def end_episode(self, number: int, episode: RunningEpisode, terminated: bool, success: bool) -> None:
        """Count it for its leader; a successful one joins the demonstrations, and of tasks of several parts one that did as much as any before."""
        score = self.setup.problem.score(int(self.tasks[number]), success, float(np.sum(episode.rewards)))
        self.longest = max(self.longest, len(episode.actions))
        late = episode.steps_unsolved / self.longest
        self.leaders.note(episode.leader, score * (1.0 - self.config.speed_share * late))
        if score > 0.0 and score >= self.best_score and self.config.harvest:
            self.best_score = score
            self.successful.add_episode(episode, terminated)
            if episode.shift is not None:
                self.successful_shifts.append(episode.shift)

    # Steps ------------------------------------------------------------------------------------------------------------

    def act(self, episodes: Sequence[RunningEpisode], step: int) -> Choice:
        """By each episode's leader; the policy's own first actions are uniform noise."""
        early = step < self.config.random_steps
        states = np.stack([episode.states[-1] for episode in episodes])
        advice = np.stack([episode.advice[-1] for episode in episodes])
        leaders = [episode.leader for episode in episodes]
        policy_acts = np.array([leader == "policy" or (leader == "mix" and not early) for leader in leaders])
        actions = np.zeros((len(episodes), self.action_size), np.float32)
        if policy_acts.any():
            if early:
                actions[policy_acts] = self.rng.uniform(-1.0, 1.0, (int(policy_acts.sum()), self.action_size))
            else:
                actions[policy_acts] = self.agent.act(states[policy_acts], advice[policy_acts], greedy=False)
        by_prior = np.array([leader != "policy" for leader in leaders])
        if not by_prior.any():
            return Choice(actions, by_prior)
        assert self.layout is not None
        proposals = advice[:, : self.action_size].copy()
        explores = np.array([leader == "explore" for leader in leaders])
        if explores.any():
            proposals[explores] = self.layout.samples(advice[explores], self.rng)
        contested = by_prior & policy_acts  # the critic chooses
        if contested.any():
            of_policy = self.agent.value(states[contested], advice[contested], actions[contested])
            of_prior = self.agent.value(states[contested], advice[contested], proposals[contested])
            by_prior[np.flatnonzero(contested)[of_policy >= of_prior]] = False
        return Choice(np.where(by_prior[:, None], proposals, actions), by_prior)

    def observe(self, transition: Transition, episodes: Sequence[RunningEpisode]) -> None:
        """Remember a step with the prior of the state that it led to."""
        self.agent.observe(transition.states[~transition.crashed])
        shifts = [episode.shift for episode in episodes]
        advice = self.priors.rows(transition.observations, self.tasks, shifts)
        for number, episode in enumerate(episodes):
            if transition.crashed[number]:
                self.memory.add_cut_off(episode)
            else:
                episode.advice.append(advice[number])
                ended, terminated = bool(transition.ended[number]), bool(transition.terminated[number])
                self.memory.add_latest(episode, ended, terminated)

    # Updates ----------------------------------------------------------------------------------------------------------

    def learn(self, episodes: Sequence[RunningEpisode], step: int) -> Phase:
        """`updates_per_step` updates for each environment step, after the random ones."""
        config = self.config
        if step > config.random_steps and self.memory.size >= config.batch_size:
            if self.n_updates == 0 and self.leaders.spoken:
                for _ in range(config.warm_start_updates):
                    self.agent.warm_start(Batch(self.memory.sample(self.rng, config.batch_size), self.columns))
            self.updates_owed += config.updates_per_step * len(episodes)
            fade = self.fade(step)
            while self.updates_owed >= 1.0:
                self.updates_owed -= 1.0
                self._update(fade, step)
        return "between updates"

    def _update(self, fade: float, step: int) -> None:
        """One update of the critics and, every `actor_every`, of actor and temperature."""
        batch, n_successful = self.draw_batch()
        density, imitation = fade * self.config.density_weight, fade * self.config.imitation_weight
        loss = self.agent.update_critics(batch, density)
        if not math.isfinite(loss):
            raise TrainingStopped(
                f"{self.setup.problem.name}, update {self.n_updates + 1} at step {step}: found loss/critic = {loss}; expected a finite number; "
                "lower the learning rate, or scale the rewards"
            )
        self.critic_losses.append(loss)
        self.n_updates += 1
        if self.n_updates % self.config.actor_every == 0:
            follow = self.config.follow_weight * self.leaders.lead_over_policy() if self.config.follow_weight else 0.0
            self.actor_losses.append(self.agent.update_actor(batch, n_successful, imitation, density, follow))
        del self.critic_losses[:-AVERAGED], self.actor_losses[:-AVERAGED]

    def draw_batch(self) -> tuple[Batch, int]:
        """A batch, and how many of its rows, the last ones, are of demonstrations and successful episodes: `success_share`, once there are any."""
        config = self.config
        n_successful = int(config.success_share * config.batch_size) if self.successful.size else 0
        rows = self.memory.sample(self.rng, config.batch_size - n_successful)
        if n_successful:
            rows = np.concatenate([rows, self.successful.sample(self.rng, n_successful)])
        return Batch(rows, self.columns), n_successful

    def fade(self, step: int) -> float:
        """What is left of the weights of density and imitation, 1 to 0."""
        if self.config.fade == "linear":
            return max(0.0, 1.0 - step / (self.config.fade_until * self.config.n_steps))
        return self.leaders.lead_of_prior() if self.config.fade == "adaptive" else 1.0

    def leader(self) -> Leader:
        """With the best recent success."""
        return self.leaders.best()

    def metrics(self, step: int) -> dict[str, float]:
        """Losses averaged over the latest updates, values of the last batch, and the fade."""
        actor = np.asarray(self.actor_losses or [(np.nan, np.nan)])
        return {
            "train/fade": self.fade(step),
            "loss/critic": float(np.mean(self.critic_losses or [np.nan])),
            "loss/actor": float(actor[:, 0].mean()),
            "value/q": float(actor[-1, 1]),
            "value/alpha": self.agent.alpha,
        }

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def put(self, checkpoint: Checkpoint) -> None:
        """Agent, memory, leaders, losses and random numbers."""
        self.agent.put(checkpoint)
        self.memory.put(checkpoint, "memory")
        self.successful.put(checkpoint, "successful")
        checkpoint.put_generator("generator", self.rng)
        checkpoint.put("losses/critic", np.asarray(self.critic_losses, np.float64))
        checkpoint.put("losses/actor", np.asarray(self.actor_losses, np.float64).reshape(-1, 2))
        for number, shift in enumerate(self.successful_shifts):
            checkpoint.put(f"shifts/{number}", shift)
        checkpoint.values |= {
            "updates": [self.n_updates, self.updates_owed],
            "leaders": self.leaders.values(),
            "n_shifts": len(self.successful_shifts),
            "best_score": self.best_score,
            "longest": self.longest,
        }

    def get(self, checkpoint: Checkpoint) -> None:
        """What `put` saved."""
        self.agent.get(checkpoint)
        self.memory.get(checkpoint, "memory")
        self.successful.get(checkpoint, "successful")
        checkpoint.load_generator("generator", self.rng)
        self.critic_losses = checkpoint.array("losses/critic").tolist()
        self.actor_losses = [(float(a), float(b)) for a, b in checkpoint.array("losses/actor")]
        self.successful_shifts = [checkpoint.array(f"shifts/{n}") for n in range(checkpoint.values["n_shifts"])]
        self.n_updates, self.updates_owed = checkpoint.values["updates"]
        self.leaders.set_values(checkpoint.values["leaders"])
        self.best_score = checkpoint.values.get("best_score", 0.0)
        self.longest = checkpoint.values.get("longest", 1)
