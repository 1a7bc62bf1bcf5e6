"""The page of a table of training runs: curves with intervals, chances of improvement, and how to make it again."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

import lago_skills
from lago_skills.artifacts.folder import write_text
from lago_skills.experiments import curves
from lago_skills.experiments.baselines.controllers import GAINS
from lago_skills.experiments.curves import CurveRow
from lago_skills.experiments.tables import training as training_tables
from lago_skills.experiments.tables.specs import TABLES, UNTRAINED
from lago_skills.report.plots import Curve, method_curves
from lago_skills.rl.methods import METHODS
from lago_skills.stages.workspace import Workspace

OURS = ("guided-sac", "guided-ppo")
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


def ours(rows: list[CurveRow]) -> str:
    """The learner that the others of a table are compared with."""
    return next((name for name in OURS if any(row.method == name for row in rows)), OURS[0])


def results(table: str, rows: list[CurveRow]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the runs say: interquartile means by method and steps; chances of improvement and steps to .8 success."""
    spec = TABLES[table]
    chances = [entry for steps in spec.at for entry in curves.improvements(rows, ours(rows), steps)]
    unguided = [name for name in spec.methods if name in METHODS and METHODS[name].adviser == "none"]
    found: dict[str, Any] = {
        "table": table,
        "question": spec.question,
        "improvement": chances,
        "reach": curves.reach(rows),
    }
    # a clone is made from the demonstrations of one task, so its runs differ as they should
    found["mixed"] = curves.mixed(row for row in rows if not (row.demos and _cloned(row.method)))
    found["sooner"] = curves.sooner(rows, ours(rows), unguided)
    return curves.summary(rows, spec.at), found


def _cloned(method: str) -> bool:
    return (UNTRAINED.get(method) or METHODS[method].adviser) == "cloned"


def on_record(space: Workspace) -> dict[str, list[CurveRow]]:
    """The rows of each table that are about a study."""
    return {name: training_tables.rows(space, name) for name in TABLES}


def write_page(space: Workspace, table: str, rows: list[CurveRow]) -> Path:
    """Write `checkpoints/STUDY/tables/T2.html` and return where it is."""
    entries, summary = results(table, rows)
    text = files("lago_skills.report").joinpath("table_page.html").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)
    about = {name: ABOUT[name] if name in UNTRAINED else METHODS[name].about for name in TABLES[table].methods}
    shown = {row.method for row in rows}
    page = template.render(
        table=table,
        study=space.study.name,
        version=lago_skills.__version__,
        question=summary["question"],
        pictures=_pictures(rows, TABLES[table].pictures or {"": TABLES[table].methods}),
        rows=entries,
        ours=ours(rows),
        chances=summary["improvement"],
        reach=summary["reach"],
        sooner=summary["sooner"],
        mixed=summary["mixed"],
        methods={name: text for name, text in about.items() if name in shown},
    )
    path = space.artifact("tables", f"{table}.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)
    return path


def _pictures(rows: list[CurveRow], groups: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """The curves of each group of methods that has any, by its title."""
    found: dict[str, str] = {}
    for title, names in groups.items():
        own = [row for row in rows if row.method in names]
        if own:
            steps = sorted({row.steps for row in own} - {0})
            picture = method_curves(_whole(own, steps), _by_task(own), "success, interquartile mean")
            found[title] = base64.b64encode(picture).decode("ascii")
    return found


def _whole(rows: list[CurveRow], steps: list[int]) -> list[Curve]:
    entries = curves.summary(rows, steps)
    found: list[Curve] = []
    for method in dict.fromkeys(entry["method"] for entry in entries):
        own = [entry for entry in entries if entry["method"] == method]
        found.append(
            Curve(
                method,
                [entry["steps"] for entry in own],
                [entry["iqm"] for entry in own],
                [entry["iqm"] if entry["low"] is None else entry["low"] for entry in own],
                [entry["iqm"] if entry["high"] is None else entry["high"] for entry in own],
            )
        )
    return found


def _by_task(rows: list[CurveRow]) -> dict[str, list[Curve]]:
    found: dict[str, list[Curve]] = {}
    for task in dict.fromkeys(row.task for row in rows):
        for method in dict.fromkeys(row.method for row in rows):
            own = [row for row in rows if (row.task, row.method) == (task, method)]
            steps = sorted({row.steps for row in own})
            if not steps:
                continue
            at = [np.array([row.success for row in own if row.steps == step]) for step in steps]
            middle, low, high = ([float(reduce(each)) for each in at] for reduce in (np.mean, np.min, np.max))
            found.setdefault(task, []).append(Curve(method, steps, middle, low, high))
    return found
