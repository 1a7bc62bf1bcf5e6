"""Language-model knowledge for online reinforcement learning, with no language model at run time."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
_DOORS = {
    "load": "lago_skills.guide.loaded",
    "load_bundle": "lago_skills.guide.bundle",
    "guided": "lago_skills.rl.guided",
    "adapt": "lago_skills.worlds.gym.env",
}
"""What `from lago_skills import ...` gives, imported when somebody asks for it."""


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module 'lago_skills' has no attribute {name!r}; it has {', '.join(sorted(_DOORS))}")
    try:
        return getattr(importlib.import_module(_DOORS[name]), name)
    except ModuleNotFoundError as error:
        from lago_skills.extras import missing

        raise missing(error, f"lago_skills.{name}") or error from error
