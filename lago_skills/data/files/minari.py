"""Minari datasets, in and out. The only door to Minari.

`minari.DataCollector` needs jax; `create_dataset_from_buffers`, which is used here, does not.
"""

# Minari's annotations leave many types partially unknown.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from gymnasium.envs.registration import EnvSpec
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.storage.datasets_root_dir import get_dataset_path
from numpy.typing import NDArray

from lago_skills.core import Episode
from lago_skills.data.exchange import Recorded, in_environment
from lago_skills.data.files.raw import FIRST_SUCCESS, SUCCESS_NAMES, Kind, RawDataset, RawEpisode, step_record
from lago_skills.errors import DataError
from lago_skills.worlds.gym.read_spaces import leaves
from lago_skills.worlds.gym.spaces import ActionCodec, joined_parts, parse_part

ROOT_VARIABLE = "MINARI_DATASETS_PATH"
DIGEST_KEY = "lago_episodes"


def dataset_folder(dataset_id: str) -> Path:
    """Where an installed dataset is.

    Raises:
        DataError: no such dataset is installed.
    """
    folder = Path(get_dataset_path(dataset_id))
    if not (folder / "data").is_dir():
        raise DataError(
            f"found no Minari dataset {dataset_id!r} in {str(get_dataset_path())!r}; expected one that is installed; install "
            f"it with: minari download {dataset_id}, or give its path"
        )
    return folder


def data_folder(folder: Path) -> Path:
    """The part of a dataset's folder that holds its files."""
    return folder / "data" if (folder / "data").is_dir() else folder


def read_minari(folder: Path, name: str, task_key: str, entries: list[str], info: tuple[str, ...] = ()) -> RawDataset:
    """Episodes of a Minari dataset; `entries` names the parts of a dictionary observation to join.

    Raises:
        DataError: the folder is no Minari dataset, or its spaces are of a kind that cannot be used.
    """
    kind: Kind = "minari"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = minari.MinariDataset(data_folder(folder))
            _check_space(dataset.observation_space, entries, name)
            metadata = list(dataset.storage.get_episode_metadata(dataset.episode_indices))
            episodes = [
                _episode(raw, about, entries, task_key, info)
                for raw, about in zip(dataset.iterate_episodes(), metadata, strict=True)
            ]
            space, spec = dataset.action_space, dataset.env_spec
    except (OSError, ValueError, KeyError, TypeError, AssertionError, ImportError, AttributeError) as error:
        raise DataError(
            f"data {name!r} cannot be read as a Minari dataset ({type(error).__name__}: {error}); expected a folder that "
            "Minari wrote; install the dataset again, or correct the path"
        ) from error
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    if isinstance(space, gymnasium.spaces.Box):
        if np.isfinite(space.low).all() and np.isfinite(space.high).all():
            bounds = space.low.astype(np.float64), space.high.astype(np.float64)
    elif not isinstance(space, (gymnasium.spaces.Discrete, gymnasium.spaces.MultiDiscrete)):
        raise DataError(
            f"data {name!r}: found actions of the space {space}; expected Box, Discrete or MultiDiscrete; flatten the actions first"
        )
    start = int(space.start) if isinstance(space, gymnasium.spaces.Discrete) else 0
    several = str(space) if isinstance(space, gymnasium.spaces.MultiDiscrete) else None
    return RawDataset(
        name, kind, tuple(episodes), bounds, spec.id if spec else None, action_start=start, several_actions=several
    )


def _check_space(space: Any, entries: list[str], name: str) -> None:
    known = leaves(space) if isinstance(space, gymnasium.spaces.Dict) else {}
    parts = ["/".join(path) for path in known]
    unknown = [entry for entry in entries if parse_part(entry).path not in known]
    if isinstance(space, gymnasium.spaces.Box):  # joined already
        return
    if not parts or not entries or unknown:
        what = f"a dictionary of {parts}" if parts else f"the space {type(space).__name__}"
        raise DataError(
            f"data {name!r}: found observations of {what} and observations = {entries}; expected numbers (a Box), or the "
            "names of a dictionary's entries to join; correct observations = [...] in the source"
        )


def _episode(raw: Any, about: dict[str, Any], entries: list[str], task_key: str, info: tuple[str, ...]) -> RawEpisode:
    observations = raw.observations
    if entries and isinstance(observations, dict):
        observations = joined_parts(lambda path: _entry(raw.observations, path), entries)
    n, success = len(raw.actions), about.get("success")
    infos: dict[str, NDArray[Any]] = {}
    for name in dict.fromkeys((*SUCCESS_NAMES, *info)):
        values = _info(raw.infos, name)
        if n and len(values) in (n, n + 1):  # with that of the reset, or without
            infos[name] = values[len(values) - n :].reshape(n, -1)[:, 0]
    record = step_record(int(about.get(FIRST_SUCCESS, -1)), n)
    if len(record) and not infos:
        infos["success"] = record
    seed, task = about.get("seed"), about.get(task_key)
    return RawEpisode(
        observations=np.asarray(observations),
        actions=np.asarray(raw.actions),
        rewards=np.asarray(raw.rewards),
        terminated=bool(len(raw.terminations) and raw.terminations[-1]),
        truncated=bool(len(raw.truncations) and raw.truncations[-1]),
        infos=infos,
        success=None if success is None else bool(success),
        seed=None if seed is None else int(seed),
        task=None if task is None else str(task),
    )


def _entry(observations: Any, path: tuple[str, ...]) -> NDArray[Any]:
    for key in path:
        observations = observations[key]
    return np.asarray(observations)


def _info(infos: Any, name: str) -> NDArray[Any]:
    """An entry of the steps' infos, of nested ones by names joined by a slash; empty where there is none."""
    for part in name.split("/"):
        if not isinstance(infos, dict) or part not in infos:
            return np.zeros(0)
        infos = infos[part]
    return np.zeros(0) if isinstance(infos, dict) else np.asarray(infos)


@dataclass(frozen=True)
class About:
    """What an exported dataset says about itself."""

    algorithm: str
    description: str
    requirements: list[str]
    author: str | None = None
    author_email: str | None = None
    env_spec: EnvSpec | None = None
    """Makes the environment that the episodes come from."""
    codec: ActionCodec | None = None
    """From actions of the episodes to the environment's; None where they are the same."""


def write_minari(stem: str, episodes: list[Episode], digest: str, about: About, root: Path | None) -> tuple[str, bool]:
    """Add a dataset `<stem>-v<N>` to Minari's folder (or another one); returns its id and whether it is new.

    The dataset appears in one step, complete. A latest version that holds the same episodes is left as it is.
    """
    with _datasets_root(root):
        folder = Path(get_dataset_path())
    versions = sorted(
        int(path.name.rpartition("-v")[2])
        for path in folder.glob(f"{stem}-v*")
        if path.name.rpartition("-v")[2].isdigit()
    )
    if versions:
        latest = f"{stem}-v{versions[-1]}"
        about_latest = minari.MinariDataset(folder / latest / "data").storage.metadata
        if about_latest.get(DIGEST_KEY) == digest:
            return latest, False
    dataset_id = f"{stem}-v{versions[-1] + 1 if versions else 0}"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".lago-", dir=folder) as temporary:
        with _datasets_root(Path(temporary)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Minari warns of every piece of metadata that is left out
            dataset = minari.create_dataset_from_buffers(
                dataset_id,
                [_buffer(in_environment(episode, about.codec), i) for i, episode in enumerate(episodes)],
                env=about.env_spec,
                algorithm_name=about.algorithm,
                author=about.author,
                author_email=about.author_email,
                description=about.description,
                observation_space=gymnasium.spaces.Box(-np.inf, np.inf, episodes[0].observations.shape[1:], np.float32),
                action_space=_action_space(episodes, about),
                requirements=about.requirements,
            )
            dataset.storage.update_episode_metadata(
                [
                    {
                        "success": episode.success,
                        "task_id": episode.task_id,
                        FIRST_SUCCESS: -1 if episode.success_step is None else episode.success_step,
                    }
                    for episode in episodes
                ]
            )
            dataset.storage.update_metadata({DIGEST_KEY: digest})
        target = folder / dataset_id
        target.parent.mkdir(parents=True, exist_ok=True)
        namespace = Path(temporary) / Path(dataset_id).parent / "namespace_metadata.json"
        if namespace.is_file() and not (target.parent / namespace.name).exists():
            namespace.rename(target.parent / namespace.name)
        (Path(temporary) / dataset_id).rename(target)
    return dataset_id, True


def _action_space(episodes: list[Episode], about: About) -> Any:
    if about.codec is not None:
        return about.codec.environment_space()
    if not episodes[0].discrete:
        return gymnasium.spaces.Box(-1.0, 1.0, episodes[0].actions.shape[1:], np.float32)
    if about.env_spec is not None:
        return None  # the environment's own
    return gymnasium.spaces.Discrete(1 + max(int(episode.actions.max()) for episode in episodes))


def _buffer(recorded: Recorded, number: int) -> EpisodeBuffer:
    episode = recorded.episode
    n = len(episode.actions)
    last = np.arange(n) == n - 1
    observations: Any = episode.observations  # Minari's annotation asks for lists; its storage takes arrays
    actions: Any = recorded.actions
    return EpisodeBuffer(
        id=number,
        seed=episode.seed,
        observations=observations,
        actions=actions,
        rewards=list(episode.rewards),
        terminations=list(last & episode.terminated),
        truncations=list(last & episode.truncated),
    )


@contextlib.contextmanager
def _datasets_root(root: Path | None) -> Generator[None]:
    """Minari takes its folder from the environment alone."""
    before = os.environ.get(ROOT_VARIABLE)
    if root is not None:
        os.environ[ROOT_VARIABLE] = str(root)
    try:
        yield
    finally:
        if before is not None:
            os.environ[ROOT_VARIABLE] = before
        elif root is not None:
            del os.environ[ROOT_VARIABLE]
