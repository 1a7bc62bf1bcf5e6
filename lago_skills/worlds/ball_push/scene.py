"""The balls in MuJoCo: one model for all scenes, which are set to any layout without compiling it again."""

# MuJoCo ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import mujoco as _mujoco

from lago_skills.worlds.ball_push.balls import (
    ARMATURE,
    BALL_DAMPING,
    BALL_DENSITY,
    BALL_Z,
    COLOURS,
    FRICTION,
    GRAVITY,
    MARGIN,
    N_BALLS,
    N_DIRECTIONS,
    OFFSET,
    PHYSICS_STEPS,
    PUSHER_DAMPING,
    PUSHER_DENSITY,
    PUSHER_RADIUS,
    PUSHER_Z,
    PUSHES,
    RADIUS,
    TABLE_Z,
    TIMESTEP_S,
    Floats,
)

mujoco: Any = _mujoco

_PAINT = ("1 .1 .1", ".2 .5 1", ".2 1 0", ".8 .2 1", ".2 1 1")
_WALLS = (("-.6 .2", "0 1.57 0"), (".6 .2", "0 -1.57 0"), ("0 .7", "1.57 0 0"), ("0 -.3", "-1.57 0 0"))
"""Where each wall stands and how its plane is turned: 1.57 and not half a turn, as in the original."""
_MOTOR_LIMIT_N = 2.0
_SLIDE_M = 10.3
"""How far the pusher's joints let it go: off every table."""


def _xml() -> str:
    walls = "".join(
        f'<geom name="wall{number}" type="plane" pos="{place} 0" euler="{turn}" size="2 2 .1" group="4" rgba="0 0 0 0"/>'
        for number, (place, turn) in enumerate(_WALLS)
    )
    balls = "".join(
        f'<body name="{colour}" pos="0 0 {BALL_Z}"><joint type="free" damping="{BALL_DAMPING}"/>'
        f'<geom name="{colour}" size="{RADIUS}" density="{BALL_DENSITY}" rgba="{paint} 1"/></body>'
        for colour, paint in zip(COLOURS, _PAINT, strict=True)
    )
    slides = "".join(
        f'<joint name="{name}" type="slide" axis="{axis}" damping="{PUSHER_DAMPING}" range="{-_SLIDE_M} {_SLIDE_M}"/>'
        for name, axis in (("pusher_x", "1 0 0"), ("pusher_y", "0 1 0"))
    )
    motors = "".join(
        f'<motor joint="pusher_{axis}" gear="1" ctrllimited="true" ctrlrange="{-_MOTOR_LIMIT_N} {_MOTOR_LIMIT_N}"/>'
        for axis in "xy"
    )
    return f"""<mujoco model="ball-push">
<compiler angle="radian" autolimits="true"/>
<option timestep="{TIMESTEP_S}" gravity="0 0 {-GRAVITY}" integrator="Euler" cone="pyramidal" iterations="20"/>
<default><joint armature="{ARMATURE}"/><geom contype="0" conaffinity="0"/>
<pair condim="3" friction="{FRICTION} {FRICTION} .1 .1 .1" margin="{MARGIN}"/></default>
<visual><global offwidth="640" offheight="480"/><headlight ambient=".5 .5 .5"/></visual>
<worldbody><light pos="0 0 2.5" dir="0 0 -1" castshadow="false"/>
<geom name="table" type="plane" pos="0 .5 {TABLE_Z}" size="1 1 .1" rgba=".75 .72 .68 1"/>{walls}{balls}
<body name="pusher" pos="0 0 {PUSHER_Z}">{slides}
<geom name="pusher" size="{PUSHER_RADIUS}" density="{PUSHER_DENSITY}" rgba=".2 .2 .2 1"/></body>
</worldbody><contact>{_pairs()}</contact><actuator>{motors}</actuator></mujoco>"""


def _pairs() -> str:
    """What may touch: balls everything, the pusher balls alone.

    Each pair is named, with its margin, since MuJoCo from 3.5 on adds the margins of two geoms up and takes the larger one before.
    """
    fixed = ["table", *(f"wall{number}" for number in range(len(_WALLS)))]
    pairs = [(geom, ball) for geom in fixed for ball in COLOURS]
    pairs += [*itertools.combinations(COLOURS, 2), *((ball, "pusher") for ball in COLOURS)]
    return "".join(f'<pair geom1="{first}" geom2="{second}"/>' for first, second in pairs)


@cache
def shared_model() -> Any:
    """The compiled model, the same for all scenes of this process; nobody changes it."""
    return mujoco.MjModel.from_xml_string(_xml())


class Scene:
    """Balls that can be placed and pushed."""

    def __init__(self) -> None:
        self.model = shared_model()
        self.data = mujoco.MjData(self.model)

    @property
    def positions(self) -> Floats:
        """(5, 2) where the balls are."""
        return self.data.qpos[: 7 * N_BALLS].reshape(N_BALLS, 7)[:, :2].copy()

    @property
    def velocities(self) -> Floats:
        """(5, 2) how fast they move, m/s."""
        return self.data.qvel[: 6 * N_BALLS].reshape(N_BALLS, 6)[:, :2].copy()

    def place(self, positions: Floats) -> None:
        """Put the balls, at rest, at (5, 2) positions."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[: 7 * N_BALLS].reshape(N_BALLS, 7)[:, :2] = positions
        mujoco.mj_forward(self.model, self.data)

    def push(self, action: int, behind: Floats | None = None) -> None:
        """Put the pusher behind a ball and let its motor push for 0.4 s; balls go on as they moved before.

        Args:
            action: which ball, and where to.
            behind: (2,) where the ball is taken to be, if that is not where it is.
        """
        ball, direction = divmod(action, N_DIRECTIONS)
        force, data = PUSHES[direction], self.data
        data.qpos[-2:] = (self.positions[ball] if behind is None else behind) - OFFSET * force
        data.qvel[-2:] = 0.0
        data.ctrl[:] = force
        self._advance(PHYSICS_STEPS)

    def wait(self, physics_steps: int) -> None:
        """Let the balls roll out, with the pusher out of their way."""
        self.data.qpos[-2:], self.data.qvel[-2:], self.data.ctrl[:] = 5.0, 0.0, 0.0
        self._advance(physics_steps)

    def _advance(self, physics_steps: int) -> None:
        self.data.qacc_warmstart[:] = 0.0
        self.data.time = 0.0
        mujoco.mj_step(self.model, self.data, physics_steps)
