"""Groundings that users bring: a class of their own, or names for entries of the observation in the study file."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Feature, Task, Vocabulary, check_observations
from lago_skills.errors import StudyError
from lago_skills.worlds.grounding import Grounding
from lago_skills.worlds.world import Env, EpisodeSoFar, Provenance, World

PARTS = (
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


class NamedEntries(Grounding):
    """Features that are entries of the observation; there are no points to head for, so steps have no target.

    Raises:
        StudyError: no feature, an entry that the observation does not have, a range that is empty, or two names for one entry.
    """

    def __init__(
        self, entries: dict[str, tuple[int, Feature]], world: str, observation_size: int, action_space: ActionSpace
    ) -> None:
        if not entries:
            raise StudyError(
                "found [environment] without features; expected names for entries of the observation; add "
                "[environment.features.NAME], or name a class with environment.grounding"
            )
        taken: dict[int, str] = {}
        for name, (index, feature) in entries.items():
            if index >= observation_size:
                raise StudyError(
                    f"found environment.features.{name}.index = {index}; expected 0 to {observation_size - 1}, as "
                    f"environment.observation_size is {observation_size}; correct one of them"
                )
            if not feature.low < feature.high:
                raise StudyError(
                    f"found environment.features.{name}.range = [{feature.low:g}, {feature.high:g}]; expected the smallest "
                    "value first; correct it"
                )
            if index in taken:
                raise StudyError(
                    f"found environment.features.{name} and .{taken[index]} both with index {index}; expected one name each; "
                    "remove one"
                )
            taken[index] = name
        self.observation_size, self.action_space, self.world = observation_size, action_space, world
        self.vocabulary = Vocabulary(tuple(feature for _, feature in entries.values()), ())
        self._index = np.array([index for index, _ in entries.values()])
        low = np.array([feature.low for feature in self.vocabulary.features])
        high = np.array([feature.high for feature in self.vocabulary.features])
        self._middle, self._half = (low + high) / 2, (high - low) / 2

    def read(self, observations: NDArray[Any]) -> EntriesState:
        """(B, S) observations -> their features.

        Raises:
            ShapeError: wrong observation size, or values that are not finite.
        """
        check_observations(observations, self.observation_size)
        values = observations[:, self._index].astype(np.float64)
        return EntriesState(values, ((values - self._middle) / self._half).astype(np.float32))


@dataclass(frozen=True)
class EntriesState:
    """Entries of a batch of observations."""

    values: NDArray[np.float64]  # (B, F)
    scaled: NDArray[np.float32]  # (B, F), by each feature's range to -1..1

    @property
    def anchors(self) -> NDArray[np.float64]:
        """(B, 0, 0): there is nothing to head for."""
        return np.zeros((len(self.values), 0, 0))

    def inputs(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """(B, F) scaled features, wherever a target is."""
        return self.scaled


class OwnWorld(World):
    """The tasks and the environment that a study file describes."""

    def __init__(self, name: str, tasks: Mapping[str, Task], grounding: Grounding) -> None:
        self.name, self.tasks, self.grounding = name, tasks, grounding

    def find(self, names: list[str]) -> tuple[Task, ...]:
        """Tasks by name.

        Raises:
            StudyError: an unknown name.
        """
        if unknown := [name for name in names if name not in self.tasks]:
            raise StudyError(
                f"study {self.name!r}: found task {unknown[0]!r}, expected one of its own environment's tasks {sorted(self.tasks)}; "
                "add it as [[tasks.own]]"
            )
        return super().find(names)

    def make(self, task: str, *, reward: str = "sparse", rendered: bool = False) -> Env:
        """The environment of a task, with its own reward.

        Raises:
            StudyError: no such task, it cannot be made, or its observation is not what the grounding was made for.
        """
        (known,) = self.find([task])
        try:
            env: Env = gymnasium.make(known.env_id, render_mode="rgb_array" if rendered else None)
        except Exception as error:  # each environment package fails in its own way
            raise StudyError(
                f"task {task!r}: found env_id = {known.env_id!r}, which cannot be made ({type(error).__name__}: {error}); "
                "expected a Gymnasium id; correct it or install the package"
            ) from error
        expected = (self.grounding.observation_size,)
        if env.observation_space.shape != expected:
            shown = env.observation_space.shape or env.observation_space
            env.close()
            raise StudyError(
                f"task {task!r}: found observations of shape {shown}; expected {expected}, as [environment] says; correct "
                "environment.observation_size"
            )
        return env

    def success(self, so_far: EpisodeSoFar) -> bool:
        """What success is nobody has said.

        Raises:
            StudyError: always.
        """
        raise StudyError(
            f"study {self.name!r}: found an environment of one's own without a rule of success; expected a world that says when a "
            "task is solved; name its class with [world] use = 'MODULE:CLASS'"
        )

    def provenance(self, task: str) -> Provenance:
        """What Gymnasium knows of the environment."""
        (known,) = self.find([task])
        return Provenance("the study's own demonstrator", (), registered_spec(known.env_id))

    def spec(self) -> dict[str, Any]:
        """The study file describes it."""
        return {"use": "own"}


def registered_spec(env_id: str) -> EnvSpec | None:
    """The specification of a Gymnasium id; None where nobody has registered it here."""
    try:
        return gymnasium.spec(env_id)
    except gymnasium.error.Error:
        return None


def load_grounding(path: str) -> Grounding:
    """An object of the class at `module:Class`, made without arguments.

    Raises:
        StudyError: it cannot be imported or made, or lacks a part of a grounding.
    """
    module, _, name = path.partition(":")
    try:
        grounding: Any = getattr(importlib.import_module(module), name)()
    except Exception as error:  # whatever a user's module does at import
        raise StudyError(
            f"found environment.grounding = {path!r}, which cannot be loaded ({type(error).__name__}: {error}); expected "
            "MODULE:CLASS, importable from here and made without arguments; correct it or install the package"
        ) from error
    missing = [part for part in PARTS if not hasattr(grounding, part)]
    if missing:
        raise StudyError(
            f"found environment.grounding = {path!r} without {', '.join(missing)}; expected the parts of "
            "lago_skills.worlds.grounding.Grounding; add them"
        )
    return cast("Grounding", grounding)
