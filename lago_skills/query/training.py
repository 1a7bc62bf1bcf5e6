"""Train a query network: among all skills, the one that was active must be the nearest.

The loss is InfoNCE with the skills' latents, which the decoder has settled, as the only other side:

    L = -log( exp(q . z_active / T) / sum_s exp(q . z_s / T) )

Source: van den Oord et al. (arXiv 1807.03748), equation 4, with every skill of the data as a candidate in place of samples.
"""

# torch's annotations leave some types partially unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lago_skills.decoder.trained_decoder import Array, Linear
from lago_skills.query.config import QueryConfig
from lago_skills.query.query_dataset import QuerySteps
from lago_skills.query.query_network import GAIN, QueryNetwork

LEAST_STD = 1e-2
"""A state number that varies less is divided by this, so that a change at run time is no jump."""


class _Network(nn.Module):
    """(B, I) standardised states and (B, D) embeddings -> (B, Z)."""

    def __init__(self, n_inputs: int, n_embedding: int, n_latent: int, config: QueryConfig) -> None:
        super().__init__()
        sizes = [n_inputs + config.task_size, *config.hidden_sizes, n_latent]
        self.dropout = nn.Dropout(config.text_dropout)
        self.task = nn.Linear(n_embedding, config.task_size)
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in itertools.pairwise(sizes)])

    def forward(self, states: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        context = nn.functional.normalize(self.task(self.dropout(embeddings)), dim=1) * GAIN
        hidden = torch.cat([states, context], dim=1)
        for number, layer in enumerate(self.layers):
            hidden = layer(torch.relu(hidden) if number else hidden)
        return nn.functional.normalize(hidden, dim=1)

    def export(self, mean: Array, std: Array) -> QueryNetwork:
        layers = tuple(_linear(cast("nn.Linear", layer)) for layer in self.layers)
        return QueryNetwork(mean, std, _linear(self.task), layers)


def train(
    steps: QuerySteps, config: QueryConfig, seed: int, report: Callable[[int, float], None]
) -> tuple[QueryNetwork, dict[str, float]]:
    """Train on the steps that are not held out; returns the network at run time and its figures on those that are.

    `report(update, loss)` is called every 100 updates.
    """
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(~steps.held_out)
    seen = steps.variants[rows].reshape(-1, steps.variants.shape[2])
    mean, std = seen.mean(axis=0).astype(np.float32), np.maximum(seen.std(axis=0), LEAST_STD).astype(np.float32)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = _Network(steps.inputs.shape[1], steps.words.shape[2], steps.latents.shape[1], config)
        optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.n_updates)
        latents = torch.from_numpy(steps.latents)
        probability = steps.weights[rows] / steps.weights[rows].sum()
        for update in range(1, config.n_updates + 1):
            drawn = rng.choice(rows, config.batch_size, p=probability)
            states, texts = _draw(steps, drawn, config, rng)
            states = (states - mean) / std + rng.normal(0.0, config.input_noise_std, states.shape)
            queries = network(torch.from_numpy(states.astype(np.float32)), torch.from_numpy(texts))
            loss = nn.functional.cross_entropy(
                queries @ latents.T / config.temperature, torch.from_numpy(steps.skills[drawn])
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if update % 100 == 0:
                report(update, float(loss.detach()))
    exported = network.export(mean, std)
    return exported, figures(exported, steps)


def figures(network: QueryNetwork, steps: QuerySteps) -> dict[str, float]:
    """How often the active skill is the nearest (`top_1`) or among the three nearest to the query in held-out steps.

    Beside it, what the most frequent skill of the step's task (`top_1_by_task`) would score.
    """
    rows = np.flatnonzero(steps.held_out)
    if len(rows) == 0:
        rows = np.arange(len(steps.inputs))
    contexts = network.contexts(steps.words[:, 0])[steps.tasks[rows]]
    scores = network.queries(steps.inputs[rows], contexts) @ steps.latents.T  # (R, n_skills)
    own = scores[np.arange(len(rows)), steps.skills[rows]]
    rank = (scores > own[:, None]).sum(axis=1)
    counts = np.zeros((len(steps.words), len(steps.latents)))
    trained = np.flatnonzero(~steps.held_out)
    np.add.at(counts, (steps.tasks[trained], steps.skills[trained]), 1)
    by_task = counts.argmax(axis=1)[steps.tasks[rows]]
    return {
        "top_1": float((rank == 0).mean()),
        "top_3": float((rank < 3).mean()),
        "top_1_by_task": float((by_task == steps.skills[rows]).mean()),
        "n_held_out": float(len(rows)),
    }


def _draw(
    steps: QuerySteps, rows: NDArray[np.int64], config: QueryConfig, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(B, I) states, each from some frame, and (B, D) ways to ask for their tasks."""
    variant = rng.integers(0, steps.variants.shape[1], len(rows))
    wording = rng.integers(0, steps.words.shape[1], len(rows)) * (rng.random(len(rows)) < config.phrase_share)
    return steps.variants[rows, variant], steps.words[steps.tasks[rows], wording]


def _linear(layer: nn.Linear) -> Linear:
    return Linear(layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
