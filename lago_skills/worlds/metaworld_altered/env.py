"""Episodes of the altered tasks: Meta-World's robot, observation and protocol around an edited scene."""

# MuJoCo ships no types, and nor does Meta-World.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from lago_skills.core import Task
from lago_skills.worlds.metaworld.env import MetaWorldEnv
from lago_skills.worlds.metaworld_altered.mechanics import MECHANICS, THING, WANTED
from lago_skills.worlds.offscreen import Camera


class AlteredEnv(MetaWorldEnv):
    """One altered task. It is solved, and its reward is 1, when the object is near its own goal; Meta-World's reward plays no part."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._mechanics = MECHANICS[task.id]
        env: Any = self._env
        spec = mujoco.MjSpec.from_file(env.model_name)
        self._mechanics.edit(spec)
        spec.worldbody.add_site(name=WANTED, size=[0.015, 0.0, 0.0], rgba=[0.0, 0.8, 0.0, 0.5])
        env.model = spec.compile()
        env.data = mujoco.MjData(env.model)
        env.reset_mocap_welds()
        body = env.model.site(THING).bodyid.item()
        self._joint = int(env.model.body_jntadr[body] + env.model.body_jntnum[body] - 1)
        env._random_reset_space = Box(np.array(self._mechanics.low), np.array(self._mechanics.high), dtype=np.float64)
        # Meta-World clips the goal that it tells to where its own may be.
        env.goal_space = Box(-np.inf, np.inf, (3,), dtype=np.float64)
        vars(env).pop("sawyer_observation_space", None)
        if self._mechanics.hand is not None:
            env.hand_init_pos = np.array(self._mechanics.hand)
        env._get_pos_objects = self._thing
        self._place, env.reset_model = env.reset_model, self._start
        env.evaluate_state = self._judge

    @property
    def moved(self) -> float:
        """How far the altered joint is from its start, metres or radians."""
        return float(self._env.data.joint(self._joint).qpos.item()) - self._mechanics.start

    def render(self) -> NDArray[np.uint8]:
        """An RGB picture (240, 320, 3) from the side of the table on which it happens.

        Raises:
            RenderingUnavailable: this machine has no off-screen OpenGL.
        """
        if self._camera is None:
            self._camera = Camera(self._env.model, (0.0, 0.68, 0.1), 1.15, self._mechanics.seen_from, -30.0)
        return super().render()

    def _thing(self) -> NDArray[np.float64]:
        return np.array(self._env.data.site(THING).xpos)

    def _start(self) -> NDArray[np.float64]:
        """Place things as Meta-World does, then what is other here; the observation at the start."""
        env: Any = self._env
        self._place()
        drawn = np.array(env._last_rand_vec)
        joint = env.data.joint(self._joint)
        joint.qpos[:], joint.qvel[:] = self._mechanics.start, 0.0
        self._mechanics.arrange(env.data, drawn)
        mujoco.mj_forward(env.model, env.data)
        env._target_pos = self._thing() + self._mechanics.way
        env.model.site(WANTED).pos = env._target_pos
        for name, _ in env._target_site_config:  # Meta-World's own goal
            env.model.site(name).rgba[3] = 0.0
        return env._get_obs()

    def _judge(self, observation: NDArray[np.float64], action: NDArray[np.float32]) -> tuple[float, dict[str, float]]:
        """In place of Meta-World's: its reward of this goal would be none."""
        apart = float(np.linalg.norm(self._thing() - self._env._target_pos))
        return 0.0, {"success": float(apart <= self._mechanics.near_m)}
