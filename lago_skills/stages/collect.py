"""Collect: demonstrations of the training tasks from scripted policies; only successful episodes are kept."""

from __future__ import annotations

from lago_skills.core import Episode, Task
from lago_skills.data.episodes import EPISODES_FILE, load_episodes, save_episodes
from lago_skills.errors import StudyError
from lago_skills.stages.job import Job, Progress, Workspace
from lago_skills.store import ArtifactWriter, verify

VERSION = 1


def jobs(space: Workspace) -> list[Job]:
    """One job per training task."""
    return [_job(space, task) for task in space.study.seen]


def _job(space: Workspace, task: Task) -> Job:
    config = space.study.collect

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        from lago_skills.envs.metaworld import DEMO_SEED, MetaWorldEnv, demonstrate

        env = MetaWorldEnv(task)
        kept: list[Episode] = []
        steps = tried = 0
        first = DEMO_SEED + 10_000 * space.study.seed
        while len(kept) < config.episodes_per_task:
            if tried >= config.max_tries * config.episodes_per_task:
                raise StudyError(
                    f"collect: the scripted policy of task {task.id!r} succeeded in {len(kept)} of {tried} episodes; "
                    f"expected {config.episodes_per_task} successes; lower collect.action_noise_std"
                )
            episode = demonstrate(env, first + tried, config.action_noise_std)
            tried += 1
            steps += len(episode.actions)
            if episode.success:
                kept.append(episode)
            progress(len(kept), f"{steps} environment steps")
        env.close()
        save_episodes(writer.path / EPISODES_FILE, kept)
        writer.summary = {"task": task.id, "episodes": len(kept), "tried": tried, "steps": steps}

    recipe = {
        "stage": "collect",
        "version": VERSION,
        "task": task.env_id,
        "horizon": task.horizon_steps,
        "seed": space.study.seed,
        **config.model_dump(),
    }
    return Job("collect", task.id, space.episodes(task.id), recipe, config.episodes_per_task, "episodes", make)


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
