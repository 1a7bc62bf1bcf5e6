"""The tables of training runs: `lago evaluate STUDY --table T2`.

A cell is one run (method, task, seed); its evaluations are rows of `data/results/T2.csv`. What a seed's runs need (demonstrations, decoder, library) is shared with the zero-shot table, seed by seed. A run that is cut goes on from its
last checkpoint.
"""

from __future__ import annotations

import fcntl
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lago_skills import rl
from lago_skills.artifacts.progress import StageProgress
from lago_skills.artifacts.workers import Progress, WorkerPool
from lago_skills.core import Task
from lago_skills.experiments.baselines.controllers import GAINS
from lago_skills.experiments.curves import CurveCell, CurveRow
from lago_skills.experiments.result_file import RowFile
from lago_skills.experiments.tables.specs import TABLES, TOGETHER, UNTRAINED
from lago_skills.experiments.tables.training_guides import Seed
from lago_skills.experiments.tables.zero_shot import Say, Variant, commit, demonstrator, variant
from lago_skills.guide.guides import Guide, NullGuide
from lago_skills.rl import methods
from lago_skills.stages import train
from lago_skills.stages.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from lago_skills.rl.problem import Act, EpisodeOutcome, Problem
    from lago_skills.rl.runlog import Row


class Bench:
    """Measures cells of one table; what runs share with each other is kept."""

    def __init__(self, space: Workspace, table: str, say: Say, *, quiet: bool = True) -> None:
        self.space, self.table, self.spec, self._say, self._quiet = space, table, TABLES[table], say, quiet
        self._commit = commit()
        self._tasks = {task.id: task for task in (*space.study.seen, *space.study.unseen)}
        self._seeds: dict[int, Seed] = {}

    def measure(self, cell: CurveCell) -> list[CurveRow]:
        """The rows of a run."""
        if cell.seed not in self._seeds:
            space = variant(self.space, cell.seed, self.space.study.collect.episodes_per_task)
            self._seeds[cell.seed] = Seed(Variant(space, self._say), self._say)
        made, started = self._seeds[cell.seed], time.monotonic()
        tasks = self.space.study.seen if self.spec.together else (self._tasks[cell.task],)
        if cell.method in UNTRAINED:
            return self._untrained(cell, made, tasks, started)
        return self._trained(cell, made, tasks, started)

    def _problem(self, tasks: tuple[Task, ...], guide: Guide | None, seed: int) -> Problem:
        from lago_skills.rl.world_problem import world_problem

        return world_problem(self.space.world, tasks, self.space.study.grounding, guide, seed)

    def _untrained(self, cell: CurveCell, made: Seed, tasks: tuple[Task, ...], started: float) -> list[CurveRow]:
        from lago_skills.rl.problem import evaluate

        adviser = UNTRAINED[cell.method]
        guide = made.guide(adviser, tasks, self.spec.demos)
        act = self._act(cell, tasks, guide, made)
        problem = self._problem(tasks, guide, cell.seed)
        outcomes = evaluate(problem, act, self.spec.final_episodes)
        demos = self.spec.demos if adviser == "cloned" else 0
        leader = "policy" if adviser == "none" else "prior"
        row: Row = {"train/prior_share": float(guide is not None)}
        made_from = made.bundle(adviser, tasks, self.spec.demos)
        return self._rows(
            cell, problem, 0, _shares(problem, outcomes), demos, leader, row, time.monotonic() - started, made_from
        )

    def _act(self, cell: CurveCell, tasks: tuple[Task, ...], guide: Guide | None, made: Seed) -> Act:
        """What a method without training does."""
        size = self.space.study.grounding.action_size
        if cell.method == "random":
            rng = np.random.default_rng(cell.seed)
            return lambda observations, numbers: rng.uniform(-1.0, 1.0, (len(observations), size)).astype(np.float32)
        if cell.method in GAINS:
            followed = [made.variant.policy(cell.method, task) for task in tasks]
            return lambda observations, numbers: followed[int(numbers[0])](observations, numbers)
        if cell.method == "scripted":
            experts = [demonstrator(self.space, task) for task in tasks]

            def expert(observations: NDArray[Any], numbers: NDArray[np.int64]) -> NDArray[np.float32]:
                rows = [experts[int(number)](row) for row, number in zip(observations, numbers, strict=True)]
                return np.stack(rows).astype(np.float32)

            return expert
        prior = (guide or NullGuide(size)).prior
        # evaluation plays one task after the other
        return lambda observations, numbers: prior(observations, tasks[int(numbers[0])].id).mean()

    def _trained(self, cell: CurveCell, made: Seed, tasks: tuple[Task, ...], started: float) -> list[CurveRow]:
        from lago_skills.rl.problem import task_keys

        method = methods.method(cell.method)
        usual = train.learner_config(self.space, cell.method)
        settings = self.spec.settings | self.spec.by_algorithm.get(method.algorithm, {})
        config = type(usual).model_validate(usual.model_dump() | settings)
        guide = made.guide(method.adviser, tasks, self.spec.demos)
        problem = self._problem(tasks, guide, cell.seed)
        options: dict[str, Any] = {}
        if method.demonstrations and self.spec.demos:
            options["demonstrations"] = [
                episode for task in tasks for episode in made.demonstrations(task, self.spec.demos)
            ]
        n_shown = len(options.get("demonstrations", ()))
        bundle = made.bundle(method.adviser, tasks, self.spec.demos)
        folder = unfinished(self.space, cell)

        def report(step: int, row: Row) -> None:
            progress.update(cell.name, step, f"{cell.name} success {row.get('eval/success', float('nan')):.2f}")

        with StageProgress(cell.table, config.n_steps, "steps", quiet=self._quiet) as progress:
            result = rl.train(
                problem,
                config,
                cell.seed,
                final_episodes=self.spec.final_episodes,
                folder=folder,
                recipe={"cell": cell.name, "bundle": bundle, "demos": n_shown, **config.recipe()},
                report=report,
                **options,
            )
        rows: list[CurveRow] = []
        wall_s = time.monotonic() - started + result.earlier_s
        for number, row in enumerate(result.curve, 1):
            last = number == len(result.curve)
            keys = task_keys(problem) or ("eval/success",)
            shares = [(row[key], self.spec.settings["eval_episodes"]) for key in keys]
            shares = _shares(problem, result.final) if last else shares
            leader = result.leader if last else ""
            rows += self._rows(cell, problem, int(row["step"]), shares, n_shown, leader, row, wall_s, bundle)
        shutil.rmtree(folder, ignore_errors=True)
        return rows

    def _rows(
        self,
        cell: CurveCell,
        problem: Problem,
        steps: int,
        shares: list[tuple[float, int]],
        demos: int,
        leader: str,
        row: Row,
        wall_s: float,
        bundle: str,
    ) -> list[CurveRow]:
        """One row for each task of a run: its share of successes in so many episodes."""
        return [
            CurveRow(
                table=cell.table,
                study=cell.study,
                task=task,
                method=cell.method,
                seed=cell.seed,
                steps=steps,
                success=round(success, 4),
                episodes=episodes,
                demos=demos,
                leader=leader,
                prior_share=round(row.get("train/prior_share", 0.0), 4),
                steps_per_s=round(row.get("time/steps_per_s", 0.0), 1),
                guide_share=round(row.get("time/guide_share", 0.0), 4),
                wall_s=round(wall_s, 1),
                commit=self._commit,
                bundle=bundle,
            )
            for task, (success, episodes) in zip(problem.tasks, shares, strict=True)
        ]


def _shares(problem: Problem, outcomes: list[EpisodeOutcome]) -> list[tuple[float, int]]:
    """Success and number of episodes of each task."""
    found = [[each.success for each in outcomes if each.task == task] for task in range(len(problem.tasks))]
    return [(float(np.mean(each)), len(each)) for each in found]


def run_of(row: CurveRow) -> CurveCell:
    """The run that a row is about: of a table of one policy, that of all tasks."""
    return replace(row.cell, task=TOGETHER) if TABLES[row.table].together else row.cell


def recorded(space: Workspace, table: str) -> set[CurveCell]:
    """The runs on record; of a table of one policy, those that have rows of each task."""
    rows = RowFile(TABLES[table].path(space.root, table), CurveRow).rows()
    if not TABLES[table].together:
        return {row.cell for row in rows}
    of_run: defaultdict[CurveCell, set[str]] = defaultdict(set)
    for row in rows:
        of_run[run_of(row)].add(row.task)
    return {cell for cell, tasks in of_run.items() if tasks >= {task.id for task in space.study.seen}}


def rows(space: Workspace, table: str) -> list[CurveRow]:
    """The rows on record of a study's table, those it shares with another one among them, in the order of its methods."""
    spec = TABLES[table]
    found = RowFile(spec.path(space.root, table), CurveRow).rows()
    for method, other in spec.shared.items():
        theirs = RowFile(TABLES[other].path(space.root, other), CurveRow).rows()
        found += [replace(row, table=table) for row in theirs if row.method == method]
    order = {method: number for number, method in enumerate(spec.methods)}
    mine = [row for row in found if row.study == space.study.name]
    return sorted(mine, key=lambda row: order.get(row.method, len(order)))


def cells(space: Workspace, table: str, names: list[str], tasks: list[str], seeds: list[int]) -> list[CurveCell]:
    """All runs of a choice, in the order in which they are worth having: seeds, then methods, then tasks."""
    tasks = [TOGETHER] if TABLES[table].together else tasks
    return [
        CurveCell(table, space.study.name, method, task, seed) for seed in seeds for method in names for task in tasks
    ]


def run(space: Workspace, table: str, missing: list[CurveCell], say: Say, n_workers: int = 1) -> None:
    """Measure runs; each is on disk when its worker begins the next."""
    if n_workers == 1:
        bench, file = Bench(space, table, say, quiet=False), RowFile(TABLES[table].path(space.root, table), CurveRow)
        for number, cell in enumerate(missing, 1):
            say(f"{number}/{len(missing)} {cell.name}: {_measure(space, bench, file, cell)}")
        return
    with WorkerPool(n_workers) as pool:
        where = (space.root, space.study_file, table)
        futures = [(cell, pool.submit(cell.name, partial(_run_there, *where, cell))) for cell in missing]
        for number, (cell, future) in enumerate(futures, 1):
            say(f"{number}/{len(missing)} {cell.name}: {pool.wait(cell.name, future)}")


_benches: dict[tuple[Path, str], Bench] = {}


def _run_there(root: Path, study_file: Path, table: str, cell: CurveCell, _: Progress) -> str:
    if (study_file, table) not in _benches:
        _benches[study_file, table] = Bench(open_workspace(root, study_file), table, _say_there)
    bench = _benches[study_file, table]
    return _measure(bench.space, bench, RowFile(TABLES[table].path(root, table), CurveRow), cell)


def unfinished(space: Workspace, cell: CurveCell) -> Path:
    """Where a run keeps its checkpoints until it is on record."""
    return space.artifact("unfinished", cell.table, cell.name.replace("/", "__"))


@contextmanager
def _claim(space: Workspace, cell: CurveCell) -> Generator[bool]:
    """Have a run for oneself, so that several commands share a table; whether it could be had. A claim goes with its process, however that ends.

    The lock's file goes once the run is on record: whoever still waits with the old file finds it there.
    """
    path = unfinished(space, cell).with_name(f".{unfinished(space, cell).name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
        if cell in recorded(space, cell.table):
            path.unlink(missing_ok=True)


def _measure(space: Workspace, bench: Bench, file: RowFile[CurveRow], cell: CurveCell) -> str:
    with _claim(space, cell) as mine:
        if not mine:
            return "left to another process, which is at it"
        if cell in recorded(space, cell.table):
            return "measured by another process"
        rows = bench.measure(cell)
        file.add_all(rows)
    means = [
        np.mean([row.success for row in rows if row.steps == step]) for step in dict.fromkeys(row.steps for row in rows)
    ]
    return " ".join(f"{mean:.2f}" for mean in means) + f" in {rows[-1].wall_s:.0f} s"


def _say_there(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
