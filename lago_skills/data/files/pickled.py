"""Pickled recordings: replay buffers of Stable-Baselines3, trajectories of imitation, and plain dictionaries of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.data.config import SourceConfig
from lago_skills.data.files.flat import flat_arrays
from lago_skills.data.files.inert_pickle import Inert, load_inert
from lago_skills.data.files.raw import RawDataset, RawEpisode, split
from lago_skills.errors import DataError
from lago_skills.worlds.gym.spaces import joined_parts, parse_part

BUFFER = ("observations", "actions", "rewards", "dones", "pos", "full")
TRAJECTORY = ("obs", "acts", "terminal")
Bounds = tuple[NDArray[np.float64], NDArray[np.float64]]


def read_pickle(path: Path, config: SourceConfig) -> RawDataset:
    """Episodes of a pickled file, of which nothing is run.

    A replay buffer of Stable-Baselines3 (`save_replay_buffer`; one or several environments, dictionaries of observations too), a list of imitation's
    trajectories, a dictionary of flat arrays, or a list of dictionaries with the arrays of an episode each.

    Raises:
        DataError: it is damaged, or holds something else.
    """
    held, name = load_inert(path), str(path)
    if isinstance(held, Inert) and all(part in held.__dict__ for part in BUFFER):
        return _of_buffer(held.__dict__, name, config)
    items = list(cast("list[Any] | tuple[Any, ...]", held)) if isinstance(held, (list, tuple)) else []
    if items and all(isinstance(item, Inert) and all(part in item.__dict__ for part in TRAJECTORY) for item in items):
        return RawDataset(name, "pickle", tuple(_of_trajectory(item.__dict__) for item in items), ends=("terminal",))
    if items and all(isinstance(item, dict) and "actions" in item for item in items):
        return _of_dictionaries(cast("list[dict[str, Any]]", items), name, config)
    if isinstance(held, dict):
        arrays = _arrays(cast("dict[str, Any]", held), name, config)
        episodes, ends = split(arrays, name, config.task_key, config.info)
        return RawDataset(name, "pickle", episodes, ends=ends)
    raise DataError(
        f"data {name!r}: found a pickled {_kind(held, items)}; expected a replay buffer of Stable-Baselines3, trajectories of imitation, a dictionary of arrays or a "
        "list of them, one for each episode; write its arrays with np.savez"
    )


def _kind(held: Any, items: list[Any]) -> str:
    if isinstance(held, Inert):
        return f"object of {held.name}"
    first = f" of {len(items)}, the first a {_kind(items[0], [])}" if items else ""
    return type(held).__name__ + first


def _arrays(held: Mapping[str, Any], name: str, config: SourceConfig) -> dict[str, NDArray[Any]]:
    """The arrays of a dictionary that are looked at; of one in another, names joined by slashes."""
    flat: dict[str, Any] = {}
    for key, value in held.items():
        if isinstance(value, dict):
            flat |= {f"{key}/{inside}": each for inside, each in cast("dict[str, Any]", value).items()}
        else:
            flat[key] = value
    return flat_arrays(list(flat), lambda key: np.asarray(flat[key]), name, config)


def _of_dictionaries(items: list[dict[str, Any]], name: str, config: SourceConfig) -> RawDataset:
    """A dictionary for each episode, as Decision Transformer's files have it: its end is the end of the dictionary."""
    episodes: list[RawEpisode] = []
    fields: dict[str, None] = {}
    for number, item in enumerate(items):
        inside, ends = split(
            {"lengths": np.array([len(item["actions"])]), **_arrays(item, name, config)},
            name,
            config.task_key,
            config.info,
        )
        if len(inside) != 1:
            raise DataError(
                f"data {name!r}: found {len(inside)} episodes in dictionary {number}, by {', '.join(ends)}; expected one in each; write the file again"
            )
        episodes += inside
        fields |= dict.fromkeys(field for field in ends if field != "lengths")
    return RawDataset(
        name, "pickle", tuple(episodes), ends=(f"one dictionary for each episode ({len(items)})", *fields)
    )


def _of_trajectory(parts: dict[str, Any]) -> RawEpisode:
    """A trajectory of imitation: one observation more than actions."""
    rewards = parts.get("rews")
    return RawEpisode(
        np.asarray(parts["obs"]),
        np.asarray(parts["acts"]),
        None if rewards is None else np.asarray(rewards),
        terminated=bool(parts["terminal"]),
        truncated=not parts["terminal"],
        infos=step_infos(parts.get("infos"), len(parts["acts"])),
    )


def step_infos(infos: Any, n: int) -> dict[str, NDArray[Any]]:
    """(T,) numbers by name, of a list of dictionaries; entries that some step lacks are false there."""
    if infos is None or len(infos) != n:
        return {}
    steps = [cast("dict[str, Any]", step) if isinstance(step, dict) else {} for step in infos]
    numbers = (bool, int, float, np.bool_, np.number)
    names = {key: None for step in steps for key, value in step.items() if isinstance(value, numbers)}
    return {name: np.array([step.get(name, False) for step in steps], np.float64) for name in names}


# Replay buffers of Stable-Baselines3 ---------------------------------------------------------------------------------


def _of_buffer(parts: dict[str, Any], name: str, config: SourceConfig) -> RawDataset:
    n, full = int(parts["pos"]), bool(parts["full"])
    order = np.roll(np.arange(len(parts["dones"])), -n) if full else np.arange(n)
    shared = bool(parts.get("optimize_memory_usage"))  # the observation after a step is the one of the next row
    if not len(order):
        return RawDataset(name, "pickle", ())
    observe = _joined(parts["observations"], name, config)
    follow = None if shared else _joined(parts["next_observations"], name, config)
    episodes: list[RawEpisode] = []
    ends: tuple[str, ...] = ()
    for env in range(parts["dones"].shape[1]):
        rows = _since_a_start(order, parts["dones"][:, env]) if full else order
        if not len(rows):
            continue
        arrays: dict[str, NDArray[Any]] = {
            "observations": observe(rows, env),
            "actions": parts["actions"][rows, env],
            "rewards": parts["rewards"][rows, env],
            "dones": parts["dones"][rows, env],
        }
        if parts.get("handle_timeout_termination", True):
            arrays["timeouts"] = parts["timeouts"][rows, env]
        if follow is not None:
            arrays["next_observations"] = follow(rows, env)
        arrays |= _recorded_infos(parts.get("infos"), rows, env)
        inside, ends = split(arrays, name, config.task_key, config.info)
        episodes += inside
    if full:
        ends = (*ends, "the first episode of each environment is left out, since newer steps have replaced its start")
    low, high, start = _space(parts)
    bounds = None if low is None or high is None else _stored_bounds(low, high, parts["actions"])
    return RawDataset(name, "pickle", tuple(episodes), bounds, action_start=start, ends=ends)


def _since_a_start(order: NDArray[np.int64], dones: NDArray[Any]) -> NDArray[np.int64]:
    """Rows of a buffer that has gone round, from the first episode whose start is still there."""
    ended = np.flatnonzero(dones[order])
    return order[ended[0] + 1 :] if len(ended) else order[:0]


def _joined(held: Any, name: str, config: SourceConfig) -> Callable[[NDArray[np.int64], int], NDArray[Any]]:
    """(N, S) observations of rows of one environment."""
    if not isinstance(held, dict):
        if held.ndim != 3:
            raise DataError(
                f"data {name!r}: found observations of shape {held.shape[2:]}; expected numbers, (S,); images are not supported, flatten other ones"
            )
        return lambda rows, env: held[rows, env]
    parts = cast("dict[str, NDArray[Any]]", held)
    unknown = [each for each in config.observations if "/".join(parse_part(each).path) not in parts]
    if not config.observations or unknown:
        raise DataError(
            f"data {name!r}: found observations of several parts, {sorted(parts)}, and observations = {config.observations}; expected the names of those to join, "
            "in their order; correct observations = [...] in [[data]]"
        )
    return lambda rows, env: joined_parts(lambda path: parts["/".join(path)][rows, env], config.observations)


def _recorded_infos(infos: NDArray[Any] | None, rows: NDArray[np.int64], env: int) -> dict[str, NDArray[Any]]:
    """Entries of the steps' infos, which the buffer for hindsight keeps where it is asked to."""
    if infos is None or infos.ndim != 2 or infos.dtype.kind != "O":
        return {}
    named = step_infos([infos[row, env] for row in rows], len(rows))
    return {f"infos/{key}": values for key, values in named.items()}


def _space(parts: dict[str, Any]) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, int]:
    """Smallest and largest action of a Box, and the number of the first action of a Discrete space."""
    space = getattr(parts.get("action_space"), "__dict__", {})
    low, high = space.get("low"), space.get("high")
    if isinstance(low, np.ndarray) and isinstance(high, np.ndarray):
        return low.astype(np.float64).reshape(-1), high.astype(np.float64).reshape(-1), 0
    return None, None, int(space.get("start", 0))


def _stored_bounds(low: NDArray[np.float64], high: NDArray[np.float64], actions: NDArray[Any]) -> Bounds | None:
    """Range of the stored actions: its learners rescale them to [-1, 1] before they store them; whoever filled a buffer by hand may not have."""
    if np.abs(actions).max(initial=0.0) <= 1.0 + 1e-6:
        return -np.ones(len(low)), np.ones(len(low))
    return (low, high) if np.isfinite([low, high]).all() else None
