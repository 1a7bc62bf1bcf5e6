"""A good answer, and the tasks of the demo."""

from __future__ import annotations

from typing import Any

from lago_skills.core import Playbook
from lago_skills.planner.parse import parse_playbook
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import GROUPS, expand

TEN, EIGHT = expand(list(GROUPS["ten"])), expand(list(GROUPS["eight"]))
GOOD: dict[str, Any] = {
    "steps": [
        {
            "skill": "close  the fingers",
            "target": {"anchor": "object", "offset": [0, 0, 0.1]},
            "when": [{"feature": "gripper_to_object", "op": "<", "value": 0.02}],
        },
        {"skill": "go there", "target": {"anchor": "goal", "offset": [0, 0, 0]}, "when": []},
    ]
}


def parse(text: str) -> Playbook:
    return parse_playbook(text, "push", MetaWorldGrounding.vocabulary, "k" * 64, "model")
