"""Episodes in HDF5, as d3rlpy's `dump` writes them, with what d3rlpy leaves out beside them. The only door to h5py.

d3rlpy 2 numbers its arrays (`observations_0`, `actions_0`, ...; `d3rlpy/dataset/io.py`) and keeps T observations for T
actions. What it has no place for (the last observation, success, seed, task) goes to a group `lago`, which d3rlpy ignores.
"""

# h5py ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode
from lago_skills.data.config import SourceConfig
from lago_skills.data.exchange import action_arrays, in_environment
from lago_skills.data.files.episode_groups import dataset_names, groups_of, read_groups
from lago_skills.data.files.flat import flat_arrays
from lago_skills.data.files.raw import (
    ACTION_START,
    FIRST_SUCCESS,
    RawDataset,
    RawEpisode,
    action_range,
    split,
    step_record,
    text,
)
from lago_skills.errors import DataError
from lago_skills.worlds.gym.spaces import ActionCodec

D3RLPY_VERSION = "2.1"
COLUMNS = ("observations", "actions", "rewards", "terminated")


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5, by its content."""
    return bool(h5py.is_hdf5(path))


def read_hdf5(path: Path, config: SourceConfig) -> RawDataset:
    """Episodes of a file of d3rlpy's (either version), of flat arrays such as D4RL's, or with a group for each episode.

    Raises:
        DataError: the file is damaged, or not of these forms.
    """
    try:
        with h5py.File(path, "r") as file:
            if "num_episodes" in file:
                extra = _beside(file)
                start = int(extra.get(ACTION_START, 0))
                episodes = _numbered(file, extra, str(path), config.task_key)
                return RawDataset(str(path), "hdf5", episodes, action_range(extra), action_start=start)
            if groups := groups_of(file):
                episodes, ends = read_groups(groups, str(path), config.task_key, config.observations, config.info)
                return RawDataset(str(path), "hdf5", episodes, ends=ends)
            names = dataset_names(file)
            arrays = flat_arrays(names, lambda key: _array(file, key), str(path), config)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"data {str(path)!r} cannot be read ({error}); expected HDF5 as d3rlpy's dump writes it, or flat arrays; write "
            "or download the file again"
        ) from error
    episodes, ends = split(arrays, str(path), config.task_key, config.info, names)
    start = int(arrays[ACTION_START]) if ACTION_START in arrays else 0
    return RawDataset(str(path), "hdf5", episodes, action_range(arrays), action_start=start, ends=ends)


def _array(file: Any, name: str) -> NDArray[Any]:
    return np.asarray(file[name][()])


def _beside(file: Any) -> dict[str, Any]:
    """What this package writes beside d3rlpy's arrays."""
    return {key: item[()] for key, item in file["lago"].items()} if "lago" in file else {}


def _numbered(file: Any, extra: dict[str, Any], name: str, task_key: str) -> tuple[RawEpisode, ...]:
    n = int(file["num_episodes"][()])
    if n and "observations_0" not in file:
        raise DataError(
            f"data {name!r}: found observations of several parts; expected one array of shape (T, S) per episode; join the "
            "parts before d3rlpy's dump"
        )
    tasks = extra.get(task_key)
    episodes: list[RawEpisode] = []
    for i in range(n):
        observations = np.asarray(file[f"observations_{i}"][()])
        last = extra.get(f"last_observation_{i}")
        first = int(extra[FIRST_SUCCESS][i]) if FIRST_SUCCESS in extra else -1
        record = step_record(first, len(file[f"actions_{i}"]))
        episodes.append(
            RawEpisode(
                observations=observations if last is None else np.concatenate([observations, last[None]]),
                actions=np.asarray(file[f"actions_{i}"][()]),
                rewards=np.asarray(file[f"rewards_{i}"][()]).reshape(-1),
                terminated=bool(extra["terminated"][i] if "terminated" in extra else file[f"terminated_{i}"][()]),
                truncated=bool(extra["truncated"][i]) if "truncated" in extra else False,
                infos={"success": record} if len(record) else {},
                success=bool(extra["success"][i]) if "success" in extra else None,
                seed=int(extra["seeds"][i]) if "seeds" in extra else None,
                task=None if tasks is None else text(tasks[i]),
            )
        )
    return tuple(episodes)


def write_hdf5(path: Path, episodes: list[Episode], codec: ActionCodec | None = None) -> None:
    """Write episodes so that `d3rlpy.dataset.ReplayBuffer.load` reads them, and this package all of them; with a codec, in the environment's own actions."""
    with h5py.File(path, "w") as file:
        file.create_dataset("columns", data=list(COLUMNS))
        file.create_dataset("num_episodes", data=len(episodes))
        extra = file.create_group("lago")
        for i, episode in enumerate(episodes):
            actions = in_environment(episode, codec).actions
            actions = actions[:, None] if actions.ndim == 1 else actions
            file.create_dataset(f"observations_{i}", data=episode.observations[:-1])
            file.create_dataset(f"actions_{i}", data=actions)
            file.create_dataset(f"rewards_{i}", data=episode.rewards[:, None])
            file.create_dataset(f"terminated_{i}", data=episode.terminated)
            extra.create_dataset(f"last_observation_{i}", data=episode.observations[-1])
        for name, array in action_arrays(codec).items():
            extra.create_dataset(name, data=array)
        extra.create_dataset("success", data=[episode.success for episode in episodes])
        for name in ("terminated", "truncated"):
            extra.create_dataset(name, data=[getattr(episode, name) for episode in episodes])
        first = [-1 if episode.success_step is None else episode.success_step for episode in episodes]
        extra.create_dataset(FIRST_SUCCESS, data=first)
        extra.create_dataset("seeds", data=[episode.seed for episode in episodes])
        extra.create_dataset("task_id", data=[episode.task_id for episode in episodes])
        file.create_dataset("version", data=D3RLPY_VERSION)
