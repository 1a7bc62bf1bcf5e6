"""All tables by name, each imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lago_skills.experiments.table import Opener

TRAINING_TABLES = ("T1", "T2", "T3", "T5", "tuning")
"""Those of learning curves."""
TABLES = {
    "zero-shot": "zero_shot",
    "latent": "latent",
    "skills": "skill_changes",
    "sequences": "sequences",
    "frontier": "frontier",
    "ablations": "ablations",
    "opposites": "opposites",
    "T4": "levels",
    "T6": "growth",
    "shadowing": "shadowing",
    **dict.fromkeys(TRAINING_TABLES, "training_runs"),
}
"""The module of each, which says by `openers` how its tables are made."""
STUDIES = {
    "frontier": "frontier",
    "sequences": "kitchen",
    "skills": "words",
    "T4": "ball-push",
    "T6": "growth",
    "shadowing": "growth",
}
"""The study in which a table was first measured; of the others, that of the default world."""


def find_table(name: str) -> Opener:
    """What makes a table in a workspace."""
    module = import_module(f"lago_skills.experiments.tables.{TABLES[name]}")
    openers: dict[str, Opener] = module.openers()
    return openers[name]
