"""How the balls are sensed: features of the ball that is to be moved and of its reference, and a decoder's view from these two, whichever balls they are."""

from __future__ import annotations

from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Feature, Relation, Vocabulary, check_observations
from lago_skills.worlds.ball_push.balls import (
    COLOURS,
    DIAMETER,
    N_ACTIONS,
    N_BALLS,
    N_DIRECTIONS,
    REACH,
    SIDE_VECTORS,
    Floats,
)
from lago_skills.worlds.ball_push.goals import GATHER_DISTANCE, HOWS, NEAR, PAIR_DISTANCE
from lago_skills.worlds.ball_push.observed import N_OBSERVED, goals_in, positions_in, reordered, roles
from lago_skills.worlds.ball_push.relations import GONE, RELATIONS, actions_seen_from, lies, pushed, seen_from
from lago_skills.worlds.grounding import Grounding, Nouns

IDEAL = 0.31
"""How far from its reference a ball is well placed."""
_ASIDE: Floats = np.concatenate([SIDE_VECTORS, [[0.0, 0.0], [1.0, 0.0]]])
"""(6, 2) from a reference to where a ball that lies that way is; zeros where any side will do."""


def _features() -> tuple[Feature, ...]:
    return tuple(
        Feature(f"{ball}_{axis}", "m", f"position of the {ball} ball, along {axis}", -1.0, 1.0)
        for ball in COLOURS
        for axis in "xy"
    )


class BallPushState:
    """A batch of observations with goals, seen from the first part of each that does not hold."""

    def __init__(self, observations: NDArray[Any], *, numbered: bool, side_told: bool) -> None:
        self._numbered, self._side_told = numbered, side_told
        self._rows = np.arange(len(observations))
        self._goals = goals_in(observations)
        self._positions = positions = positions_in(observations)
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

    @property
    def values(self) -> NDArray[np.float64]:
        """(B, F) features, in the order of the vocabulary: where each ball is, by number."""
        return self._positions.reshape(len(self._rows), -1)

    @property
    def anchors(self) -> NDArray[np.float64]:
        """(B, 5, 2) where the balls are; (B, 0, 0) where balls are numbered by their roles, and a number is no ball's name."""
        return self._positions if self._numbered else np.zeros((len(self._rows), 0, 0))

    def holds(self, relation: Relation, subjects: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(B, 2) numbers of the balls that are thing and place (-1: none) -> (B,) whether they lie so."""
        return lies(self._positions, relation.word, subjects)

    def came_about(
        self,
        relation: Relation,
        subjects: NDArray[np.int64],
        before: BallPushState,
        actions: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """(B,) whether a relation came to hold by a push in each of the states before; or of one about motion, whether the thing was pushed and went so."""
        if relation.word.startswith(GONE):
            return pushed(before._positions, self._positions, relation.word, subjects[:, 0], actions)
        return self.holds(relation, subjects) & ~before.holds(relation, subjects)

    def own_actions(self, subjects: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, 2) thing and place -> (B, 40): the number by colour of each push as thing and place number it."""
        return actions_seen_from(self._positions, subjects)

    def subject_inputs(self, targets: NDArray[Any], subjects: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, 2) targets, which mean nothing, (B, 2) thing and place -> (B, I): who lies where from thing and place, and walls; nothing of the goal.

        Of a thing alone walls are left out: it is only to be pushed, and hardly anybody shows pushes into a wall.
        """
        order = seen_from(self._positions, subjects)
        balls = self._positions[self._rows[:, None], order]
        placed = subjects[:, 1:] >= 0
        thing, place = balls[:, 0], np.where(placed, balls[:, 1], balls[:, 0])
        way, others = thing - place, balls[:, 2:]
        length, angle = np.linalg.norm(way, axis=1, keepdims=True), np.arctan2(way[:, 1:], way[:, :1])
        turns = np.concatenate([f(n * angle) for n in (1.0, 2.0, 4.0) for f in (np.sin, np.cos)], axis=1)
        columns = [
            _shown(way),
            (length - DIAMETER) * 4.0,
            np.tanh((length - PAIR_DISTANCE) / 0.05),
            np.tanh((length - GATHER_DISTANCE) / 0.05),
            turns * placed,
            *(
                np.concatenate([2.0 * each, np.tanh(each / 0.1)], axis=1) * placed
                for each in (_rooms(thing), _rooms(place))
            ),
            *(_shown(others - each[:, None]).reshape(len(others), -1) for each in (thing, place)),
            placed,
        ]
        return np.concatenate(columns, axis=1).astype(np.float32)

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
    world = """\
Five balls of 0.26 m across lie on a table between four walls: red, blue, green, purple and cyan. Frame, in metres: x grows to the right, y grows backwards, away from whoever looks on.
Centres of balls can be at x -0.47..0.47 and y -0.17..0.57. "Behind" a ball is on its far side, "in front of" it on the near side, each side being a quarter of the circle around it; "close to it" is with
centres nearer than 0.39, and "all but touching" nearer than 0.325. These directions are those of the table, always the same, and skills know them; a step's relation is looked up in the positions.
Every control step pushes one ball, whichever, in one of eight directions, for 0.4 s: about 0.25 m if nothing is in the way, and always so far. Nothing has to come to a ball before it is pushed.
Balls that are hit move too, and roll on a little, so that what lay well may be pushed apart again. Skills see to walls and to other balls in the way by themselves.
At every control step those steps of a playbook are at work whose relation does not hold, and the others are left alone as far as may be: the task is done when all hold at once, in whatever order.
So a playbook has one step for each relation that has to hold in the end, and none for what happens on the way; demonstrations of one relation are one phase."""
    synonyms = (("ball", "sphere", "orb"), ("wall", "edge of the table"), ("push", "move", "shove"))
    nouns = Nouns(agent="pusher", effector="pusher", remark="A ball is 26 cm across.")
    vocabulary = Vocabulary(_features(), ())

    def __init__(self, *, by_role: bool = False, side_told: bool = True) -> None:
        self.by_role, self.side_told = by_role, side_told
        self.variation = Renumbered(2 if by_role else 0)
        if not by_role:
            self.vocabulary = Vocabulary(_features(), COLOURS, 2, relations=RELATIONS, acting=False, alike=COLOURS)

    def read(self, observations: NDArray[Any]) -> BallPushState:
        """(B, 74) observations -> what they say.

        Raises:
            ShapeError: wrong observation size, values that are not finite, or no goal.
        """
        check_observations(observations, self.observation_size)
        return BallPushState(observations, numbered=not self.by_role, side_told=self.side_told)
