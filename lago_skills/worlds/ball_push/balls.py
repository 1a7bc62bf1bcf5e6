"""Five balls on a table and forty pushes: what both simulators, the judges and the demonstrators agree on. Metres, kilograms, seconds.

The right is +x; behind is +y, as a camera that looks along +y has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ENV_ID = "lago/BallPush-v0"
HORIZON_STEPS = 50
"""Pushes of an episode, unless it is solved before."""

COLOURS = ("red", "blue", "green", "purple", "cyan")
"""Balls, by number."""
N_BALLS = len(COLOURS)
SIDES = ("behind", "left", "front", "right")
"""Directions of goals, by number."""
SIDE_VECTORS: Floats = np.array([[0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [1.0, 0.0]])

N_DIRECTIONS = 8
PUSHES: Floats = np.array(
    [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [0.8, 0.8], [-0.8, 0.8], [0.8, -0.8], [-0.8, -0.8]]
)
"""(8, 2) directions of pushes, which are also the motor's forces in newtons; diagonals are 1.13 long, as in the original."""
PUSH_NAMES = (
    "to the right",
    "backwards",
    "to the left",
    "forwards",
    "backwards and to the right",
    "backwards and to the left",
    "forwards and to the right",
    "forwards and to the left",
)
N_ACTIONS = N_BALLS * N_DIRECTIONS
OFFSET = 0.15
"""A push begins so many times its direction behind the ball's centre: a little inside the ball."""
PHYSICS_STEPS, TIMESTEP_S = 40, 0.01
"""Of one push."""

RADIUS, PUSHER_RADIUS = 0.13, 0.05
DIAMETER = 2 * RADIUS
WALLS: Floats = np.array([[-0.6, -0.3], [0.6, 0.7]])
"""(2, 2) least and greatest x and y of the table between its walls."""
REACH: Floats = WALLS + np.array([[RADIUS], [-RADIUS]])
"""(2, 2) least and greatest x and y of a ball's centre that touches no wall."""

ARMATURE, BALL_DAMPING, PUSHER_DAMPING = 0.04, 0.75, 0.5
BALL_DENSITY, PUSHER_DENSITY = 1.0, 0.5
FRICTION = 0.8
MARGIN = 0.004
"""Two things touch from this distance on: the sum of the original's two margins of 0.002, as MuJoCo from 3.5 on has it."""
GRAVITY = 9.81
TABLE_Z, BALL_Z, PUSHER_Z = -0.325, -0.195, -0.2


def ball_mass() -> float:
    """Of one ball, about 9.2 grams; the armature of its joints weighs four times as much."""
    return BALL_DENSITY * 4.0 / 3.0 * np.pi * RADIUS**3


def pusher_mass() -> float:
    """Of the pusher, about 0.26 grams."""
    return PUSHER_DENSITY * 4.0 / 3.0 * np.pi * PUSHER_RADIUS**3


def action_of(ball: int, direction: int) -> int:
    """The number of the action that pushes a ball in one of the eight directions."""
    return N_DIRECTIONS * ball + direction


def action_name(action: int) -> str:
    """What an action does, in words."""
    ball, direction = divmod(action, N_DIRECTIONS)
    return f"push the {COLOURS[ball]} ball {PUSH_NAMES[direction]}"
