"""One environment as everything inside sees it: flat observations, actions in [-1, 1]^A or numbered from 0, a number as reward, a limit of steps."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, SupportsFloat, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import StudyError
from lago_skills.worlds.gym.old_gym import reset_values, step_values
from lago_skills.worlds.gym.read_spaces import read_actions, read_observations
from lago_skills.worlds.gym.spaces import ActionCodec, ObservationCodec
from lago_skills.worlds.success import EpisodeSoFar

Flatten = Callable[[Any], NDArray[Any]]
"""One observation of the environment -> (S,) numbers, where a grounding computes them."""


class Adapted(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment behind codecs; `raw` is its latest observation as it came.

    Rewards may be arrays or lists of one number. A step of four values, or a reset of one, as older versions of Gym have them, is read as such.
    A crash at close is reported, and nothing waits for it.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        observations: ObservationCodec,
        actions: ActionCodec,
        horizon_steps: int | None = None,
        flatten: Flatten | None = None,
    ) -> None:
        super().__init__(env)
        self.observations, self.actions, self.horizon_steps = observations, actions, horizon_steps
        self._flatten, self._steps = flatten, 0
        self.raw: Any = None
        size = observations.size
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)
        self.action_space = actions.inner_space()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode: (S,) observation and info."""
        self.raw, info = reset_values(self.env.reset(seed=seed, options=options))
        self._steps = 0
        return self._seen(), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One control step of an action as it is inside."""
        given = step_values(self.env.step(self.actions.decoded(action)))
        self.raw, reward, terminated, truncated, info = given
        self._steps += 1
        late = self.horizon_steps is not None and self._steps >= self.horizon_steps
        return self._seen(), as_number(reward), terminated, truncated or (late and not terminated), info

    def close(self) -> None:
        """Free the environment, whatever it does meanwhile."""
        try:
            self.env.close()
        except Exception as error:  # whatever a simulator may raise
            print(  # noqa: T201
                f"lago: the environment failed when it was closed ({type(error).__name__}: {error}); nothing depends on it",
                file=sys.stderr,
            )

    def _seen(self) -> NDArray[Any]:
        if self._flatten is None:
            return self.observations.flat(self.raw)
        flat = np.asarray(self._flatten(self.raw))
        if flat.shape != (self.observations.size,):
            raise StudyError(
                f"grounding.flatten: found numbers of shape {flat.shape}; expected ({self.observations.size},), the grounding's observation_size; correct one of them"
            )
        return flat


class EndsSparse(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Reward 1 at the first success, which ends the episode, and 0 else."""

    def __init__(self, env: gymnasium.Env[Any, Any], success: Callable[[EpisodeSoFar], bool]) -> None:
        super().__init__(env)
        self._success, self._so_far = success, EpisodeSoFar()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._so_far = EpisodeSoFar()
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One control step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._so_far.add(float(reward), info, terminated=terminated, truncated=truncated)
        solved = self._success(self._so_far)
        return observation, float(solved), terminated or solved, truncated and not solved, info


def adapted_inside(env: gymnasium.Env[Any, Any] | None) -> Adapted | None:
    """The environment behind codecs that others are wrapped around; None where there is none."""
    while env is not None and not isinstance(env, Adapted):
        env = env.env if isinstance(env, gymnasium.Wrapper) else None
    return env


def as_number(reward: SupportsFloat | Sequence[float] | NDArray[Any]) -> float:
    """A reward as a number; arrays and lists of one count as that one.

    Raises:
        StudyError: it is several numbers, or none.
    """
    if isinstance(reward, (int, float)):
        return float(reward)
    numbers = np.asarray(reward)
    if numbers.size != 1 or numbers.dtype.kind not in "fiub":
        raise StudyError(
            f"reward: found {reward!r}; expected one number; wrap the environment in one that adds up or chooses"
        )
    return float(numbers.reshape(-1)[0])


def is_canonical(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether an environment's spaces are those that everything inside works with."""
    observations: gymnasium.Space[Any] = env.observation_space
    actions: gymnasium.Space[Any] = env.action_space
    if not (isinstance(observations, gymnasium.spaces.Box) and len(observations.shape) == 1):
        return False
    if isinstance(actions, gymnasium.spaces.Discrete):
        return bool(actions.start == 0)
    if not (isinstance(actions, gymnasium.spaces.Box) and len(actions.shape) == 1 and actions.dtype.kind == "f"):
        return False
    return bool((actions.low == -1.0).all() and (actions.high == 1.0).all())


def adapt(
    env: gymnasium.Env[Any, Any],
    observation: Sequence[str] = (),
    *,
    action_range: tuple[float | Sequence[float], float | Sequence[float]] | None = None,
    flatten_actions: bool = False,
    horizon_steps: int | None = None,
) -> Adapted:
    """Any Gymnasium environment with flat observations and actions in [-1, 1]^A, or numbered from 0.

    Args:
        env: the environment.
        observation: of a dictionary, the entries that make the observation, in order: "goal", "state/pose", "hand = observation[0:3]".
        action_range: smallest and largest action, where the action space has no finite bounds or wider ones than make sense.
        flatten_actions: whether several discrete actions are numbered as one, and a dictionary of boxes is joined.
        horizon_steps: episodes are truncated after so many steps.

    Raises:
        StudyError: spaces that it would have to guess about, or cannot use; says which argument decides.
    """
    observations = read_observations(env.observation_space, observation, "observation")
    actions = read_actions(env.action_space, action_range, flatten=flatten_actions, settings="arguments of adapt")
    return Adapted(env, observations, actions, horizon_steps)


def adapted(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """An environment as it is where its spaces are canonical, and behind codecs where nothing has to be guessed.

    Raises:
        StudyError: something has to; `adapt` takes it.
    """
    if is_canonical(env):
        return env
    try:
        return cast("gymnasium.Env[Any, Any]", adapt(env))
    except StudyError as error:
        raise StudyError(f"{error}; of an environment of one's own: lago_skills.adapt(env, ...)") from error
