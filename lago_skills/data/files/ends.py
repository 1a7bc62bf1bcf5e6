"""Where episodes of arrays laid end to end begin and end, and who ended them: every field that says so is read, and they have to agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import DataError

LENGTHS = "lengths"
DONE_NAMES = ("dones", "done")
"""True at every end, or only where the environment ended an episode: which of them, a field of `LIMIT_NAMES` beside it says."""
END_NAMES = ("terminals", "terminations", "terminated", *DONE_NAMES)
LIMIT_NAMES = ("timeouts", "truncations", "truncated")
CUT_NAMES = ("episode_terminals",)
"""True at every end, as the first version of d3rlpy writes it."""
EPISODE_IDS = ("episode_ids", "episode_id", "episode_index")
ENVIRONMENT = "environment"
"""Number of the environment, where the steps of several follow one another."""
CONTINUED = "next_observations"


@dataclass(frozen=True)
class EpisodeEnds:
    """E episodes of N rows."""

    lengths: NDArray[np.int64]  # (E,), in actions
    terminated: NDArray[np.bool_]  # (E,)
    truncated: NDArray[np.bool_]  # (E,)
    fields: tuple[str, ...]
    """Which fields said so."""


def episode_ends(arrays: dict[str, NDArray[Any]], name: str, n_rows: int, needed: str) -> EpisodeEnds:
    """Ends of the episodes that lie end to end in N rows.

    An episode ends after a row that a flag marks, where the number of the episode changes, where `lengths` says so, and where the next
    row does not begin with the observation that the last one led to. What comes after the last end was cut off.

    Raises:
        DataError: nothing says where episodes end, or two fields contradict each other.
    """
    flags = {
        key: _flags(arrays, key, name, n_rows)
        for key in (*END_NAMES, *LIMIT_NAMES, *CUT_NAMES)
        if key in arrays and not _one_per_episode(arrays, key)
    }
    ids = [key for key in (*EPISODE_IDS, ENVIRONMENT) if key in arrays]
    limits = _any(flags, LIMIT_NAMES, n_rows)
    cut = _any(flags, CUT_NAMES, n_rows)
    terminal = _any(flags, tuple(key for key in END_NAMES if key not in DONE_NAMES), n_rows)
    done = _any(flags, DONE_NAMES, n_rows)
    ended_by_environment = terminal | (done & ~limits)
    limits = limits | (cut & ~ended_by_environment)
    marked = terminal | done | limits | cut
    jumps = _jumps(arrays, name, n_rows, marked)
    fields = [*flags, *ids]
    changes = np.zeros(n_rows, np.bool_)
    for key in ids:
        numbers = arrays[key].reshape(-1)
        if len(numbers) != n_rows:
            raise DataError(
                f"data {name!r}: found {len(numbers)} entries of {key!r} and {n_rows} actions; expected one of each per step; write the file again"
            )
        changes[:-1] |= numbers[1:] != numbers[:-1]
    if LENGTHS in arrays:
        return _by_lengths(
            arrays, name, n_rows, marked | changes, jumps, ended_by_environment, limits, (LENGTHS, *fields)
        )
    if not fields and jumps is None:
        raise DataError(
            f"data {name!r}: found neither 'lengths' nor 'terminals' among {sorted(arrays)}; expected {needed}; say where "
            "each episode ends"
        )
    last = marked | changes
    if jumps is not None:
        fields += [CONTINUED] if (jumps & ~last).any() or not fields else []
        last = last | jumps
    stops = np.flatnonzero(last) + 1
    if n_rows and (not len(stops) or stops[-1] != n_rows):
        stops = np.append(stops, n_rows)  # the last episode was cut off
    lengths = np.diff(stops, prepend=0).astype(np.int64)
    return EpisodeEnds(lengths, ended_by_environment[stops - 1], limits[stops - 1], tuple(fields))


def _by_lengths(
    arrays: dict[str, NDArray[Any]],
    name: str,
    n_rows: int,
    marked: NDArray[np.bool_],
    jumps: NDArray[np.bool_] | None,
    ended: NDArray[np.bool_],
    limits: NDArray[np.bool_],
    fields: tuple[str, ...],
) -> EpisodeEnds:
    lengths = np.atleast_1d(arrays[LENGTHS]).astype(np.int64)
    if (lengths < 0).any() or n_rows != int(lengths.sum()):
        raise DataError(
            f"data {name!r}: found {n_rows} actions for episodes of {int(lengths.sum())} steps in all; expected one per step; write the file again"
        )
    last = np.zeros(n_rows, np.bool_)
    stops = np.cumsum(lengths)
    last[stops[lengths > 0] - 1] = True
    inside = marked & ~last
    if jumps is not None:
        inside |= jumps & ~last
    if inside.any():
        row = int(np.flatnonzero(inside)[0])
        raise DataError(
            f"data {name!r}: found an episode's end after row {row}, in the middle of an episode of {LENGTHS!r}; expected ends that agree; correct "
            f"{LENGTHS!r}, or leave it out"
        )
    terminated, truncated = np.zeros(len(lengths), np.bool_), np.zeros(len(lengths), np.bool_)
    terminated[lengths > 0] = ended[stops[lengths > 0] - 1]
    truncated[lengths > 0] = limits[stops[lengths > 0] - 1]
    for names, of_episodes in ((("terminated", "terminals", "terminations"), terminated), (LIMIT_NAMES, truncated)):
        for key in names:
            if key in arrays and _one_per_episode(arrays, key):
                of_episodes |= np.broadcast_to(arrays[key].astype(bool).reshape(-1), lengths.shape)
                fields = (*fields, key)
    return EpisodeEnds(lengths, terminated, truncated, fields)


def _one_per_episode(arrays: dict[str, NDArray[Any]], key: str) -> bool:
    """Whether a flag has an entry per episode, or one for all, rather than one per row."""
    if LENGTHS not in arrays:
        return False
    return arrays[key].ndim == 0 or (
        arrays[key].shape == np.atleast_1d(arrays[LENGTHS]).shape and len(arrays[key]) != len(arrays["actions"])
    )


def _flags(arrays: dict[str, NDArray[Any]], key: str, name: str, n_rows: int) -> NDArray[np.bool_]:
    if arrays[key].size != n_rows:
        raise DataError(
            f"data {name!r}: found {arrays[key].size} flags of an episode's end ({key!r}) and {n_rows} actions; expected one of each per "
            "step; write the file again"
        )
    return arrays[key].reshape(-1).astype(bool)


def _any(flags: dict[str, NDArray[np.bool_]], names: tuple[str, ...], n_rows: int) -> NDArray[np.bool_]:
    present = [flags[key] for key in names if key in flags]
    return np.logical_or.reduce(present) if present else np.zeros(n_rows, np.bool_)


def _jumps(
    arrays: dict[str, NDArray[Any]], name: str, n_rows: int, marked: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """(N,) whether the next row begins elsewhere than this one led to; None without next observations. `marked` rows are ends for another reason."""
    flat, following = arrays["observations"], arrays.get(CONTINUED)
    if following is None or following.shape != flat.shape or len(flat) != n_rows or not n_rows:
        return None
    apart = (following[:-1] != flat[1:]) & ~(_missing(following[:-1]) & _missing(flat[1:]))
    jumps = np.append(apart.any(axis=tuple(range(1, apart.ndim))), False)
    if n_rows > 2 and jumps[:-1].all() and not marked[:-1].all():
        raise DataError(
            f"data {name!r}: found no row of 'observations' that is the one of 'next_observations' before it; expected steps in the order of time; "
            "write them unshuffled, or leave 'next_observations' out"
        )
    return jumps


def _missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, np.bool_)
