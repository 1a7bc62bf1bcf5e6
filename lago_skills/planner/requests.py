"""The exact question that a language model is asked for one task."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from lago_skills.core import ANCHORS, Task
from lago_skills.envs.grounding import Grounding
from lago_skills.errors import PlanError
from lago_skills.llm.transcripts import Request
from lago_skills.planner.scenes import Scene

PLAYBOOK_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["steps"],
    "properties": {
        "steps": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["skill", "target", "when"],
                "properties": {
                    "skill": {"type": "string"},
                    "target": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["anchor", "offset"],
                        "properties": {
                            "anchor": {"type": "string", "enum": list(ANCHORS)},
                            "offset": {"type": "array", "items": {"type": "number"}},
                        },
                    },
                    "when": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["feature", "op", "value"],
                            "properties": {
                                "feature": {"type": "string"},
                                "op": {"type": "string", "enum": ["<", ">"]},
                                "value": {"type": "number"},
                            },
                        },
                    },
                },
            },
        }
    },
}


def _show(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:g}" if bounds[0] == bounds[1] else f"{bounds[0]:g}..{bounds[1]:g}"


def _rows(grounding: Grounding) -> list[tuple[str, ...]]:
    """Feature names, the three components of a vector together."""
    rows: list[tuple[str, ...]] = []
    for feature in grounding.features:
        stem = feature.name.removesuffix("_y").removesuffix("_z")
        if rows and stem != feature.name and rows[-1][0] == f"{stem}_x":
            rows[-1] = (*rows[-1], feature.name)
        else:
            rows.append((feature.name,))
    return rows


def _table(grounding: Grounding, scene: Scene, with_object2: bool) -> str:
    by_name = {feature.name: feature for feature in grounding.features}
    lines: list[str] = []
    for names in _rows(grounding):
        if "object2" in names[0] and not with_object2:
            continue
        first = by_name[names[0]]
        cells = [", ".join(names), first.unit, ", ".join(_show(scene.start[name]) for name in names)]
        if scene.demonstrations is not None:
            cells.append(", ".join(_show(scene.demonstrations[name]) for name in names))
        lines.append(" | ".join([*cells, first.sentence.removesuffix(", along x")]))
    return "\n".join(lines)


def playbook_request(task: Task, grounding: Grounding, scenes: dict[str, Scene], known_skills: list[str]) -> Request:
    """The request for one task's playbook; depends on nothing but its arguments.

    Raises:
        PlanError: no scene is known for the task.
    """
    if task.id not in scenes:
        raise PlanError(
            f"no scene is known for task {task.id!r}; expected feature ranges for it; make them with: "
            "lago plan STUDY --scenes"
        )
    scene = scenes[task.id]
    with_object2 = any(scene.start.get("object2_z", (0.0, 0.0)))
    template = files("lago_skills.planner").joinpath("prompt.md").read_text(encoding="utf-8")
    prompt = template.format(
        world=grounding.world,
        sentence=task.sentence,
        demo_header="range in demonstrations | " if scene.demonstrations is not None else "",
        features=_table(grounding, scene, with_object2),
        anchors=", ".join(f'"{name}"' for name in ANCHORS if name != "object2" or with_object2),
        skills="\n".join(f"- {sentence}" for sentence in known_skills) or "(none yet)",
    )
    return Request(name=f"plan/{task.id}", prompt=prompt, schema=PLAYBOOK_SCHEMA)
