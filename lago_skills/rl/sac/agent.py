"""Soft actor-critic, plain and guided.

Objective (SAC, arXiv 1801.01290 and 1812.05905): maximise reward plus alpha times entropy, twin critics with the minimum
in the target, a tanh-Gaussian actor, alpha tuned towards a target entropy. Details that differ from that paper, plain
and guided alike: LayerNorm in the critics (RLPD, arXiv 2302.02948), n-step returns, both critics as one batched network (`lago_skills.rl.networks`),
and a share of each batch from demonstrations and successful episodes (RLPD), to whose actions the actor is pulled (self-imitation, arXiv
1806.05635, but without its filter by value, which let nothing pass: the actor is where the young critic is highest). That pull fades like the
guidance: kept up, it holds the policy to lucky actions of a poor prior (measured on `tests.small_envs.Walk` with a guide that points the wrong
way: .3 after 6,000 steps, 1.0 with the fade).

Guidance, each part a setting (`lago_skills.rl.config.SACConfig`):
  observe_prior      actor and critics see the prior's mean and spread
  leaders            an episode is led by the prior's mean, by the prior's samples, by the policy, or by the critic's choice between prior and
                     policy (IBRL, arXiv 2311.02198); a bandit over recent success decides, so guidance fades by itself
  target_proposals   the bootstrap target takes the better of the policy's and the prior's action (IBRL)
  density_weight     the actor's loss, and the target if wanted, count rho = log prior over uniform (LaGO, arXiv 2606.24669; SPiRL, arXiv 2010.11944)
  fade               how density and imitation go as the policy overtakes the prior
  warm_start_updates the prior's samples lead the first `random_steps`, and the actor starts from the prior's mean in the states these went through
  residual_scale     the actor corrects the prior
  plan_noise_m       exploration in plan space: in half of the episodes led by the prior's samples, the playbook's targets are shifted by
                     a random few centimetres, around zero or around the shift of an earlier success

The prior of each state is computed once, when the environment is stepped, and stored; updates never call the guide. Without a guide, and with one
whose floor is 1, this is the plain algorithm, bit for bit.

A run can be killed at any moment and goes on from its last checkpoint as if it had not been: networks, optimisers, buffers and random numbers
are on disk, and environments are brought back by repeating the actions of their running episodes.

Log keys, one row per evaluation (`curve.csv`, TensorBoard):
  eval/success         share of evaluation episodes with success, acting greedily on separate seeds
  eval/return          mean sum of rewards of those episodes
  eval/crashes         those that the environment's crash ended, without success
  train/success        share of the training episodes since the last row that ended in success
  train/return         mean sum of rewards of the training episodes since the last row
  train/episodes       training episodes so far
  train/harvested      successful training episodes kept so far
  train/prior_share    share of training steps since the last row at which the prior's action was taken
  train/fade           what is left of the weights of density and imitation, 1 to 0
  train/crashes        environments that crashed and were restarted so far
  loss/critic          mean squared Bellman error, average of the last 100 updates
  loss/actor           actor loss, average of the last 100 updates
  value/q              mean of the minimum critic on the last batch
  value/alpha          entropy temperature
  time/steps_per_s     environment steps per second since the start, updates included, evaluations not
  time/guide_share     share of that time spent in the guide

A run of several tasks has `eval/success/<task>` of each besides.
"""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lago_skills.rl.adam import Adam, ScalarAdam
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import Leader, SACConfig
from lago_skills.rl.guidance.advice import Layout
from lago_skills.rl.networks import Actor, Critics
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
    log_alpha: ScalarAdam
    actor_adam: Adam
    critic_adam: Adam
    generator: torch.Generator

    @staticmethod
    def create(state_size: int, action_size: int, config: SACConfig, layout: Layout | None, seed: int) -> SAC:
        """Fresh networks; the same seed gives the same networks, with and without a guide."""
        torch.manual_seed(seed)
        hints = 2 * action_size if layout is not None and config.observe_prior else 0
        actor = Actor(state_size, hints, action_size, config.hidden_size)
        critics = Critics(state_size + action_size, hints, config.hidden_size, config.layer_norm)
        targets = Critics(state_size + action_size, hints, config.hidden_size, config.layer_norm)
        targets.load_state_dict(critics.state_dict())
        targets.requires_grad_(False)
        rate = config.learning_rate
        return SAC(
            config,
            layout,
            actor,
            critics,
            targets,
            ScalarAdam(float(np.log(config.initial_alpha)), rate),
            Adam(actor.parameters(), rate),
            Adam([weight for each in critics.each for weight in each], rate),
            torch.Generator().manual_seed(seed),
        )

    # Acting -----------------------------------------------------------------------------------------------------------

    def act(self, states: NDArray[np.float32], advice: NDArray[np.float32], greedy: bool) -> NDArray[np.float32]:
        """(B, S'), (B, W) -> (B, A) actions of the policy."""
        with torch.inference_mode():
            rows = torch.from_numpy(advice)
            noise = None if greedy else torch.randn((len(states), self._action_size), generator=self.generator)
            action, _ = self.actor(torch.from_numpy(states), self._hint(rows), noise)
            return self._executed(action, rows).numpy()

    def value(
        self, states: NDArray[np.float32], advice: NDArray[np.float32], actions: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(B,) minimum of the two critics."""
        with torch.inference_mode():
            x = torch.from_numpy(np.concatenate([states, actions], axis=1))
            return self.critics(x, self._hint(torch.from_numpy(advice))).amin(dim=0).numpy()

    def greedy(self, states: NDArray[np.float32], advice: NDArray[np.float32], leader: Leader) -> NDArray[np.float32]:
        """(B, A) what is done without exploring: the policy's mode, the prior's mean, or the critic's choice of the two.

        Where the prior is silent, the policy's mode.
        """
        if leader == "policy" or self.layout is None:
            return self.act(states, advice, greedy=True)
        size = self.layout.action_size
        proposals, spoken = advice[:, :size], advice[:, 2 * size] < 1.0
        if leader in ("prior", "explore") and spoken.all():
            return proposals
        actions = self.act(states, advice, greedy=True)
        if leader == "mix":
            spoken &= self.value(states, advice, proposals) > self.value(states, advice, actions)
        return np.where(spoken[:, None], proposals, actions)

    def networks(self) -> dict[str, torch.nn.Module]:
        """What is needed to act, by name."""
        return {"actor": self.actor, "critics": self.critics}

    @property
    def alpha(self) -> float:
        """Entropy temperature."""
        return math.exp(self.log_alpha.value)

    @property
    def _action_size(self) -> int:
        return self.actor.head.out_features // 2

    def _hint(self, advice: Tensor) -> Tensor | None:
        return self.layout.hint(advice) if self.layout is not None and self.config.observe_prior else None

    def _executed(self, action: Tensor, advice: Tensor) -> Tensor:
        """What the environment is given for an action of the actor: the action, or the prior's mean corrected by it."""
        if self.layout is None or self.config.residual_scale is None:
            return action
        corrected = (self.layout.mean(advice) + self.config.residual_scale * action).clamp(-1.0, 1.0)
        return torch.where(self._silent(advice)[:, None], action, corrected)

    def _silent(self, advice: Tensor) -> Tensor:
        """(B,) where the prior says nothing."""
        assert self.layout is not None
        return advice[:, 2 * self.layout.action_size] >= 1.0

    # Learning ---------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def update_critics(self, batch: Batch, density_weight: float) -> float:
        """One gradient step of the critics and of their targets; returns the mean squared Bellman error."""
        x, hint = batch.state_action, self._hint(batch.advice)
        values, kept = self.critics.evaluate(x, hint)
        errors = values - self._goal(batch, density_weight)  # (2, B)
        by_values = errors * (2.0 / errors.numel())  # gradient of the mean squared error
        self.critic_adam.step(self.critics.gradients(x, hint, kept, by_values))
        torch._foreach_lerp_(self.targets.weights, self.critics.weights, self.config.tau)
        return errors.square_().mean().item()

    @torch.inference_mode()
    def _goal(self, batch: Batch, density_weight: float) -> Tensor:
        """(B,) what the critics are drawn to: n-step reward plus discounted value of the better of the policy's and the prior's action."""
        config, layout, state, advice = self.config, self.layout, batch.next_state, batch.next_advice
        hint, size = self._hint(advice), len(state)
        noise = torch.randn(batch.action.shape, generator=self.generator)
        action, log_p = self.actor(state, hint, noise)
        action = self._executed(action, advice)
        propose = layout is not None and config.target_proposals
        inputs = torch.cat([state, action], dim=1)
        if layout is not None and propose:  # both at once: (2B, input)
            inputs = torch.cat([inputs, torch.cat([state, layout.mean(advice)], dim=1)])
            hint = torch.cat([hint, hint]) if hint is not None else None
        values = self.targets(inputs, hint).amin(dim=0)
        value = values[:size] - self.alpha * log_p
        if layout is not None and config.density_in_target and density_weight > 0.0:
            value += density_weight * layout.rho(advice, action)
        if propose:  # the prior's action has no entropy term
            value = torch.where(self._silent(advice), value, torch.maximum(value, values[size:]))
        return value.mul_(batch.discount).add_(batch.reward)

    @torch.inference_mode()
    def update_actor(
        self, batch: Batch, n_successful: int, imitation_weight: float, density_weight: float
    ) -> tuple[float, float]:
        """One gradient step of actor and temperature; returns the actor's loss and the mean value of its actions.

        The last `n_successful` rows are of demonstrations and successful episodes.
        """
        state, advice, size = batch.state, batch.advice, len(batch.state)
        hint = self._hint(advice)
        noise = torch.randn(batch.action.shape, generator=self.generator)
        action, log_p, kept_of_actor = self.actor.evaluate(state, hint, noise)
        executed = self._executed(action, advice)
        values, kept = self.critics.evaluate(torch.cat([state, executed], dim=1), hint)
        of_first = values[0] <= values[1]
        shares = torch.stack([of_first, ~of_first]).to(values.dtype)  # the minimum is the one's or the other's
        by_executed = self.critics.by_inputs(kept, shares.mul_(-1.0 / size), action.shape[1])
        value = values.amin(dim=0)
        loss = (self.alpha * log_p - value).mean()
        if n_successful and imitation_weight > 0.0:
            apart = executed[-n_successful:] - batch.action[-n_successful:]
            loss += imitation_weight * apart.square().sum(dim=1).mean()
            by_executed[-n_successful:].add_(apart, alpha=2.0 * imitation_weight / n_successful)
        if self.layout is not None and density_weight > 0.0:
            rho, by_rho = self.layout.rho_and_gradient(advice, executed)
            loss -= density_weight * rho.mean()
            by_executed.sub_(by_rho, alpha=density_weight / size)
        by_action = self._by_action(by_executed, action, advice)
        self.actor_adam.step(self.actor.gradients(state, hint, kept_of_actor, by_action, self.alpha / size))
        target_entropy = self.config.target_entropy_per_action * batch.action.shape[1]
        # of -log alpha * (log_p + target entropy): the sign and zero of the paper's gradient, but not vanishing with alpha
        self.log_alpha.step(-(log_p.mean().item() + target_entropy))
        return loss.item(), value.mean().item()

    @torch.inference_mode()
    def warm_start(self, batch: Batch) -> None:
        """One gradient step that draws the policy's mode to the prior's mean."""
        if self.layout is None:
            return
        hint = self._hint(batch.advice)
        action, _, kept = self.actor.evaluate(batch.state, hint, None)
        apart = self._executed(action, batch.advice) - self.layout.mean(batch.advice)
        by_executed = apart.mul_(2.0 / len(apart)).masked_fill_(self._silent(batch.advice)[:, None], 0.0)
        by_action = self._by_action(by_executed, action, batch.advice)
        self.actor_adam.step(self.actor.gradients(batch.state, hint, kept, by_action, 0.0))

    def _by_action(self, by_executed: Tensor, action: Tensor, advice: Tensor) -> Tensor:
        """(B, A) gradient by the actor's action, given that by what the environment is given for it (see `_executed`)."""
        if self.layout is None or self.config.residual_scale is None:
            return by_executed
        scale = self.config.residual_scale
        inside = (self.layout.mean(advice) + scale * action).abs() <= 1.0
        return torch.where(self._silent(advice)[:, None], by_executed, scale * inside * by_executed)

    # Keeping ----------------------------------------------------------------------------------------------------------

    def put(self, checkpoint: Checkpoint) -> None:
        """Keep everything."""
        for name in ("actor", "critics", "targets"):
            checkpoint.put_module(name, getattr(self, name))
        self.actor_adam.put(checkpoint, "actor_adam")
        self.critic_adam.put(checkpoint, "critic_adam")
        checkpoint.values["log_alpha"] = self.log_alpha.state()
        checkpoint.put_generator("policy_generator", self.generator)

    def get(self, checkpoint: Checkpoint) -> None:
        """Take everything back."""
        for name in ("actor", "critics", "targets"):
            checkpoint.load_module(name, getattr(self, name))
        self.actor_adam.get(checkpoint, "actor_adam")
        self.critic_adam.get(checkpoint, "critic_adam")
        self.log_alpha.set_state(checkpoint.values["log_alpha"])
        checkpoint.load_generator("policy_generator", self.generator)
