"""Environments of a training run: side by side, checked at every step, restarted when they crash, and able to go back to where they were."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from lago_skills.errors import StudyError, TrainingStopped

MakeEnv = Callable[[], "gymnasium.Env[Any, Any]"]
MAX_CRASHES = 20
"""An environment that crashes more often than this in one run is not restarted again."""


class Watched(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One environment, made by a function so that it can be made again.

    A crash ends the episode as a truncation (`info["crashed"]`) and is counted. The seed and the actions of the running episode are kept:
    `reset(seed=s, options={"replay": actions, "counts": counts})` goes back to where they led, exactly so where the environment is deterministic.
    """

    def __init__(self, make: MakeEnv, name: str = "environment") -> None:
        super().__init__(make())
        self.make, self.name = make, name
        self.n_crashes = self.n_steps = 0
        self.seed: int | None = None
        self.actions: list[Any] = []
        self._last: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, or go back into one."""
        rest = dict(options or {})
        replay = rest.pop("replay", ())
        self.n_steps, self.n_crashes = rest.pop("counts", (self.n_steps, self.n_crashes))
        self.seed, self.actions = seed, []
        observation, info = self.env.reset(seed=seed, options=rest or None)
        self._check(observation, "observation at reset")
        self._last = observation
        for action in replay:
            observation, _, _, _, info = self.env.step(action)
            self.actions.append(action)
            self._last = observation
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance one step.

        Raises:
            TrainingStopped: a reward or an observation that is not finite; or the environment has crashed too often.
        """
        self.n_steps += 1
        self.actions.append(np.array(action))
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:  # whatever a simulator may raise
            return self._restart(error)
        self._check(observation, f"observation at step {self.n_steps}")
        self._check(reward, f"reward at step {self.n_steps}")
        self._last = observation
        return observation, float(reward), terminated, truncated, info

    def position(self) -> tuple[int | None, NDArray[Any]]:
        """Seed and actions of the running episode."""
        return self.seed, np.array(self.actions)

    def counts(self) -> tuple[int, int]:
        """Steps and crashes so far."""
        return self.n_steps, self.n_crashes

    def _restart(self, error: Exception) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.n_crashes += 1
        if self.n_crashes > MAX_CRASHES:
            raise TrainingStopped(
                f"{self.name}: found {self.n_crashes} crashes, the last at step {self.n_steps} ({type(error).__name__}: {error}); "
                f"expected at most {MAX_CRASHES}; correct the environment, then run the same command again to go on"
            ) from error
        try:
            self.env.close()
        except Exception as closing:  # it has crashed already; a new one takes its place
            self.close_problem = closing
        self.env = self.make()
        self.env.reset(seed=self.seed)
        info = {"crashed": True, "crash": f"{type(error).__name__}: {error}"}
        return self._last, 0.0, False, True, info

    def _check(self, value: Any, what: str) -> None:
        numbers = np.asarray(value)
        if np.isfinite(numbers).all():
            return
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(numbers))[0])
        place = f" at index {list(index)}" if index else ""
        raise TrainingStopped(
            f"{self.name}, {what}: found {numbers[index]}{place}; expected finite numbers; correct the environment, then run the "
            "same command again"
        )


class Envs:
    """Environments side by side, each reset only when told to. "async" gives each a process of its own.

    Raises:
        StudyError: an action or observation space that the learners here do not know.
    """

    def __init__(self, makes: Sequence[MakeEnv], names: Sequence[str], kind: Literal["sync", "async"] = "sync") -> None:
        functions = [partial(Watched, make, name) for make, name in zip(makes, names, strict=True)]
        cls: Any = SyncVectorEnv if kind == "sync" else AsyncVectorEnv
        self._vector: Any = cls(functions, autoreset_mode=AutoresetMode.DISABLED)
        self.n_envs = len(functions)
        try:
            check_spaces(self._vector.single_observation_space, self._vector.single_action_space)
        except StudyError:
            self.close()
            raise

    @property
    def action_space(self) -> gymnasium.spaces.Box | gymnasium.spaces.Discrete:
        """Of one environment."""
        return self._vector.single_action_space

    def reset(self, seeds: Sequence[int]) -> NDArray[Any]:
        """Reset all; returns (N, S) observations."""
        return np.array(self._vector.reset(seed=list(seeds))[0])

    def restart(self, number: int, seed: int, **options: Any) -> NDArray[Any]:
        """Reset one, with options of `Watched.reset`; returns its observation (S,)."""
        mask = np.zeros(self.n_envs, np.bool_)
        mask[number] = True
        seeds: list[int | None] = [None] * self.n_envs
        seeds[number] = seed
        observations, _ = self._vector.reset(seed=seeds, options={"reset_mask": mask, **options})
        return np.array(observations[number])

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], list[dict[str, Any]]]:
        """(N, A) or (N,) actions -> observations (N, S), rewards, terminations and truncations (N,), and each one's info."""
        observations, rewards, terminated, truncated, infos = self._vector.step(actions)
        apart = [
            {name: value[i] for name, value in infos.items() if f"_{name}" in infos and infos[f"_{name}"][i]}
            for i in range(self.n_envs)
        ]
        return np.array(observations), np.array(rewards), np.array(terminated), np.array(truncated), apart

    def positions(self) -> list[tuple[int | None, NDArray[Any]]]:
        """Seed and actions of each one's running episode."""
        return list(self._vector.call("position"))

    def counts(self) -> list[tuple[int, int]]:
        """Steps and crashes of each."""
        return list(self._vector.call("counts"))

    def close(self) -> None:
        """Free them."""
        self._vector.close()


def check_spaces(observations: gymnasium.Space[Any], actions: gymnasium.Space[Any]) -> None:
    """Refuse spaces that are neither a flat box of observations nor bounded or discrete actions.

    Raises:
        StudyError: naming the space and the wrapper that mends it.
    """
    if not isinstance(observations, gymnasium.spaces.Box) or len(observations.shape) != 1:
        raise StudyError(
            f"observation space: found {observations}; expected a Box of one axis; wrap the environment in "
            "gymnasium.wrappers.FlattenObservation"
        )
    if isinstance(actions, gymnasium.spaces.Discrete):
        if actions.start != 0:
            raise StudyError(
                f"action space: found {actions}; expected Discrete from 0; wrap the environment to shift it"
            )
        return
    if not isinstance(actions, gymnasium.spaces.Box) or len(actions.shape) != 1:
        raise StudyError(
            f"action space: found {actions}; expected Discrete, or a Box of one axis; wrap the environment"
        )
    if not (np.all(actions.low == -1.0) and np.all(actions.high == 1.0)):
        raise StudyError(
            f"action space: found bounds {actions.low.min():.3g} to {actions.high.max():.3g}; expected -1 to 1; wrap the environment in "
            "gymnasium.wrappers.RescaleAction(env, -1.0, 1.0)"
        )
