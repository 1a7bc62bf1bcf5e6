"""What each skill does: `lago evaluate STUDY --table skills`, of a study whose plans are in words.

Every skill in use is measured as it is, disabled, and with its sentence in a plan exchanged: for its opposite, for a manner ("slowly", "from the left"), for
the neighbour whose behaviour is most like it. A cell is (skill, change, task, seed): success and steps from rollouts; direction, speed and
fingers from what is done in demonstrated states of that skill, whatever the plan would do there.

Round trip: a demonstrated segment that the decoder has not seen belongs to the sentence whose actions are most like it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lago_skills.errors import StudyError
from lago_skills.experiments.behaviour import CHANGES, Behaviour, alike
from lago_skills.experiments.tables.zero_shot import EVAL_SPAN, Say, Variant, commit, variant
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.study import study_path

TABLE, STUDY = "skills", "words"
RESULTS = Path("data/results/skills.csv")
NEEDED, REDUNDANT = 0.3, 0.1
"""Success that a disabled skill must cost on one of its tasks to count as needed; one that nowhere costs more than the second is redundant."""
NO_EFFECT, SAME_WAY = 0.1, 0.8
"""A speed that changes by less, and a direction whose cosine stays above, show no effect."""
ROUND_TRIP_SEED = 1
"""Added to a seed: whose demonstrations are assigned to sentences."""


@dataclass(frozen=True)
class Cell:
    """What is measured once."""

    skill: str
    change: str
    task: str
    seed: int
    study: str = STUDY

    @property
    def name(self) -> str:
        """How a cell is named on the command line."""
        return f"{self.change}/{self.task}/{self.seed}/{self.skill}"


@dataclass(frozen=True)
class Row:
    """A measured cell."""

    table: str
    skill: str
    """A step's sentence with its ending, as it is embedded."""
    change: str
    task: str
    seed: int
    success: float
    steps: float
    """Mean control steps up to success or the horizon."""
    direction: float
    """Mean cosine of the motion to that of the unchanged skill, in the same demonstrated states."""
    speed: float
    """Mean size of the motion command, 0 to sqrt(3)."""
    fingers: float
    """Mean command of what the action sets beside the motion, -1 open to 1 closed."""
    episodes: int
    wall_s: float
    commit: str

    @property
    def cell(self) -> Cell:
        """What was measured."""
        return Cell(self.skill, self.change, self.task, self.seed)

    @property
    def group(self) -> tuple[str, int, int]:
        """Rows of one group have one bundle."""
        return self.change, 0, self.seed

    @property
    def bundle(self) -> str:
        """Fingerprint of what was measured: the commit stands for it."""
        return ""

    @property
    def told(self) -> str:
        """What was found."""
        return f"{self.success:.2f}, direction {self.direction:.2f}, speed {self.speed:.2f} in {self.wall_s:.0f} s"


REPEATED = ("success", "steps", "direction", "speed", "fingers", "episodes")


class Bench:
    """Measures cells of one study; what a seed needs is made once."""

    def __init__(self, space: Workspace, say: Say) -> None:
        self.space = words_space(space)
        self._say, self._commit = say, commit()
        self._behaviours: dict[int, Behaviour] = {}

    def behaviour(self, seed: int) -> Behaviour:
        """The skills of a seed's demonstrations."""
        if seed not in self._behaviours:
            made = Variant(variant(self.space, seed, self.space.study.collect.episodes_per_task), self._say)
            self._behaviours[seed] = Behaviour(made)
        return self._behaviours[seed]

    def measure(self, cell: Cell, n_episodes: int) -> Row:
        """The row of a cell."""
        from lago_skills.worlds.rollouts import rollouts
        from lago_skills.worlds.seeds import EVAL_SEED

        known, started = self.behaviour(cell.seed), time.monotonic()
        (task,) = self.space.study.find([cell.task])
        seeds = [EVAL_SEED + EVAL_SPAN * cell.seed + i for i in range(n_episodes)]
        with known.changed(cell.skill, cell.change, task) as guide:
            played = rollouts(
                self.space.world,
                task,
                lambda observations: guide.prior(observations, task.id).greedy(),
                seeds,
                lambda n: None,
            )
            moves = known.moves(cell.skill, cell.change)
        direction = alike(known.moves(cell.skill, "as it is"), moves)
        return Row(
            table=TABLE,
            skill=cell.skill,
            change=cell.change,
            task=task.id,
            seed=cell.seed,
            success=round(float(np.mean([result.success for result in played])), 4),
            steps=round(float(np.mean([result.steps for result in played])), 1),
            direction=round(direction, 4),
            speed=round(float(np.linalg.norm(moves[:, :3], axis=1).mean()), 4),
            fingers=round(float(moves[:, 3:].mean()), 4),
            episodes=n_episodes,
            wall_s=round(time.monotonic() - started, 1),
            commit=self._commit,
        )


def words_space(space: Workspace) -> Workspace:
    """The workspace of the study whose plans are in words: the one given, or `words` beside it."""
    return space if space.study.plan.form == "words" else open_workspace(space.root, study_path(STUDY, space.root))


def cells(bench: Bench, changes: Sequence[str], seeds: Sequence[int], tasks: Sequence[str]) -> list[Cell]:
    """All cells of a choice, skill by skill.

    Raises:
        StudyError: a change that is none.
    """
    if unknown := [name for name in changes if name not in CHANGES]:
        raise StudyError(f"found change {unknown[0]!r}; expected one of {', '.join(CHANGES)}; correct --methods")
    return [
        Cell(skill, change, task, seed)
        for seed in seeds
        for skill in bench.behaviour(seed).steps
        for task in bench.behaviour(seed).tasks(skill)
        if task in tasks
        for change in changes
    ]


def summary(bench: Bench, rows: list[Row]) -> dict[str, Any]:
    """What each skill's changes cost and do, opposites, round trip and support, of the first seed among the rows."""
    seed = min((row.seed for row in rows), default=0)
    known = bench.behaviour(seed)
    other_seed = seed + ROUND_TRIP_SEED
    other = Variant(variant(bench.space, other_seed, bench.space.study.collect.episodes_per_task), lambda text: None)
    names, confusion = known.round_trip(other)
    apart = known.told_apart()
    return {
        "skills": [_of_skill(known, skill, [row for row in rows if row.skill == skill]) for skill in known.steps],
        "opposites": apart,
        "opposites_told_apart": round(float(np.mean([each["told_apart"] for each in apart])), 4),
        "round_trip": {
            "sentences": names,
            "confusion": confusion.tolist(),
            "right": round(float(np.trace(confusion) / confusion.sum()), 4),
        },
        "support": known.support(),
    }


def _of_skill(known: Behaviour, skill: str, rows: list[Row]) -> dict[str, Any]:
    as_is = {(row.task, row.seed): row for row in rows if row.change == "as it is"}
    changes: dict[str, Any] = {}
    for change in CHANGES[1:]:
        pairs = [
            (as_is[row.task, row.seed], row) for row in rows if row.change == change and (row.task, row.seed) in as_is
        ]
        if not pairs:
            continue
        faster = float(np.mean([after.speed for _, after in pairs]) / np.mean([before.speed for before, _ in pairs]))
        changes[change] = {
            "costs": round(max(before.success - after.success for before, after in pairs), 4),
            "speed": round(faster, 3),
            "direction": round(float(np.mean([after.direction for _, after in pairs])), 3),
            "fingers": round(float(np.mean([after.fingers - before.fingers for before, after in pairs])), 3),
            "effect": effect(
                change,
                faster,
                float(np.mean([after.direction for _, after in pairs])),
                float(np.mean([after.fingers - before.fingers for before, after in pairs])),
            ),
        }
    found: dict[str, Any] = {
        "skill": skill,
        "neighbour": known.neighbours[skill],
        "tasks": known.tasks(skill),
        "changes": changes,
    }
    costs = changes.get("disabled", {}).get("costs")
    found["needed"] = costs is not None and costs >= NEEDED
    if costs is not None and costs <= REDUNDANT:
        found["redundant"] = (
            f'its neighbour does as well; to make one of them: lago skills merge, into "{found["neighbour"]}"'
        )
    return found


def effect(change: str, faster: float, direction: float, fingers: float) -> str:
    """What a change did, beside what its words say."""
    if change == "slowly":
        return (
            "slower, as it says" if faster < 1.0 - NO_EFFECT else "no support in the data: no demonstration is slower"
        )
    if change == "from the left":
        return "another way" if direction < SAME_WAY else "no support in the data: no demonstration shows a side"
    if change == "opposite":
        turned = direction < SAME_WAY or abs(fingers) > 0.5
        return "does otherwise, as it says" if turned else "no support in the data: nothing opposite was shown"
    return ""


def check(space: Workspace, stored: Row, say: Say) -> dict[str, Any]:
    """Measure a stored row again: `values` has each column that must repeat as (stored, now), `same` says whether all do."""
    now = Bench(space, say).measure(stored.cell, stored.episodes)
    values = {name: (getattr(stored, name), getattr(now, name)) for name in REPEATED}
    return {"cell": stored.cell.name, "same": all(a == b for a, b in values.values()), "values": values}
