"""A job makes one artifact. A stage is a list of jobs; it is done when all of its artifacts are current."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lago_skills.errors import StudyBusy
from lago_skills.store import ArtifactWriter, Manifest, fingerprint, is_current, verify, writing
from lago_skills.study import Study

Progress = Callable[[int, str], None]
"""`progress(done, note)`: units done so far of the job's total, and a short note for people."""


@dataclass(frozen=True)
class Workspace:
    """A project folder and one study in it."""

    root: Path
    study_file: Path
    study: Study

    def episodes(self, task: str) -> Path:
        """Where the demonstrations of a task are kept."""
        return self.root / "data" / "episodes" / self.study.name / task

    @property
    def library(self) -> Path:
        """Where the study's skill library is: it outlives what it was built from."""
        return self.root / "data" / "libraries" / self.study.name

    def artifact(self, *parts: str) -> Path:
        """Where any other artifact of the study is kept."""
        return self.root.joinpath("checkpoints", self.study.name, *parts)


@contextmanager
def exclusive(space: Workspace) -> Generator[None]:
    """Hold the study for one command; the lock goes with the process, however it ends.

    Raises:
        StudyBusy: another command holds it.
    """
    path = space.artifact(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StudyBusy(
                f"found another command at work on study {space.study.name!r}; expected one at a time, since they would make "
                "the same artifacts; wait for it to end and run this one again"
            ) from error
        yield


@dataclass(frozen=True)
class Job:
    """One artifact to be made."""

    stage: str
    name: str
    folder: Path
    recipe: dict[str, Any]
    """Everything that the artifact depends on: stage version, configuration, digests of inputs."""
    total: int
    """Units of work, for progress."""
    unit: str
    make: Callable[[ArtifactWriter, Progress], None]

    @property
    def done(self) -> bool:
        """Whether the artifact is there, intact and made from this recipe.

        Raises:
            ArtifactCorrupt: it is damaged.
        """
        return is_current(self.folder, fingerprint(self.recipe))

    def run(self, progress: Progress) -> Manifest:
        """Make the artifact; an interruption leaves what was there before."""
        with writing(self.folder, self.stage, self.recipe) as writer:
            self.make(writer, progress)
        return verify(self.folder)


def digest(folder: Path) -> str:
    """What recipes name an input artifact by.

    Raises:
        ArtifactMissing: the artifact has not been made.
        ArtifactCorrupt: it is damaged.
    """
    return verify(folder).digest
