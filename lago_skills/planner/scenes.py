"""What the planner is told about a task's numbers: feature ranges at the start and in demonstrations.

Ranges are computed once and committed (`data/scenes/*.json`), so that requests, and with them the keys of the
recorded answers, are the same on every machine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lago_skills.core import Feature
from lago_skills.errors import PlanError

Range = tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """Ranges of every feature of one task, rounded to centimetres."""

    task_id: str
    start: dict[str, Range]
    demonstrations: dict[str, Range] | None = None


def ranges(values: NDArray[Any], features: tuple[Feature, ...]) -> dict[str, Range]:
    """Minimum and maximum of each feature over (N, F) values, rounded to two decimals."""
    low, high = values.min(axis=0), values.max(axis=0)
    return {
        feature.name: (round(float(low[i]), 2) + 0.0, round(float(high[i]), 2) + 0.0)
        for i, feature in enumerate(features)
    }


def save(path: Path, scenes: list[Scene]) -> None:
    """Write scenes as one JSON object, a task per key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"  {json.dumps(scene.task_id)}: {json.dumps(asdict(scene))}" for scene in scenes]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def load(path: Path) -> dict[str, Scene]:
    """Read scenes, by task id.

    Raises:
        PlanError: the file is missing or not of this form.
    """
    try:
        raw: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return {name: Scene(**entry) for name, entry in raw.items()}
    except (OSError, ValueError, TypeError) as error:
        raise PlanError(
            f"scene file {str(path)!r} cannot be read ({error}); expected one JSON object with a scene per task; "
            "restore it from version control or make it with: lago plan STUDY --scenes"
        ) from error
