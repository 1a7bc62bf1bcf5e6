"""Plans that runs came to in episodes of a task: read from a run, and recorded as a version of the playbook that they come from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lago_skills.artifacts.folder import read_manifest, verify
from lago_skills.core import Playbook
from lago_skills.errors import PlanError
from lago_skills.llm.transcripts import SEARCH, Transcript, answered
from lago_skills.playbook import playbook_json, read_playbook
from lago_skills.stages import plan, portfolios, train
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.study import study_path


@dataclass(frozen=True)
class FoundPlan:
    """What a run followed in the end."""

    run: str
    space: Workspace
    """Of the study whose plan it was."""
    playbook: Playbook
    how: str
    """Where it comes from, in a line."""


def found_by(space: Workspace, task: str, run: str | None) -> FoundPlan:
    """The plan that a finished run of the task followed; without a name, that of the only run that did not keep to the task's own plan.

    Raises:
        PlanError: there is no such run, or several; or it followed the task's own plan as it is.
        ArtifactCorrupt: the run is damaged.
    """
    finished = {
        each.name: verify(space.artifact("runs", each.name)).summary
        for each in train.training_runs(space.study)
        if each.task.id == task and read_manifest(space.artifact("runs", each.name)) is not None
    }
    new = [name for name, summary in finished.items() if _is_new(space, name, summary, task)]
    if run is None and len(new) != 1:
        raise PlanError(
            f"found {len(new)} runs of {task!r} that followed another plan than the task's own{': ' if new else ''}{', '.join(new)}; expected one; name it with "
            f"--run, or train with several plans, train.explore_steps or train.search_steps (lago train {space.argument})"
        )
    name = run or new[0]
    if name not in new:
        reason = "it followed the task's own plan" if name in finished else "there is no such finished run"
        raise PlanError(f"found --run {name!r}, but {reason}; expected one of {new}; correct --run")
    return _found(space, name, finished[name], task)


def record(found: FoundPlan, task: str) -> Transcript | None:
    """Record a plan as the latest version of the task's playbook in its study; None where that is what the study has already.

    Raises:
        PlanError: the study has no playbook of the task to be a version of.
    """
    task_plan = plan.plan_of(task, plan.plans(found.space), found.space.study.name)
    parent = task_plan.chosen or task_plan.versions[-1]
    text = playbook_json(found.playbook)
    if parent.playbook is not None and playbook_json(parent.playbook) == text:
        return None
    version = answered(
        task_plan.request, text, SEARCH, f"{found.how}; instead of {parent.transcript.id}", parent=parent.transcript.id
    )
    plan.planner(found.space).transcripts.append(version)
    return version


def _is_new(space: Workspace, run: str, summary: dict[str, Any], task: str) -> bool:
    own = {task, f"{space.study.name}: {task}"}
    return "plan" in summary and (summary["plan"] not in own or _plan_file(space, run).exists())


def _plan_file(space: Workspace, run: str) -> Path:
    return space.artifact("runs", run) / train.PLAN_FILE


def _found(space: Workspace, run: str, summary: dict[str, Any], task: str) -> FoundPlan:
    study, separator, _ = str(summary["plan"]).partition(": ")
    own = open_workspace(space.root, study_path(study, space.root)) if separator else space
    if _plan_file(space, run).exists():
        written = json.loads(_plan_file(space, run).read_text(encoding="utf-8"))
        book = read_playbook(written, own.study.grounding.vocabulary)
    else:
        (run_task,) = space.study.find([task])
        book = portfolios.plan_named(portfolios.plans_of(space, run_task), run_task, summary["plan"]).guide.books[task]
    said = [f"run {run} of study {space.study.name}", f"from plan {summary['plan']!r}"]
    if trial := summary.get("trial"):
        tried = next((each for each in trial["plans"] if each["name"] == summary["plan"]), None)
        said += [f"{tried['successes']} of {tried['episodes']} trial episodes succeeded"] if tried else []
    if changes := summary.get("exploration", {}).get("changes"):
        said.append("exploration: " + ", ".join(changes))
    if searched := summary.get("search"):
        said.append(f"search: worth {searched['before']:.2f} before, {searched['after']:.2f} after")
    return FoundPlan(run, own, book, "; ".join(said))
