"""The language model as direct controller: one answer for one start state, a whole motion in numbers. What plans and skills are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Task
from lago_skills.errors import PlanError
from lago_skills.llm.json_objects import read_objects
from lago_skills.llm.transcripts import Request
from lago_skills.planner.requests import absent_anchors, template
from lago_skills.worlds.grounding import Grounding

MOST = 12
"""Waypoints of one motion."""
NEAR_M, PATIENCE = 0.015, 40
"""A waypoint is reached within this distance; after so many control steps the next one is tried. Also the longest wait."""
FINGERS = ("open", "closed")
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["waypoints"],
    "properties": {
        "waypoints": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["position", "fingers", "wait"],
                "properties": {
                    "position": {"type": "array", "items": {"type": "number"}},
                    "fingers": {"type": "string", "enum": list(FINGERS)},
                    "wait": {"type": "integer"},
                },
            },
        }
    },
}


@dataclass(frozen=True)
class Waypoint:
    """A point on the way of the effector."""

    position: tuple[float, float, float]
    """Metres, in the world's frame."""
    closed: bool
    """The fingers, on the way there and while it waits."""
    wait: int
    """Control steps to stay."""


def waypoints_request(task: Task, grounding: Grounding, observation: NDArray[np.float64], seed: int) -> Request:
    """The request for the whole motion from one start state, (S,); the seed that it came from is in the request's name alone."""
    values = grounding.read(observation[None]).values[0]
    names = [feature.name for feature in grounding.vocabulary.features]
    absent = absent_anchors(
        grounding, {name: (value, value) for name, value in zip(names, values.tolist(), strict=True)}
    )
    lines = [
        f"{feature.name} | {feature.unit} | {value:.3f} | {feature.sentence}"
        for feature, value in zip(grounding.vocabulary.features, values.tolist(), strict=True)
        if not any(name in feature.name for name in absent)
    ]
    prompt = template("waypoints.md").render(
        world=grounding.world,
        nouns=grounding.nouns,
        sentence=task.sentence,
        features="\n".join(lines),
        most=MOST,
        near=f"{100 * NEAR_M:g}",
        patience=PATIENCE,
    )
    return Request(f"direct/{task.id}/{seed}", prompt, _SCHEMA)


def read_waypoints(text: str, name: str) -> tuple[Waypoint, ...]:
    """The motion in an answer to the request of that name; prose or a code fence around the JSON object is ignored.

    Raises:
        PlanError: no such object, no or too many waypoints, or one that is none.
    """
    found = [each for each in read_objects(text).with_key("waypoints") if not each.in_reasoning]
    try:
        points = tuple(_waypoint(raw) for raw in found[-1].value["waypoints"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise PlanError(
            f'{name}: found an answer that is no motion ({error}); expected {{"waypoints": [...]}}; record it again'
        ) from error
    if not 1 <= len(points) <= MOST:
        raise PlanError(f"{name}: found {len(points)} waypoints; expected 1 to {MOST}; record it again")
    return points


def _waypoint(raw: dict[str, Any]) -> Waypoint:
    x, y, z = (float(value) for value in raw["position"])
    if not np.isfinite([x, y, z]).all() or raw["fingers"] not in FINGERS:
        raise ValueError(f"position {raw['position']}, fingers {raw['fingers']!r}")
    return Waypoint((x, y, z), raw["fingers"] == "closed", min(max(int(raw["wait"]), 0), PATIENCE))
