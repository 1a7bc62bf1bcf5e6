"""A store at a URL for machines that share no folder: files under their hashes, artifacts under their recipes. The only door to `fsspec`.

Nothing in a store is ever changed, renamed or listed: a file's name is the hash of its bytes, an artifact's manifest is written after all of its
files, and whoever fetches checks every hash. So any number of machines may write at once, a cut leaves nothing that is taken for done, and
listings that lag behind, as those of object stores may, do no harm.
"""

# fsspec has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from lago_skills.artifacts.folder import (
    Manifest,
    disk_is_full,
    manifest_of,
    manifest_text,
    receive,
    verify,
)
from lago_skills.errors import ArtifactCorrupt, LagoError, StoreError

R = TypeVar("R")
PAUSES_S = (0.5, 2.0, 8.0)
"""Before something is tried once more that failed, as it may where there is a network."""
LOCAL = {"file", "local"}
RENAMING = LOCAL | {"sftp", "ssh", "smb", "ftp"}
"""Kinds of store where a file that is being written can be seen, and be renamed when it is whole."""
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, LagoError)
"""What trying again does not mend."""


class Store:
    """Files and artifacts at a URL such as `s3://bucket/lago`, `gs://...`, `sftp://...` or `file:///mnt/share`."""

    def __init__(self, url: str) -> None:
        """Open it; nothing is read yet.

        Raises:
            StoreError: no such kind of store is known, or its package is not installed.
        """
        from fsspec.core import url_to_fs

        self.url = url
        try:
            self._files, base = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        except Exception as error:  # some kinds of store connect, and say who one is, right here
            raise StoreError(
                f"found the store {url!r}, which cannot be opened ({type(error).__name__}: {error}); expected a URL that fsspec knows, such as "
                "s3://bucket/folder, its package installed (s3fs, gcsfs, adlfs, paramiko), and its server up; correct the URL, install it, or see to "
                "the server"
            ) from error
        self._renames = bool(RENAMING & {*self._protocols()})
        self._base: str = str(base).rstrip("/")
        self._lock = threading.Lock()

    def check(self) -> None:
        """Write something, read it back and remove it.

        Raises:
            StoreError: that was not possible.
        """
        name, data = f"checks/{uuid.uuid4().hex}", uuid.uuid4().bytes
        self._write(name, data)
        if self._read(name) != data:
            raise StoreError(
                f"the store {self.url!r} gave back something else than was written; expected the same bytes; see to the store"
            )
        self._try("written", lambda: self._files.rm_file(self._path(name)))

    def push(self, root: Path, folder: Path) -> Manifest:
        """Put an artifact into the store, unless it is there; its manifest.

        Args:
            root: the project folder, from which the artifact's place is reckoned.
            folder: a finished artifact in it.

        Raises:
            ArtifactMissing | ArtifactCorrupt: there is none, or it is damaged.
            StoreError: the store cannot be written.
        """
        manifest = verify(folder)
        name = _artifact(root, folder, manifest.key)
        for file, sha256 in manifest.files.items():
            if not self._has(_file(sha256), (folder / file).stat().st_size):
                self.push_file(folder / file)
        if _manifest(self._read(name), manifest.key) is None:  # not there, or cut while it was written
            self._write(name, manifest_text(manifest).encode(), anew=True)
        return manifest

    def pull(self, root: Path, folder: Path, key: str) -> bool:
        """Put the artifact of a recipe into its place in the project folder; whether the store has it with all its files.

        Raises:
            ArtifactCorrupt: a file in the store is damaged.
            StoreError: the store cannot be read.
            DiskFull: there is no room here.
        """
        text = self._read(_artifact(root, folder, key))
        manifest = _manifest(text, key)
        if manifest is None or not all(self._has(_file(sha256)) for sha256 in manifest.files.values()):
            return False
        receive(folder, manifest, lambda _, sha256, path: self.pull_file(sha256, path))
        return True

    def push_file(self, path: Path) -> str:
        """Put a file into the store, unless it is there; its SHA-256, under which it is found again."""
        return self._push(path.read_bytes())

    def push_text(self, text: str) -> str:
        """Put a text into the store; its SHA-256."""
        return self._push(text.encode())

    def _push(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self._write(_file(sha256), data)
        return sha256

    def pull_file(self, sha256: str, path: Path) -> None:
        """Fetch a file.

        Raises:
            StoreError: it is not there, or the store cannot be read.
            ArtifactCorrupt: it is damaged.
        """
        data = self._read(_file(sha256))
        if data is None:
            raise StoreError(
                f"the store {self.url!r} lacks the file {sha256[:12]}, which something in it was made with; expected it; empty the store, or make "
                "that again"
            )
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ArtifactCorrupt(
                f"the store {self.url!r} holds other bytes under {_file(sha256)} than its name says; expected what was written; delete "
                "that file in the store and run the same command again"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}"

    def _has(self, name: str, size: int | None = None) -> bool:
        """Whether it is there and, where its size is known, whole."""

        def look() -> bool:
            try:
                actual = self._files.info(self._path(name))["size"]
            except FileNotFoundError:
                return False
            return size is None or actual == size

        return self._try("read", look)

    def _read(self, name: str) -> bytes | None:
        def read() -> bytes | None:
            try:
                return self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None

        return self._try("read", read)

    def _write(self, name: str, data: bytes, *, anew: bool = False) -> None:
        """Write a file in one piece, unless it is there whole: under another name first where that one can be renamed; elsewhere a file is there at once or not at all."""
        if not anew and self._has(name, len(data)):
            return
        path = self._path(name)
        part = f"{path}.{uuid.uuid4().hex[:8]}.part" if self._renames else path

        def write() -> None:
            with self._lock:
                self._files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                try:
                    self._files.pipe_file(part, data)
                    if part != path:
                        self._rename(part, path)
                except BaseException:
                    if part != path:
                        with contextlib.suppress(Exception):
                            self._files.rm_file(part)
                    raise

        self._try("written", write)

    def _rename(self, part: str, path: str) -> None:
        if LOCAL & {*self._protocols()}:
            Path(part).replace(path)  # fsspec's own move copies where it cannot rename
            return
        with contextlib.suppress(FileNotFoundError):  # over SFTP a name that is taken cannot be had
            self._files.rm_file(path)
        self._files.mv(part, path)

    def _protocols(self) -> tuple[str, ...]:
        known: str | tuple[str, ...] = self._files.protocol
        return (known,) if isinstance(known, str) else known

    def _try(self, done: str, action: Callable[[], R]) -> R:
        for pause in (*PAUSES_S, None):
            try:
                return action()
            except Exception as error:  # each kind of store has errors of its own
                full = isinstance(error, OSError) and disk_is_full(error)
                if pause is None or full or isinstance(error, FINAL):
                    reason = "it is full" if full else f"{type(error).__name__}: {error}"
                    raise StoreError(
                        f"the store {self.url!r} could not be {done} ({reason}); expected a place that this machine can read and write; see to "
                        "it and run the same command again (what is finished is kept in the project folder)"
                    ) from error
            time.sleep(pause)
        raise AssertionError


def _file(sha256: str) -> str:
    return f"files/{sha256[:2]}/{sha256}"


def _artifact(root: Path, folder: Path, key: str) -> str:
    return f"artifacts/{folder.relative_to(root).as_posix()}/{key}.json"


def _manifest(text: bytes | None, key: str) -> Manifest | None:
    """What is written there; None where there is nothing, or a half."""
    if text is None:
        return None
    try:
        manifest = manifest_of(text.decode(), "store")
    except (ValueError, KeyError, TypeError):
        return None
    return manifest if manifest.key == key else None


def snapshot_text(files: Iterable[tuple[str, str]]) -> str:
    """The list of a set of files, `(path in the project, SHA-256)` each, as it is put into a store."""
    return json.dumps(dict(sorted(files)), indent=1) + "\n"


def snapshot_files(text: str) -> dict[str, str]:
    """The files of such a list: SHA-256 by path in the project."""
    files: dict[str, Any] = json.loads(text)
    return {str(name): str(sha256) for name, sha256 in files.items()}
