"""How far balls are from a goal: the way that they have to go to the nearest places where its parts would hold, metres.

A pair's potential is joint: the cheapest |B - B*| + |A - A*| over places B* of the reference and A* of the ball beside it that lie between the walls and are free. So a reference at
a wall, beside which there is no room, has to come off it first. N layouts are judged together.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from lago_skills.worlds.ball_push.balls import N_BALLS, REACH, SIDE_VECTORS, Floats
from lago_skills.worlds.ball_push.goals import GREEN, Goal, Part, related

CLEARANCE = 0.24
"""A place is free if no other ball's centre is nearer; a little less than a diameter, since balls make room."""
_STEPS = (-0.24, -0.12, 0.0, 0.12, 0.24)
_SHIFTS: Floats = np.array(list(itertools.product(_STEPS, _STEPS)))
"""(25, 2) from where the reference is to where it might go."""
_RADII, _TILTS = (0.28, 0.36), np.radians([-35.0, -17.0, 0.0, 17.0, 35.0])
NEAREST, FARTHEST, WIDEST = 0.27, 0.375, np.radians(40.0)
"""Distances of a pair's ball from its reference that are aimed at, and the angle from the side's middle."""
BLOCKED = 2.0
"""Metres that count where there is no free place at all."""
NEAR = 0.31
"""Distance of gathered balls that is aimed at."""
OFF_CENTRE = 0.5
"""What a metre of the green ball's way to the middle counts for, where balls shall gather."""
_ROOM: Floats = REACH + np.array([[0.18], [-0.18]])
"""(2, 2) where a ball has room for four others around it."""
_ROW_X: Floats = np.asarray(np.linspace(float(REACH[0, 0]), float(REACH[1, 0]), N_BALLS), np.float64)
_ZIGZAG_Y = 0.0605
"""Five balls do not fit between the walls in a straight row: every other one is so far above the middle, and the rest below it."""


def _slots() -> Floats:
    """(M, 5, 2) places of rows that fit."""
    zigzag = _ZIGZAG_Y * np.array([1.0, -1.0, 1.0, -1.0, 1.0])
    low, high = float(REACH[0, 1]) + _ZIGZAG_Y, float(REACH[1, 1]) - _ZIGZAG_Y
    heights = [low + (high - low) * share / 8 for share in range(9)]
    return np.array([np.stack([_ROW_X, y + sign * zigzag], axis=1) for y in heights for sign in (1.0, -1.0)])


_ROWS = _slots()


def potential(positions: Floats, goal: Goal) -> Floats:
    """(N, 5, 2) layouts -> (N,) metres to go; 0 where the goal holds."""
    if goal.kind == "line-up":
        return _row(positions, goal)
    if goal.kind == "gather":
        return _gathering(positions, goal)
    return np.sum([_pair(positions, part) for part in goal.parts], axis=0)


def _pair(positions: Floats, part: Part) -> Floats:
    ball, reference = positions[:, part.moved], positions[:, part.reference]
    others = np.delete(positions, [part.moved, part.reference], axis=1)  # (N, 3, 2)
    to = np.clip(reference[:, None] + _SHIFTS, *REACH)  # (N, 25, 2)
    beside = np.concatenate(
        [to[:, :, None] + _offsets(part.how), _closest(ball[:, None], to, part.how)[:, :, None]], axis=2
    )
    inside = ((beside >= REACH[0] - 1e-9) & (beside <= REACH[1] + 1e-9)).all(axis=3)  # (N, 25, 11)
    free = inside & _free(beside, others) & _free(to, others)[:, :, None]
    cost = _length(reference[:, None] - to)[:, :, None] + _length(ball[:, None, None] - beside)
    cheapest = np.where(free, cost, BLOCKED).min(axis=(1, 2))
    return np.where(related(ball - reference, np.full(len(positions), part.how)), 0.0, cheapest)


def _offsets(side: int) -> Floats:
    """(10, 2) from a reference to places well on a side of it."""
    angles = _angle(side) + _TILTS
    return np.array([[r * np.cos(a), r * np.sin(a)] for r in _RADII for a in angles])


def _angle(side: int) -> float:
    return float(np.arctan2(SIDE_VECTORS[side, 1], SIDE_VECTORS[side, 0]))


def _closest(ball: Floats, to: Floats, side: int) -> Floats:
    """(N, 1, 2) balls, (N, 25, 2) references -> (N, 25, 2) places on the side that are nearest to the ball."""
    way = ball - to
    turn = (np.arctan2(way[..., 1], way[..., 0]) - _angle(side) + np.pi) % (2.0 * np.pi) - np.pi
    angle, radius = _angle(side) + np.clip(turn, -WIDEST, WIDEST), np.clip(_length(way), NEAREST, FARTHEST)
    return to + radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _free(places: Floats, others: Floats) -> NDArray[np.bool_]:
    """(N, ..., 2) places, (N, 3, 2) balls in the way -> (N, ...) whether none is."""
    free = np.ones(places.shape[:-1], np.bool_)
    for number in range(others.shape[1]):
        other = others[:, number].reshape(len(others), *[1] * (places.ndim - 2), 2)
        way = places - other
        free &= way[..., 0] ** 2 + way[..., 1] ** 2 >= CLEARANCE**2
    return free


def _length(ways: Floats) -> Floats:
    return np.sqrt(ways[..., 0] ** 2 + ways[..., 1] ** 2)


def _gathering(positions: Floats, goal: Goal) -> Floats:
    green = positions[:, GREEN]
    apart = _length(np.delete(positions, GREEN, axis=1) - green[:, None])
    cramped = _length(green - np.clip(green, *_ROOM))
    left = np.maximum(apart - NEAR, 0.0).sum(axis=1) + OFF_CENTRE * cramped
    return np.where(goal.done(positions).all(axis=1), 0.0, left)


def _row(positions: Floats, goal: Goal) -> Floats:
    to_rows = _length(positions[:, None] - _ROWS).sum(axis=2).min(axis=1)
    return np.where(goal.done(positions).all(axis=1), 0.0, to_rows)
