"""The decoder at run time: NumPy and safetensors alone, no torch and no d3rlpy."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import check_finite
from lago_skills.errors import ArtifactCorrupt, ShapeError
from lago_skills.tensors import load_arrays, save_arrays

MIN_LOGSTD, MAX_LOGSTD = -2.5, 0.0
"""The spread of a component used as a prior stays within [e^-2.5, 1] of the half range of the actions."""


@dataclass(frozen=True)
class DecoderWeights:
    """All numbers of a decoder. H hidden units, I inputs, D embedding, Z latent, A action."""

    input_mean: NDArray[np.float32]  # (I,)
    input_std: NDArray[np.float32]  # (I,)
    text_weight: NDArray[np.float32]  # (Z, D)
    text_bias: NDArray[np.float32]  # (Z,)
    first_input_weight: NDArray[np.float32]  # (H, I)
    first_latent_weight: NDArray[np.float32]  # (H, Z)
    first_bias: NDArray[np.float32]  # (H,)
    hidden_weights: tuple[NDArray[np.float32], ...]
    hidden_biases: tuple[NDArray[np.float32], ...]
    mean_weight: NDArray[np.float32]  # (A, H)
    mean_bias: NDArray[np.float32]  # (A,)
    logstd_weight: NDArray[np.float32]  # (A, H)
    logstd_bias: NDArray[np.float32]  # (A,)
    std_scale: NDArray[np.float32]  # (A,), calibration

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        return len(self.mean_bias)

    @property
    def latent_size(self) -> int:
        """Numbers in a latent."""
        return len(self.text_bias)

    def latents(self, embeddings: NDArray[Any]) -> NDArray[np.float32]:
        """Z = g(e): (N, D) sentence embeddings -> (N, Z) unit latents.

        Raises:
            ShapeError: wrong embedding size or values that are not finite.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.text_weight.shape[1]:
            raise ShapeError(
                f"embeddings: found shape {embeddings.shape}; expected (N, {self.text_weight.shape[1]}); "
                "embed the sentences with the model this decoder was trained on"
            )
        check_finite(embeddings, "embeddings")
        raw = embeddings.astype(np.float32) @ self.text_weight.T + self.text_bias
        return raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)

    def decode(self, inputs: NDArray[Any], latents: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(B, I) inputs and (B, K, Z) latents -> means (B, K, A) in [-1, 1] and stds (B, K, A).

        Raises:
            ShapeError: sizes that do not belong to this decoder.
        """
        sizes = (len(self.input_mean), self.latent_size)
        if inputs.ndim != 2 or latents.ndim != 3 or (inputs.shape[1], latents.shape[2]) != sizes:
            raise ShapeError(
                f"decoder: found inputs {inputs.shape} and latents {latents.shape}; expected (B, {sizes[0]}) and "
                f"(B, K, {sizes[1]}); use the grounding and library of the same bundle"
            )
        standard = ((inputs - self.input_mean) / self.input_std).astype(np.float32)
        state = standard @ self.first_input_weight.T + self.first_bias  # (B, H)
        hidden = np.maximum(
            state[:, None, :] + latents.astype(np.float32) @ self.first_latent_weight.T, 0.0
        )  # (B, K, H)
        for weight, bias in zip(self.hidden_weights, self.hidden_biases, strict=True):
            hidden = np.maximum(hidden @ weight.T + bias, 0.0)
        mean = np.tanh(hidden @ self.mean_weight.T + self.mean_bias)
        logstd = np.clip(hidden @ self.logstd_weight.T + self.logstd_bias, MIN_LOGSTD, MAX_LOGSTD)
        return mean, np.clip(np.exp(logstd) * self.std_scale, np.exp(MIN_LOGSTD), 1.0)

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        arrays: dict[str, NDArray[Any]] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple):
                arrays.update({f"{item.name}.{i}": v for i, v in enumerate(cast("tuple[NDArray[Any], ...]", value))})
            else:
                arrays[item.name] = value
        save_arrays(arrays, path)

    @staticmethod
    def load(path: Path) -> DecoderWeights:
        """Read safetensors.

        Raises:
            ArtifactCorrupt: the file cannot be read or lacks an array.
        """
        arrays = load_arrays(path)
        try:
            depth = sum(name.startswith("hidden_weights.") for name in arrays)
            stacked = {
                name: tuple(arrays.pop(f"{name}.{i}") for i in range(depth))
                for name in ("hidden_weights", "hidden_biases")
            }
            return DecoderWeights(**arrays, **stacked)  # pyright: ignore[reportArgumentType]  (names are checked)
        except (KeyError, TypeError) as error:
            raise ArtifactCorrupt(
                f"decoder weights {str(path)!r} lack an array ({error}); expected a decoder written by this package; "
                "pretrain again"
            ) from error
