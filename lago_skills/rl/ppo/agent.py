"""Proximal policy optimisation, plain and guided, for continuous and discrete actions.

Objective (PPO, arXiv 1707.06347): the clipped surrogate with generalised advantage estimation (arXiv 1506.02438), a squared
value loss and an entropy bonus, Adam with eps 1e-5, orthogonal weights, advantages normalised in each minibatch. Details that differ from
CleanRL's and Stable-Baselines3's code, plain and guided alike: states are normalised by running moments that move only between updates, so that the
ratio of new to old policy is exactly of what acted; values and log-densities of a rollout are computed in one batch after it; a time limit
bootstraps with the value of the observation it cut off, a termination does not.

Continuous actions are a diagonal Gaussian; with `std_by_state` its spread depends on the state, as a prior's does: wide where much is right, narrow where
something must be hit. Samples outside [-1, 1] are clipped by the environment's door
alone: densities are of what was drawn, which keeps the gradient unbiased.

Guidance, each part a setting (`lago_skills.rl.config.PPOConfig`):
  density_*          the loss counts a divergence between policy and prior (LaGO, arXiv 2606.24669; kickstarting, arXiv 1803.03835).
                     "reverse", KL(policy || prior): through rho at reparametrised samples for continuous actions, exactly for discrete ones;
                     "forward", KL(prior || policy): exactly for discrete actions, and of the Gaussian with the prior's moments for
                     continuous ones, up to a constant. "adaptive" weighs it for each task by
                     how far the prior's return is ahead of the policy's (`lago_skills.rl.guidance.trial`), and ends it at `fade_until` in any case
  trial_episodes     first, episodes are led in turns by policy and prior: what the prior is worth, task by task
  warm_start_updates after the trial, where the prior did better than the untrained policy, the policy's mean and spread (or its
                     probabilities) are drawn to the prior's on all states of the trial, and the critic to the returns of the prior's episodes
  observe_prior      policy and critic see the prior, through weights that start at zero
  residual_scale     the policy's mean corrects the prior's

The prior of a state is computed once: when it is stepped, if the policy sees it or the prior leads, else for a whole rollout at once, and
not at all any more when nothing uses it. Without a guide, and with one whose floor is 1, this is the plain algorithm, bit for bit.

Evaluation is by the policy's own mode. With `observe_prior` or `residual_scale` the policy needs the guide to act; without them it stands alone.

Log keys, one row per evaluation (`curve.csv`, TensorBoard); the losses are averages over the last update:
  eval/success             share of evaluation episodes with success, acting by the policy's mode on separate seeds
  eval/return              mean sum of rewards of those episodes
  eval/crashes             those that the environment's crash ended, without success
  train/success            share of the training episodes since the last row that ended in success
  train/return             mean sum of rewards of the training episodes since the last row
  train/episodes           training episodes so far
  train/harvested          successful training episodes kept so far
  train/prior_share        share of training steps since the last row at which the prior's action was taken
  train/density_weight     weight of the divergence in the loss, mean over tasks
  train/crashes            environments that crashed and were restarted so far
  loss/policy              clipped surrogate
  loss/value               mean squared error of the critic
  loss/divergence          between policy and prior, where it counts; 0 where it does not
  policy/entropy           of the policy, in nats
  policy/approx_kl         from the policy that acted to the updated one, http://joschu.net/blog/kl-approx.html
  policy/clip_share        share of the ratios that were clipped
  policy/std               mean spread of continuous actions; 0 for discrete ones
  value/explained_variance of the returns by the critic that acted
  time/steps_per_s         environment steps per second since the start, updates included, evaluations not
  time/guide_share         share of that time spent in the guide

A run of several tasks has `eval/success/<task>` of each besides.
"""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lago_skills.rl.adam import Adam
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import Leader, PPOConfig
from lago_skills.rl.guidance.advice import DiscreteLayout, Layout
from lago_skills.rl.ppo.distributions import Categorical, Gaussian
from lago_skills.rl.ppo.networks import Forward, Network, Normalizer

UPDATE_KEYS = (
    "loss/policy",
    "loss/value",
    "loss/divergence",
    "policy/entropy",
    "policy/approx_kl",
    "policy/clip_share",
    "policy/std",
)
LOG_STD_RANGE = (-4.0, 1.0)
"""Of a spread that depends on the state."""
WARM_START_RATE = 1e-3
"""Learning rate of the warm start: plain regression, which takes larger steps than a policy gradient."""


@dataclass(frozen=True)
class Rows:
    """Rows of a rollout to learn from."""

    state: Tensor  # (B, S')
    advice: Tensor  # (B, W)
    action: Tensor  # (B, A), or (B,) of discrete actions
    log_prob: Tensor  # (B,) of the policy that acted
    advantage: Tensor  # (B,)
    target: Tensor  # (B,) of the critic
    weight: Tensor  # (B,) of the divergence, 0 where the prior is silent

    def __getitem__(self, rows: Tensor | slice) -> Rows:
        """Some of them."""
        return Rows(**{name: value[rows] for name, value in vars(self).items()})

    def __len__(self) -> int:
        """How many."""
        return len(self.state)


@dataclass
class PPO:
    """Networks, optimiser and updates."""

    config: PPOConfig
    advice_layout: Layout | DiscreteLayout | None
    """How advice is laid out; None without a guide."""
    actor: Network
    critic: Network
    normalizer: Normalizer
    log_std: nn.Parameter | None
    """(A,) of continuous actions; what a state adds comes from the actor."""
    adam: Adam
    generator: torch.Generator
    """Of actions and minibatches."""
    guide_generator: torch.Generator
    """Of what only guidance draws, so that the other draws are those of a plain run."""

    @staticmethod
    def create(
        state_size: int,
        action_size: int,
        config: PPOConfig,
        layout: Layout | DiscreteLayout | None,
        seed: int,
        *,
        discrete: bool = False,
    ) -> PPO:
        """Fresh networks; the same seed gives the same networks, with and without a guide."""
        torch.manual_seed(seed)
        hints = layout.hint_size if layout is not None and config.observe_prior else 0
        n_outputs = 2 * action_size if config.std_by_state and not discrete else action_size
        actor = Network(state_size, hints, config.hidden_size, n_outputs, head_gain=0.01)
        critic = Network(state_size, hints, config.hidden_size, 1, head_gain=1.0)
        log_std = None if discrete else nn.Parameter(torch.full((action_size,), float(np.log(config.initial_std))))
        agent = PPO(
            config,
            layout,
            actor,
            critic,
            Normalizer(state_size, config.normalize_states),
            log_std,
            Adam((), config.learning_rate),
            torch.Generator().manual_seed(seed),
            torch.Generator().manual_seed(seed + 1),
        )
        agent.adam = agent._adam(config.learning_rate)
        return agent

    @property
    def layout(self) -> Layout | DiscreteLayout | None:
        """How the advice is laid out that the policy needs to act; None where it acts without."""
        sees = self.config.observe_prior or self.config.residual_scale is not None
        return self.advice_layout if sees else None

    def _parameters(self) -> list[nn.Parameter]:
        """Weights of hints last."""
        own = [] if self.log_std is None else [self.log_std]
        whole = [*self.actor.parameters(), *self.critic.parameters(), *own]
        hints = [network.hint for network in (self.actor, self.critic) if network.hint is not None]
        return [each for each in whole if all(each is not hint for hint in hints)] + hints

    def _adam(self, rate: float) -> Adam:
        return Adam(self._parameters(), rate, epsilon=1e-5)

    # Acting -----------------------------------------------------------------------------------------------------------

    def act(self, states: NDArray[np.float32], advice: NDArray[np.float32]) -> NDArray[Any]:
        """(B, S'), (B, W) -> (B, A) or (B,) actions drawn from the policy; continuous ones as drawn, not clipped."""
        with torch.inference_mode():
            return self.policy(torch.from_numpy(states), torch.from_numpy(advice)).sample(self.generator).numpy()

    def greedy(self, states: NDArray[np.float32], advice: NDArray[np.float32], leader: Leader) -> NDArray[Any]:
        """(B, A) in [-1, 1], or (B,): the policy's mode; or the prior's mean where the prior leads."""
        with torch.inference_mode():
            rows = torch.from_numpy(advice)
            if leader == "prior" and self.advice_layout is not None:
                return self.advice_layout.mode(rows).numpy()
            return self.policy(torch.from_numpy(states), rows).mode().numpy()

    def policy(self, states: Tensor, advice: Tensor) -> Gaussian | Categorical:
        """The distribution over actions in (B, S') states."""
        return self._distribution(self.actor(self.normalizer(states), self._hint(advice)), advice)

    def _distribution(self, outputs: Tensor, advice: Tensor) -> Gaussian | Categorical:
        """What the actor's outputs stand for."""
        if self.log_std is None:
            return Categorical(torch.log_softmax(outputs, dim=1))
        log_std = self.log_std.detach().expand(len(outputs), -1)
        if self.config.std_by_state:
            outputs, change = outputs.chunk(2, dim=1)
            log_std = (log_std + change).clamp(*LOG_STD_RANGE)
        if self.config.residual_scale is not None and isinstance(self.advice_layout, Layout):
            corrected = self.advice_layout.mean(advice) + self.config.residual_scale * outputs
            outputs = torch.where(self.advice_layout.silent(advice)[:, None], outputs, corrected)
        return Gaussian(outputs, log_std)

    def _by_outputs(
        self, policy: Gaussian | Categorical, gradient: Sequence[Tensor], advice: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Gradients by the actor's outputs and, of continuous actions, by `log_std`, given those by the distribution's parameters."""
        if isinstance(policy, Categorical):
            (by_log_probs,) = gradient
            return by_log_probs - policy.log_probs.exp() * by_log_probs.sum(dim=1, keepdim=True), []
        by_mean, by_log_std = gradient
        if self.config.residual_scale is not None and isinstance(self.advice_layout, Layout):
            scaled = self.config.residual_scale * by_mean
            by_mean = torch.where(self.advice_layout.silent(advice)[:, None], by_mean, scaled)
        if not self.config.std_by_state:
            return by_mean, [by_log_std.sum(dim=0)]
        low, high = LOG_STD_RANGE
        by_log_std = by_log_std * ((policy.log_std > low) & (policy.log_std < high))  # at a bound it stays there
        return torch.cat([by_mean, by_log_std], dim=1), [by_log_std.sum(dim=0)]

    def value(self, states, advice):
        with torch.inference_mode():
            return self.values(torch.from_numpy(states), torch.from_numpy(advice)).numpy()

    def log_prob(self, states, advice, actions):
        with torch.inference_mode():
            return (
                self.policy(torch.from_numpy(states), torch.from_numpy(advice))
                .log_prob(torch.from_numpy(actions))
                .numpy()
            )

    def rows(self, states, advice, actions, log_probs, advantages, targets, weights):
        a = torch.from_numpy(advice)
        w = torch.from_numpy(np.ascontiguousarray(weights).reshape(-1))
        if self.advice_layout is not None:
            w = torch.where(self.advice_layout.silent(a), torch.zeros_like(w), w)
        return Rows(
            torch.from_numpy(states),
            a,
            torch.from_numpy(actions),
            torch.from_numpy(log_probs).clone(),
            torch.from_numpy(advantages.reshape(-1)),
            torch.from_numpy(targets.reshape(-1)),
            w,
        )

    def values(self, states: Tensor, advice: Tensor) -> Tensor:
        """(B,) what the critic expects."""
        return self.critic(self.normalizer(states), self._hint(advice))[:, 0]

    def _hint(self, advice: Tensor) -> Tensor | None:
        if self.advice_layout is None or not self.config.observe_prior:
            return None
        return self.advice_layout.hint(advice)

    # Learning ---------------------------------------------------------------------------------------------------------

    def update(self, rows: Rows, progress: float) -> dict[str, float]:
        """Some epochs of minibatches; what `UPDATE_KEYS` say of them, averaged. `progress` of the run goes from 0 to 1."""
        config = self.config
        self.adam.rate = config.learning_rate * (1.0 - progress if config.anneal else 1.0)
        said: list[Tensor] = []
        size, rows = min(config.minibatch_size, len(rows)), self._normalized(rows)
        for _ in range(config.n_epochs):
            shuffled = rows[torch.randperm(len(rows), generator=self.generator)]
            for start in range(0, len(rows) - size + 1, size):
                said.append(self._step(shuffled[start : start + size]))
            if config.target_kl is not None and float(said[-1][4]) > config.target_kl:
                break
        mean: NDArray[np.float64] = torch.stack(said).double().mean(dim=0).numpy()
        return {name: float(value) for name, value in zip(UPDATE_KEYS, mean, strict=True)}

    @torch.no_grad()
    def _step(self, rows: Rows) -> Tensor:
        """One minibatch, of normalised states. All gradients are written out; `tests/test_ppo.py` holds them against torch's of the loss above."""
        config, size = self.config, len(rows)
        acted, valued = self._forward(self.actor, rows), self._forward(self.critic, rows)
        policy = self._distribution(acted.outputs, rows.advice)
        log_ratio = policy.log_prob(rows.action) - rows.log_prob
        ratio = log_ratio.exp()
        advantage = (rows.advantage - rows.advantage.mean()) / (rows.advantage.std() + 1e-8)
        gained, clipped = advantage * ratio, advantage * ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
        # where the clipped one is less, nothing is to be gained
        by_log_prob = torch.where(gained <= clipped, gained, 0.0) * (-1.0 / size)
        gradient = policy.by_log_prob(rows.action, by_log_prob)
        if config.entropy_weight:
            by_entropy = policy.by_entropy(torch.full((size,), -config.entropy_weight / size))
            gradient = tuple(a + b for a, b in zip(gradient, by_entropy, strict=True))
        divergence = torch.zeros(())
        counts = torch.nonzero(rows.weight)[:, 0]  # other rows may be without advice
        if self.advice_layout is not None and len(counts):
            apart, of_those = self._apart(policy.at(counts), rows.advice[counts], rows.weight[counts] / size)
            both = zip(gradient, of_those, strict=True)
            gradient = tuple(each.index_add(0, counts, part) for each, part in both)
            divergence = apart.mean()
        errors = valued.outputs[:, 0] - rows.target
        approx_kl = (ratio - 1.0 - log_ratio).mean()
        clip_share = ((ratio - 1.0).abs() > config.clip).float().mean()
        losses = [-torch.minimum(gained, clipped).mean(), errors.square().mean(), divergence]
        said = torch.stack([*losses, policy.entropy().mean(), approx_kl, clip_share, policy.spread()])
        by_values = errors * (2.0 * config.value_weight / size)
        self._descend(self.adam, policy, gradient, rows.advice, acted, valued, by_values)
        return said

    def _apart(
        self, policy: Gaussian | Categorical, advice: Tensor, weights: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B,) divergence between policy and prior, and its gradient by the policy's parameters."""
        assert self.advice_layout is not None
        if self.config.divergence == "forward":
            return policy.apart_from(self.advice_layout, advice, weights)
        return policy.divergence(self.advice_layout, advice, policy.noise(self.guide_generator), weights)

    @torch.no_grad()
    def warm_start(self, rows: Rows, returns: Rows) -> None:
        """Draw the policy to the prior on some rows, and the critic to the returns of others; then start the optimiser anew."""
        assert self.advice_layout is not None
        adam = self._adam(WARM_START_RATE)
        size, rows, returns = self.config.minibatch_size, self._normalized(rows), self._normalized(returns)
        weights = torch.full((size,), 1.0 / size)
        for _ in range(self.config.warm_start_updates):
            some = rows[torch.randint(len(rows), (size,), generator=self.guide_generator)]
            known = returns[torch.randint(len(returns), (size,), generator=self.guide_generator)]
            acted, valued = self._forward(self.actor, some), self._forward(self.critic, known)
            policy = self._distribution(acted.outputs, some.advice)
            _, gradient = policy.apart_from(self.advice_layout, some.advice, weights)
            errors = valued.outputs[:, 0] - known.target
            self._descend(adam, policy, gradient, some.advice, acted, valued, errors * (2.0 / size))
        self.adam = self._adam(self.config.learning_rate)

    def _normalized(self, rows: Rows) -> Rows:
        """With the states that the networks see."""
        return replace(rows, state=self.normalizer(rows.state))

    def _forward(self, network: Network, rows: Rows) -> Forward:
        """Of rows whose states are normalised."""
        hint = self._hint(rows.advice)
        outputs, kept = network.evaluate(rows.state, hint)
        return Forward(rows.state, hint, kept, outputs)

    def _descend(
        self,
        adam: Adam,
        policy: Gaussian | Categorical,
        gradient: Sequence[Tensor],
        advice: Tensor,
        acted: Forward,
        valued: Forward,
        by_values: Tensor,
    ) -> None:
        """One step down gradients by the policy's parameters and by the critic's values (B,)."""
        by_outputs, by_own = self._by_outputs(policy, gradient, advice)
        of_actor, of_its_hint = self.actor.gradients(acted, by_outputs)
        of_critic, of_critics_hint = self.critic.gradients(valued, by_values[:, None])
        gradients = (*of_actor, *of_critic, *by_own, *of_its_hint, *of_critics_hint)  # in the order of `_parameters`
        self._clip(gradients)
        adam.step(gradients)

    def _clip(self, gradients: tuple[Tensor, ...]) -> None:
        """Shorten the gradient to `max_grad_norm`. Weights of hints are counted last, so that without hints the sum is the same to the last bit."""
        squares = torch.stack(torch._foreach_norm(gradients)) ** 2
        n_hints = sum(network.hint is not None for network in (self.actor, self.critic))
        total = squares[: len(squares) - n_hints].sum() + squares[len(squares) - n_hints :].sum()
        torch._foreach_mul_(gradients, (self.config.max_grad_norm / (total.sqrt() + 1e-6)).clamp_max(1.0))

    # Keeping ----------------------------------------------------------------------------------------------------------

    def networks(self) -> dict[str, nn.Module]:
        """What is needed to act, by name."""
        spread = {} if self.log_std is None else {"spread": nn.ParameterList([self.log_std])}
        return {"actor": self.actor, "critic": self.critic, "normalizer": self.normalizer, **spread}

    def put(self, checkpoint: Checkpoint) -> None:
        """Keep everything."""
        for name, network in self.networks().items():
            checkpoint.put_module(name, network)
        self.adam.put(checkpoint, "adam")
        checkpoint.put_generator("policy_generator", self.generator)
        checkpoint.put_generator("guide_generator", self.guide_generator)

    def get(self, checkpoint: Checkpoint) -> None:
        """Take everything back."""
        for name, network in self.networks().items():
            checkpoint.load_module(name, network)
        self.adam.get(checkpoint, "adam")
        checkpoint.load_generator("policy_generator", self.generator)
        checkpoint.load_generator("guide_generator", self.guide_generator)
