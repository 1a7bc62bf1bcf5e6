"""Episodes played so that they can be looked at: the library alone on unseen tasks, and what training runs came to. Drawn, where the world can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ArtifactWriter, read_manifest
from lago_skills.core import Task
from lago_skills.data.episodes import EPISODES_FILE, save_episodes
from lago_skills.errors import RenderingUnavailable
from lago_skills.explorer.frames import MOST_FRAMES, write_strip
from lago_skills.explorer.records import PLAYED_DIR
from lago_skills.stages import build, train
from lago_skills.stages.job import Job, digest
from lago_skills.stages.workspace import Workspace
from lago_skills.worlds.rollouts import record
from lago_skills.worlds.seeds import EVAL_SEED
from lago_skills.worlds.world import Env, World

VERSION, STAGE = 1, "play"
Policy = Callable[[NDArray[np.float64]], NDArray[Any]]
"""(1, S) observations -> actions."""


@dataclass(frozen=True)
class Played:
    """Who plays a task."""

    name: str
    task: Task
    method: str
    about: str
    made_from: dict[str, Any]
    policy: Callable[[], Policy]


class Watched(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that keeps a picture of every so many moments, as long as it can draw one."""

    def __init__(self, env: Env, every: int) -> None:
        super().__init__(env)
        self.pictures: dict[int, NDArray[np.uint8]] = {}
        """By moment."""
        self._every, self._moment, self._draws = every, 0, True

    def _look(self) -> None:
        if not self._draws or self._moment % self._every:
            return
        try:
            picture = np.asarray(self.env.render())
            self._draws = picture.ndim == 3 and picture.shape[2] == 3
        except (RenderingUnavailable, NotImplementedError):
            self._draws = False
        else:
            if self._draws:
                self.pictures[self._moment] = picture.astype(np.uint8)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, with its first picture."""
        answer = self.env.reset(**options)
        self.pictures, self._moment = {}, 0
        self._look()
        return answer

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """A step, with its picture."""
        answer = self.env.step(action)
        self._moment += 1
        self._look()
        return answer


def jobs(space: Workspace) -> list[Job]:
    """A job for every unseen task and every finished run, as far as there is a bundle."""
    if read_manifest(space.artifact("bundle")) is None:
        return []
    return [_job(space, played) for played in (*_by_library(space), *_by_runs(space))]


def _by_library(space: Workspace) -> Iterator[Played]:
    made_from = {"bundle": digest(space.artifact("bundle"))}
    for task in space.study.unseen:

        def policy(task: Task = task) -> Policy:
            guide = build.guide(space.artifact("bundle"), space.study.grounding)
            return lambda observations: guide.prior(observations, task.id).greedy()

        yield Played(f"{task.id}__library", task, "library", "the library alone", made_from, policy)


def _by_runs(space: Workspace) -> Iterator[Played]:
    for run in train.training_runs(space.study):
        folder = space.artifact("runs", run.name)
        manifest = read_manifest(folder)
        if manifest is None:
            continue

        def policy(run: train.TrainingRun = run) -> Policy:
            learned = train.problem_of(space, run)
            folder = space.artifact("runs", run.name)
            return train.load_policy(folder, run, learned, space.study.train, space.study.grounding)[0]

        about = f"{run.algorithm} after training, seed {run.seed}, led by {manifest.summary['leader']}"
        yield Played(run.name, run.task, run.algorithm, about, {"run": digest(folder)}, policy)


def _job(space: Workspace, played: Played) -> Job:
    recipe = {"stage": STAGE, "version": VERSION, "seed": EVAL_SEED, "task": played.task.env_id, **played.made_from}

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        world = space.study.load_world()
        env = Watched(_drawn(world, played.task.id), max(played.task.horizon_steps // MOST_FRAMES, 1))
        act = played.policy()
        try:
            episode = record(env, lambda observation: act(observation[None])[0], played.task.id, EVAL_SEED, 0.0, world)
        finally:
            env.close()
        save_episodes(writer.path / EPISODES_FILE, [episode])
        if len(env.pictures) > 1:
            write_strip(env.pictures, writer.path)
            writer.uncounted |= {path.name for path in writer.path.glob("frames.*")}  # how a machine draws is its own
        writer.summary = {"method": played.method, "about": played.about, "success": episode.success}
        progress(1, played.name)

    return Job(STAGE, played.name, space.artifact(PLAYED_DIR, played.name), recipe, 1, "episodes", make)


def _drawn(world: World, task: str) -> Env:
    """An environment that can be drawn, where this machine can."""
    try:
        return world.make(task, rendered=True)
    except RenderingUnavailable:
        return world.make(task)
