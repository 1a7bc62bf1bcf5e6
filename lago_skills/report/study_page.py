"""Report: one HTML page, and the table behind it."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterable
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import lago_skills
from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ArtifactWriter, Manifest, fingerprint, read_manifest, verify
from lago_skills.core import Playbook, Task
from lago_skills.experiments.intervals import wilson
from lago_skills.experiments.tables.specs import SPECS
from lago_skills.report import films, table_page, table_pictures
from lago_skills.rl import methods
from lago_skills.rl.runlog import CURVE_FILE
from lago_skills.stages import build, evaluate, plan, segment, train
from lago_skills.stages.job import Job, digest
from lago_skills.stages.workspace import Workspace
from lago_skills.study import Study

if TYPE_CHECKING:
    from lago_skills.guide.guides import LibraryGuide

VERSION = 4
REPORT_FILE, ROWS_FILE = "report.html", "rows.json"
Row = dict[str, Any]


def jobs(space: Workspace) -> list[Job]:
    """One job: the page, and the pages of the study's tables of training runs that it links to."""
    tables = {name: own for name, own in table_page.on_record(space).items() if own}

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        rows, summary = results(space)
        progress(1, "table")
        for table, own in tables.items():
            table_page.write_page(space.artifact("tables"), space.study.name, table, own)
        page = _page(space, rows, summary, {name: SPECS[name].question for name in tables}, progress)
        (writer.path / ROWS_FILE).write_text(json.dumps({"rows": rows, "summary": summary}) + "\n", encoding="utf-8")
        (writer.path / REPORT_FILE).write_text(page, encoding="utf-8")
        writer.content = dict.fromkeys((ROWS_FILE, REPORT_FILE), _without_times(rows, summary))
        progress(4, "page")
        writer.summary = summary

    recipe: Row = {
        "stage": "report",
        "version": VERSION,
        "zero_shot": {task.id: digest(space.artifact("zero-shot", task.id)) for task in space.study.unseen},
        "runs": {run.name: digest(space.artifact("runs", run.name)) for run in train.training_runs(space.study)},
        "bundle": digest(space.artifact("bundle")),
        "playbooks": digest(space.artifact("playbooks")),
        "tables": {name: fingerprint([dict(row) for row in own]) for name, own in tables.items()},
    }
    if drawn := table_pictures.recipe(space.study, space.root):
        recipe["pictures"] = drawn
    return [Job("report", "report", space.artifact("report"), recipe, 4, "parts", make)]


def _without_times(rows: list[Row], summary: Row) -> str:
    """A fingerprint of what a report says, but for how long everything took."""
    timed = ("steps_per_s", "guide_share", "stage_seconds")
    return fingerprint([{name: value for name, value in row.items() if name not in timed} for row in (*rows, summary)])


def results(space: Workspace, *, finished_only: bool = False) -> tuple[list[Row], Row]:
    """The study's table and its summary; of what is there alone, where only what is finished is asked for.

    Rows: `task, method, steps, seed, success, episodes`, of runs `leader` and `plan_from` (trial, exploration or search, where it is not the study's), the interval `low, high` and the mean `return`, which of tasks that
    ask for several things is how many were done, `subtasks`. Summary: `zero_shot_mean` over the
    unseen tasks, and the mean over seeds of the trained tasks, `guided_success` and `plain_success`, of the first learner with the library's advice
    and of the first one without any.

    Raises:
        ArtifactMissing: a stage before has not run.
        ArtifactCorrupt: a result is damaged.
    """
    rows: list[Row] = []
    for task in space.study.unseen:
        folder = space.artifact("zero-shot", task.id)
        if finished_only and read_manifest(folder) is None:
            continue
        verify(folder)
        rows.append(_row(task, "library", 0, None, _episodes(folder / evaluate.RESULTS_FILE)))
    summary: Row = {"study": space.study.name}
    if rows:
        summary["zero_shot_mean"] = round(float(np.mean([row["success"] for row in rows])), 4)
    by_method: dict[str, list[float]] = {}
    for run in train.training_runs(space.study):
        folder = space.artifact("runs", run.name)
        if finished_only and read_manifest(folder) is None:
            continue
        figures = verify(folder).summary
        steps = int(figures["steps"])
        row = _row(run.task, run.algorithm, steps, run.seed, _episodes(folder / train.FINAL_FILE))
        known = {name: figures[name] for name in ("leader", "steps_per_s", "guide_share")}
        rows.append({**row, **known, "plan_from": _plan_from(figures)})
        by_method.setdefault(run.algorithm, []).append(row["success"])
    if not finished_only:
        summary["stage_seconds"] = _stage_seconds(manifest for _, manifest in _manifests(space))
    guided = next((name for name in by_method if methods.method(name).adviser == "library"), "")
    plain = next((name for name in by_method if methods.method(name).adviser == "none"), "")
    for key, method in (("guided_success", guided), ("plain_success", plain)):
        if method:
            summary[key] = round(float(np.mean(by_method[method])), 4)
    return rows, summary


def _plan_from(figures: Row) -> str:
    """What the plan that a run followed comes from, where that is not the study: its trial, exploration or search."""
    if figures.get("search", {}).get("improved"):
        return "search"
    if figures.get("exploration", {}).get("changes"):
        return "exploration"
    return "trial" if "trial" in figures else ""


def _stage_seconds(manifests: Iterable[Manifest]) -> dict[str, float]:
    """Wall time of each stage, from the start of its first artifact to the end of its last."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for manifest in manifests:
        start = datetime.fromisoformat(manifest.created_at).timestamp()
        spans.setdefault(manifest.kind, []).append((start, start + manifest.seconds))
    return {kind: round(max(b for _, b in s) - min(a for a, _ in s), 1) for kind, s in spans.items()}


def _episodes(path: Path) -> tuple[list[bool], list[float]]:
    """Success and return of each episode; no returns in files of before they were written."""
    with path.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [row["success"] == "1" for row in rows], [float(row["return"]) for row in rows if "return" in row]


def _row(task: Task, method: str, steps: int, seed: int | None, episodes: tuple[list[bool], list[float]]) -> Row:
    successes, returns = episodes
    low, high = wilson(sum(successes), len(successes))
    mean = round(float(np.mean(returns)), 4) if returns else None
    row: Row = {
        "task": task.id,
        "method": method,
        "steps": steps,
        "seed": seed,
        "success": round(sum(successes) / len(successes), 4),
        "episodes": len(successes),
        "low": round(low, 4),
        "high": round(high, 4),
        "return": mean,
    }
    return row if task.parts == 1 else {**row, "subtasks": mean}


def _page(space: Workspace, rows: list[Row], summary: Row, tables: dict[str, str], progress: Progress) -> str:
    import jinja2

    from lago_skills.report import decoder_pictures, plots

    study, bundle, runs = space.study, space.artifact("bundle"), space.artifact("runs")
    guide = build.guide(bundle, study.grounding)
    zero_shot = [row for row in rows if row["method"] == "library"]
    trained = [row for row in rows if row["method"] != "library"]
    skills = guide.library.list(enabled=True)
    skill_map = plots.skill_map(
        np.stack([skill.latent for skill in skills]),
        [skill.sentence for skill in skills],
        [", ".join(skill.provenance["tasks"]) for skill in skills],
    )
    progress(2, "pictures")
    films = [_film_of_run(space, guide, run) for run in _filmed(study)]
    films += [_film_of_library(study, guide, task) for task in _longest(study)]
    progress(3, "animation")
    shown, lint = segment.labelled(space), plan.load_lint(space.artifact("playbooks"))
    books = {name: book for name, book in shown.books.items() if name in lint}
    text = files("lago_skills.report").joinpath("study_page.html").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)
    return template.render(
        study=study.name,
        version=lago_skills.__version__,
        bundle=digest(bundle),
        n_seen=len(study.seen),
        demos=study.collect.episodes_per_task,
        horizon=" or ".join(str(n) for n in sorted({task.horizon_steps for task in study.unseen or study.seen})),
        rule=study.load_world().success_text,
        own_reward=not study.load_world().ends_at_success,
        n_skills=len(skills),
        summary=summary,
        zero_shot=zero_shot,
        failing=[row["task"] for row in zero_shot if row["success"] == 0.0],
        trained=trained,
        tables=tables,
        final_episodes=study.train.final_episodes,
        curves=[
            _base64(_curves(study, runs, task, zero_shot)) for task in dict.fromkeys(row["task"] for row in trained)
        ],
        films=films,
        skill_map=_base64(skill_map),
        acting={title: _base64(png) for title, png in table_pictures.pictures(study, space.root).items()},
        decoder_pictures={
            title: _base64(png) for title, png in decoder_pictures.pictures(shown, guide.decoder, study.decoder).items()
        },
        models=sorted({book.model for book in books.values()}),
        by_model=_by_model(zero_shot, books, lint),
        books=[_explain(space.world.tasks[name], book, lint[name]) for name, book in books.items()],
        stages=[{"name": name, **_stage(manifest)} for name, manifest in _manifests(space)],
    )


def _curves(study: Study, runs: Path, task: str, zero_shot: list[Row]) -> bytes:
    from lago_skills.report import plots

    curves: dict[str, list[Any]] = {}
    for run in train.training_runs(study):
        if run.task.id == task:
            with (runs / run.name / CURVE_FILE).open(encoding="utf-8") as stream:
                points = [(float(row["step"]), float(row["eval/success"])) for row in csv.DictReader(stream)]
            curves.setdefault(run.algorithm, []).append(np.array(points))
    library = next((float(row["success"]) for row in zero_shot if row["task"] == task), None)
    return plots.learning_curves(curves, library, task)


def _filmed(study: Study) -> list[train.TrainingRun]:
    """The first guided run of each trained task."""
    first: dict[str, train.TrainingRun] = {}
    for run in train.training_runs(study):
        if methods.method(run.algorithm).adviser == "library":
            first.setdefault(run.task.id, run)
    return list(first.values())


def _longest(study: Study) -> list[Task]:
    """Of the unseen tasks that ask for several things, the first that asks for most."""
    several = [task for task in study.unseen if task.parts > 1]
    return [max(several, key=lambda task: task.parts)] if several else []


def _film_of_run(space: Workspace, guide: LibraryGuide, run: train.TrainingRun) -> Row:
    """One greedy episode of a run."""
    study, learned, folder = space.study, train.problem_of(space, run), space.artifact("runs", run.name)
    policy, leader = train.load_policy(folder, run, learned, study.train, guide.grounding)
    said = f"after training (guided, seed {run.seed}), led by: {leader}"
    return {"task": run.task.id, "said": said, "data": _base64(films.film(study, guide, run.task.id, policy))}


def _film_of_library(study: Study, guide: LibraryGuide, task: Task) -> Row:
    """One episode of the library alone."""
    data = _base64(films.film(study, guide, task.id))
    return {"task": task.id, "said": f"by the library alone: {task.sentence}", "data": data}


def _by_model(zero_shot: list[Row], books: dict[str, Playbook], lint: dict[str, Row]) -> list[Row]:
    """Models side by side: playbooks in use, what lint says of them, success of the library with them."""
    models: list[Row] = []
    for model in sorted({book.model for book in books.values()}):
        own = [name for name, book in books.items() if book.model == model]
        scored = [row["success"] for row in zero_shot if row["task"] in own]
        models.append(
            {
                "model": model,
                "playbooks": len(own),
                "findings": sum(len(lint[name]["findings"]) for name in own),
                "repaired": sum(bool(lint[name]["repaired"]) for name in own),
                "tasks": len(scored),
                "success": round(float(np.mean(scored)), 4) if scored else None,
            }
        )
    return models


def _explain(task: Task, book: Playbook, lint: Row) -> Row:
    return {
        "task": book.task_id,
        "sentence": task.sentence,
        "version": lint["version"],
        "source": lint["source"],
        "findings": [f"{finding['kind']}: {finding['text']}" for finding in lint["findings"]],
        "steps": [
            {
                "skill": step.skill,
                "author": author,
                "target": f"{step.target.anchor} {' '.join(f'{v:+.2f}' for v in step.target.offset)}"
                if step.target
                else "where it was learned",
                "when": f"about {' and '.join(step.about)}, until {step.until.name if step.until else 'it is done'}"
                if step.about
                else " and ".join(f"{c.feature} {c.op} {c.value:g}" for c in step.when) or "nothing above holds",
            }
            for step, author in zip(book.steps, lint["authors"], strict=True)
        ],
    }


def _manifests(space: Workspace) -> list[tuple[str, Manifest]]:
    folders = {f"episodes/{task.id}": space.episodes(task.id) for task in space.study.seen}
    folders |= {name: space.artifact(name) for name in ("playbooks", "segments", "decoder", "bundle")}
    folders |= {f"zero-shot/{task.id}": space.artifact("zero-shot", task.id) for task in space.study.unseen}
    folders |= {f"runs/{run.name}": space.artifact("runs", run.name) for run in train.training_runs(space.study)}
    return [(name, verify(folder)) for name, folder in folders.items()]


def _stage(manifest: Manifest) -> Row:
    return {"seconds": manifest.seconds, "created_at": manifest.created_at, "digest": manifest.digest}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
