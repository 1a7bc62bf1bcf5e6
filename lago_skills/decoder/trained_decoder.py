"""The decoder at run time: NumPy and safetensors alone, no torch and no d3rlpy.

Whatever trained it, a decoder is a text head g, a network of (inputs, latent), and a head: a Gaussian mixture (`DecoderWeights`)
or a categorical distribution (`DiscreteDecoderWeights`). Both carry their calibration and their novelty, so that what is
measured after training is what acts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.core import check_finite
from lago_skills.errors import ArtifactCorrupt, ShapeError
from lago_skills.prior import Components, DiscreteComponents

Array = NDArray[np.float32]

MIN_LOGSTD, MAX_LOGSTD = -2.5, 0.0
"""The spread of a component used as a prior stays within [e^-2.5, 1] of the half range of the actions."""
INTENT_SCALE = 2.0
"""Of PLAS: intents lie in [-2, 2] (d3rlpy's `plas_impl`)."""


@dataclass(frozen=True)
class Layer:
    """relu((W x + b) * (1 + S z) + T z): T alone joins the latent by concatenation, S and T by FiLM.

    Source: Perez et al., FiLM (arXiv 1709.07871), equation 2.
    """

    weight: Array  # (H, I)
    bias: Array  # (H,)
    shift: Array  # (H, Z), or (H, 0) where the latent does not enter
    scale: Array  # (H, Z), or (H, 0)
    extra: Array  # (H, E), of a further input per latent, or (H, 0)


@dataclass(frozen=True)
class Trunk:
    """Layers of one network, applied to every pair of a state and a latent."""

    layers: tuple[Layer, ...]

    def __call__(self, states: Array, latents: Array, extra: Array | None = None) -> Array:
        """(B, I), (B, K, Z) and perhaps (B, K, E) -> (B, K, H)."""
        hidden = states[:, None, :]  # (B, 1, I): the part that is the same for all latents is computed once
        for layer in self.layers:
            hidden = hidden @ layer.weight.T + layer.bias
            if extra is not None and layer.extra.shape[1]:
                hidden = hidden + extra @ layer.extra.T
            if layer.scale.shape[1]:
                hidden = hidden * (1.0 + latents @ layer.scale.T)
            if layer.shift.shape[1]:
                hidden = hidden + latents @ layer.shift.T
            hidden = np.maximum(hidden, 0.0)
        return np.broadcast_to(hidden, (*latents.shape[:2], hidden.shape[2]))


@dataclass(frozen=True)
class Linear:
    """W h + b."""

    weight: Array
    bias: Array

    def __call__(self, hidden: Array) -> Array:
        """(..., H) -> (..., n)."""
        return hidden @ self.weight.T + self.bias


@dataclass(frozen=True)
class Calibration:
    """What the spread of each skill is multiplied by (as a logarithm, per action number; one number where discrete).

    Skills are known by their latents, so that a sentence nobody trained on has a calibration too: theta(z) is the average of
    the skills' thetas, weighted by exp((z . z_s - 1) / WIDTH), and of the global theta, weighted as a skill at cosine FAR.
    How thetas are fitted is told in `lago_skills.decoder.calibration`.
    """

    latents: Array  # (S, Z)
    thetas: Array  # (S, P)
    overall: Array  # (P,)

    WIDTH = 0.05
    FAR = 0.7

    def __call__(self, latents: Array) -> Array:
        """(..., Z) -> (..., P) logarithms of factors."""
        near = np.exp((latents @ self.latents.T - 1.0) / self.WIDTH)  # (..., S)
        rest = np.exp((self.FAR - 1.0) / self.WIDTH)
        return (near @ self.thetas + rest * self.overall) / (near.sum(axis=-1, keepdims=True) + rest)


@dataclass(frozen=True)
class Novelty:
    """How far a state is from all states trained on, and how much wider the prior is there.

    d(x) is the distance of the standardised inputs to the nearest of C centres, per square root of I; the spread is multiplied by
    exp(slope * max(0, d / near - 1)), where nine in ten held-out states lie within `near`.
    """

    centres: Array  # (C, I)
    near: Array  # (1,)
    slope: Array  # (1,)

    def distance(self, states: Array) -> Array:
        """(B, I) standardised inputs -> (B,)."""
        squares = self._lengths - 2.0 * states @ self.centres.T  # (B, C)
        nearest = np.sum(states**2, axis=1) + squares.min(axis=1)
        return np.sqrt(np.maximum(nearest, 0.0) / states.shape[1])

    @cached_property
    def _lengths(self) -> Array:
        return np.sum(self.centres**2, axis=1)

    def log_width(self, states: Array) -> Array:
        """(B, I) standardised inputs -> (B,) logarithm of the factor, 0 near the training states."""
        return self.slope * np.maximum(self.distance(states) / self.near - 1.0, 0.0)


@dataclass(frozen=True)
class SkillNetwork:
    """Everything below the head. H hidden units, I inputs, D embedding, Z latent."""

    input_mean: Array  # (I,)
    input_std: Array  # (I,)
    text: tuple[Linear, ...]
    trunks: tuple[Trunk, ...]
    """One, or two for PLAS: states to intents, states and intents to actions."""
    intents: tuple[Linear, ...]
    """PLAS: the head of the first trunk."""
    novelty: Novelty
    calibration: Calibration

    @property
    def input_size(self) -> int:
        """I."""
        return len(self.input_mean)

    @property
    def latent_size(self) -> int:
        """Numbers in a latent."""
        return len(self.text[-1].bias)

    def latents(self, embeddings: NDArray[Any]) -> Array:
        """Z = g(e): (N, D) sentence embeddings -> (N, Z) unit latents.

        Raises:
            ShapeError: wrong embedding size or values that are not finite.
        """
        size = self.text[0].weight.shape[1]
        if embeddings.ndim != 2 or embeddings.shape[1] != size:
            raise ShapeError(
                f"embeddings: found shape {embeddings.shape}; expected (N, {size}); "
                "embed the sentences with the model this decoder was trained on"
            )
        check_finite(embeddings, "embeddings")
        raw = self.text[0](embeddings.astype(np.float32))
        for layer in self.text[1:]:
            raw = layer(np.maximum(raw, 0.0))
        return raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)

    def standardise(self, inputs: NDArray[Any]) -> Array:
        """(B, I) -> (B, I) in units of the training steps' spread."""
        return ((inputs - self.input_mean) / self.input_std).astype(np.float32)

    def hidden(self, inputs: NDArray[Any], latents: NDArray[Any]) -> tuple[Array, Array]:
        """(B, I) inputs and (B, K, Z) latents -> (B, K, H) and the logarithm of the factor on the spread, (B, K, P).

        Raises:
            ShapeError: sizes that do not belong to this decoder, or values that are not finite.
        """
        sizes = (self.input_size, self.latent_size)
        if inputs.ndim != 2 or latents.ndim != 3 or (inputs.shape[1], latents.shape[2]) != sizes:
            raise ShapeError(
                f"decoder: found inputs {inputs.shape} and latents {latents.shape}; expected (B, {sizes[0]}) and "
                f"(B, K, {sizes[1]}); use the grounding and library of the same bundle"
            )
        check_finite(inputs, "decoder inputs")
        states, z = self.standardise(inputs), latents.astype(np.float32)
        hidden = self.trunks[0](states, z)
        if self.intents:
            hidden = self.trunks[1](states, z, np.float32(INTENT_SCALE) * np.tanh(self.intents[0](hidden)))
        return hidden, self.calibration(z) + self.novelty.log_width(states)[:, None, None]


@dataclass(frozen=True)
class DecoderWeights:
    """A decoder of continuous actions: M Gaussian components for every pair of a state and a latent. A action."""

    network: SkillNetwork
    mixture: Linear  # (M, H)
    mean: Linear  # (M * A, H)
    logstd: Linear  # (M * A, H)
    skip: Array | None = None  # (A, I'), from the first I' standardised inputs straight to the means

    @property
    def n_components(self) -> int:
        """M."""
        return len(self.mixture.bias)

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        return len(self.mean.bias) // self.n_components

    @property
    def input_size(self) -> int:
        """Numbers in a decoder input."""
        return self.network.input_size

    @property
    def latent_size(self) -> int:
        """Numbers in a latent."""
        return self.network.latent_size

    def latents(self, embeddings: NDArray[Any]) -> Array:
        """(N, D) sentence embeddings -> (N, Z) unit latents.

        Raises:
            ShapeError: wrong embedding size or values that are not finite.
        """
        return self.network.latents(embeddings)

    def decode(self, inputs: NDArray[Any], latents: NDArray[Any]) -> Components:
        """(B, I) inputs and (B, K, Z) latents -> weights (B, K, M), means in [-1, 1] and stds (B, K, M, A).

        Raises:
            ShapeError: sizes that do not belong to this decoder, or values that are not finite.
        """
        hidden, theta = self.network.hidden(inputs, latents)
        shape = (*hidden.shape[:2], self.n_components, self.action_size)
        logits, means = self.mixture(hidden), self.mean(hidden)  # d3rlpy's action VAE (PLAS) does not squash
        if self.skip is not None:
            straight = self.network.standardise(inputs)[:, : self.skip.shape[1]] @ self.skip.T  # (B, A)
            means = (means + np.tile(straight, self.n_components)[:, None, :]).astype(np.float32)
        weights = np.exp(logits - logits.max(axis=2, keepdims=True))
        logstd = np.clip(self.logstd(hidden).reshape(shape), MIN_LOGSTD, MAX_LOGSTD) + theta[:, :, None, :]
        return Components(
            weights=weights / weights.sum(axis=2, keepdims=True),
            means=(np.clip(means, -1.0, 1.0) if self.network.intents else np.tanh(means)).reshape(shape),
            stds=np.exp(np.clip(logstd, MIN_LOGSTD, MAX_LOGSTD)),
        )

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        save_arrays(_flat(self), path)

    @staticmethod
    def load(path: Path) -> DecoderWeights:
        """Read safetensors.

        Raises:
            ArtifactCorrupt: the file cannot be read, lacks an array, or is of a discrete decoder.
        """
        return cast("DecoderWeights", _load(path, DecoderWeights))


@dataclass(frozen=True)
class DiscreteDecoderWeights:
    """A decoder of A discrete actions."""

    network: SkillNetwork
    logits: Linear  # (A, H)

    @property
    def action_size(self) -> int:
        """How many actions there are."""
        return len(self.logits.bias)

    @property
    def input_size(self) -> int:
        """Numbers in a decoder input."""
        return self.network.input_size

    @property
    def latent_size(self) -> int:
        """Numbers in a latent."""
        return self.network.latent_size

    def latents(self, embeddings: NDArray[Any]) -> Array:
        """(N, D) sentence embeddings -> (N, Z) unit latents.

        Raises:
            ShapeError: wrong embedding size or values that are not finite.
        """
        return self.network.latents(embeddings)

    def decode(self, inputs: NDArray[Any], latents: NDArray[Any]) -> DiscreteComponents:
        """(B, I) inputs and (B, K, Z) latents -> log-probabilities (B, K, A).

        Raises:
            ShapeError: sizes that do not belong to this decoder, or values that are not finite.
        """
        return DiscreteComponents(self.log_probs(inputs, latents))

    def log_probs(self, inputs: NDArray[Any], latents: NDArray[Any]) -> Array:
        """(B, I) inputs and (B, K, Z) latents -> (B, K, A) log-probabilities, at the calibrated temperature.

        Raises:
            ShapeError: sizes that do not belong to this decoder, or values that are not finite.
        """
        hidden, theta = self.network.hidden(inputs, latents)
        logits = self.logits(hidden) * np.exp(-theta)
        logits = logits - logits.max(axis=2, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        save_arrays(_flat(self), path)

    @staticmethod
    def load(path: Path) -> DiscreteDecoderWeights:
        """Read safetensors.

        Raises:
            ArtifactCorrupt: the file cannot be read, lacks an array, or is of a decoder of continuous actions.
        """
        return cast("DiscreteDecoderWeights", _load(path, DiscreteDecoderWeights))


Decoder = DecoderWeights | DiscreteDecoderWeights


def load_decoder(path: Path) -> Decoder:
    """A decoder of whichever actions it was written for.

    Raises:
        ArtifactCorrupt: the file cannot be read, or is not of a decoder.
    """
    return _load(path, DiscreteDecoderWeights if "logits.weight" in load_arrays(path) else DecoderWeights)


def _flat(value: Any, name: str = "") -> dict[str, Array]:
    """Arrays of nested dataclasses and tuples by dotted name: `network.trunks.0.layers.1.weight`."""
    if isinstance(value, np.ndarray):
        return {name: value}
    if is_dataclass(value):
        items = [(item.name, getattr(value, item.name)) for item in fields(value)]
    else:
        items = [(str(i), part) for i, part in enumerate(cast("tuple[Any, ...]", value))]
    arrays: dict[str, Array] = {}
    for key, part in items:
        if part is None:
            continue
        arrays |= _flat(part, f"{name}.{key}" if name else key)
    return arrays


def _load(path: Path, kind: type[DecoderWeights] | type[DiscreteDecoderWeights]) -> Decoder:
    arrays = load_arrays(path)

    def linear(name: str) -> Linear:
        return Linear(arrays.pop(f"{name}.weight"), arrays.pop(f"{name}.bias"))

    def several(name: str) -> list[str]:
        depth = name.count(".") + 1
        return [f"{name}.{i}" for i in sorted({int(k.split(".")[depth]) for k in arrays if k.startswith(f"{name}.")})]

    def layer(name: str) -> Layer:
        return Layer(**{item.name: arrays.pop(f"{name}.{item.name}") for item in fields(Layer)})

    try:
        network = SkillNetwork(
            input_mean=arrays.pop("network.input_mean"),
            input_std=arrays.pop("network.input_std"),
            text=tuple(linear(name) for name in several("network.text")),
            trunks=tuple(
                Trunk(tuple(layer(part) for part in several(f"{name}.layers"))) for name in several("network.trunks")
            ),
            intents=tuple(linear(name) for name in several("network.intents")),
            novelty=Novelty(*(arrays.pop(f"network.novelty.{item.name}") for item in fields(Novelty))),
            calibration=Calibration(*(arrays.pop(f"network.calibration.{item.name}") for item in fields(Calibration))),
        )
        heads: dict[str, Any] = {
            item.name: linear(item.name) for item in fields(kind) if item.name not in ("network", "skip")
        }
        if "skip" in arrays:
            heads["skip"] = arrays.pop("skip")
        decoder = kind(network, **heads)
        if arrays or not network.text or not network.trunks:
            raise KeyError(f"unexpected or missing {sorted(arrays)[:3]}")
        return decoder
    except KeyError as error:
        raise ArtifactCorrupt(
            f"decoder weights {str(path)!r} are not those of a {kind.__name__} ({error}); expected a decoder written by this "
            "version of the package; pretrain again (lago pretrain STUDY)"
        ) from error
