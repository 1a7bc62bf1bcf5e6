"""Collect: the offline episodes of the training tasks, from scripted policies (successes only) and from data sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ArtifactWriter, verify
from lago_skills.core import Episode, Task
from lago_skills.data.config import SourceConfig
from lago_skills.data.episodes import EPISODES_FILE, load_episodes, save_episodes
from lago_skills.data.files.raw import RawDataset
from lago_skills.data.read_source import read, source_hash
from lago_skills.data.sources import Sizes, episodes_of, notes
from lago_skills.errors import DataError, StudyError
from lago_skills.stages.job import Job
from lago_skills.stages.workspace import Workspace
from lago_skills.study import CollectConfig, Study
from lago_skills.worlds.grounding import Grounding
from lago_skills.worlds.seeds import DEMO_SEED, DEMOS_PER_SEED
from lago_skills.worlds.world import World

MARGIN = 0.25
"""Features may leave their declared ranges by such a share of them before anybody wonders."""
VERSION = 1


def jobs(space: Workspace) -> list[Job]:
    """One job per training task: its scripted demonstrations, then the episodes of its data sources.

    Raises:
        DataError: a data source is not there.
    """
    return [_job(space.study, task, space.root, space.episodes(task.id)) for task in space.study.seen]


def _job(study: Study, task: Task, root: Path, folder: Path) -> Job:
    config, n_scripted = study.collect, study.n_scripted(task)
    sources = [(source_hash(source, root), source) for source in study.sources(task)]
    recipe: dict[str, Any] = {
        "stage": "collect",
        "version": VERSION,
        "task": task.env_id,
        "horizon": task.horizon_steps,
        "seed": study.seed,
        **config.model_dump(),
        "episodes_per_task": n_scripted,
        **study.world_recipe(task),
    }
    if sources:
        recipe["data"] = [{"sha256": name, **_recipe_of(each)} for name, each in sources]

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        shown: list[Episode] = []
        n_tried = 0
        world = study.load_world()
        if n_scripted:
            world.check_success()
            shown, n_tried = demonstrations(world, task, n_scripted, config, study.seed, progress)
        said: list[str] = []
        given = from_sources(sources, root, task, _sizes(world), progress, n_scripted=len(shown), say=said.append)
        recorded = [episode for _, episodes in given for episode in episodes]
        said += _out_of_range(recorded, world.grounding)
        _write(writer, task, shown, n_tried, given, study.gym.success if study.gym is not None else None)
        if said:
            writer.summary["notes"] = list(dict.fromkeys(said))

    total, unit = (n_scripted, "episodes") if n_scripted else (len(sources), "sources")
    return Job("collect", task.id, folder, recipe, max(total, 1), unit, make)


def _sizes(world: World) -> Sizes:
    return Sizes(world.grounding.observation_size, world.grounding.action_space, world.action_codec())


def recorded(study: Study, task: Task, root: Path) -> list[Episode]:
    """The episodes of a task's data sources.

    Raises:
        DataError: an episode cannot be used, or there is none.
    """
    sources = [(source.name, source) for source in study.sources(task)]
    given = from_sources(sources, root, task, _sizes(study.load_world()), lambda done, note: None)
    return [episode for _, episodes in given for episode in episodes]


def _out_of_range(episodes: Sequence[Episode], grounding: Grounding) -> list[str]:
    """Features that leave their declared ranges by far, as those of a recording do whose entries come in another order."""
    if not episodes:
        return []
    values = np.concatenate([grounding.read(each.observations).values for each in episodes])
    said: list[str] = []
    for number, feature in enumerate(grounding.vocabulary.features):
        low, high, room = values[:, number].min(), values[:, number].max(), MARGIN * (feature.high - feature.low)
        if np.isfinite(room) and (low < feature.low - room or high > feature.high + room):
            said.append(
                f"feature {feature.name!r} goes from {low:.4g} to {high:.4g} in recorded episodes, and from {feature.low:g} to {feature.high:g} as the study declares; see that their observations "
                "hold the same entries in the same order as the environment's, or correct its range"
            )
    return said


def _recipe_of(source: SourceConfig) -> dict[str, Any]:
    """What its episodes depend on: what it holds, not where it lies."""
    unset = {"source_task"} if source.source_task is None else set[str]()
    return source.model_dump(mode="json", exclude={"path", "minari", *unset})


def _write(
    writer: ArtifactWriter,
    task: Task,
    shown: list[Episode],
    n_tried: int,
    given: list[tuple[str, list[Episode]]],
    success: str | None,
) -> None:
    collected = [*shown, *(episode for _, episodes in given for episode in episodes)]
    save_episodes(writer.path / EPISODES_FILE, collected)
    steps = sum(len(episode.actions) for episode in collected)
    writer.summary = {"task": task.id, "episodes": len(collected), "tried": n_tried, "steps": steps}
    if success:
        writer.summary["rule"] = success
    if given:
        counts = {"scripted": len(shown), **{sha256: len(episodes) for sha256, episodes in given}}
        writer.summary |= {"success": sum(episode.success for episode in collected), "from": counts}


def demonstrations(
    world: World, task: Task, n_episodes: int, config: CollectConfig, seed: int, progress: Progress
) -> tuple[list[Episode], int]:
    """Successful episodes of the world's demonstrator, and how many were tried.

    Raises:
        StudyError: nobody demonstrates the task, or too few tries succeed.
    """
    from lago_skills.worlds.rollouts import record

    env = world.make(task.id)
    demonstrator = world.demonstrator_in(task.id, env)
    if demonstrator is None:
        env.close()
        raise StudyError(
            f"collect: found no demonstrator of task {task.id!r} in world {world.name!r}; expected one, or episodes; add [[data]] of "
            "the task, with collect.episodes_per_task = 0"
        )
    successful: list[Episode] = []
    steps = n_tried = 0
    first = DEMO_SEED + DEMOS_PER_SEED * seed
    while len(successful) < n_episodes:
        if n_tried >= config.max_tries * n_episodes:
            env.close()
            raise StudyError(
                f"collect: the demonstrator of task {task.id!r} succeeded in {len(successful)} of {n_tried} episodes (success: {world.success_text}); "
                f"expected {n_episodes} successes; lower collect.action_noise_std, or correct the demonstrator or the rule"
            )
        episode = record(env, demonstrator, task.id, first + n_tried, config.action_noise_std, world)
        n_tried += 1
        steps += len(episode.actions)
        if episode.success:
            successful.append(episode)
        progress(len(successful), f"{steps} environment steps")
    env.close()
    return successful, n_tried


def from_sources(
    sources: Sequence[tuple[str, SourceConfig]],
    root: Path,
    task: Task,
    sizes: Sizes,
    progress: Progress,
    n_scripted: int = 0,
    say: Callable[[str], object] = str,
) -> list[tuple[str, list[Episode]]]:
    """The episodes of a task in each data source, beside the SHA-256 of its data; sources come with theirs. `say` hears what is left out.

    Raises:
        DataError: an episode cannot be used, or there is none, and no scripted one beside them.
    """
    given: list[tuple[str, list[Episode]]] = []
    n_collected = n_scripted
    for number, (sha256, source) in enumerate(sources, start=1):
        alone = len(sources) == 1 and not n_scripted
        data = read(source, root)
        of_source = from_source(data, source, task, sizes, alone=alone)
        for note in notes(data, source.source_task) if of_source else ():
            say(f"{source.name}: {note}")
        given.append((sha256, of_source))
        n_collected += len(of_source)
        progress(n_scripted or number, f"{len(of_source)} episodes of {source.name}")
    if not n_collected:
        raise DataError(
            f"task {task.id!r}: found no episode in {', '.join(source.name for _, source in sources)}; expected some; add data "
            "of the task, or take it out of tasks.seen"
        )
    return given


def from_source(data: RawDataset, source: SourceConfig, task: Task, sizes: Sizes, *, alone: bool) -> list[Episode]:
    """A source's episodes of a task; a source of many tasks may hold none of this one, unless it is the only one.

    Raises:
        DataError: an episode cannot be used.
    """
    if not alone and source.task is None and all(raw.task != task.id for raw in data.episodes):
        return []
    return episodes_of(data, source, task.id, sizes)


def load(folders: Mapping[str, Path]) -> dict[str, list[Episode]]:
    """The collected episodes, by task id, from the folder of each task.

    Raises:
        ArtifactMissing: a task has not been collected.
        ArtifactCorrupt: a file is damaged.
    """
    for folder in folders.values():
        verify(folder)
    return {task: load_episodes(folder / EPISODES_FILE) for task, folder in folders.items()}
