"""Work on a machine that has nothing of the project but what a store holds: it fetches what the work needs, does it, and puts what was made into the store."""

from __future__ import annotations

import fcntl
import shutil
import sys
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
from lago_skills.errors import ArtifactCorrupt, StudyError
from lago_skills.stages.job import Job
from lago_skills.stages.workspace import Workspace

R = TypeVar("R", covariant=True)
COPIES = "lago-copies"
"""Folder of copies of projects, among this machine's temporary files."""
LISTING_FILE, USED_FILE = ".files.json", ".used"
"""In a copy: the list of its plain files, and what those hold who are at work in it."""
TEXTS = ("transcripts", "scenes", "lint", "motions")
"""Folders of `data/` whose files are named after studies."""
OURS = ("lago_skills", "flows")
"""Packages that every machine has, in the same version."""
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
            value = self.work.at(root)(progress)
            for place in self.outputs:
                store.push(root, root / place.folder)
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
    files = {path.resolve() for path in (space.study_file, *_texts(space), *_modules(space), *extra)}
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


def _modules(space: Workspace) -> list[Path]:
    """Python files in the project folder that the study's world is made with: one's own environment."""
    space.study.load_world()
    root, found = space.root.resolve(), list[Path]()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not file or name.split(".")[0] in OURS:
            continue
        path = Path(file).resolve()
        if path.is_relative_to(root) and "site-packages" not in path.parts:
            found.append(path)
    return found


@contextmanager
def _copy(store: Store, snapshot: str, inputs: Sequence[Place]) -> Generator[Path]:
    """This machine's copy of the project, with the files and artifacts that are asked for; other processes may use it too. It is not removed meanwhile."""
    copies = Path(tempfile.gettempdir()) / COPIES
    root = copies / fingerprint([store.url, snapshot])[:16]
    copies.mkdir(exist_ok=True)
    with FileLock(copies / ".lock"):
        root.mkdir(exist_ok=True)
        used = (root / USED_FILE).open("w")
        fcntl.flock(used, fcntl.LOCK_SH)
        _sweep(copies)
    with used:
        with FileLock(root / ".lock"):
            _fill(root, store, snapshot, inputs)
        _forget_other_copies(copies, root)
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
    listing.touch()
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
        listing = root / LISTING_FILE
        if not listing.exists() or time.time() - listing.stat().st_mtime < ABANDONED_AFTER_S:
            continue
        with (root / USED_FILE).open("w") as used:
            try:
                fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(root, ignore_errors=True)


def _forget_other_copies(copies: Path, root: Path) -> None:
    """Let this process import one's own modules from this copy, and no longer from another one."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(copies) and not Path(file).is_relative_to(root):
            del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if not Path(entry).is_relative_to(copies) or Path(entry) == root]
