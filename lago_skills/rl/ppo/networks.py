"""Networks of proximal policy optimisation."""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """Two layers of tanh with orthogonal weights: state, hint -> outputs. The hint enters through weights that start at zero."""

    def __init__(self, input_size: int, hint_size: int, hidden_size: int, output_size: int, head_gain: float) -> None:
        super().__init__()
        gain = math.sqrt(2.0)
        self.first = _orthogonal(input_size, hidden_size, gain)
        self.second = _orthogonal(hidden_size, hidden_size, gain)
        self.head = _orthogonal(hidden_size, output_size, head_gain)
        self.hint = nn.Parameter(torch.zeros(hint_size, hidden_size)) if hint_size else None

    def forward(self, x: Tensor, hint: Tensor | None) -> Tensor:
        """(B, input), (B, hint) -> (B, output)."""
        hidden = self.first(x)
        if self.hint is not None and hint is not None:
            hidden = hidden + hint @ self.hint
        return self.head(self.second(hidden.tanh()).tanh())


def _orthogonal(inputs: int, outputs: int, gain: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
