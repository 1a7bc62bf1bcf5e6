"""Table T6: a library that grows by a stream of tasks, one after the other; after each stage every task of the stream is played.

A cell (method, order, stage) is one row for each task: the matrix R[after stage, on task], future tasks among them. Stage 0 is the library that was built;
stage n is after the n-th task of the order, which was learned online with the advice of stage n - 1. The order is also the seed of demonstrations, decoders,
training and start states; order 0 is that of the study, the others are drawn.

Sources of the metrics: LIBERO (arXiv 2306.03310, section 3.2); Continual World (arXiv 2105.10919, section 3.3).
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import file_hash, verify
from lago_skills.core import Task
from lago_skills.errors import DataError, StudyError
from lago_skills.experiments.cells import Cell, Column, Row, Schema, optional_float, optional_int
from lago_skills.experiments.evaluation_episodes import eval_seeds, success_share
from lago_skills.experiments.growth_metrics import matrix_of, metrics
from lago_skills.experiments.replicate import ReplicateSpace
from lago_skills.experiments.table import Choice, Grid, Opener, Results, Table, as_text, interval, refuse
from lago_skills.experiments.tables.growth_compared import COMPARED, policies
from lago_skills.grow.comparing import touched
from lago_skills.grow.learning import grown_by_learning, learned
from lago_skills.grow.making import first_version
from lago_skills.grow.settings import Settings
from lago_skills.grow.versions import Version, Versions
from lago_skills.guide.bundle import DECODER_FILE, load_bundle
from lago_skills.guide.guides import LibraryGuide
from lago_skills.stages import build, pretrain
from lago_skills.worlds.rollouts import rollouts

if TYPE_CHECKING:
    from lago_skills.stages.workspace import Workspace

METHODS: dict[str, dict[str, Any]] = {
    "grown": {},
    "always-trained": {"refresh": "always"},
    "onward": {"ways": ("onward",)},
    "anew": {"ways": ("anew",)},
}
"""By name, how growth decides otherwise than by default: with the decoder trained in every stage, or in one way alone."""
USUAL = ("grown",)
N_STEPS, HARVEST = 5_000, 10
"""Environment steps of learning in a stage, and episodes that are taken in at most."""
SCHEMA = Schema(
    "T6",
    (
        Column("table"),
        Column("study"),
        Column("method"),
        Column("order", int, "number of the order in which tasks come, and seed"),
        Column("stage", int, "tasks that have been added; 0 is the library as it was built"),
        Column("task"),
        Column("kind", about="`built` (demonstrated from the start), `old`, `new` (of this stage) or `future`"),
        Column("success", float, "share of episodes with success at any step, the library alone"),
        Column("episodes", int),
        Column("version", int, "of the library"),
        Column("verdict", about="of the stage: what became of the version"),
        Column("trained", about="of the new task: how the decoder was, `onward` or `anew`, else `no`"),
        Column(
            "steps_to_80", optional_int, "of the new task: environment steps at the first evaluation with .8 success"
        ),
        Column("learned", optional_float, "of the new task: success after training, whoever leads"),
        Column("megabytes", optional_float, "of the new task: what the version's folder adds to disk"),
        Column("skills", int),
        Column("learn_s", optional_float, "of the new task: learning it online"),
        Column("grow_s", optional_float, "of the new task: growth, spot checks among it"),
        Column("wall_s", float, "of the stage, its playing of all tasks among it"),
        Column("commit", about="of the code that measured it; with a + if it had been changed since"),
        Column("bundle", about="digest of the version"),
    ),
    keys=("table", "study", "method", "order", "stage"),
    form="METHOD/ORDER/STAGE",
    label="{method}/{order}/{stage}".format_map,
)


@dataclass(frozen=True)
class StreamSpace(ReplicateSpace):
    """The workspace of one order of tasks, with the versions of one method."""

    method: str = "grown"

    def artifact(self, *parts: str) -> Path:
        """Where an artifact is kept: the versions of each method apart."""
        own = self.method if parts[0] == "grown" else parts[0]
        return super().artifact(own, *parts[1:])


def _act(guide: LibraryGuide, task: str, states: NDArray[np.float64]) -> NDArray[Any]:
    return guide.prior(states, task).greedy()


class GrowthStream(Table):
    """The matrix of a growing library."""

    schema = SCHEMA
    repeated = ("success", "episodes")

    def cells(self, choice: Choice) -> list[Cell]:
        """Orders, then methods, then stages."""
        study = self.space.study
        choice.refuse_all(("tasks", "demos"), "option", "none, since a stream has all tasks of its study; leave it out")
        methods = choice.methods or list(USUAL)
        known = (*METHODS, *COMPARED)
        refuse("method", [name for name in methods if name not in known], f"one of {', '.join(known)}")
        n_stages = len(study.unseen)
        return [
            SCHEMA.cell(study=study.name, method=method, order=order, stage=stage)
            for order in choice.seeds_of()
            for method in methods
            for stage in range(n_stages if method in COMPARED else 0, n_stages + 1)
        ]

    def measured_together(self, cell: Cell) -> Hashable:
        """A stream is one process's: each stage goes on from the one before."""
        return cell["method"], cell["order"]

    def order(self, number: int) -> list[Task]:
        """The tasks of a stream: those of the study in its order, or drawn."""
        tasks = self.space.study.unseen
        places: list[int] = (
            np.random.default_rng(number).permutation(len(tasks)).tolist() if number else [*range(len(tasks))]
        )
        return [tasks[place] for place in places]

    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        """Grow by the stage's task, unless that is on disk, and play all tasks.

        Raises:
            StudyError: the stage before has not been measured.
        """
        import torch

        torch.set_num_threads(1)
        began, stage = time.monotonic(), int(cell["stage"])
        order = self.order(cell["order"])
        replicate = self.replicate(cell["order"])
        space = replicate.segmented
        if cell["method"] in COMPARED:
            return self._compared(cell, space, order, n_episodes, began)
        for make in (pretrain.jobs, build.jobs):
            replicate.make(lambda make=make: make(space))
        space = StreamSpace(space.root, space.study_file, space.study, cell["method"])
        versions = Versions(space.artifact("grown"))
        current = versions.current or first_version(space, versions)
        grown, before = dict[str, Any](), list[Row]()
        if stage:
            before = self.recorded(self.file.rows()).get(SCHEMA.cell(**{**cell, "stage": stage - 1}), [])
            if not before:
                raise StudyError(
                    f"cell {cell.name}: found stage {stage - 1} not measured; expected it, since each stage goes on from the one before; measure it first"
                )
            if current.number != before[-1]["version"]:  # a cut after growth and before its row
                current = versions.use(before[-1]["version"])
            old = frozenset(task.id for task in (*space.study.seen, *order[: stage - 1]))
            current, grown = self._stage(
                space, order[stage - 1], current, Settings(old_tasks=old, **METHODS[cell["method"]])
            )
        played = self._played(
            [*space.study.seen, *order], space, versions, current, before, (cell["order"], n_episodes)
        )
        return self._rows(cell, space, order, current, grown | played, began)

    def _compared(self, cell: Cell, own: Workspace, order: list[Task], n_episodes: int, began: float) -> list[Row]:
        """What the grown library is compared with.

        Raises:
            StudyError: the grown stream has not been measured to its end.
        """
        if SCHEMA.cell(**{**cell, "method": "grown"}) not in self.recorded(self.file.rows()):
            raise StudyError(
                f"cell {cell.name}: found the grown stream of order {cell['order']} not measured to its end; expected that, since this is made from it; measure method grown first"
            )
        space = StreamSpace(own.root, own.study_file, own.study, "grown")
        policy_of, version = policies(cell["method"], space, self.say)
        seeds, successes = eval_seeds(cell["order"], n_episodes), dict[str, float]()
        for task in (*space.study.seen, *order):
            played = rollouts(space.world, task, policy_of(task), seeds, lambda n: None)
            successes[task.id] = round(success_share(played), 4)
        grown = {
            "successes": successes,
            "skills": version.growth["skills"],
            "episodes": n_episodes,
            "verdict": "compared",
        }
        return self._rows(cell, space, order, version, grown, began)

    def _stage(
        self, space: Workspace, task: Task, current: Version, settings: Settings
    ) -> tuple[Version, dict[str, Any]]:
        """The version after a task, and what it took."""
        started = time.monotonic()
        try:
            online = learned(space, task, current, N_STEPS, HARVEST, self.say)
        except DataError as error:
            self.say(str(error))
            return current, {"verdict": "nothing learned", "learned": 0.0, "learn_s": time.monotonic() - started}
        learn_s = time.monotonic() - started
        known: dict[str, Any] = {
            "learned": online.curve[-1][1],
            "learn_s": learn_s,
            "steps_to_80": next((steps for steps, success in online.curve if success >= 0.8), None),
        }
        started = time.monotonic()
        try:
            version = grown_by_learning(space, task, online, settings, self.say)
        except DataError as error:
            self.say(str(error))
            return current, {**known, "verdict": "refused", "grow_s": time.monotonic() - started}
        megabytes = sum(path.stat().st_size for path in version.folder.rglob("*") if path.stat().st_nlink == 1) / 1e6
        known |= {"verdict": version.verdict, "megabytes": megabytes, "grow_s": time.monotonic() - started}
        known["trained"] = version.growth["decoder"] if version.growth["refreshed"] else "no"
        return (current if version.verdict == "held" else version), known

    def _played(
        self,
        tasks: list[Task],
        space: Workspace,
        versions: Versions,
        version: Version,
        before: list[Row],
        starts: tuple[int, int],
    ) -> dict[str, Any]:
        """Success on every task: of those whose plans are followed by the same decoder through the same skills as in the stage before, what it was there."""
        order, n_episodes = starts
        guide = load_bundle(version.folder, grounding=space.study.grounding)
        with guide.library:
            successes = self._unchanged(space, versions, version, guide, before)
            for task in tasks:
                if task.id not in successes:
                    act = partial(_act, guide, task.id)
                    played = rollouts(space.world, task, act, eval_seeds(order, n_episodes), lambda n: None)
                    successes[task.id] = round(success_share(played), 4)
            return {"successes": successes, "skills": guide.library.n_active, "episodes": n_episodes}

    def _unchanged(
        self, space: Workspace, versions: Versions, version: Version, guide: LibraryGuide, before: list[Row]
    ) -> dict[str, float]:
        known = {row["task"]: float(row["success"]) for row in before}
        if not before or before[-1]["version"] == version.number:
            return known
        folder = versions.get(before[-1]["version"]).folder
        if file_hash(folder / DECODER_FILE) != file_hash(version.folder / DECODER_FILE):
            return {}
        earlier = load_bundle(folder, grounding=space.study.grounding)
        with earlier.library:
            return {task: value for task, value in known.items() if task not in touched(earlier, guide, {})}

    def _rows(
        self, cell: Cell, space: Workspace, order: list[Task], version: Version, grown: dict[str, Any], began: float
    ) -> list[Row]:
        stage, tasks = cell["stage"], [*space.study.seen, *order]
        own = {"steps_to_80": None, "learned": None, "megabytes": None, "learn_s": None, "grow_s": None}
        trained = grown.get("trained", "no" if stage and cell["method"] not in COMPARED else "")
        kinds = {task.id: "built" for task in space.study.seen}
        kinds |= {task.id: "old" if n < stage else "new" if n == stage else "future" for n, task in enumerate(order, 1)}
        wall_s = round(time.monotonic() - began, 1)
        return [
            SCHEMA.row(
                **cell,
                task=task.id,
                kind=kinds[task.id],
                success=grown["successes"][task.id],
                episodes=grown["episodes"],
                version=version.number,
                verdict=grown.get("verdict", "built" if not stage else ""),
                trained=trained if kinds[task.id] == "new" else "",
                skills=grown["skills"],
                wall_s=wall_s,
                commit=self.commit,
                bundle=verify(version.folder).digest[:12],
                **own | ({name: _rounded(grown.get(name)) for name in own} if kinds[task.id] == "new" else {}),
            )
            for task in tasks
        ]

    def message(self, rows: list[Row]) -> str:
        """Means over the kinds of tasks."""
        parts = [f"{kind} {_mean(rows, kind):.2f}" for kind in ("built", "old", "new", "future") if _of(rows, kind)]
        return f"{', '.join(parts)}; {rows[-1]['verdict']} in {rows[-1]['wall_s']:.0f} s"

    def results(self, rows: list[Row]) -> Results:
        """The matrix's means by stage, and the metrics of each whole stream."""
        lines: list[list[str]] = []
        streams: dict[tuple[str, int], list[Row]] = {}
        for row in rows:
            streams.setdefault((row["method"], row["order"]), []).append(row)
        entries: list[dict[str, Any]] = []
        for (method, order), own in streams.items():
            if method in COMPARED:
                lines += [_line(method, order, own[0]["stage"], own)]
                continue
            matrix = matrix_of(own)
            entries.append({"method": method, "order": order, **metrics(matrix)})
            lines += [_line(method, order, stage, own) for stage in matrix.stages]
        columns = ("method", "order", "stage", "task", "new", "built", "old", "future", "verdict", "seconds")
        summary = (
            "method",
            "order",
            "stages",
            "FWT",
            "BWT",
            "AUC",
            "last",
            "least",
            "fall",
            "95 %",
            "zero-shot next",
            "without growth",
        )
        return Results([*rows], entries, [Grid(columns, lines), Grid(summary, [_summary(entry) for entry in entries])])


def _line(method: str, order: int, stage: int, rows: list[Row]) -> list[str]:
    own = [row for row in rows if row["stage"] == stage]
    new = next((row["task"] for row in own if row["kind"] == "new"), "")
    shares = [as_text(_mean(own, kind) if _of(own, kind) else None) for kind in ("new", "built", "old", "future")]
    return [method, str(order), str(stage), new, *shares, own[-1]["verdict"], f"{own[-1]['wall_s']:.0f}"]


def _summary(entry: dict[str, Any]) -> list[str]:
    names = ("fwt", "bwt", "auc", "last", "least", "fall")
    return [
        entry["method"],
        str(entry["order"]),
        str(entry["stages"]),
        *(as_text(entry[name]) for name in names),
        interval(entry["fall_low"], entry["fall_high"]),
        as_text(entry["next"]),
        as_text(entry["next_before"]),
    ]


def _of(rows: list[Row], kind: str) -> list[Row]:
    return [row for row in rows if row["kind"] == kind]


def _mean(rows: list[Row], kind: str) -> float:
    return float(np.mean([row["success"] for row in _of(rows, kind)]))


def _rounded(value: float | None) -> float | None:
    return round(value, 2) if isinstance(value, float) else value


def openers() -> dict[str, Opener]:
    """This table."""
    return {"T6": GrowthStream}
