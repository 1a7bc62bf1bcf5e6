"""d3rlpy's algorithms by name, on the skill encoder. The only door to d3rlpy.

Objectives and sources:
  bc            maximise log sum_m pi_m N(a; tanh(mu_m), sigma_m), all of them functions of (x, g(e)); mixture density networks,
                Bishop (1994). d3rlpy's own stochastic BC (2.8.0, `compute_stochastic_imitation_loss`) minimises the squared error
                of one sample, which drives the spread to its floor whatever the data: that is `stock-bc`.
  iql           Kostrikov et al. (arXiv 2110.06169). td3+bc: Fujimoto and Gu (2106.06860). awac: Nair et al. (2006.09359).
  plas          Zhou et al. (2011.07213); the first half of the updates trains the action VAE alone.
  discrete-bc   cross-entropy, without d3rlpy's penalty on logits, which flattens them.
  discrete-cql  Kumar et al. (2006.04779); its action values become a distribution by a softmax at a fitted temperature.

Differences from d3rlpy: the encoders hold the text head; actor and VAE of PLAS share one; actors decay their learning
rate by a cosine; batches are built from arrays, two to three times faster than sampling transitions.
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
from torch import nn

with contextlib.redirect_stderr(io.StringIO()):  # gym 0.26, which d3rlpy imports, prints a banner
    import d3rlpy

from d3rlpy import algos
from d3rlpy.algos.qlearning.torch.bc_impl import BCImpl, BCModules
from d3rlpy.dataset import TransitionMiniBatch
from d3rlpy.models.encoders import EncoderFactory
from d3rlpy.models.torch import ImitationLoss
from d3rlpy.models.torch.policies import ActionOutput, Policy
from d3rlpy.optimizers.lr_schedulers import CosineAnnealingLRFactory
from d3rlpy.optimizers.optimizers import AdamFactory

from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.networks import SkillEncoder, TextHead, array, linear, load_linear
from lago_skills.decoder.trained_decoder import (
    MIN_LOGSTD,
    Array,
    Calibration,
    Decoder,
    DecoderWeights,
    DiscreteDecoderWeights,
    Linear,
    Novelty,
    SkillNetwork,
    Trunk,
)
from lago_skills.errors import StudyError

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

LOGSTD_BOUNDS = (-4.0, 1.0)
"""While training, wider than at run time: a clamped spread has no gradient, and one that may go lower finds its way back."""
CRITIC_RATE = 3e-4
START_LOGSTD = float(np.log(0.2))
"""Spread of a deterministic policy before calibration."""
GOES_ON = ("bc", "discrete-bc")
"""Those that can go on from a decoder at run time."""
IMITATORS = ("bc", "stock-bc", "discrete-bc")
"""Those that need neither rewards nor the step after."""


@dataclasses.dataclass()
class SkillEncoderFactory(EncoderFactory):
    """Builds `SkillEncoder`s for observations [inputs, embedding]; with `text_head`, all of them share it."""

    n_inputs: int = 0
    config: DecoderConfig = dataclasses.field(default_factory=DecoderConfig)
    text_head: TextHead | None = None

    def _head(self, observation_shape: Any) -> TextHead:
        return self.text_head or TextHead(int(observation_shape[0]) - self.n_inputs, self.config)

    def create(self, observation_shape: Any) -> Any:
        """An encoder of observations."""
        return SkillEncoder(self.n_inputs, 0, self._head(observation_shape), self.config)

    def create_with_action(self, observation_shape: Any, action_size: int, discrete_action: bool = False) -> Any:
        """An encoder of observations and actions, for critics and VAEs."""
        return SkillEncoder(self.n_inputs, action_size, self._head(observation_shape), self.config)

    @staticmethod
    def get_type() -> str:
        """Its name in d3rlpy's configs."""
        return "lago_skill"


class MixturePolicy(Policy):
    """M Gaussian components for every observation."""

    def __init__(
        self, encoder: SkillEncoder, hidden_size: int, action_size: int, n_components: int, n_skip: int = 0
    ) -> None:
        super().__init__()
        self._encoder = encoder
        self.n_components, self.action_size = n_components, action_size
        self._mixture = nn.Linear(hidden_size, n_components)
        self._mu = nn.Linear(hidden_size, n_components * action_size)
        self._logstd = nn.Linear(hidden_size, n_components * action_size)
        self._skip = nn.Linear(n_skip, action_size, bias=False) if n_skip else None

    def components(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, S) -> log weights (B, M), raw means and log spreads (B, M, A)."""
        hidden = self._encoder(x)
        shape = (len(x), self.n_components, self.action_size)
        logstd = self._logstd(hidden).view(shape).clamp(*LOGSTD_BOUNDS)
        means = self._mu(hidden).view(shape)
        if self._skip is not None:
            means = means + self._skip(x[:, : self._skip.in_features])[:, None, :]
        return torch.log_softmax(self._mixture(hidden), dim=1), means, logstd

    def forward(self, x: Any, *args: Any) -> ActionOutput:
        """The heaviest component."""
        weights, mu, logstd = self.components(x)
        rows, best = torch.arange(len(mu)), weights.argmax(dim=1)
        return ActionOutput(mu[rows, best], torch.tanh(mu[rows, best]), logstd[rows, best])

    def log_prob(self, x: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """(B, S), (B, A) -> (B,)."""
        weights, mu, logstd = self.components(x)
        per_component = torch.distributions.Normal(torch.tanh(mu), logstd.exp()).log_prob(action[:, None, :]).sum(dim=2)
        return torch.logsumexp(weights + per_component, dim=1)


class LikelihoodBCImpl(BCImpl):
    """Behaviour cloning by log-likelihood."""

    def compute_loss(self, obs_t: Any, act_t: torch.Tensor) -> ImitationLoss:
        """Mean negative log-likelihood of the actions, per action number."""
        imitator = cast("MixturePolicy", self._modules.imitator)
        return ImitationLoss(-imitator.log_prob(obs_t, act_t).mean() / act_t.shape[1])


@dataclasses.dataclass()
class LikelihoodBCConfig(algos.BCConfig):
    """Config of `LikelihoodBC`."""

    policy_type: str = "stochastic"
    n_components: int = 1
    n_skip: int = 0
    """The first so many inputs lead straight to the means."""

    def create(self, device: Any = False, enable_ddp: bool = False) -> LikelihoodBC:
        """Build the algorithm."""
        return LikelihoodBC(self, device, enable_ddp)

    @staticmethod
    def get_type() -> str:
        """Its name in d3rlpy's configs."""
        return "lago_likelihood_bc"


class LikelihoodBC(algos.BC):
    """d3rlpy's behaviour cloning with a mixture and the likelihood loss."""

    def inner_create_impl(self, observation_shape: Any, action_size: int) -> None:
        """Build network and optimiser as d3rlpy does."""
        config = cast("LikelihoodBCConfig", self._config)
        encoder = cast("SkillEncoder", config.encoder_factory.create(observation_shape))
        hidden_size = cast("nn.Linear", encoder.layers[-1]).out_features
        imitator = MixturePolicy(encoder, hidden_size, action_size, config.n_components, config.n_skip)
        optim = config.optim_factory.create(imitator.named_modules(), lr=config.learning_rate, compiled=False)
        self._impl = LikelihoodBCImpl(
            observation_shape=observation_shape,
            action_size=action_size,
            modules=BCModules(optim=optim, imitator=cast("Any", imitator)),
            policy_type="stochastic",
            compiled=False,
            device=self._device,
        )


class Trainer:
    """One d3rlpy algorithm on arrays of [inputs, embedding] and actions."""

    def __init__(
        self,
        config: DecoderConfig,
        n_inputs: int,
        embedding_size: int,
        action_size: int,
        seed: int,
        *,
        learn_text: bool = True,
        n_skip: int = 0,
    ) -> None:
        d3rlpy.seed(seed)
        self.config, self.n_inputs = config, n_inputs
        factory = SkillEncoderFactory(n_inputs, config)
        optimiser = AdamFactory(
            weight_decay=config.weight_decay, lr_scheduler_factory=CosineAnnealingLRFactory(T_max=config.n_updates)
        )
        factory.text_head = TextHead(embedding_size, config) if config.algorithm == "plas" else None
        created = ALGORITHMS[config.algorithm][0](config, factory, optimiser)
        if n_skip and isinstance(created, LikelihoodBCConfig):
            created.n_skip = n_skip
        self._algo: Any = cast("Any", created).create(device="cpu:0")
        self._algo.create_impl((n_inputs + embedding_size,), action_size)
        self._modules: Any = self._algo.impl.modules
        if not learn_text:
            self.text_head.pass_through()

    def update(
        self,
        observations: Array,
        actions: Array,
        rewards: NDArray[Any] | None = None,
        following: Array | None = None,
        terminals: NDArray[Any] | None = None,
    ) -> dict[str, float]:
        """One gradient update on a batch; imitators need observations and actions alone."""
        zeros = np.zeros((len(actions), 1), np.float32)
        batch = TransitionMiniBatch(
            observations,
            actions,
            zeros if rewards is None else rewards.astype(np.float32)[:, None],
            observations if following is None else following,
            actions,
            zeros if terminals is None else terminals.astype(np.float32)[:, None],
            zeros + 1.0,
            transitions=[],
        )
        return self._algo.update(batch)

    def start_from(self, decoder: Decoder) -> None:
        """Go on from a decoder that was trained before, in place of random weights. Of mixtures and of discrete cloning.

        Raises:
            StudyError: another algorithm; it has networks that the decoder at run time does without.
        """
        actor = self._actor()
        if self.config.algorithm not in GOES_ON:
            raise StudyError(
                f"found decoder.algorithm = {self.config.algorithm!r} to go on from; expected one of {', '.join(GOES_ON)}; train anew, or correct decoder.algorithm"
            )
        actor._encoder.load(decoder.network.trunks[0])
        actor._encoder.text_head.load(decoder.network.text)
        if isinstance(decoder, DiscreteDecoderWeights):
            load_linear(actor._fc, decoder.logits)
            return
        heads = ((actor._mixture, decoder.mixture), (actor._mu, decoder.mean), (actor._logstd, decoder.logstd))
        for own, other in heads:
            load_linear(own, other)
        if decoder.skip is not None:
            with torch.no_grad():
                actor._skip.weight.copy_(torch.from_numpy(decoder.skip))

    @property
    def text_head(self) -> TextHead:
        """The text head of the network that acts."""
        return self._actor()._encoder.text_head

    def _actor(self) -> Any:
        modules = self._modules
        if self.config.algorithm == "discrete-cql":
            return modules.q_funcs[0]
        return modules.imitator if self.config.algorithm in IMITATORS else modules.policy

    def export(self, input_mean: Array, input_std: Array) -> Decoder:
        """The decoder at run time, not calibrated yet."""
        actor = self._actor()
        trunks: tuple[Trunk, ...] = (actor._encoder.export(),)
        intents: tuple[Linear, ...] = ()
        if self.config.algorithm == "plas":
            trunks, intents = (*trunks, self._modules.vae_decoder._encoder.export()), (linear(actor._fc),)
        text = actor._encoder.text_head.export()
        size = len(text[-1].bias)
        network = SkillNetwork(
            input_mean=input_mean,
            input_std=input_std,
            text=text,
            trunks=trunks,
            intents=intents,
            novelty=Novelty(np.zeros((1, self.n_inputs), np.float32), np.ones(1, np.float32), np.zeros(1, np.float32)),
            calibration=Calibration(
                np.zeros((0, size), np.float32), np.zeros((0, 1), np.float32), np.zeros(1, np.float32)
            ),
        )
        return ALGORITHMS[self.config.algorithm][1](network, self._modules)


def _mixture(network: SkillNetwork, modules: Any) -> Decoder:
    policy = modules.imitator
    skip = None if policy._skip is None else array(policy._skip.weight)
    return DecoderWeights(network, linear(policy._mixture), linear(policy._mu), linear(policy._logstd), skip)


def _one_gaussian(network: SkillNetwork, mean: Linear, logstd: Linear) -> Decoder:
    nothing = Linear(np.zeros((1, mean.weight.shape[1]), np.float32), np.zeros(1, np.float32))
    return DecoderWeights(network, nothing, mean, logstd)


def _stock(network: SkillNetwork, modules: Any) -> Decoder:
    return _one_gaussian(network, linear(modules.imitator._mu), linear(modules.imitator._logstd))


def _constant(mean: Linear, logstd: Array) -> Linear:
    return Linear(np.zeros_like(mean.weight), np.maximum(logstd, MIN_LOGSTD).astype(np.float32))


def _normal(network: SkillNetwork, modules: Any) -> Decoder:
    """IQL and AWAC: one spread for all states, a squashed parameter."""
    policy, mean = modules.policy, linear(modules.policy._mu)
    low, high = policy._min_logstd, policy._max_logstd
    logstd = low + (high - low) / (1.0 + np.exp(-array(policy._logstd)[0]))
    return _one_gaussian(network, mean, _constant(mean, logstd))


def _deterministic(network: SkillNetwork, modules: Any) -> Decoder:
    mean = linear(modules.vae_decoder._fc if network.intents else modules.policy._fc)
    return _one_gaussian(network, mean, _constant(mean, np.full(len(mean.bias), START_LOGSTD)))


def _logits(network: SkillNetwork, modules: Any) -> Decoder:
    return DiscreteDecoderWeights(network, linear(modules.imitator._fc))


def _values(network: SkillNetwork, modules: Any) -> Decoder:
    return DiscreteDecoderWeights(network, linear(modules.q_funcs[0]._fc))


def _imitation(kind: Callable[..., Any], **settings: Any) -> Callable[[DecoderConfig, Any, Any], Any]:
    def build(config: DecoderConfig, factory: Any, optimiser: Any) -> Any:
        return kind(
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            encoder_factory=factory,
            optim_factory=optimiser,
            **settings,
        )

    return build


def _actor_critic(kind: Callable[..., Any], *encoders: str) -> Callable[[DecoderConfig, Any, Any], Any]:
    def build(config: DecoderConfig, factory: Any, optimiser: Any) -> Any:
        settings: dict[str, Any] = {f"{name}_encoder_factory": factory for name in encoders}
        if "imitator" in encoders:
            settings |= {"warmup_steps": config.n_updates // 2, "imitator_learning_rate": config.learning_rate}
        own = dataclasses.replace(factory, text_head=None)
        return kind(
            batch_size=config.batch_size,
            actor_learning_rate=config.learning_rate,
            critic_learning_rate=CRITIC_RATE,
            actor_encoder_factory=factory,
            critic_encoder_factory=own,
            actor_optim_factory=optimiser,
            **settings,
        )

    return build


def _mixture_bc(config: DecoderConfig, factory: Any, optimiser: Any) -> Any:
    return _imitation(LikelihoodBCConfig, n_components=config.n_components)(config, factory, optimiser)


ALGORITHMS: dict[str, tuple[Callable[..., Any], Callable[[SkillNetwork, Any], Decoder]]] = {
    "bc": (_mixture_bc, _mixture),
    "stock-bc": (_imitation(algos.BCConfig, policy_type="stochastic"), _stock),
    "iql": (_actor_critic(algos.IQLConfig, "value"), _normal),
    "td3+bc": (_actor_critic(algos.TD3PlusBCConfig), _deterministic),
    "awac": (_actor_critic(algos.AWACConfig), _normal),
    "plas": (_actor_critic(algos.PLASConfig, "imitator"), _deterministic),
    "discrete-bc": (_imitation(algos.DiscreteBCConfig, beta=0.0), _logits),
    "discrete-cql": (_imitation(algos.DiscreteCQLConfig), _values),
}
"""By name: how to build the algorithm, and how to take the decoder out of its modules."""
