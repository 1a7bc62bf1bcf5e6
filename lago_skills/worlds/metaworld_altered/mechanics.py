"""What is altered: the scene of a Meta-World task is edited before MuJoCo compiles it, and the task has a goal of its own.

Lengths are metres, angles radians; the robot looks along y, x grows to its right, z upwards.
"""

# MuJoCo ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

THING, WANTED = "thing", "wanted"
"""Sites of the edited scenes: where the object is sensed, as near as can be to where Meta-World senses it, and where it shall be."""
ROBOT_SIDE, FAR_SIDE = 130.0, 215.0
"""Azimuths of a camera, degrees."""
Point = NDArray[np.float64]
"""(3,)"""


def _as_placed(data: Any, drawn: Point) -> None:
    """Nothing more to be put in its place."""


@dataclass(frozen=True)
class Mechanics:
    """How one altered task works. What moves is the last joint of the body that has the site `THING`."""

    edit: Callable[[Any], None]
    """Changes the `mujoco.MjSpec` of Meta-World's own scene."""
    low: tuple[float, ...]
    high: tuple[float, ...]
    """Between these a start is drawn, uniformly: (3,) where the fixture stands, and what Meta-World draws beside it."""
    way: tuple[float, float, float]
    """From where the object is at the start to where it shall go."""
    near_m: float
    """The task is solved when the object is that near to its goal."""
    start: float = 0.0
    """Of the joint."""
    arrange: Callable[[Any, Point], None] = _as_placed
    """Puts other things in their places, by what was drawn."""
    hand: tuple[float, float, float] | None = None
    """Where the hand starts; None where Meta-World has it start."""
    seen_from: float = ROBOT_SIDE
    """Where pictures are taken from: the side of the table on which it happens."""


def _turned(angle: float) -> list[float]:
    """Quaternion of a turn about the vertical, scalar first."""
    return [math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)]


def _sensed(body: Any, place: tuple[float, float, float]) -> Any:
    """Put the site on a body; gives its last joint.

    The ends of its range are made hard: Meta-World's give way when they are pushed at, those of the lock by half a turn.
    """
    body.add_site(name=THING, pos=place)
    joint = body.joints[-1]
    joint.solref_limit, joint.solimp_limit = [0.005, 1.0], [0.99, 0.999, 0.001, 0.5, 2.0]
    return joint


def _mirrored(point: Any) -> list[float]:
    return [-float(point[0]), float(point[1]), float(point[2])]


def _drawer(spec: Any) -> None:
    spec.body("drawer").quat = _turned(math.pi)
    _sensed(spec.body("drawer_link"), (0.0, -0.16, 0.0))


def _door(spec: Any) -> None:
    """The door is mirrored from left to right: hinge, handle and sense."""
    door = spec.body("door_link")
    door.pos = _mirrored(door.pos)
    for geom in door.geoms:
        geom.pos = _mirrored(geom.pos)
    grip = spec.geom("handle")  # a mesh, which cannot be mirrored: it is turned about the normal of the door
    grip.alt.euler = [math.pi / 2, math.pi, 0.0]
    joint = _sensed(door, (-0.385, -0.095, 0.0))
    joint.axis, joint.range = [0.0, 0.0, -1.0], [-1.5, 0.0]


def _button(spec: Any) -> None:
    spec.body("box").quat = _turned(math.pi / 2)
    _sensed(spec.body("button"), (0.0, -0.193, 0.0))
    shield = {"type": mujoco.mjtGeom.mjGEOM_BOX, "pos": [-0.07, -0.15, 0.0], "size": [0.008, 0.07, 0.09]}
    spec.body("buttonbox").add_geom(**shield, contype=0, conaffinity=1, rgba=[0.5, 0.5, 0.5, 1.0])


def _handle(spec: Any) -> None:
    joint = _sensed(spec.body("handle_link"), (0.05, -0.166, 0.014))
    joint.axis, joint.range, joint.damping = [0.0, -1.0, 0.0], [0.0, 0.1], 10.0


def _plate(spec: Any) -> None:
    spec.body("puck_goal").alt.euler = [0.0, 0.0, math.pi]  # Meta-World turns it so, which would overrule a quaternion
    _sensed(spec.geom("puck").parent, (0.0, 0.0, 0.0))


def _lock(spec: Any) -> None:
    _sensed(spec.body("lock_link"), (0.09, -0.04, -0.01)).range = [math.pi / 2, math.pi]


def _faucet(spec: Any) -> None:
    spec.body("faucetBase").quat = _turned(math.pi)
    _sensed(spec.body("faucet_link2"), (0.015, -0.175, 0.0)).range = [-math.pi / 2, 0.0]


def _dial(spec: Any) -> None:
    _sensed(spec.joint("knob_Joint_1").parent, (0.0, -0.05, 0.0)).range = [0.0, math.pi / 2]


def _window(spec: Any) -> None:
    """The panes are mirrored from left to right, and the sense with them."""
    for pane in (spec.body("windowb_a"), spec.body("windowb_b")):
        pane.pos = _mirrored(pane.pos)
        for geom in pane.geoms:
            geom.pos = _mirrored(geom.pos)
    _sensed(spec.body("windowb_a"), (0.014, -0.095, 0.0)).axis = [-1.0, 0.0, 0.0]


def _coffee(spec: Any) -> None:
    spec.body("coffee_machine").quat = _turned(math.pi)
    _sensed(spec.body("cmbutton"), (0.0, -0.22, 0.3))


def _mug_under_spout(data: Any, drawn: Point) -> None:
    (mug,) = (data.joint(i) for i in range(data.model.njnt) if data.model.jnt_type[i] == 0)
    mug.qpos[:3] = drawn[:3] + np.array([0.0, 0.22, 0.0])
    mug.qpos[3:], mug.qvel[:] = [1.0, 0.0, 0.0, 0.0], 0.0


def _plate_in_cabinet(data: Any, drawn: Point) -> None:
    data.joint("goal_slidex").qpos[:] = drawn[0]


MECHANICS: Mapping[str, Mechanics] = {
    "drawer-open-away": Mechanics(
        _drawer, (-0.1, 0.45, 0.0), (0.1, 0.45, 0.0), (0.0, 0.15, 0.0), 0.03, seen_from=FAR_SIDE
    ),
    "door-open-right-hinge": Mechanics(_door, (-0.1, 0.9, 0.15), (0.0, 0.95, 0.15), (0.43, -0.3, 0.0), 0.08),
    "button-press-sideways": Mechanics(
        _button, (-0.25, 0.65, 0.115), (-0.15, 0.75, 0.115), (-0.06, 0.0, 0.0), 0.02, seen_from=FAR_SIDE
    ),
    "handle-pull-out": Mechanics(_handle, (-0.1, 0.9, -0.001), (0.1, 1.0, 0.001), (0.0, -0.09, 0.0), 0.02),
    "plate-slide-back-far": Mechanics(
        _plate,
        (-0.1, 0.48, 0.0, -0.1, 0.8, 0.015),
        (0.1, 0.48, 0.0, 0.1, 0.8, 0.015),
        (0.0, 0.2, 0.0),
        0.05,
        arrange=_plate_in_cabinet,
        hand=(0.0, 0.75, 0.2),
        seen_from=FAR_SIDE,
    ),
    "door-unlock-clockwise": Mechanics(
        _lock, (-0.1, 0.8, 0.15), (0.1, 0.85, 0.15), (-0.08, 0.0, 0.1), 0.03, start=math.pi / 2
    ),
    "faucet-close-far-lever": Mechanics(_faucet, (-0.05, 0.65, 0.0), (0.05, 0.7, 0.0), (0.19, -0.16, 0.0), 0.07),
    "dial-turn-reversed": Mechanics(_dial, (-0.1, 0.7, 0.0), (0.1, 0.8, 0.0), (0.05, 0.05, 0.0), 0.03),
    "window-open-leftwards": Mechanics(_window, (-0.1, 0.7, 0.16), (0.1, 0.9, 0.16), (-0.2, 0.0, 0.0), 0.05),
    "coffee-button-behind": Mechanics(
        _coffee,
        (-0.1, 0.55, -0.001),
        (0.05, 0.6, 0.001),
        (0.0, -0.03, 0.0),
        0.01,
        arrange=_mug_under_spout,
        hand=(0.3, 0.6, 0.2),
        seen_from=FAR_SIDE,
    ),
}
