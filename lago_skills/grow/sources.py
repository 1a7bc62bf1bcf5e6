"""Episodes that a library is to grow by, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lago_skills.core import Episode


@dataclass(frozen=True)
class Source:
    """Episodes of a task, and where they come from."""

    name: str
    """A file, or the name of a training run."""
    episodes: list[Episode]
    """Those that succeeded."""
    online: bool = False
    """Whether they were learned online."""
    left_out: int = 0
    """Episodes that did not succeed."""
    repeated: int = 0
    """Episodes that were taken in before, or come twice."""


def counted(sources: Sequence[Source], refused: Set[int]) -> list[dict[str, Any]]:
    """What became of each source's episodes; those refused by their numbers among all."""
    rows, start = list[dict[str, Any]](), 0
    for source in sources:
        stop = start + len(source.episodes)
        n_refused = sum(start <= number < stop for number in refused)
        rows.append(
            {
                "name": source.name,
                "learned": "online" if source.online else "demonstrated",
                "episodes": len(source.episodes),
                "accepted": len(source.episodes) - n_refused,
                "refused": n_refused,
                "left_out": source.left_out,
                "repeated": source.repeated,
            }
        )
        start = stop
    return rows


def only_new(sources: Sequence[Source], known: Sequence[Episode]) -> list[Source]:
    """The sources without episodes that are known already, and each episode once."""
    seen = {_bytes(episode) for episode in known}
    new: list[Source] = []
    for source in sources:
        kept: list[Episode] = []
        for episode in source.episodes:
            if (data := _bytes(episode)) not in seen:
                seen.add(data)
                kept.append(episode)
        new.append(replace(source, episodes=kept, repeated=len(source.episodes) - len(kept)))
    return new


def quickest(episodes: Sequence[Episode], most: int) -> list[Episode]:
    """The quickest so many, in the order in which they came."""
    if len(episodes) <= most:
        return list(episodes)
    chosen: list[int] = np.argsort([len(each.actions) for each in episodes], kind="stable")[:most].tolist()
    return [episodes[number] for number in sorted(chosen)]


def _bytes(episode: Episode) -> tuple[bytes, bytes]:
    """What tells one episode from another."""
    return np.asarray(episode.observations, np.float32).tobytes(), episode.actions.tobytes()
