"""The tables of training runs: `lago evaluate STUDY --table T2`.

A cell is one run (method, task, seed); its evaluations are rows of `data/results/T2.csv`. What a seed's runs need (demonstrations, decoder, library) is shared with the zero-shot table, seed by seed. A run that is cut goes on from its
last checkpoint.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lago_skills import rl
from lago_skills.artifacts.progress import StageProgress
from lago_skills.core import Task
from lago_skills.errors import StudyError
from lago_skills.experiments import curves
from lago_skills.experiments.baselines.controllers import GAINS
from lago_skills.experiments.cells import Cell, Row, Say, by_cell, mixed
from lago_skills.experiments.evaluation_episodes import eval_seeds, success_share
from lago_skills.experiments.result_file import ResultFile
from lago_skills.experiments.table import (
    Choice,
    Grid,
    Opener,
    Repetition,
    Results,
    Table,
    demonstrated_tasks,
    interval,
    refuse,
)
from lago_skills.experiments.tables.compared_advisers import Advisers
from lago_skills.experiments.tables.specs import SPECS, TOGETHER, UNTRAINED, TableSpec
from lago_skills.guide.guides import Guide, NullGuide
from lago_skills.rl import methods
from lago_skills.stages import train
from lago_skills.stages.workspace import Workspace

if TYPE_CHECKING:
    from lago_skills.rl.problem import EpisodeOutcome, Problem
    from lago_skills.rl.runlog import Row as LogRow
    from lago_skills.worlds.rollouts import EpisodeResult

OURS = ("guided-sac", "guided-ppo")
"""What the other methods of a table are compared with: the first of these that it has."""


class Training(Table):
    """Learning curves of one table; what runs share with each other is kept."""

    def __init__(self, space: Workspace, say: Say, name: str, spec: TableSpec) -> None:
        super().__init__(space, say)
        self.schema, self.spec = curves.schema(name), spec
        self._advisers: dict[int, Advisers] = {}

    def cells(self, choice: Choice) -> list[Cell]:
        """Seeds, then methods, then tasks; of a table of one policy, one for all tasks."""
        spec, study, table = self.spec, self.space.study, self.schema.table
        if choice.demos or choice.episodes:
            raise StudyError(
                f"found --{'demos' if choice.demos else 'episodes'} with --table {table}; expected neither, since the table fixes "
                "both; leave it out"
            )
        if spec.together and choice.tasks:
            raise StudyError(
                f"found --tasks with --table {table}; expected none, since its runs train one policy for all seen tasks; leave it out"
            )
        names, known = choice.methods or list(spec.methods), demonstrated_tasks(study)
        refuse("method", [name for name in names if name not in spec.methods], f"one of {', '.join(spec.methods)}")
        unseen = [task.id for task in study.unseen]
        tasks = choice.tasks_of(study, known, f"a task of the study, {', '.join(known)}", unseen)
        return [
            self.schema.cell(study=study.name, method=method, task=task, seed=seed)
            for seed in choice.seeds_of()
            for method in names
            for task in ([TOGETHER] if spec.together else tasks)
        ]

    def episodes(self) -> int:
        """Of the last evaluation of a run."""
        return self.spec.final_episodes

    def run_of(self, row: Row) -> Cell:
        """The run that a row is about: of a table of one policy, that of all tasks."""
        return self.schema.cell(**{**row.cell, "task": TOGETHER}) if self.spec.together else row.cell

    def recorded(self, rows: Iterable[Row]) -> dict[Cell, list[Row]]:
        """The rows of each run; of a table of one policy, of those that have rows of each task."""
        if not self.spec.together:
            return by_cell(rows)
        runs: dict[Cell, list[Row]] = {}
        for row in rows:
            runs.setdefault(self.run_of(row), []).append(row)
        tasks = {task.id for task in self.space.study.seen}
        return {run: own for run, own in runs.items() if tasks <= {row["task"] for row in own}}

    def elsewhere(self, cell: Cell) -> str | None:
        """Methods without this table's settings are run once, for one table."""
        return self.spec.shared.get(cell["method"])

    def rows(self) -> list[Row]:
        """The study's rows on record, those that are shared with another table among them, in the order of methods."""
        rows = self.file.rows()
        for method, other in self.spec.shared.items():
            theirs = ResultFile.of(curves.schema(other), self.space.root).rows()
            rows += [
                self.schema.row(**{**row, "table": self.schema.table}) for row in theirs if row["method"] == method
            ]
        order = {method: number for number, method in enumerate(self.spec.methods)}
        own = [row for row in rows if row["study"] == self.space.study.name]
        return sorted(own, key=lambda row: order.get(row["method"], len(order)))

    def selected(self, cells: Sequence[Cell]) -> list[Row]:
        """The rows of these runs, whichever table has them; where another one lacks some, that is said."""
        rows, wanted = self.rows(), set(cells)
        selected = [row for row in rows if self.run_of(row) in wanted]
        lacking = wanted - {self.run_of(row) for row in selected}
        for method, other in self.spec.shared.items():
            if any(cell["method"] == method for cell in lacking):
                self.say(
                    f"{method}: runs of table {other}; measure those that are missing with --table {other} --methods {method}"
                )
        return selected

    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        """The rows of a run, by one thread, here as in a worker; how many episodes its evaluations have is the table's to say."""
        import torch

        torch.set_num_threads(1)
        started = time.monotonic()
        seed, study = cell["seed"], self.space.study
        if seed not in self._advisers:
            self._advisers[seed] = Advisers(self.replicate(seed), self.say)
        tasks = study.seen if self.spec.together else study.find([cell["task"]])
        if cell["method"] in UNTRAINED:
            return self._untrained(cell, self._advisers[seed], tasks, started)
        return self._trained(cell, self._advisers[seed], tasks, started)

    def _untrained(self, cell: Cell, advisers: Advisers, tasks: tuple[Task, ...], started: float) -> list[Row]:
        adviser, n_episodes = UNTRAINED[cell["method"]], self.spec.final_episodes
        guide = advisers.guide(adviser, tasks, self.spec.demos)
        play = self._player(cell, guide, advisers)
        shares = {task.id: (success_share(play(task)), n_episodes) for task in tasks}
        return self._rows(
            cell,
            shares,
            steps=0,
            demos=self.spec.demos if adviser == "cloned" else 0,
            leader="policy" if adviser == "none" else "prior",
            log={"train/prior_share": float(guide is not None)},
            wall_s=time.monotonic() - started,
            bundle=advisers.bundle(adviser, tasks, self.spec.demos),
        )

    def _player(self, cell: Cell, guide: Guide | None, advisers: Advisers) -> Callable[[Task], list[EpisodeResult]]:
        """Plays a method without training on a task, on the last evaluation's start states of runs of that seed."""
        from lago_skills.worlds.rollouts import full_rollouts, rollouts

        method, world, actions = cell["method"], self.space.world, self.space.study.grounding.action_space
        seeds = eval_seeds(cell["seed"], self.spec.final_episodes)
        if method in (*GAINS, "scripted"):  # what they do may depend on what went before in their episode
            policy = advisers.replicate.policy
            return lambda task: full_rollouts(world, task, policy(method, task), seeds, _uncounted)
        prior, rng = (guide or NullGuide(actions)).prior, np.random.default_rng(cell["seed"])

        def act(observations: NDArray[np.float64], task: Task) -> NDArray[Any]:
            if method == "random":
                return rng.uniform(-1.0, 1.0, (len(observations), actions.size)).astype(np.float32)
            return prior(observations, task.id).greedy()

        return lambda task: rollouts(world, task, lambda states: act(states, task), seeds, _uncounted, n_envs=10)

    def _trained(self, cell: Cell, advisers: Advisers, tasks: tuple[Task, ...], started: float) -> list[Row]:
        from lago_skills.rl.problem import task_keys
        from lago_skills.rl.world_problem import world_problem

        method, spec = methods.method(cell["method"]), self.spec
        usual = train.learner_config(self.space.study.train, cell["method"])
        settings = spec.settings | spec.by_algorithm.get(method.algorithm, {})
        config = type(usual).model_validate(usual.model_dump() | settings)
        guide = advisers.guide(method.adviser, tasks, spec.demos)
        problem = world_problem(self.space.world, tasks, self.space.study.grounding, guide, cell["seed"])
        options: dict[str, Any] = {}
        if method.demonstrations and spec.demos:
            shown = [episode for task in tasks for episode in advisers.demonstrations(task, spec.demos)]
            options["demonstrations"] = shown
        n_shown = len(options.get("demonstrations", ()))
        bundle = advisers.bundle(method.adviser, tasks, spec.demos)
        # where a run keeps its checkpoints until it is on record
        folder = self.space.artifact("unfinished", cell["table"], cell.name.replace("/", "__"))

        def report(step: int, log: LogRow) -> None:
            progress.update(cell.name, step, f"{cell.name} success {log.get('eval/success', float('nan')):.2f}")

        in_worker = multiprocessing.parent_process() is not None
        with StageProgress(self.schema.table, config.n_steps, "steps", quiet=in_worker) as progress:
            result = rl.train(
                problem,
                config,
                cell["seed"],
                final_episodes=spec.final_episodes,
                folder=folder,
                recipe={"cell": cell.name, "bundle": bundle, "demos": n_shown, **config.recipe()},
                report=report,
                **options,
            )
        rows: list[Row] = []
        for log in result.curve:
            last = log is result.curve[-1]
            keys = task_keys(problem) or ("eval/success",)
            on_the_way = [(log[key], spec.settings["eval_episodes"]) for key in keys]
            rows += self._rows(
                cell,
                dict(zip(problem.tasks, final_shares(problem, result.final) if last else on_the_way, strict=True)),
                steps=int(log["step"]),
                demos=n_shown,
                leader=result.leader if last else "",
                log=log,
                wall_s=time.monotonic() - started + result.earlier_s,
                bundle=bundle,
            )
        shutil.rmtree(folder, ignore_errors=True)
        return rows

    def _rows(
        self, cell: Cell, shares: Mapping[str, tuple[float, int]], *, log: LogRow, wall_s: float, **known: Any
    ) -> list[Row]:
        """One row for each task of a run: its share of successes in so many episodes."""
        return [
            self.schema.row(
                **{**cell, "task": task},
                success=round(success, 4),
                episodes=episodes,
                prior_share=round(log.get("train/prior_share", 0.0), 4),
                steps_per_s=round(log.get("time/steps_per_s", 0.0), 1),
                guide_share=round(log.get("time/guide_share", 0.0), 4),
                wall_s=round(wall_s, 1),
                commit=self.commit,
                **known,
            )
            for task, (success, episodes) in shares.items()
        ]

    def message(self, rows: list[Row]) -> str:
        """Success at each evaluation, the mean over tasks."""
        at = {
            steps: [row["success"] for row in rows if row["steps"] == steps] for steps in (row["steps"] for row in rows)
        }
        return " ".join(f"{np.mean(shares):.2f}" for shares in at.values()) + f" in {rows[-1]['wall_s']:.0f} s"

    def results(self, rows: list[Row]) -> Results:
        """Interquartile means by method and steps, and the chance that ours beats each other method."""
        entries, comparisons = findings(self.schema.table, self.spec, rows)
        lines = [
            [
                entry["method"],
                f"{entry['steps']:,}",
                f"{entry['iqm']:.2f}",
                interval(entry["low"], entry["high"]),
                f"{entry['mean']:.2f}",
                interval(entry["mean_low"], entry["mean_high"]),
                str(entry["n_tasks"]),
                str(entry["n_seeds"]),
            ]
            for entry in entries
        ]
        grid = Grid(("method", "steps", "IQM", "95 %", "mean", "95 % ", "tasks", "seeds"), lines)
        last = max((entry["steps"] for entry in comparisons["improvement"]), default=0)
        closing = [
            f"{ours(rows)} beats {entry['over']} with probability {entry['probability']:.2f} "
            f"({interval(entry['low'], entry['high']) or 'no interval, one seed'}) after {entry['steps']:,} steps, {entry['n_tasks']} tasks"
            for entry in comparisons["improvement"]
            if entry["steps"] == last
        ]
        title = f"{self.schema.table}: {self.spec.question}"
        return Results([*entries], comparisons, [title, grid, *closing], comparisons["mixed"])

    def checkable(self, cells: list[Cell]) -> list[Cell]:
        """Runs that were trained, where there are some."""
        return [cell for cell in cells if cell["method"] not in UNTRAINED] or cells

    def compare(self, stored: list[Row], again: list[Row]) -> Repetition:
        """Success at each evaluation. An older run may lack evaluations on its way, but not its end."""
        name = self.run_of(stored[0]).name
        before, now = ({(row["steps"], row["task"]): row["success"] for row in side} for side in (stored, again))
        values = {
            f"{task} at {steps}": (before.get((steps, task)), now.get((steps, task)))
            for steps, task in sorted(before.keys() | now.keys())
        }
        common = before.keys() & now.keys()
        same = max(before)[0] == max(now)[0] and all(before[key] == now[key] for key in common)
        commits = [sorted({row["commit"] for row in side}) for side in (stored, again)]
        apart = max((abs(before[key] - now[key]) for key in common), default=0.0)
        record: dict[str, Any] = {
            "cell": name,
            "same": same,
            "compared": len(common),
            "greatest_difference": round(apart, 4),
            "commits": commits,
            "values": values,
        }
        warnings: list[str] = []
        if not same and commits[0] != commits[1]:
            warnings.append(
                f"the stored rows are of commit {', '.join(commits[0])}, these of {', '.join(commits[1])}; a trained run repeats itself to the "
                "last bit only on the same commit, processor and torch: check out that commit to tell a mistake from rounding"
            )
        line = f"{name}: {'same' if same else 'differs'} at {len(common)} evaluations: {values}"
        return Repetition({"rows": [], "summary": record}, same, [line], warnings)


def _uncounted(n_steps: int) -> None:
    """Nobody asks how many environment steps were taken."""


def final_shares(problem: Problem, outcomes: Sequence[EpisodeOutcome]) -> list[tuple[float, int]]:
    """Success and number of episodes of each task in a run's last evaluation."""
    by_task = [[each.success for each in outcomes if each.task == task] for task in range(len(problem.tasks))]
    return [(float(np.mean(each)), len(each)) for each in by_task]


def ours(rows: list[Row]) -> str:
    """The learner that the others of a table are compared with."""
    return next((name for name in OURS if any(row["method"] == name for row in rows)), OURS[0])


def findings(table: str, spec: TableSpec, rows: list[Row]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What runs say: interquartile means by method and steps; chances of improvement and steps to .8 success."""
    unguided = [name for name in spec.methods if name in methods.METHODS and methods.METHODS[name].adviser == "none"]
    return curves.summary(rows, spec.at), {
        "table": table,
        "question": spec.question,
        "improvement": [entry for steps in spec.at for entry in curves.improvements(rows, ours(rows), steps)],
        "reach": curves.reach(rows),
        # a clone is made from the demonstrations of one task, so its runs differ as they should
        "mixed": mixed((row for row in rows if not (row["demos"] and _cloned(row["method"]))), ("method",)),
        "sooner": curves.sooner(rows, ours(rows), unguided),
    }


def _cloned(method: str) -> bool:
    return (UNTRAINED.get(method) or methods.METHODS[method].adviser) == "cloned"


def table(space: Workspace, name: str) -> Training:
    """One of these tables, to read what is on record."""
    return Training(space, lambda text: None, name, SPECS[name])


def openers() -> dict[str, Opener]:
    """All tables of training runs, with their settings as they are now."""
    return {name: partial(Training, name=name, spec=spec) for name, spec in SPECS.items()}
