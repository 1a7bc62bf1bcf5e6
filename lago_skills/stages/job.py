"""A job makes one artifact. A stage is a list of jobs; it is done when all of its artifacts are current."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ArtifactWriter, Manifest, fingerprint, is_current, verify, writing


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
        """Make the artifact, unless it is there; an interruption leaves what was there before. Whoever else is at it, on a shared disk too, is waited for."""
        with self._alone():
            if not self.done:
                with writing(self.folder, self.stage, self.recipe) as writer:
                    self.make(writer, progress)
            return verify(self.folder)

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Hold the artifact's lock, which goes with its process however that ends. The lock's file goes once the artifact is there: whoever waited with it finds that."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        path = self.folder.parent / f".{self.folder.name}.lock"
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
            path.unlink(missing_ok=True)


def digest(folder: Path) -> str:
    """What recipes name an input artifact by.

    Raises:
        ArtifactMissing: the artifact has not been made.
        ArtifactCorrupt: it is damaged.
    """
    return verify(folder).digest
