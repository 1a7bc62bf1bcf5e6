"""Environments of a training run: side by side, checked at every step, restarted when they crash, and able to go back to where they were."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from lago_skills.core import ActionSpace
from lago_skills.errors import StudyError, TrainingStopped

MakeEnv = Callable[[], "gymnasium.Env[Any, Any]"]
Vectorize = Literal["sync", "async"]
MAX_CRASHES = 20
"""An environment that crashes more often than this in one run is not restarted again."""
CLOSE_TIMEOUT_S = 10.0
"""Environments in processes of their own that are not done with a step by then are terminated."""
LARGEST = float(np.finfo(np.float32).max)
"""What is learned from is kept as float32."""


class Watched(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One environment, made by a function so that it can be made again.

    A crash ends the episode as a truncation (`info["crashed"]`, with the observation of before) and is counted; one that crashes at reset is made
    again. The seed and the actions of the running episode are kept: `reset(seed=s, options={"replay": actions, "counts": counts})` goes back to
    where they led, exactly so where the environment is deterministic.
    """

    def __init__(self, make: MakeEnv, name: str = "environment") -> None:
        super().__init__(make())
        self.make, self.name = make, name
        self.n_crashes = self.n_steps = 0
        self.seed: int | None = None
        self.actions: list[Any] = []
        self._last: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, or go back into one.

        Raises:
            TrainingStopped: an observation that is not finite; or the environment has crashed too often.
        """
        rest = dict(options or {})
        replay = rest.pop("replay", ())
        self.n_steps, self.n_crashes = rest.pop("counts", (self.n_steps, self.n_crashes))
        self.seed = seed
        while True:
            try:
                observation, info = self._go(replay, rest or None)
                break
            except StudyError:  # nothing that another try would mend
                raise
            except Exception as error:  # whatever a simulator may raise
                self._make_again(error, "at reset")
        self._check(observation, "observation at reset")
        self._last = observation
        return observation, info

    def _go(self, replay: Sequence[Any], options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=self.seed, options=options)
        self.actions = []
        for action in replay:
            observation, _, _, _, info = self.env.step(action)
            self.actions.append(action)
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
        except StudyError:  # nothing that another try would mend
            raise
        except Exception as error:  # whatever a simulator may raise
            self._make_again(error, f"at step {self.n_steps}")
            return (
                self._last,
                0.0,
                False,
                True,
                {"crashed": True, "crash": f"{type(error).__name__}: {error}", "success": False},
            )
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

    def _make_again(self, error: Exception, when: str) -> None:
        """Count a crash, and put a new environment in the place of the crashed one."""
        self.n_crashes += 1
        if self.n_crashes > MAX_CRASHES:
            raise TrainingStopped(
                f"{self.name}: found {self.n_crashes} crashes, the last {when} ({type(error).__name__}: {error}); "
                f"expected at most {MAX_CRASHES}; correct the environment, then run the same command again to go on"
            ) from error
        try:
            self.env.close()
        except Exception as closing:  # it has crashed already; a new one takes its place
            self.close_problem = closing
        try:
            self.env = self.make()
        except Exception as making:  # a server that is not back yet, say
            self._make_again(making, when)

    def _check(self, value: Any, what: str) -> None:
        if isinstance(value, float) and abs(value) <= LARGEST:
            return
        numbers = np.asarray(value)
        good = np.abs(numbers) <= LARGEST
        if good.all():
            return
        index = tuple(int(i) for i in np.argwhere(~good)[0])
        where = f" at index {list(index)}" if index else ""
        raise TrainingStopped(
            f"{self.name}, {what}: found {numbers[index]}{where}; expected finite numbers that float32 can hold; correct the environment, then run the "
            "same command again"
        )


class Envs:
    """Environments side by side, each reset only when told to. "async" gives each a process of its own.

    Raises:
        StudyError: an action or observation space that the learners here do not know.
    """

    def __init__(self, makes: Sequence[MakeEnv], names: Sequence[str], kind: Vectorize = "sync") -> None:
        functions = [partial(Watched, make, name) for make, name in zip(makes, names, strict=True)]
        cls: Any = SyncVectorEnv if kind == "sync" else AsyncVectorEnv
        self._vector: Any = cls(functions, autoreset_mode=AutoresetMode.DISABLED, copy=False)  # copied below
        self.n_envs, self._failed = len(functions), False
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
        return np.array(self._asked(lambda: self._vector.reset(seed=list(seeds)))[0])

    def restart(self, number: int, seed: int, **options: Any) -> NDArray[Any]:
        """Reset one, with options of `Watched.reset`; returns its observation (S,)."""
        mask = np.zeros(self.n_envs, np.bool_)
        mask[number] = True
        seeds: list[int | None] = [None] * self.n_envs
        seeds[number] = seed
        observations, _ = self._asked(lambda: self._vector.reset(seed=seeds, options={"reset_mask": mask, **options}))
        return np.array(observations[number])

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], list[dict[str, Any]]]:
        """(N, A) or (N,) actions -> observations (N, S), rewards, terminations and truncations (N,), and each one's info."""
        observations, rewards, terminated, truncated, infos = self._asked(lambda: self._vector.step(actions))
        apart = [info_of(infos, number) for number in range(self.n_envs)]
        return np.array(observations), np.array(rewards), np.array(terminated), np.array(truncated), apart

    def go_back(
        self, number: int, seed: int, actions: Sequence[Any], counts: tuple[int, int], observation: NDArray[Any]
    ) -> bool:
        """Bring one back into an episode by repeating its actions; whether that led to the observation (S,) it had led to before."""
        reached = self.restart(number, seed, replay=actions, counts=counts)
        if np.array_equal(reached, observation):
            return True
        print(  # noqa: T201
            f"lago: environment {number}: found another observation than before after the same {len(actions)} actions from seed {seed}; "
            "expected the same from the same seed; its episode is left, and the run goes on with the next one",
            file=sys.stderr,
        )
        return False

    def positions(self) -> list[tuple[int | None, NDArray[Any]]]:
        """Seed and actions of each one's running episode."""
        return list(self._vector.call("position"))

    def counts(self) -> list[tuple[int, int]]:
        """Steps and crashes of each."""
        return list(self._vector.call("counts"))

    def _asked(self, call: Callable[[], Any]) -> Any:
        """What a call of all environments answers; after one that failed, nobody waits for the others when they are closed."""
        self._failed = True
        answer = call()
        self._failed = False
        return answer

    def close(self) -> None:
        """Free them."""
        if isinstance(self._vector, AsyncVectorEnv):
            self._vector.close(timeout=CLOSE_TIMEOUT_S, terminate=self._failed)
        else:
            self._vector.close()


def info_of(infos: dict[str, Any], number: int) -> dict[str, Any]:
    """What the infos of vectorised environments say of one of them; infos may hold dictionaries of their own.

    Source: gymnasium.vector.VectorEnv, where `_name` is the mask of `name`.
    """
    return {
        name: info_of(value, number) if isinstance(value, dict) else value[number]
        for name, value in infos.items()
        if f"_{name}" in infos and infos[f"_{name}"][number]
    }


def actions_of(space: gymnasium.Space[Any]) -> ActionSpace:
    """Kind and number of actions of a space that `check_spaces` lets pass."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return ActionSpace(int(space.n), discrete=True)
    assert space.shape is not None
    return ActionSpace(int(space.shape[0]))


def check_spaces(observations: gymnasium.Space[Any], actions: gymnasium.Space[Any]) -> None:
    """Refuse spaces that are neither a flat box of observations nor actions in [-1, 1]^A or numbered from 0.

    Raises:
        StudyError: naming the space and what mends it.
    """
    flat = isinstance(observations, gymnasium.spaces.Box) and len(observations.shape) == 1
    inside = False
    if isinstance(actions, gymnasium.spaces.Discrete):
        inside = bool(actions.start == 0)
    elif isinstance(actions, gymnasium.spaces.Box):
        inside = len(actions.shape) == 1 and bool(np.all(actions.low == -1.0) and np.all(actions.high == 1.0))
    if not (flat and inside):
        raise StudyError(
            f"spaces: found observations {observations} and actions {actions}; expected a Box of one axis, and a Box of one axis from -1 to 1 or Discrete from 0; "
            "wrap the environment with lago_skills.adapt(env)"
        )
