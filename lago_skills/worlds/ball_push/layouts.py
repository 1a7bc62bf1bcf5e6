"""Where balls lie at the start of an episode."""

from __future__ import annotations

import numpy as np

from lago_skills.worlds.ball_push.balls import DIAMETER, N_BALLS, RADIUS, WALLS, Floats

PLACED: Floats = np.array([[-0.5, -0.3], [0.5, 0.5]])
"""(2, 2) least and greatest x and y at which a ball is placed. As in the original, that takes no account of the walls: about a third of the balls
overlap one and are pushed out of it during the first action."""
GAP = 0.1
"""Least distance of two balls' surfaces at the start."""
LEAST_OFFSET = 0.01
"""No two balls differ by less than this along an axis."""
N_TRIES = 10
"""For one ball; after that, all are placed anew."""


def draw_layout(rng: np.random.Generator) -> Floats:
    """(5, 2) positions of balls at rest, placed one after another."""
    while True:
        placed: list[Floats] = []
        while len(placed) < N_BALLS:
            ball = _place(placed, rng)
            if ball is None:
                break
            placed.append(ball)
        else:
            return np.stack(placed)


def _place(others: list[Floats], rng: np.random.Generator) -> Floats | None:
    for _ in range(N_TRIES):
        ball = np.asarray(rng.uniform(PLACED[0], PLACED[1]), np.float64)
        if all(_apart(ball - other) for other in others):
            return ball
    return None


def _apart(difference: Floats) -> bool:
    far = float(np.hypot(*difference)) >= DIAMETER + GAP
    return far and not bool(((np.abs(difference) > 0.0) & (np.abs(difference) < LEAST_OFFSET)).any())


def overlaps_wall(positions: Floats) -> Floats:
    """(..., 2) centres of balls -> (...,) metres by which each reaches into a wall; 0 for none."""
    return np.maximum(np.maximum(WALLS[0] + RADIUS - positions, positions - (WALLS[1] - RADIUS)), 0.0).max(axis=-1)
