"""Artifact folders: a manifest with hashes, written atomically, so that a stage is done when its manifest says so.

An artifact is a folder with files and a `manifest.json` naming its inputs by digest, the code version, the seed
and the command. It is built in a temporary folder beside its place, synced, and renamed: a cut at any moment leaves
either the old artifact, the new one, or a temporary folder that the next run sweeps away.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lago_skills
from lago_skills.errors import ArtifactCorrupt, ArtifactMissing, DiskFull, FormatTooNew

MANIFEST = "manifest.json"
FORMAT = 1
ABANDONED_AFTER_S = 7 * 86_400.0
"""A temporary folder of another machine is swept away when nothing was put into it for so long: no piece of work takes a week."""


@dataclass(frozen=True)
class Manifest:
    """What an artifact was made from, by what, with which seed; and the hash of each of its files."""

    kind: str
    key: str
    """SHA-256 of the canonical recipe: stage version, configuration and digests of the inputs."""
    recipe: dict[str, Any]
    files: dict[str, str]
    """Relative path to SHA-256."""
    digest: str
    """SHA-256 over `files` (or what a file says, see `ArtifactWriter.content`): what other artifacts name this one by."""
    code_version: str
    command: str
    created_at: str
    seconds: float = 0.0
    summary: dict[str, Any] = field(default_factory=dict[str, Any])
    format: int = FORMAT


def fingerprint(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an artifact folder, or None where there is no finished artifact.

    Raises:
        ArtifactCorrupt: the manifest cannot be read.
        FormatTooNew: a newer version of this package wrote it.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        return manifest_of(path.read_text(encoding="utf-8"), str(folder))
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactCorrupt(
            f"manifest {str(path)!r} cannot be read ({error}); expected the JSON that made the artifact; "
            f"delete the folder {str(folder)!r} and run the stage again"
        ) from error


def manifest_text(manifest: Manifest) -> str:
    """A manifest as it is written."""
    return json.dumps(asdict(manifest), indent=1, ensure_ascii=False) + "\n"


def manifest_of(text: str, where: str) -> Manifest:
    """The manifest that is written there.

    Raises:
        ValueError | KeyError | TypeError: it is none.
        FormatTooNew: a newer version of this package wrote it.
    """
    raw: dict[str, Any] = json.loads(text)
    if raw["format"] > FORMAT:
        raise FormatTooNew(
            f"artifact {where!r} was written in format {raw['format']}; this version reads formats up to "
            f"{FORMAT}; upgrade lago-skills"
        )
    return Manifest(**raw)


def verify(folder: Path) -> Manifest:
    """The manifest of a finished artifact whose files all match their hashes.

    Raises:
        ArtifactMissing: there is no finished artifact in that folder.
        ArtifactCorrupt: a file is missing or differs from its hash.
        FormatTooNew: a newer version of this package wrote it.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise ArtifactMissing(
            f"no finished artifact in {str(folder)!r}; expected a {MANIFEST}; run the stage that makes it"
        )
    for name, expected in manifest.files.items():
        path = folder / name
        actual = file_hash(path) if path.is_file() else "no such file"
        if actual != expected:
            raise ArtifactCorrupt(
                f"file {str(path)!r} has hash {actual[:12]}, its manifest says {expected[:12]}; the artifact is "
                f"damaged; delete the folder {str(folder)!r} and run the stage again"
            )
    return manifest


def is_current(folder: Path, key: str) -> bool:
    """Whether the folder holds an intact artifact made from exactly this recipe.

    Raises:
        ArtifactCorrupt: it is of this recipe, but a file is missing or differs from its hash.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest.key != key:
        return False
    verify(folder)
    return True


class ArtifactWriter:
    """A folder being filled; `summary` ends up in the manifest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.summary: dict[str, Any] = {}
        self.content: dict[str, str] = {}
        """Relative path of a file to a fingerprint of what it says, where its bytes also hold times or random names. The digest
        of the artifact is made from it, so that two builds of one thing have one digest."""
        self.uncounted: set[str] = set()
        """Relative paths of files that say what others say too, under names that hold times: the digest leaves them out."""


@contextmanager
def writing(folder: Path, kind: str, recipe: dict[str, Any]) -> Generator[ArtifactWriter]:
    """Fill a temporary folder, then make it the artifact in one rename; an exception leaves what was there.

    Raises:
        DiskFull: no room; what was finished before stays valid.
    """
    started, began = datetime.now(UTC), time.monotonic()
    with _becoming(folder) as temporary:
        writer = ArtifactWriter(temporary)
        yield writer
        names = sorted(p.relative_to(temporary).as_posix() for p in temporary.rglob("*") if p.is_file())
        files = {name: file_hash(temporary / name) for name in names}
        manifest = Manifest(
            kind=kind,
            key=fingerprint(recipe),
            recipe=recipe,
            files=files,
            digest=fingerprint(
                {name: writer.content.get(name, sha) for name, sha in files.items() if name not in writer.uncounted}
            ),
            code_version=lago_skills.__version__,
            command=" ".join(["lago", *sys.argv[1:]]),
            created_at=started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - began, 1),
            summary=writer.summary,
        )
        write_text(temporary / MANIFEST, manifest_text(manifest))
        for name in names:
            _sync(temporary / name)
        _sync(temporary)


def receive(folder: Path, manifest: Manifest, fetch: Callable[[str, str, Path], None]) -> None:
    """Put an artifact that was made elsewhere into its place, in one rename.

    Args:
        folder: its place.
        manifest: its own, as it was written where the artifact was made.
        fetch: `fetch(name, SHA-256, path)` puts one file there.

    Raises:
        ArtifactCorrupt: a file's name leads out of the folder, or its bytes are not those of the manifest.
        DiskFull: there is no room.
    """
    with _becoming(folder) as temporary:
        for name, expected in manifest.files.items():
            path = temporary / name
            if temporary.resolve() not in path.resolve().parents:
                raise ArtifactCorrupt(
                    f"found the file name {name!r} in the manifest of artifact {folder.name!r}; expected names inside its folder; do not use "
                    "what somebody else has written"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            fetch(name, expected, path)
            actual = file_hash(path)
            if actual != expected:
                raise ArtifactCorrupt(
                    f"file {name!r} of artifact {folder.name!r} came with hash {actual[:12]}, its manifest says {expected[:12]}; expected what was "
                    "written; delete that file where it comes from and make the artifact again"
                )
            _sync(path)
        write_text(temporary / MANIFEST, manifest_text(manifest))


@contextmanager
def _becoming(folder: Path) -> Generator[Path]:
    """A temporary folder beside an artifact's place that takes it at the end of the block, in one rename; an error leaves what was there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    temporary = folder.parent / f".{folder.name}.{_writer()}.tmp"
    temporary.mkdir()
    try:
        yield temporary
        _replace(temporary, folder)
    except OSError as error:
        if disk_is_full(error):
            raise DiskFull(
                f"the disk of {str(folder.parent)!r} is full while writing artifact {folder.name!r}; expected room for "
                "it; free some space and run the same command again (finished stages are kept)"
            ) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(temporary: Path, folder: Path) -> None:
    old = folder.parent / f".{folder.name}.{_writer()}.old"
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what interrupted writers of this artifact left beside it; a half-done swap is completed or undone. For whoever alone may write it now."""
    for path in folder.parent.glob(f".{folder.name}.*.old"):
        if not folder.exists():
            path.rename(folder)
    remove_abandoned(folder)


def remove_abandoned(folder: Path) -> None:
    """Remove what interrupted writers of this artifact left beside it, as far as nobody may be at it: for anybody, at any time."""
    if folder.exists():
        for path in folder.parent.glob(f".{folder.name}.*.old"):
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.parent.glob(f".{folder.name}.*.tmp"):
        if not _at_work(path):
            shutil.rmtree(path, ignore_errors=True)


def _writer() -> str:
    """This process, among all that may write into a shared folder."""
    return f"{_host()}-{os.getpid()}"


def _host() -> str:
    return socket.gethostname().replace(".", "_")


def _at_work(temporary: Path) -> bool:
    """Whether the writer of a temporary folder may still be at it; of another machine's only its age can be known."""
    host, _, pid = temporary.name.split(".")[-2].rpartition("-")
    if host in ("", _host()):  # versions before had no host in the name
        return _alive(int(pid))
    try:
        return _now_at(temporary.parent) - temporary.stat().st_mtime < ABANDONED_AFTER_S
    except FileNotFoundError:
        return False


def _now_at(folder: Path) -> float:
    """The time by the clock that stamps files there, which on a shared disk is not this machine's: one that is wrong, or jumps, deletes nobody's work."""
    probe = folder / f".clock.{_writer()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether a process is dead already and only its number is left, as for ever in containers whose first process takes no notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError, UnicodeDecodeError):
        return False


def write_text(path: Path, text: str) -> None:
    """Write a text file durably: temporary file, fsync, rename. An error leaves what was there, and nothing else."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def disk_is_full(error: OSError) -> bool:
    """Whether there was no room, or none left to this user."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
