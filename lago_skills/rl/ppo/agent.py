"""Proximal policy optimisation, plain and guided, for continuous and discrete actions: networks, what they do, and the loss they descend.

Objective (PPO, arXiv 1707.06347): the clipped surrogate with generalised advantage estimation (arXiv 1506.02438), a squared
value loss and an entropy bonus, Adam with eps 1e-5, orthogonal weights, advantages normalised in each minibatch. Details that differ from
CleanRL's and Stable-Baselines3's code, plain and guided alike: states are normalised by running moments that move only between updates, so that the
ratio of new to old policy is exactly of what acted; values and log-densities of a rollout are computed in one batch after it; a time limit
bootstraps with the value of the observation it cut off, a termination does not.

Continuous actions are a diagonal Gaussian; with `std_by_state` its spread depends on the state, as a prior's does: wide where much is right, narrow where
something must be hit. Samples outside [-1, 1] are clipped by the environment's door alone: densities are of what was drawn, which keeps the gradient
unbiased.

Without a guide, and with one whose floor is 1, this is the plain algorithm, bit for bit. Evaluation is by the policy's own mode; with
`observe_prior` or `residual_scale` the policy needs the guide to act, without them it stands alone. Settings and log keys: `docs/algorithms/ppo.md`.
"""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import Leader, PPOConfig
from lago_skills.rl.guidance.advice import DiscreteLayout, Layout
from lago_skills.rl.networks import Normalizer, adam, device_for, set_gradients
from lago_skills.rl.ppo.distributions import Categorical, Gaussian
from lago_skills.rl.ppo.networks import Network

UPDATE_KEYS = (
    "loss/policy",
    "loss/value",
    "loss/divergence",
    "policy/entropy",
    "policy/approx_kl",
    "policy/clip_share",
    "policy/std",
)
APPROX_KL = UPDATE_KEYS.index("policy/approx_kl")
ADAM_EPSILON = 1e-5
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
    generator: torch.Generator
    """Of actions and minibatches, on the processor wherever the networks are."""
    guide_generator: torch.Generator
    """Of what only guidance draws, so that the other draws are those of a plain run."""
    device: torch.device

    def __post_init__(self) -> None:
        self.optimizer = adam(self.parameters(), self.config.learning_rate, ADAM_EPSILON)

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
        """Fresh networks; the same seed gives the same networks, with and without a guide.

        Raises:
            StudyError: a device that is not there.
        """
        device = device_for(config.device)
        torch.manual_seed(seed)
        hints = layout.hint_size if layout is not None and config.observe_prior else 0
        n_outputs = 2 * action_size if config.std_by_state and not discrete else action_size
        actor = Network(state_size, hints, config.hidden_size, n_outputs, head_gain=0.01).to(device)
        critic = Network(state_size, hints, config.hidden_size, 1, head_gain=1.0).to(device)
        log_std = None
        if not discrete:
            log_std = nn.Parameter(torch.full((action_size,), math.log(config.initial_std), device=device))
        return PPO(
            config,
            layout,
            actor,
            critic,
            Normalizer(state_size, config.normalize_states).to(device),
            log_std,
            torch.Generator().manual_seed(seed),
            torch.Generator().manual_seed(seed + 1),
            device,
        )

    @property
    def layout(self) -> Layout | DiscreteLayout | None:
        """How the advice is laid out that the policy needs to act; None where it acts without."""
        sees = self.config.observe_prior or self.config.residual_scale is not None
        return self.advice_layout if sees else None

    def parameters(self) -> list[nn.Parameter]:
        """All weights; those of hints last."""
        hints = [network.hint for network in (self.actor, self.critic) if network.hint is not None]
        spread = [] if self.log_std is None else [self.log_std]
        every = [*self.actor.parameters(), *self.critic.parameters(), *spread]
        return [each for each in every if all(each is not hint for hint in hints)] + hints

    # Acting -----------------------------------------------------------------------------------------------------------

    def act(self, states: NDArray[np.float32], advice: NDArray[np.float32]) -> NDArray[Any]:
        """(B, S'), (B, W) -> (B, A) or (B,) actions drawn from the policy; continuous ones as drawn, not clipped."""
        with torch.inference_mode():
            return self.policy(self._tensor(states), self._tensor(advice)).sample(self.generator).cpu().numpy()

    def greedy(self, states: NDArray[np.float32], advice: NDArray[np.float32], leader: Leader) -> NDArray[Any]:
        """(B, A) in [-1, 1], or (B,): the policy's mode; or the prior's mean where the prior leads."""
        with torch.inference_mode():
            rows = self._tensor(advice)
            if leader == "prior" and self.advice_layout is not None:
                return self.advice_layout.mode(rows).cpu().numpy()
            return self.policy(self._tensor(states), rows).mode().cpu().numpy()

    def value(self, states: NDArray[np.float32], advice: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B,) what the critic expects."""
        with torch.inference_mode():
            return self._values(self.normalizer(self._tensor(states)), self._tensor(advice)).cpu().numpy()

    def log_prob(
        self, states: NDArray[np.float32], advice: NDArray[np.float32], actions: NDArray[Any]
    ) -> NDArray[np.float32]:
        """(B,) log-density, or log-probability, of actions as drawn."""
        with torch.inference_mode():
            policy = self.policy(self._tensor(states), self._tensor(advice))
            return policy.log_prob(self._tensor(actions)).cpu().numpy()

    def policy(self, states: Tensor, advice: Tensor) -> Gaussian | Categorical:
        """The distribution over actions in (B, S') states."""
        return self._policy(self.normalizer(states), advice)

    def _policy(self, state: Tensor, advice: Tensor) -> Gaussian | Categorical:
        """Of normalised states."""
        outputs = self.actor(state, self._hint(advice))
        if self.log_std is None:
            return Categorical(torch.log_softmax(outputs, dim=1))
        log_std = self.log_std.expand(len(outputs), -1)
        if self.config.std_by_state:
            outputs, change = outputs.chunk(2, dim=1)
            log_std = (log_std + change).clamp(*LOG_STD_RANGE)
        if self.config.residual_scale is not None and isinstance(self.advice_layout, Layout):
            corrected = self.advice_layout.mean(advice) + self.config.residual_scale * outputs
            outputs = torch.where(self.advice_layout.silent(advice)[:, None], outputs, corrected)
        return Gaussian(outputs, log_std)

    def _values(self, state: Tensor, advice: Tensor) -> Tensor:
        """(B,) of normalised states."""
        return self.critic(state, self._hint(advice))[:, 0]

    def _hint(self, advice: Tensor) -> Tensor | None:
        if self.advice_layout is None or not self.config.observe_prior:
            return None
        return self.advice_layout.hint(advice)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    # Learning ---------------------------------------------------------------------------------------------------------

    def rows(
        self,
        states: NDArray[np.float32],
        advice: NDArray[np.float32],
        actions: NDArray[Any],
        log_probs: NDArray[np.float32],
        advantages: NDArray[np.float32],
        targets: NDArray[np.float32],
        weights: NDArray[np.float32],
    ) -> Rows:
        """Rows (B, ...) on the device; weights of the divergence are 0 where the prior is silent."""
        arrays = (states, advice, actions, log_probs, advantages, targets, np.ascontiguousarray(weights))
        rows = Rows(*(self._tensor(array) for array in arrays))
        if self.advice_layout is None:
            return rows
        return replace(rows, weight=rows.weight.masked_fill(self.advice_layout.silent(rows.advice), 0.0))

    def update(self, rows: Rows, progress: float) -> dict[str, float]:
        """Some epochs of minibatches; what `UPDATE_KEYS` name, averaged over them. `progress` of the run goes from 0 to 1."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * (1.0 - progress if config.anneal else 1.0)
        metrics: list[Tensor] = []
        size, rows = min(config.minibatch_size, len(rows)), self._normalized(rows)
        for _ in range(config.n_epochs):
            shuffled = rows[torch.randperm(len(rows), generator=self.generator).to(self.device)]
            for start in range(0, len(rows) - size + 1, size):
                loss, of_batch = self.loss(shuffled[start : start + size])
                self._descend(loss, self.optimizer)
                metrics.append(of_batch)
            if config.target_kl is not None and float(metrics[-1][APPROX_KL]) > config.target_kl:
                break
        means: list[float] = torch.stack(metrics).double().mean(dim=0).tolist()
        return dict(zip(UPDATE_KEYS, means, strict=True))

    def loss(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """() loss of a minibatch of normalised states, and (7,) what `UPDATE_KEYS` name."""
        config = self.config
        policy = self._policy(rows.state, rows.advice)
        log_ratio = policy.log_prob(rows.action) - rows.log_prob
        ratio = log_ratio.exp()
        advantage = (rows.advantage - rows.advantage.mean()) / (rows.advantage.std() + 1e-8)
        clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
        policy_loss = -torch.minimum(advantage * ratio, advantage * clipped).mean()
        value_loss = (self._values(rows.state, rows.advice) - rows.target).square().mean()
        entropy = policy.entropy().mean()
        loss = policy_loss + config.value_weight * value_loss
        if config.entropy_weight:
            loss = loss - config.entropy_weight * entropy
        divergence = loss.new_zeros(())
        guided = torch.nonzero(rows.weight)[:, 0]  # other rows may be without advice
        if len(guided):
            apart = self._divergence(policy.at(guided), rows.advice[guided])
            loss = loss + (rows.weight[guided] * apart).sum() / len(rows)
            divergence = apart.mean()
        with torch.no_grad():
            approx_kl = (ratio - 1.0 - log_ratio).mean()
            clip_share = ((ratio - 1.0).abs() > config.clip).float().mean()
            metrics = [policy_loss, value_loss, divergence, entropy, approx_kl, clip_share, policy.spread()]
            return loss, torch.stack(metrics)

    def _divergence(self, policy: Gaussian | Categorical, advice: Tensor) -> Tensor:
        """(B,) between policy and prior."""
        assert self.advice_layout is not None
        if self.config.divergence == "forward":
            return policy.forward_divergence(self.advice_layout, advice)
        return policy.reverse_divergence(self.advice_layout, advice, self.guide_generator)

    def warm_start(self, rows: Rows, returns: Rows) -> None:
        """Draw the policy to the prior on some rows, and the critic to the returns of others; then start the optimiser anew."""
        assert self.advice_layout is not None
        optimizer = adam(self.parameters(), WARM_START_RATE, ADAM_EPSILON)
        size, rows, returns = self.config.minibatch_size, self._normalized(rows), self._normalized(returns)
        for _ in range(self.config.warm_start_updates):
            some = rows[torch.randint(len(rows), (size,), generator=self.guide_generator).to(self.device)]
            known = returns[torch.randint(len(returns), (size,), generator=self.guide_generator).to(self.device)]
            apart = self._policy(some.state, some.advice).forward_divergence(self.advice_layout, some.advice)
            errors = self._values(known.state, known.advice) - known.target
            self._descend(apart.mean() + errors.square().mean(), optimizer)
        self.optimizer = adam(self.parameters(), self.config.learning_rate, ADAM_EPSILON)

    def _normalized(self, rows: Rows) -> Rows:
        """With the states that the networks see."""
        return replace(rows, state=self.normalizer(rows.state))

    def _descend(self, loss: Tensor, optimizer: torch.optim.Adam) -> None:
        """One step down the gradient, shortened to `max_grad_norm`."""
        set_gradients(loss, optimizer)
        parameters = self.parameters()
        n_hints = sum(network.hint is not None for network in (self.actor, self.critic))
        layers, hints = parameters[: len(parameters) - n_hints], parameters[len(parameters) - n_hints :]
        # apart, so that hints of nothing change not even the last bit
        norm = torch.hypot(_norm_of_gradients(layers), _norm_of_gradients(hints))
        nn.utils.clip_grads_with_norm_(parameters, self.config.max_grad_norm, norm)
        optimizer.step()

    # Weights ----------------------------------------------------------------------------------------------------------

    def networks(self) -> dict[str, nn.Module]:
        """What is needed to act, by name."""
        spread = {} if self.log_std is None else {"spread": nn.ParameterList([self.log_std])}
        return {"actor": self.actor, "critic": self.critic, "normalizer": self.normalizer, **spread}

    def put(self, checkpoint: Checkpoint) -> None:
        """Save everything in a checkpoint."""
        for name, network in self.networks().items():
            checkpoint.put_module(name, network)
        checkpoint.put_optimizer("optimizer", self.optimizer)
        checkpoint.put_generator("policy_generator", self.generator)
        checkpoint.put_generator("guide_generator", self.guide_generator)

    def get(self, checkpoint: Checkpoint) -> None:
        """What `put` saved."""
        for name, network in self.networks().items():
            checkpoint.load_module(name, network)
        checkpoint.load_optimizer("optimizer", self.optimizer)
        checkpoint.load_generator("policy_generator", self.generator)
        checkpoint.load_generator("guide_generator", self.guide_generator)


def _norm_of_gradients(parameters: list[nn.Parameter]) -> Tensor:
    """() Euclidean norm of all gradients together."""
    return nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
