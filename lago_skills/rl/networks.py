"""Networks of soft actor-critic, and their weights on disk.

Forward and backward passes are written out, one function after the other, so that all of one stays in the processor's cache: torch's LayerNorm
and the bookkeeping of gradients take as long again as the large products. `tests/test_sac.py` holds them against torch's own.

What a network sees of the prior (`hint`) enters the first layer through weights that start at zero: before any update, and for ever where
the hint is zero, the network is the one that sees no prior.
"""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lago_skills.errors import ArtifactCorrupt
from lago_skills.prior import LOG_2PI
from lago_skills.rl.products import product

_relu_backward: Any = torch.ops.aten.threshold_backward.default
_norm_backward: Any = torch.ops.aten.native_layer_norm_backward.default

Kept = tuple[Tensor, list[Tensor], Tensor, list[Tensor]]
"""Of one Q-function, for its backward pass: the output of each activation, and what it was normalised from."""


class Critics(nn.Module):
    """Two Q-functions: (state, action), hint -> (2, B)."""

    def __init__(self, input_size: int, hint_size: int, hidden_size: int, layer_norm: bool) -> None:
        super().__init__()
        self.layer_norm = layer_norm
        layers: list[nn.Parameter] = []
        for number, (a, b) in enumerate(itertools.pairwise([input_size, hidden_size, hidden_size, 1])):
            bound = 1.0 / np.sqrt(a)
            weight = nn.Parameter(torch.empty(2, a, b).uniform_(-bound, bound))
            bias = nn.Parameter(torch.zeros(2, 1, b))
            self.register_parameter(f"weight{number}", weight)
            self.register_parameter(f"bias{number}", bias)
            layers += [weight, bias]
        self.hint = nn.Parameter(torch.zeros(2, hint_size, hidden_size)) if hint_size else None
        self.weights: list[Tensor] = [*layers] if self.hint is None else [*layers, self.hint]
        self._ones, self._zeros = torch.ones(hidden_size), torch.zeros(hidden_size)
        self.each = [[weight.detach()[number] for weight in self.weights] for number in range(2)]
        """Views of the weights of each Q-function, in the order of `weights`."""

    def forward(self, x: Tensor, hint: Tensor | None = None) -> Tensor:
        """(B, input), (B, hint) -> (2, B); for gradients see `evaluate`."""
        return self.evaluate(x, hint)[0]

    def evaluate(self, x: Tensor, hint: Tensor | None) -> tuple[Tensor, list[Kept]]:
        """Values (2, B), and what the backward passes need of both Q-functions."""
        values: list[Tensor] = []
        kept: list[Kept] = []
        for w0, b0, w1, b1, w2, b2, *w_hint in self.each:
            hidden = product(x, w0, b0[0])
            if hint is not None and w_hint:
                hidden.addmm_(hint, w_hint[0])
            hidden0, kept0 = self._activate(hidden)
            hidden1, kept1 = self._activate(product(hidden0, w1, b1[0]))
            values.append(torch.addmv(b2[0], hidden1, w2[:, 0]))
            kept.append((hidden0, kept0, hidden1, kept1))
        return torch.stack(values), kept

    def gradients(self, x: Tensor, hint: Tensor | None, kept: list[Kept], by_values: Tensor) -> list[Tensor]:
        """By the weights of the first Q-function and of the second, as in `each`, given those by the values (2, B)."""
        found: list[Tensor] = []
        for weights, each, by_value in zip(self.each, kept, by_values, strict=True):
            hidden0, _, hidden1, _ = each
            by_first, by_second = self._backward(weights, each, by_value)
            found += [product(x.T, by_first), by_first.sum(dim=0, keepdim=True)]
            found += [product(hidden0.T, by_second), by_second.sum(dim=0, keepdim=True)]
            found += [torch.mv(hidden1.T, by_value)[:, None], by_value.sum()[None, None]]
            if self.hint is not None:
                found.append(hint.T @ by_first if hint is not None else torch.zeros_like(weights[6]))
        return found

    def by_inputs(self, kept: list[Kept], by_values: Tensor, n_last: int) -> Tensor:
        """By the last columns of x (B, n_last), given those by the values (2, B)."""
        first, second = (
            self._backward(weights, each, by_value)[0] @ weights[0][-n_last:].T
            for weights, each, by_value in zip(self.each, kept, by_values, strict=True)
        )
        return first + second

    def _backward(self, weights: list[Tensor], kept: Kept, by_value: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients by the inputs of both activations of one Q-function (B, hidden)."""
        hidden0, normalised0, hidden1, normalised1 = kept
        by_second = self._through(by_value[:, None] * weights[4].T, hidden1, normalised1)
        return self._through(product(by_second, weights[2].T), hidden0, normalised0), by_second

    def _activate(self, hidden: Tensor) -> tuple[Tensor, list[Tensor]]:
        """LayerNorm without weights, if there is one, and ReLU; what was normalised (B, hidden), its means and reciprocal spreads (B, 1)."""
        if not self.layer_norm:
            return hidden.relu_(), []
        # torch takes two thirds longer where it is given no weights
        output, mean, scale = torch.native_layer_norm(hidden, hidden.shape[1:], self._ones, self._zeros, 1e-5)
        return output.relu_(), [hidden, mean, scale]

    def _through(self, by_output: Tensor, output: Tensor, normalised: list[Tensor]) -> Tensor:
        """Gradient by the input of `_activate`, given that by its output (B, hidden)."""
        masked = _relu_backward(by_output, output, 0)
        if not normalised:
            return masked
        hidden, mean, scale = normalised
        return _norm_backward(masked, hidden, masked.shape[1:], mean, scale, None, None, [True, False, False])[0]


class Actor(nn.Module):
    """Tanh-Gaussian policy: state, hint -> action in [-1, 1] and its log-density."""

    def __init__(self, input_size: int, hint_size: int, action_size: int, hidden_size: int) -> None:
        super().__init__()
        self.first = nn.Linear(input_size, hidden_size)
        self.second = nn.Linear(hidden_size, hidden_size)
        self.head = nn.Linear(hidden_size, 2 * action_size)
        self.hint = nn.Parameter(torch.zeros(hint_size, hidden_size)) if hint_size else None
        self.weights: list[Tensor] = list(self.parameters())
        layers = [self.first, self.second, self.head]
        self._layers = [
            (layer.weight.detach(), layer.bias.detach()) for layer in layers
        ]  # without gradients of torch's
        self._hint = None if self.hint is None else self.hint.detach()

    def forward(self, x: Tensor, hint: Tensor | None, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Action (B, A) and log-density (B,); without noise, the mode (its density is not meaningful). For gradients see `evaluate`."""
        return self.evaluate(x, hint, noise)[:2]

    def evaluate(self, x: Tensor, hint: Tensor | None, noise: Tensor | None) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Action, log-density, and what the backward pass needs."""
        (w0, b0), (w1, b1), (w2, b2) = self._layers
        hidden0 = product(x, w0.T, b0)
        if self._hint is not None and hint is not None:
            hidden0.addmm_(hint, self._hint)
        hidden1 = product(hidden0.relu_(), w1.T, b1).relu_()
        mean, raw = torch.addmm(b2, hidden1, w2.T).chunk(2, dim=1)
        if noise is None:
            action = mean.tanh()
            return action, torch.zeros(len(x)), [hidden0, hidden1, action]
        squashed = raw.tanh()
        log_std = 3.5 * squashed - 1.5  # in [-5, 2]
        deviation = log_std.exp() * noise
        pre = mean + deviation
        # log |d tanh / d pre| = 2 (log 2 - pre - softplus(-2 pre)), which does not overflow
        unsquashed = -0.5 * (noise * noise).sum(dim=1) - noise.shape[1] * (0.5 * LOG_2PI + 2.0 * math.log(2.0))
        log_p = (2.0 * (pre + nn.functional.softplus(-2.0 * pre)) - log_std).sum(dim=1) + unsquashed
        action = pre.tanh()
        return action, log_p, [hidden0, hidden1, action, squashed, deviation]

    def gradients(
        self, x: Tensor, hint: Tensor | None, kept: list[Tensor], by_action: Tensor, by_log_p: float
    ) -> list[Tensor]:
        """By all weights, in the order of `weights`, given those by the action (B, A) and by each log-density, which is one number."""
        hidden0, hidden1, action, *spread = kept
        (_, (w1, _), (w2, _)) = self._layers
        by_mean = by_action * (1.0 - action * action)
        if spread:
            squashed, deviation = spread
            by_mean += 2.0 * by_log_p * action  # log_p falls with log |d tanh / d pre|, whose gradient is -2 tanh
            by_raw = (by_mean * deviation - by_log_p) * (3.5 * (1.0 - squashed * squashed))
        else:
            by_raw = torch.zeros_like(by_mean)
        by_head = torch.cat([by_mean, by_raw], dim=1)
        by_second = _relu_backward(by_head @ w2, hidden1, 0)
        by_first = _relu_backward(product(by_second, w1), hidden0, 0)
        found = [product(by_first.T, x), by_first.sum(dim=0), product(by_second.T, hidden0), by_second.sum(dim=0)]
        found += [by_head.T @ hidden1, by_head.sum(dim=0)]
        if self._hint is None:
            return found
        return [hint.T @ by_first if hint is not None else torch.zeros_like(self._hint), *found]


def save_networks(path: Path, **networks: nn.Module) -> None:
    """Write the weights of networks by name as safetensors."""
    tensors = {
        f"{part}.{name}": v.contiguous() for part, net in networks.items() for name, v in net.state_dict().items()
    }
    path.write_bytes(save(tensors))


def load_networks(path: Path, **networks: nn.Module) -> None:
    """Read what `save_networks` wrote into networks of the same names and sizes.

    Raises:
        ArtifactCorrupt: the file cannot be read or belongs to other sizes.
    """
    try:
        stored = load_file(path)
        for part, net in networks.items():
            net.load_state_dict({n.removeprefix(f"{part}."): v for n, v in stored.items() if n.startswith(f"{part}.")})
    except (OSError, RuntimeError, ValueError) as error:
        raise ArtifactCorrupt(
            f"networks {str(path)!r} cannot be read ({error}); expected the weights of this study's run; train again"
        ) from error
