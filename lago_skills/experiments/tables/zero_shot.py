"""The zero-shot table: the library alone beside its baselines, on demonstrated tasks and on tasks without any demonstration.

A cell (method, task, demonstrations, seed) is one row of `data/results/zero-shot.csv`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from lago_skills.experiments.baselines.controllers import GAINS
from lago_skills.experiments.cells import Cell, Column, Row, Schema, mixed
from lago_skills.experiments.evaluation_episodes import play_on
from lago_skills.experiments.intervals import success_over_tasks
from lago_skills.experiments.table import Choice, Grid, Opener, Results, Table, demonstrated_tasks, interval, refuse
from lago_skills.worlds.world import rules_of

METHODS = ("library", "bc-text", "bc-onehot", "replay", "random-library", *GAINS, "random", "scripted")
UNTRAINED = (*GAINS, "random", "scripted")
"""Methods that use no demonstration, as do the world's own rules: their cells have demos = 0."""
SCHEMA = Schema(
    "zero-shot",
    (
        Column("table"),
        Column("study"),
        Column("task"),
        Column("level", about="`seen` (demonstrated) or `unseen`"),
        Column("method"),
        Column("demos", int, "demonstrations of each seen task"),
        Column("seed", int),
        Column("success", float, "share of episodes with success at any step"),
        Column("success_last", float, "share with success at the horizon's last step, when they are played on"),
        Column("episodes", int),
        Column("episode_steps", float, "mean control steps up to the first success, or the horizon"),
        Column("environment_steps", int, "all control steps that were simulated"),
        Column("wall_s", float),
        Column("commit", about="of the code that measured it; with a + if it had been changed since"),
        Column("bundle", about="fingerprint of what the policy was made from; empty where it was made from nothing"),
    ),
    keys=("table", "study", "method", "task", "demos", "seed"),
    form="METHOD/TASK/DEMOS/SEED",
    label="{method}/{task}/{demos}/{seed}".format_map,
)


class ZeroShot(Table):
    """Success of methods by themselves."""

    schema = SCHEMA
    repeated = ("level", "success", "success_last", "episodes", "episode_steps", "environment_steps", "bundle")

    def cells(self, choice: Choice) -> list[Cell]:
        """Methods, then seeds, then tasks."""
        known = demonstrated_tasks(self.space.study)
        rules = tuple(rules_of(self.space.world, known[0]))
        methods = choice.methods or [*METHODS, *rules]
        every, untrained = (*METHODS, *rules), (*UNTRAINED, *rules)
        refuse("method", [name for name in methods if name not in every], f"one of {', '.join(every)}")
        tasks = choice.tasks_of(self.space.study, known, f"a seen or unseen task of the study, {', '.join(known)}")
        seeds, study = choice.seeds_of(), self.space.study.name
        chosen = [
            SCHEMA.cell(study=study, method=method, task=task, demos=0 if method in untrained else demos, seed=seed)
            for demos in choice.demos_of(self.space.study)
            for method in methods
            for seed in seeds
            for task in tasks
        ]
        return list(dict.fromkeys(chosen))

    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        """Play the episodes of a cell."""
        replicate = self.replicate(cell["seed"], cell["demos"])
        study, (task,) = self.space.study, self.space.study.find([cell["task"]])
        policy = replicate.policy(cell["method"], task)
        row = SCHEMA.row(
            **cell,
            level="seen" if task in study.seen else "unseen",
            bundle=replicate.bundle(cell["method"]),
            commit=self.commit,
            **play_on(self.space.world, task, policy, cell["seed"], n_episodes),
        )
        return [row]

    def message(self, rows: list[Row]) -> str:
        """Both readings of success."""
        (row,) = rows
        return f"{row['success']:.2f} (last step {row['success_last']:.2f}) in {row['wall_s']:.0f} s"

    def results(self, rows: list[Row]) -> Results:
        """Success by task, and means over tasks."""
        entries = summary(rows)
        columns = ("method", "level", "demos", "success", "95 %", "last step", "tasks", "seeds", "episodes")
        lines: list[list[str]] = []
        for entry in entries:
            numbers = (str(entry[name]) for name in ("tasks", "seeds", "episodes"))
            shares = (f"{entry['success']:.3f}", interval(entry["low"], entry["high"]), f"{entry['success_last']:.3f}")
            lines.append([entry["method"], entry["level"], str(entry["demos"]), *shares, *numbers])
        printed = [_by_task(rows), Grid(columns, lines)]
        return Results([*rows], entries, [*printed], mixed(rows, ("method", "demos")))


def _by_task(rows: list[Row]) -> Grid:
    """Success by task and method, the mean over seeds."""
    methods = list(dict.fromkeys((row["method"], row["demos"]) for row in rows))
    names = (f"{name} {demos}" if demos else name for name, demos in methods)
    columns = (name.replace("-", "- ") if name.startswith(("bc", "random-")) else name for name in names)
    lines: list[list[str]] = []
    for task, level in dict.fromkeys((row["task"], row["level"]) for row in rows):
        line = [task, level]
        for method in methods:
            shares = [row["success"] for row in rows if (row["task"], (row["method"], row["demos"])) == (task, method)]
            line.append(f"{sum(shares) / len(shares):.2f}" if shares else "")
        lines.append(line)
    return Grid(("task", "level", *columns), lines, wrap=True)


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """One entry per (method, level, demos): the mean over tasks, with a 95 % interval.

    The mean is over tasks of the mean over a task's seeds; `stratified_mean` says how the interval is made.
    """
    groups: defaultdict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["level"], row["demos"]].append(row)
    order = {name: number for number, name in enumerate(METHODS)}
    entries: list[dict[str, Any]] = []
    for method, level, demos in sorted(
        groups, key=lambda key: (key[1], key[2] or np.inf, order.get(key[0], len(order)))
    ):
        group = groups[method, level, demos]
        last_by_task: defaultdict[str, list[float]] = defaultdict(list)
        for row in group:
            last_by_task[row["task"]].append(row["success_last"])
        last = [float(np.mean(each)) for each in last_by_task.values()]
        entries.append(
            {
                "method": method,
                "level": level,
                "demos": demos,
                **success_over_tasks(group),
                "success_last": round(float(np.mean(last)), 4),
            }
        )
    return entries


def openers() -> dict[str, Opener]:
    """This table."""
    return {"zero-shot": ZeroShot}
