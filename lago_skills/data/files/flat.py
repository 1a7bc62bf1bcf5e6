"""Files of arrays that lie end to end, whatever they are called: what is read of them, and how it is laid out before it is split into episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.data.config import SourceConfig
from lago_skills.data.files.ends import CONTINUED, CUT_NAMES, END_NAMES, ENVIRONMENT, LENGTHS, LIMIT_NAMES
from lago_skills.data.files.layouts import renamed
from lago_skills.data.files.raw import wanted
from lago_skills.errors import DataError
from lago_skills.worlds.gym.spaces import joined_parts, parse_part

Arrays = dict[str, NDArray[Any]]
NOW = ("", "observations/", "observation/", "obs/")
"""What may stand before the name of a part of the observation."""
NEXT = ("next_observations/", "next_observation/", "next_obs/", "next_")


def flat_arrays(names: Sequence[str], get: Callable[[str], NDArray[Any]], name: str, config: SourceConfig) -> Arrays:
    """The arrays of a flat file that are looked at, one row for each step; the others, images say, are never read.

    Args:
        names: of all arrays; of those in groups, joined by slashes.
        get: reads one.
        name: the source's, for messages.
        config: what the study says of it.

    Raises:
        DataError: observations have several parts and `observations = [...]` does not name them.
    """
    arrays = {key: get(key) for key in names if wanted(key, config.task_key, config.info)}
    return _end_to_end({**renamed(arrays, names), **_joined(names, get, name, config.observations)}, name)


def _joined(names: Sequence[str], get: Callable[[str], NDArray[Any]], name: str, entries: Sequence[str]) -> Arrays:
    """Observations of which each part has an array of its own; nothing where they lie in one."""
    paths = ["/".join(parse_part(entry).path) for entry in entries]
    now = next((each for each in NOW if paths and all(each + path in names for path in paths)), None)
    if now is not None:
        arrays = {"observations": joined_parts(lambda path: get(now + "/".join(path)), entries)}
        after = next((each for each in NEXT if all(each + path in names for path in paths)), None)
        if after is not None:
            arrays[CONTINUED] = joined_parts(lambda path: get(after + "/".join(path)), entries)
        return arrays
    parts = [each for each in names if each.startswith(NOW[1:])]
    if parts and "observations" not in names:
        raise DataError(
            f"data {name!r}: found observations of several parts, {[each.partition('/')[2] for each in parts]}, and observations = {list(entries)}; expected the names of those "
            "to join, in their order; correct observations = [...] in [[data]]"
        )
    return {}


def _end_to_end(arrays: Arrays, name: str) -> Arrays:
    """Arrays (N, E, ...) of environments side by side, or (E, T, ...) of episodes one below another, as one step after another.

    Which of the two it is, `lengths` of the episodes say, or the observations that steps led to.
    """
    observations, actions = arrays.get("observations"), arrays.get("actions")
    if observations is None or actions is None or observations.ndim != 3:
        return arrays
    side: tuple[int, ...] = observations.shape[:2]
    flags = [arrays[key] for key in ("rewards", *END_NAMES, *LIMIT_NAMES, *CUT_NAMES) if key in arrays]
    if actions.shape[:2] != side or not flags or any(each.shape[:2] != side for each in flags):
        return arrays  # whatever it is; shapes are checked later
    lengths = arrays.get(LENGTHS)
    if lengths is not None and lengths.shape == side[:1] and (lengths <= side[1]).all():
        places = np.broadcast_to(np.arange(side[1]), side)
        rows = places < lengths.reshape(-1, 1)  # what comes after an episode's end fills the array
        return {key: values[rows] if values.shape[:2] == side else values for key, values in arrays.items()}
    if not _goes_down(observations, arrays.get(CONTINUED), name):
        arrays = {key: values.swapaxes(0, 1) if values.shape[:2] == side else values for key, values in arrays.items()}
        side = side[::-1]
        _refuse_filled(arrays, name)
    n, n_others = side
    laid = {
        key: values.swapaxes(0, 1).reshape(n * n_others, *values.shape[2:]) if values.shape[:2] == side else values
        for key, values in arrays.items()
    }
    return laid if n_others == 1 else {**laid, ENVIRONMENT: np.repeat(np.arange(n_others), n)}


def _refuse_filled(arrays: Arrays, name: str) -> None:
    """Episodes one below another, (T, E, ...), of which the shorter ones end in zeros.

    Raises:
        DataError: their lengths are not said.
    """
    observations, actions = arrays["observations"], arrays["actions"]
    moves = np.concatenate([observations, actions.reshape(*observations.shape[:2], -1)], axis=2)
    used = np.abs(moves).max(axis=2) > 0
    filled = np.flatnonzero(~used[-2:].any(axis=0))
    if len(filled) and len(used) > 2:
        raise DataError(
            f"data {name!r}: found zeros at the end of episode {filled[0]}; expected its steps alone, or 'lengths' of the episodes (E,) beside arrays (E, T, ...); write them"
        )


def _goes_down(observations: NDArray[Any], following: NDArray[Any] | None, name: str) -> bool:
    """Whether time goes along the first axis of (N, E, S) observations, rather than the second.

    Raises:
        DataError: nothing says so.
    """
    if observations.shape[1] == 1 or observations.shape[0] == 1:
        return observations.shape[1] == 1
    if following is not None and following.shape == observations.shape:
        down = (following[:-1] == observations[1:]).all(axis=2).mean()
        across = (following[:, :-1] == observations[:, 1:]).all(axis=2).mean()
        if max(down, across) > 0 and down != across:
            return bool(down > across)
    raise DataError(
        f"data {name!r}: found observations of shape {observations.shape}, and nothing that says which axis is time; expected one step after another, (N, S); write "
        "'lengths' of the episodes (E,) beside arrays (E, T, ...), or 'next_observations' beside those of environments side by side"
    )
