"""Recordings written in the layouts of other packages, by those packages where they are at hand, and what of each recording survives there."""

# h5py, PyArrow and Stable-Baselines3 leave types partially unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import json
import pickle  # noqa: TID251  (written as others write it)
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lago_skills.core import Episode
from lago_skills.data.config import SourceConfig
from lago_skills.data.episodes import save_episodes
from lago_skills.data.files.hdf5 import write_hdf5
from lago_skills.data.files.minari import About, write_minari
from lago_skills.worlds.gym.read_spaces import read_actions
from lago_skills.worlds.gym.spaces import ActionCodec
from tests.recordings import Actions, Layout, Recording


def _flat(recordings: Sequence[Recording]) -> dict[str, NDArray[Any]]:
    return {
        "observations": np.concatenate([each.observations[:-1] for each in recordings]),
        "next_observations": np.concatenate([each.observations[1:] for each in recordings]),
        "actions": np.concatenate([each.actions for each in recordings]),
        "rewards": np.concatenate([each.rewards for each in recordings]),
        "terminals": np.concatenate([_at_end(each, each.terminated) for each in recordings]),
        "timeouts": np.concatenate([_at_end(each, each.truncated) for each in recordings]),
        "infos/success": np.concatenate([each.success for each in recordings]),
    }


def _at_end(recording: Recording, flag: bool) -> NDArray[np.bool_]:
    return (np.arange(len(recording.actions)) == len(recording.actions) - 1) & flag


def _without(arrays: dict[str, NDArray[Any]], *names: str) -> dict[str, NDArray[Any]]:
    return {key: values for key, values in arrays.items() if key not in names}


def _range(actions: Actions) -> dict[str, Any]:
    """For files that do not say which range their actions have; numbers of discrete ones are the environment's."""
    return {} if actions.n else {"action_range": (actions.low, actions.high)}


def _npz(path: Path, arrays: dict[str, NDArray[Any]], **settings: Any) -> SourceConfig:
    np.savez(path / "x.npz", **arrays)  # pyright: ignore[reportArgumentType]
    return SourceConfig(path=str(path / "x.npz"), task="go", rewards="recorded", **settings)


def _hdf5(path: Path, arrays: dict[str, NDArray[Any]], **settings: Any) -> SourceConfig:
    with h5py.File(path / "x.h5", "w") as file:
        for key, values in arrays.items():
            file[key] = values
    return SourceConfig(path=str(path / "x.h5"), task="go", rewards="recorded", **settings)


# Flat files -----------------------------------------------------------------------------------------------------------


def d4rl(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    return _hdf5(path, _flat(recordings), **_range(actions))


def d4rl_without_next(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    return _hdf5(path, _without(_flat(recordings), "next_observations"), **_range(actions))


def qlearning(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    return _npz(path, _without(_flat(recordings), "timeouts"), **_range(actions))


def replay(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    """`dones` at every end, `timeouts` at those of a limit."""
    arrays = _flat(recordings)
    dones = arrays["terminals"] | arrays["timeouts"]
    return _npz(path, {**_without(arrays, "terminals"), "dones": dones}, **_range(actions))


def d3rlpy_1(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    arrays = _flat(recordings)
    cut = arrays["terminals"] | arrays["timeouts"]
    return _hdf5(
        path, {**_without(arrays, "next_observations", "timeouts"), "episode_terminals": cut}, **_range(actions)
    )


def ogbench(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    arrays = _flat(recordings)
    ends = arrays["terminals"] | arrays["timeouts"]
    flags = {"terminals": ends.astype(np.float32), "masks": (~arrays["terminals"]).astype(np.float32)}
    return _npz(path, {**_without(arrays, "timeouts"), **flags}, **_range(actions))


def baselines_1(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    arrays = _flat(recordings)
    starts = np.concatenate([np.arange(len(each.actions)) == 0 for each in recordings])
    flat = {"obs": arrays["observations"], "actions": arrays["actions"], "rewards": arrays["rewards"]}
    flat |= {"episode_starts": starts, "infos/success": arrays["infos/success"]}
    return _npz(path, flat, **_range(actions))


def imitation_1(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    """Imitation's flat files, with one observation more than actions in each episode."""
    arrays = {
        "obs": np.concatenate([each.observations for each in recordings]),
        "acts": np.concatenate([each.actions for each in recordings]),
        "rews": np.concatenate([each.rewards for each in recordings]),
        "indices": np.cumsum([len(each.actions) for each in recordings])[:-1],
        "terminal": np.array([each.terminated for each in recordings]),
        "infos/success": np.concatenate([each.success for each in recordings]),
    }
    return _npz(path, arrays, **_range(actions))


def _parts(arrays: dict[str, NDArray[Any]], now: str, after: str) -> dict[str, NDArray[Any]]:
    """Each part of the observation as an array of its own."""
    here, there = arrays.pop("observations"), arrays.pop("next_observations")
    own = {
        f"{now}hand": here[:, :2],
        f"{now}goal": here[:, 2:],
        f"{after}hand": there[:, :2],
        f"{after}goal": there[:, 2:],
    }
    return {**arrays, **own}


def goal_npz(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    return _npz(path, _parts(_flat(recordings), "", "next_"), observations=["hand", "goal"], **_range(actions))


def goal_hdf5(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    arrays = _parts(_flat(recordings), "observations/", "next_observations/")
    return _hdf5(path, arrays, observations=["hand", "place = goal[0:1]"], **_range(actions))


def singular(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    """Names of one thing, and where each episode stops, as Diffusion Policy's files say it."""
    arrays = _flat(recordings)
    names = {
        "observations": "observation",
        "next_observations": "next_observation",
        "actions": "action",
        "rewards": "reward",
    }
    stops = np.cumsum([len(each.actions) for each in recordings])
    own = {short: arrays[name] for name, short in names.items()}
    return _npz(path, {**own, "success": arrays["infos/success"], "episode_ends": stops}, **_range(actions))


# A group for each episode ---------------------------------------------------------------------------------------------


def robomimic(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    with h5py.File(path / "x.h5", "w") as file:
        for number, each in enumerate(recordings):
            group = file.create_group(f"data/demo_{number}")
            group["obs/state"], group["next_obs/state"] = each.observations[:-1], each.observations[1:]
            group["actions"], group["rewards"], group["success"] = each.actions, each.rewards, each.success
            group["dones"] = _at_end(each, each.terminated).astype(np.int64)
    return SourceConfig(
        path=str(path / "x.h5"), task="go", rewards="recorded", observations=["state"], **_range(actions)
    )


def maniskill(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    with h5py.File(path / "x.h5", "w") as file:
        for number, each in enumerate(recordings):
            group = file.create_group(f"traj_{number}")
            group["obs"], group["actions"], group["rewards"] = each.observations, each.actions, each.rewards
            group["success"] = each.success
            group["terminated"] = _at_end(each, each.terminated)
            group["truncated"] = _at_end(each, each.truncated)
    return SourceConfig(path=str(path / "x.h5"), task="go", rewards="recorded", **_range(actions))


# LeRobot --------------------------------------------------------------------------------------------------------------


def _frames(each: Recording, number: int, first: int, width: int | None) -> Any:
    n = len(each.actions)
    actions = each.actions if each.actions.ndim == 2 else each.actions[:, None]
    kind = pa.int64() if each.actions.dtype.kind == "i" else pa.float32()
    listed = pa.list_(kind) if width is None else pa.list_(kind, actions.shape[1])
    return pa.table(
        {
            "observation.state": pa.array(each.observations[:-1].tolist(), pa.list_(pa.float32())),
            "observation.images.top": pa.array([{"bytes": b"not looked at", "path": None}] * n),
            "action": pa.array(actions.tolist(), listed),
            "timestamp": np.arange(n) / 10,
            "frame_index": np.arange(n),
            "episode_index": np.full(n, number),
            "index": first + np.arange(n),
            "task_index": np.zeros(n, np.int64),
            "next.reward": each.rewards,
            "next.done": _at_end(each, each.terminated),
            "next.truncated": _at_end(each, each.truncated),
            "next.success": each.success,
        }
    )


def _lerobot(path: Path, recordings: list[Recording], version: str) -> Path:
    folder = path / f"lerobot-{version}"
    (folder / "meta").mkdir(parents=True)
    (folder / "data/chunk-000").mkdir(parents=True)
    first = np.cumsum([0, *(len(each.actions) for each in recordings)])
    width = 2 if version == "v3.0" else None
    tables = [_frames(each, number, int(first[number]), width) for number, each in enumerate(recordings)]
    info = {"codebase_version": version, "total_frames": int(first[-1]), "total_episodes": len(recordings), "fps": 10}
    (folder / "meta/info.json").write_text(json.dumps(info))
    if version == "v3.0":
        pq.write_table(pa.concat_tables(tables), folder / "data/chunk-000/file-000.parquet", row_group_size=3)
        pq.write_table(
            pa.table({"task_index": [0], "__index_level_0__": ["go to the goal"]}), folder / "meta/tasks.parquet"
        )
    else:
        for number, table in enumerate(tables):
            pq.write_table(table, folder / f"data/chunk-000/episode_{number:06d}.parquet")
        (folder / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "go to the goal"}) + "\n")
    return folder


def lerobot_2(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    folder = _lerobot(path, recordings, "v2.1")
    return SourceConfig(path=str(folder), task="go", rewards="recorded", **_range(actions))


def lerobot_3(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    folder = _lerobot(path, recordings, "v3.0")
    return SourceConfig(path=str(folder), task="go", rewards="recorded", **_range(actions))


# Pickles --------------------------------------------------------------------------------------------------------------


def replay_buffer(
    recordings: Sequence[Sequence[Recording]], actions: Actions, size: int, *, parts: bool = False
) -> Any:
    """A buffer of Stable-Baselines3 as its learners fill it: an environment for each list of recordings, continuous actions rescaled to [-1, 1]."""
    from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

    box = gymnasium.spaces.Box(-np.inf, np.inf, (recordings[0][0].observations.shape[1],))
    space: Any = gymnasium.spaces.Dict({"state": box, "other": box}) if parts else box
    n = len(recordings)
    buffer: Any = (DictReplayBuffer if parts else ReplayBuffer)(size * n, space, actions.space, "cpu", n_envs=n)
    rows = [[(each, t) for each in of_one for t in range(len(each.actions))] for of_one in recordings]
    for step in zip(*rows, strict=True):
        here = np.stack([each.observations[t] for each, t in step])
        there = np.stack([each.observations[t + 1] for each, t in step])
        buffer.add(
            {"state": here, "other": here * 0} if parts else here,
            {"state": there, "other": there * 0} if parts else there,
            np.stack([_stored(each.actions[t], actions) for each, t in step]),
            np.array([each.rewards[t] for each, t in step]),
            np.array([t == len(each.actions) - 1 and (each.terminated or each.truncated) for each, t in step]),
            [{"TimeLimit.truncated": bool(_at_end(each, each.truncated)[t])} for each, t in step],
        )
    return buffer


def _stored(action: Any, actions: Actions) -> NDArray[Any]:
    if actions.n:
        return np.array([action])
    low, high = np.array(actions.low), np.array(actions.high)
    return 2 * (action - low) / (high - low) - 1


def baselines_3(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    from stable_baselines3.common.save_util import save_to_pkl

    buffer = replay_buffer([recordings], actions, 100)
    save_to_pkl(path / "x.pkl", buffer)
    return SourceConfig(path=str(path / "x.pkl"), task="go", rewards="recorded", success="all")


def dictionaries(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    """A dictionary for each episode, as Decision Transformer's files are."""
    items = [{key: values for key, values in _flat([each]).items() if key != "infos/success"} for each in recordings]
    items = [{**item, "infos": {"success": each.success}} for item, each in zip(items, recordings, strict=True)]
    with (path / "x.pkl").open("wb") as stream:
        pickle.dump(items, stream)
    return SourceConfig(path=str(path / "x.pkl"), task="go", rewards="recorded", **_range(actions))


# What this package exports -------------------------------------------------------------------------------------------


def _episodes(recordings: list[Recording], codec: ActionCodec) -> list[Episode]:
    return [
        Episode(
            each.task,
            number,
            each.observations,
            _inner(codec.encoded_rows(each.actions, "test"), codec),
            each.rewards,
            bool(each.success.any()),
            each.terminated,
            each.truncated,
            int(np.flatnonzero(each.success)[0]) if each.success.any() else None,
        )
        for number, each in enumerate(recordings)
    ]


def _inner(actions: NDArray[Any], codec: ActionCodec) -> Any:
    return actions.astype(np.int64 if codec.space.discrete else np.float32)


def exported_npz(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    codec = read_actions(actions.space)
    save_episodes(path / "x.npz", _episodes(recordings, codec), codec)
    return SourceConfig(path=str(path / "x.npz"), rewards="recorded")


def exported_hdf5(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    codec = read_actions(actions.space)
    write_hdf5(path / "x.h5", _episodes(recordings, codec), codec)
    return SourceConfig(path=str(path / "x.h5"), rewards="recorded")


def exported_minari(path: Path, recordings: list[Recording], actions: Actions) -> SourceConfig:
    codec = read_actions(actions.space)
    about = About("me", "test", [], codec=codec)
    name, _ = write_minari("lago/x", _episodes(recordings, codec), "digest", about, path)
    return SourceConfig(path=str(path / name), rewards="recorded")


LAYOUTS = {
    "exported npz": Layout(exported_npz),
    "exported hdf5": Layout(exported_hdf5),
    "exported minari": Layout(exported_minari),
    "d4rl": Layout(d4rl),
    "d4rl without next": Layout(d4rl_without_next, last=False, cut=False),
    "qlearning": Layout(qlearning, ends=("terminated",)),
    "replay": Layout(replay),
    "d3rlpy 1": Layout(d3rlpy_1, last=False, cut=False),
    "ogbench": Layout(ogbench),
    "baselines 1": Layout(baselines_1, last=False, ends=()),
    "goal npz": Layout(goal_npz),
    "goal hdf5": Layout(goal_hdf5),
    "singular": Layout(singular, ends=()),
    "imitation 1": Layout(imitation_1, ends=("terminated",)),
    "robomimic": Layout(robomimic, ends=("terminated",)),
    "maniskill": Layout(maniskill),
    "lerobot 2": Layout(lerobot_2, last=False),
    "lerobot 3": Layout(lerobot_3, last=False),
    "baselines 3": Layout(baselines_3, success=False),
    "dictionaries": Layout(dictionaries),
}
