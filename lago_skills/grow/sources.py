"""Episodes that a library is to grow by, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    """Episodes that were taken in before, or come twice, or are nearly the same as another: alike when every observation and action is rounded to a
    hundredth of its range."""
    surplus: int = 0
    """Episodes beyond the most that one step takes in."""


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
                "surplus": source.surplus,
            }
        )
        start = stop
    return rows


def only_new(sources: Sequence[Source], known: Sequence[Episode]) -> list[Source]:
    """The sources without episodes that are known already or nearly so, and each episode once."""
    every = [*known, *(episode for source in sources for episode in source.episodes)]
    steps = _hundredths([episode.observations for episode in every])
    seen = {_rounded(episode, steps) for episode in known}
    new: list[Source] = []
    for source in sources:
        kept: list[Episode] = []
        for episode in source.episodes:
            if (data := _rounded(episode, steps)) not in seen:
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


def bounded(sources: Sequence[Source], most: int) -> list[Source]:
    """The sources with so many episodes at most together, evenly from all of them."""
    total = sum(len(source.episodes) for source in sources)
    if total <= most:
        return list(sources)
    chosen = set(np.linspace(0, total - 1, most).astype(int).tolist())
    cut, start = list[Source](), 0
    for source in sources:
        kept = [each for number, each in enumerate(source.episodes, start) if number in chosen]
        cut.append(replace(source, episodes=kept, surplus=len(source.episodes) - len(kept)))
        start += len(source.episodes)
    return cut


def _hundredths(observations: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """(S,) a hundredth of the range of each observation entry; 1 where it is constant."""
    if not observations:
        return np.ones(1)
    low = np.min([rows.min(axis=0) for rows in observations], axis=0)
    high = np.max([rows.max(axis=0) for rows in observations], axis=0)
    return np.where(high > low, (high - low) / 100.0, 1.0).astype(np.float64)


def _rounded(episode: Episode, steps: NDArray[np.float64]) -> tuple[bytes, bytes]:
    """What tells one episode from another, in steps of a hundredth of each range."""
    actions = episode.actions if episode.discrete else np.rint(50.0 * np.asarray(episode.actions, np.float64)) + 0.0
    states = np.rint(np.asarray(episode.observations, np.float64) / steps) + 0.0
    return states.tobytes(), actions.tobytes()
