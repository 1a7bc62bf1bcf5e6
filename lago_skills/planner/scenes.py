"""What the planner is told about a task's numbers: feature ranges at the start and in demonstrations.

Ranges are computed once and committed (`data/scenes/*.json`), so that requests, and with them the keys of the
recorded answers, are the same on every machine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Feature
from lago_skills.errors import PlanError

Range = tuple[float, float]
COURSE_TIMES = tuple(n / 10 for n in range(11))
"""Shares of a demonstration's length at which its course is told."""
LEAST_CHANGE = 0.02
"""A feature whose course varies by less is left out."""


@dataclass(frozen=True)
class Scene:
    """Ranges of every feature of one task, rounded to centimetres."""

    task_id: str
    start: dict[str, Range]
    demonstrations: dict[str, Range] | None = None
    course: dict[str, list[float]] | None = None
    """Of each feature that varies in demonstrations, its median at `COURSE_TIMES`."""
    solved: int | None = None
    """Per cent of a demonstration's length after which it is solved, where demonstrations go on beyond."""


def ranges(values: NDArray[Any], features: tuple[Feature, ...]) -> dict[str, Range]:
    """Minimum and maximum of each feature over (N, F) values, rounded to two decimals."""
    low, high = values.min(axis=0), values.max(axis=0)
    return {
        feature.name: (round(float(low[i]), 2) + 0.0, round(float(high[i]), 2) + 0.0)
        for i, feature in enumerate(features)
    }


def course(runs: list[dict[str, NDArray[Any]]]) -> dict[str, list[float]]:
    """Medians over demonstrations, each with (T+1,) values by name, at equal distances in time, rounded to two decimals.

    What hardly varies is left out.
    """
    medians: dict[str, list[float]] = {}
    for name in runs[0]:
        moments = [run[name][[round(share * (len(run[name]) - 1)) for share in COURSE_TIMES]] for run in runs]
        middle = np.median(moments, axis=0)  # (11,)
        if np.ptp(middle) >= LEAST_CHANGE:
            medians[name] = [round(float(value), 2) + 0.0 for value in middle]
    return medians


def beside(anchors: NDArray[Any], names: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
    """Where the acting point is from the first thing, (T+1, n_anchors, D) -> (T+1,) each: towards the last anchor, sideways and, in space, up."""
    acting, thing, place = names[0], names[1], names[-1]
    way, from_thing = anchors[:, -1, :2] - anchors[:, 1, :2], anchors[:, 0] - anchors[:, 1]
    length = np.linalg.norm(way, axis=1, keepdims=True)
    along = np.where(length > LEAST_CHANGE, way / np.maximum(length, LEAST_CHANGE), 0.0)
    columns = {
        f"{acting} from {thing}, towards {place} (negative: on the side that faces away)": (
            from_thing[:, :2] * along
        ).sum(1),
        f"{acting} from {thing}, sideways": along[:, 0] * from_thing[:, 1] - along[:, 1] * from_thing[:, 0],
    }
    return columns | ({f"{acting} from {thing}, up": from_thing[:, 2]} if anchors.shape[2] > 2 else {})


def save(path: Path, scenes: list[Scene]) -> None:
    """Write scenes as one JSON object, a task per key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = [
        {name: value for name, value in asdict(scene).items() if name not in ("course", "solved") or value}
        for scene in scenes
    ]
    lines = [f"  {json.dumps(entry['task_id'])}: {json.dumps(entry)}" for entry in known]
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
