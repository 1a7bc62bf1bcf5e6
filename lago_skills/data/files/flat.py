"""Files of arrays that lie end to end, whatever they are called: what is read of them, and how it is laid out before it is split into episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.data.config import SourceConfig
from lago_skills.data.files.ends import CONTINUED, CUT_NAMES, END_NAMES, ENVIRONMENT, LIMIT_NAMES
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
    return _end_to_end({**renamed(arrays, names), **_joined(names, get, name, config.observations)})


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


def _end_to_end(arrays: Arrays) -> Arrays:
    """Arrays of environments side by side, (N, E, ...), as (E * N, ...): one environment's steps after another's."""
    observations, actions = arrays.get("observations"), arrays.get("actions")
    if observations is None or actions is None or observations.ndim != 3:
        return arrays
    side = observations.shape[:2]
    flags = [arrays[key] for key in ("rewards", *END_NAMES, *LIMIT_NAMES, *CUT_NAMES) if key in arrays]
    if actions.shape[:2] != side or not flags or any(each.shape[:2] != side for each in flags):
        return arrays  # whatever it is; shapes are checked later
    n, n_envs = int(side[0]), int(side[1])
    laid = {
        key: values.swapaxes(0, 1).reshape(n * n_envs, *values.shape[2:]) if values.shape[:2] == side else values
        for key, values in arrays.items()
    }
    return laid if n_envs == 1 else {**laid, ENVIRONMENT: np.repeat(np.arange(n_envs), n)}
