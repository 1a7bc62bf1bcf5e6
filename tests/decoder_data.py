"""Small labelled steps with a known answer, for tests of decoders."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.decoder.steps import LabelledSteps

N_SKILLS, N_INPUTS, EMBEDDING = 3, 8, 12
SIGNS = np.array([1.0, -1.0, 0.0])
"""What the skills do: follow the heading, flee from it, stay."""


def labelled(
    actions: NDArray[Any],
    inputs: NDArray[Any],
    skills: NDArray[np.int64],
    length: int = 10,
    n_actions: int | None = None,
    **changes: Any,
) -> LabelledSteps:
    """Steps in segments of `length`, every fifth segment held out, one variant."""
    steps = len(actions)
    segments = np.arange(steps) // length
    last = np.arange(steps) % length == length - 1
    fields: dict[str, Any] = {
        "inputs": inputs.astype(np.float32),
        "variants": inputs[:, None].astype(np.float32),
        "next_variants": np.roll(inputs, -1, axis=0)[:, None].astype(np.float32),
        "variant_actions": actions[:, None].astype(np.float32),
        "skills": skills,
        "embeddings": embeddings(),
        "segments": segments,
        "actions": actions.astype(np.float32),
        "rewards": last.astype(np.float32),
        "terminals": last,
        "held_out": segments % 5 == 4,
        "weights": np.ones(steps),
        "n_actions": n_actions,
    }
    return LabelledSteps(**{**fields, **changes})


def embeddings(n: int = N_SKILLS, seed: int = 7) -> NDArray[np.float32]:
    """Unit vectors in the place of sentence embeddings."""
    rows = np.random.default_rng(seed).normal(size=(n, EMBEDDING))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _drawn(rng: np.random.Generator, steps: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return rng.uniform(-1.0, 1.0, (steps, N_INPUTS)), np.repeat(rng.integers(0, N_SKILLS, steps // 10), 10)


def followers(steps: int = 1200, seed: int = 0, noise: float = 0.1, **changes: Any) -> LabelledSteps:
    """Two action numbers: the first two inputs times the skill's sign."""
    rng = np.random.default_rng(seed)
    inputs, skills = _drawn(rng, steps)
    wanted = 0.8 * SIGNS[skills][:, None] * inputs[:, :2]
    actions = np.clip(wanted + rng.normal(0, noise, wanted.shape), -1, 1)
    near = np.exp(-np.sum((actions - wanted) ** 2, axis=1) / 0.1).astype(np.float32)
    ends: dict[str, Any] = {"rewards": near, "terminals": np.ones(steps, np.bool_)}  # each step is an episode: a bandit
    return labelled(actions, inputs, skills, **{**ends, **changes})


def choosers(steps: int = 1200, seed: int = 0, **changes: Any) -> LabelledSteps:
    """Four discrete actions: left, right by the first input and the skill's sign, or stay; one in ten is any."""
    rng = np.random.default_rng(seed)
    inputs, skills = _drawn(rng, steps)
    wanted = SIGNS[skills] * np.sign(inputs[:, 0])
    right = np.where(wanted > 0, 1, np.where(wanted < 0, 2, 0))
    actions = np.where(rng.random(steps) < 0.1, rng.integers(0, 4, steps), right)
    ends: dict[str, Any] = {"rewards": (actions == right).astype(np.float32), "terminals": np.ones(steps, np.bool_)}
    return labelled(actions[:, None].astype(float), inputs, skills, n_actions=4, **{**ends, **changes})


def two_sided(steps: int = 2000, seed: int = 0, spread: float = 0.05) -> LabelledSteps:
    """Around an obstacle: the first action number is +0.7 or -0.7, by nothing that can be seen; the second is one input."""
    rng = np.random.default_rng(seed)
    inputs, skills = _drawn(rng, steps)
    side = np.where(rng.random(steps) < 0.5, 0.7, -0.7)
    actions = np.stack([side, 0.5 * inputs[:, 1]], axis=1) + rng.normal(0, spread, (steps, 2))
    return labelled(np.clip(actions, -1, 1), inputs, skills)
