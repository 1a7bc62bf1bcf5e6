"""Environments as their packages make them, and a user's own parts of a world by import path."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, cast

import gymnasium
from gymnasium.envs.registration import EnvSpec

from lago_skills.errors import StudyError
from lago_skills.worlds.grounding import Grounding
from lago_skills.worlds.gym.config import GymConfig
from lago_skills.worlds.gym.old_gym import as_gymnasium
from lago_skills.worlds.imports import imported, imported_for

GROUNDING_PARTS = (
    "observation_size",
    "action_space",
    "vocabulary",
    "world",
    "heading_size",
    "variation",
    "synonyms",
    "nouns",
    "read",
)


class WithResetOptions(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment of which each reset has these options, beside those that it is given."""

    def __init__(self, env: gymnasium.Env[Any, Any], options: Mapping[str, Any]) -> None:
        super().__init__(env)
        self._options = dict(options)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        return self.env.reset(seed=seed, options={**self._options, **(options or {})})


def make_environment(
    config: GymConfig, env_id: str, kwargs: Mapping[str, Any], reset_options: Mapping[str, Any] | None = None
) -> gymnasium.Env[Any, Any]:
    """What Gymnasium makes of an id, or what the class or function at `module:NAME` makes, in the wrappers of the settings.

    `kwargs` and `reset_options` are a task's, beside those of the settings.

    Raises:
        Exception: whatever its package raises.
    """
    for module in config.imports:
        importlib.import_module(module)
    env = _unwrapped(env_id, {**config.kwargs, **kwargs})
    for path in config.wrappers:
        env = imported(path)(env)
    options = {**config.reset_options, **(reset_options or {})}
    return WithResetOptions(env, options) if options else env


def _unwrapped(env_id: str, kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    module, colon, name = env_id.partition(":")
    if colon:
        maker = getattr(importlib.import_module(module), name, None)
        if callable(maker):
            return as_gymnasium(maker(**kwargs))
    return gymnasium.make(env_id, disable_env_checker=True, **kwargs)


def registered_spec(env_id: str) -> EnvSpec | None:
    """The specification of a Gymnasium id; None where nobody has registered it here."""
    try:
        return gymnasium.spec(env_id)
    except Exception:  # a name that is no id, a module that is not installed: nobody has registered it
        return None


def load_policy(path: str) -> Callable[[Any], Any]:
    """The demonstrator at an import path: a function, or a class that is made without arguments.

    Raises:
        StudyError: it cannot be imported, made or called.
    """
    policy = imported_for("demonstrator", path, path, "MODULE:FUNCTION, observation -> action", made=True)
    if not callable(policy):
        raise StudyError(
            f"found demonstrator = {path!r}, which cannot be called; expected observation -> action; correct it"
        )
    return cast("Callable[[Any], Any]", policy)


def load_grounding(path: str) -> Grounding:
    """An object of the class at `module:Class`, made without arguments.

    Raises:
        StudyError: it cannot be imported or made, or lacks a part of a grounding.
    """
    grounding = imported_for("grounding", path, path, "MODULE:CLASS, made without arguments", made=True)
    if missing := [part for part in GROUNDING_PARTS if not hasattr(grounding, part)]:
        raise StudyError(
            f"found grounding = {path!r} without {', '.join(missing)}; expected the parts of "
            "lago_skills.worlds.grounding.Grounding; add them"
        )
    return cast("Grounding", grounding)
