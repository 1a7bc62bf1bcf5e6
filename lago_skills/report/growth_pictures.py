"""Pictures of a library that grows: its versions, a stream of tasks that is on record, and what a library full of something else does."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from lago_skills.errors import ArtifactMissing
from lago_skills.experiments.cells import Row
from lago_skills.experiments.growth_metrics import Matrix, matrix_of
from lago_skills.experiments.registry import find_table
from lago_skills.grow.versions import Versions
from lago_skills.guide.bundle import library_folder
from lago_skills.library import SkillLibrary
from lago_skills.report import plots
from lago_skills.stages.workspace import Workspace

CONTROLLER = "controller-20"
"""The sceptic's line: the plans that the stream came to with a proportional controller, no library."""


def versions(space: Workspace, task: str | None) -> bytes:
    """The library's versions: how many skills each has, and what became of the old tasks that it might touch (what new skills take from old ones).

    Raises:
        ArtifactMissing: nothing has grown yet.
    """
    grown = Versions(space.artifact("grown")).all()
    if not grown:
        raise ArtifactMissing(
            f"study {space.study.name!r}: found no version of a grown library; expected one to draw; run: lago grow {space.argument}"
        )
    counts: list[int] = []
    for version in grown:
        with SkillLibrary.open(library_folder(version.folder), mode="frozen") as library:
            counts.append(library.n_active)

    def draw(axes: list[Any]) -> None:
        numbers = [version.number for version in grown]
        axes[0].plot(numbers, counts, color=plots.OKABE_ITO[0], marker="o", linewidth=2)
        axes[0].set(title="growth", xlabel="version", ylabel="enabled skills", xticks=numbers, ylim=(0, None))
        axes[1].axhline(0.0, color="black", linewidth=0.8)
        for version in grown:
            spots = version.growth.get("spots", [])
            changes = [spot["after"] - spot["before"] for spot in spots]
            held = version.verdict == "held"
            axes[1].scatter(
                [version.number] * len(changes),
                changes,
                color=plots.OKABE_ITO[1 if held else 0],
                marker="X" if held else "o",
                s=30,
                alpha=0.8,
            )
        axes[1].set(
            title="old tasks, after less before", xlabel="version", ylabel="success", xticks=numbers, ylim=(-1.05, 1.05)
        )

    return plots.panels((4.6, 3.4), 2, draw)


def stream(space: Workspace, task: str | None) -> bytes:
    """Table T6's first grown order: the matrix of success, each task after each stage, and beside it the means of tasks so far and of the next task.

    Raises:
        ArtifactMissing: no stream of the study is on record.
    """
    rows = _rows(space, "T6")
    order = min((row["order"] for row in rows if row["method"] == "grown"), default=None)
    if order is None:
        raise _unmeasured(space, "T6")
    matrix = matrix_of([row for row in rows if (row["method"], row["order"]) == ("grown", order)])
    sceptic = [row["success"] for row in rows if (row["method"], row["order"]) == (CONTROLLER, order)]

    def draw(axes: list[Any]) -> None:
        _matrix(axes[0], matrix)
        _transfer(axes[1], matrix, sceptic)

    return plots.panels((6.4, 5.4), 2, draw)


def _matrix(panel: Any, matrix: Matrix) -> None:
    n_stages, n_tasks = matrix.success.shape
    panel.imshow(matrix.success, cmap="cividis", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    last = min(n_stages - 1, n_tasks - matrix.n_built)
    panel.plot(
        [matrix.n_built - 0.5 + stage for stage in range(last + 1)],
        [stage - 0.5 + 1.0 for stage in range(last + 1)],
        color="white",
        linewidth=1.5,
        drawstyle="steps-pre",
    )
    panel.set(title="success of each task (left of the line: learned)", ylabel="after stage", xticks=range(n_tasks))
    panel.set_xticklabels(matrix.tasks, fontsize=7, rotation=90)
    panel.grid(visible=False)
    panel.figure.colorbar(panel.images[0], ax=panel, label="success, library alone")


def _transfer(panel: Any, matrix: Matrix, sceptic: list[float]) -> None:
    n, first = len(matrix.stages) - 1, matrix.n_built
    so_far = [float(matrix.success[stage, : first + stage].mean()) for stage in range(n + 1)]
    to_come = [
        float(matrix.success[stage, first + stage :].mean())
        for stage in range(n + 1)
        if first + stage < len(matrix.tasks)
    ]
    untouched = [float(matrix.success[0, first + stage :].mean()) for stage in range(len(to_come))]
    lines = {
        "tasks so far": so_far,
        "tasks to come, with what has grown": to_come,
        "the same tasks, before anything has grown": untouched,
    }
    for number, (name, values) in enumerate(lines.items()):
        panel.plot(
            range(len(values)),
            values,
            color=plots.OKABE_ITO[number],
            linestyle=plots.DASHES[number],
            marker=plots.MARKERS[number],
            markersize=4,
            linewidth=2,
            label=name,
        )
    if sceptic:
        panel.axhline(
            float(np.mean(sceptic)),
            color="black",
            linewidth=1.2,
            linestyle=":",
            label="all tasks, plan + controller, at the end",
        )
    panel.set(title="means over tasks", xlabel="stage", ylabel="success", ylim=(0.0, 1.03))
    panel.legend(frameon=False, fontsize=8, loc="lower right")


def shadowing(space: Workspace, task: str | None) -> bytes:
    """The shadowing table: success with 1, 10 and 100 times as many skills, a line for each kind that is added, a panel for each way of weighting.

    Raises:
        ArtifactMissing: nothing of the study is on record.
    """
    rows = [row for row in _rows(space, "shadowing") if task in (None, row["task"])]
    if not rows:
        raise _unmeasured(space, "shadowing")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    tasks = {row["task"] for row in rows}
    sceptic = [row["success"] for row in _rows(space, "T6") if row["method"] == CONTROLLER and row["task"] in tasks]

    def draw(axes: list[Any]) -> None:
        for panel, method in zip(axes, methods, strict=True):
            own = [row for row in rows if row["method"] == method]
            alone = [row for row in own if not row["times"]]
            for number, kind in enumerate(dict.fromkeys(row["kind"] for row in own if row["times"])):
                by_size: defaultdict[float, list[float]] = defaultdict(list)
                for row in [*alone, *(row for row in own if row["kind"] == kind)]:
                    by_size[row["skills"] / (alone or own)[0]["skills"]].append(row["success"])
                panel.plot(
                    list(by_size),
                    [float(np.mean(values)) for values in by_size.values()],
                    color=plots.OKABE_ITO[number],
                    linestyle=plots.DASHES[number],
                    marker=plots.MARKERS[number],
                    linewidth=2,
                    label=kind,
                )
            if sceptic:
                panel.axhline(
                    float(np.mean(sceptic)), color="black", linewidth=1.2, linestyle=":", label="plan + controller"
                )
            panel.set(title=method, xlabel="skills, times as many", ylabel="success", xscale="log", ylim=(0.0, 1.03))
            panel.set_xticks([1, 10, 100], ["1", "10", "100"])
            panel.legend(frameon=False, fontsize=8, loc="lower left")

    return plots.panels((4.6, 3.6), len(methods), draw)


def _rows(space: Workspace, table: str) -> list[Row]:
    """What is on record of the study."""
    rows = find_table(table)(space, lambda text: None).file.rows()
    return [row for row in rows if row["study"] == space.study.name]


def _unmeasured(space: Workspace, table: str) -> ArtifactMissing:
    return ArtifactMissing(
        f"study {space.study.name!r}: found no rows of table {table}; expected some to draw; run: lago table {table} {space.argument}"
    )
