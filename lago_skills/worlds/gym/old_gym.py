"""Environments of Gym, which Gymnasium has replaced, or of no such class at all: read by what they do."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces

from lago_skills.errors import StudyError

PARTS = ("observation_space", "action_space", "reset", "step")
_SPACES: dict[str, Callable[[Any], spaces.Space[Any]]] = {
    "Box": lambda old: spaces.Box(
        np.asarray(old.low, old.dtype), np.asarray(old.high, old.dtype), dtype=old.dtype.type
    ),
    "Discrete": lambda old: spaces.Discrete(int(old.n), start=int(getattr(old, "start", 0))),
    "MultiDiscrete": lambda old: spaces.MultiDiscrete(old.nvec),
    "MultiBinary": lambda old: spaces.MultiBinary(old.n),
    "Dict": lambda old: spaces.Dict({key: as_space(inside) for key, inside in old.spaces.items()}),
    "Tuple": lambda old: spaces.Tuple([as_space(inside) for inside in old.spaces]),
}


def reset_values(given: Any) -> tuple[Any, dict[str, Any]]:
    """Observation and info of a reset, whichever version of Gym it is of."""
    if _is_pair(given):
        return given[0], given[1]
    return given, {}


def _is_pair(given: Any) -> bool:
    return isinstance(given, tuple) and len(cast("tuple[Any, ...]", given)) == 2 and isinstance(given[1], dict)


def step_values(given: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
    """Observation, reward, terminated, truncated and info of a step, whichever version of Gym it is of."""
    if len(given) == 4:  # as Gym had it before 0.26
        observation, reward, done, info = given
        truncated = bool(info.get("TimeLimit.truncated", False))
        return observation, reward, bool(done) and not truncated, truncated, info
    observation, reward, terminated, truncated, info = given
    return observation, reward, bool(terminated), bool(truncated), info


def as_space(old: Any) -> spaces.Space[Any]:
    """A space of Gym as one of Gymnasium.

    Raises:
        StudyError: it is of a kind that has no counterpart.
    """
    if isinstance(old, spaces.Space):
        return cast("spaces.Space[Any]", old)
    for kind in type(old).__mro__:
        if kind.__name__ in _SPACES:
            return _SPACES[kind.__name__](old)
    raise StudyError(
        f"found the space {old!r} of {type(old)}; expected one of {', '.join(_SPACES)}; declare one of them"
    )


class OldGym(gymnasium.Env[Any, Any]):
    """An environment of Gym: seeded by `seed()` where `reset` takes none, with steps of five values."""

    def __init__(self, old: Any) -> None:
        self.old = old
        self.observation_space, self.action_space = as_space(old.observation_space), as_space(old.action_space)
        self.metadata = {"render_modes": [], **(getattr(old, "metadata", None) or {})}
        self.render_mode = getattr(old, "render_mode", None)
        accepted = inspect.signature(old.reset).parameters
        anything = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in accepted.values())
        self._accepted = {name for name in ("seed", "options") if anything or name in accepted}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Raises:
            StudyError: options that its reset does not take.
        """
        if options and "options" not in self._accepted:
            raise StudyError(
                f"found reset options {options}, and a reset of {type(self.old)} that takes none; expected one that does; leave reset_options out"
            )
        given: dict[str, Any] = {"options": options} if options else {}
        if "seed" in self._accepted:
            given["seed"] = seed
        elif seed is not None and hasattr(self.old, "seed"):
            self.old.seed(seed)
        return reset_values(self.old.reset(**given))

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One control step."""
        return step_values(self.old.step(action))

    def render(self) -> Any:
        """A picture, where it draws any."""
        return self.old.render()

    def close(self) -> None:
        """Free it."""
        if hasattr(self.old, "close"):
            self.old.close()


def as_gymnasium(env: Any) -> gymnasium.Env[Any, Any]:
    """An environment of Gymnasium as it is, another one as such.

    Raises:
        StudyError: it is no environment.
    """
    if isinstance(env, gymnasium.Env):
        return cast("gymnasium.Env[Any, Any]", env)
    if missing := [part for part in PARTS if not hasattr(env, part)]:
        raise StudyError(
            f"found {type(env)} without {', '.join(missing)}; expected an environment of Gymnasium; name the class or function that makes one"
        )
    return OldGym(env)
