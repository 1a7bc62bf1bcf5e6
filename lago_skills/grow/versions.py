"""Versions of a grown library: each one an artifact that is never changed, and a link that says which of them is in use.

    checkpoints/STUDY/grown/0000/     what was built, before anything grew
    checkpoints/STUDY/grown/0001/     a bundle like any other, and beside its files what the next version is made from
    checkpoints/STUDY/grown/current   -> 0001

A version is written whole before the link is turned to it, and the link is turned by one rename: a cut at any moment leaves one
version or the other in use. Going back is turning the link back.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lago_skills.artifacts.folder import MANIFEST, verify
from lago_skills.errors import ArtifactCorrupt, StudyError
from lago_skills.guide.skill_story import GROWTH_FILE

CURRENT = "current"
Verdict = Literal["built", "accepted", "held"]
"""`built`: the first version. `held`: an old task does worse with it than the margin allows; a person decides."""
DIGITS = 4


@dataclass(frozen=True)
class Version:
    """One version."""

    number: int
    folder: Path
    growth: dict[str, Any]
    """What was added to the version before, what that changed, and what came of it; see `growth.json`."""

    @property
    def verdict(self) -> Verdict:
        """What came of the comparison with the version before."""
        return self.growth["verdict"]

    @property
    def outcomes(self) -> dict[str, str]:
        """By task id, what is known of its spot-check episodes: a 1 or a 0 for each start state."""
        return self.growth.get("outcomes", {})


class Versions:
    """The versions of one study.

    Args:
        folder: `checkpoints/STUDY/grown`; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[Version]:
        """Finished ones, oldest first; what a cut has left unfinished is not among them."""
        if not self.folder.is_dir():
            return []
        finished = (each for each in sorted(self.folder.iterdir()) if each.name.isdigit() and not each.is_symlink())
        return [self._read(each) for each in finished if (each / MANIFEST).is_file()]

    def get(self, number: int) -> Version:
        """One of them.

        Raises:
            StudyError: there is no such version.
            ArtifactCorrupt: it is damaged.
        """
        known = {each.number: each for each in self.all()}
        if number not in known:
            raise StudyError(
                f"found no version {number} in {str(self.folder)!r}; expected one of {sorted(known)}; lago grow STUDY --list shows them"
            )
        verify(known[number].folder)
        return known[number]

    @property
    def current(self) -> Version | None:
        """The one in use; None before anything was grown."""
        link = self.folder / CURRENT
        return self._read(self.folder / link.readlink()) if link.is_symlink() else None

    def next_folder(self) -> Path:
        """Where the next version goes: numbers are not used twice."""
        numbers = [each.number for each in self.all()]
        return self.folder / f"{max(numbers, default=-1) + 1:0{DIGITS}d}"

    def use(self, number: int) -> Version:
        """Turn the link to a version that is there and whole.

        Raises:
            StudyError: there is no such version.
            ArtifactCorrupt: it is damaged; the one before stays in use.
        """
        version = self.get(number)
        turned = self.folder / f".{CURRENT}.{os.getpid()}"
        turned.unlink(missing_ok=True)
        turned.symlink_to(version.folder.name, target_is_directory=True)
        turned.replace(self.folder / CURRENT)
        return version

    def _read(self, folder: Path) -> Version:
        try:
            growth: dict[str, Any] = json.loads((folder / GROWTH_FILE).read_text(encoding="utf-8"))
            return Version(int(folder.name), folder, growth)
        except (OSError, ValueError) as error:
            raise ArtifactCorrupt(
                f"version {str(folder)!r} cannot be read ({error}); expected a finished one; delete the folder, and use another: lago skills rollback STUDY NUMBER"
            ) from error
