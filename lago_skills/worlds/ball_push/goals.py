"""Goals as data, and when they are reached. A goal is up to four parts, each of which says of one ball how it shall lie, and from which other ball.

B rows, P = 4 places for parts, of which those that a goal has come first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from lago_skills.worlds.ball_push.balls import COLOURS, N_BALLS, N_DIRECTIONS, PUSHES, SIDE_VECTORS, SIDES, Floats

Kind = Literal["pair", "easy", "two", "three", "gather", "line-up"]
KINDS: tuple[str, ...] = get_args(Kind)
HOWS = (*SIDES, "near", "in row")
"""How a ball may lie from another, by number: on one of its four sides, near it, or to its right in one row with it."""
NEAR, IN_ROW = HOWS.index("near"), HOWS.index("in row")
N_PARTS = 4
PART_SIZE = 2 * N_BALLS + len(HOWS)
GOAL_SIZE = N_PARTS * PART_SIZE
"""Numbers of a goal as `vector` has it."""

PAIR_DISTANCE = 0.391
"""A ball is on a side of another if its centre is nearer than that: a diameter and a radius, and a millimetre."""
ZEROED = 1e-3
"""Smaller differences of coordinates count as none where sides are told apart."""
GATHER_DISTANCE = 0.325
ROW_SLOPE = float(np.tan(np.radians(30.0)))
MOTION = 0.15
"""How far a ball must move towards a side to have been moved there."""


@dataclass(frozen=True)
class Part:
    """One ball, how it shall lie, and from which other ball."""

    moved: int
    how: int
    """Of `HOWS`."""
    reference: int = -1
    """-1 where the ball is just to be moved that way."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: no such ball, or no such way to lie; or a ball is to lie from itself.
        """
        known = 0 <= self.moved < N_BALLS and 0 <= self.how < len(HOWS) and -1 <= self.reference < N_BALLS
        if not known or self.moved == self.reference or (self.reference < 0 and self.how >= len(SIDES)):
            raise ValueError(
                f"found a part of a goal with moved = {self.moved}, how = {self.how}, reference = {self.reference}; expected balls 0 to {N_BALLS - 1}, two "
                f"different ones, how from 0 to {len(HOWS) - 1}, and no reference (-1) only for a side; correct it"
            )


GREEN = COLOURS.index("green")
GATHER_PARTS = tuple(Part(ball, NEAR, GREEN) for ball in range(N_BALLS) if ball != GREEN)
"""All other balls near the green one."""
ROW_PARTS = tuple(Part(ball, IN_ROW, ball - 1) for ball in range(1, N_BALLS))
"""Red, blue, green, purple, cyan, from the left to the right."""


@dataclass(frozen=True)
class Goal:
    """What an episode is about. All its parts are to hold at once."""

    kind: Kind
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        """Check that the parts are those of its kind.

        Raises:
            ValueError: they are not.
        """
        expected = {"pair": 1, "easy": 1, "two": 2, "three": 3, "gather": 4, "line-up": 4}
        if self.kind not in expected or len(self.parts) != expected[self.kind]:
            raise ValueError(
                f"found a goal of kind {self.kind!r} with {len(self.parts)} parts; expected one of {', '.join(f'{k} ({n})' for k, n in expected.items())}; "
                "correct it"
            )
        whole = {"gather": GATHER_PARTS, "line-up": ROW_PARTS}.get(self.kind, self.parts)
        if self.parts != whole:
            raise ValueError(
                f"found a goal of kind {self.kind!r} with parts {self.parts}; expected {whole}, the only ones; take goals.GATHER or goals.LINE_UP"
            )
        loose = any(part.reference < 0 for part in self.parts)
        if loose != (self.kind == "easy") or (
            self.kind in ("pair", "two", "three") and any(part.how >= len(SIDES) for part in self.parts)
        ):
            raise ValueError(
                f"found a goal of kind {self.kind!r} with parts {self.parts}; expected sides, and a reference of each part unless it is easy; correct it"
            )

    @property
    def vector(self) -> Floats:
        """(64,) for each place of a part: which ball, which reference, and how, each as ones and zeros."""
        rows = np.zeros((N_PARTS, PART_SIZE))
        for row, part in zip(rows, self.parts, strict=False):
            row[part.moved] = 1.0
            row[2 * N_BALLS + part.how] = 1.0
            if part.reference >= 0:
                row[N_BALLS + part.reference] = 1.0
        return rows.reshape(-1)

    @property
    def labels(self) -> tuple[int, ...]:
        """Of a pair or an easy goal: for each ball 0 (none), 1 (moved) or 2 (reference), then the side.

        Raises:
            ValueError: it has several parts.
        """
        if len(self.parts) != 1:
            raise ValueError(
                f"found a goal of {len(self.parts)} parts; expected one, which labels can say; use its vector"
            )
        (part,) = self.parts
        return (*(1 if ball == part.moved else 2 * (ball == part.reference) for ball in range(N_BALLS)), part.how)

    def as_json(self) -> dict[str, Any]:
        """The goal in words, as `goal_of` reads it."""
        return {"kind": self.kind, "parts": [_named(part) for part in self.parts]}

    def done(self, positions: Floats) -> NDArray[np.bool_]:
        """(B, 5, 2) positions -> (B, n) which of its parts hold; those of an easy goal never do, since it is about motion."""
        return decoded(np.broadcast_to(self.vector, (len(positions), GOAL_SIZE))).done(positions)[:, : len(self.parts)]

    def holds(self, positions: Floats) -> bool:
        """Whether all parts hold at (5, 2) positions."""
        return bool(self.done(positions[None]).all())


def _named(part: Part) -> dict[str, str]:
    named = {"moved": COLOURS[part.moved], "how": HOWS[part.how]}
    return named if part.reference < 0 else {**named, "reference": COLOURS[part.reference]}


GATHER, LINE_UP = Goal("gather", GATHER_PARTS), Goal("line-up", ROW_PARTS)


def goal_of(data: Mapping[str, Any]) -> Goal:
    """The goal that `Goal.as_json` describes.

    Raises:
        ValueError: it is none; says what was found and what is expected.
    """
    kind, parts = data.get("kind"), data.get("parts")
    if set(data) != {"kind", "parts"} or kind not in KINDS or not isinstance(parts, Sequence) or isinstance(parts, str):
        raise ValueError(
            f"found a goal {dict(data)!r}; expected 'kind', one of {', '.join(KINDS)}, and 'parts', a list of {{moved, how, reference}}; correct it"
        )
    return Goal(cast("Kind", kind), tuple(_part(each) for each in cast("Sequence[Any]", parts)))


def _part(named: Any) -> Part:
    data = dict(cast("Mapping[str, Any]", named)) if isinstance(named, Mapping) else {}
    moved, how, reference = (data.pop(name, None) for name in ("moved", "how", "reference"))
    if data or moved not in COLOURS or how not in HOWS or not (reference is None or reference in COLOURS):
        raise ValueError(
            f"found a part of a goal {named!r}; expected moved and reference among {', '.join(COLOURS)}, and how among {', '.join(HOWS)}; correct it"
        )
    return Part(COLOURS.index(moved), HOWS.index(how), -1 if reference is None else COLOURS.index(reference))


# Many goals at once --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decoded:
    """A batch of goals by numbers, each (B, 4): -1 where a goal has no such part, or a part no reference."""

    moved: NDArray[np.int64]
    how: NDArray[np.int64]
    reference: NDArray[np.int64]

    def done(self, positions: Floats) -> NDArray[np.bool_]:
        """(B, 5, 2) positions -> (B, 4) which parts hold; places without a part hold, parts without a reference never do."""
        return (self.moved < 0) | ((self.reference >= 0) & related(self.ways(positions), self.how))

    def ways(self, positions: Floats) -> Floats:
        """(B, 5, 2) positions -> (B, 4, 2) from each part's reference to the ball that is to be moved."""
        rows = np.arange(len(positions))[:, None]
        return positions[rows, self.moved] - positions[rows, self.reference]

    def next_part(self, positions: Floats) -> NDArray[np.int64]:
        """(B, 5, 2) positions -> (B,) number of the first part that does not hold; of the last one where all do."""
        last, done = np.maximum((self.moved >= 0).sum(axis=1) - 1, 0), self.done(positions)
        return np.asarray(np.where(done.all(axis=1), last, np.argmin(done, axis=1)), np.int64)


def decoded(vectors: Floats) -> Decoded:
    """(B, 64) goals as `Goal.vector` has them -> their numbers."""
    rows = vectors.reshape(-1, N_PARTS, PART_SIZE)

    def numbers(start: int, stop: int) -> NDArray[np.int64]:
        part = rows[:, :, start:stop]
        given: NDArray[np.bool_] = part.max(axis=2) > 0.5
        return np.asarray(np.where(given, part.argmax(axis=2), -1), np.int64)

    return Decoded(numbers(0, N_BALLS), numbers(2 * N_BALLS, PART_SIZE), numbers(N_BALLS, 2 * N_BALLS))


def related(ways: Floats, hows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(..., 2) ways from a reference to a ball, (...,) how it shall lie -> (...,) whether it does.

    A side is a quarter of the circle, its first edge (counter-clockwise) part of it and its last edge not, out to `PAIR_DISTANCE`.
    """
    distance = np.hypot(ways[..., 0], ways[..., 1])
    rounded = np.where(np.abs(ways) < ZEROED, 0.0, ways)
    on_side = (side_of(rounded) == hows) & (distance < PAIR_DISTANCE)
    near = (hows == NEAR) & (distance < GATHER_DISTANCE)
    in_row = (hows == IN_ROW) & (ways[..., 0] > 0.0) & (np.abs(ways[..., 1]) <= ROW_SLOPE * ways[..., 0])
    return on_side | near | in_row


def side_of(ways: Floats) -> NDArray[np.int64]:
    """(..., 2) ways -> (...,) the side they lead to: behind from 45 degrees on, left from 135, front from 225, right from 315."""
    x, y = ways[..., 0], ways[..., 1]
    behind = (y > 0.0) & (x <= y) & (x > -y)
    left = (x < 0.0) & (y <= -x) & (y > x)
    front = (y < 0.0) & (x >= y) & (x < -y)
    return np.asarray(np.select([behind, left, front], [0, 1, 2], 3), np.int64)


# Easy goals: one push -----------------------------------------------------------------------------------------------


def pushes_there(goal: Goal, action: int) -> bool:
    """The label judge of an easy goal: whether the action pushes the ball, in one of the three directions with a share of the side."""
    (part,) = goal.parts
    ball, direction = divmod(action, N_DIRECTIONS)
    return ball == part.moved and float(PUSHES[direction] @ SIDE_VECTORS[part.how]) > 0.0


def moved_there(goal: Goal, before: Floats, after: Floats) -> bool:
    """The motion judge of an easy goal: whether the ball went at least 15 cm towards the side, from (5, 2) positions to others."""
    (part,) = goal.parts
    return float((after - before)[part.moved] @ SIDE_VECTORS[part.how]) >= MOTION
