"""Where the gripper and the handles are, from the numbers of an observation alone: the arm's forward model, and one joint for each handle.

Lengths are those of the models that `gymnasium-robotics` 1.4.2 brings (`franka_kitchen`); a test compares them with the simulator. Metres and radians, in the
frame of the kitchen: x to the right, y away from the arm towards the wall, z upwards.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Points = NDArray[np.float64]  # (N, 3)

N_JOINTS = 7
SMALL = 1e-5
"""Radians of a numerical derivative."""
N_ITERATIONS, CLOSE_M = 100, 0.01
"""Of inverse kinematics: at most so many steps, until so near."""
FULL_SPEED = 2.0
"""Joint velocity of an action of 1, rad/s."""
AHEAD = np.eye(3)[:, [2, 0, 1]]
"""Axes, as columns, of a gripper that points to the wall, its fingers opening to the left and right."""
STEP_S = 0.08
"""A control step."""
BASE = ((0.0, 0.0, 1.8), (0.707388, 0.0, 0.0, 0.706825))
LINKS = (  # place and turn (w, x, y, z) of each link in the one before it; all joints turn about their own z
    ((0.0, 0.0, 0.333), (1.0, 0.0, 0.0, 0.0)),
    ((0.0, 0.0, 0.0), (0.707107, -0.707107, 0.0, 0.0)),
    ((0.0, -0.316, 0.0), (0.707107, 0.707107, 0.0, 0.0)),
    ((0.0825, 0.0, 0.0), (0.707107, 0.707107, 0.0, 0.0)),
    ((-0.0825, 0.384, 0.0), (0.707107, -0.707107, 0.0, 0.0)),
    ((0.0, 0.0, 0.0), (0.500398, 0.5, -0.499602, 0.5)),
    ((0.088, 0.0, 0.0), (0.653541, 0.653021, -0.270491, 0.270706)),
)
TIP = ((0.0, 0.0, 0.21), (0.92387956, 0.0, 0.0, -0.38268336))
"""Between the fingertips; its z axis is where the gripper points, its y axis where the fingers open."""


def _turn(quaternion: tuple[float, float, float, float]) -> NDArray[np.float64]:
    return Rotation.from_quat(quaternion, scalar_first=True).as_matrix()


_BASE_PLACE, _BASE_TURN = np.array(BASE[0]), _turn(BASE[1])
_LINKS = [(np.array(place), _turn(quaternion)) for place, quaternion in LINKS]
_TIP_PLACE, _TIP_TURN = np.array(TIP[0]), _turn(TIP[1])


def gripper(joints: NDArray[np.float64]) -> tuple[Points, NDArray[np.float64]]:
    """Place (N, 3) and axes (N, 3, 3), as columns, of the gripper's tip for (N, 7) joint angles."""
    places, axes = _BASE_PLACE, _BASE_TURN
    for number, (place, turn) in enumerate(_LINKS):
        places = places + axes @ place
        axes = axes @ turn @ _about_z(joints[:, number])
    return places + axes @ _TIP_PLACE, axes @ _TIP_TURN


def jacobian(joints: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 6, 7) how the gripper's tip moves (metres) and turns (radians) for each radian of a joint, at (N, 7) joint angles."""
    place, axes = gripper(joints)
    columns: list[NDArray[np.float64]] = []
    for number in range(N_JOINTS):
        moved, turned = gripper(joints + SMALL * np.eye(N_JOINTS)[number])
        turn = Rotation.from_matrix(turned @ axes.transpose(0, 2, 1)).as_rotvec()
        columns.append(np.concatenate([moved - place, turn], axis=1) / SMALL)
    return np.stack(columns, axis=2)


def joints_at(
    place: NDArray[np.float64],
    axes: NDArray[np.float64],
    start: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> NDArray[np.float64] | None:
    """(7,) angles between (7,) bounds that bring the gripper to a place (3,) with axes (3, 3), from some others on; None where none are found.

    Damped least squares (Wampler 1986), with what is left over drawing the joints to where they started.
    """
    joints: NDArray[np.float64] = start.copy()
    for _ in range(N_ITERATIONS):
        now, turned = gripper(joints[None])
        turn = Rotation.from_matrix(axes @ turned[0].T).as_rotvec()
        left = np.concatenate([place - now[0], 0.3 * turn])
        if np.linalg.norm(left) < CLOSE_M:
            return joints
        matrix: NDArray[np.float64] = jacobian(joints[None])[0] * np.array([[1.0]] * 3 + [[0.3]] * 3)
        inverse: NDArray[np.float64] = matrix.T @ np.linalg.inv(matrix @ matrix.T + 0.03**2 * np.eye(6))
        rest: NDArray[np.float64] = 0.1 * (start - joints)
        step: NDArray[np.float64] = inverse @ left + rest - inverse @ (matrix @ rest)
        joints = np.minimum(np.maximum(joints + step, low), high)
    return None


# Handles ----------------------------------------------------------------------------------------------------------------

OBJECTS = slice(18, 39)
"""Where the (21,) joints of all objects lie in an observation of 59 numbers, after nine positions and nine velocities of the robot."""
BOTTOM_KNOB, TOP_KNOB, LIGHT, SLIDE, HINGE, MICROWAVE = 2, 6, 8, 10, 12, 13
"""Which of these joints moves a thing."""
KETTLE = slice(14, 21)
"""The kettle's place (x, y, z) and turn (w, x, y, z)."""
HANDLES = ("microwave", "kettle", "bottom_knob", "top_knob", "light_switch", "slide_cabinet", "hinge_cabinet")

KNOBS = {"bottom_knob": np.array([-0.256, 0.640, 2.226]), "top_knob": np.array([-0.256, 0.640, 2.340])}
"""Where a hand takes hold of each; its handle is a point on its edge, which shows how far it is turned."""
EDGE = 0.04
_SLIDE = np.array([-0.108, 0.607, 2.600])
_HINGE, _HINGE_HANDLE = np.array([-0.224, 0.710, 2.600]), np.array([-0.302, -0.128, 0.0])
_LIGHT, _LIGHT_HANDLE = np.array([-0.400, 0.691, 2.280]), np.array([0.0315, -0.075, 0.0])
_MICROWAVE, _MICROWAVE_TURN = np.array([-0.85, 0.725, 1.6]), _turn((0.9888, 0.0, 0.0, 0.1494))
_MICROWAVE_HINGE, _MICROWAVE_HANDLE = np.array([-0.345, -0.176, 0.192]), np.array([0.475, -0.108, 0.0])
KETTLE_HANDLE_M = 0.259
"""Above the kettle's place, along its own axis."""


def handles(objects: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 7, 3) places of the `HANDLES` for (N, 21) joints of the objects: what a gripper pushes or holds."""
    kettle = objects[:, KETTLE]
    door = _MICROWAVE_HINGE + _about_z(objects[:, MICROWAVE]) @ _MICROWAVE_HANDLE
    return np.stack(
        [
            _MICROWAVE + door @ _MICROWAVE_TURN.T,
            kettle[:, :3] + KETTLE_HANDLE_M * _upwards(kettle[:, 3:]),
            KNOBS["bottom_knob"] + _edge(objects[:, BOTTOM_KNOB]),
            KNOBS["top_knob"] + _edge(objects[:, TOP_KNOB]),
            _LIGHT + _about_z(objects[:, LIGHT]) @ _LIGHT_HANDLE,
            _SLIDE + objects[:, SLIDE, None] * np.array([1.0, 0.0, 0.0]),
            _HINGE + _about_z(objects[:, HINGE]) @ _HINGE_HANDLE,
        ],
        axis=1,
    )


def _edge(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    return EDGE * np.stack([-np.sin(angles), 0.0 * angles, np.cos(angles)], axis=1)


def _about_z(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3, 3) turns by (N,) radians."""
    cos, sin = np.cos(angles), np.sin(angles)
    zeros, ones = np.zeros_like(cos), np.ones_like(cos)
    rows = (np.stack(row, axis=1) for row in ((cos, -sin, zeros), (sin, cos, zeros), (zeros, zeros, ones)))
    return np.stack(list(rows), axis=1)


def _upwards(quaternions: NDArray[np.float64]) -> Points:
    """(N, 3) the third axis of what is turned by (N, 4) quaternions (w, x, y, z) of any length; those of no length turn nothing."""
    w, x, y, z = (quaternions / np.maximum(np.linalg.norm(quaternions, axis=1, keepdims=True), 1e-12)).T
    return np.stack([2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y)], axis=1)
