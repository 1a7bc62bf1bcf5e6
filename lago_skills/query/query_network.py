"""The query network at run time: NumPy and safetensors alone, no torch and no text model.

    q(s, t) = unit(MLP([standardised s, GAIN * unit(W e_t + b)]))

s is what the decoder would see heading for the goal, e_t the embedding of the task's sentence, and q lies in the space of the
skills' latents: the library is searched with it as with the latent of a playbook's step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.core import check_finite
from lago_skills.decoder.trained_decoder import Array, Linear
from lago_skills.errors import ArtifactCorrupt, ShapeError, StudyError

GAIN = 2.0
"""The task enters at this length, so that it weighs as much as the standardised state."""
SMALLEST = 1e-12


@dataclass(frozen=True)
class QueryNetwork:
    """I state numbers, D embedding, C task numbers, Z latent."""

    input_mean: Array  # (I,)
    input_std: Array  # (I,)
    task: Linear  # (C, D)
    layers: tuple[Linear, ...]  # (H, I + C), ..., (Z, H)

    def __post_init__(self) -> None:
        """Check that the layers fit each other.

        Raises:
            ShapeError: they do not, or a number is not finite.
        """
        widths = [self.input_size + len(self.task.bias), *(len(layer.bias) for layer in self.layers)]
        weights = [layer.weight.shape for layer in self.layers]
        wanted = list(zip(widths[1:], widths, strict=False))
        if not self.layers or weights != wanted or self.input_std.shape != self.input_mean.shape:
            raise ShapeError(
                f"query network: found layers {weights} over {self.input_mean.shape} state and {self.task.bias.shape} task "
                f"numbers; expected layers {wanted}; train it again"
            )
        for array in _flat(self).values():
            check_finite(array, "query network")

    @property
    def input_size(self) -> int:
        """I."""
        return len(self.input_mean)

    def contexts(self, embeddings: NDArray[Any]) -> Array:
        """(N, D) embeddings of task sentences -> (N, C): what a query needs of its task, computed once.

        Raises:
            ShapeError: wrong embedding size, or values that are not finite.
        """
        size = self.task.weight.shape[1]
        if embeddings.ndim != 2 or embeddings.shape[1] != size:
            raise ShapeError(
                f"task embeddings: found shape {embeddings.shape}; expected (N, {size}); embed the tasks' sentences with the "
                "model that this query network was trained on"
            )
        check_finite(embeddings, "task embeddings")
        return np.float32(GAIN) * _unit(self.task(embeddings.astype(np.float32)))

    def queries(self, inputs: NDArray[Any], contexts: NDArray[Any]) -> Array:
        """(B, I) states and (B, C) contexts -> (B, Z) unit latents.

        Raises:
            ShapeError: sizes that do not belong to this network, or values that are not finite.
        """
        sizes = self.input_size, len(self.task.bias)
        if inputs.ndim != 2 or contexts.ndim != 2 or (inputs.shape[1], contexts.shape[1]) != sizes:
            raise ShapeError(
                f"query: found states {inputs.shape} and tasks {contexts.shape}; expected (B, {sizes[0]}) and (B, {sizes[1]}); "
                "use the grounding of the same bundle"
            )
        check_finite(inputs, "query states")
        states = ((inputs - self.input_mean) / self.input_std).astype(np.float32)
        hidden = self.layers[0](np.concatenate([states, contexts], axis=1))
        for layer in self.layers[1:]:
            hidden = layer(np.maximum(hidden, 0.0))
        return _unit(hidden)

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        save_arrays(_flat(self), path)

    @staticmethod
    def load(path: Path) -> QueryNetwork:
        """Read safetensors.

        Raises:
            ArtifactCorrupt: the file cannot be read, or is not of a query network.
        """
        arrays = load_arrays(path)
        try:
            n_layers = len({name.split(".")[1] for name in arrays if name.startswith("layers.")})
            network = QueryNetwork(
                input_mean=arrays["input_mean"],
                input_std=arrays["input_std"],
                task=_linear(arrays, "task"),
                layers=tuple(_linear(arrays, f"layers.{number}") for number in range(n_layers)),
            )
        except (KeyError, IndexError, ShapeError) as error:
            raise ArtifactCorrupt(
                f"query network {str(path)!r} cannot be used ({error}); expected one written by this version of the package; "
                "delete its folder and build again (lago build STUDY)"
            ) from error
        return network


class LearnedQuery:
    """A query network and the tasks that it can be asked about, by the embeddings (D,) of their sentences.

    Raises:
        ShapeError: an embedding of the wrong size, or not finite.
    """

    def __init__(self, network: QueryNetwork, embeddings: Mapping[str, Array]) -> None:
        self.network, self.embeddings = network, dict(embeddings)
        self._contexts = {name: network.contexts(row[None]) for name, row in self.embeddings.items()}

    def __call__(self, inputs: NDArray[Any], task: str) -> Array:
        """(B, I) decoder inputs towards the goal -> (B, Z) unit latents.

        Raises:
            StudyError: a task whose sentence has no embedding here.
            ShapeError: wrong sizes, or values that are not finite.
        """
        if task not in self._contexts:
            raise StudyError(
                f"no sentence of task {task!r} for the learned query; expected one of {sorted(self._contexts)}; build the bundle "
                "again with that task"
            )
        return self.network.queries(inputs, np.repeat(self._contexts[task], len(inputs), axis=0))


def _unit(rows: Array) -> Array:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(SMALLEST))


def _flat(network: QueryNetwork) -> dict[str, Array]:
    layers = {"task": network.task, **{f"layers.{i}": layer for i, layer in enumerate(network.layers)}}
    arrays = {"input_mean": network.input_mean, "input_std": network.input_std}
    for name, layer in layers.items():
        arrays |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    return arrays


def _linear(arrays: dict[str, NDArray[Any]], name: str) -> Linear:
    return Linear(arrays[f"{name}.weight"], arrays[f"{name}.bias"])
