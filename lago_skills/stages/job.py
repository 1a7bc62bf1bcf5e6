"""A job makes one artifact. A stage is a list of jobs; it is done when all of its artifacts are current."""

from __future__ import annotations

from collections.abc import Callable
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
