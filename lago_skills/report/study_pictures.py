"""Pictures of a study for papers and pages, one at a time: `lago picture`."""

from __future__ import annotations

import csv
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np

from lago_skills.artifacts.folder import read_manifest
from lago_skills.core import Episode
from lago_skills.errors import ArtifactMissing, StudyError
from lago_skills.experiments import curves
from lago_skills.guide.bundle import library_folder
from lago_skills.guide.guides import LibraryGuide
from lago_skills.library import SkillLibrary
from lago_skills.library.projection import on_a_plane
from lago_skills.report import decoder_pictures, films, growth_pictures, plots, study_page
from lago_skills.rl.runlog import CURVE_FILE
from lago_skills.stages import build, collect, segment, train
from lago_skills.stages.workspace import Workspace

MOST_KINDS = 7
Picture = Callable[[Workspace, "str | None"], bytes]


def learning_curves(space: Workspace, task: str | None) -> bytes:
    """Success over steps: the interquartile mean over seeds with its 95 % interval, a panel for each task or for one of them.

    Raises:
        ArtifactMissing: no run has a curve yet.
    """
    rows: list[dict[str, Any]] = []
    for run in train.training_runs(space.study):
        path = space.artifact("runs", run.name) / CURVE_FILE
        if path.is_file() and task in (None, run.task.id):
            with path.open(encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    known = {
                        "task": run.task.id,
                        "method": run.algorithm,
                        "seed": run.seed,
                        "steps": int(float(row["step"])),
                        "success": float(row["eval/success"]),
                    }
                    rows.append(known)
    if not rows:
        raise _missing(space, "a training run", "train")
    tasks = list(dict.fromkeys(row["task"] for row in rows))

    def draw(axes: list[Any]) -> None:
        for panel, name in zip(axes, tasks, strict=True):
            own = [row for row in rows if row["task"] == name]
            entries = curves.summary(own, sorted({row["steps"] for row in own}))
            for number, method in enumerate(dict.fromkeys(entry["method"] for entry in entries)):
                _curve(panel, [entry for entry in entries if entry["method"] == method], number)
            panel.set(title=name, xlabel="environment steps", ylabel="success, interquartile mean", ylim=(-0.03, 1.03))
            panel.legend(frameon=False, fontsize=8)

    return plots.panels((5.4, 3.6), len(tasks), draw)


def _curve(panel: Any, entries: list[dict[str, Any]], number: int) -> None:
    colour, steps = plots.OKABE_ITO[number % 8], [entry["steps"] for entry in entries]
    panel.plot(
        steps,
        [entry["iqm"] for entry in entries],
        color=colour,
        linestyle=plots.DASHES[number % 4],
        marker=plots.MARKERS[number % 8],
        markersize=4,
        linewidth=2,
        label=plots.NAMES.get(entries[0]["method"], entries[0]["method"]),
    )
    low = [entry["iqm"] if entry["low"] is None else entry["low"] for entry in entries]
    high = [entry["iqm"] if entry["high"] is None else entry["high"] for entry in entries]
    panel.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)


def success(space: Workspace, task: str | None) -> bytes:
    """A field for each task and method, with the success in it, the mean over seeds.

    Raises:
        ArtifactMissing: nothing has been measured yet.
    """
    rows = [row for row in study_page.results(space, finished_only=True)[0] if task in (None, row["task"])]
    if not rows:
        raise _missing(space, "a result", "evaluate")
    tasks: list[str] = list(dict.fromkeys(row["task"] for row in rows))
    methods: list[str] = list(dict.fromkeys(row["method"] for row in rows))
    values = np.full((len(tasks), len(methods)), np.nan)
    for row, name in enumerate(tasks):
        for column, method in enumerate(methods):
            own = [each["success"] for each in rows if (each["task"], each["method"]) == (name, method)]
            values[row, column] = np.mean(own) if own else np.nan
    return plots.grid(tasks, [plots.NAMES.get(each, each) for each in methods], values)


def latents(space: Workspace, task: str | None) -> bytes:
    """The library's skills on their first two principal components, by verb.

    Raises:
        ArtifactMissing: there is no bundle yet.
    """
    bundle = _bundle(space)
    with SkillLibrary.open(library_folder(bundle), mode="frozen") as library:
        skills = library.list(enabled=True, task=task)
    if not skills:
        raise StudyError(f"found no enabled skill of task {task!r}; expected one; name another task, or none")
    points, verbs = (
        on_a_plane(np.stack([skill.latent for skill in skills])),
        [each.sentence.split()[0] for each in skills],
    )
    common = sorted(set(verbs), key=lambda verb: (-verbs.count(verb), verb))[:MOST_KINDS]

    def draw(axes: list[Any]) -> None:
        for number, verb in enumerate([*common, "other"]):
            own = np.array([each == verb or (verb == "other" and each not in common) for each in verbs])
            if own.any():
                axes[0].scatter(
                    points[own, 0],
                    points[own, 1],
                    color=plots.OKABE_ITO[number % 8],
                    marker=plots.MARKERS[number % 8],
                    s=44 if len(skills) < 200 else 8,
                    label=verb,
                )
        axes[0].set(title=f"{len(skills)} skills", xlabel="first principal component", ylabel="second")
        axes[0].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))

    return plots.panels((6.4, 4.6), 1, draw)


def timeline(space: Workspace, task: str | None) -> bytes:
    """Which step and skills were at work in the first demonstration of a task, over its steps.

    Raises:
        ArtifactMissing: there is no bundle, or no demonstration of the task.
    """
    guide = build.guide(_bundle(space), space.study.grounding)
    with closing(guide.library):
        name = task or space.study.seen[0].id
        if name not in guide.books or read_manifest(space.episodes(name)) is None:
            raise _missing(space, f"a demonstration of {name!r}", "collect")
        episode = collect.load({name: space.episodes(name)})[name][0]
        return _timeline(guide, name, episode)


def _timeline(guide: LibraryGuide, task: str, episode: Episode) -> bytes:
    retrieval = guide.retrieve(episode.observations[:-1].astype(np.float64), task)
    shares: dict[int, Any] = {}
    for place, ids in enumerate(retrieval.neighbors.ids.T):
        for number in np.unique(ids[ids >= 0]).tolist():
            own = shares.setdefault(number, np.zeros(len(retrieval.steps)))
            own += np.where(ids == number, retrieval.weights[:, place], 0.0)
    most = sorted(shares, key=lambda number: -float(shares[number].sum()))[:MOST_KINDS]

    def draw(axes: list[Any]) -> None:
        x = np.arange(len(retrieval.steps))
        names = [f"{guide.library.get(number).name} {guide.library.get(number).sentence}" for number in most]
        axes[0].stackplot(x, [shares[number] for number in most], colors=plots.OKABE_ITO, labels=names, step="mid")
        for at in np.flatnonzero(np.diff(retrieval.steps)) + 0.5:
            axes[0].axvline(at, color="black", linewidth=0.8, linestyle=":")
        axes[0].set(title=f"{task}: skills by weight; dotted where the step changes", xlabel="control step")
        axes[0].set(ylabel="weight", ylim=(0.0, 1.0), xlim=(0, len(x) - 1))
        axes[0].legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(0.0, -0.2))

    return plots.panels((7.4, 3.4), 1, draw)


def reliability(space: Workspace, task: str | None) -> bytes:
    """Whether the decoder's spreads are right: how many held-out actions lie inside intervals of each level.

    Raises:
        ArtifactMissing: there is no bundle yet.
        StudyError: actions are discrete, which have no spread.
    """
    shown, guide = segment.labelled(space), build.guide(_bundle(space), space.study.grounding)
    with closing(guide.library):
        steps = shown.steps(space.study.decoder)
        rows = np.flatnonzero(steps.held_out) if steps.held_out.any() else np.arange(len(steps.actions))
        if space.study.grounding.action_space.discrete:
            raise StudyError(
                "found discrete actions; expected continuous ones, whose spread can be right or wrong; draw another picture"
            )
        return decoder_pictures.reliability(guide.decoder, steps, rows)  # pyright: ignore[reportArgumentType]  (of continuous actions)


PICTURES: dict[str, Picture] = {
    "curves": learning_curves,
    "success": success,
    "latents": latents,
    "timeline": timeline,
    "reliability": reliability,
    "growth": growth_pictures.versions,
    "animation": films.film_of_library,
    "stream": growth_pictures.stream,
    "shadowing": growth_pictures.shadowing,
}


def _bundle(space: Workspace) -> Any:
    folder = space.artifact("bundle")
    if read_manifest(folder) is None:
        raise _missing(space, "a bundle", "build")
    return folder


def _missing(space: Workspace, what: str, stage: str) -> ArtifactMissing:
    return ArtifactMissing(
        f"study {space.study.name!r}: found no {what.removeprefix('a ')}; expected {what} to draw; run: lago {stage} {space.argument}"
    )
