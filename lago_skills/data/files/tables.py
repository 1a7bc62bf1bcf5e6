"""Arrow and Parquet: datasets of LeRobot (v2 and v3), rollouts of imitation, and flat Parquet files. The only door to PyArrow, which is optional."""

# PyArrow ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.data.config import SourceConfig
from lago_skills.data.files.layouts import renamed
from lago_skills.data.files.pickled import step_infos
from lago_skills.data.files.raw import INFO_PREFIXES, SUCCESS_NAMES, Kind, RawDataset, RawEpisode, split, wanted
from lago_skills.errors import DataError
from lago_skills.worlds.gym.spaces import joined_parts, parse_part

EPISODE, FRAME, TASK = "episode_index", "frame_index", "task_index"
AFTER = "next."
"""LeRobot's prefix of what a step led to: `next.reward`, `next.done`, `next.success`."""
OBSERVATION = "observation"
"""Columns of which names begin so are observations; those with `image` in their names are not looked at."""
RENAMED = {"reward": "rewards", "action": "actions"}
_LFS = b"version https://git-lfs"


def is_lerobot(folder: Path) -> bool:
    """Whether a folder is a dataset of LeRobot."""
    return (folder / "meta/info.json").is_file()


def is_rollouts(folder: Path) -> bool:
    """Whether a folder is one that `datasets` saves tables in, as imitation's rollouts are."""
    return (folder / "state.json").is_file() and any(folder.glob("*.arrow"))


def is_parquet(head: bytes) -> bool:
    """Whether a file that begins so is Parquet."""
    return head.startswith(b"PAR1")


def read_lerobot(folder: Path, name: str, config: SourceConfig) -> RawDataset:
    """Episodes of a dataset of LeRobot: its numbers alone, neither images nor videos are read.

    Raises:
        DataError: it is damaged or incomplete, a column that is named is not there, or several could be meant.
    """
    files = sorted((folder / "data").rglob("*.parquet"))
    if not files:
        raise DataError(
            f"data {name!r}: found no Parquet file below {str(folder / 'data')!r}; expected those of a dataset of LeRobot, version 2 or 3; download it whole"
        )
    try:
        info = json.loads((folder / "meta/info.json").read_text(encoding="utf-8"))
        total, texts = int(info.get("total_frames", -1)), _task_texts(folder, name)
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise DataError(
            f"data {name!r}: its folder meta cannot be read ({type(error).__name__}: {error}); expected info.json and tasks as LeRobot writes them; download them again"
        ) from error
    raw = _from_files(files, name, config, "lerobot", texts)
    n = sum(len(episode.actions) for episode in raw.episodes)
    if total not in (-1, n):
        raise DataError(
            f"data {name!r}: found {n} steps in {len(files)} files; expected {total}, as meta/info.json says; download the rest of it"
        )
    return raw


def read_parquet(path: Path, config: SourceConfig) -> RawDataset:
    """Episodes of a Parquet file of flat columns, or of LeRobot's.

    Raises:
        DataError: it is damaged, a column that is named is not there, or several could be meant.
    """
    return _from_files([path], str(path), config, "parquet", {})


def read_rollouts(folder: Path, name: str, config: SourceConfig) -> RawDataset:
    """Rollouts that imitation saved: a row for each episode, with one observation more than actions.

    Raises:
        DataError: they are damaged, or of another form.
    """
    _, ipc = _pyarrow(name)
    episodes: list[RawEpisode] = []
    try:
        for path in sorted(folder.glob("*.arrow")):
            with path.open("rb") as stream:
                rows = ipc.open_stream(stream).read_all().to_pylist()
            episodes += [_of_row(row, config) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"data {name!r} cannot be read ({type(error).__name__}: {error}); expected rollouts as imitation's serialize.save writes them: obs, acts, terminal, infos and "
            "perhaps rews of each episode; write them again"
        ) from error
    return RawDataset(name, "imitation", tuple(episodes), ends=("terminal",))


def _of_row(row: dict[str, Any], config: SourceConfig) -> RawEpisode:
    rewards = row.get("rews")
    infos = step_infos([_decoded(step) for step in row.get("infos") or ()], len(row["acts"]))
    return RawEpisode(
        np.array(row["obs"]),
        np.array(row["acts"]),
        None if rewards is None else np.array(rewards),
        terminated=bool(row["terminal"]),
        truncated=not row["terminal"],
        infos={key: values for key, values in infos.items() if key in (*SUCCESS_NAMES, *config.info)},
    )


def _decoded(text: str) -> Any:
    """An entry of infos, which imitation writes as JSON with the classes of what is no JSON; plain numbers are plain there."""
    try:
        return json.loads(text)
    except ValueError:
        return {}


# Columns --------------------------------------------------------------------------------------------------------------


def _from_files(
    files: Sequence[Path], name: str, config: SourceConfig, kind: Kind, texts: Mapping[int, str]
) -> RawDataset:
    tables = [_from_file(path, name, config) for path in files]
    arrays = _in_order({key: np.concatenate([table[key] for table in tables]) for key in tables[0]}, name)
    tasks = arrays.pop(TASK, None)
    if tasks is not None and EPISODE in arrays and config.task_key not in arrays:
        first = np.flatnonzero(np.diff(arrays[EPISODE], prepend=arrays[EPISODE][:1] - 1))
        arrays[config.task_key] = np.array([texts.get(int(number), str(number)) for number in tasks[first]])
    if not len(arrays["actions"]):
        return RawDataset(name, kind, ())
    episodes, ends = split(renamed(arrays, list(arrays)), name, config.task_key, config.info)
    return RawDataset(name, kind, episodes, ends=ends)


def _from_file(path: Path, name: str, config: SourceConfig) -> dict[str, NDArray[Any]]:
    """Its columns, as arrays of rows, under the names that are read elsewhere."""
    with path.open("rb") as stream:
        if stream.read(len(_LFS)) == _LFS:
            raise DataError(
                f"data {name!r}: found {str(path)!r} to be a pointer of Git LFS; expected the file itself; fetch it with: git lfs pull"
            )
    parquet, _ = _pyarrow(name)
    try:
        columns = list(parquet.read_schema(path).names)
        chosen, parts = _chosen(columns, config), _observations(columns, name, config)
        table = parquet.read_table(path, columns=[*chosen.values(), *parts])
        held = {column: _column(table.column(column)) for column in table.column_names}
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"data {name!r}: {str(path)!r} cannot be read ({error}); expected Parquet with columns of numbers; write or download the file again"
        ) from error
    arrays = {key: held[column] for key, column in chosen.items()}
    entries = config.observations or parts
    return {**arrays, "observations": joined_parts(lambda path: held["/".join(path)], entries)}


def _chosen(columns: list[str], config: SourceConfig) -> dict[str, str]:
    """Columns beside the observation's, by the names that are read elsewhere: `next.reward` is `rewards`, say."""
    chosen: dict[str, str] = {}
    for column in columns:
        plain = column.removeprefix(AFTER)
        plain = INFO_PREFIXES[0] + plain if plain in SUCCESS_NAMES else RENAMED.get(plain, plain)
        if plain != "observations" and (column in (FRAME, TASK) or wanted(plain, config.task_key, config.info)):
            chosen[plain] = column
    return chosen


def _observations(columns: list[str], name: str, config: SourceConfig) -> list[str]:
    """The columns that observations are joined of."""
    known = [each for each in columns if each.startswith(OBSERVATION) and "image" not in each]
    if config.observations:
        asked = list(dict.fromkeys("/".join(parse_part(each).path) for each in config.observations))
        if unknown := [each for each in asked if each not in columns]:
            raise DataError(
                f"data {name!r}: found no column {unknown[0]!r}, as observations = {config.observations} says; expected some of {known or columns}; correct it in [[data]]"
            )
        return asked
    if len(known) == 1:
        return known
    found = f"several columns of observations, {known}" if known else f"no column of observations among {columns}"
    raise DataError(
        f"data {name!r}: found {found}; expected one, or the names of those to join, in their order; say observations = [...] in [[data]]"
    )


def _in_order(arrays: dict[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
    """Rows in the order of episodes and of the steps in each, with observations joined later."""
    if EPISODE not in arrays:
        return arrays
    frames = arrays.pop(FRAME, None)
    ids = arrays[EPISODE].astype(np.int64)
    order = np.lexsort((frames, ids)) if frames is not None else np.argsort(ids, kind="stable")
    ordered = {key: values[order] for key, values in arrays.items()}
    if frames is not None:
        ids, steps = ids[order], frames[order].astype(np.int64)
        starts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1))
        expected = np.arange(len(ids)) - np.repeat(starts, np.diff(np.append(starts, len(ids))))
        if len(wrong := np.flatnonzero(steps != expected)):
            raise DataError(
                f"data {name!r}: found {FRAME} {steps[wrong[0]]} of episode {ids[wrong[0]]} in the place of {expected[wrong[0]]}; expected every step once, from 0; "
                "download or write the file again"
            )
    return ordered


def _column(column: Any) -> NDArray[Any]:
    """(N,) or (N, A): numbers, or lists of as many in each row."""
    array = column.combine_chunks()
    n, nested = len(array), False
    while hasattr(array, "flatten") and hasattr(array.type, "value_type"):
        lengths = np.unique(array.value_lengths()) if hasattr(array, "value_lengths") else ()
        if len(lengths) > 1:
            raise ValueError(f"lists of {lengths[0]} to {lengths[-1]} entries in one column")
        array, nested = array.flatten(), True
    values = np.asarray(array.to_numpy(zero_copy_only=False))
    return values.reshape(n, -1) if nested and n else values


def _task_texts(folder: Path, name: str) -> dict[int, str]:
    """What each numbered task is called: lines of JSON in version 2, a table in version 3."""
    lines, table = folder / "meta/tasks.jsonl", folder / "meta/tasks.parquet"
    if lines.is_file():
        read = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {int(each[TASK]): str(each["task"]) for each in read}
    if not table.is_file():
        return {}
    parquet, _ = _pyarrow(name)
    columns = parquet.read_table(table).to_pydict()
    numbers = columns.pop(TASK)
    (texts, *_) = columns.values()  # the text is the index of the table, called in several ways
    return {int(number): str(text) for number, text in zip(numbers, texts, strict=True)}


def _pyarrow(name: str) -> tuple[Any, Any]:
    """PyArrow's readers of Parquet and of its own format."""
    try:
        from pyarrow import ipc, parquet
    except ImportError as error:
        raise DataError(
            f"data {name!r}: found Arrow or Parquet, and no PyArrow here; expected it; install it with: pip install 'lago-skills[parquet]'"
        ) from error
    return parquet, ipc
