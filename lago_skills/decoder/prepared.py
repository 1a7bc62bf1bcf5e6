"""A decoder with all that depends on latents alone computed beforehand: for skills that are looked up once and decoded in thousands of states.

A layer of the decoder is relu((W x + b) * (1 + S z) + T z). For a latent z that stays, 1 + S z and b * (1 + S z) + T z are constants; relu(x + b) is
max(x, -b) + b, of which the last term joins the next layer's constant; the three heads are one product, and so are the first layer and
the distances to the training's states. The readable twin is `DecoderWeights.decode`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.decoder.trained_decoder import MAX_LOGSTD, MIN_LOGSTD, Array, DecoderWeights, Layer
from lago_skills.prior import Components


@dataclass(frozen=True)
class _Decoded:
    """Of n states and K latents each, flat: M mixture components and A numbers of an action."""

    weights: Array  # (n, K, M)
    means: Array  # (n, K, M * A)
    stds: Array  # (n, K, M * A)
    distances: Array  # (n,)


class PreparedWeights:
    """What of a prepared decoder does not depend on latents: one for all tasks of a guide.

    Args:
        decoder: see `can_prepare`.
    """

    def __init__(self, decoder: DecoderWeights) -> None:
        network, first, rest = (
            decoder.network,
            decoder.network.trunks[0].layers[0],
            decoder.network.trunks[0].layers[1:],
        )
        self.decoder = decoder
        self.mean, self.inverse = network.input_mean, (1.0 / network.input_std).astype(np.float32)
        # Products of a state with the first layer and with the centres of the training's states.
        self.entry = _columns(first.weight, 2.0 * network.novelty.centres)
        self.lengths = np.sum(network.novelty.centres**2, axis=1)
        self.near = float(max(network.novelty.near[0], 1e-9)) * float(np.sqrt(network.input_size))
        self.slope = np.float32(network.novelty.slope[0])
        self.layers, self.floors, carried = _folded(rest)
        heads = np.concatenate([decoder.mixture.weight, decoder.mean.weight, decoder.logstd.weight])
        biases = np.concatenate([decoder.mixture.bias, decoder.mean.bias, decoder.logstd.bias])
        self.heads, self.head_bias = _columns(heads), biases if carried is None else biases + heads @ carried
        self.skip = None if decoder.skip is None else _columns(np.tile(decoder.skip, (decoder.n_components, 1)))


class PreparedDecoder:
    """A decoder of continuous actions for N rows of K latents each. Safe to use from several threads.

    Args:
        weights: of the decoder.
        latents: (N, K, Z).
    """

    def __init__(self, weights: PreparedWeights, latents: NDArray[np.float32]) -> None:
        decoder = weights.decoder
        network, first = decoder.network, decoder.network.trunks[0].layers[0]
        self._shape = (decoder.n_components, decoder.action_size)
        self._hidden_size = len(first.bias)
        self._mean, self._inverse, self._entry = weights.mean, weights.inverse, weights.entry
        self._lengths, self._near, self._slope = weights.lengths, weights.near, weights.slope
        self._weights, self._floors = weights.layers, weights.floors
        self._heads, self._head_bias, self._skip = weights.heads, weights.head_bias, weights.skip
        self._scale = 1.0 + latents @ first.scale.T if first.scale.shape[1] else None  # (N, K, H)
        offset = np.broadcast_to(first.bias, (*latents.shape[:2], len(first.bias)))
        offset = offset if self._scale is None else offset * self._scale
        self._offset = np.ascontiguousarray(offset + latents @ first.shift.T, np.float32)  # (N, K, H)
        theta = network.calibration(latents)  # (N, K, A)
        self._theta = np.tile(theta, (1, 1, decoder.n_components)).astype(np.float32)  # (N, K, M * A)

    def decode(self, inputs: NDArray[Any], rows: NDArray[np.int64]) -> tuple[Components, Array]:
        """(B, I) inputs, decoded with the latents of (B,) rows -> components (B, K, M, A), and (B,) distances from the training's states.

        Distances are in units of the one within which nine in ten held-out states lie.
        """
        states = ((inputs - self._mean) * self._inverse).astype(np.float32, copy=False)
        entry = states @ self._entry
        hidden = self._offset[rows]  # (B, K, H)
        first = entry[:, None, : self._hidden_size]
        hidden += first if self._scale is None else first * self._scale[rows]
        squares = np.einsum("bi,bi->b", states, states)
        done = self._decoded(hidden, states[:, None, :], self._theta[rows], self._distances(entry, squares))
        shape = (*done.weights.shape[:2], *self._shape)
        return Components(done.weights, done.means.reshape(shape), done.stds.reshape(shape)), done.distances

    def decode_one(self, inputs: Any, row: int) -> tuple[Components, Array]:
        """I inputs of one state -> components (1, K, M, A), and (1,) distances: as `decode`, without copies of what belongs to the row."""
        states = np.array(inputs, np.float32)
        states -= self._mean
        states *= self._inverse
        entry = states @ self._entry
        first = entry[: self._hidden_size]
        hidden = self._offset[row] + (first if self._scale is None else first * self._scale[row])  # (K, H)
        squares = states @ states
        done = self._decoded(hidden, states, self._theta[row], self._distances(entry, squares))
        shape = (1, len(hidden), *self._shape)
        components = Components(done.weights[None], done.means.reshape(shape), done.stds.reshape(shape))
        return components, done.distances.reshape(1)

    def _distances(self, entry: Array, squares: Array) -> Array:
        """(..., H + C) products and (...) squared lengths of states -> (...)."""
        nearest = (self._lengths - entry[..., self._hidden_size :]).min(axis=-1) + squares
        return np.sqrt(np.maximum(nearest, 0.0)) / self._near

    def _decoded(self, hidden: Array, states: Array, theta: Array, distances: Array) -> _Decoded:
        """(..., K, H) the first layer before its ReLU, (..., I) states, (..., K, M * A) calibration and (...) distances."""
        size = hidden.shape[:-1]
        hidden = hidden.reshape(-1, self._hidden_size)
        np.maximum(hidden, 0.0, out=hidden)
        for weight, floor in zip(self._weights, self._floors, strict=True):
            hidden = hidden @ weight
            np.maximum(hidden, floor, out=hidden)
        out = hidden @ self._heads
        out += self._head_bias
        out = out.reshape(*size, -1)
        m, n = self._shape[0], self._shape[0] * self._shape[1]
        logits, means, logstd = out[..., :m], out[..., m : m + n], out[..., m + n :]
        if self._skip is not None:
            means += states[..., : len(self._skip)] @ self._skip
        weights = _softmax(logits)
        np.maximum(logstd, MIN_LOGSTD, out=logstd)
        np.minimum(logstd, MAX_LOGSTD, out=logstd)
        logstd += theta
        if self._slope:
            wider = np.maximum(distances - np.float32(1.0), 0.0) * self._slope
            logstd += wider[..., None, None]
        np.maximum(logstd, MIN_LOGSTD, out=logstd)
        np.minimum(logstd, MAX_LOGSTD, out=logstd)
        return _Decoded(weights, np.tanh(means), np.exp(logstd), np.asarray(distances))


def _softmax(logits: Array) -> Array:
    """(..., M) -> (..., M), sum to 1: column by column, since NumPy reduces short last axes slowly."""
    columns = [logits[..., m] for m in range(logits.shape[-1])]
    largest = columns[0]
    for column in columns[1:]:
        largest = np.maximum(largest, column)
    weights = np.exp(logits - largest[..., None])
    total = weights[..., 0]
    for m in range(1, len(columns)):
        total = total + weights[..., m]
    weights /= total[..., None]
    return weights


def can_prepare(decoder: Any) -> bool:
    """Whether a decoder is of continuous actions, without intents (which depend on states), and its latents enter the first layer alone."""
    if not isinstance(decoder, DecoderWeights) or decoder.network.intents:
        return False
    _, *rest = decoder.network.trunks[0].layers
    return all(not layer.scale.shape[1] and not layer.shift.shape[1] for layer in rest)


def _columns(*weights: Array) -> Array:
    """(I, n) of weights (n, I) below each other, as products from the left want them."""
    return np.ascontiguousarray(np.concatenate(weights).T, np.float32)


def _folded(layers: tuple[Layer, ...]) -> tuple[list[Array], list[Array], Array | None]:
    """Of layers relu(W x + b): weights, what products are cut off at, and the constant that is still to be added after the last of them (None: nothing).

    With x + c for x, W (x + c) + b = W x + (W c + b).
    """
    weights: list[Array] = []
    floors: list[Array] = []
    carried: Array | None = None
    for layer in layers:
        bias = layer.bias if carried is None else (layer.bias + layer.weight @ carried).astype(np.float32)
        weights.append(_columns(layer.weight))
        floors.append((-bias).astype(np.float32))
        carried = bias
    return weights, floors, carried
