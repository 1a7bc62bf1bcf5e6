"""Small studies and rows for the tests of tables."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lago_skills.artifacts.executor import Runner
from lago_skills.experiments import curves
from lago_skills.experiments.cells import Cell, Row
from lago_skills.experiments.tables import zero_shot
from lago_skills.stages.workspace import Workspace, open_workspace
from tests.conftest import ROOT

STUDY = """
name = "small"
[tasks]
seen = ["reach", "push"]
unseen = ["reach-wall"]
[collect]
episodes_per_task = 2
[decoder]
n_updates = 30
hidden_sizes = [16]
[zero_shot]
episodes = 2
"""
TEN = (
    STUDY.replace('"reach", "push"', '"ten"')
    .replace("per_task = 2", "per_task = 1")
    .replace("n_updates = 30", "n_updates = 30\nphrase_share = 0.0\ncontrast_every = 0")
)
"""The recorded playbooks of unseen tasks know skills of all ten. No other words: they take long to embed."""


def study_in(folder: Path, text: str = STUDY) -> Workspace:
    """A project folder with this study alone and all that is recorded."""
    for name in ("transcripts", "scenes", "lint"):
        shutil.copytree(ROOT / "data" / name, folder / "data" / name)
    (folder / "data/studies").mkdir()
    (folder / "data/studies/small.toml").write_text(text)
    return open_workspace(folder, folder / "data/studies/small.toml")


def never(space: Workspace, stages: Sequence[str], runner: Runner) -> None:
    """Runs stages where none should run."""
    raise AssertionError("no stage should run")


def silent(text: str) -> None:
    """Nobody waits."""


def zero_shot_cell(method: str, task: str, demos: int, seed: int, study: str = "small") -> Cell:
    """A cell of the zero-shot table."""
    return zero_shot.SCHEMA.cell(study=study, method=method, task=task, demos=demos, seed=seed)


def zero_shot_row(cell: Cell, success: float = 0.5, **changes: Any) -> Row:
    """A row of the zero-shot table."""
    values: dict[str, Any] = {
        "level": "seen", "success": success, "success_last": 0.25, "episodes": 20, "episode_steps": 71.5,
        "environment_steps": 4000, "wall_s": 3.2, "commit": "abc1234+", "bundle": "f00d",
    }  # fmt: skip
    return zero_shot.SCHEMA.row(**{**cell, **values, **changes})


def curve_rows(
    method: str, task: str, seed: int, curve: dict[int, float], table: str = "T2", **changes: Any
) -> list[Row]:
    """The rows of a training run, success by steps."""
    values: dict[str, Any] = {
        "study": "small", "episodes": 20, "demos": 0, "leader": "policy", "prior_share": 0.5, "steps_per_s": 99.5,
        "guide_share": 0.05, "wall_s": 12.0, "commit": "abc", "bundle": "",
    }  # fmt: skip
    known = {**values, **changes, "method": method, "task": task, "seed": seed}
    return [curves.schema(table).row(**known, steps=steps, success=success) for steps, success in curve.items()]
