"""Collect: the offline episodes of the training tasks, from scripted policies (successes only) and from data sources."""

from __future__ import annotations

from typing import Any

from lago_skills.artifacts.folder import ArtifactWriter, verify
from lago_skills.artifacts.workers import Progress
from lago_skills.core import Episode, Task
from lago_skills.data.config import SourceConfig
from lago_skills.data.episodes import EPISODES_FILE, load_episodes, save_episodes
from lago_skills.data.raw import RawDataset
from lago_skills.data.sources import Sizes, episodes_of, read, source_hash
from lago_skills.errors import DataError, StudyError
from lago_skills.stages.job import Job
from lago_skills.stages.workspace import Workspace
from lago_skills.study import CollectConfig
from lago_skills.worlds.seeds import DEMO_SEED, DEMOS_PER_SEED
from lago_skills.worlds.world import World

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
        collected: list[Episode] = []
        n_tried = 0
        if n_scripted:
            collected, n_tried = demonstrations(space.world, task, n_scripted, config, space.study.seed, progress)
        counts: dict[str, int] = {"scripted": len(collected)}
        sizes = Sizes(space.study.grounding.observation_size, space.study.grounding.action_space)
        for source, sha256 in zip(sources, hashes, strict=True):
            alone = len(sources) == 1 and not n_scripted
            of_source = from_source(read(source, space.root), source, task, sizes, alone=alone)
            counts[sha256] = len(of_source)
            collected += of_source
            progress(len(collected), f"{len(of_source)} episodes of {source.name}")
        if not collected:
            raise DataError(
                f"task {task.id!r}: found no episode in {', '.join(source.name for source in sources)}; expected some; add data "
                "of the task, or take it out of tasks.seen"
            )
        save_episodes(writer.path / EPISODES_FILE, collected)
        steps = sum(len(episode.actions) for episode in collected)
        writer.summary = {"task": task.id, "episodes": len(collected), "tried": n_tried, "steps": steps}
        if sources:
            writer.summary |= {"success": sum(episode.success for episode in collected), "from": counts}

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
            {"sha256": sha256, **source.model_dump(mode="json", exclude=where)}
            for sha256, source in zip(hashes, sources, strict=True)
        ]
    return Job("collect", task.id, space.episodes(task.id), recipe, max(n_scripted, 1), "episodes", make)


def demonstrations(
    world: World, task: Task, n_episodes: int, config: CollectConfig, seed: int, progress: Progress
) -> tuple[list[Episode], int]:
    """Successful episodes of the world's demonstrator, and how many were tried.

    Raises:
        StudyError: nobody demonstrates the task, or too few tries succeed.
    """
    from lago_skills.worlds.rollouts import record

    demonstrator = world.demonstrator(task.id)
    if demonstrator is None:
        raise StudyError(
            f"collect: found no demonstrator of task {task.id!r} in world {world.name!r}; expected one, or episodes; add [[data]] of "
            "the task, with collect.episodes_per_task = 0"
        )
    env = world.make(task.id)
    successful: list[Episode] = []
    steps = n_tried = 0
    first = DEMO_SEED + DEMOS_PER_SEED * seed
    while len(successful) < n_episodes:
        if n_tried >= config.max_tries * n_episodes:
            raise StudyError(
                f"collect: the scripted policy of task {task.id!r} succeeded in {len(successful)} of {n_tried} episodes; "
                f"expected {n_episodes} successes; lower collect.action_noise_std"
            )
        episode = record(env, demonstrator, task.id, first + n_tried, config.action_noise_std, world)
        n_tried += 1
        steps += len(episode.actions)
        if episode.success:
            successful.append(episode)
        progress(len(successful), f"{steps} environment steps")
    env.close()
    return successful, n_tried


def from_source(data: RawDataset, source: SourceConfig, task: Task, sizes: Sizes, *, alone: bool) -> list[Episode]:
    """A source's episodes of a task; a source of many tasks may hold none of this one, unless it is the only one.

    Raises:
        DataError: an episode cannot be used.
    """
    if not alone and source.task is None and all(raw.task != task.id for raw in data.episodes):
        return []
    return episodes_of(data, source, task.id, sizes)


def episodes(space: Workspace) -> dict[str, list[Episode]]:
    """The collected episodes, by task id.

    Raises:
        ArtifactMissing: a task has not been collected.
        ArtifactCorrupt: a file is damaged.
    """
    by_task: dict[str, list[Episode]] = {}
    for task in space.study.seen:
        verify(space.episodes(task.id))
        by_task[task.id] = load_episodes(space.episodes(task.id) / EPISODES_FILE)
    return by_task
