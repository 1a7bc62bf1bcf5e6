"""How Meta-World is sensed: named features of the 39-number observation, anchors, and what the decoder sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ANCHORS, Feature, Vocabulary, check_observations

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

TIP_OFFSET_M = 0.045
"""The finger tips are this far below the observed hand position (measured: simulator's tcp_center minus hand)."""
_TIP = np.array([0.0, 0.0, TIP_OFFSET_M])


class MetaWorldGrounding:
    """Features for all fifty Meta-World v3 tasks, from the 39-number observation.

    Layout of the observation: hand 0-3, opening 3, object position 4-7 and quaternion 7-11, second object 11-14
    and 14-18, the previous frame's same eighteen numbers 18-36, goal 36-39.
    """

    observation_size = 39
    action_size = 4
    vocabulary = Vocabulary(METAWORLD_FEATURES, ANCHORS)
    features = METAWORLD_FEATURES
    world = METAWORLD_WORLD

    def _points(self, observations: NDArray[Any], frame: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        gripper = observations[:, frame : frame + 3] - _TIP
        return gripper, observations[:, frame + 4 : frame + 7], observations[:, frame + 11 : frame + 14]

    def values(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """(B, 39) observations -> (B, F) features, in the order of `features`.

        Raises:
            ShapeError: wrong observation size, or values that are not finite.
        """
        check_observations(observations, self.observation_size)
        gripper, thing, second = self._points(observations, 0)
        old_gripper, old_thing, old_second = self._points(observations, 18)
        goal = observations[:, 36:39]
        opening = observations[:, 3:4]

        ways = ((gripper, thing), (thing, goal), (gripper, goal), (gripper, second), (thing, second))
        frames = ((old_gripper, gripper), (old_thing, thing), (old_second, second))
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
                opening - observations[:, 21:22],
            ],
            axis=1,
        ).astype(np.float64)

    def anchors(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """(B, 39) observations -> (B, 4, 3) points: gripper, object, second object, goal."""
        gripper, thing, second = self._points(observations, 0)
        points = {"gripper": gripper, "object": thing, "object2": second, "goal": observations[:, 36:39]}
        found = np.empty((len(observations), len(ANCHORS), 3))
        for number, name in enumerate(ANCHORS):
            found[:, number] = points[name]
        return found

    def inputs(self, observations: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float32]:
        """(B, 39) observations, (B, 3) targets -> (B, I) what the decoder sees: mostly relative vectors.

        Relative vectors let a skill learned on a puck work on a mug. Small distances matter most, so each
        vector is also given through a saturating scale (tanh of the vector over 5 cm).
        """
        check_observations(observations, self.observation_size)
        gripper, thing, _ = self._points(observations, 0)
        old_gripper, old_thing, _ = self._points(observations, 18)
        goal = observations[:, 36:39]
        near, far = thing - gripper, goal - thing
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
                observations[:, 3:4],
                (gripper - old_gripper) * 100.0,
                (thing - old_thing) * 100.0,
                (observations[:, 3:4] - observations[:, 21:22]) * 10.0,
            ],
            axis=1,
        ).astype(np.float32)

    n_heading = 9

    def moved(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """(B, 39) observations -> (B, 4) metres that gripper, object, second object and goal moved in the last control step."""
        now, before = self._points(observations, 0), self._points(observations, 18)
        found = [np.linalg.norm(a - b, axis=1) for a, b in zip(now, before, strict=True)]
        return np.stack([*found, np.zeros(len(observations))], axis=1)

    def hand(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """(B, 39) observations -> (B, 2) opening of the gripper and its change."""
        return np.stack([observations[:, 3], observations[:, 3] - observations[:, 21]], axis=1).astype(np.float64)

    def subject_inputs(
        self, observations: NDArray[Any], targets: NDArray[Any], subjects: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """(B, 39) observations, (B, 3) targets, (B, 2) thing and place -> (B, 29) heading, thing from gripper, place from thing, heights, hand.

        Of the gripper's own speed nothing is told: a decoder that sees it repeats what it did last.
        """
        check_observations(observations, self.observation_size)
        anchors, rows = self.anchors(observations), np.arange(len(observations))
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
                self.hand(observations) * (1.0, 10.0),
                self.moved(observations)[rows, subjects[:, 0]][:, None] * 100.0,
                has_place,
            ],
            axis=1,
        ).astype(np.float32)

    def turn(
        self, observations: NDArray[Any], targets: NDArray[Any], actions: NDArray[Any], angles: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """Turn positions, targets and the horizontal part of actions about the vertical; orientations stay as they are.

        The arm is moved in Cartesian coordinates and answers alike in every horizontal direction, and the decoder sees
        relative vectors and heights only, so a turned demonstration is a demonstration. Turned actions are clipped to [-1, 1].
        """
        turned = np.array(observations, dtype=np.float64)
        for start in (0, 4, 11, 18, 22, 29, 36):
            turned[:, start : start + 3] = _turn(observations[:, start : start + 3], angles)
        return turned, _turn(targets, angles), np.clip(_turn(actions, angles), -1.0, 1.0).astype(np.float32)


def _turn(points: NDArray[Any], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn (B, 3) or longer rows about the vertical: the first two numbers change."""
    turned = np.array(points, dtype=np.float64)
    cos, sin = np.cos(angles), np.sin(angles)
    turned[:, 0], turned[:, 1] = cos * points[:, 0] - sin * points[:, 1], sin * points[:, 0] + cos * points[:, 1]
    return turned
