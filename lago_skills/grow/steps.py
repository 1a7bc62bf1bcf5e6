"""What a library is to grow by: a task with its plan, files of episodes, finished training runs, learning online; and the versions that come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lago_skills.artifacts.folder import read_manifest, verify
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
from lago_skills.stages.workspace import Workspace

Say = Callable[[str], None]


@dataclass(frozen=True)
class Intake:
    """What is taken in of each task."""

    data: tuple[Path, ...] = ()
    """Files of episodes."""
    success: str = "recorded"
    """How an episode of a file shows that it succeeded."""
    from_runs: bool = False
    """Whether what finished training runs have learned to do is taken in."""
    learn: int = 0
    """Environment steps in which the task is learned online; 0: it is not."""
    harvest: int = 10
    """Of the successes on the way, the quickest so many are taken in."""
    settings: Settings = field(default_factory=Settings)
    """How a version is judged."""


def grown(space: Workspace, task: Task, intake: Intake, say: Say) -> list[Version]:
    """The versions that a task makes: of its plan and data, and of what was learned online with that; the last is in use unless it is held.

    Args:
        space: the study; nothing else may be at work on it.
        task: of its world.
        intake: what it takes in.
        say: hears what is done.

    Raises:
        LagoError: what is wrong; the version before stays in use.
    """
    sources = [*(_of_file(space, task, path, intake.success) for path in intake.data)]
    sources += _of_runs(space, task) if intake.from_runs else []
    versions, known = list[Version](), Versions(space.artifact("grown"))
    current = known.current or first_version(space, known)
    if sources or not intake.learn or not _has_plan(current, space, task):
        current = Growth(space, task, intake.settings, say).run(sources)
        versions.append(current)
    if not intake.learn or current.verdict == "held":
        return versions
    from lago_skills.grow.learning import grown_by_learning, learned

    try:
        online = learned(space, task, current, intake.learn, intake.harvest, say)
        versions.append(grown_by_learning(space, task, online, intake.settings, say))
    except (DataError, StudyError) as error:
        if not versions:
            raise
        say(f"nothing of that is taken in: {error}")
    return versions


def _has_plan(version: Version, space: Workspace, task: Task) -> bool:
    return any(
        book.task_id == task.id for book in read_plans(version.folder, space.study.grounding.vocabulary).values()
    )


def tasks_named(space: Workspace, names: Sequence[str]) -> list[Task]:
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
