"""The plans that a task may be done by: those of the study's bundle, and those of studies beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lago_skills.core import Task
from lago_skills.errors import ArtifactMissing, StudyError
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.portfolio import PlanOfTask, portfolio
from lago_skills.stages import build
from lago_skills.stages.job import digest
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.study import study_path
from lago_skills.worlds.grounding import check_identity, identity

BUNDLE = "bundle"


def has_several(space: Workspace) -> bool:
    """Whether tasks that are not demonstrated may have more than one plan."""
    return bool(space.study.plan.portfolio or space.study.plan.beside)


def recipe(space: Workspace) -> dict[str, Any]:
    """What else is followed, for fingerprints; nothing where each task has one plan."""
    if not has_several(space):
        return {}
    return {"portfolio": {name: digest(each.artifact(BUNDLE)) for name, each in _spaces(space).items()}}


def plans_of(space: Workspace, task: Task) -> tuple[PlanOfTask, ...]:
    """The plans of a task, the study's own first.

    Raises:
        ArtifactMissing: a bundle has not been built.
        ArtifactCorrupt: a bundle is damaged.
        StudyError: a study beside this one is of another world, or none has a plan of the task.
    """
    return portfolio(task.id, {name: _guide(each, space) for name, each in _spaces(space).items()})


def plan_named(plans: Sequence[PlanOfTask], task: Task, name: str) -> PlanOfTask:
    """One of the plans of a task.

    Raises:
        StudyError: there is none of that name any more.
    """
    named = {each.name: each for each in plans}
    if name not in named:
        raise StudyError(f"found plan {name!r} of task {task.id!r}; expected one of {list(named)}; run the stage again")
    return named[name]


def _spaces(space: Workspace) -> dict[str, Workspace]:
    beside = [open_workspace(space.root, study_path(name, space.root)) for name in space.study.plan.beside]
    return {each.study.name: each for each in (space, *beside)}


def _guide(own: Workspace, asking: Workspace) -> LibraryGuide:
    try:
        guide = build.guide(own.artifact(BUNDLE), own.study.grounding)
    except ArtifactMissing as error:
        if own is asking:
            raise
        raise ArtifactMissing(
            f"study {asking.study.name!r} has {own.study.name!r} beside it (plan.beside), which has no bundle ({error}); expected one; run: lago build "
            f"{own.argument}, or take it out of plan.beside"
        ) from error
    check_identity(
        f"study {own.study.name!r}, which is beside {asking.study.name!r},",
        identity(guide.grounding),
        asking.study.grounding,
    )
    return guide
