"""What may be set about online training."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SACConfig(BaseModel):
    """Soft actor-critic, plain or guided. Every plain field means the same for both."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    n_steps: int = Field(default=10_000, ge=1)
    """Environment steps of one run."""
    batch_size: int = Field(default=128, ge=2)
    actor_every: int = Field(default=2, ge=1)
    """Critic updates per update of actor and temperature (TD3, arXiv 1802.09477)."""
    learning_rate: float = Field(default=5e-4, gt=0)
    gamma: float = Field(default=0.99, gt=0, lt=1)
    tau: float = Field(default=0.01, gt=0, le=1)
    """Polyak rate of the target critics."""
    hidden_size: int = Field(default=256, ge=1)
    n_step: int = Field(default=3, ge=1)
    """Steps of reward summed before bootstrapping."""
    random_steps: int = Field(default=1_000, ge=0)
    """First environment steps, without updates: where the policy leads, at random; where the prior leads, by the prior."""
    updates_per_step: float = Field(default=1.0, gt=0)
    initial_alpha: float = Field(default=0.02, gt=0)
    """First entropy temperature; small, since a sparse return is at most 1."""
    target_entropy_per_action: float = -1.0
    eval_every: int = Field(default=2_500, ge=1)
    """Environment steps between evaluations."""
    eval_episodes: int = Field(default=20, ge=1)

    guidance: Literal["none", "proposals"] = "proposals"
    """"none" is plain SAC; "proposals" adds the prior: as a leader of episodes, as an alternative that the critic may choose,
    and in the bootstrap target (IBRL, arXiv 2311.02198)."""
    success_share: float = Field(default=0.5, ge=0, lt=1)
    """Guided: share of a batch drawn from harvested successful episodes, once there are any (RLPD, arXiv 2302.02948)."""
    imitation_weight: float = Field(default=4.0, ge=0)
    """Guided: weight of the squared distance to the actions of successful episodes in the actor's loss."""
    plan_noise_m: float = Field(default=0.02, ge=0)
    """Guided: std of a per-episode shift of each playbook step's target while exploring, metres."""
