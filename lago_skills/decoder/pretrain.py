"""Pretrain the decoder with d3rlpy: the only door to it.

Objective: maximise log N(a; tanh(mu(x, g(e))), sigma(x, g(e))) over labelled offline steps, where x are the decoder's
inputs, e the embedding of the active skill's sentence and g a linear map to the unit sphere, the latent.

Differences from d3rlpy's stochastic BC (d3rlpy 2.8.0, `compute_stochastic_imitation_loss`): its loss is the squared
error of one sample, which drives the spread to its floor whatever the data; here it is the log-likelihood. Batches are
built from arrays, which is two to three times faster than d3rlpy's sampling of transitions.
"""

# d3rlpy's annotations leave many types partially unknown.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

with contextlib.redirect_stderr(io.StringIO()):  # gym 0.26, which d3rlpy imports, prints a banner
    import d3rlpy

import itertools

from d3rlpy.algos.qlearning.bc import BC, BCConfig
from d3rlpy.algos.qlearning.torch.bc_impl import BCImpl
from d3rlpy.dataset import TransitionMiniBatch
from d3rlpy.models.encoders import EncoderFactory
from d3rlpy.models.torch import ImitationLoss
from d3rlpy.models.torch.encoders import Encoder
from d3rlpy.models.torch.policies import NormalPolicy, build_gaussian_distribution
from d3rlpy.optimizers.lr_schedulers import CosineAnnealingLRFactory
from d3rlpy.optimizers.optimizers import AdamFactory

from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.runtime import DecoderWeights
from lago_skills.decoder.steps import LabelledSteps

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


class SkillEncoder(Encoder):
    """[inputs, embedding] -> hidden: the embedding goes through a linear text head to a unit latent first."""

    def __init__(self, input_size: int, embedding_size: int, latent_size: int, hidden_sizes: list[int]) -> None:
        super().__init__()
        self.input_size = input_size
        self.text_head = torch.nn.Linear(embedding_size, latent_size)
        sizes = [input_size + latent_size, *hidden_sizes]
        layers = [torch.nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, I + D) -> (B, H)."""
        latent = torch.nn.functional.normalize(self.text_head(x[:, self.input_size :]), dim=1)
        hidden = torch.cat([x[:, : self.input_size], latent * LATENT_GAIN], dim=1)
        for layer in self.layers:
            hidden = torch.relu(layer(hidden))
        return hidden


N_HEADING = 6
"""The first decoder inputs are the heading to the target, in two scales; the rest is context."""

LATENT_GAIN = 2.0
"""Latents enter the network at this length, so that they weigh as much as the standardised inputs."""


@dataclasses.dataclass()
class SkillEncoderFactory(EncoderFactory):
    """Builds `SkillEncoder`s; registered with d3rlpy so that configs round-trip as JSON."""

    input_size: int = 0
    latent_size: int = 16
    hidden_sizes: list[int] = dataclasses.field(default_factory=lambda: [256, 256])

    def create(self, observation_shape: Any) -> SkillEncoder:
        """An encoder for observations of shape (input_size + embedding size,)."""
        embedding_size = int(observation_shape[0]) - self.input_size
        return SkillEncoder(self.input_size, embedding_size, self.latent_size, self.hidden_sizes)

    def create_with_action(self, observation_shape: Any, action_size: int, discrete_action: bool = False) -> Any:
        """Refused: behaviour cloning has no action-value network."""
        raise TypeError("SkillEncoderFactory encodes observations only; use an algorithm without a critic")

    @staticmethod
    def get_type() -> str:
        """The name under which d3rlpy stores it."""
        return "lago_skill"


class LikelihoodBCImpl(BCImpl):
    """Behaviour cloning by log-likelihood."""

    def compute_loss(self, obs_t: Any, act_t: torch.Tensor) -> ImitationLoss:
        """Mean negative log-likelihood of the actions."""
        distribution = build_gaussian_distribution(self._modules.imitator(obs_t))
        return ImitationLoss(-distribution.log_prob(act_t).mean())


class LikelihoodBC(BC):
    """d3rlpy's behaviour cloning with the likelihood loss."""

    def inner_create_impl(self, observation_shape: Any, action_size: int) -> None:
        """Build the network as d3rlpy does, then exchange the loss."""
        super().inner_create_impl(observation_shape, action_size)
        built = cast("BCImpl", self._impl)
        self._impl = LikelihoodBCImpl(
            observation_shape=observation_shape,
            action_size=action_size,
            modules=built._modules,
            policy_type="stochastic",
            compiled=False,
            device=self._device,
        )


@dataclasses.dataclass()
class LikelihoodBCConfig(BCConfig):
    """Config of `LikelihoodBC`."""

    policy_type: str = "stochastic"

    def create(self, device: Any = False, enable_ddp: bool = False) -> LikelihoodBC:
        """Build the algorithm."""
        return LikelihoodBC(self, device, enable_ddp)

    @staticmethod
    def get_type() -> str:
        """The name under which d3rlpy stores it."""
        return "lago_likelihood_bc"


def pretrain(
    steps: LabelledSteps, config: DecoderConfig, seed: int, report: Callable[[int, dict[str, float]], None]
) -> tuple[DecoderWeights, dict[str, float]]:
    """Train on the steps that are not held out; returns run-time weights and held-out figures.

    `report(step, metrics)` is called every 100 updates.
    """
    d3rlpy.seed(seed)
    rng = np.random.default_rng(seed)
    train = np.flatnonzero(~steps.held_out)
    seen = steps.variants[train].reshape(-1, steps.variants.shape[2])
    mean, std = seen.mean(axis=0), np.maximum(seen.std(axis=0), 1e-2)
    observations = np.concatenate([(steps.inputs - mean) / std, steps.embeddings], axis=1).astype(np.float32)
    variants = ((steps.variants - mean) / std).astype(np.float32)
    n_inputs = steps.inputs.shape[1]
    algo = LikelihoodBCConfig(
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        encoder_factory=SkillEncoderFactory(n_inputs, config.latent_size, list(config.hidden_sizes)),
        optim_factory=AdamFactory(
            weight_decay=config.weight_decay, lr_scheduler_factory=CosineAnnealingLRFactory(T_max=config.n_updates)
        ),
    ).create(device="cpu:0")
    algo.create_impl((observations.shape[1],), steps.actions.shape[1])
    probability = steps.weights[train] / steps.weights[train].sum()
    zeros = np.zeros((config.batch_size, 1), np.float32)
    loss = 0.0
    for update in range(1, config.n_updates + 1):
        rows = rng.choice(train, config.batch_size, p=probability)
        batch = observations[rows]
        variant = rng.integers(0, variants.shape[1], len(rows))
        batch[:, :n_inputs] = variants[rows, variant]
        mixed = np.flatnonzero(rng.random(len(rows)) < config.context_swap_share)
        batch[mixed, N_HEADING:n_inputs] = batch[rng.permutation(mixed), N_HEADING:n_inputs]
        batch[:, :n_inputs] += rng.normal(0.0, config.input_noise_std, (len(rows), n_inputs))
        actions = steps.variant_actions[rows, variant]
        metrics = algo.update(
            TransitionMiniBatch(batch, actions, zeros, batch, actions, zeros, zeros + 1, transitions=[])
        )
        loss = metrics["loss"] if update == 1 else 0.99 * loss + 0.01 * metrics["loss"]
        if update % 100 == 0:
            report(update, {"nll": loss})
    weights = _export(algo, mean, std, n_inputs)
    return calibrate(weights, steps, config)


def _export(algo: LikelihoodBC, mean: NDArray[Any], std: NDArray[Any], n_inputs: int) -> DecoderWeights:
    policy = cast("NormalPolicy", cast("BCImpl", algo.impl)._modules.imitator)
    encoder = cast("SkillEncoder", policy._encoder)

    def array(parameter: torch.Tensor) -> NDArray[np.float32]:
        return parameter.detach().cpu().numpy().astype(np.float32).copy()

    logstd = cast("torch.nn.Linear", policy._logstd)
    linear = [cast("torch.nn.Linear", layer) for layer in encoder.layers]
    first = array(linear[0].weight)  # (H, I + Z)
    hidden = [(array(layer.weight), array(layer.bias)) for layer in linear[1:]]
    return DecoderWeights(
        input_mean=mean.astype(np.float32),
        input_std=std.astype(np.float32),
        text_weight=array(encoder.text_head.weight),
        text_bias=array(encoder.text_head.bias),
        first_input_weight=first[:, :n_inputs],
        first_latent_weight=first[:, n_inputs:] * LATENT_GAIN,
        first_bias=array(linear[0].bias),
        hidden_weights=tuple(w for w, _ in hidden),
        hidden_biases=tuple(b for _, b in hidden),
        mean_weight=array(policy._mu.weight),
        mean_bias=array(policy._mu.bias),
        logstd_weight=array(logstd.weight),
        logstd_bias=array(logstd.bias),
        std_scale=np.ones(policy._mu.out_features, np.float32),
    )


def calibrate(
    weights: DecoderWeights, steps: LabelledSteps, config: DecoderConfig
) -> tuple[DecoderWeights, dict[str, float]]:
    """Scale the spread of each action dimension so that held-out residuals have unit variance, and score it.

    Returns the weights and: held-out negative log-likelihood per step before and after, coverage of the central
    90 % interval, and the NLL of one Gaussian per action dimension fitted to the training steps (the floor to beat).
    """
    rows = np.flatnonzero(steps.held_out)
    if len(rows) == 0:
        rows = np.arange(len(steps.actions))
    latents = weights.latents(steps.embeddings[rows])
    means, stds = weights.decode(steps.inputs[rows], latents[:, None, :])
    residual = steps.actions[rows] - means[:, 0]
    before = _nll(residual, stds[:, 0])
    scale = np.sqrt(np.mean((residual / stds[:, 0]) ** 2, axis=0)).clip(0.5, 4.0)
    calibrated = dataclasses.replace(weights, std_scale=scale.astype(np.float32))
    spread = stds[:, 0] * scale
    train = steps.actions[~steps.held_out] if (~steps.held_out).any() else steps.actions
    plain = _nll(steps.actions[rows] - train.mean(axis=0), np.broadcast_to(train.std(axis=0) + 1e-3, residual.shape))
    return calibrated, {
        "held_out_nll": _nll(residual, spread),
        "held_out_nll_uncalibrated": before,
        "held_out_nll_one_gaussian": plain,
        "coverage_90": float((np.abs(residual) < 1.645 * spread).mean()),
        "n_held_out": float(len(rows)),
    }


def _nll(residual: NDArray[Any], std: NDArray[Any]) -> float:
    per_dimension = 0.5 * (residual / std) ** 2 + np.log(std) + 0.5 * np.log(2 * np.pi)
    return float(per_dimension.sum(axis=1).mean())
