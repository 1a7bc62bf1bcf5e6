"""Networks of soft actor-critic: a tanh-Gaussian policy, and two Q-functions as one batched network.

What a network sees of the prior (`hint`) enters the first layer through weights that start at zero: before any update, and for ever where
the hint is zero, the network is the one that sees no prior.
"""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from lago_skills.prior import LOG_2PI

LOG_STD_RANGE = (-5.0, 2.0)
"""Of the policy before the tanh."""


class Critics(nn.Module):
    """Two Q-functions: (state, action), hint -> (2, B)."""

    def __init__(self, input_size: int, hint_size: int, hidden_size: int, layer_norm: bool) -> None:
        super().__init__()
        self.layer_norm = layer_norm
        self._layers: list[tuple[Tensor, Tensor]] = []
        for number, (n_inputs, n_outputs) in enumerate(itertools.pairwise([input_size, hidden_size, hidden_size, 1])):
            bound = 1.0 / math.sqrt(n_inputs)
            weight = nn.Parameter(torch.empty(2, n_inputs, n_outputs).uniform_(-bound, bound))
            bias = nn.Parameter(torch.zeros(2, 1, n_outputs))
            self.register_parameter(f"weight{number}", weight)
            self.register_parameter(f"bias{number}", bias)
            self._layers.append((weight, bias))
        self.hint = nn.Parameter(torch.zeros(2, hint_size, hidden_size)) if hint_size else None
        self._ones: Tensor
        self._zeros: Tensor
        self.register_buffer("_ones", torch.ones(hidden_size), persistent=False)
        self.register_buffer("_zeros", torch.zeros(hidden_size), persistent=False)

    def forward(self, x: Tensor, hint: Tensor | None = None) -> Tensor:
        """(B, state + action), (B, hint) -> (2, B)."""
        (weight0, bias0), (weight1, bias1), (weight2, bias2) = self._layers
        hidden = torch.baddbmm(bias0, x.expand(2, *x.shape), weight0)
        if self.hint is not None and hint is not None:
            hidden = hidden.baddbmm_(hint.expand(2, *hint.shape), self.hint)
        hidden = self._activate(torch.baddbmm(bias1, self._activate(hidden), weight1))
        return torch.baddbmm(bias2, hidden, weight2)[..., 0]

    def _activate(self, hidden: Tensor) -> Tensor:
        """LayerNorm, if there is one, and ReLU in place."""
        if self.layer_norm:  # torch takes two thirds longer where it is given no weights
            hidden = nn.functional.layer_norm(hidden, hidden.shape[-1:], self._ones, self._zeros)
        return hidden.relu_()


class Actor(nn.Module):
    """Tanh-Gaussian policy: state, hint -> action in [-1, 1] and its log-density."""

    def __init__(self, input_size: int, hint_size: int, action_size: int, hidden_size: int) -> None:
        super().__init__()
        self.first = nn.Linear(input_size, hidden_size)
        self.second = nn.Linear(hidden_size, hidden_size)
        self.head = nn.Linear(hidden_size, 2 * action_size)
        self.hint = nn.Parameter(torch.zeros(hint_size, hidden_size)) if hint_size else None

    def forward(self, x: Tensor, hint: Tensor | None, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, S'), (B, hint), (B, A) standard normal -> action (B, A), log-density (B,); without noise, the mode, whose density means nothing."""
        hidden = self.first(x)
        if self.hint is not None and hint is not None:
            hidden = hidden.addmm_(hint, self.hint)
        mean, spread = self.head(self.second(hidden.relu_()).relu_()).chunk(2, dim=1)
        if noise is None:
            return mean.tanh(), mean.new_zeros(len(x))
        low, high = LOG_STD_RANGE
        log_std = low + 0.5 * (high - low) * (spread.tanh() + 1.0)
        pre_tanh = mean + log_std.exp() * noise
        log_normal = (-0.5 * (noise * noise + LOG_2PI) - log_std).sum(dim=1)
        # log |d tanh / d x| = 2 (log 2 - x - softplus(-2 x)), which does not overflow
        log_slope = 2.0 * (math.log(2.0) - pre_tanh - nn.functional.softplus(-2.0 * pre_tanh)).sum(dim=1)
        return pre_tanh.tanh(), log_normal - log_slope
