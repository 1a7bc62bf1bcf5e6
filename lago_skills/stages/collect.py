"""Collect: the offline episodes of the training tasks, from scripted policies (successes only) and from data sources."""

from __future__ import annotations

from typing import Any

from lago_skills.artifacts.folder import ArtifactWriter, verify
from lago_skills.artifacts.workers import Progress
from lago_skills.core import Episode, Task
from lago_skills.data.config import SourceConfig
from lago_skills.data.episodes import EPISODES_FILE, load_episodes, save_episodes
from lago_skills.data.sources import Sizes, episodes_of, read, source_hash
from lago_skills.errors import DataError, StudyError
from lago_skills.stages.job import Job
from lago_skills.stages.workspace import Workspace
from lago_skills.worlds.seeds import DEMO_SEED

VERSION = 1


def jobs(space: Workspace) -> list[Job]:
    """One job per training task: its scripted demonstrations, then the episodes of its data sources.

    Raises:
        DataError: a data source is not there.
    """
    return [_job(space, task) for task in space.study.seen]


def _job(space: Workspace, task: Task) -> Job:
    config = space.study.collect
    n_scripted, sources = space.study.n_scripted(task), space.study.sources(task)
    hashes = [source_hash(source, space.root) for source in sources]

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        kept: list[Episode] = []
        tried = 0
        if n_scripted:
            kept, tried = _scripted(space, task, n_scripted, progress)
        counts: dict[str, int] = {"scripted": len(kept)}
        for source, found_hash in zip(sources, hashes, strict=True):
            found = _from_source(space, task, source, alone=len(sources) == 1 and not n_scripted)
            counts[found_hash] = len(found)
            kept += found
            progress(len(kept), f"{len(found)} episodes of {source.name}")
        if not kept:
            raise DataError(
                f"task {task.id!r}: found no episode in {', '.join(source.name for source in sources)}; expected some; add data "
                "of the task, or take it out of tasks.seen"
            )
        save_episodes(writer.path / EPISODES_FILE, kept)
        steps = sum(len(episode.actions) for episode in kept)
        writer.summary = {"task": task.id, "episodes": len(kept), "tried": tried, "steps": steps}
        if sources:
            writer.summary |= {"success": sum(episode.success for episode in kept), "from": counts}

    recipe: dict[str, Any] = {
        "stage": "collect",
        "version": VERSION,
        "task": task.env_id,
        "horizon": task.horizon_steps,
        "seed": space.study.seed,
        **config.model_dump(),
        "episodes_per_task": n_scripted,
    }
    if sources:
        where = {"path", "minari"}  # data is what it holds, not where it lies
        recipe["data"] = [
            {"sha256": found, **source.model_dump(mode="json", exclude=where)}
            for found, source in zip(hashes, sources, strict=True)
        ]
    return Job("collect", task.id, space.episodes(task.id), recipe, max(n_scripted, 1), "episodes", make)


def _scripted(space: Workspace, task: Task, n_episodes: int, progress: Progress) -> tuple[list[Episode], int]:
    """Successful episodes of the scripted policy, and how many were tried."""
    from lago_skills.worlds.rollouts import record

    config, world = space.study.collect, space.world
    demonstrator = world.demonstrator(task.id)
    if demonstrator is None:
        raise StudyError(
            f"collect: found no demonstrator of task {task.id!r} in world {world.name!r}; expected one, or episodes; add [[data]] of "
            "the task, with collect.episodes_per_task = 0"
        )
    env = world.make(task.id)
    kept: list[Episode] = []
    steps = tried = 0
    first = DEMO_SEED + 10_000 * space.study.seed
    while len(kept) < n_episodes:
        if tried >= config.max_tries * n_episodes:
            raise StudyError(
                f"collect: the scripted policy of task {task.id!r} succeeded in {len(kept)} of {tried} episodes; "
                f"expected {n_episodes} successes; lower collect.action_noise_std"
            )
        episode = record(env, demonstrator, task.id, first + tried, config.action_noise_std, world.success)
        tried += 1
        steps += len(episode.actions)
        if episode.success:
            kept.append(episode)
        progress(len(kept), f"{steps} environment steps")
    env.close()
    return kept, tried


def _from_source(space: Workspace, task: Task, source: SourceConfig, *, alone: bool) -> list[Episode]:
    """A source's episodes of a task; a source of many tasks may hold none of this one, unless it is the only one."""
    grounding = space.study.grounding
    data = read(source, space.root)
    if not alone and source.task is None and all(raw.task != task.id for raw in data.episodes):
        return []
    return episodes_of(data, source, task.id, Sizes(grounding.observation_size, grounding.action_space))


def episodes(space: Workspace) -> dict[str, list[Episode]]:
    """The collected episodes, by task id.

    Raises:
        ArtifactMissing: a task has not been collected.
        ArtifactCorrupt: a file is damaged.
    """
    found: dict[str, list[Episode]] = {}
    for task in space.study.seen:
        verify(space.episodes(task.id))
        found[task.id] = load_episodes(space.episodes(task.id) / EPISODES_FILE)
    return found
