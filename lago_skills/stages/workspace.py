"""A project folder and one study in it: where its artifacts are, and who is at work on it."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lago_skills.errors import StudyBusy, StudyError
from lago_skills.study import Study, load_study, study_path
from lago_skills.worlds.world import World


@dataclass(frozen=True)
class Workspace:
    """A project folder and one study in it."""

    root: Path
    study_file: Path
    study: Study

    @property
    def world(self) -> World:
        """The world that the study's tasks are of.

        Raises:
            StudyError: it cannot be found or made.
        """
        return self.study.load_world()

    @property
    def argument(self) -> str:
        """How commands name the study: by its name, where that finds its file, else by the file."""
        try:
            known = study_path(self.study.name, self.root).resolve() == self.study_file.resolve()
        except StudyError:
            known = False
        return self.study.name if known else str(self.study_file)

    def episodes(self, task: str) -> Path:
        """Where the demonstrations of a task are kept."""
        return self.root / "data" / "episodes" / self.study.name / task

    @property
    def collected(self) -> dict[str, Path]:
        """Where the demonstrations of each seen task are kept, by task id."""
        return {task.id: self.episodes(task.id) for task in self.study.seen}

    @property
    def transcripts(self) -> Path:
        """The study's file of recorded answers."""
        return self.root / "data" / "transcripts" / f"{self.study.recordings}.jsonl"

    @property
    def scenes(self) -> Path:
        """The study's file of scenes."""
        return self.root / "data" / "scenes" / f"{self.study.recordings}.json"

    @property
    def lint(self) -> Path:
        """The study's file of lint results."""
        return self.root / "data" / "lint" / f"{self.study.recordings}.jsonl"

    @property
    def matcher(self) -> Path:
        """Where a trained matcher of wordings is that came with the study's recordings, if any did."""
        return self.root / "data" / "matchers" / self.study.recordings

    @property
    def motions(self) -> Path:
        """The study's file of measured motions: its own, since they are those of its data."""
        return self.root / "data" / "motions" / f"{self.study.name}.json"

    @property
    def library(self) -> Path:
        """Where the study's skill library is: it outlives what it was built from."""
        return self.root / "data" / "libraries" / self.study.name

    def artifact(self, *parts: str) -> Path:
        """Where any other artifact of the study is kept."""
        return self.root.joinpath("checkpoints", self.study.name, *parts)


def open_workspace(root: Path, study_file: Path) -> Workspace:
    """The workspace of a study file; whatever of one's own lies in the project folder can be imported from then on, in worker processes too.

    Raises:
        StudyError: the file is missing or wrong.
    """
    if str(root) not in sys.path:
        sys.path.append(str(root))
    return Workspace(root, study_file, load_study(study_file))


_held: set[Path] = set()
"""Studies that this process holds, by their lock's file."""


@contextmanager
def exclusive(space: Workspace) -> Generator[None]:
    """Hold the study for one command, which may hold it several times; the lock goes with the process, however it ends.

    Raises:
        StudyBusy: another command holds it.
    """
    from filelock import lock_descriptor  # what only looks at a study does not wait for it

    path = space.artifact(".lock")
    if path in _held:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        if not lock_descriptor(lock.fileno(), blocking=False):
            raise StudyBusy(
                f"found another command at work on study {space.study.name!r}; expected one at a time, since they would make "
                "the same artifacts; wait for it to end and run this one again"
            )
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)
