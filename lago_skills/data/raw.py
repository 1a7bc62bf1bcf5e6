"""What a file of offline data holds, before it is checked: the same form for every kind of file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import DataError

Kind = Literal["minari", "npz", "hdf5"]


@dataclass(frozen=True)
class RawEpisode:
    """One episode as it was recorded. T actions; the observation after the last one may be missing."""

    observations: NDArray[Any]  # (T+1, S) or (T, S)
    actions: NDArray[Any]  # (T, A) or (T,)
    rewards: NDArray[Any]  # (T,)
    terminated: bool
    """Whether the environment ended it, rather than a limit of steps."""
    success: bool | None = None
    """None where nobody recorded it."""
    seed: int | None = None
    task: str | None = None


@dataclass(frozen=True)
class RawDataset:
    """A file's episodes, and what it says about them."""

    name: str
    kind: Kind
    episodes: tuple[RawEpisode, ...]
    action_bounds: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    """(A,) smallest and largest action, where an action space says so."""
    environment: str | None = None


END_NAMES = ("terminals", "terminations", "terminated", "dones")
LIMIT_NAMES = ("timeouts", "truncations", "truncated", "episode_terminals")
NEEDED = "observations (N, S), actions (N, A), rewards (N,), and lengths (E,) or terminals (N,)"


def split(arrays: dict[str, NDArray[Any]], name: str, task_key: str) -> tuple[RawEpisode, ...]:
    """Episodes of arrays laid end to end: this package's own form, D4RL's, or the first version of d3rlpy's.

    N rows over E episodes. `lengths` counts actions; observations may then have one row more per episode. Without it an
    episode ends at a row of `terminals` or `timeouts`. Optional: `next_observations` (N, S); `success`, `seeds` and the
    tasks' names, one entry per episode.

    Raises:
        DataError: an array is missing, or lengths disagree.
    """
    missing = [key for key in ("observations", "actions", "rewards") if key not in arrays]
    if missing:
        raise DataError(
            f"data {name!r}: found no array {missing[0]!r} among {sorted(arrays)}; expected {NEEDED}; rename or add it"
        )
    n_rows = len(arrays["actions"])
    lengths, terminated = _lengths(arrays, name, n_rows)
    stops = np.cumsum(lengths)
    if (lengths < 0).any() or n_rows != int(lengths.sum()) or len(arrays["rewards"]) != n_rows:
        raise DataError(
            f"data {name!r}: found {n_rows} actions and {len(arrays['rewards'])} rewards for episodes of {int(lengths.sum())} "
            "steps in all; expected one of each per step; write the file again"
        )
    observations = _observations(arrays, name, lengths)
    actions = np.split(arrays["actions"], stops[:-1])
    rewards = np.split(arrays["rewards"].reshape(n_rows, -1)[:, 0] if n_rows else arrays["rewards"], stops[:-1])
    success = _per_episode(arrays, "success", name, len(lengths))
    seeds = _per_episode(arrays, "seeds", name, len(lengths))
    tasks = _per_episode(arrays, task_key, name, len(lengths))
    return tuple(
        RawEpisode(
            observations=observations[i],
            actions=actions[i],
            rewards=rewards[i],
            terminated=bool(terminated[i]),
            success=None if success is None else bool(success[i]),
            seed=None if seeds is None else int(seeds[i]),
            task=None if tasks is None else text(tasks[i]),
        )
        for i in range(len(lengths))
    )


def text(value: Any) -> str:
    """A name from a file, which may be bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _lengths(
    arrays: dict[str, NDArray[Any]], name: str, n_rows: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(E,) steps of each episode, and whether the environment ended it."""
    ends = next((arrays[key] for key in END_NAMES if key in arrays), None)
    limits = next((arrays[key] for key in LIMIT_NAMES if key in arrays), None)
    if "lengths" in arrays:
        lengths = np.atleast_1d(arrays["lengths"]).astype(np.int64)
        known = _per_episode(arrays, "terminated", name, len(lengths))
        if known is None:
            known = _per_episode(arrays, "success", name, len(lengths))
        return lengths, np.zeros(len(lengths), bool) if known is None else known.astype(bool)
    if ends is None:
        raise DataError(
            f"data {name!r}: found neither 'lengths' nor 'terminals' among {sorted(arrays)}; expected {NEEDED}; say where "
            "each episode ends"
        )
    for flags in (ends, limits):
        if flags is not None and flags.size != n_rows:
            raise DataError(
                f"data {name!r}: found {flags.size} flags of an episode's end and {n_rows} actions; expected one of each per "
                "step; write the file again"
            )
    terminal = ends.reshape(-1).astype(bool)
    last = terminal if limits is None else terminal | limits.reshape(-1).astype(bool)
    stops = np.flatnonzero(last) + 1
    if n_rows and (not len(stops) or stops[-1] != n_rows):
        stops = np.append(stops, n_rows)  # the last episode was cut off
    return np.diff(stops, prepend=0).astype(np.int64), terminal[stops - 1]


def _observations(arrays: dict[str, NDArray[Any]], name: str, lengths: NDArray[np.int64]) -> list[NDArray[Any]]:
    flat, following = arrays["observations"], arrays.get("next_observations")
    stops = np.cumsum(lengths)
    if len(flat) == int((lengths + 1).sum()) and "lengths" in arrays:
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
