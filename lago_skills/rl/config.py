"""What may be set about online training."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Leader = Literal["prior", "explore", "mix", "policy"]
LEADERS: tuple[Leader, ...] = ("prior", "explore", "mix", "policy")


class RunConfig(BaseModel):
    """What the run of any algorithm has."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    ADDED_LATER: ClassVar[frozenset[str]] = frozenset({"stop_at_success", "device"})
    """Settings that stored runs were made before."""

    n_steps: int = Field(default=10_000, ge=1)
    """Environment steps of one run, over all environments."""
    eval_every: int = Field(default=2_500, ge=1)
    """Environment steps between evaluations, log rows and checkpoints."""
    eval_early: tuple[int, ...] = ()
    """Environment steps of further evaluations, for what is learned before the first."""
    eval_episodes: int = Field(default=20, ge=1)
    """Of each evaluation, of each task."""
    harvest: bool = True
    """Whether the training's own successful episodes are kept; soft actor-critic learns of them as of demonstrations."""
    stop_at_success: float | None = Field(default=None, gt=0, le=1)
    """Share of successful evaluation episodes at which a run ends before `n_steps`; never, by default."""
    normalize_states: bool = False
    """Networks see states by their running mean and spread."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """Where networks are: small ones are quickest on the processor; "auto" takes a GPU where there is one."""

    def recipe(self) -> dict[str, Any]:
        """What a run is made from, for fingerprints: a setting that came later counts only where it is not at its default."""
        settings, fields = self.model_dump(mode="json"), type(self).model_fields
        return {k: v for k, v in settings.items() if k not in self.ADDED_LATER or v != fields[k].default}


class SACConfig(RunConfig):
    """Soft actor-critic, plain or guided. The fields of the second half do nothing where there is no guide."""

    ADDED_LATER: ClassVar[frozenset[str]] = RunConfig.ADDED_LATER | {
        "normalize_states",
        "keep_quickest",
        "speed_share",
        "follow_weight",
        "reward_scale",
    }

    batch_size: int = Field(default=128, ge=2)
    """Transitions in an update."""
    actor_every: int = Field(default=2, ge=1)
    """Critic updates per update of actor and temperature (TD3, arXiv 1802.09477)."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Of actor, critics and temperature (Adam)."""
    gamma: float = Field(default=0.99, gt=0, lt=1)
    """What a reward one step later is worth."""
    tau: float = Field(default=0.01, gt=0, le=1)
    """Polyak rate of the target critics."""
    hidden_size: int = Field(default=256, ge=1)
    """Units of each hidden layer of actor and critics."""
    layer_norm: bool = True
    """LayerNorm in the critics (RLPD, arXiv 2302.02948)."""
    n_step: int = Field(default=3, ge=1)
    """Steps of reward summed before bootstrapping."""
    reward_scale: float = Field(default=1.0, gt=0)
    """What rewards are multiplied by before they are learned from, so that a return is about 1: 1 - gamma where every solved step has a reward of 1."""
    random_steps: int = Field(default=1_000, ge=0)
    """First environment steps, without updates: where the policy leads, at random; where the prior leads, by the prior."""
    updates_per_step: float = Field(default=1.0, gt=0)
    """Updates of the critics for each environment step."""
    initial_alpha: float = Field(default=0.02, gt=0)
    """First entropy temperature; small, since a sparse return is at most 1."""
    target_entropy_per_action: float = -1.0
    """The entropy that the temperature is tuned towards is this times the numbers in an action, in nats."""
    buffer_size: int = Field(default=1_000_000, ge=1)
    """Most transitions kept; a run shorter than that keeps all."""
    success_share: float = Field(default=0.5, ge=0, lt=1)
    """Share of a batch drawn from demonstrations and harvested successful episodes, once there are any (RLPD, arXiv 2302.02948)."""
    keep_quickest: int | None = Field(default=None, ge=1)
    """Of demonstrations and successful episodes only so many are learned from, those of the fewest steps; all, by default."""
    imitation_weight: float = Field(default=4.0, ge=0)
    """Weight of the squared distance to the actions of demonstrations and successful episodes in the actor's loss."""
    fade: Literal["constant", "linear", "adaptive"] = "adaptive"
    """How the weights of imitation and density go: not at all, to 0 at `fade_until`, or as the policy's recent success nears the prior's
    (demonstrations', without a guide: those count as always successful)."""
    fade_until: float = Field(default=0.5, gt=0, le=1)
    """Linear fade: share of the run after which the weights are 0."""

    observe_prior: bool = True
    """Guided: the networks see mean and std of the prior, through weights that start at zero."""
    leaders: tuple[Leader, ...] = Field(default=LEADERS, min_length=1)
    """Guided: who may lead a training episode; a bandit over recent success chooses among them."""
    speed_share: float = Field(default=0.0, ge=0, lt=1)
    """Guided: what leaders are compared by is success, less so much of it as it comes late: the whole share at the longest episode so far."""
    target_proposals: bool = True
    """Guided: the bootstrap target takes the better of the policy's and the prior's action (IBRL, arXiv 2311.02198)."""
    density_weight: float = Field(default=0.0, ge=0)
    """Guided: weight of rho, the log of prior over uniform, in the actor's loss; with the entropy term, a KL divergence to the prior."""
    follow_weight: float = Field(default=0.0, ge=0)
    """Guided: weight of the squared distance to the prior's mean in the actor's loss, in all states of a batch, whoever came there (DAgger, arXiv 1011.0686);
    times how far the prior's recent success is ahead of the policy's."""
    density_in_target: bool = False
    """Guided: rho counts in the bootstrap target as well (SPiRL, arXiv 2010.11944)."""
    warm_start_updates: int = Field(default=0, ge=0)
    """Guided: updates that draw the policy to the prior's mean before any other, where the prior's samples led: they then lead the first `random_steps`."""
    residual_scale: float | None = Field(default=None, gt=0)
    """Guided: the policy corrects the prior's mean by up to this much instead of acting by itself."""
    plan_noise_m: float = Field(default=0.02, ge=0)
    """Guided: std of a per-episode shift of each playbook step's target while exploring, metres."""
    n_components: int = Field(default=4, ge=1)
    """Guided: most components of the prior's mixture kept in the replay, the heaviest."""


class PPOConfig(RunConfig):
    """Proximal policy optimisation, plain or guided, for continuous and discrete actions."""

    ADDED_LATER: ClassVar[frozenset[str]] = RunConfig.ADDED_LATER | {"eval_early"}

    n_steps: int = Field(default=300_000, ge=1)
    rollout_steps: int = Field(default=200, ge=1)
    """Steps of each environment between updates."""
    minibatch_size: int = Field(default=250, ge=2)
    """States in an update."""
    n_epochs: int = Field(default=10, ge=1)
    """How often a rollout is gone through."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Of Adam."""
    anneal: bool = False
    """Whether the learning rate falls linearly to 0 over the run."""
    gamma: float = Field(default=0.99, gt=0, lt=1)
    """What a reward one step later is worth."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """Of generalised advantage estimation (arXiv 1506.02438)."""
    clip: float = Field(default=0.2, gt=0)
    """The ratio of new to old probability counts up to so far from 1 (arXiv 1707.06347)."""
    value_weight: float = Field(default=0.5, ge=0)
    """Of the critic's squared error in the loss."""
    entropy_weight: float = Field(default=0.0, ge=0)
    """Of the policy's entropy in the loss; a bonus, so that it stays varied."""
    max_grad_norm: float = Field(default=0.5, gt=0)
    """Gradients longer than this are shortened to it."""
    target_kl: float | None = Field(default=None, gt=0)
    """Epochs end early where the policy has moved farther than this."""
    hidden_size: int = Field(default=256, ge=1)
    """Units of each hidden layer of policy and critic."""
    normalize_states: bool = True
    initial_std: float = Field(default=1.0, gt=0)
    """Of continuous actions."""
    std_by_state: bool = True
    """Whether the spread of continuous actions depends on the state."""
    eval_every: int = Field(default=20_000, ge=1)

    observe_prior: bool = False
    """Guided: the networks see the prior, through weights that start at zero. The policy then needs the guide to act; without, it stands alone."""
    density_weight: float = Field(default=5.0, ge=0)
    """Guided: weight of the divergence between policy and prior in the loss (LaGO, arXiv 2606.24669)."""
    fade: Literal["constant", "linear", "adaptive"] = "adaptive"
    """Guided: how that weight goes: not at all; to 0 at `fade_until`; or, for each task, by how far the prior's return is ahead of
    the policy's, times the linear fade."""
    divergence: Literal["reverse", "forward"] = "forward"
    """Guided: KL(policy || prior), which wants one of the prior's modes; or KL(prior || policy), which wants the prior's mean and
    spread (its probabilities) and pulls however far the policy is."""
    fade_until: float = Field(default=1.0, gt=0, le=1)
    """Guided: share of the run after which the weight is 0, unless it is constant."""
    trial_episodes: int = Field(default=3, ge=0)
    """Guided: at the beginning, episodes are led in turns by policy and prior, until each task has had so many of both, or a tenth of the run is over.
    Without a trial there is no warm start, and an adaptive weight is 0."""
    trial_by: Literal["turns", "prior"] = "turns"
    """Guided: who leads while the trial lasts. Where only the prior does, nothing is compared, and it counts as the better one on all tasks."""
    warm_start_updates: int = Field(default=1_000, ge=0)
    """Guided: updates after the trial that draw the policy to the prior, on tasks where the prior did better; an evaluation follows."""
    residual_scale: float | None = Field(default=None, gt=0)
    """Guided, continuous: the policy corrects the prior's mean by up to this much instead of acting by itself."""
    n_components: int = Field(default=4, ge=1)
    """Guided: most components of the prior's mixture kept of each state, the heaviest."""
