"""What goes into a controller and what comes out of it, by name: entries of observations and actions with units and ranges, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lago_skills.core import ActionSpace


@dataclass(frozen=True)
class Entry:
    """One number of an observation or action, or several in a row that belong together."""

    name: str
    size: int = 1
    unit: str = ""
    low: float | None = None
    """Smallest value; None where nobody says."""
    high: float | None = None
    meaning: str = ""


@dataclass(frozen=True)
class Interface:
    """The observation and the action of an environment, entry by entry."""

    observation: tuple[Entry, ...]
    action: tuple[Entry, ...]
    """Of continuous actions, as they are inside: numbers in [-1, 1], whose entries say what that means. Of discrete ones, an entry for each, by number."""
    control_hz: float | None = None
    """Control steps a second; None where nobody says."""

    def as_json(self, space: ActionSpace) -> dict[str, Any]:
        """`observation`, `action` and `control_hz`; each entry with the place where it starts, or of discrete actions with its number."""
        action = {"kind": "discrete" if space.discrete else "continuous", "size": space.size}
        if not space.discrete:
            action |= {"low": -1.0, "high": 1.0}
        return {
            "observation": placed(self.observation),
            "action": {**action, "entries": placed(self.action)},
            "control_hz": self.control_hz,
        }


def placed(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Entries as JSON, each with `start`, its place among all numbers; what nobody says is left out."""
    rows: list[dict[str, Any]] = []
    at = 0
    for entry in entries:
        row: dict[str, Any] = {"name": entry.name, "start": at, "size": entry.size}
        stated: Mapping[str, Any] = {
            "unit": entry.unit or None,
            "low": entry.low,
            "high": entry.high,
            "meaning": entry.meaning or None,
        }
        rows.append(row | {name: value for name, value in stated.items() if value is not None})
        at += entry.size
    return rows


def unnamed(observation_size: int, space: ActionSpace) -> Interface:
    """Of an environment of which nobody has said more than its sizes."""
    actions = tuple(Entry(f"action {number}") for number in range(space.size))
    if not space.discrete:
        actions = (Entry("action", space.size, low=-1.0, high=1.0),)
    return Interface((Entry("observation", observation_size),), actions)
