"""The story of one skill, from a bundle and what stands beside it: whose plans ask for it, what was demonstrated, what was learned online, how tasks that use it do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lago_skills.core import Skill
from lago_skills.guide.description import DESCRIPTION_FILE

GROWTH_FILE = "growth.json"
"""What a growth step writes beside a bundle."""


@dataclass(frozen=True)
class Use:
    """A plan that has the skill's sentence."""

    task: str
    plan: str
    """Its name: that of the task, or `TASK/NUMBER`."""
    steps: tuple[int, ...]
    """Which of its steps, from 1."""
    model: str
    answer: str
    """Key of the recorded answer."""
    success: float | None
    """Of the task by the library alone, where a growth step has played it with the task's own plan."""
    episodes: int


def uses(bundle: Path, skill: Skill) -> list[Use]:
    """The plans of a bundle that have a skill's sentence; none where the folder is no bundle."""
    description = _read(bundle / DESCRIPTION_FILE)
    outcomes: dict[str, str] = _read(bundle / GROWTH_FILE).get("outcomes", {})
    label = str(skill.provenance.get("label", skill.sentence))
    found: list[Use] = []
    for task in description.get("tasks", []):
        for plan in task["plans"]:
            steps = tuple(number for number, sentence in enumerate(plan["steps"], 1) if sentence == label)
            if steps:
                played = outcomes.get(task["id"], "") if plan["name"] == task["id"] else ""
                success = round(played.count("1") / len(played), 4) if played else None
                found.append(Use(task["id"], plan["name"], steps, plan["model"], plan["answer"], success, len(played)))
    return found


def story(bundle: Path, skill: Skill) -> list[str]:
    """Lines for people, in the order in which things happened."""
    provenance = skill.provenance
    known = uses(bundle, skill)
    own = [use for use in known if use.plan == use.task]
    lines = [
        f"planned: {use.task}, step {', '.join(map(str, use.steps))}, by {use.model} (answer {use.answer[:12]})"
        for use in own
    ]
    if len(known) > len(own):
        lines.append(f"planned: in {len(known) - len(own)} more plans, of portfolios")
    grown: list[dict[str, Any]] = provenance.get("grown", [])
    added = sum(int(note.get("segments", 0)) for note in grown)
    shown = int(skill.support.get("segments", 0.0)) - added
    if shown > 0:
        by_task = sorted({*provenance.get("tasks", [])} - {str(note.get("task")) for note in grown})
        lines.append(f"demonstrated: {shown} segments of {', '.join(by_task) or 'tasks that are not named'}")
    for note in grown:
        how = ", ".join(note.get("learned", []))
        lines.append(
            f"grown in version {note.get('version')}: {note.get('segments')} segments of {note.get('task') or 'several tasks'}, {how}, from {', '.join(note.get('from', []))}"
        )
    for use in own:
        if use.success is not None:
            lines.append(f"used by {use.task}: success {use.success:.2f} of {use.episodes} episodes, the library alone")
    return lines


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
