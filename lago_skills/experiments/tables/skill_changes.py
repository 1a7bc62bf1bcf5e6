"""What each skill does: `lago evaluate STUDY --table skills`, of a study whose plans are in words.

Every skill in use is measured as it is, disabled, and with its sentence in a plan exchanged: for its opposite (`data/opposite_skills/STUDY.json`), for a
manner ("slowly", "from the left"), for the neighbour whose behaviour is most like it. A cell is (skill, change, task, seed): things done, success and
steps from rollouts; direction, speed and fingers from what is done in demonstrated states of that skill, whatever the plan would do there.

Round trip: a demonstrated segment that the decoder has not seen belongs to the sentence whose actions are most like it.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.experiments.baselines.cloning_policies import Forgetful
from lago_skills.experiments.behaviour import CHANGES, Behaviour, alike, opposites_file
from lago_skills.experiments.cells import Cell, Column, Row, Say, Schema
from lago_skills.experiments.evaluation_episodes import eval_seeds, success_share
from lago_skills.experiments.table import Choice, Grid, Opener, Results, Table, demonstrated_tasks, refuse
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.study import study_path

STUDY = "words"
NEEDED, REDUNDANT = 0.3, 0.1
"""Things done that a disabled skill must cost on one of its tasks to count as needed; one that nowhere costs more than the second is redundant."""
NO_EFFECT, SAME_WAY = 0.1, 0.8
"""A speed that changes by less, and a direction whose cosine stays above, show no effect."""
ROUND_TRIP_SEED = 1
"""Added to a seed: whose demonstrations are assigned to sentences."""


SCHEMA = Schema(
    "skills",
    (
        Column("table"),
        Column("study"),
        Column("skill", about="a step's sentence with its ending, as it is embedded"),
        Column("change"),
        Column("task"),
        Column("seed", int),
        Column("subtasks", float, "things done in an episode, the mean; of a task that asks for one its success"),
        Column("success", float),
        Column("steps", float, "mean control steps up to success or the horizon"),
        Column(
            "direction",
            float,
            "mean cosine of the motion to that of the unchanged skill, in the same demonstrated states",
        ),
        Column("speed", float, "mean size of the motion, full speed along an axis being 1"),
        Column(
            "fingers",
            float,
            "mean command of what closes the hand or, where nothing says which numbers do, of all beside the motion",
        ),
        Column("episodes", int),
        Column("wall_s", float),
        Column("commit"),
    ),
    keys=("table", "study", "skill", "change", "task", "seed"),
    form="CHANGE/TASK/SEED/SKILL",
    label="{change}/{task}/{seed}/{skill}".format_map,
)


class Skills(Table):
    """Things done and motion of each skill, by change."""

    schema = SCHEMA
    repeated = ("subtasks", "success", "steps", "direction", "speed", "fingers", "episodes")

    def __init__(self, space: Workspace, say: Say) -> None:
        super().__init__(words_space(space), say)
        self._behaviours: dict[int, Behaviour] = {}

    def behaviour(self, seed: int) -> Behaviour:
        """The skills of a seed's demonstrations."""
        if seed not in self._behaviours:
            self._behaviours[seed] = Behaviour(self.replicate(seed))
        return self._behaviours[seed]

    def cells(self, choice: Choice) -> list[Cell]:
        """Skill by skill; of each, a few of the tasks whose plans use it."""
        refuse("--demos", choice.demos or [], "none, since skills are those of the study's demonstrations")
        study = self.space.study
        there = opposites_file(study.name)
        usual = [name for name in CHANGES if name != "opposite" or (self.space.root / there).exists()]
        if len(usual) < len(CHANGES):
            self.say(f"no opposites of this study's skills in {there}: the change is left out")
        changes, known = choice.methods or usual, demonstrated_tasks(study)
        tasks = choice.tasks_of(study, known, f"one of {', '.join(known)}")
        refuse("change", [name for name in changes if name not in CHANGES], f"one of {', '.join(CHANGES)}")
        return [
            SCHEMA.cell(study=study.name, skill=skill, change=change, task=task, seed=seed)
            for seed in choice.seeds_of((0,))
            for skill in self.behaviour(seed).steps
            for task in self.behaviour(seed).tasks(skill)
            if task in tasks
            for change in changes
        ]

    def episodes(self) -> int:
        """There are many cells."""
        return 10

    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        """The row of a cell."""
        from lago_skills.worlds.rollouts import full_rollouts, rollouts

        behaviour, started = self.behaviour(cell["seed"]), time.monotonic()
        (task,) = self.space.study.find([cell["task"]])
        skill, change = cell["skill"], cell["change"]
        several, seeds = task.parts > 1, eval_seeds(cell["seed"], n_episodes)
        with behaviour.changed(skill, change, task) as guide:

            def act(observations: NDArray[np.float64]) -> Any:
                return guide.prior(observations, task.id).greedy()

            if several:
                results = full_rollouts(self.space.world, task, Forgetful(act), seeds, lambda n: None)
            else:
                results = rollouts(self.space.world, task, act, seeds, lambda n: None)
            moves, fingers = behaviour.motions(skill, change), behaviour.fingers(skill, change)
        success = success_share(results)
        row = SCHEMA.row(
            **cell,
            subtasks=round(float(np.mean([result.episode_return for result in results])) if several else success, 4),
            success=round(success, 4),
            steps=round(float(np.mean([result.steps for result in results])), 1),
            direction=round(alike(behaviour.motions(skill, CHANGES[0]), moves), 4),
            speed=round(float(np.linalg.norm(moves, axis=1).mean()), 4),
            fingers=round(fingers, 4),
            episodes=n_episodes,
            wall_s=round(time.monotonic() - started, 1),
            commit=self.commit,
        )
        return [row]

    def message(self, rows: list[Row]) -> str:
        """Success, direction and speed."""
        (row,) = rows
        motion = f"direction {row['direction']:.2f}, speed {row['speed']:.2f}"
        return f"{row['subtasks']:.2f}, {motion} in {row['wall_s']:.0f} s"

    def results(self, rows: list[Row]) -> Results:
        """What each skill's changes cost and do; round trip, opposites and support."""
        whole = self.summary(rows)
        lines: list[list[str]] = []
        for entry in whole["skills"]:
            first = [entry["skill"], "redundant" if "redundant" in entry else "needed" if entry["needed"] else ""]
            for change, effects in entry["changes"].items():
                numbers = [f"{effects[name]:.2f}" for name in ("costs", "direction", "speed", "fingers")]
                lines.append([*first, change, *numbers, effects["effect"]])
                first = ["", ""]
        columns = ("skill", "", "change", "costs", "direction", "speed", "fingers", "effect")
        right, apart = whole["round_trip"]["right"], whole["opposites_told_apart"]
        closing = f"round trip: {right:.2f} of unseen segments find their sentence"
        closing += "" if apart is None else f"; opposites told apart: {apart:.2f}"
        return Results([*rows], whole, [Grid(columns, lines, wrap=True), closing])

    def summary(self, rows: list[Row]) -> dict[str, Any]:
        """What each skill's changes cost and do, opposites, round trip and support, of the first seed among the rows."""
        seed = min((row["seed"] for row in rows), default=0)
        behaviour = self.behaviour(seed)
        names, confusion = behaviour.round_trip(self.replicate(seed + ROUND_TRIP_SEED))
        pairs = behaviour.opposites()
        return {
            "skills": [
                _of_skill(behaviour, skill, [row for row in rows if row["skill"] == skill]) for skill in behaviour.steps
            ],
            "opposites": pairs,
            "opposites_told_apart": round(float(np.mean([each["told_apart"] for each in pairs])), 4) if pairs else None,
            "round_trip": {
                "sentences": names,
                "confusion": confusion.tolist(),
                "right": round(float(np.trace(confusion) / confusion.sum()), 4),
            },
            "support": behaviour.support(),
        }


def words_space(space: Workspace) -> Workspace:
    """The workspace of the study whose plans are in words: the one given, or `words` beside it."""
    return space if space.study.plan.form == "words" else open_workspace(space.root, study_path(STUDY, space.root))


def _of_skill(behaviour: Behaviour, skill: str, rows: list[Row]) -> dict[str, Any]:
    as_is = {(row["task"], row["seed"]): row for row in rows if row["change"] == CHANGES[0]}
    changes: dict[str, Any] = {}
    for change in CHANGES[1:]:
        changed = {(row["task"], row["seed"]): row for row in rows if row["change"] == change}
        pairs = [(as_is[key], row) for key, row in changed.items() if key in as_is]
        if not pairs:
            continue
        faster = float(np.mean([now["speed"] for _, now in pairs]) / np.mean([then["speed"] for then, _ in pairs]))
        direction = float(np.mean([now["direction"] for _, now in pairs]))
        fingers = float(np.mean([now["fingers"] - then["fingers"] for then, now in pairs]))
        changes[change] = {
            "costs": round(max(then["subtasks"] - now["subtasks"] for then, now in pairs), 4),
            "speed": round(faster, 3),
            "direction": round(direction, 3),
            "fingers": round(fingers, 3),
            "effect": effect(change, faster, direction, fingers),
        }
    entry: dict[str, Any] = {
        "skill": skill,
        "neighbour": behaviour.neighbours[skill],
        "tasks": behaviour.tasks(skill),
        "changes": changes,
    }
    costs = changes.get("disabled", {}).get("costs")
    entry["needed"] = costs is not None and costs >= NEEDED
    if costs is not None and costs <= REDUNDANT:
        entry["redundant"] = (
            f'its neighbour does as well; to make one of them: lago skills merge, into "{entry["neighbour"]}"'
        )
    return entry


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


def openers() -> dict[str, Opener]:
    """This table."""
    return {"skills": Skills}
