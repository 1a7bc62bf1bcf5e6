"""From a `[[data]]` of a study to what its file or folder holds; the kind is found out from the content."""

from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path

from lago_skills.artifacts.folder import file_hash, fingerprint
from lago_skills.data.config import SourceConfig
from lago_skills.data.episodes import read_npz
from lago_skills.data.files.raw import RawDataset
from lago_skills.errors import DataError

OTHERS = {"*.tfrecord*": "a dataset of TensorFlow", ".zgroup": "arrays of Zarr", "zarr.json": "arrays of Zarr"}
"""Folders of other kinds, by the files in them."""


def locate(config: SourceConfig, root: Path) -> Path:
    """The file or folder of a source; relative paths start at the project folder.

    Raises:
        DataError: there is none.
    """
    if config.minari is not None:
        from lago_skills.data.files.minari import dataset_folder

        return dataset_folder(config.minari)
    path = root / Path(str(config.path)).expanduser()
    if not path.exists():
        raise DataError(
            f"found no data at {str(path)!r}; expected a file, or the folder of a dataset; correct path = "
            f"{config.path!r} in [[data]]"
        )
    return path


def read(config: SourceConfig, root: Path) -> RawDataset:
    """Everything that a source holds; the kind of file is found out from its content.

    Raises:
        DataError: there is no such file, it is none of the kinds, or damaged.
    """
    path = locate(config, root)
    if path.is_dir():
        return _read_folder(path, config)
    from lago_skills.data.files import inert_pickle, tables
    from lago_skills.data.files.hdf5 import is_hdf5, read_hdf5

    if zipfile.is_zipfile(path):
        return read_npz(path, config)
    if is_hdf5(path):
        return read_hdf5(path, config)
    head = _head(path)
    if tables.is_parquet(head):
        return tables.read_parquet(path, config)
    if inert_pickle.is_pickle(head):
        from lago_skills.data.files.pickled import read_pickle

        return read_pickle(path, config)
    raise DataError(
        f"data {str(path)!r} is neither NPZ, HDF5, Parquet nor a pickled replay buffer (it begins with {head!r}); expected one of them, or the folder of a dataset of "
        "Minari, LeRobot or imitation; convert it, or correct the path"
    )


def _read_folder(path: Path, config: SourceConfig) -> RawDataset:
    from lago_skills.data.files import tables

    if tables.is_lerobot(path):
        return tables.read_lerobot(path, config.name, config)
    if tables.is_rollouts(path):
        return tables.read_rollouts(path, config.name, config)
    if kind := next((kind for sign, kind in OTHERS.items() if next(path.rglob(sign), None)), None):
        raise DataError(
            f"data {str(path)!r}: found {kind}; expected a folder of Minari, LeRobot or imitation, or a file; write its arrays with np.savez"
        )
    from lago_skills.data.files.minari import read_minari

    return read_minari(path, config.name, config.task_key, config.observations, config.info)


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(8)


def source_hash(config: SourceConfig, root: Path) -> str:
    """What manifests name a source by: a hash of its bytes.

    Raises:
        DataError: there is no such file.
    """
    path = locate(config, root)
    if not path.is_dir():
        return _hash(path, *_state(path))
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return fingerprint({p.relative_to(path).as_posix(): _hash(p, *_state(p)) for p in files})


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@lru_cache(maxsize=4096)
def _hash(path: Path, size: int, changed_ns: int) -> str:
    """A file's hash, computed once per state of the file: stages ask for it often, and data can be large."""
    del size, changed_ns
    return file_hash(path)
