"""A bundle as one file: a zip archive of its folder, which is unpacked where it is loaded."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import zipfile
from pathlib import Path

from lago_skills.artifacts.folder import MANIFEST
from lago_skills.errors import ArtifactCorrupt, ArtifactMissing

MOST_BYTES = 20_000_000_000
"""Of a bundle's files together; one that claims more is not unpacked."""
_unpacked: set[Path] = set()
"""Folders that files were unpacked into; gone when this process ends."""


@atexit.register
def _remove_unpacked() -> None:
    for folder in _unpacked:
        shutil.rmtree(folder, ignore_errors=True)


def packed(folder: Path, path: Path) -> Path:
    """Write a bundle's folder as one file. The same bundle gives the same bytes."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in sorted(folder.rglob("*")):
                if each.is_file():
                    entry = zipfile.ZipInfo(each.relative_to(folder).as_posix())
                    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                    archive.writestr(entry, each.read_bytes())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def unpacked(path: Path) -> Path:
    """The folder of a bundle; of one that is a file, a temporary one that is gone when this process ends; of a link, where it points to now.

    Raises:
        ArtifactMissing: there is nothing at the path.
        ArtifactCorrupt: the file is no bundle, or names files outside its folder.
    """
    if path.is_dir():
        return path.resolve() if path.is_symlink() else path  # a link may be turned while the bundle is read
    if not path.is_file():
        raise ArtifactMissing(
            f"found no bundle at {str(path)!r}; expected a folder or a file that lago build or lago bundle make writes; correct the path"
        )
    folder = Path(tempfile.mkdtemp(prefix="lago-bundle-"))
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive, folder, path)
            archive.extractall(folder)
    except ArtifactCorrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ArtifactCorrupt(
            f"bundle {str(path)!r} cannot be unpacked ({error}); expected the file that lago bundle make writes; copy it again, or make it again"
        ) from error
    _unpacked.add(folder)
    return folder


def discard(folder: Path) -> None:
    """Remove a folder that a file was unpacked into; any other is left alone."""
    if folder in _unpacked:
        _unpacked.discard(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _check(archive: zipfile.ZipFile, folder: Path, path: Path) -> None:
    entries = archive.infolist()
    outside = [
        entry.filename for entry in entries if folder.resolve() not in (folder / entry.filename).resolve().parents
    ]
    if outside or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise ArtifactCorrupt(
            f"bundle {str(path)!r}: found {f'the file name {outside[0]!r}' if outside else 'more bytes than a bundle has'}; expected files inside its folder; "
            "do not use what somebody else has written"
        )
    if MANIFEST not in archive.namelist():
        raise ArtifactCorrupt(
            f"bundle {str(path)!r}: found a zip file without {MANIFEST}; expected the file that lago bundle make writes; make it again"
        )
