"""The page of a table of training runs: curves with intervals, chances of improvement, and how to make it again."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import numpy as np

import lago_skills
from lago_skills.artifacts.folder import write_text
from lago_skills.experiments import curves
from lago_skills.experiments.baselines.controllers import GAINS
from lago_skills.experiments.cells import Row
from lago_skills.experiments.tables import training_runs
from lago_skills.experiments.tables.specs import SPECS, UNTRAINED
from lago_skills.rl.methods import METHODS
from lago_skills.stages.workspace import Workspace

if TYPE_CHECKING:
    from lago_skills.report.plots import Curve

ABOUT = {
    "random": "uniform actions",
    "scripted": "the package's scripted policy, which demonstrates",
    **{name: f"the recorded plans with a proportional controller of gain {gain:g}" for name, gain in GAINS.items()},
    "library": "the skills by themselves, no training",
    "bc": "a policy cloned from the demonstrations, no training",
    "nearest skill": "the library by itself, the nearest skill instead of a mixture over k",
    "fixed text": "the library by itself, latents are the sentence embeddings",
    "nearest step": "the library by itself, the action of the nearest demonstrated step of each skill instead of the decoder",
    "brief prompt": "the library by itself, playbooks of a prompt with one sentence of instructions",
    "shuffled library": "the library by itself, asked for the wrong skills",
}


def on_record(space: Workspace) -> dict[str, list[Row]]:
    """The rows of each table that are about a study."""
    return {name: training_runs.table(space, name).rows() for name in SPECS}


def write_page(folder: Path, study: str, table: str, rows: list[Row]) -> Path:
    """Write the page of a study's table into a folder, as `T2.html`, and return where it is."""
    entries, summary = training_runs.findings(table, SPECS[table], rows)
    text = files("lago_skills.report").joinpath("table_page.html").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)
    about = {name: ABOUT[name] if name in UNTRAINED else METHODS[name].about for name in SPECS[table].methods}
    shown = {row["method"] for row in rows}
    page = template.render(
        table=table,
        study=study,
        version=lago_skills.__version__,
        question=summary["question"],
        pictures=_pictures(rows, SPECS[table].pictures or {"": SPECS[table].methods}),
        rows=entries,
        ours=training_runs.ours(rows),
        chances=summary["improvement"],
        reach=summary["reach"],
        sooner=summary["sooner"],
        mixed=summary["mixed"],
        methods={name: text for name, text in about.items() if name in shown},
    )
    path = folder / f"{table}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)
    return path


def _pictures(rows: list[Row], groups: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """The curves of each group of methods that has any, by its title."""
    pictures: dict[str, str] = {}
    for title, names in groups.items():
        own = [row for row in rows if row["method"] in names]
        if own:
            steps = sorted({row["steps"] for row in own} - {0})
            from lago_skills.report.plots import method_curves

            png = method_curves(_whole(own, steps), _by_task(own), "success, interquartile mean")
            pictures[title] = base64.b64encode(png).decode("ascii")
    return pictures


def _whole(rows: list[Row], steps: list[int]) -> list[Curve]:
    entries = curves.summary(rows, steps)
    from lago_skills.report.plots import Curve

    whole: list[Curve] = []
    for method in dict.fromkeys(entry["method"] for entry in entries):
        own = [entry for entry in entries if entry["method"] == method]
        whole.append(
            Curve(
                method,
                [entry["steps"] for entry in own],
                [entry["iqm"] for entry in own],
                [entry["iqm"] if entry["low"] is None else entry["low"] for entry in own],
                [entry["iqm"] if entry["high"] is None else entry["high"] for entry in own],
            )
        )
    return whole


def _by_task(rows: list[Row]) -> dict[str, list[Curve]]:
    from lago_skills.report.plots import Curve

    by_task: dict[str, list[Curve]] = {}
    for task in dict.fromkeys(row["task"] for row in rows):
        for method in dict.fromkeys(row["method"] for row in rows):
            own = [row for row in rows if (row["task"], row["method"]) == (task, method)]
            steps = sorted({row["steps"] for row in own})
            if not steps:
                continue
            at = [np.array([row["success"] for row in own if row["steps"] == step]) for step in steps]
            middle, low, high = ([float(reduce(each)) for each in at] for reduce in (np.mean, np.min, np.max))
            by_task.setdefault(task, []).append(Curve(method, steps, middle, low, high))
    return by_task
