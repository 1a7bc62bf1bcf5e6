"""How the balls are sensed: features of the ball that is to be moved and of its reference, and a decoder's view from these two, whichever balls they are."""

from __future__ import annotations

from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Feature, Vocabulary, check_observations
from lago_skills.worlds.ball_push.balls import DIAMETER, N_ACTIONS, N_BALLS, N_DIRECTIONS, REACH, SIDE_VECTORS, Floats
from lago_skills.worlds.ball_push.goals import GATHER_DISTANCE, HOWS, NEAR, PAIR_DISTANCE
from lago_skills.worlds.ball_push.observed import N_OBSERVED, goals_in, positions_in, reordered, roles
from lago_skills.worlds.grounding import Grounding, Nouns

IDEAL = 0.31
"""How far from its reference a ball is well placed."""
_ASIDE: Floats = np.concatenate([SIDE_VECTORS, [[0.0, 0.0], [1.0, 0.0]]])
"""(6, 2) from a reference to where a ball that lies that way is; zeros where any side will do."""
_WALLS = ("left", "front", "right", "back")
_SAID = {
    "behind": "behind",
    "left": "left of",
    "front": "in front of",
    "right": "right of",
    "near": "near",
    "in row": "to the right of, in one row with,",
}


def _features() -> tuple[Feature, ...]:
    features = [
        Feature(f"{name}_{axis}", "m", f"position of the {text}, along {axis}", -1.0, 1.0)
        for name, text in (
            ("moved", "ball that is to be moved"),
            ("reference", "ball that it is to lie from, itself where there is none"),
        )
        for axis in "xy"
    ]
    features += [
        Feature(f"reference_to_moved_{axis}", "m", f"moved minus reference, along {axis}", -2.0, 2.0) for axis in "xy"
    ]
    features += [
        Feature("reference_to_moved", "m", "distance between the two balls' centres; they touch at 0.26", 0.0, 3.0),
        *(
            Feature(
                f"moved_to_place_{axis}",
                "m",
                f"a good place for the moved ball minus where it is, along {axis}",
                -3.0,
                3.0,
            )
            for axis in "xy"
        ),
        Feature("moved_to_place", "m", "distance of the moved ball from a good place beside its reference", 0.0, 4.0),
        Feature(
            "room",
            "m",
            "how far a good place is from the nearest wall that a ball would touch; negative where it does not fit there",
            -2.0,
            1.0,
        ),
    ]
    for name in ("moved", "reference"):
        features += [
            Feature(f"{name}_to_{wall}_wall", "m", f"room between the {name} ball and the {wall} wall", -1.0, 2.0)
            for wall in _WALLS
        ]
        features += [
            Feature(
                f"{name}_to_other",
                "m",
                f"distance of the {name} ball from the nearest ball that is neither of the two",
                0.0,
                3.0,
            )
        ]
    features += [
        Feature(
            f"wanted_{how.replace(' ', '_')}",
            "0-1",
            f"1 if the moved ball is to lie {_SAID[how]} the reference",
            0.0,
            1.0,
        )
        for how in HOWS
    ]
    features += [
        Feature("has_reference", "0-1", "0 if the ball is just to be moved that way", 0.0, 1.0),
        Feature("parts_left", "1", "how many parts of the goal do not hold", 0.0, 4.0),
    ]
    return tuple(features)


class BallPushState:
    """A batch of observations with goals, seen from the first part of each that does not hold."""

    def __init__(self, observations: NDArray[Any], *, numbered: bool, side_told: bool) -> None:
        self._numbered, self._side_told = numbered, side_told
        self._rows = np.arange(len(observations))
        self._goals = goals_in(observations)
        positions = positions_in(observations)
        part = self._goals.next_part(positions)
        self._how = self._goals.how[self._rows, part]
        self._named = self._goals.reference[self._rows, part] >= 0
        self._order = roles(observations)
        self._balls = positions[self._rows[:, None], self._order]
        self._left = (~self._goals.done(positions)).sum(axis=1)

    @property
    def _moved(self) -> Floats:
        return self._balls[:, 0]

    @cached_property
    def _reference(self) -> Floats:
        return np.where(self._named[:, None], self._balls[:, 1], self._balls[:, 0])

    @cached_property
    def _to_place(self) -> Floats:
        """(B, 2) from the moved ball to a good place: on the wanted side of its reference, or on the side where it is."""
        way = self._moved - self._reference
        length = np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
        aside = np.where((self._how == NEAR)[:, None], way / length, _ASIDE[self._how])
        return self._reference + IDEAL * aside - self._moved

    @cached_property
    def _others(self) -> Floats:
        """(B, 4, 2) other balls than the moved one, the reference first; of two without a reference, all four."""
        return self._balls[:, 1:]

    def _nearest(self, ball: Floats) -> Floats:
        apart = np.linalg.norm(self._others - ball[:, None], axis=2)
        apart[:, 0] = np.where(self._named, np.inf, apart[:, 0])
        return apart.min(axis=1)

    @property
    def values(self) -> NDArray[np.float64]:
        """(B, F) features, in the order of the vocabulary."""
        way, place = self._moved - self._reference, self._moved + self._to_place
        room = np.minimum(place - REACH[0], REACH[1] - place).min(axis=1)
        columns = [
            self._moved,
            self._reference,
            way,
            np.linalg.norm(way, axis=1)[:, None],
            self._to_place,
            np.linalg.norm(self._to_place, axis=1)[:, None],
            room[:, None],
            _rooms(self._moved),
            self._nearest(self._moved)[:, None],
            _rooms(self._reference),
            self._nearest(self._reference)[:, None],
            np.eye(len(HOWS))[self._how],
            self._named[:, None],
            self._left[:, None],
        ]
        return np.concatenate(columns, axis=1).astype(np.float64)

    @property
    def anchors(self) -> NDArray[np.float64]:
        """(B, 0, 0): nothing is headed for, since a push begins wherever it likes."""
        return np.zeros((len(self._rows), 0, 0))

    def inputs(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """(B, 0) targets, which mean nothing -> (B, I): who lies where from the moved ball and from its reference, walls, and what is wanted."""
        way, moved = self._moved - self._reference, self._moved[:, None]
        others = self._balls[:, 2:]
        near = [_shown(others - each).reshape(len(others), -1) for each in (moved, self._reference[:, None])]
        length = np.linalg.norm(way, axis=1, keepdims=True)
        columns = [
            _shown(way),
            (length - DIAMETER) * 4.0,
            np.tanh((length - PAIR_DISTANCE) / 0.05),
            np.tanh((length - GATHER_DISTANCE) / 0.05),
            *(
                np.concatenate([2.0 * each, np.tanh(each / 0.1)], axis=1)
                for each in (_rooms(self._moved), _rooms(self._reference))
            ),
            *near,
            self._named[:, None],
            self._left[:, None] - 1.0,
        ]
        if self._side_told:
            columns += [_shown(self._to_place), np.eye(len(HOWS))[self._how]]
        if self._numbered:
            columns.append(np.eye(N_BALLS)[self._order].reshape(len(self._rows), -1))
        return np.concatenate(columns, axis=1).astype(np.float32)


def _rooms(ball: Floats) -> Floats:
    """(B, 2) balls -> (B, 4) room to the left, front, right and back wall."""
    return np.concatenate([ball - REACH[0], REACH[1] - ball], axis=1)


def _shown(ways: Floats) -> Floats:
    """(..., 2) ways -> (..., 4) as they are, and saturating, since small differences matter most."""
    return np.concatenate([2.0 * ways, np.tanh(ways / 0.1)], axis=-1)


class Renumbered:
    """Balls are alike: numbered otherwise, a demonstration is as good.

    Args:
        n_kept: how many roles keep their numbers: 2 where the ball to be moved and its reference always have the same.
    """

    def __init__(self, n_kept: int) -> None:
        kept = range(n_kept)
        self.orders = np.array([[*kept, *rest] for rest in permutations(range(n_kept, N_BALLS))])
        """(n, 5) orders of roles; the first is as they were."""

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """(n,) numbers of orders."""
        return rng.integers(len(self.orders), size=n).astype(np.float64)

    def apply(
        self, observations: NDArray[Any], targets: NDArray[Any], actions: NDArray[Any], parameters: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """(B, S) observations and (B, 1) numbers of actions, renumbered; targets stay."""
        by_role = roles(observations)  # (B, 5) numbers, moved and reference first
        drawn = self.orders[parameters.astype(np.int64)]
        takes = np.take_along_axis(by_role, drawn, axis=1)
        rows = np.arange(len(observations))[:, None]
        orders, places = np.empty_like(by_role), np.empty_like(by_role)
        orders[rows, by_role] = takes  # the ball that plays a role now has the number of the one that did
        places[rows, orders] = np.arange(N_BALLS)
        ball, direction = np.divmod(np.asarray(actions, np.int64).reshape(-1), N_DIRECTIONS)
        numbers = N_DIRECTIONS * places[rows[:, 0], ball] + direction
        return reordered(observations, orders), np.asarray(targets, np.float64), numbers[:, None].astype(np.float32)


class BallPushGrounding(Grounding):
    """Ten coordinates and a goal; everything is told from the two balls in question.

    Args:
        by_role: whether the environment numbers balls by their roles, as `ByRole` does. Where it does not, a decoder is also told which number plays which role,
            since actions are numbered by colours then.
        side_told: whether a decoder is told on which side of the reference the ball is wanted. Where it is not, only a skill's sentence says so.
    """

    observation_size = N_OBSERVED
    action_space = ActionSpace(N_ACTIONS, discrete=True)
    vocabulary = Vocabulary(_features(), ())
    world = """\
Five balls of 0.26 m across lie on a table between four walls: red, blue, green, purple and cyan. Frame, in metres: x grows to the right, y grows backwards, away from whoever looks on.
Centres of balls can be at x -0.47..0.47 and y -0.17..0.57. A goal says how one ball, "moved", shall lie from another, "reference": behind it, to its left, in front of it or to its right,
each a quarter of the circle, with centres nearer than 0.391; or near it (0.325), or in one row to its right. Where a goal has several parts, features are about the first that does not hold.
Every control step pushes one ball, whichever, in one of eight directions, for 0.4 s: about 0.25 m if nothing is in the way, and always so far. Balls that are hit move too, and roll on a little.
A ball that touches a wall can be pushed along it and off it. Where there is no room on the wanted side of the reference, the reference has to be pushed away from the wall first."""
    synonyms = (("ball", "sphere", "orb"), ("wall", "edge of the table"), ("push", "move", "shove"))
    nouns = Nouns(agent="pusher", effector="pusher", remark="A ball is 26 cm across.")

    def __init__(self, *, by_role: bool = False, side_told: bool = True) -> None:
        self.by_role, self.side_told = by_role, side_told
        self.variation = Renumbered(2 if by_role else 0)

    def read(self, observations: NDArray[Any]) -> BallPushState:
        """(B, 74) observations -> what they say.

        Raises:
            ShapeError: wrong observation size, values that are not finite, or no goal.
        """
        check_observations(observations, self.observation_size)
        return BallPushState(observations, numbered=not self.by_role, side_told=self.side_told)
