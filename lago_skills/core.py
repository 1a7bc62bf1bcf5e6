"""The nouns shared by every module: frozen values whose shapes are checked at construction.

Axis letters: T steps, B batch, K neighbours, N skills, S observation, F features, A action, D text
embedding, Z latent, I decoder inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import ShapeError

FloatArray = NDArray[np.float32] | NDArray[np.float64]
Comparison = Literal["<", ">"]
Cut = Literal["playbook", "change points", "alignment", "relations"]
PlanForm = Literal["numbers", "words"]
"""How a plan says what to do: targets and thresholds in units, or sentences about anchors."""


@dataclass(frozen=True)
class ActionSpace:
    """What an action is: A numbers in [-1, 1], or one of A alternatives, by number."""

    size: int
    """A."""
    discrete: bool = False

    def __str__(self) -> str:
        """For messages."""
        return f"{self.size} discrete actions" if self.discrete else f"actions of {self.size} numbers in [-1, 1]"


@dataclass(frozen=True)
class Feature:
    """One named number computed from an observation; what a language model can speak about."""

    name: str
    unit: str
    sentence: str
    low: float = -math.inf
    """No state has a smaller value."""
    high: float = math.inf


@dataclass(frozen=True)
class Relation:
    """How things lie when a step in words is over: the effector has come to the thing, or the thing to the place.

    Offsets between who moves and where to are learned from demonstrations, for each `word`.
    """

    name: str
    """What the language model answers with, such as "above thing"."""
    sentence: str
    """What it means, as the planner reads it and as it is embedded: "the hand is above the thing"."""
    mover: Literal["effector", "thing"]
    word: str
    """What lies between mover and anchor: `at`, `above`, `behind`, ..."""
    of: Literal["thing", "place", "ground"]
    """The anchor; `ground` is the point on the ground below the mover."""

    @property
    def needs_place(self) -> bool:
        """Whether it means nothing without a second anchor: something comes there, or it says which side is meant."""
        return self.of == "place" or self.word in ("behind", "before")


@dataclass(frozen=True)
class Vocabulary:
    """What a playbook may speak about: features for its conditions, anchors for its targets, relations for ends in words."""

    features: tuple[Feature, ...]
    anchors: tuple[str, ...]
    """Names of points to head for, the acting point first if there is one; empty where an environment has none, and steps then have no target."""
    target_size: int = 3
    """Coordinates of an anchor, a target and an offset: 2 or 3; 0 where there are no anchors."""
    unit: str = "m"
    """Of these coordinates."""
    relations: tuple[Relation, ...] = ()
    """How steps in words may end; none where plans in words cannot be followed by anchors."""
    optional: tuple[str, ...] = ()
    """Anchors that a task may lack; their coordinates are then 0 at all times."""
    largest_offset: float = 1.0
    """No part of a step's offset from its anchor is larger."""
    named_things: bool = False
    """Whether each anchor is always one and the same thing, in a frame that never turns, so that what is learned of it is its own; else anchors are
    roles, such as "object", that any thing may play anywhere."""
    acting: bool = True
    """Whether the first anchor is a point that acts, which steps move and head with. Else all anchors are things, an action says itself what it moves,
    and states tell which relations hold."""
    alike: tuple[str, ...] = ()
    """Anchors that differ by their names alone: a plan about some of them, with the names exchanged, is as good about others."""

    def __post_init__(self) -> None:
        """Check the number of coordinates; without anchors it is 0.

        Raises:
            ShapeError: anchors are neither in the plane nor in space.
        """
        if not self.anchors:
            object.__setattr__(self, "target_size", 0)
        elif self.target_size not in (2, 3):
            raise ShapeError(
                f"vocabulary: found anchors of {self.target_size} coordinates; expected 2 or 3; correct the grounding"
            )

    @property
    def subjects(self) -> tuple[str, ...]:
        """What a step in words may be about: every anchor but the acting point itself."""
        return self.anchors[1:] if self.acting else self.anchors

    def relation(self, name: str) -> Relation:
        """The relation of that name.

        Raises:
            KeyError: there is none.
        """
        return {relation.name: relation for relation in self.relations}[name]


@dataclass(frozen=True)
class Task:
    """One thing to be achieved in one environment."""

    id: str
    sentence: str
    env_id: str
    horizon_steps: int = 200
    """An episode ends after this many environment steps, or at the first success."""
    parts: int = 1
    """How many things it asks for, one after another: a plan may be so many times as long."""


@dataclass(frozen=True)
class Condition:
    """A comparison of one feature with one number."""

    feature: str
    op: Comparison
    value: float


@dataclass(frozen=True)
class Target:
    """A point to head for: an anchor of the scene plus an offset in the anchors' unit, one number for each coordinate."""

    anchor: str
    offset: tuple[float, ...]


@dataclass(frozen=True)
class Step:
    """One step of a playbook: a skill sentence and either what it is about (words), or where to head and when (numbers)."""

    skill: str
    target: Target | None = None
    when: tuple[Condition, ...] = ()
    about: tuple[str, ...] = ()
    """Of a plan in words: one or two anchors, "the thing" and "the place"."""
    until: Relation | None = None
    """Of a plan in words about anchors: how things lie when the step is over."""

    @property
    def sentence(self) -> str:
        """What is embedded: the skill, and of a step in words how it ends."""
        return self.skill if self.until is None else f"{self.skill.rstrip('.')}, until {self.until.sentence}"


@dataclass(frozen=True)
class Playbook:
    """The parsed plan of a task.

    In numbers, the first step whose conditions all hold is active, and the last step has no condition, so exactly one step is
    active in every state. In words, steps are in the order of time, and when each begins is learned.
    """

    task_id: str
    steps: tuple[Step, ...]
    transcript_key: str
    model: str
    form: PlanForm = "numbers"
    pace: float = 1.0
    """What the means of continuous actions are multiplied by, within [-1, 1]: how briskly the plan is followed."""


@dataclass(frozen=True)
class Episode:
    """One offline episode. `observations` has one row more than `actions`."""

    task_id: str
    seed: int
    observations: NDArray[np.float32]  # (T+1, S)
    actions: NDArray[np.float32] | NDArray[np.int64]  # (T, A), in [-1, 1]; or (T,), discrete, from 0
    rewards: NDArray[np.float32]  # (T,), 1 at the first success and 0 else, unless a data source keeps its own
    success: bool
    terminated: bool = False
    """Whether the environment ended it."""
    truncated: bool = False
    """Whether a limit of steps ended it. Neither where the recording was cut off, or nobody recorded how it ended."""
    success_step: int | None = None
    """Number of the action that first succeeded, from 0; None where none did, or nobody recorded which."""

    @property
    def discrete(self) -> bool:
        """Whether an action is one of a finite set, by number."""
        return self.actions.ndim == 1

    def __post_init__(self) -> None:
        """Check shapes and values.

        Raises:
            ShapeError: lengths or ranks disagree, a value is not finite, an action leaves [-1, 1], or a discrete action is
                no whole number from 0.
        """
        steps = len(self.actions)
        if len(self.observations) != steps + 1 or self.rewards.shape != (steps,):
            raise ShapeError(
                f"episode of task {self.task_id!r}, seed {self.seed}: found {len(self.observations)} observations, "
                f"{steps} actions and {self.rewards.shape} rewards; expected T+1, T and (T,); "
                "collect or convert the episode again"
            )
        if self.observations.ndim != 2 or self.actions.ndim not in (1, 2):
            raise ShapeError(
                f"episode of task {self.task_id!r}, seed {self.seed}: found observations of shape {self.observations.shape} "
                f"and actions of shape {self.actions.shape}; expected (T+1, S), and (T, A) or, for discrete actions, (T,); "
                "flatten what an observation or action holds"
            )
        for name in ("observations", "actions", "rewards"):
            check_finite(getattr(self, name), f"{name} of task {self.task_id!r}, seed {self.seed}")
        if self.discrete:
            if not np.issubdtype(self.actions.dtype, np.integer) or (steps and int(self.actions.min()) < 0):
                raise ShapeError(
                    f"episode of task {self.task_id!r}, seed {self.seed}: found discrete actions that are no whole numbers from "
                    "0; expected the number of an action at each step; number the actions, or give them the shape (T, A)"
                )
        elif steps and float(np.abs(self.actions).max()) > 1.0:
            raise ShapeError(
                f"episode of task {self.task_id!r}, seed {self.seed}: found an action of size "
                f"{float(np.abs(self.actions).max()):.3g}; expected values in [-1, 1]; rescale the actions"
            )


@dataclass(frozen=True)
class Segment:
    """A run of steps of one episode under one playbook step, or of one kind of motion."""

    task_id: str
    episode: int
    start: int
    stop: int  # exclusive
    step: int
    """Index of the playbook's step; or number of the motion, from 1."""
    skill: str
    cut: Cut = "playbook"
    """What set its ends."""
    about: tuple[str, ...] = ()
    """The anchors that it is about, where they are none of its plan's step but what else the episode brought about."""


@dataclass(frozen=True)
class Skill:
    """One library record. Ids are never reused; every change makes a new version."""

    id: int
    version: int
    sentence: str
    latent: NDArray[np.float32]  # (Z,), unit norm
    enabled: bool = True
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])
    """Where it comes from: `tasks` (filters of a search look here), `transcript`, `segments`, `who`."""
    support: dict[str, float] = field(default_factory=dict[str, float])
    """How much data stands behind it: `segments`, `steps`, `success`."""
    embedding: NDArray[np.float32] | None = None  # (D,), of the sentence
    merged_into: int | None = None

    @property
    def name(self) -> str:
        """`s0042`."""
        return skill_name(self.id)


@dataclass(frozen=True)
class Neighbors:
    """Nearest enabled skills, best first."""

    ids: NDArray[np.int64]  # (B, K), -1 where there are fewer than K
    scores: NDArray[np.float32]  # (B, K), inner products in [-1, 1]; minus infinity where there is no id


def skill_name(skill_id: int) -> str:
    """How a skill id is printed."""
    return f"s{skill_id:04d}"


def check_finite(array: NDArray[Any], what: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        ShapeError: naming the first offending index.
    """
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ShapeError(
            f"{what}: found {array[index]} at index {index}; expected finite numbers; repair or drop that row"
        )


def check_observations(observations: NDArray[Any], size: int, what: str = "observations") -> None:
    """Refuse anything that is not a finite (B, size) array.

    Raises:
        ShapeError: wrong rank or size, or a value that is not finite.
    """
    if observations.ndim != 2 or observations.shape[1] != size:
        raise ShapeError(
            f"{what}: found shape {observations.shape}; expected (B, {size}); "
            "pass a batch of observations of the environment that this grounding was made for"
        )
    check_finite(observations, what)
