"""Networks of soft actor-critic, and their weights on disk.

What a network sees of the prior (`hint`) enters the first layer through weights that start at zero: before any update, and for ever where
the hint is zero, the network is the one that sees no prior.
"""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lago_skills.errors import ArtifactCorrupt


class Critics(nn.Module):
    """Two Q-functions evaluated as one batch of matrices: (state, action), hint -> (2, B).

    Forward and backward pass are written out (`_by_hand`, `_Critics`): torch's LayerNorm, its products with matrices of one column and
    its bookkeeping take as long again as the large matrix products. `tests/test_rl.py` holds both against torch's own.
    """

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
        self._weights = (self.hint, *layers)
        self._constants = tuple(None if each is None else each.detach() for each in self._weights)

    def forward(self, x: Tensor, hint: Tensor | None = None, *, constant: bool = False) -> Tensor:
        """(B, input), (B, hint) -> (2, B); where `constant`, gradients go to x alone, and cost no more than that."""
        if not torch.is_grad_enabled():
            return _by_hand(self.layer_norm, x, hint, *self._constants)[0]
        return _Critics.apply(self.layer_norm, x, hint, *(self._constants if constant else self._weights))


def _by_hand(
    layer_norm: bool,
    x: Tensor,
    hint: Tensor | None,
    w_hint: Tensor | None,
    w0: Tensor,
    b0: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    """Values (2, B), and of both layers what the backward pass needs: normalised inputs, reciprocal spreads, outputs (2, B, hidden)."""
    hidden = torch.baddbmm(b0, x.expand(2, *x.shape), w0)
    if hint is not None and w_hint is not None:
        hidden.baddbmm_(hint.expand(2, *hint.shape), w_hint)
    first, scale0 = _normalised(hidden) if layer_norm else (hidden, hidden)
    hidden0 = first.relu()
    hidden = torch.baddbmm(b1, hidden0, w1)
    second, scale1 = _normalised(hidden) if layer_norm else (hidden, hidden)
    hidden1 = second.relu()
    values = (hidden1 * w2.mT).sum(dim=2) + b2[..., 0]
    return values, [first, scale0, hidden0, second, scale1, hidden1]


def _normalised(hidden: Tensor) -> tuple[Tensor, Tensor]:
    """LayerNorm without weights, in place, and the reciprocal spreads (..., 1)."""
    hidden -= hidden.mean(dim=-1, keepdim=True)
    squares = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True).square_()
    scale = squares.div_(hidden.shape[-1]).add_(1e-5).rsqrt_()
    return hidden.mul_(scale), scale


class _Critics(torch.autograd.Function):
    """Gradients of `_by_hand`."""

    @staticmethod
    def forward(ctx: Any, layer_norm: bool, x: Tensor, hint: Tensor | None, *weights: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride] as torch documents it
        values, kept = _by_hand(layer_norm, x, hint, *weights)
        ctx.save_for_backward(x, hint, *weights, *kept)
        ctx.layer_norm = layer_norm
        return values

    @staticmethod
    def backward(ctx: Any, by_values: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] as torch documents it
        x, hint, w_hint, w0, _, w1, _, w2, _, first, scale0, hidden0, second, scale1, hidden1 = ctx.saved_tensors
        by_value = by_values[..., None]  # (2, B, 1)
        by_second = _through(by_value * w2.mT, hidden1, second, scale1, ctx.layer_norm)
        by_first = _through(by_second @ w1.mT, hidden0, first, scale0, ctx.layer_norm)
        by_x = (by_first @ w0.mT).sum(dim=0) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[4]:
            return None, by_x, *[None] * 8
        return (
            None,
            by_x,
            None,
            hint.T.expand(2, *hint.T.shape) @ by_first if w_hint is not None else None,
            x.T.expand(2, *x.T.shape) @ by_first,
            by_first.sum(dim=1, keepdim=True),
            hidden0.mT @ by_second,
            by_second.sum(dim=1, keepdim=True),
            (hidden1 * by_value).sum(dim=1)[..., None],
            by_value.sum(dim=1, keepdim=True),
        )


def _through(by_output: Tensor, output: Tensor, normalised: Tensor, scale: Tensor, layer_norm: bool) -> Tensor:
    """Gradient by the input of a layer's LayerNorm and ReLU, given that by its output (2, B, hidden)."""
    found = torch.ops.aten.threshold_backward(by_output, output, 0)
    if not layer_norm:
        return found
    zeros, ones = torch.zeros_like(scale), torch.ones_like(scale)
    backward = torch.ops.aten.native_layer_norm_backward
    unscaled, _, _ = backward(found, normalised, found.shape[-1:], zeros, ones, None, None, [True, False, False])
    return unscaled.mul_(scale)


class Actor(nn.Module):
    """Tanh-Gaussian policy: state, hint -> action in [-1, 1] and its log-density."""

    def __init__(self, input_size: int, hint_size: int, action_size: int, hidden_size: int) -> None:
        super().__init__()
        self.first = nn.Linear(input_size, hidden_size)
        self.second = nn.Linear(hidden_size, hidden_size)
        self.head = nn.Linear(hidden_size, 2 * action_size)
        self.hint = nn.Parameter(torch.zeros(hint_size, hidden_size)) if hint_size else None

    def forward(self, x: Tensor, hint: Tensor | None, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Action (B, A) and log-density (B,); without noise, the mode (its density is not meaningful)."""
        hidden = self.first(x)
        if self.hint is not None and hint is not None:
            hidden = torch.addmm(hidden, hint, self.hint)
        hidden = torch.relu(self.second(torch.relu(hidden)))
        mean, raw = self.head(hidden).chunk(2, dim=1)
        if noise is None:
            return torch.tanh(mean), torch.zeros(len(x))
        log_std = -5.0 + 3.5 * (torch.tanh(raw) + 1.0)  # in [-5, 2]
        pre = mean + log_std.exp() * noise
        # log |d tanh / d pre| in the form that does not overflow
        squash = 2.0 * (np.log(2.0) - pre - nn.functional.softplus(-2.0 * pre))
        log_p = (-0.5 * noise**2 - log_std - 0.5 * np.log(2.0 * np.pi) - squash).sum(dim=1)
        return torch.tanh(pre), log_p


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
