"""The generated parts of docs/compared.md: what stored rows say of the library and of what a reader would use instead."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import mean

from tests.conftest import ROOT

HEAD = "| setting | method | success, mean over tasks | tasks | seeds |\n|---|---|---|---|---|\n"


@dataclass(frozen=True)
class Line:
    """One row of a comparison: which stored rows it is the mean of."""

    where: str
    method: str
    file: str
    keys: dict[str, str] = field(default_factory=dict[str, str])

    def text(self) -> str:
        """In Markdown.

        Raises:
            ValueError: no stored row is meant.
        """
        with (ROOT / f"data/results/{self.file}.csv").open(encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if all(row[key] == value for key, value in self.keys.items())]
        if not rows:
            raise ValueError(f"found no row of {self.file}.csv with {self.keys}; expected some; correct the line")
        by_task: defaultdict[str, list[float]] = defaultdict(list)
        for row in rows:
            by_task[row["task"]].append(float(row["success"]))
        share, n_seeds = mean(mean(each) for each in by_task.values()), len({row["seed"] for row in rows})
        return f"| {self.where} | {self.method} | {share:.2f} | {len(by_task)} | {n_seeds} |"


def _trained(table: str, where: str, steps: int, **methods: str) -> list[Line]:
    """Methods of a table of training runs after so many steps; `name_with_underscores="what it is called here"`."""
    said = [(name.replace("_", "-"), label) for name, label in methods.items()]
    return [Line(where, label, table, {"method": name, "steps": str(steps)}) for name, label in said]


def _latent(form: str, actor: str, label: str) -> list[Line]:
    """Followers of a plan without training and without faults, on each group of tasks."""
    keys = {"plan_form": form, "actor": actor, "prior_of": "", "noise": "", "steps": "0"}
    levels = ("ten", "eight", "twelve")
    return [Line(f"plans in {form}, the {level}", label, "latent", keys | {"level": level}) for level in levels]


def _block(lines: list[Line]) -> str:
    return HEAD + "\n".join(line.text() for line in lines)


def learners() -> str:
    """Stable-Baselines3's algorithms: plain SAC and PPO with the same networks, in this package's code."""
    new = "a new task, no demonstration of it, 20,000 steps"
    ten = "ten tasks with five demonstrations each, one policy, 300,000 steps"
    lines = _trained("T2", new, 20_000, sac="SAC", ppo="PPO", guided_sac="guided SAC")
    lines += [Line("the same, no training at all", "library", "T2", {"method": "library"})]
    lines += [Line("the same, no training at all", "plan + controller", "T2", {"method": "plan-controller-20"})]
    lines += _trained("T1", ten, 300_000, ppo="PPO", bc_ppo="PPO that begins at a clone", guided_ppo="guided PPO")
    return _block(lines)


def demonstrations() -> str:
    """RLPD and IBRL, which learn online from a few demonstrations of the task itself."""
    lines = list[Line]()
    for steps in (5_000, 20_000):
        where = f"three demonstrations of the task, {steps:,} steps"
        lines += _trained(
            "T3", where, steps, rlpd_4_updates="RLPD, four updates a step", ibrl_4_updates="IBRL, four updates a step"
        )
        lines += _trained("T3", where, steps, guided_sac="guided SAC, one update a step")
    return _block(lines)


def clones() -> str:
    """Cloning of the same demonstrations, as with d3rlpy or imitation alone."""
    lines = list[Line]()
    for level, where in (("seen", "the ten tasks that were demonstrated"), ("unseen", "eight that were not")):
        for method, label, demos in (
            ("bc-text", "cloning by the task's sentence (d3rlpy)", "5"),
            ("library", "library (decoder by d3rlpy)", "5"),
            ("plan-controller-20", "plan + controller", "0"),
        ):
            keys = {"level": level, "method": method, "demos": demos}
            lines.append(Line(where, label, "zero-shot", keys))
    return _block(lines)


def controllers() -> str:
    """The same plans with a controller of a few lines."""
    lines = _latent("numbers", "library", "library") + _latent("numbers", "controller-20", "controller, gain 20")
    lines += _latent("words", "library", "library")
    lines += _latent("words", "controller-metres", "controller with a person's metres")
    return _block(sorted(lines, key=lambda line: line.where))


def language_model() -> str:
    """A language model asked during control: what it costs, and whole motions that one wrote for single start states."""
    guide = json.loads((ROOT / "data/results/guide.json").read_text(encoding="utf-8"))["summary"]["bill"]
    keys = {"plan_form": "waypoints", "actor": "controller-10"}
    with (ROOT / "data/results/latent.csv").open(encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        asked = [row for row in rows if all(row[key] == value for key, value in keys.items())]
    motions = ", ".join(f"{row['task']} {float(row['success']):.2f}" for row in asked)
    return (
        f"An episode of {guide['steps']} steps takes {guide['guide_s']:g} s of guidance; a model asked at each of them, at {guide['tokens_per_s']:g} tokens/s, {guide['live_s']:,.0f} s and "
        f"{guide['live_usd']:,.2f} USD (`lago bench guide --json`). Asked once for each start state, for a whole motion in numbers (`waypoints` in the latent table): {motions}, of ten start states each."
    )


def parts() -> dict[str, str]:
    """Every part, by the name of its markers."""
    return {
        "compared-learners": learners(),
        "compared-demonstrations": demonstrations(),
        "compared-clones": clones(),
        "compared-controllers": controllers(),
        "compared-language-model": language_model(),
    }
