"""Decoders fitted to the followers of `tests.decoder_data`."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from lago_skills.decoder.config import Algorithm, DecoderConfig
from lago_skills.decoder.pretrain import pretrain
from lago_skills.decoder.steps import LabelledSteps
from lago_skills.decoder.trained_decoder import Decoder, DiscreteDecoderWeights
from lago_skills.prior import DiscretePrior
from tests.decoder_data import choosers, followers

SMALL: dict[str, Any] = {
    "batch_size": 64,
    "hidden_sizes": (32, 32),
    "latent_size": 4,
    "learning_rate": 5e-3,
    "text_dropout": 0.0,
}
N_UPDATES = {"td3+bc": 700, "plas": 700}
"""Their actors learn at every second update, or after the action VAE."""
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
CASES = [*ALGORITHMS, "bc film", "bc deep text"]


def quiet(update: int, metrics: dict[str, float]) -> None:
    assert np.isfinite(metrics["loss"]), update


def settings(case: str, **changes: Any) -> DecoderConfig:
    name, _, extra = case.partition(" ")
    own: dict[str, Any] = {"film": {"join": "film"}, "deep text": {"text_sizes": (8,)}, "": {}}[extra]
    slow = {"learning_rate": 2e-3} if name == "plas" else {}
    updates = N_UPDATES.get(name, 250)
    return DecoderConfig.model_validate({**SMALL, "n_updates": updates, "algorithm": name, **slow, **own, **changes})


def data(case: str, **changes: Any) -> LabelledSteps:
    return choosers(**changes) if case.startswith("discrete") else followers(**changes)


def fitted(case: str, seed: int = 0, **changes: Any) -> tuple[Decoder, dict[str, float]]:
    return pretrain(data(case), settings(case, **changes), seed, quiet)


def answers(decoder: Decoder, inputs: NDArray[Any], latents: NDArray[Any]) -> list[NDArray[np.float32]]:
    """Everything a decoder says."""
    if isinstance(decoder, DiscreteDecoderWeights):
        return [decoder.log_probs(inputs, latents)]
    found = decoder.decode(inputs, latents)
    return [found.weights, found.means, found.stds]


def best(decoder: Decoder, inputs: NDArray[Any], latents: NDArray[Any]) -> NDArray[Any]:
    """The best action of every state, with one latent each."""
    ones = np.ones((len(inputs), 1), np.float32)
    if isinstance(decoder, DiscreteDecoderWeights):
        return DiscretePrior(ones, decoder.log_probs(inputs, latents)).mode()
    return decoder.decode(inputs, latents).flat(ones).mode()
