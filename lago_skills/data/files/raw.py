"""What a file of offline data holds, before it is checked: the same form for every kind of file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lago_skills.data.files.ends import CONTINUED, CUT_NAMES, END_NAMES, EPISODE_IDS, LENGTHS, LIMIT_NAMES, episode_ends
from lago_skills.data.files.layouts import ARRAYS
from lago_skills.errors import DataError

Kind = Literal["minari", "npz", "hdf5", "pickle", "lerobot", "imitation", "parquet"]
SUCCESS_NAMES = ("success", "is_success")
"""Records of success, by name: per step or per episode."""
INFO_PREFIXES = ("infos/", "info/", "")


@dataclass(frozen=True)
class RawEpisode:
    """One episode as it was recorded. T actions; the observation after the last one may be missing."""

    observations: NDArray[Any]  # (T+1, S) or (T, S)
    actions: NDArray[Any]  # (T, A) or (T,)
    rewards: NDArray[Any] | None  # (T,); None where nobody recorded any
    terminated: bool
    """Whether the environment ended it, rather than a limit of steps."""
    truncated: bool = False
    """Whether a limit of steps ended it. Neither where the recording was cut off, or nobody recorded how it ended."""
    success: bool | None = None
    """Of the whole episode; None where nobody recorded it."""
    infos: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])
    """(T,) entries of the steps' infos by name; of those nested in others, names joined by a slash."""
    seed: int | None = None
    task: str | None = None

    def __post_init__(self) -> None:
        """Whole numbers of shape (T, 1), as replay buffers have them, are numbers of discrete actions; a declared space may say otherwise."""
        if self.actions.ndim == 2 and self.actions.shape[1] == 1 and self.actions.dtype.kind in "iu":
            object.__setattr__(self, "actions", self.actions[:, 0])

    @property
    def success_record(self) -> tuple[str, NDArray[Any]] | None:
        """Name and (T,) values of the record of success at each step; None where there is none."""
        return next(((name, self.infos[name]) for name in SUCCESS_NAMES if name in self.infos), None)


@dataclass(frozen=True)
class RawDataset:
    """A file's episodes, and what it says about them."""

    name: str
    kind: Kind
    episodes: tuple[RawEpisode, ...]
    action_bounds: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    """(A,) smallest and largest action, where an action space says so."""
    environment: str | None = None
    action_start: int = 0
    """Number of the first discrete action."""
    several_actions: str | None = None
    """The space of actions that are several choices at once."""
    ends: tuple[str, ...] = ()
    """The fields that say where episodes end and how."""


NEEDED = "observations (N, S), actions (N, A), perhaps rewards (N,), and lengths (E,) or terminals (N,)"
MANY = 30
"""Longer lists of names are cut."""
PARTED = (
    ", or, where each part of the observation has an array of its own, name them with observations = [...] in [[data]]"
)
FIRST_SUCCESS = "success_step"
"""Number of the action that first succeeded, one per episode; -1 where none did or nobody recorded which."""
ACTION_LOW, ACTION_HIGH, ACTION_START = "action_low", "action_high", "action_start"
"""(A,) range of the actions, or number of the first discrete one, where they are not the usual ones."""
OPTIONAL = (
    ACTION_LOW,
    ACTION_HIGH,
    ACTION_START,
    LENGTHS,
    CONTINUED,
    FIRST_SUCCESS,
    "seeds",
    *END_NAMES,
    *LIMIT_NAMES,
    *CUT_NAMES,
    *EPISODE_IDS,
)


def wanted(name: str, task_key: str, info: tuple[str, ...] = ()) -> bool:
    """Whether an array of a file is looked at; the others, images say, are never read. `info` names further entries of the steps' infos."""
    if name in ("observations", "actions", "rewards", task_key, *OPTIONAL, *ARRAYS):
        return True
    return any(name == prefix + record for prefix in INFO_PREFIXES for record in (*SUCCESS_NAMES, *info))


def split(
    arrays: dict[str, NDArray[Any]],
    name: str,
    task_key: str,
    info: tuple[str, ...] = (),
    present: Collection[str] = (),
) -> tuple[tuple[RawEpisode, ...], tuple[str, ...]]:
    """Episodes of arrays laid end to end, and the fields that their ends were read from.

    This package's own form, D4RL's, the first version of d3rlpy's, a replay buffer's. N rows over E episodes. `lengths` counts actions;
    observations may then have one row more per episode. Optional: `next_observations` (N, S); records of success, per step or one per
    episode; `seeds` and the tasks' names, one entry per episode. `data.ends` says where episodes end. `present` are the names of all arrays of the
    file, for messages.

    Raises:
        DataError: an array is missing, or fields disagree.
    """
    missing = [key for key in ("observations", "actions") if key not in arrays]
    if missing:
        raise DataError(
            f"data {name!r}: found no array {missing[0]!r} among {sorted(present or arrays)[:MANY]}; expected {NEEDED}; rename or add it"
            + ("" if missing[0] == "actions" else PARTED)
        )
    n_rows = len(arrays["actions"])
    ends = episode_ends(arrays, name, n_rows, NEEDED)
    lengths, stops = ends.lengths, np.cumsum(ends.lengths)
    if "rewards" in arrays and len(arrays["rewards"]) != n_rows:
        raise DataError(
            f"data {name!r}: found {n_rows} actions and {len(arrays['rewards'])} rewards for episodes of {int(lengths.sum())} "
            "steps in all; expected one of each per step; write the file again"
        )
    observations = _observations(arrays, name, lengths)
    actions = np.split(arrays["actions"], stops[:-1])
    rewards = _rewards(arrays, n_rows, stops)
    success, steps = _success(arrays, name, len(lengths), n_rows, info)
    infos = {key: np.split(values, stops[:-1]) for key, values in steps.items()}
    if "success" not in infos and (first := _per_episode(arrays, FIRST_SUCCESS, name, len(lengths))) is not None:
        infos["success"] = [step_record(int(step), int(n)) for step, n in zip(first, lengths, strict=True)]
    seeds = _per_episode(arrays, "seeds", name, len(lengths))
    tasks = _per_episode(arrays, task_key, name, len(lengths))
    episodes = tuple(
        RawEpisode(
            observations=observations[i],
            actions=actions[i],
            rewards=None if rewards is None else rewards[i],
            terminated=bool(ends.terminated[i]),
            truncated=bool(ends.truncated[i]),
            success=None if success is None else bool(success[i]),
            infos={key: values[i] for key, values in infos.items() if len(values[i]) == lengths[i]},
            seed=None if seeds is None else int(seeds[i]),
            task=None if tasks is None else text(tasks[i]),
        )
        for i in range(len(lengths))
    )
    return episodes, ends.fields


def _rewards(arrays: dict[str, NDArray[Any]], n_rows: int, stops: NDArray[np.int64]) -> list[NDArray[Any]] | None:
    """(T,) of each episode; None where nobody recorded any."""
    if "rewards" not in arrays:
        return None
    flat = arrays["rewards"].reshape(n_rows, -1)[:, 0] if n_rows else arrays["rewards"]
    return np.split(flat, stops[:-1])


def action_range(arrays: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(A,) smallest and largest action that a file declares; None where it does not."""
    if ACTION_LOW not in arrays or ACTION_HIGH not in arrays:
        return None
    return arrays[ACTION_LOW].astype(np.float64), arrays[ACTION_HIGH].astype(np.float64)


def step_record(first: int, n_steps: int) -> NDArray[np.bool_]:
    """(T,) the record of success of an episode whose action number `first` succeeded first; empty where that is negative."""
    return np.arange(n_steps) == first if first >= 0 else np.zeros(0, np.bool_)


def text(value: Any) -> str:
    """A name from a file, which may be bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _success(
    arrays: dict[str, NDArray[Any]], name: str, n: int, n_rows: int, info: tuple[str, ...]
) -> tuple[NDArray[Any] | None, dict[str, NDArray[Any]]]:
    """(E,) success of each episode, and (N,) records of each step, as far as there are any."""
    whole: NDArray[Any] | None = None
    steps: dict[str, NDArray[Any]] = {}
    for record in dict.fromkeys((*SUCCESS_NAMES, *info)):
        key = next((prefix + record for prefix in INFO_PREFIXES if prefix + record in arrays), None)
        if key is None:
            continue
        if arrays[key].size == n_rows and (n != n_rows or FIRST_SUCCESS not in arrays):
            steps[record] = arrays[key].reshape(-1)
        elif whole is None and record in SUCCESS_NAMES:
            whole = _per_episode(arrays, key, name, n)
    return whole, steps


def _observations(arrays: dict[str, NDArray[Any]], name: str, lengths: NDArray[np.int64]) -> list[NDArray[Any]]:
    flat, following = arrays["observations"], arrays.get(CONTINUED)
    stops = np.cumsum(lengths)
    if len(flat) == int((lengths + 1).sum()) and LENGTHS in arrays:
        return np.split(flat, np.cumsum(lengths + 1)[:-1])
    if len(flat) != int(lengths.sum()) or (following is not None and following.shape != flat.shape):
        raise DataError(
            f"data {name!r}: found {len(flat)} observations for {len(lengths)} episodes of {int(lengths.sum())} steps in all; "
            "expected one per step (with the next ones in 'next_observations', or not at all), or one more per episode "
            "where 'lengths' counts the steps; write the file again"
        )
    parts = np.split(flat, stops[:-1])
    if following is None:
        return parts
    return [
        np.concatenate([part, following[stop - 1 : stop]]) if len(part) else part
        for part, stop in zip(parts, stops, strict=True)
    ]


def _per_episode(arrays: dict[str, NDArray[Any]], key: str, name: str, n: int) -> NDArray[Any] | None:
    if key not in arrays:
        return None
    values = arrays[key]
    if values.ndim == 0:
        return np.repeat(values, n)
    if values.shape != (n,):
        raise DataError(
            f"data {name!r}: found {key!r} of shape {values.shape} for {n} episodes; expected one entry per episode; correct it"
        )
    return values
