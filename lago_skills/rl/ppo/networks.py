"""Networks of proximal policy optimisation.

Backward passes are written out, as in `lago_skills.rl.networks`; `tests/test_ppo.py` holds them against torch's own.
"""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportPrivateUsage=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lago_skills.rl.products import product, tanh_

_tanh_backward: Any = torch.ops.aten.tanh_backward.default


class Normalizer(nn.Module):
    """States to mean 0 and spread 1 by running moments, within 10 spreads; the identity if not enabled."""

    def __init__(self, size: int, enabled: bool) -> None:
        super().__init__()
        self.enabled = enabled
        self.mean: Tensor
        self.var: Tensor
        self.count: Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def see(self, states: Tensor) -> None:
        """Count (B, S') more states. Source: Chan et al. (1979), parallel moments."""
        new, before = float(len(states)), float(self.count)
        apart = states.mean(dim=0) - self.mean
        within = self.var * before + states.var(dim=0, correction=0) * new
        self.var.copy_((within + apart**2 * (before * new / (before + new))) / (before + new))
        self.mean.add_(apart * (new / (before + new)))
        self.count.fill_(before + new)

    def forward(self, states: Tensor) -> Tensor:
        """(B, S') -> (B, S')."""
        if not self.enabled:
            return states
        return ((states - self.mean) * torch.rsqrt(self.var + 1e-8)).clamp(-10.0, 10.0)


@dataclass(frozen=True)
class Forward:
    """A forward pass of a network."""

    x: Tensor  # (B, input)
    hint: Tensor | None  # (B, hint)
    kept: tuple[Tensor, Tensor]  # (B, hidden) both hidden layers
    outputs: Tensor  # (B, output)


class Network(nn.Module):
    """Two layers of tanh with orthogonal weights: state, hint -> outputs. The hint enters through weights that start at zero."""

    def __init__(self, input_size: int, hint_size: int, hidden_size: int, output_size: int, head_gain: float) -> None:
        super().__init__()
        gain = float(np.sqrt(2.0))
        self.first = _orthogonal(input_size, hidden_size, gain)
        self.second = _orthogonal(hidden_size, hidden_size, gain)
        self.head = _orthogonal(hidden_size, output_size, head_gain)
        self.hint = nn.Parameter(torch.zeros(hint_size, hidden_size)) if hint_size else None

    def forward(self, x: Tensor, hint: Tensor | None) -> Tensor:
        """(B, input), (B, hint) -> (B, output); for gradients see `evaluate`."""
        return self.evaluate(x, hint)[0]

    @torch.no_grad()
    def evaluate(self, x: Tensor, hint: Tensor | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Outputs, and what the backward pass needs: both hidden layers."""
        hidden0 = product(x, self.first.weight.T, self.first.bias)
        if self.hint is not None and hint is not None:
            hidden0.addmm_(hint, self.hint)
        hidden1 = tanh_(product(tanh_(hidden0), self.second.weight.T, self.second.bias))
        return product(hidden1, self.head.weight.T, self.head.bias), (hidden0, hidden1)

    @torch.no_grad()
    def gradients(self, forward: Forward, by_outputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """By the weights and biases of all layers, and by the weights of the hint if there is one, given those by the outputs."""
        x, hint, (hidden0, hidden1) = forward.x, forward.hint, forward.kept
        by_second = _tanh_backward(product(by_outputs, self.head.weight), hidden1)
        by_first = _tanh_backward(product(by_second, self.second.weight), hidden0)
        found = [product(by_first.T, x), by_first.sum(dim=0), product(by_second.T, hidden0), by_second.sum(dim=0)]
        found += [product(by_outputs.T, hidden1), by_outputs.sum(dim=0)]
        if self.hint is None:
            return found, []
        return found, [hint.T @ by_first if hint is not None else torch.zeros_like(self.hint)]


def _orthogonal(inputs: int, outputs: int, gain: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
