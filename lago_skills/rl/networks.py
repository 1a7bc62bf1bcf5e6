"""Networks of soft actor-critic, and their weights on disk.

What a network sees of the prior (`hint`) enters the first layer through weights that start at zero: before any update, and for ever where
the hint is zero, the network is the one that sees no prior.
"""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lago_skills.errors import ArtifactCorrupt


class Critics(nn.Module):
    """Two Q-functions evaluated as one batch of matrices: (state, action), hint -> (2, B)."""

    def __init__(self, input_size: int, hint_size: int, hidden_size: int, layer_norm: bool) -> None:
        super().__init__()
        self.layer_norm = layer_norm
        layers: list[tuple[nn.Parameter, nn.Parameter]] = []
        for number, (a, b) in enumerate(itertools.pairwise([input_size, hidden_size, hidden_size, 1])):
            bound = 1.0 / np.sqrt(a)
            weight = nn.Parameter(torch.empty(2, a, b).uniform_(-bound, bound))
            bias = nn.Parameter(torch.zeros(2, 1, b))
            self.register_parameter(f"weight{number}", weight)
            self.register_parameter(f"bias{number}", bias)
            layers.append((weight, bias))
        self._layers = tuple(layers)
        self.hint = nn.Parameter(torch.zeros(2, hint_size, hidden_size)) if hint_size else None

    def forward(self, x: Tensor, hint: Tensor | None = None) -> Tensor:
        """(B, input), (B, hint) -> (2, B)."""
        (w0, b0), (w1, b1), (w2, b2) = self._layers
        hidden = torch.baddbmm(b0, x.expand(2, *x.shape), w0)  # (2, B, hidden)
        if hint is not None and self.hint is not None:
            hidden = torch.baddbmm(hidden, hint.expand(2, *hint.shape), self.hint)
        hidden = self._activate(hidden)
        hidden = self._activate(torch.baddbmm(b1, hidden, w1))
        return torch.baddbmm(b2, hidden, w2)[..., 0]

    def _activate(self, hidden: Tensor) -> Tensor:
        if self.layer_norm:
            hidden = nn.functional.layer_norm(hidden, hidden.shape[-1:])
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
