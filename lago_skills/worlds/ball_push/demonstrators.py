"""Who shows goals: a rule that knows how far a push goes, and a planner that looks ahead with the planar twin. Both read one observation and remember nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lago_skills.worlds.ball_push import twin
from lago_skills.worlds.ball_push.balls import (
    DIAMETER,
    N_ACTIONS,
    N_BALLS,
    N_DIRECTIONS,
    PUSHES,
    REACH,
    SIDE_VECTORS,
    SIDES,
    Floats,
    action_of,
)
from lago_skills.worlds.ball_push.goals import HOWS, Goal
from lago_skills.worlds.ball_push.potential import potential

AXIS_M, DIAGONAL_M = 0.247, 0.277
"""How far a push moves a ball that is free."""
AIMED_M = 0.31
"""How far from the other ball `aim` wants one to lie."""
_ACTIONS = np.arange(N_ACTIONS)
_WAYS: Floats = (
    PUSHES / np.hypot(PUSHES[:, 0], PUSHES[:, 1])[:, None] * np.array([AXIS_M] * 4 + [DIAGONAL_M] * 4)[:, None]
)


@dataclass(frozen=True)
class Search:
    """How far ahead a planner looks."""

    depth: int = 1
    """Pushes."""
    width: int = 1
    """How many of the layouts after each push are followed further."""


SEARCHES = {
    "pair": Search(),
    "easy": Search(),
    "two": Search(3, 24),
    "three": Search(4, 40),
    "gather": Search(3, 24),
    "line-up": Search(4, 40),
}
"""For each kind of goal."""


def plan(positions: Floats, goal: Goal, search: Search | None = None) -> int:
    """The first action of the best sequence of pushes that a beam search with the planar twin finds; balls are taken to be at rest.

    The first goal that is reached ends the search; where none is, the nearest layout by the potential counts.

    Args:
        positions: (5, 2) where the balls are.
        goal: what is wanted.
        search: how far to look; by default `SEARCHES` for its kind.
    """
    if goal.kind == "easy":
        return push_there(positions, goal)
    search = search or SEARCHES[goal.kind]
    places, speeds = positions[None], np.zeros((1, N_BALLS, 2))
    first = _ACTIONS
    best, best_action = np.inf, 0
    for depth in range(search.depth):
        n = len(places)
        after, moving = twin.push(
            np.repeat(places, N_ACTIONS, axis=0), np.tile(_ACTIONS, n), np.repeat(speeds, N_ACTIONS, axis=0)
        )
        begun = first if depth == 0 else np.repeat(first, N_ACTIONS)
        left = potential(after, goal)
        order = np.argsort(left, kind="stable")[: search.width]
        if left[order[0]] < best:
            best, best_action = float(left[order[0]]), int(begun[order[0]])
        if best == 0.0:
            return best_action
        places, speeds, first = after[order], moving[order], begun[order]
    return best_action


def rule(positions: Floats, goal: Goal) -> int:
    """The action after which the potential is least if the ball goes as far as it does alone and makes others give way; no simulator is asked."""
    if goal.kind == "easy":
        return push_there(positions, goal)
    return int(np.argmin(potential(_guessed(positions), goal)))


def aim(positions: Floats, thing: int, word: str, place: int) -> int:
    """What a sceptic would write: the push of the thing that ends nearest to where it shall lie, were nothing in the way.

    Args:
        positions: (5, 2) where the balls are.
        thing: the ball that is pushed.
        word: how it shall lie, as goals and relations have it, or that it shall go some way.
        place: the ball that it shall lie from; -1 for none.
    """
    ball, side = positions[thing], word.removeprefix("gone ")
    if place < 0:
        goal = ball + AXIS_M * SIDE_VECTORS[SIDES.index(side)]
    else:
        away = ball - positions[place]
        sides = {**dict(zip(SIDES, SIDE_VECTORS, strict=True)), "near": away / max(float(np.hypot(*away)), 1e-9)}
        goal = positions[place] + AIMED_M * sides.get(side, np.array([1.0, 0.0]))
    ends = np.clip(ball + _WAYS, *REACH)
    return action_of(thing, int(np.argmin(np.linalg.norm(ends - goal, axis=1))))


def aim_at_goal(positions: Floats, goal: Goal) -> int:
    """`aim`, for the first part of a goal that does not hold."""
    done = goal.done(positions[None])[0]
    part = goal.parts[int(np.argmin(done))]
    return aim(positions, part.moved, HOWS[part.how], part.reference)


def push_there(positions: Floats, goal: Goal) -> int:
    """Of an easy goal: of the three pushes with a share of the side, the one with most room."""
    (part,) = goal.parts
    side, ball = SIDE_VECTORS[part.how], positions[part.moved]
    directions = np.flatnonzero(PUSHES @ side > 0.0)
    ends = np.clip(ball + _WAYS[directions], *REACH)
    others = np.delete(positions, part.moved, axis=0)
    blocked = (np.linalg.norm(others - ends[:, None], axis=2) < DIAMETER).sum(axis=1)
    gained = (ends - ball) @ side - 0.1 * blocked
    return action_of(part.moved, int(directions[np.argmax(gained)]))


def _guessed(positions: Floats) -> Floats:
    """(40, 5, 2) layouts after each push: the ball goes its way, half of it where others are in it, and others are moved aside."""
    ball, direction = np.divmod(_ACTIONS, N_DIRECTIONS)
    rows = np.arange(N_ACTIONS)
    after = np.repeat(positions[None], N_ACTIONS, axis=0)
    ends = np.clip(positions[ball] + _WAYS[direction], *REACH)
    near = np.linalg.norm(after - ends[:, None], axis=2) < DIAMETER
    near[rows, ball] = False
    crowded = near.any(axis=1)
    ends[crowded] = np.clip((positions[ball] + 0.6 * _WAYS[direction])[crowded], *REACH)
    after[rows, ball] = ends
    way = after - ends[:, None]
    apart = np.maximum(np.linalg.norm(way, axis=2), 1e-9)
    overlap = np.where(np.arange(N_BALLS) == ball[:, None], 0.0, np.maximum(DIAMETER - apart, 0.0))
    return np.clip(after + way / apart[:, :, None] * overlap[:, :, None], *REACH)
