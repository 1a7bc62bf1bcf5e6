"""The only door to Meta-World and MuJoCo: episodes with the protocol's rules, and the scripted demonstrators."""

# Meta-World ships no types; its values are wrapped in typed arrays here and nowhere else.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from lago_skills.core import Task
from lago_skills.errors import StudyError
from lago_skills.worlds.metaworld.step import quicken
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.offscreen import Camera

Reward = Literal["sparse", "dense", "delta"]

GOAL = slice(36, 39)
"""Where an observation has the goal."""


class MetaWorldEnv(gymnasium.Env[NDArray[np.float64], NDArray[np.float32]]):
    """One Meta-World v3 task with the protocol's rules.

    Success is the package's own success flag at any step; the episode terminates there and is truncated at the
    task's horizon. `reset(seed=s)` fixes object and goal positions: the same seed gives the same start state.
    Rewards: "sparse" is 1 at success and 0 else; "dense" is the package's; "delta" is its difference, 10 at success.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 40}  # noqa: RUF012 (Gymnasium's own convention)

    def __init__(self, task: Task, reward: Reward = "sparse") -> None:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE as ENVIRONMENTS

        name = task.env_id.removeprefix("metaworld/") + "-goal-observable"
        if name not in ENVIRONMENTS:
            raise StudyError(
                f"unknown Meta-World environment {task.env_id!r}; expected metaworld/<task>-v3; fix the task"
            )
        self.task = task
        self.reward_kind: Reward = reward
        self.render_mode = "rgb_array"
        self._camera: Camera | None = None
        self._env: Any = ENVIRONMENTS[name](seed=0)
        self._env._freeze_rand_vec = False  # draw the start state anew at each reset ...
        self._env.seeded_rand_vec = True  # ... from the generator that seed() sets
        quicken(self._env)
        stated = self._env.observation_space
        low, high = stated.low.copy(), stated.high.copy()
        low[GOAL], high[GOAL] = -np.inf, np.inf  # the package states zeros, as if the goal were hidden
        self.observation_space = cast(
            "gymnasium.Space[NDArray[np.float64]]", gymnasium.spaces.Box(low, high, dtype=stated.dtype)
        )
        self.action_space = cast("gymnasium.Space[NDArray[np.float32]]", self._env.action_space)
        self._steps = 0
        self._dense = 0.0
        self._seeds = np.random.default_rng(0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Start an episode; without a seed, the next start state of the stream that the last seed began."""
        super().reset(seed=seed)
        if seed is not None:
            self._seeds = np.random.default_rng(seed)
            start = seed
        else:
            start = int(self._seeds.integers(2**31))
        self._env.seed(start)
        observation, _ = self._env.reset()
        self._steps = 0
        self._dense = 0.0
        return observation, {"start_seed": start}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """Advance one control step; `info["success"]` is the package's flag as a bool."""
        observation, dense, _, _, info = self._env.step(np.clip(action, -1.0, 1.0).astype(np.float32))
        self._steps += 1
        success = bool(info["success"])
        if self.reward_kind == "sparse":
            reward = float(success)
        elif self.reward_kind == "dense":
            reward = float(dense)
        else:
            reward = 10.0 if success else float(dense) - self._dense
        self._dense = float(dense)
        truncated = not success and self._steps >= self.task.horizon_steps
        return observation, reward, success, truncated, {"success": success}

    def render(self) -> NDArray[np.uint8]:
        """An RGB picture (240, 320, 3) from in front of the table.

        Raises:
            RenderingUnavailable: this machine has no off-screen OpenGL.
        """
        if self._camera is None:
            self._camera = Camera(self._env.model, (0.0, 0.65, 0.12), 1.15, 215.0, -28.0)
        return self._camera.picture(self._env.data)

    def tip_position(self) -> NDArray[np.float64]:
        """The simulator's own point between the finger tips (3,); tests hold the grounding against it."""
        return np.asarray(self._env.tcp_center, dtype=np.float64)

    def simulated(self) -> dict[str, NDArray[np.float64]]:
        """The simulator's own state: `object`, `goal` and, for three tasks, `object2` (3,); `opening` (1,), 0 to 1."""
        data = self._env.data
        apart = np.linalg.norm(data.body("rightclaw").xpos - data.body("leftclaw").xpos)
        things = np.array(self._env._get_pos_objects(), dtype=np.float64)
        positions = {"object": things[:3], "goal": np.array(self._env._target_pos, dtype=np.float64)}
        if len(things) > 3:
            positions["object2"] = things[3:6]
        return {**positions, "opening": np.clip(np.array([apart / 0.1], dtype=np.float64), 0.0, 1.0)}

    def close(self) -> None:
        """Free the simulator: its 20 MB at once, since cycles of references would keep them until the collector comes by."""
        inside = vars(self._env.unwrapped)
        if not inside:
            return
        if self._camera is not None:
            self._camera.close()
        self._env.close()
        inside.clear()


def make_env(task_id: str, reward: Reward = "sparse") -> MetaWorldEnv:
    """The environment of a task by its name: what the specification in an exported dataset calls.

    Raises:
        StudyError: no such task.
    """
    return MetaWorldEnv(find_task(task_id), reward)


def env_spec(task: Task) -> EnvSpec:
    """A Gymnasium specification from which `gymnasium.make` builds this very environment, in JSON too."""
    entry_point = f"{make_env.__module__}:{make_env.__name__}"
    return EnvSpec(
        id=f"lago/{task.id}-v0",
        entry_point=entry_point,
        kwargs={"task_id": task.id},
        disable_env_checker=True,  # it warns of entries of the observation that are always 0
    )


def scripted(task: Task) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """The package's scripted policy of a task: (S,) observation -> (A,) action, clipped to [-1, 1]. It remembers nothing."""
    from metaworld.policies import ENV_POLICY_MAP

    policy = ENV_POLICY_MAP[task.env_id.removeprefix("metaworld/")]()

    def act(observation: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(np.asarray(policy.get_action(observation), dtype=np.float64), -1.0, 1.0)

    return act
