"""How balls may lie, as plans in words end their steps: the sides and distances of the goals' judges, and that a ball has gone somewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Relation
from lago_skills.worlds.ball_push.balls import N_BALLS, N_DIRECTIONS, PUSHES, SIDE_VECTORS, SIDES, Floats
from lago_skills.worlds.ball_push.goals import HOWS, related

_SAID = {
    "behind": ("thing behind place", "the thing lies behind the place, close to it"),
    "left": ("thing left of place", "the thing lies to the left of the place, close to it"),
    "front": ("thing in front of place", "the thing lies in front of the place, close to it"),
    "right": ("thing right of place", "the thing lies to the right of the place, close to it"),
    "near": ("thing beside place", "the thing lies beside the place, all but touching it, on whichever side"),
    "in row": ("thing in row", "the thing lies straight to the right of the place, in one row with it, however far"),
}
_WAYS = {"behind": "backwards", "left": "to the left", "front": "forwards", "right": "to the right"}
GONE = "gone "
"""A word that begins so is about motion: the thing was pushed that way, and went."""
GONE_M = 0.1
"""How far along a side a ball must have gone."""
RELATIONS = (
    *(Relation(*_SAID[how], mover="thing", word=how, of="place") for how in HOWS),
    *(
        Relation(f"thing gone {_WAYS[s]}", f"the thing has gone {_WAYS[s]}", "thing", f"{GONE}{s}", "ground")
        for s in SIDES
    ),
)


def lies(positions: Floats, word: str, subjects: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(B, 5, 2) positions, (B, 2) thing and place -> (B,) whether they lie so; never without a place, nor of a word about motion."""
    if word.startswith(GONE):
        return np.zeros(len(positions), np.bool_)
    rows = np.arange(len(positions))
    ways = positions[rows, subjects[:, 0]] - positions[rows, subjects[:, 1]]
    return (subjects[:, 1] >= 0) & related(ways, np.full(len(rows), HOWS.index(word)))


def pushed(
    before: Floats, after: Floats, word: str, things: NDArray[np.int64], actions: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(B, 5, 2) positions before and after one push, (B,) things, (B,) pushes -> (B,) whether the thing was pushed and went the way that the word says."""
    side = SIDE_VECTORS[SIDES.index(word.removeprefix(GONE))]
    ball, direction = np.divmod(actions, N_DIRECTIONS)
    rows = np.arange(len(after))
    went = (after - before)[rows, things] @ side >= GONE_M
    return (ball == things) & (PUSHES[direction] @ side > 0.0) & went


def seen_from(positions: Floats, subjects: NDArray[np.int64]) -> NDArray[np.int64]:
    """(B, 5, 2) positions, (B, 2) thing and place -> (B, 5) numbers of thing, place, and the other balls, the nearest to the thing first."""
    rows = np.arange(len(positions))
    rank = np.linalg.norm(positions - positions[rows, subjects[:, 0]][:, None], axis=2)
    placed = subjects[:, 1] >= 0
    rank[rows[placed], subjects[placed, 1]] = -1.0
    rank[rows, subjects[:, 0]] = -2.0
    return np.argsort(rank, axis=1, kind="stable")


def actions_seen_from(positions: Floats, subjects: NDArray[np.int64]) -> NDArray[np.int64]:
    """(B, 5, 2) positions, (B, 2) thing and place -> (B, 40) the number by colour of each push as thing and place number it."""
    order = seen_from(positions, subjects)
    return (N_DIRECTIONS * order[:, :, None] + np.arange(N_DIRECTIONS)).reshape(len(order), N_BALLS * N_DIRECTIONS)
