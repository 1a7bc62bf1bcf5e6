"""HDF5 files with a group for each episode, as ManiSkill (`traj_0`, ...) and robomimic (`data/demo_0`, ...) write them."""

# h5py ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import re
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lago_skills.data.files.ends import DONE_NAMES, LIMIT_NAMES
from lago_skills.data.files.raw import SUCCESS_NAMES, RawEpisode, text
from lago_skills.errors import DataError
from lago_skills.worlds.gym.spaces import joined_parts, parse_part

OBSERVATION_NAMES = ("observations", "obs")
NEXT_NAMES = ("next_observations", "next_obs")
ENVIRONMENT_ENDS = ("terminated", "terminations", "terminals")


def groups_of(file: Any) -> list[Any]:
    """The groups that are an episode each, in the order of their numbers; none in a file of another layout."""
    for parent in (file, file.get("data")):
        if isinstance(parent, h5py.Group):
            groups = [item for item in parent.values() if isinstance(item, h5py.Group) and "actions" in item]
            if groups:
                return sorted(groups, key=lambda group: _number(group.name))
    return []


def _number(name: str) -> tuple[int, str]:
    digits = re.findall(r"\d+", name.rpartition("/")[2])
    return int(digits[-1]) if digits else -1, name


def read_groups(
    groups: list[Any], name: str, task_key: str, entries: list[str], info: tuple[str, ...] = ()
) -> tuple[tuple[RawEpisode, ...], tuple[str, ...]]:
    """Episodes of such groups, and the fields that their ends were read from; `entries` names parts of the observation to join.

    Raises:
        DataError: a group lacks observations, or they have several parts and none is named.
    """
    fields: dict[str, None] = {}
    episodes = tuple(_episode(group, name, task_key, entries, info, fields) for group in groups)
    return episodes, (f"one group for each episode ({_short(groups[0])} to {_short(groups[-1])})", *fields)


def _short(group: Any) -> str:
    return str(group.name).strip("/")


def _episode(
    group: Any, name: str, task_key: str, entries: list[str], info: tuple[str, ...], fields: dict[str, None]
) -> RawEpisode:
    where = f"data {name!r}, group {_short(group)!r}"
    actions = np.asarray(group["actions"][()])
    n = len(actions)
    observations = _observations(group, OBSERVATION_NAMES, entries, where)
    if observations is None:
        raise DataError(
            f"{where}: found {sorted(group)}, no observations; expected {' or '.join(map(repr, OBSERVATION_NAMES))} beside 'actions'; write the file with them"
        )
    following = _observations(group, NEXT_NAMES, entries, where)
    if following is not None and len(observations) == n and len(following) == n and n:
        observations = np.concatenate([observations, following[-1:]])
    rewards = _steps(group, ("rewards", "reward"), n, where)
    terminated = _steps(group, ENVIRONMENT_ENDS, n, where, fields)
    truncated = _steps(group, LIMIT_NAMES, n, where, fields)
    done = _steps(group, DONE_NAMES, n, where, fields)
    limited = bool(truncated is not None and n and truncated[-1])
    ended = bool(terminated is not None and n and terminated[-1])
    if terminated is None and done is not None and n:
        ended = bool(done[-1]) and not limited
    infos = {key: values for key in (*SUCCESS_NAMES, *info) if (values := _steps(group, (key,), n, where)) is not None}
    task = group.attrs.get(task_key)
    seed = group.attrs.get("seed")
    return RawEpisode(
        observations,
        actions,
        rewards,
        terminated=ended,
        truncated=limited,
        infos=infos,
        seed=None if seed is None else int(seed),
        task=None if task is None else text(task),
    )


def _observations(group: Any, names: tuple[str, ...], entries: list[str], where: str) -> NDArray[Any] | None:
    key = next((each for each in names if each in group), None)
    if key is None:
        return None
    item = group[key]
    if isinstance(item, h5py.Dataset):
        return np.asarray(item[()])
    unknown = [entry for entry in entries if not isinstance(item.get(parse_part(entry).key), h5py.Dataset)]
    if not entries or unknown:
        raise DataError(
            f"{where}: found observations of several parts, {dataset_names(item)}, and observations = {entries}; expected the names of those to join, in their "
            "order; correct observations = [...] in [[data]]"
        )
    return joined_parts(lambda path: np.asarray(item["/".join(path)][()]), entries)


def dataset_names(group: Any) -> list[str]:
    """Names of all arrays of a file or group, those in groups inside too."""
    names: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            names.append(name)

    group.visititems(visit)
    return names


def _steps(
    group: Any, names: tuple[str, ...], n: int, where: str, fields: dict[str, None] | None = None
) -> NDArray[Any] | None:
    """(T,) one value for each step."""
    key = next((each for each in names if isinstance(group.get(each), h5py.Dataset)), None)
    if key is None:
        return None
    values = np.asarray(group[key][()]).reshape(-1)
    if len(values) == n + 1:
        values = values[1:]  # the first is that of the reset
    if len(values) != n:
        raise DataError(
            f"{where}: found {len(values)} entries of {key!r} and {n} actions; expected one for each; write the file again"
        )
    if fields is not None:
        fields[key] = None
    return values
