"""The networks that d3rlpy trains, and what is left of them at run time. Torch alone."""

# torch's annotations leave some types partially unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import itertools
from typing import cast

import numpy as np
import torch
from torch import nn

from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.trained_decoder import Array, Layer, Linear, Trunk

LATENT_GAIN = 2.0
"""Latents enter the network at this length, so that they weigh as much as the standardised inputs."""


def array(parameter: torch.Tensor) -> Array:
    """A parameter's numbers, as a copy."""
    return parameter.detach().cpu().numpy().astype(np.float32).copy()


def linear(layer: nn.Linear) -> Linear:
    """A layer at run time."""
    return Linear(array(layer.weight), array(layer.bias))


@torch.no_grad()
def load_linear(layer: nn.Linear, numbers: Linear) -> None:
    """Take over the numbers of a layer that was exported."""
    layer.weight.copy_(torch.from_numpy(numbers.weight))
    layer.bias.copy_(torch.from_numpy(numbers.bias))


class TextHead(nn.Module):
    """g: sentence embeddings (B, D) -> unit latents (B, Z)."""

    def __init__(self, embedding_size: int, config: DecoderConfig) -> None:
        super().__init__()
        sizes = [embedding_size, *config.text_sizes, config.latent_size]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in itertools.pairwise(sizes)])
        self.dropout = nn.Dropout(config.text_dropout)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, Z)."""
        hidden = self.dropout(embeddings)
        for number, layer in enumerate(self.layers):
            hidden = layer(torch.relu(hidden) if number else hidden)
        return nn.functional.normalize(hidden, dim=1)

    @torch.no_grad()
    def pass_through(self) -> None:
        """Become the identity for good: latents are the embeddings themselves. Needs one layer, as wide as they are."""
        (layer,) = cast("list[nn.Linear]", list(self.layers))
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
        self.dropout.p = 0.0
        self.requires_grad_(False)

    def export(self) -> tuple[Linear, ...]:
        """The head at run time."""
        return tuple(linear(cast("nn.Linear", layer)) for layer in self.layers)

    def load(self, layers: tuple[Linear, ...]) -> None:
        """Become a head that was exported."""
        for own, other in zip(self.layers, layers, strict=True):
            load_linear(cast("nn.Linear", own), other)


class SkillEncoder(nn.Module):
    """[inputs, embedding] and perhaps [action] -> hidden. The embedding goes through the text head first."""

    def __init__(self, n_inputs: int, n_extra: int, text_head: TextHead, config: DecoderConfig) -> None:
        super().__init__()
        self.n_inputs, self.n_extra, self.join = n_inputs, n_extra, config.join
        self.text_head = text_head
        sizes = [n_inputs + n_extra, *config.hidden_sizes]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in itertools.pairwise(sizes)])
        joined = sizes[1:] if config.join == "film" else sizes[1:2]
        self.shifts = nn.ModuleList([nn.Linear(config.latent_size, size, bias=False) for size in joined])
        self.scales = nn.ModuleList(
            [nn.Linear(config.latent_size, size, bias=False) for size in joined] if config.join == "film" else []
        )
        for scale in self.scales:
            nn.init.zeros_(cast("nn.Linear", scale).weight)

    def forward(self, x: torch.Tensor, action: torch.Tensor | None = None) -> torch.Tensor:
        """(B, I + D), (B, E) -> (B, H)."""
        latent = self.text_head(x[:, self.n_inputs :]) * LATENT_GAIN
        hidden = x[:, : self.n_inputs]
        if action is not None:
            hidden = torch.cat([hidden, action], dim=1)
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden)
            if number < len(self.scales):
                hidden = hidden * (1.0 + self.scales[number](latent))
            if number < len(self.shifts):
                hidden = hidden + self.shifts[number](latent)
            hidden = torch.relu(hidden)
        return hidden

    def export(self) -> Trunk:
        """The network at run time."""
        exported: list[Layer] = []
        for number, layer in enumerate(self.layers):
            weight, bias = array(cast("nn.Linear", layer).weight), array(cast("nn.Linear", layer).bias)
            split = self.n_inputs if number == 0 else weight.shape[1]
            none = np.zeros((len(bias), 0), np.float32)
            shift, scale = (
                array(cast("nn.Linear", joined[number]).weight) * LATENT_GAIN if number < len(joined) else none
                for joined in (self.shifts, self.scales)
            )
            exported.append(Layer(weight[:, :split].copy(), bias, shift, scale, weight[:, split:].copy()))
        return Trunk(tuple(exported))

    @torch.no_grad()
    def load(self, trunk: Trunk) -> None:
        """Become an encoder that was exported; the text head stays."""
        for number, (own, other) in enumerate(zip(self.layers, trunk.layers, strict=True)):
            load_linear(cast("nn.Linear", own), Linear(np.concatenate([other.weight, other.extra], axis=1), other.bias))
            for joined, weight in ((self.shifts, other.shift), (self.scales, other.scale)):
                if number < len(joined):
                    cast("nn.Linear", joined[number]).weight.copy_(torch.from_numpy(weight / LATENT_GAIN))
