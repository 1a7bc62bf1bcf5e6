"""Work on a machine that has nothing of the project but what a store holds: it fetches what the work needs, does it, and puts what was made into the store."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

from filelock import FileLock

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ABANDONED_AFTER_S, MANIFEST, fingerprint, is_current
from lago_skills.artifacts.store import Store, snapshot_files, snapshot_text
from lago_skills.errors import ArtifactCorrupt, StoreError, StudyError
from lago_skills.stages.job import Job
from lago_skills.stages.workspace import Workspace

R = TypeVar("R", covariant=True)
COPIES = f"lago-copies-{os.getuid()}"
"""Folder of this user's copies of projects, among this machine's temporary files."""
LISTING_FILE, USED_FILE = ".files.json", ".used"
"""In a copy: the list of its plain files, and what those hold who are at work in it."""
TEXTS = ("transcripts", "scenes", "lint", "motions")
"""Folders of `data/` whose files are named after studies."""
LEFT_OUT = ("__pycache__", "node_modules")
NOT_OWN = ("data", "checkpoints", "lago_skills", "flows", "tests", "docs")
"""In the project folder: artifacts, which are shared as such, and what a clone of this package holds, which every machine has."""
LARGEST_FILE = 64 * 2**20
"""Bytes of a file of one's own that is shared without being asked for."""
PLACES = ("checkpoints", "data/episodes")
"""Folders of artifacts."""


class Movable(Protocol[R]):
    """Work that can be done in a copy of the project."""

    def at(self, root: Path) -> Callable[[Progress], R]:
        """The same work in the copy whose folder this is."""
        ...


@dataclass(frozen=True)
class Place:
    """An artifact of the project: its folder, relative to the project's, and the fingerprint of its recipe."""

    folder: str
    key: str

    @classmethod
    def of(cls, job: Job, root: Path) -> Self:
        """Where a job's artifact is."""
        return cls(job.folder.relative_to(root).as_posix(), fingerprint(job.recipe))


@dataclass(frozen=True)
class Elsewhere(Generic[R]):
    """Picklable. Raises what the work raises, or a `StoreError`."""

    url: str
    snapshot: str
    """SHA-256 of the list of plain files."""
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    work: Movable[R]

    def __call__(self, progress: Progress) -> R:
        """Do it in this machine's copy of the project."""
        store = Store(self.url)
        with _copy(store, self.snapshot, self.inputs) as root:
            for place in self.outputs:
                store.pull(root, root / place.folder, place.key)  # somebody may have made it meanwhile
            value = self.work.at(root)(progress)
            for place in self.outputs:
                made = store.push(root, root / place.folder)
                if made.key != place.key:
                    raise StudyError(
                        f"found artifact {place.folder!r} made from recipe {made.key[:12]} on {socket.gethostname()}; expected {place.key[:12]}, as here; see that "
                        "packages and environments have the same versions on every machine"
                    )
        return value


def artifacts_of_project(space: Workspace) -> list[Path]:
    """Every finished artifact of the project, of other studies too, runs left out: what a table may read."""
    folders = [path.parent for place in PLACES for path in sorted((space.root / place).glob(f"*/**/{MANIFEST}"))]
    return [folder for folder in folders if not {"runs", "unfinished"} & set(folder.relative_to(space.root).parts)]


def texts_of_project(space: Workspace) -> list[Path]:
    """Its plain files: studies, answers, results."""
    data = space.root / "data"
    kept = (path for path in sorted(data.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return [path for path in kept if path.relative_to(data).parts[0] not in ("episodes", "libraries")]


def share(
    store: Store, space: Workspace, artifacts: Iterable[Path], extra: Iterable[Path] = ()
) -> tuple[str, tuple[Place, ...]]:
    """Put into the store what work on a study reads: its plain files, and artifacts.

    Args:
        store: where to.
        space: the study.
        artifacts: folders of finished ones that are read.
        extra: further plain files in the project folder.

    Returns the SHA-256 of the list of plain files, and where the artifacts are.

    Raises:
        StudyError: a plain file lies outside the project folder.
        StoreError: the store cannot be written.
    """
    files = {path.resolve() for path in (space.study_file, *_texts(space), *_own_files(space), *extra)}
    root = space.root.resolve()
    for path in sorted(files):
        if not path.is_relative_to(root):
            raise StudyError(
                f"found {str(path)!r} outside the project folder {str(root)!r}; expected it inside, since machines that share nothing but a store "
                "find files by their place in it; move it there"
            )
    listed = [(path.relative_to(root).as_posix(), store.push_file(path)) for path in sorted(files)]
    places: list[Place] = []
    for folder in artifacts:
        manifest = store.push(space.root, folder)
        places.append(Place(folder.relative_to(space.root).as_posix(), manifest.key))
    return store.push_text(snapshot_text(listed)), tuple(places)


def _texts(space: Workspace) -> list[Path]:
    names = {space.study.name, space.study.recordings}
    return [
        path
        for folder in TEXTS
        for path in sorted((space.root / "data" / folder).glob("*"))
        if path.is_file() and path.stem in names
    ]


def _own_files(space: Workspace) -> list[Path]:
    """What else lies in the project folder and beside the study: one's own modules and what they read. Not what is hidden, an environment, or this package itself."""
    found, folders = [path for path in space.study_file.parent.glob("*.py") if path.is_file()], [space.root]
    while folders:
        folder = folders.pop()
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.name in LEFT_OUT or (folder == space.root and path.name in NOT_OWN):
                continue
            if path.is_dir() and not (path / "pyvenv.cfg").exists():
                folders.append(path)
            elif path.is_file() and path.stat().st_size <= LARGEST_FILE:
                found.append(path)
    return found


@contextmanager
def _copy(store: Store, snapshot: str, inputs: Sequence[Place]) -> Generator[Path]:
    """This machine's copy of the project, with the files and artifacts that are asked for; other processes may use it too. It is not removed meanwhile."""
    copies = Path(tempfile.gettempdir()) / COPIES
    copies.mkdir(mode=0o700, exist_ok=True)
    if copies.stat().st_uid != os.getuid():
        raise StoreError(
            f"found the folder {str(copies)!r} of another user; expected one's own, since what lies there is run; set TMPDIR to a folder of your own"
        )
    root = copies / fingerprint([store.url, snapshot])[:16]
    with FileLock(copies / ".lock"):
        root.mkdir(exist_ok=True)
        used = (root / USED_FILE).open("w")
        fcntl.flock(used, fcntl.LOCK_SH)
        _sweep(copies)
    with used:
        with FileLock(root / ".lock"):
            _fill(root, store, snapshot, inputs)
        yield root


def _fill(root: Path, store: Store, snapshot: str, inputs: Sequence[Place]) -> None:
    listing = root / LISTING_FILE
    if not listing.exists():
        part = listing.with_suffix(".part")
        store.pull_file(snapshot, part)
        for name, sha256 in snapshot_files(part.read_text(encoding="utf-8")).items():
            path = root / name
            if not path.resolve().is_relative_to(root.resolve()):
                raise ArtifactCorrupt(
                    f"found the file name {name!r} in the store {store.url!r}; expected names inside a project folder; do not use what "
                    "somebody else has written"
                )
            store.pull_file(sha256, path)
        part.rename(listing)
    for place in inputs:
        folder = root / place.folder
        if not is_current(folder, place.key) and not store.pull(root, folder, place.key):
            raise StudyError(
                f"found no artifact {place.folder!r} of recipe {place.key[:12]} in the store {store.url!r}; expected it, since the command that "
                "gave this work put it there; do not empty a store while commands are at work, and run it again"
            )


def _sweep(copies: Path) -> None:
    """Remove copies that nothing was done in for a week, and in which nobody is at work."""
    for root in copies.iterdir():
        if not (root / USED_FILE).exists() or time.time() - (root / USED_FILE).stat().st_mtime < ABANDONED_AFTER_S:
            continue
        with (root / USED_FILE).open("r+") as used:  # which does not change when it was used last
            try:
                fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(root, ignore_errors=True)
