"""Who shows each subtask once: the hand is led along way points by damped least squares on the simulator's Jacobian.

It looks at the simulator, as a person who demonstrates looks at the kitchen; what is learned from it sees observations alone.
"""

# MuJoCo ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mujoco as _mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lago_skills.worlds.kitchen.env import Kitchen
from lago_skills.worlds.kitchen.kinematics import AHEAD, FULL_SPEED, HANDLES, HINGE, KNOBS, MICROWAVE, STEP_S, handles

mujoco: Any = _mujoco
Vector = NDArray[np.float64]
Motion = Iterator[Vector]

STIFFNESS = np.array([870.0] * 4 + [120.0] * 3)
"""Of the arm's position actuators, N m/rad: what its own weight costs is added to what it is sent."""
FOLLOWED = np.array([0.51, 0.34, 0.33, 0.54, 0.64, 0.67, 0.62])
"""Share of a joint's way in a control step that its actuator covers in that step."""
DAMPING, TURN_WEIGHT, REST_GAIN = 0.05, 0.2, 1.0
MARGIN = 0.02
"""Radians that the arm keeps off the ends of its joints."""
OPEN, CLOSED = 1.0, -1.0
LOWER_M = 0.03
"""How far the hand aims below a handle that lies on its lower finger, to come free of it."""
STALLED_M, STALLED_STEPS = 0.003, 3
"""A hand that has come no nearer by so much for so many steps is as near as it gets."""
BEYOND_STEPS, LET_GO_STEPS, BACK_M = 5, 3, 0.15
"""How long a motion goes on once its subtask is done, how long fingers open before the hand draws back, and how far."""
X, Y, Z = np.eye(3)
HINGE_PLACE = np.array([-0.224, 0.710, 2.600])
AHEAD_UPRIGHT = np.stack([-X, Z, Y], axis=1)
"""The gripper points to the wall, its fingers open up and down."""


class Hand:
    """The hand of a kitchen's arm, led to places and turns."""

    def __init__(self, kitchen: Kitchen) -> None:
        self.kitchen, self.model, self.data = kitchen, kitchen.model, kitchen.data
        robot = kitchen.theirs.robot_env
        self._rest = robot.init_qpos[:7].copy()
        self._low, self._high = robot.robot_pos_bound[:7, 0] + MARGIN, robot.robot_pos_bound[:7, 1] - MARGIN
        self._site = self.model.site("end_effector").id
        self._jacobian = np.zeros((2, 3, self.model.nv))

    @property
    def place(self) -> Vector:
        """(3,) between the fingertips."""
        return self.data.site_xpos[self._site].copy()

    @property
    def axes(self) -> Vector:
        """(3, 3) where it points and how it is turned, as columns."""
        return self.data.site_xmat[self._site].reshape(3, 3).copy()

    def handle(self, name: str) -> Vector:
        """(3,) where a handle is taken hold of."""
        if name in KNOBS:
            return KNOBS[name]
        return handles(self.data.qpos[None, 9:].copy())[0, HANDLES.index(name)]

    def joint(self, number: int) -> float:
        """A joint of the objects."""
        return float(self.data.qpos[9 + number])

    def toward(self, place: Vector, axes: Vector, fingers: float, speed: float = 0.9) -> Vector:
        """(9,) action that takes the hand nearer to a place (3,) and to axes (3, 3), at most at `speed` in m/s.

        Velocities of the hand become those of the joints by damped least squares; joints that would pass their ends stay there, and the
        others do what is left; what the task leaves free draws the arm to its pose of rest.
        """
        mujoco.mj_jacSite(self.model, self.data, self._jacobian[0], self._jacobian[1], self._site)
        jacobian = np.concatenate([self._jacobian[0, :, :7], TURN_WEIGHT * self._jacobian[1, :, :7]])
        turn = Rotation.from_matrix(axes @ self.data.site_xmat[self._site].reshape(3, 3).T).as_rotvec()
        wanted = np.concatenate([_at_most(6.0 * (place - self.place), speed), TURN_WEIGHT * _at_most(4.0 * turn, 2.0)])
        angles, velocities = self.data.qpos[:7], np.zeros(7)
        free = np.ones(7, np.bool_)
        for _ in range(4):
            part = jacobian[:, free]
            inverse = part.T @ np.linalg.inv(part @ part.T + DAMPING**2 * np.eye(6))
            rest = REST_GAIN * (self._rest - angles)[free]
            left = wanted - jacobian[:, ~free] @ velocities[~free]
            velocities[free] = inverse @ left + rest - inverse @ (part @ rest)
            after = angles + velocities * STEP_S
            beyond = free & ((after < self._low) | (after > self._high))
            if not beyond.any():
                break
            velocities[beyond] = (np.clip(after, self._low, self._high) - angles)[beyond] / STEP_S
            free &= ~beyond
        velocities = velocities / FOLLOWED
        velocities = velocities * min(1.0, FULL_SPEED / max(float(np.abs(velocities).max()), 1e-9))
        velocities = velocities + self.data.qfrc_bias[:7] / STIFFNESS / STEP_S
        return np.clip(np.append(velocities / FULL_SPEED, [fingers, fingers]), -1.0, 1.0)

    def go(
        self, place: Callable[[], Vector], axes: Vector, fingers: float, within: float, steps: int, speed: float = 0.9
    ) -> Motion:
        """Actions until the hand is within so many metres of a place, comes no nearer to it, or for so many steps."""
        nearest, since = np.inf, 0
        for _ in range(steps):
            target = place()
            apart = float(np.linalg.norm(target - self.place))
            nearest, since = (apart, 0) if apart < nearest - STALLED_M else (nearest, since + 1)
            if apart < within or since > STALLED_STEPS:
                return
            yield self.toward(target, axes, fingers, speed)

    def hold(self, place: Callable[[], Vector], axes: Vector, fingers: float, steps: int) -> Motion:
        """Actions that keep the hand where it is wanted, for so many steps."""
        for _ in range(steps):
            yield self.toward(place(), axes, fingers)

    def grasp(self, handle: str, axes: Vector, depth: float = 0.0) -> Motion:
        """Open fingers about a handle, from in front of it, and close them."""
        yield from self.go(lambda: self.handle(handle) - 0.12 * Y, axes, OPEN, 0.015, 60)
        yield from self.go(lambda: self.handle(handle) + depth * Y, axes, OPEN, 0.025, 14)
        yield from self.hold(lambda: self.handle(handle) + depth * Y, axes, CLOSED, 5)

    def push(self, handle: str, beside: Vector, along: Vector) -> Motion:
        """A closed hand beside a handle, and on along a way (3,) past where it was."""
        yield from self.go(lambda: self.handle(handle) + beside - 0.13 * Y, AHEAD, CLOSED, 0.03, 60)
        yield from self.go(lambda: self.handle(handle) + beside, AHEAD, CLOSED, 0.025, 14)
        end = self.handle(handle) + along
        yield from self.go(lambda: end, AHEAD, CLOSED, 0.03, 60)


def _at_most(velocity: Vector, speed: float) -> Vector:
    return velocity * min(1.0, speed / max(float(np.linalg.norm(velocity)), 1e-9))


def _about(axis: Vector, angle: float) -> Vector:
    return Rotation.from_rotvec(angle * axis).as_matrix()


def _microwave(hand: Hand) -> Motion:
    yield from hand.grasp("microwave", AHEAD)
    for _ in range(60):
        opened = -hand.joint(MICROWAVE)
        pull = _about(Z, -opened) @ np.array([-0.3, -1.0, 0.0])
        yield hand.toward(hand.handle("microwave") + 0.12 * pull, AHEAD, CLOSED)


def _kettle(hand: Hand) -> Motion:
    yield from hand.grasp("kettle", AHEAD_UPRIGHT)
    end = hand.handle("kettle") + np.array([0.04, 0.42, 0.03])
    yield from hand.go(lambda: end, AHEAD_UPRIGHT, CLOSED, 0.03, 80, speed=0.3)
    yield from hand.hold(lambda: end, AHEAD_UPRIGHT, OPEN, 15)


def _knob(hand: Hand, handle: str) -> Motion:
    yield from hand.grasp(handle, AHEAD, depth=-0.01)
    yield from hand.hold(lambda: hand.handle(handle) - 0.01 * Y, _about(Y, 1.2) @ AHEAD, CLOSED, 25)


def _light_switch(hand: Hand) -> Motion:
    yield from hand.push("light_switch", np.array([0.10, 0.0, 0.02]), np.array([-0.25, 0.0, 0.02]))


def _slide_cabinet(hand: Hand) -> Motion:
    """Held and drawn along; from the right, since the other cabinet's open door may stand to its left."""
    free = np.array([0.05, 0.30, 2.55])
    if hand.joint(HINGE) > 0.3:
        yield from hand.go(lambda: np.array([hand.place[0], 0.15, hand.place[2]]), AHEAD, OPEN, 0.05, 20)
        yield from hand.go(lambda: free - 0.15 * Y, AHEAD, OPEN, 0.05, 30)
    yield from hand.grasp("slide_cabinet", AHEAD)
    yield from hand.hold(lambda: hand.handle("slide_cabinet") + 0.15 * X, AHEAD, CLOSED, 60)


def _hinge_cabinet(hand: Hand) -> Motion:
    """Drawn open by its handle; where that gets stuck, let go and pushed on from inside."""
    if hand.joint(HINGE) < 0.4:
        yield from hand.grasp("hinge_cabinet", AHEAD)
        best, since = hand.joint(HINGE), 0
        while since < 12:
            angle = hand.joint(HINGE)
            best, since = (angle, 0) if angle > best + 0.02 else (best, since + 1)
            pull = np.array([np.sin(angle), -np.cos(angle), 0.0])
            yield hand.toward(hand.handle("hinge_cabinet") + 0.12 * pull, _about(Z, 0.7 * angle) @ AHEAD, CLOSED)
    yield from hand.go(lambda: _of_door(hand, -0.44, -0.20), AHEAD, OPEN, 0.04, 15)
    yield from hand.go(lambda: _of_door(hand, -0.44, 0.08), AHEAD, CLOSED, 0.04, 15)
    for _ in range(40):
        yield hand.toward(_of_door(hand, -0.30, -0.06), AHEAD, CLOSED)


def _of_door(hand: Hand, along: float, out: float) -> Vector:
    """(3,) a point of the hinged door's frame: along it from its hinge, and out of its plane."""
    return HINGE_PLACE + _about(Z, hand.joint(HINGE)) @ np.array([along, out, 0.0])


MOTIONS: dict[str, Callable[[Hand], Motion]] = {
    "microwave": _microwave,
    "kettle": _kettle,
    "bottom-burner": lambda hand: _knob(hand, "bottom_knob"),
    "top-burner": lambda hand: _knob(hand, "top_knob"),
    "light-switch": _light_switch,
    "slide-cabinet": _slide_cabinet,
    "hinge-cabinet": _hinge_cabinet,
}


class Demonstrator:
    """Shows the subtasks of a kitchen one after another; one that has failed is begun again, after a step back."""

    def __init__(self, kitchen: Kitchen) -> None:
        self._kitchen, self._hand = kitchen, Hand(kitchen)
        self._motion: Motion | None = None

    def __call__(self, observation: Any) -> Vector:
        """(9,) what to do now; the observation is not looked at."""
        if self._motion is None or self._kitchen.n_steps == 0:
            self._motion = self._all()
        return next(self._motion)

    def _all(self) -> Motion:
        while True:
            for subtask in self._kitchen.subtasks:
                if subtask.id not in self._kitchen.done:
                    yield from self._one(subtask.id)
                    yield from self._let_go("kettle" if subtask.id == "kettle" else None)
            yield self._hand.toward(self._hand.place, AHEAD, OPEN)

    def _one(self, subtask: str) -> Motion:
        """One subtask's motion, and a little of it after it is done, so that the thing is well where it shall be."""
        beyond = 0
        for action in MOTIONS[subtask](self._hand):
            beyond += subtask in self._kitchen.done
            if beyond > BEYOND_STEPS:
                return
            yield action

    def _let_go(self, handle: str | None) -> Motion:
        """Open fingers, and a straight way back from what they held; about a handle that just fits between them, the hand is first brought in line with it."""
        place, axes, steps = self._hand.place, self._hand.axes, LET_GO_STEPS
        if handle is not None:
            place, axes, steps = self._hand.handle(handle) - LOWER_M * Z, AHEAD_UPRIGHT, 2 * LET_GO_STEPS
        yield from self._hand.hold(lambda: place, axes, OPEN, steps)
        yield from self._hand.go(lambda: place - BACK_M * Y, axes, OPEN, 0.03, 12)
