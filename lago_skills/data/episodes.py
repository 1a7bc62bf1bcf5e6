"""Episodes of one task as one NPZ file (no pickle): arrays laid end to end, with the length of each episode."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode
from lago_skills.data.config import SourceConfig
from lago_skills.data.exchange import action_arrays, in_environment
from lago_skills.data.files.flat import flat_arrays
from lago_skills.data.files.raw import ACTION_START, RawDataset, action_range, split
from lago_skills.errors import ArtifactCorrupt, DataError
from lago_skills.worlds.gym.spaces import ActionCodec

EPISODES_FILE = "episodes.npz"


def save_episodes(path: Path, episodes: list[Episode], codec: ActionCodec | None = None) -> None:
    """Write the episodes of one task; with a codec, for others: in the environment's own actions, with what says which those are."""
    recorded = [in_environment(episode, codec) for episode in episodes]
    np.savez(
        path,
        task_id=np.array(episodes[0].task_id),
        seeds=np.array([e.seed for e in episodes], dtype=np.int64),
        lengths=np.array([len(e.actions) for e in episodes], dtype=np.int64),
        success=np.array([e.success for e in episodes]),
        terminated=np.array([e.terminated for e in episodes]),
        truncated=np.array([e.truncated for e in episodes]),
        success_step=np.array([-1 if e.success_step is None else e.success_step for e in episodes], dtype=np.int64),
        observations=np.concatenate([e.observations for e in episodes]),  # (sum(T+1), S)
        actions=np.concatenate([e.actions for e in recorded]),  # (sum(T), A) or (sum(T),)
        rewards=np.concatenate([e.rewards for e in episodes]),  # (sum(T),)
        **action_arrays(codec),  # pyright: ignore[reportArgumentType]  (numpy's stub knows one keyword alone)
    )


def read_npz(path: Path, config: SourceConfig) -> RawDataset:
    """Episodes of an NPZ file of any origin: this package's own form, or flat arrays such as D4RL's.

    Raises:
        DataError: the file is damaged, holds Python objects (which are never unpickled), or is not of these forms.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = stored.files
            arrays = flat_arrays(names, stored.__getitem__, str(path), config)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, AttributeError) as error:
        objects = "Object arrays" in str(error)
        what = "holds Python objects, which are never unpickled" if objects else f"cannot be read ({error})"
        raise DataError(
            f"data {str(path)!r} {what}; expected plain arrays of numbers, as np.savez writes them; write the file again"
        ) from error
    episodes, ends = split(arrays, str(path), config.task_key, config.info, names)
    start = int(arrays[ACTION_START]) if ACTION_START in arrays else 0
    return RawDataset(str(path), "npz", episodes, action_range(arrays), action_start=start, ends=ends)


def load_episodes(path: Path) -> list[Episode]:
    """Read the episodes of one task; shapes and values are checked.

    Raises:
        ArtifactCorrupt: the file is missing or not of this form.
        ShapeError: an episode holds NaN, infinite values or actions outside [-1, 1].
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays: dict[str, NDArray[Any]] = {name: stored[name] for name in stored.files}
        lengths = arrays["lengths"]
        stops = np.cumsum(lengths)
        observations = np.split(arrays["observations"], np.cumsum(lengths + 1)[:-1])
        actions = np.split(arrays["actions"], stops[:-1])
        rewards = np.split(arrays["rewards"], stops[:-1])
        task_id = str(arrays["task_id"])
        n = len(lengths)
        terminated = arrays.get(
            "terminated", arrays["success"]
        )  # files of before: an episode ended at success or at a limit
        truncated = arrays.get("truncated", ~terminated)
        first = arrays.get("success_step", np.full(n, -1))
        flags = list(zip(arrays["seeds"], arrays["success"], terminated, truncated, first, strict=True))
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactCorrupt(
            f"episode file {str(path)!r} cannot be read ({error}); expected arrays written by this package; "
            "delete its folder and collect again: lago collect STUDY"
        ) from error
    return [
        Episode(task_id, int(seed), o, a, r, bool(success), bool(ended), bool(cut), int(step) if step >= 0 else None)
        for (seed, success, ended, cut, step), o, a, r in zip(flags, observations, actions, rewards, strict=True)
    ]
