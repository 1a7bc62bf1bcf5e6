"""The kitchen as an environment of 59 numbers: `gymnasium-robotics`' own, with starts that vary and subtasks that stay done."""

# gymnasium-robotics and MuJoCo ship no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import io
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lago_skills.worlds.kitchen.kinematics import AHEAD, HANDLES, OBJECTS, handles, joints_at
from lago_skills.worlds.kitchen.subtasks import CLOSE_ENOUGH, SUBTASKS, Subtask
from lago_skills.worlds.offscreen import Camera

N_OBSERVED = 59
ARM_NOISE, FAR_ARM_NOISE = 0.05, 0.3
"""Radians by which each joint of the arm starts elsewhere; the second where starts are varied."""
MOVED = 0.3
"""Where starts are varied, the share of other objects that are where their subtask wants them."""
BEFORE_A_HANDLE, N_TRIES = 0.5, 10
"""Where starts are varied, the share with the hand before some handle, and how often such a pose is looked for."""
BEFORE_M, BEFORE_ROLL = np.array([[-0.08, -0.25, -0.08], [0.08, -0.06, 0.08]]), 0.8
"""Where it then is from the handle, metres, and how far it may be turned about the way it points, radians."""
LINGER_STEPS = 24
"""Where starts are varied, how long an episode goes on once all is done, so that it shows the hand let go and draw back."""


class Kitchen(gymnasium.Env[NDArray[np.float64], NDArray[np.float64]]):
    """Do the subtasks, in any order; each step's reward is how many it finished.

    `info` holds `subtasks`, how many have been done so far, `done`, which, and `success`, whether all have.

    Args:
        subtasks: what is to be done.
        varied: whether an episode starts with the arm elsewhere and other objects already moved, as between the subtasks of a sequence.
        render_mode: `rgb_array` draws.
    """

    def __init__(self, subtasks: tuple[Subtask, ...], *, varied: bool, render_mode: str | None = None) -> None:
        with contextlib.redirect_stderr(io.StringIO()):  # it prints a notice about other environments
            import gymnasium_robotics  # noqa: F401  # pyright: ignore[reportUnusedImport]  (it registers the environment)

        self.subtasks, self.varied = subtasks, varied
        theirs: Any = gymnasium.make(
            "FrankaKitchen-v1",
            tasks_to_complete=[each.theirs for each in subtasks],
            terminate_on_tasks_completed=False,
            remove_task_when_completed=False,
            disable_env_checker=True,
        ).unwrapped
        self.theirs = theirs
        self.model, self.data = theirs.model, theirs.data
        self.render_mode = render_mode
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": theirs.metadata["render_fps"]}
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (N_OBSERVED,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (9,), np.float64)
        self._camera: Camera | None = None
        self.done: set[str] = set()
        self.n_steps = self.n_steps_done = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Begin an episode; the same seed gives the same start. The option `joints`, (7,) radians, says where the arm starts.

        Raises:
            ValueError: another option, or joints that the arm cannot have; says which and their bounds.
        """
        super().reset(seed=seed)
        robot = self.theirs.robot_env
        self.theirs.reset(seed=int(self.np_random.integers(2**31)))
        qpos = robot.init_qpos.copy()
        noise = FAR_ARM_NOISE if self.varied else ARM_NOISE
        low, high = robot.robot_pos_bound[:7].T + np.array([[0.05], [-0.05]])
        qpos[:7] = np.clip(qpos[:7] + self.np_random.uniform(-noise, noise, 7), low, high)
        for other in SUBTASKS.values():
            if self.varied and other not in self.subtasks and self.np_random.random() < MOVED:
                qpos[9 + np.array(other.joints)] = other.goal
        if self.varied and self.np_random.random() < BEFORE_A_HANDLE:
            qpos[:7] = self._before_a_handle(qpos, low, high)
        if options:
            qpos[:7] = _joints_of(options, *robot.robot_pos_bound[:7].T)
        robot.set_state(qpos, np.zeros_like(robot.init_qvel))
        self.done, self.n_steps, self.n_steps_done = set(), 0, 0
        return self._observe(robot._get_obs()), self._info()

    def _before_a_handle(
        self, qpos: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(7,) joints with the hand before a handle, as it is between the subtasks of a sequence; as they were where no try is free of contacts."""
        robot, rng = self.theirs.robot_env, self.np_random
        for _ in range(N_TRIES):
            handle = handles(qpos[None, 9:])[0, int(rng.integers(len(HANDLES)))]
            place = handle + rng.uniform(*BEFORE_M)
            roll = Rotation.from_rotvec([0.0, rng.uniform(-BEFORE_ROLL, BEFORE_ROLL), 0.0]).as_matrix()
            found = joints_at(place, roll @ AHEAD, qpos[:7], low, high)
            if found is None:
                continue
            robot.set_state(np.concatenate([found, qpos[7:]]), np.zeros_like(robot.init_qvel))
            if not any(contact.dist < 0.0 and self.of_arm(contact) for contact in self.data.contact):
                return found
        return qpos[:7]

    def of_arm(self, contact: Any) -> bool:
        """Whether the arm is a part of a contact."""
        roots = (int(self.model.body_rootid[self.model.geom_bodyid[geom]]) for geom in contact.geom)
        return int(self.model.body_rootid[self.model.body("panda0_link7").id]) in roots

    def step(self, action: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """One control step of 0.08 s: velocities of seven joints and two fingers, as shares of 2 rad/s."""
        given, *_ = self.theirs.step(np.asarray(action, np.float64))
        self.n_steps += 1
        observation = np.asarray(given["observation"], np.float64)
        objects = self.data.qpos[9:].copy()
        before = len(self.done)
        for each in self.subtasks:
            if np.linalg.norm(objects[list(each.joints)] - np.array(each.goal)) < CLOSE_ENOUGH:
                self.done.add(each.id)
        all_done = len(self.done) == len(self.subtasks)
        self.n_steps_done += all_done
        over = self.n_steps_done > (LINGER_STEPS if self.varied else 0)
        return observation, float(len(self.done) - before), over, False, self._info()

    def render(self) -> Any:
        """An RGB picture (240, 320, 3) from behind the arm's right shoulder.

        Raises:
            RenderingUnavailable: this machine has no off-screen OpenGL.
        """
        if self._camera is None:
            self._camera = Camera(self.model, (-0.2, 0.5, 2.05), 2.2, 70.0, -35.0)
        return self._camera.picture(self.data)

    def close(self) -> None:
        """Free the simulator."""
        if self._camera is not None:
            self._camera.close()
        self.theirs.close()

    def _observe(self, robot: NDArray[np.float64]) -> NDArray[np.float64]:
        observation = np.asarray(self.theirs._get_obs(robot)["observation"], np.float64)
        assert observation[OBJECTS].shape == (21,)
        return observation

    def _info(self) -> dict[str, Any]:
        done = [each.id for each in self.subtasks if each.id in self.done]
        return {"subtasks": len(done), "done": done, "success": len(done) == len(self.subtasks)}


def _joints_of(options: dict[str, Any], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """(7,) angles of the option `joints`, if the arm can have them."""
    if set(options) != {"joints"}:
        raise ValueError(
            f"found reset options {sorted(options)}; expected 'joints', (7,) radians, or none; correct them"
        )
    joints = np.asarray(options["joints"], np.float64)
    if joints.shape != (7,) or not np.isfinite(joints).all():
        raise ValueError(f"found joints {options['joints']!r}; expected (7,) finite angles in radians; correct them")
    beyond = np.flatnonzero((joints < low) | (joints > high))
    if len(beyond):
        at = int(beyond[0])
        raise ValueError(
            f"found joint {at} at {joints[at]:.3f} rad, out of the arm's reach; expected {low[at]:.3f} to {high[at]:.3f}; correct it"
        )
    return joints
