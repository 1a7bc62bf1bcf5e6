"""Soft actor-critic, plain and guided: networks, what they do, and the losses they descend.

Objective (SAC, arXiv 1801.01290 and 1812.05905): maximise reward plus alpha times entropy, twin critics with the minimum
in the target, a tanh-Gaussian actor, alpha tuned towards a target entropy. Details that differ from that paper, plain
and guided alike: LayerNorm in the critics (RLPD, arXiv 2302.02948), n-step returns, and a share of each batch from demonstrations and successful
episodes (RLPD), to whose actions the actor is pulled (self-imitation, arXiv 1806.05635, but without its filter by value, which let nothing pass: the
actor is where the young critic is highest). That pull fades like the guidance: kept up, it holds the policy to lucky actions of a poor prior
(measured on `tests.small_envs.Walk` with a guide that points the wrong way: .3 after 6,000 steps, 1.0 with the fade).

The prior of each state is computed once, when the environment is stepped, and stored; updates never call the guide. Without a guide, and with one
whose floor is 1, this is the plain algorithm, bit for bit. Settings and log keys: `docs/algorithms/sac.md`.
"""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import Leader, SACConfig
from lago_skills.rl.guidance.advice import Layout
from lago_skills.rl.networks import Normalizer, adam, device_for, set_gradients
from lago_skills.rl.sac.networks import Actor, Critics
from lago_skills.rl.sac.replay import Batch


@dataclass
class SAC:
    """Networks, optimisers and updates."""

    config: SACConfig
    layout: Layout | None
    """How advice is laid out; None without a guide."""
    actor: Actor
    critics: Critics
    targets: Critics
    """Critics as they were a while ago."""
    normalizer: Normalizer
    log_alpha: Tensor
    """() logarithm of the entropy temperature."""
    actor_optimizer: torch.optim.Adam
    critic_optimizer: torch.optim.Adam
    alpha_optimizer: torch.optim.Adam
    generator: torch.Generator
    """Of the policy's noise, on the processor wherever the networks are."""
    device: torch.device

    @staticmethod
    def create(state_size: int, action_size: int, config: SACConfig, layout: Layout | None, seed: int) -> SAC:
        """Fresh networks; the same seed gives the same networks, with and without a guide.

        Raises:
            StudyError: a device that is not there.
        """
        device = device_for(config.device)
        torch.manual_seed(seed)
        hints = 2 * action_size if layout is not None and config.observe_prior else 0
        actor = Actor(state_size, hints, action_size, config.hidden_size)
        critics = Critics(state_size + action_size, hints, config.hidden_size, config.layer_norm)
        targets = Critics(state_size + action_size, hints, config.hidden_size, config.layer_norm)
        targets.load_state_dict(critics.state_dict())
        targets.requires_grad_(False)
        normalizer = Normalizer(state_size, config.normalize_states)
        for network in (actor, critics, targets, normalizer):
            network.to(device)
        log_alpha = torch.tensor(math.log(config.initial_alpha), dtype=torch.float64, device=device, requires_grad=True)
        rate = config.learning_rate
        return SAC(
            config,
            layout,
            actor,
            critics,
            targets,
            normalizer,
            log_alpha,
            adam(list(actor.parameters()), rate),
            adam(list(critics.parameters()), rate),
            adam([log_alpha], rate),
            torch.Generator().manual_seed(seed),
            device,
        )

    # Acting -----------------------------------------------------------------------------------------------------------

    def act(self, states: NDArray[np.float32], advice: NDArray[np.float32], greedy: bool) -> NDArray[np.float32]:
        """(B, S'), (B, W) -> (B, A) actions of the policy."""
        with torch.inference_mode():
            rows = self._tensor(advice)
            noise = None if greedy else self._noise(len(states))
            return self._policy(self.normalizer(self._tensor(states)), rows, noise)[0].cpu().numpy()

    def value(
        self, states: NDArray[np.float32], advice: NDArray[np.float32], actions: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(B,) minimum of the two critics."""
        with torch.inference_mode():
            x = torch.cat([self.normalizer(self._tensor(states)), self._tensor(actions)], dim=1)
            return self.critics(x, self._hint(self._tensor(advice))).amin(dim=0).cpu().numpy()

    def greedy(self, states: NDArray[np.float32], advice: NDArray[np.float32], leader: Leader) -> NDArray[np.float32]:
        """(B, A) what is done without exploring: the policy's mode, the prior's mean, or the critic's choice of the two.

        Where the prior is silent, the policy's mode.
        """
        if leader == "policy" or self.layout is None:
            return self.act(states, advice, greedy=True)
        size = self.layout.action_size
        proposals, speaks = advice[:, :size], advice[:, 2 * size] < 1.0
        if leader in ("prior", "explore") and speaks.all():
            return proposals
        actions = self.act(states, advice, greedy=True)
        if leader == "mix":
            speaks &= self.value(states, advice, proposals) > self.value(states, advice, actions)
        return np.where(speaks[:, None], proposals, actions)

    def observe(self, states: NDArray[np.float32]) -> None:
        """Count (B, S') states, whose moments the networks see states by."""
        if self.normalizer.enabled:
            self.normalizer.update(self._tensor(states))

    @property
    def alpha(self) -> float:
        """Entropy temperature."""
        return math.exp(self.log_alpha.item())

    def _policy(self, state: Tensor, advice: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Action (B, A), the prior's mean corrected by the actor if so set, and the log-density (B,) of what the actor put out; of normalised states."""
        action, log_density = self.actor(state, self._hint(advice), noise)
        if self.layout is not None and self.config.residual_scale is not None:
            corrected = (self.layout.mean(advice) + self.config.residual_scale * action).clamp(-1.0, 1.0)
            action = torch.where(self.layout.silent(advice)[:, None], action, corrected)
        return action, log_density

    def _hint(self, advice: Tensor) -> Tensor | None:
        return self.layout.hint(advice) if self.layout is not None and self.config.observe_prior else None

    def _noise(self, n_rows: int) -> Tensor:
        size = self.actor.head.out_features // 2
        return torch.randn((n_rows, size), generator=self.generator).to(self.device)

    def _tensor(self, array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    # Learning ---------------------------------------------------------------------------------------------------------

    def update_critics(self, batch: Batch, density_weight: float) -> float:
        """One gradient step of the critics, and one of their targets towards them; returns the mean squared Bellman error."""
        batch = batch.to(self.device)
        loss = self.critic_loss(batch, density_weight)
        set_gradients(loss, self.critic_optimizer)
        self.critic_optimizer.step()
        with torch.no_grad():
            for target, weight in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                target.lerp_(weight, self.config.tau)
        return loss.item()

    def critic_loss(self, batch: Batch, density_weight: float) -> Tensor:
        """() mean squared Bellman error of both critics."""
        x = torch.cat([self.normalizer(batch.state), batch.action], dim=1)
        errors = self.critics(x, self._hint(batch.advice)) - self._bellman_target(batch, density_weight)
        return errors.square().mean()

    @torch.no_grad()
    def _bellman_target(self, batch: Batch, density_weight: float) -> Tensor:
        """(B,) n-step reward plus the discounted value of the policy's action; or of the prior's, if that is better and so set."""
        config, layout, advice = self.config, self.layout, batch.next_advice
        state = self.normalizer(batch.next_state)
        action, log_density = self._policy(state, advice, self._noise(len(state)))
        value = self._target_value(state, action, advice) - self.log_alpha.exp().float() * log_density
        if layout is not None and config.density_in_target and density_weight > 0.0:
            value = value + density_weight * layout.rho(advice, action)
        if layout is not None and config.target_proposals:  # the prior's action has no entropy term
            proposed = self._target_value(state, layout.mean(advice), advice)
            value = torch.where(layout.silent(advice), value, torch.maximum(value, proposed))
        return batch.reward + batch.discount * value

    def _target_value(self, state: Tensor, action: Tensor, advice: Tensor) -> Tensor:
        """(B,) minimum of the target critics."""
        return self.targets(torch.cat([state, action], dim=1), self._hint(advice)).amin(dim=0)

    def update_actor(
        self,
        batch: Batch,
        n_successful: int,
        imitation_weight: float,
        density_weight: float,
        follow_weight: float = 0.0,
    ) -> tuple[float, float]:
        """One gradient step of actor and temperature; returns the actor's loss and the mean value of its actions.

        The last `n_successful` rows are of demonstrations and successful episodes.
        """
        batch = batch.to(self.device)
        loss, value, log_density = self.actor_loss(batch, n_successful, imitation_weight, density_weight, follow_weight)
        set_gradients(loss, self.actor_optimizer)
        self.actor_optimizer.step()
        target_entropy = self.config.target_entropy_per_action * batch.action.shape[1]
        # of log alpha instead of alpha: the sign and zero of the paper's gradient, but not vanishing with alpha
        alpha_loss = -self.log_alpha * (log_density.detach().mean() + target_entropy)
        set_gradients(alpha_loss, self.alpha_optimizer)
        self.alpha_optimizer.step()
        return loss.item(), value.mean().item()

    def actor_loss(
        self,
        batch: Batch,
        n_successful: int,
        imitation_weight: float,
        density_weight: float,
        follow_weight: float = 0.0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """() alpha log pi - Q, plus the squared distances to what succeeded and to the prior's mean, minus rho; with Q (B,) and log pi (B,)."""
        state = self.normalizer(batch.state)
        action, log_density = self._policy(state, batch.advice, self._noise(len(state)))
        value = self.critics(torch.cat([state, action], dim=1), self._hint(batch.advice)).amin(dim=0)
        loss = (self.log_alpha.detach().exp().float() * log_density - value).mean()
        if n_successful and imitation_weight > 0.0:
            apart = action[-n_successful:] - batch.action[-n_successful:]
            loss = loss + imitation_weight * apart.square().sum(dim=1).mean()
        if self.layout is not None and follow_weight > 0.0:
            loss = loss + follow_weight * self._apart_from_prior(action, batch.advice)
        if self.layout is not None and density_weight > 0.0:
            loss = loss - density_weight * self.layout.rho(batch.advice, action).mean()
        return loss, value, log_density

    def warm_start(self, batch: Batch) -> None:
        """One gradient step that draws the policy's mode to the prior's mean, where the prior says something."""
        if self.layout is None:
            return
        batch = batch.to(self.device)
        action, _ = self._policy(self.normalizer(batch.state), batch.advice, noise=None)
        set_gradients(self._apart_from_prior(action, batch.advice), self.actor_optimizer)
        self.actor_optimizer.step()

    def _apart_from_prior(self, action: Tensor, advice: Tensor) -> Tensor:
        """() mean squared distance to the prior's mean, where the prior says something."""
        assert self.layout is not None
        apart = action - self.layout.mean(advice)
        return apart.square().sum(dim=1).masked_fill(self.layout.silent(advice), 0.0).mean()

    # Weights ----------------------------------------------------------------------------------------------------------

    def networks(self) -> dict[str, nn.Module]:
        """What is needed to act, by name."""
        normalizer = {"normalizer": self.normalizer} if self.normalizer.enabled else {}
        return {"actor": self.actor, "critics": self.critics, **normalizer}

    def put(self, checkpoint: Checkpoint) -> None:
        """Save everything in a checkpoint."""
        for name, network in (self.networks() | {"targets": self.targets}).items():
            checkpoint.put_module(name, network)
        for name, optimizer in self._optimizers().items():
            checkpoint.put_optimizer(name, optimizer)
        checkpoint.put("log_alpha", self.log_alpha)
        checkpoint.put_generator("policy_generator", self.generator)

    def get(self, checkpoint: Checkpoint) -> None:
        """What `put` saved."""
        for name, network in (self.networks() | {"targets": self.targets}).items():
            checkpoint.load_module(name, network)
        for name, optimizer in self._optimizers().items():
            checkpoint.load_optimizer(name, optimizer)
        with torch.no_grad():
            self.log_alpha.copy_(checkpoint.arrays["log_alpha"])
        checkpoint.load_generator("policy_generator", self.generator)

    def _optimizers(self) -> dict[str, torch.optim.Adam]:
        return {
            "actor_optimizer": self.actor_optimizer,
            "critic_optimizer": self.critic_optimizer,
            "alpha_optimizer": self.alpha_optimizer,
        }
