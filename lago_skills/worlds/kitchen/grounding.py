"""How the kitchen is sensed: features, anchors and a decoder's view of an observation of 59 numbers."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lago_skills.core import ActionSpace, Feature, Vocabulary, check_observations
from lago_skills.worlds.grounding import AnchoredGrounding, Nouns, relations
from lago_skills.worlds.kitchen.kinematics import (
    AHEAD,
    FULL_SPEED,
    HANDLES,
    N_JOINTS,
    OBJECTS,
    STEP_S,
    gripper,
    handles,
    jacobian,
)
from lago_skills.worlds.kitchen.subtasks import SUBTASKS

N_OBSERVED = 59
SPEEDS = slice(39, 59)
"""(20,) velocities of the objects' joints; the kettle's are of its place and its turn."""
DAMPING = 0.05
"""Of least squares near poses in which the arm cannot move in some direction."""
FINGER_M = 0.04
"""How far a finger opens."""
PLACES = {
    "microwave": "microwave_open",
    "kettle": "back_burner",
    "bottom_knob": "bottom_knob_turned",
    "top_knob": "top_knob_turned",
    "light_switch": "light_switch_on",
    "slide_cabinet": "slide_cabinet_open",
    "hinge_cabinet": "hinge_cabinet_open",
}
"""Where each handle is once its subtask is done."""
ANCHORS = ("gripper", *HANDLES, *PLACES.values())
_SAID = {
    "microwave": "the handle of the microwave's door",
    "kettle": "the kettle's handle",
    "bottom_knob": "the edge of the lower burner's knob",
    "top_knob": "the edge of the upper burner's knob",
    "light_switch": "the light switch",
    "slide_cabinet": "the handle of the sliding cabinet",
    "hinge_cabinet": "the handle of the hinged cabinet's door",
}


ROLL = "turn of the gripper about the line it points along: 0 with its fingers side by side, 1.6 or -1.6 with one above the other"


def _goals() -> NDArray[np.float64]:
    """(7, 3) where the handles are once all is done."""
    objects = np.zeros((1, 21))
    for each in SUBTASKS.values():
        objects[0, list(each.joints)] = each.goal
    return handles(objects)[0]


GOALS = _goals()


def _features() -> tuple[Feature, ...]:
    features = [
        Feature(f"gripper_{axis}", "m", f"position of the gripper, along {axis}", low, high)
        for axis, low, high in (("x", -1.2, 1.0), ("y", -0.6, 1.2), ("z", 1.2, 3.2))
    ]
    features += [Feature("roll", "rad", ROLL, -3.2, 3.2)]
    features += [Feature("opening", "0-1", "1 is fully open, 0 is closed on nothing; between on a handle", -0.5, 1.5)]
    for name, text in _SAID.items():
        features += [
            Feature(f"gripper_to_{name}", "m", f"distance between the gripper and {text}", 0.0, 3.0),
            Feature(f"{name}_left", "m", f"how far {text} still is from where its task wants it", 0.0, 3.0),
        ]
    return tuple(features)


class KitchenState:
    """A batch of observations: nine joints of the robot, their velocities, the joints of the objects and theirs."""

    def __init__(self, observations: NDArray[Any]) -> None:
        self._rows = observations.astype(np.float64, copy=False)

    @cached_property
    def _hand(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return gripper(self._rows[:, :N_JOINTS])

    @cached_property
    def _handles(self) -> NDArray[np.float64]:
        return handles(self._rows[:, OBJECTS])

    @cached_property
    def _opening(self) -> NDArray[np.float64]:
        """(B, 2) opening of the fingers and its change in a control step."""
        return np.stack(
            [self._rows[:, 7:9].mean(axis=1) / FINGER_M, self._rows[:, 16:18].mean(axis=1) * STEP_S / FINGER_M], axis=1
        )

    @property
    def values(self) -> NDArray[np.float64]:
        """(B, F) features, in the order of the vocabulary."""
        place, _ = self._hand
        near = np.linalg.norm(self._handles - place[:, None], axis=2)
        left = np.linalg.norm(self._handles - GOALS, axis=2)
        pairs = np.stack([near, left], axis=2).reshape(len(place), -1)
        return np.concatenate([place, self._roll[:, None], self._opening[:, :1], pairs], axis=1)

    @property
    def _roll(self) -> NDArray[np.float64]:
        """(B,) radians from the horizontal to the line along which the fingers open, about the line that the gripper points along."""
        fingers, ahead = self._hand[1][:, :, 1], self._hand[1][:, :, 2]
        right = np.cross(ahead, [0.0, 0.0, 1.0])
        up = np.cross(right, ahead)
        return np.arctan2((fingers * up).sum(axis=1), (fingers * right).sum(axis=1))

    @property
    def anchors(self) -> NDArray[np.float64]:
        """(B, 15, 3) gripper, handles and where they shall be."""
        return self._anchors

    @cached_property
    def _anchors(self) -> NDArray[np.float64]:
        place, _ = self._hand
        goals = np.broadcast_to(GOALS, (len(place), *GOALS.shape))
        return np.concatenate([place[:, None], self._handles, goals], axis=1)

    @property
    def moved(self) -> NDArray[np.float64]:
        """(B, 15) metres that each anchor moved in the last control step, by the velocities of the joints."""
        return self._moved

    @cached_property
    def _moved(self) -> NDArray[np.float64]:
        objects = self._rows[:, OBJECTS].copy()
        speeds = self._rows[:, SPEEDS]
        objects[:, :17] -= STEP_S * speeds[:, :17]  # the turn of the kettle is left as it is
        hand = np.linalg.norm(self.drift, axis=1)
        things = np.linalg.norm(self._handles - handles(objects), axis=2)
        return np.concatenate([hand[:, None], things, np.zeros_like(things)], axis=1)

    @cached_property
    def drift(self) -> NDArray[np.float64]:
        """(B, 3) metres that the gripper moved in the last control step, by the velocities of its joints."""
        before = self._rows[:, :N_JOINTS] - STEP_S * self._rows[:, 9 : 9 + N_JOINTS]
        return self._hand[0] - gripper(before)[0]

    @property
    def hand(self) -> NDArray[np.float64]:
        """(B, 2) opening of the fingers and its change."""
        return self._opening

    def _body(self) -> NDArray[np.float64]:
        """(B, 27) what the arm is like: its joints, their velocities, the gripper's place and where it points."""
        place, axes = self._hand
        return np.concatenate(
            [
                self._rows[:, :N_JOINTS],
                0.5 * self._rows[:, 9 : 9 + N_JOINTS],
                place - (-0.3, 0.4, 2.2),
                axes.reshape(-1, 9)[:, [1, 2, 4, 5, 7, 8]],
            ],
            axis=1,
        )

    def _heading(self, targets: NDArray[Any]) -> NDArray[np.float64]:
        heading = targets - self._hand[0]
        return np.concatenate([heading * 5.0, np.tanh(heading / 0.05), np.clip(heading * 10.0, -1.0, 1.0)], axis=1)

    def inputs(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """(B, 3) targets -> (B, I): heading, the arm, the fingers, the handles as the gripper sees them."""
        near = (self._handles - self._hand[0][:, None]).reshape(len(self._rows), -1)
        return np.concatenate(
            [self._heading(targets), self._body(), self._opening * (1.0, 10.0), near * 2.0, np.tanh(near / 0.05)],
            axis=1,
        ).astype(np.float32)

    def subject_inputs(self, targets: NDArray[Any], subjects: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, 3) targets, (B, 2) thing and place -> (B, I): heading, thing from gripper, place from thing, the arm, the fingers, all handles."""
        anchors, rows = self.anchors, np.arange(len(subjects))
        thing = anchors[rows, subjects[:, 0]]
        has_place = subjects[:, 1:] >= 0
        near = thing - anchors[:, 0]
        far = np.where(has_place, anchors[rows, subjects[:, 1]] - thing, 0.0)
        others = (self._handles - anchors[:, :1]).reshape(len(rows), -1)
        return np.concatenate(
            [
                self._heading(targets),
                near * 5.0,
                np.tanh(near / 0.05),
                far * 5.0,
                np.tanh(far / 0.05),
                self._body(),
                self._opening * (1.0, 10.0),
                self.moved[rows, subjects[:, 0]][:, None] * 100.0,
                has_place,
                others,
            ],
            axis=1,
        ).astype(np.float32)


class KitchenGrounding(AnchoredGrounding):
    """The arm by its joints; handles and their goals as anchors."""

    observation_size = N_OBSERVED
    action_space = ActionSpace(9)
    vocabulary = Vocabulary(
        _features(), ANCHORS, 3, "m", relations("gripper", "fingers", release=True), named_things=True
    )
    world = """\
A robot arm with a two-finger gripper stands in front of a kitchen wall. Frame, in metres: x grows to the robot's right, y grows away from the robot, towards the wall, z grows upwards.
"gripper" is the point between the finger tips; its fingers open to the left and right. Every control step moves seven joints of the arm and the two fingers.
In front of the wall, from low to high: a microwave on the left whose door swings towards the robot and to the left, a stove with a kettle on its front left burner, two burner knobs,
a light switch beside them that is pushed to the left, and at the top two cabinets: the right one slides to the right, the left one has a door that swings towards the robot and to the right.
Things stay where they are until touched. A task may ask for several of these, one after another."""
    heading_size = subject_heading_size = 9
    hand_actions = (7, 8)
    nouns = Nouns(
        agent="robot",
        effector="gripper",
        grasp="fingers",
        grasp_states="open, closing, closed",
        grasp_commands="finger commands",
        remark="A closed gripper is about 4 cm wide.",
        accuracy="to about 2 cm",
    )

    def hand_motion(
        self, observations: NDArray[Any], moves: NDArray[np.float64], closed: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """(B, 3) velocities of the gripper, m/s, and which fingers are to close -> (B, 9) actions, by damped least squares.

        What a controller of a few lines is given: the arm's Jacobian, and that the gripper had better point to the wall, its fingers side by side.
        """
        joints = np.asarray(observations, np.float64)[:, :N_JOINTS]
        turn = Rotation.from_matrix(AHEAD @ gripper(joints)[1].transpose(0, 2, 1)).as_rotvec()
        length = np.linalg.norm(moves, axis=1, keepdims=True)
        twist = np.concatenate([moves * np.minimum(1.0, 1.0 / np.maximum(length, 1e-9)), 4.0 * turn], axis=1)
        matrix = jacobian(joints)
        inner = matrix @ matrix.transpose(0, 2, 1) + DAMPING**2 * np.eye(6)
        speeds = (matrix.transpose(0, 2, 1) @ np.linalg.solve(inner, twist[:, :, None]))[:, :, 0]
        fingers = np.where(closed, -1.0, 1.0)[:, None]
        return np.clip(np.concatenate([speeds / FULL_SPEED, fingers, fingers], axis=1), -1.0, 1.0).astype(np.float32)

    def motion(self, observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[np.float64]:
        """(B, 59) observations, (B, 9) actions -> (B, 3) velocities of the gripper, m/s."""
        matrix = jacobian(np.asarray(observations, np.float64)[:, :N_JOINTS])[:, :3]
        speeds = FULL_SPEED * np.asarray(actions, np.float64)[:, :7, None]
        return (matrix @ speeds)[:, :, 0]

    def read(self, observations: NDArray[Any]) -> KitchenState:
        """(B, 59) observations -> what they say.

        Raises:
            ShapeError: wrong observation size, or values that are not finite.
        """
        check_observations(observations, self.observation_size)
        return KitchenState(observations)
