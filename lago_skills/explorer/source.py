"""What the explorer looks at: a bundle with its library, and the study behind it where that is on this machine."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.tensors import load_arrays
from lago_skills.core import Episode, Segment, Skill
from lago_skills.errors import StudyError
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.loaded import BundleGuide
from lago_skills.library import SkillLibrary

Json = dict[str, Any]
PROBES_FILE = "probes.safetensors"


@dataclass(frozen=True)
class Recorded:
    """An episode that is on record, and what it is."""

    name: str
    """Of the page: letters, digits, `-` and `_` alone."""
    kind: str
    """`demonstration`, `library` (acting alone), or the method of a training run."""
    about: str
    """Who acted, in words."""
    episode: Episode
    folder: Path | None = None
    """Where its frames are, if it has any."""


class Records(Protocol):
    """What is known of the study behind a bundle. A bundle alone has none; who looks at one needs none of the packages that make studies."""

    @property
    def name(self) -> str:
        """Of the study."""
        ...

    @property
    def library(self) -> Path:
        """The folder of the study's own library."""
        ...

    @property
    def demonstrations(self) -> Mapping[str, list[Episode]]:
        """By task."""
        ...

    @property
    def recorded(self) -> Sequence[Recorded]:
        """All episodes, demonstrations among them."""
        ...

    @property
    def segments(self) -> Sequence[Segment]:
        """Of the demonstrations."""
        ...

    def playbook(self, task: str) -> Json:
        """Who wrote the playbook of a task, its versions, and what lint found."""
        ...

    def study(self) -> Json:
        """Tables, failures, lineage."""
        ...

    def curves(self) -> Json:
        """Success over steps of every training run."""
        ...


def recorded_episode(records: Records | None, name: str) -> Recorded:
    """The recorded episode of that name.

    Raises:
        StudyError: there is none.
    """
    known = [] if records is None else list(records.recorded)
    for each in known:
        if each.name == name:
            return each
    raise StudyError(
        f"found no recorded episode {name[:80]!r}; expected one of {[each.name for each in known[:5]]}; see the list of episodes"
    )


def page_name(*parts: str) -> str:
    """A name that is one of a file and of an address alike."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", "-".join(parts))


@dataclass(frozen=True)
class Source:
    """A bundle, and what is known beside it."""

    bundle: BundleGuide
    records: Records | None = None
    edits: bool = False
    """Whether whoever looks may change the library."""

    @property
    def guide(self) -> LibraryGuide:
        """Of all tasks."""
        return self.bundle.guide

    @property
    def library(self) -> SkillLibrary:
        """Whose skills are shown: the one that the guide follows."""
        return self.bundle.guide.library

    def version(self, wait_s: float = 1.0) -> tuple[str, int]:
        """Of what is shown: whatever was made of another one is out of date. Waits until searches see the latest change, but no longer than that."""
        until = time.monotonic() + wait_s
        now = self.library.store.state()[0]
        while self.library.change < now and time.monotonic() < until:
            time.sleep(0.02)
        return self.bundle.digest, now

    @property
    def episodes(self) -> Sequence[Recorded]:
        """All that are on record; none where no study is known."""
        return () if self.records is None else self.records.recorded

    @cached_property
    def probes(self) -> NDArray[np.float32] | None:
        """(P, I) what the decoder sees in demonstrated states, kept beside the library or that of the study; None where nobody keeps any."""
        places = [self.library.folder, None if self.records is None else self.records.library]
        for folder in places:
            if folder is not None and (folder / PROBES_FILE).is_file():
                return load_arrays(folder / PROBES_FILE)["inputs"]
        return None

    def behaviour(self, latents: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """(N, Z) latents -> (N, P, A) mean actions, or probabilities of discrete ones, in demonstrated states; None where there are none."""
        if self.probes is None:
            return None
        repeated = np.broadcast_to(latents[None], (len(self.probes), *latents.shape))
        return self.guide.decoder.decode(self.probes, repeated).behaviour().transpose(1, 0, 2)

    @cached_property
    def seconds_per_step(self) -> float | None:
        """Of control; None where nobody says."""
        rate = self.bundle.description.get("control_hz")
        return 1.0 / float(rate) if rate else None

    @cached_property
    def action_names(self) -> list[str]:
        """Of each number of an action, or of each discrete one."""
        entries: list[Json] = self.bundle.description["action"]["entries"]
        return [
            entry["name"] if entry["size"] == 1 else f"{entry['name']} {place + 1}"
            for entry in entries
            for place in range(entry["size"])
        ]


def skill_row(skill: Skill) -> Json:
    """A skill in a few words, for lists."""
    return {"id": skill.id, "name": skill.name, "sentence": skill.sentence, "enabled": skill.enabled}


def rounded(values: NDArray[Any] | Iterable[float], digits: int = 4) -> list[Any]:
    """Numbers as JSON, with few digits: pages draw them, nobody computes with them. What is not finite is None."""
    array = np.round(np.asarray(values, np.float64), digits)
    if np.isfinite(array).all():
        return array.tolist()
    return [_finite(each) for each in array.tolist()]


def _finite(value: Any) -> Any:
    """A number, or lists of them, with None for what is not finite."""
    if isinstance(value, list):
        return [_finite(each) for each in cast("list[Any]", value)]
    return value if math.isfinite(value) else None
