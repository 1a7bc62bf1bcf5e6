"""`lago grow STUDY`: a task more, or episodes more; versions listed, accepted, gone back to."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from typing import Any

from lago_skills.commands import plan_asking
from lago_skills.commands.versions import print_versions
from lago_skills.core import Task
from lago_skills.errors import StudyError
from lago_skills.grow.refresh import WAYS
from lago_skills.grow.settings import Settings
from lago_skills.grow.steps import Intake, grown, tasks_named
from lago_skills.grow.versions import Version, Versions
from lago_skills.stages.workspace import Workspace, exclusive


def grow_command(space: Workspace, options: argparse.Namespace) -> int:
    """Do what the options say; the exit code is 3 where the new version waits for a person.

    Raises:
        LagoError: what is wrong; nothing has changed then.
    """
    if options.list:
        print_versions(Versions(space.artifact("grown")), as_json=bool(options.json))
        return 0
    if options.use is not None:
        with exclusive(space):
            version = Versions(space.artifact("grown")).use(options.use)
        _say(f"version {version.number} is in use: {version.folder}")
        return 0
    if options.unnamed:
        from lago_skills.commands.grow_unnamed import unnamed_command

        return unnamed_command(space, options)
    if options.tidy:
        return _tidied(space, options)
    if options.export is not None or options.import_ is not None:
        asked = with_tasks(space, tasks_named(space, options.task))
        (plan_asking.export if options.export is not None else plan_asking.import_answers)(asked, options)
        return 0
    if options.live:
        plan_asking.ask_all(with_tasks(space, tasks_named(space, options.task)), options)
    intake = Intake(
        tuple(options.data),
        options.success,
        options.from_runs,
        options.learn,
        options.harvest,
        settings_of(options),
    )
    with exclusive(space):
        versions = [
            version for task in tasks_named(space, options.task) for version in grown(space, task, intake, _say)
        ]
    return print_growth(versions, as_json=bool(options.json))


def settings_of(options: argparse.Namespace) -> Settings:
    """How growth decides, as the options say."""
    return Settings(
        margin=options.margin,
        episodes=options.episodes,
        episodes_again=options.episodes_again,
        spot_tasks=options.spot_tasks,
        refresh=options.refresh,
        ways=WAYS if options.refresh_how == "auto" else (options.refresh_how,),
    )


def _tidied(space: Workspace, options: argparse.Namespace) -> int:
    """Say what the library could do without; and do it, unless that is all."""
    from lago_skills.grow.tidying import current_proposals, tidied

    if options.cap is not None and options.cap < 1:
        raise StudyError(f"found --cap {options.cap}; expected at least 1; raise it, or leave it out")
    with exclusive(space):
        version, chosen = current_proposals(space, options.cap)
        if options.dry_run:
            rows = [asdict(each) for each in chosen]
            lines = [each.line() for each in chosen] or ["nothing to tidy"]
            text = (
                json.dumps({"rows": rows, "summary": {"version": version.number}}) if options.json else "\n".join(lines)
            )
            print(text)  # noqa: T201
            return 0
        for each in chosen:
            _say(each.line())
        return print_growth([tidied(space, version, chosen, settings_of(options), _say)], as_json=bool(options.json))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def with_tasks(space: Workspace, tasks: list[Task]) -> Workspace:
    """The study as if these were among its undemonstrated tasks, for questions to a language model."""
    study = space.study
    new = [task.id for task in tasks if task not in study.all_tasks]
    named = study.tasks.model_copy(update={"unseen": [*study.tasks.unseen, *new]})
    return replace(space, study=study.model_copy(update={"tasks": named})) if new else space


def print_growth(versions: list[Version], *, as_json: bool) -> int:
    """Print what came of it; the exit code."""
    held = [version for version in versions if version.verdict == "held"]
    if as_json:
        rows: list[dict[str, Any]] = [
            {"version": each.number, **spot} for each in versions for spot in each.growth["spots"]
        ]
        summary = {name: value for name, value in versions[-1].growth.items() if name != "spots"}
        more = {"versions": [each.number for each in versions], "folder": str(versions[-1].folder)}
        print(json.dumps({"rows": rows, "summary": {**summary, **more}}))  # noqa: T201
        return 3 if held else 0
    for version in versions:
        growth = version.growth
        what = (
            f"{len(growth['tidied'])} skills less"
            if "tidied" in growth
            else f"{len(growth.get('named', []))} kinds of motion named"
        )
        if "task" in growth:
            what = f"{growth['task']} {growth['success']:.2f} (library alone, {growth['episodes']} episodes)"
        print(  # noqa: T201
            f"version {version.number}: {growth['skills']} skills, {what}, {len(growth['spots'])} old tasks played with both versions, {growth['seconds']:.0f} s"
        )
        for spot in growth["spots"]:
            print(f"  {spot['task']}: {spot['before']:.2f} -> {spot['after']:.2f} of {spot['episodes']}")  # noqa: T201
        if version in held:
            print(f"held: {growth['reason']}; use it all the same with: lago grow STUDY --use {version.number}")  # noqa: T201
        else:
            folder, before = version.folder.parent / "current", growth["before"]
            print(f"in use: {folder}; back with: lago skills rollback STUDY {before}")  # noqa: T201
    return 3 if held else 0
