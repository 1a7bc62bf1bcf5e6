"""Demonstrated steps in which only state and task together tell the skill."""

from __future__ import annotations

from typing import Any

import numpy as np

from lago_skills.decoder.trained_decoder import Linear
from lago_skills.query.config import QueryConfig
from lago_skills.query.query_dataset import QuerySteps
from lago_skills.query.query_network import QueryNetwork

INPUTS, EMBEDDING, Z = 28, 384, 8
TINY = QueryConfig(n_updates=250, hidden_sizes=(32,), batch_size=128, learning_rate=1e-2)


def unit(rng: np.random.Generator, n: int, size: int = Z) -> np.ndarray:
    rows = rng.normal(size=(n, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def quiet(update: int, loss: float) -> None:
    """No progress."""


def steps(n: int = 900, **changes: Any) -> QuerySteps:
    """Two tasks; in each, one of two skills by the sign of the first number: neither alone tells which."""
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-1, 1, (n, 5)).astype(np.float32)
    tasks = rng.integers(0, 2, n)
    fields: dict[str, Any] = {
        "inputs": inputs,
        "variants": inputs[:, None],
        "tasks": tasks,
        "skills": 2 * tasks + (inputs[:, 0] > 0),
        "held_out": np.arange(n) % 5 == 4,
        "weights": np.ones(n),
        "words": unit(rng, 6, 12).reshape(2, 3, 12),
        "latents": unit(rng, 4),
    }
    return QuerySteps(**{**fields, **changes})


def network(seed: int = 0, n_inputs: int = INPUTS, latent: int = Z) -> QueryNetwork:
    rng = np.random.default_rng(seed)

    def linear(n_out: int, n_in: int) -> Linear:
        weight = rng.normal(size=(n_out, n_in)) / np.sqrt(n_in)
        return Linear(weight.astype(np.float32), rng.normal(size=n_out).astype(np.float32))

    mean, std = np.zeros(n_inputs, np.float32), np.ones(n_inputs, np.float32)
    task = Linear(linear(6, EMBEDDING).weight, np.zeros(6, np.float32))
    return QueryNetwork(mean, std, task, (linear(16, n_inputs + 6), linear(latent, 16)))
