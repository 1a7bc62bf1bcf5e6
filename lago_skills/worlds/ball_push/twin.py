"""A fast planar twin of the balls: many tables at once in NumPy, for planners and for making data; what is reported is measured in MuJoCo.

Balls are discs that neither roll nor rise. Otherwise it does what MuJoCo does in each of the same 40 time steps: the constraint that pushes two things apart is soft, with the same
stiffness, damping and impedance (MuJoCo's documentation, "Computation", solver parameters), friction is the same pyramid, and damping is implicit. All touching pairs are
solved for one by one, exactly, and together by repeating that.

B tables, C touching pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lago_skills.worlds.ball_push.balls import (
    ARMATURE,
    BALL_DAMPING,
    DIAMETER,
    FRICTION,
    GRAVITY,
    MARGIN,
    N_BALLS,
    N_DIRECTIONS,
    OFFSET,
    PHYSICS_STEPS,
    PUSHER_DAMPING,
    PUSHER_RADIUS,
    PUSHES,
    RADIUS,
    REACH,
    TIMESTEP_S,
    Floats,
    ball_mass,
    pusher_mass,
)

Whole = NDArray[np.int64]

BALL_INERTIA, PUSHER_INERTIA = ball_mass() + ARMATURE, pusher_mass() + ARMATURE
"""What resists a push, kg: the armature counts."""
SOFT_S, IMPEDANCE, IMPEDANCE_AT, IMPEDANCE_WIDTH = 0.02, 0.95, 0.9, 0.001
"""MuJoCo's default `solref` and `solimp`."""
DAMPED = 2.0 / (IMPEDANCE * SOFT_S)
STIFF = 1.0 / (IMPEDANCE * SOFT_S) ** 2
N_ROUNDS = 3
"""How often the touching pairs of a time step are solved for."""
SHARED = 0.6
"""How much of its solution a pair takes over in a round where a ball touches several things."""
PUSHER = N_BALLS
N_BODIES = N_BALLS + 2
"""Of a table: balls, pusher, and what never moves."""
FIXED = N_BALLS + 1

_FIRST, _SECOND = (
    np.append(each, extra)
    for each, extra in zip(np.triu_indices(N_BALLS, 1), (np.arange(N_BALLS), np.full(N_BALLS, PUSHER)), strict=True)
)
_TOUCH = np.where(_SECOND == PUSHER, RADIUS + PUSHER_RADIUS, DIAMETER)
_INVERSE = np.array([1.0 / BALL_INERTIA] * N_BALLS + [1.0 / PUSHER_INERTIA, 0.0])
_INVERSE_AT_REST = np.array([1.0 / BALL_INERTIA] * N_BALLS + [1.0 / pusher_mass(), 0.0])
"""What MuJoCo takes for the inverse masses where it scales how soft a pair is: of the pusher, without its armature."""
_DAMPING = np.array([BALL_DAMPING] * N_BALLS + [PUSHER_DAMPING, 0.0])
_IMPLICIT = 1.0 / (1.0 + TIMESTEP_S * _DAMPING * _INVERSE)
_TABLE_FRICTION = FRICTION * ball_mass() * GRAVITY / BALL_INERTIA
"""By which the table slows a ball down, m/s^2."""
_NORMALS = np.array([[-1.0, 0.0], [0.0, -1.0], [1.0, 0.0], [0.0, 1.0]])
"""From a ball to each wall."""


def push(positions: Floats, actions: NDArray[np.integer], velocities: Floats | None = None) -> tuple[Floats, Floats]:
    """Push one ball on each table for 0.4 s.

    Args:
        positions: (B, 5, 2) where the balls are, metres.
        actions: (B,) which ball is pushed where to.
        velocities: (B, 5, 2) how fast they move, m/s; at rest unless given.

    Returns:
        (B, 5, 2) where the balls are then, and (B, 5, 2) how fast they move.
    """
    n = len(positions)
    ball, direction = np.divmod(np.asarray(actions, np.int64), N_DIRECTIONS)
    force = PUSHES[direction]
    places, speeds = np.zeros((n, N_BODIES, 2)), np.zeros((n, N_BODIES, 2))
    places[:, :N_BALLS] = positions
    places[:, PUSHER] = positions[np.arange(n), ball] - OFFSET * force
    if velocities is not None:
        speeds[:, :N_BALLS] = velocities
    drive = np.zeros_like(places)
    drive[:, PUSHER] = force / PUSHER_INERTIA
    for _ in range(PHYSICS_STEPS):
        free = drive - (_DAMPING * _INVERSE)[:, None] * speeds
        free[:, :N_BALLS] -= _table_friction(speeds[:, :N_BALLS] + TIMESTEP_S * free[:, :N_BALLS])
        accelerations = _solved(_touching(places, speeds), free)
        speeds = speeds + TIMESTEP_S * _IMPLICIT[:, None] * accelerations
        places = places + TIMESTEP_S * speeds
    return places[:, :N_BALLS], speeds[:, :N_BALLS]


def _table_friction(speeds: Floats) -> Floats:
    """(B, 5, 2) speeds that balls would have -> decelerations: the pyramid's, which act along the axis of the faster motion, as far as that does not turn it round."""
    size = np.abs(speeds)
    limit = np.minimum(size / TIMESTEP_S, _TABLE_FRICTION)
    faster = size >= size[..., ::-1]
    return np.sign(speeds) * np.where(faster, limit, 0.0)


@dataclass(frozen=True)
class _Pairs:
    """What touches, with body numbers that count on from table to table."""

    first: Whole  # (C,)
    second: Whole  # (C,)
    normal: Floats  # (C, 2), from the first to the second
    speed: Floats  # (C, 2), along the normal and across it, of the second as the first sees it
    wanted: Floats  # (C,) acceleration along the normal at which a pair parts
    softness: Floats  # (C,)
    inverse: Floats  # (C,) sum of inverse masses
    """Of both."""


def _touching(places: Floats, speeds: Floats) -> _Pairs:
    apart = places[:, _SECOND] - places[:, _FIRST]
    distance = np.sqrt(np.einsum("bpi,bpi->bp", apart, apart))
    table, pair = np.nonzero(distance < _TOUCH + MARGIN)
    length = distance[table, pair]
    first, second = _FIRST[pair], _SECOND[pair]
    normal = apart[table, pair] / np.maximum(length, 1e-9)[:, None]
    gap = length - _TOUCH[pair]
    balls = places[:, :N_BALLS]
    room = np.concatenate([balls - REACH[0], REACH[1] - balls], axis=2)  # (B, 5, 4)
    wall_table, wall_ball, wall = np.nonzero(room < MARGIN)
    tables = np.concatenate([table, wall_table])
    first, second = np.append(first, wall_ball), np.append(second, np.full(len(wall_ball), FIXED))
    normal = np.concatenate([normal, _NORMALS[wall]])
    beyond = np.append(gap, room[wall_table, wall_ball, wall]) - MARGIN
    inverse, at_rest = _INVERSE[first] + _INVERSE[second], _INVERSE_AT_REST[first] + _INVERSE_AT_REST[second]
    first, second = first + N_BODIES * tables, second + N_BODIES * tables
    flat = speeds.reshape(-1, 2)
    speed = _turned(flat[second] - flat[first], normal)
    share = _impedance(beyond)
    softness = 2.0 * FRICTION**2 * (1.0 - share) / share * (1.0 + FRICTION**2) * at_rest
    wanted = -DAMPED * speed[:, 0] - STIFF * share * beyond
    return _Pairs(first, second, normal, speed, wanted, softness, inverse)


def _impedance(beyond: Floats) -> Floats:
    x = np.minimum(np.abs(beyond) / IMPEDANCE_WIDTH, 1.0)
    return IMPEDANCE_AT + (IMPEDANCE - IMPEDANCE_AT) * np.where(x < 0.5, 2.0 * x * x, 1.0 - 2.0 * (1.0 - x) ** 2)


def _turned(vectors: Floats, normal: Floats) -> Floats:
    """(C, 2) vectors -> their parts along the normals and across them."""
    x, y = vectors[:, 0], vectors[:, 1]
    return np.stack([normal[:, 0] * x + normal[:, 1] * y, normal[:, 0] * y - normal[:, 1] * x], axis=1)


def _solved(pairs: _Pairs, free: Floats) -> Floats:
    """(B, 7, 2) accelerations with what touching adds to the free ones."""
    if not len(pairs.first):
        return free
    bodies = np.concatenate([pairs.first, pairs.second])
    counts = np.bincount(bodies, minlength=free.shape[0] * N_BODIES)
    counts[FIXED::N_BODIES] = 0
    alone = np.maximum(counts[pairs.first], counts[pairs.second]) <= 1
    taken = np.where(alone, 1.0, SHARED)[:, None]
    start, forces = free.reshape(-1, 2), np.zeros((len(pairs.first), 2))
    inverse = np.tile(_INVERSE, len(free))
    accelerations = start
    for _ in range(N_ROUNDS):
        seen = _turned(accelerations[pairs.second] - accelerations[pairs.first], pairs.normal)
        forces = forces + taken * (_pair_forces(pairs, seen - pairs.inverse[:, None] * forces) - forces)
        x = pairs.normal[:, 0] * forces[:, 0] - pairs.normal[:, 1] * forces[:, 1]
        y = pairs.normal[:, 1] * forces[:, 0] + pairs.normal[:, 0] * forces[:, 1]
        added = [np.bincount(bodies, np.append(-each, each), len(inverse)) * inverse for each in (x, y)]
        accelerations = start + np.stack(added, axis=1)
    return accelerations.reshape(free.shape)


def _pair_forces(pairs: _Pairs, seen: Floats) -> Floats:
    """(C, 2) forces along and across the normals for what pairs would do without: (C, 2) accelerations.

    The pyramid has two edges across the table, of which a sliding pair uses one, and two up and down, which pull alike.
    """
    w, r = pairs.inverse, pairs.softness
    lacking = pairs.wanted - seen[:, 0]
    sliding = FRICTION * (DAMPED * pairs.speed[:, 1] + seen[:, 1])
    stuck = 4.0 * lacking / (r + 4.0 * w)
    across = -2.0 * sliding / (r + 2.0 * FRICTION**2 * w)
    pulled, edge = lacking + np.abs(sliding), r + w * (1.0 + FRICTION**2)
    upright = (lacking * edge - w * pulled) / ((r + 2.0 * w) * edge - 2.0 * w * w)
    one_edge = np.where(upright > 0.0, (lacking - (r + 2.0 * w) * upright) / w, pulled / edge)
    one_edge, upright = np.maximum(one_edge, 0.0), np.maximum(upright, 0.0)
    sticks = (stuck > 0.0) & (2.0 * np.abs(across) <= stuck)
    along = np.where(sticks, stuck, one_edge + 2.0 * upright)
    return np.stack([along, FRICTION * np.where(sticks, across, -np.sign(sliding) * one_edge)], axis=1)
