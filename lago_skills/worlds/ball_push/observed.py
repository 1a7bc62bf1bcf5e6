"""What an observation with its goal holds: ten coordinates, then the 64 numbers of the goal. B rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import ShapeError
from lago_skills.worlds.ball_push.balls import N_BALLS, Floats
from lago_skills.worlds.ball_push.goals import GOAL_SIZE, N_PARTS, PART_SIZE, Decoded, Goal, decoded

N_COORDINATES = 2 * N_BALLS
N_OBSERVED = N_COORDINATES + GOAL_SIZE


def positions_in(observations: NDArray[Any]) -> Floats:
    """(B, S) -> (B, 5, 2) where the balls are."""
    return observations[:, :N_COORDINATES].astype(np.float64).reshape(-1, N_BALLS, 2)


def goals_in(observations: NDArray[Any]) -> Decoded:
    """(B, S) -> the goals.

    Raises:
        ShapeError: an observation without one.
    """
    goals = decoded(observations[:, N_COORDINATES:].astype(np.float64))
    if (goals.moved[:, 0] < 0).any():
        row = int(np.argmin(goals.moved[:, 0]))
        raise ShapeError(
            f"observations: found no goal in row {row}; expected one in the numbers from {N_COORDINATES} on; make the environment with observe_goal=True"
        )
    return goals


def roles(observations: NDArray[Any]) -> NDArray[np.int64]:
    """(B, S) -> (B, 5) numbers of the ball that the first part that does not hold is about, of its reference, and of the others in order.

    Where a part has no reference, all others follow in order.
    """
    goals, rows = goals_in(observations), np.arange(len(observations))
    part = goals.next_part(positions_in(observations))
    rank = np.repeat(np.arange(N_BALLS)[None], len(rows), axis=0)
    reference = goals.reference[rows, part]
    named = reference >= 0
    rank[rows[named], reference[named]] = -1
    rank[rows, goals.moved[rows, part]] = -2
    return np.argsort(rank, axis=1, kind="stable")


def reordered(observations: NDArray[Any], orders: NDArray[np.int64]) -> Floats:
    """(B, S) observations, (B, 5) old numbers in their new order -> (B, S) the same with balls, and the goal's, renumbered."""
    rows = np.arange(len(observations))[:, None]
    positions = positions_in(observations)[rows, orders]
    parts = observations[:, N_COORDINATES:].reshape(-1, N_PARTS, PART_SIZE).astype(np.float64)
    places = orders[:, None, :]
    named = [
        np.take_along_axis(
            parts[:, :, start : start + N_BALLS], np.broadcast_to(places, (len(rows), N_PARTS, N_BALLS)), axis=2
        )
        for start in (0, N_BALLS)
    ]
    goals = np.concatenate([*named, parts[:, :, 2 * N_BALLS :]], axis=2)
    return np.concatenate([positions.reshape(-1, N_COORDINATES), goals.reshape(-1, GOAL_SIZE)], axis=1)


def colours_of(goal: Goal, observation: NDArray[np.float64]) -> NDArray[np.int64]:
    """(5,) the colour of each number of one (S,) observation with this goal, whichever way its balls are numbered; balls that the goal does not name keep their order."""
    seen = goals_in(observation[None])
    colours = np.full(N_BALLS, -1)
    for number, part in enumerate(goal.parts):
        colours[seen.moved[0, number]] = part.moved
        if part.reference >= 0:
            colours[seen.reference[0, number]] = part.reference
    unnamed = [colour for colour in range(N_BALLS) if colour not in colours]
    colours[colours < 0] = unnamed
    return colours
