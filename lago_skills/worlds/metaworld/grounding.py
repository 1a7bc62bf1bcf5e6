"""How Meta-World is sensed: named features of the 39-number observation, anchors, and what the decoder sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Feature, Vocabulary, check_observations
from lago_skills.worlds.grounding import Grounding, Nouns, relations

ANCHORS = ("gripper", "object", "object2", "goal")
REACH_M = {"x": (-0.6, 0.6), "y": (0.0, 1.2), "z": (-0.1, 0.6)}
"""No gripper, object or goal of any of the fifty tasks is outside this box."""


def _vector(name: str, text: str) -> list[Feature]:
    """A position (bounded by the workspace) or, where the name says `_to_`, a difference of two positions."""
    features: list[Feature] = []
    for axis, (low, high) in REACH_M.items():
        if "_to_" in name:
            low, high = low - high, high - low
        features.append(Feature(f"{name}_{axis}", "m", f"{text}, along {axis}", low, high))
    return features


def _distances(name: str, text: str) -> list[Feature]:
    return [
        Feature(name, "m", f"distance {text}", 0.0, 2.0),
        Feature(f"{name}_xy", "m", f"horizontal distance {text}", 0.0, 1.8),
    ]


METAWORLD_FEATURES: tuple[Feature, ...] = (
    *_vector("gripper", "position of the gripper, the point between the finger tips"),
    Feature(
        "gripper_opening",
        "0-1",
        "1 is fully open, about 0.3 is fully closed on nothing; between on an object",
        0.0,
        1.0,
    ),
    *_vector("object", "position of the object, the thing the task is about: a puck, a handle, a button, a lock"),
    *_vector("goal", "position where the task wants the object, or the gripper when nothing has to move"),
    *_vector("gripper_to_object", "object minus gripper"),
    *_distances("gripper_to_object", "between gripper and object"),
    *_vector("object_to_goal", "goal minus object"),
    *_distances("object_to_goal", "between object and goal"),
    *_vector("gripper_to_goal", "goal minus gripper"),
    *_distances("gripper_to_goal", "between gripper and goal"),
    *_vector("object2", "position of the second object (a tool's target, a lid, a hole); 0 if there is none"),
    *_vector("gripper_to_object2", "second object minus gripper"),
    *_distances("gripper_to_object2", "between gripper and second object"),
    *_vector("object_to_object2", "second object minus object"),
    *_distances("object_to_object2", "between object and second object"),
    Feature("gripper_speed", "m/step", "how far the gripper moved in the last control step", 0.0, 1.0),
    Feature("object_speed", "m/step", "how far the object moved in the last control step", 0.0, 1.0),
    Feature("object2_speed", "m/step", "how far the second object moved in the last control step", 0.0, 1.0),
    Feature(
        "opening_change", "1/step", "change of gripper_opening in the last control step; negative is closing", -1.0, 1.0
    ),
)

METAWORLD_WORLD = """\
A robot arm with a two-finger gripper that always points straight down stands at a table.
Frame, in metres: x grows to the robot's right, y grows forward (away from the robot), z grows upwards; the table top is at z = 0.
"gripper" is the point between the finger tips. It can reach x -0.5..0.5, y 0.4..1.0, z 0.01..0.45.
Every control step moves the gripper by up to 1 cm along each axis and opens or closes the fingers.
An episode has 200 control steps and ends as soon as the task is solved. Things stay where they are until touched.
A wall, where a task has one, is not sensed: it stands across the straight way to the goal and is up to 0.15 m high; the gripper, and
what it holds, must pass above it."""

SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("object", "thing", "item", "workpiece"),
    ("goal", "target", "goal position", "destination"),
    ("through free space", "through the air", "freely", "without touching anything"),
    ("fingers stay open", "with the fingers open", "keeping the fingers open", "fingers kept apart"),
    ("fingers stay closed", "with the fingers closed", "keeping the fingers closed", "fingers kept shut"),
    ("closed gripper", "shut gripper", "gripper with closed fingers"),
    ("open gripper", "opened gripper", "gripper with open fingers"),
    ("grasped", "held", "gripped", "clasped"),
)
"""Interchangeable words of skill sentences, in the style of the recorded ones."""

TIP_OFFSET_M = 0.045
"""The finger tips are this far below the observed hand position (measured: simulator's tcp_center minus hand)."""
_TIP = np.array([0.0, 0.0, TIP_OFFSET_M])


def _points(observations: NDArray[Any], frame: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(B, 3) gripper, object and second object in the frame that begins there."""
    gripper = observations[:, frame : frame + 3] - _TIP
    return gripper, observations[:, frame + 4 : frame + 7], observations[:, frame + 11 : frame + 14]


class MetaWorldState:
    """A batch of 39-number observations.

    Layout: hand 0-3, opening 3, object position 4-7 and quaternion 7-11, second object 11-14 and 14-18, the previous frame's same
    eighteen numbers 18-36, goal 36-39.
    """

    def __init__(self, observations: NDArray[Any]) -> None:
        self._now, self._before = _points(observations, 0), _points(observations, 18)
        self._goal = observations[:, 36:39]
        self._opening, self._opening_before = observations[:, 3:4], observations[:, 21:22]

    @property
    def values(self) -> NDArray[np.float64]:
        """(B, F) features, in the order of `METAWORLD_FEATURES`."""
        gripper, thing, second = self._now
        goal, opening = self._goal, self._opening
        ways = ((gripper, thing), (thing, goal), (gripper, goal), (gripper, second), (thing, second))
        frames = zip(self._before, self._now, strict=True)
        deltas = np.stack([b - a for a, b in (*ways, *frames)], axis=1)  # (B, 8, 3)
        lengths = np.sqrt(np.einsum("bni,bni->bn", deltas, deltas))[:, :, None]
        level = np.sqrt(np.einsum("bni,bni->bn", deltas[:, :5, :2], deltas[:, :5, :2]))[:, :, None]
        between = np.concatenate(
            [deltas[:, :5], lengths[:, :5], level], axis=2
        )  # (B, 5, 5): vector, length, length in the plane
        moved = lengths[:, 5:, 0]
        return np.concatenate(
            [
                gripper,
                opening,
                thing,
                goal,
                between[:, :3].reshape(len(between), -1),
                second,
                between[:, 3:].reshape(len(between), -1),
                moved,
                opening - self._opening_before,
            ],
            axis=1,
        ).astype(np.float64)

    @property
    def anchors(self) -> NDArray[np.float64]:
        """(B, 4, 3) gripper, object, second object and goal."""
        gripper, thing, second = self._now
        return np.stack([gripper, thing, second, self._goal], axis=1).astype(np.float64)

    def inputs(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """(B, 3) targets -> (B, I) what the decoder sees: mostly relative vectors.

        Relative vectors let a skill learned on a puck work on a mug. Small distances matter most, so each
        vector is also given through a saturating scale (tanh of the vector over 5 cm).
        """
        gripper, thing, _ = self._now
        old_gripper, old_thing, _ = self._before
        near, far = thing - gripper, self._goal - thing
        heading = targets - gripper
        return np.concatenate(
            [
                heading * 5.0,
                np.tanh(heading / 0.05),
                near * 5.0,
                np.tanh(near / 0.05),
                far * 5.0,
                np.tanh(far / 0.05),
                gripper[:, 2:3] * 5.0,
                thing[:, 2:3] * 5.0,
                self._opening,
                (gripper - old_gripper) * 100.0,
                (thing - old_thing) * 100.0,
                (self._opening - self._opening_before) * 10.0,
            ],
            axis=1,
        ).astype(np.float32)

    @property
    def moved(self) -> NDArray[np.float64]:
        """(B, 4) metres that gripper, object, second object and goal moved in the last control step."""
        distances = [np.linalg.norm(a - b, axis=1) for a, b in zip(self._now, self._before, strict=True)]
        return np.stack([*distances, np.zeros(len(self._goal))], axis=1)

    @property
    def hand(self) -> NDArray[np.float64]:
        """(B, 2) opening of the gripper and its change."""
        return np.concatenate([self._opening, self._opening - self._opening_before], axis=1).astype(np.float64)

    def subject_inputs(self, targets: NDArray[Any], subjects: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, 3) targets, (B, 2) thing and place -> (B, 29) heading, thing from gripper, place from thing, heights, hand.

        Of the gripper's own speed nothing is told: a decoder that sees it repeats what it did last.
        """
        anchors, rows = self.anchors, np.arange(len(subjects))
        gripper, thing = anchors[:, 0], anchors[rows, subjects[:, 0]]
        has_place = subjects[:, 1:] >= 0
        near, far = thing - gripper, np.where(has_place, anchors[rows, subjects[:, 1]] - thing, 0.0)
        heading = targets - gripper
        return np.concatenate(
            [
                heading * 5.0,
                np.tanh(heading / 0.05),
                np.clip(heading * 10.0, -1.0, 1.0),
                near * 5.0,
                np.tanh(near / 0.05),
                far * 5.0,
                np.tanh(far / 0.05),
                gripper[:, 2:3] * 5.0,
                thing[:, 2:3] * 5.0,
                self.hand * (1.0, 10.0),
                self.moved[rows, subjects[:, 0]][:, None] * 100.0,
                has_place,
            ],
            axis=1,
        ).astype(np.float32)


class TurnAboutVertical:
    """A turned demonstration is a demonstration.

    The arm is moved in Cartesian coordinates and answers alike in every horizontal direction, and the decoder sees relative vectors and heights only.
    """

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """(n,) angles, radians."""
        return rng.uniform(-np.pi, np.pi, n)

    def apply(
        self, observations: NDArray[Any], targets: NDArray[Any], actions: NDArray[Any], parameters: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """Turn positions, targets and the horizontal part of actions; orientations stay as they are. Actions are clipped to [-1, 1]."""
        turned = np.array(observations, dtype=np.float64)
        for start in (0, 4, 11, 18, 22, 29, 36):
            turned[:, start : start + 3] = _turn(observations[:, start : start + 3], parameters)
        return (
            turned,
            _turn(targets, parameters),
            np.clip(_turn(actions, parameters), -1.0, 1.0).astype(np.float32),
        )


class MetaWorldGrounding(Grounding):
    """All fifty Meta-World v3 tasks, from the 39-number observation."""

    observation_size = 39
    action_space = ActionSpace(4)
    vocabulary = Vocabulary(METAWORLD_FEATURES, ANCHORS, 3, relations("gripper", "fingers"), ("object2",))
    world = METAWORLD_WORLD
    heading_size, subject_heading_size = 6, 9
    variation = TurnAboutVertical()
    synonyms = SYNONYMS
    nouns = Nouns(
        agent="robot",
        effector="gripper",
        grasp="fingers",
        grasp_states="open, closing, closed",
        grasp_commands="finger commands",
        remark="A closed finger tip is about 2 cm wide.",
        accuracy="to about 1 to 2 cm",
    )

    def read(self, observations: NDArray[Any]) -> MetaWorldState:
        """(B, 39) observations -> what they say.

        Raises:
            ShapeError: wrong observation size, or values that are not finite.
        """
        check_observations(observations, self.observation_size)
        return MetaWorldState(observations)


def _turn(points: NDArray[Any], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn (B, 3) or longer rows about the vertical: the first two numbers change."""
    turned = np.array(points, dtype=np.float64)
    cos, sin = np.cos(angles), np.sin(angles)
    turned[:, 0], turned[:, 1] = cos * points[:, 0] - sin * points[:, 1], sin * points[:, 0] + cos * points[:, 1]
    return turned
