"""Goals drawn at random, and which of them can be reached at all."""

from __future__ import annotations

from functools import cache

import numpy as np

from lago_skills.worlds.ball_push.balls import DIAMETER, N_BALLS, SIDES
from lago_skills.worlds.ball_push.goals import GATHER, LINE_UP, PAIR_DISTANCE, Goal, Part, side_of

LEVELS = ("pair", "rephrased", "easy", "two", "three", "gather", "line-up")
"""Rephrased goals are pairs, in other words."""
PAIRS = tuple(
    Part(moved, side, reference)
    for moved in range(N_BALLS)
    for reference in range(N_BALLS)
    for side in range(len(SIDES))
    if moved != reference
)
"""The eighty goals of one ball on a side of another."""
MOVES = tuple(Part(ball, side) for ball in range(N_BALLS) for side in range(len(SIDES)))


def draw_goal(level: str, rng: np.random.Generator, *, feasible_only: bool) -> Goal:
    """A goal of a level, all being equally likely.

    Args:
        level: one of `LEVELS`.
        rng: where chance comes from.
        feasible_only: whether goals of several parts are drawn again until all of them can hold at once.
    """
    if level in ("gather", "line-up"):
        return GATHER if level == "gather" else LINE_UP
    if level == "easy":
        return Goal("easy", (MOVES[int(rng.integers(len(MOVES)))],))
    if level in ("pair", "rephrased"):
        return Goal("pair", (PAIRS[int(rng.integers(len(PAIRS)))],))
    n_parts = 2 if level == "two" else 3
    while True:
        parts = tuple(PAIRS[int(i)] for i in rng.choice(len(PAIRS), n_parts, replace=False))
        if not feasible_only or feasible(parts):
            return Goal("two" if n_parts == 2 else "three", parts)


def feasible(parts: tuple[Part, ...]) -> bool:
    """Whether up to three pairs can hold at once: each is about two other balls, and three that close a ring leave room for it.

    Chains and stars of up to three always fit between the walls.
    """
    pairs = [frozenset((part.moved, part.reference)) for part in parts]
    if len(set(pairs)) < len(pairs):
        return False
    balls = sorted(frozenset[int]().union(*pairs))
    if len(parts) < 3 or len(balls) > 3:
        return True
    first, second, third = balls
    sides = [_side(parts, second, first), _side(parts, third, second), _side(parts, third, first)]
    return (sides[0], sides[1], sides[2]) in _rings()


def _side(parts: tuple[Part, ...], moved: int, reference: int) -> int:
    """On which side of the reference the ball is to lie, whichever of the two a part names first."""
    for part in parts:
        if (part.moved, part.reference) == (moved, reference):
            return part.how
        if (part.moved, part.reference) == (reference, moved):
            return (part.how + 2) % len(SIDES)
    raise AssertionError("unreachable: the three parts are about all three pairs of balls")


@cache
def _rings() -> frozenset[tuple[int, int, int]]:
    """Sides on which three balls can lie: second from first, third from second, third from first; found on a fine grid of places."""
    angles, radii = np.radians(np.arange(1.5, 360.0, 3.0)), np.linspace(DIAMETER, PAIR_DISTANCE - 1e-3, 8)
    ways = (radii[:, None, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)).reshape(-1, 2)
    sides = side_of(ways)
    both = ways[:, None] + ways[None]  # (n, n, 2), third from first
    length = np.hypot(both[..., 0], both[..., 1])
    fits = (length >= DIAMETER) & (length < PAIR_DISTANCE)
    first, second = np.nonzero(fits)
    third = side_of(both[fits])
    return frozenset(zip(sides[first].tolist(), sides[second].tolist(), third.tolist(), strict=True))
