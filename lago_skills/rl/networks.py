"""What networks of all algorithms share: where they are, how states are normalised, a step of an optimiser, and weights on disk."""

# torch and safetensors leave some types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lago_skills.errors import ArtifactCorrupt, StudyError

LARGEST_STATE = 10.0
"""Spreads from the mean at which a normalised state is clipped."""


def device_for(setting: str) -> torch.device:
    """Where networks are, for a setting of `lago_skills.rl.config.RunConfig.device`.

    Raises:
        StudyError: "cuda" where torch finds no GPU.
    """
    there = torch.cuda.is_available()
    if setting == "cuda" and not there:
        raise StudyError(
            f'device: found "cuda", but torch {torch.__version__} sees no GPU on this machine; expected one; set device to "cpu" or '
            '"auto", or install a torch and a driver that know the GPU'
        )
    return torch.device("cuda" if setting != "cpu" and there else "cpu")


def adam(parameters: Sequence[Tensor], learning_rate: float, epsilon: float = 1e-8) -> torch.optim.Adam:
    """Adam (arXiv 1412.6980) with torch's fused update."""
    return torch.optim.Adam(parameters, lr=learning_rate, eps=epsilon, fused=True)


def set_gradients(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Gradients of a loss by the optimiser's parameters, and by no others."""
    parameters: list[Tensor] = [each for group in optimizer.param_groups for each in group["params"]]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient


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

    def update(self, states: Tensor) -> None:
        """Count (B, S') more states. Source: Chan et al. (1979), parallel moments."""
        new, before = float(len(states)), float(self.count)
        if not new:
            return
        apart = states.mean(dim=0) - self.mean
        within = self.var * before + states.var(dim=0, correction=0) * new
        self.var.copy_((within + apart**2 * (before * new / (before + new))) / (before + new))
        self.mean.add_(apart * (new / (before + new)))
        self.count.fill_(before + new)

    def forward(self, states: Tensor) -> Tensor:
        """(B, S') -> (B, S')."""
        if not self.enabled:
            return states
        return ((states - self.mean) * torch.rsqrt(self.var + 1e-8)).clamp(-LARGEST_STATE, LARGEST_STATE)


def save_networks(path: Path, **networks: nn.Module) -> None:
    """Write the weights of networks by name as safetensors."""
    tensors = {
        f"{part}.{name}": value.cpu().contiguous()
        for part, network in networks.items()
        for name, value in network.state_dict().items()
    }
    path.write_bytes(save(tensors))


def load_networks(path: Path, **networks: nn.Module) -> None:
    """Read what `save_networks` wrote into networks of the same names and sizes.

    Raises:
        ArtifactCorrupt: the file cannot be read or belongs to other sizes.
    """
    try:
        stored = load_file(path)
        for part, network in networks.items():
            weights = {name.removeprefix(f"{part}."): v for name, v in stored.items() if name.startswith(f"{part}.")}
            network.load_state_dict(weights)
    except (OSError, RuntimeError, ValueError) as error:
        raise ArtifactCorrupt(
            f"networks {str(path)!r} cannot be read ({error}); expected the weights of this study's run; train again"
        ) from error
