"""`lago grow STUDY`: a task more, or episodes more; versions listed, accepted, gone back to."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lago_skills.artifacts.folder import read_manifest, verify
from lago_skills.commands import plan_asking
from lago_skills.commands.versions import print_versions
from lago_skills.core import Task
from lago_skills.data.config import SourceConfig
from lago_skills.data.episodes import EPISODES_FILE, load_episodes
from lago_skills.data.read_source import read
from lago_skills.data.sources import Sizes, episodes_of
from lago_skills.errors import DataError, StudyError
from lago_skills.grow.growth import Growth
from lago_skills.grow.making import first_version
from lago_skills.grow.settings import Settings
from lago_skills.grow.sources import Source
from lago_skills.grow.versions import Version, Versions
from lago_skills.guide.bundle import read_plans
from lago_skills.stages import train
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
    if options.tidy:
        return _tidied(space, options)
    if options.export is not None or options.import_ is not None:
        asked = with_tasks(space, _tasks(space, options.task))
        (plan_asking.export if options.export is not None else plan_asking.import_answers)(asked, options)
        return 0
    if options.live:
        plan_asking.ask_all(with_tasks(space, _tasks(space, options.task)), options)
    with exclusive(space):
        versions = [version for task in _tasks(space, options.task) for version in _grown(space, task, options)]
    return _told(versions, as_json=bool(options.json))


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        margin=options.margin,
        episodes=options.episodes,
        episodes_again=options.episodes_again,
        spot_tasks=options.spot_tasks,
        refresh=options.refresh,
        refresh_how=options.refresh_how,
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
        return _told([tidied(space, version, chosen, _settings(options), _say)], as_json=bool(options.json))


def _grown(space: Workspace, task: Task, options: argparse.Namespace) -> list[Version]:
    """The versions that a task makes: of its plan and data, and of what was learned online with that."""
    settings = _settings(options)
    sources = [*(_of_file(space, task, path, options.success) for path in options.data)]
    sources += _of_runs(space, task) if options.from_runs else []
    versions, known = list[Version](), Versions(space.artifact("grown"))
    current = known.current or first_version(space, known)
    if sources or not options.learn or not _has_plan(current, space, task):
        current = Growth(space, task, settings, _say).run(sources)
        versions.append(current)
    if not options.learn or current.verdict == "held":
        return versions
    from lago_skills.grow.learning import grown_by_learning, learned

    try:
        online = learned(space, task, current, options.learn, options.harvest, _say)
        versions.append(grown_by_learning(space, task, online, settings, _say))
    except (DataError, StudyError) as error:
        if not versions:
            raise
        _say(f"nothing of that is taken in: {error}")
    return versions


def _has_plan(version: Version, space: Workspace, task: Task) -> bool:
    return any(
        book.task_id == task.id for book in read_plans(version.folder, space.study.grounding.vocabulary).values()
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _tasks(space: Workspace, names: list[str]) -> list[Task]:
    """Tasks in the order in which they are named.

    Raises:
        StudyError: none is named, or one is unknown.
    """
    if not names:
        raise StudyError(
            "found no task to grow by; expected --task with an id of the study's world; add it, or look at versions with --list"
        )
    return [_task(space, name) for name in names]


def _task(space: Workspace, name: str) -> Task:
    """The task of the study's world with an id, or with exactly this sentence.

    Raises:
        StudyError: there is none.
    """
    tasks = space.world.tasks
    by_sentence = [task for task in tasks.values() if task.sentence.casefold() == name.casefold()]
    if name not in tasks and len(by_sentence) != 1:
        raise StudyError(
            f"world {space.world.name!r}: found task {name!r}; expected the id or the sentence of one of {sorted(tasks)}; correct --task, or add the task to the world"
        )
    return tasks[name] if name in tasks else by_sentence[0]


def with_tasks(space: Workspace, tasks: list[Task]) -> Workspace:
    """The study as if these were among its undemonstrated tasks, for questions to a language model."""
    study = space.study
    new = [task.id for task in tasks if task not in study.all_tasks]
    named = study.tasks.model_copy(update={"unseen": [*study.tasks.unseen, *new]})
    return replace(space, study=study.model_copy(update={"tasks": named})) if new else space


def _of_file(space: Workspace, task: Task, path: Path, success: str) -> Source:
    """Successful episodes of a file or the folder of a dataset.

    Raises:
        DataError: it cannot be used, or none succeeded.
    """
    config = SourceConfig(path=str(path), task=task.id, success=success, rewards="sparse")
    world = space.world
    sizes = Sizes(world.grounding.observation_size, world.grounding.action_space, world.action_codec())
    every = episodes_of(read(config, space.root), config, task.id, sizes)
    good = [episode for episode in every if episode.success]
    if not good:
        raise DataError(
            f"{str(path)!r}: found {len(every)} episodes of {task.id!r}, none of which succeeded (rule: {success}); expected some; say how an episode shows that it "
            "succeeded with --success"
        )
    return Source(str(path), good, left_out=len(every) - len(good))


def _of_runs(space: Workspace, task: Task) -> list[Source]:
    """What finished training runs of the task have learned to do: their successful episodes.

    Raises:
        DataError: no run has any.
    """
    found: list[Source] = []
    for run in train.training_runs(space.study):
        folder = space.artifact("runs", run.name)
        if run.task.id == task.id and read_manifest(folder) is not None:
            verify(folder)
            if (folder / EPISODES_FILE).is_file():
                found.append(Source(run.name, load_episodes(folder / EPISODES_FILE), online=True))
    if not found:
        raise DataError(
            f"task {task.id!r}: found no successful episodes of finished training runs; expected some for --from-runs; run: lago train {space.argument}, with the task in "
            "train.tasks"
        )
    return found


def _told(versions: list[Version], *, as_json: bool) -> int:
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
        what = f"{len(growth['tidied'])} skills less" if "tidied" in growth else ""
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
