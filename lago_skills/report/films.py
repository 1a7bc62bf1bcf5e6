"""Films of episodes: the scene, or a drawing of it, with the retrieved skill's words on each frame."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import read_manifest
from lago_skills.errors import ArtifactMissing, RenderingUnavailable, StudyError
from lago_skills.guide.guides import LibraryGuide
from lago_skills.report.plots import Frame, animation
from lago_skills.stages import build
from lago_skills.stages.workspace import Workspace
from lago_skills.study import Study
from lago_skills.worlds.seeds import EVAL_SEED
from lago_skills.worlds.world import Env, World

EVERY = 2
"""Steps from one frame to the next."""
Policy = Callable[[NDArray[Any]], NDArray[Any]]


def film(study: Study, guide: LibraryGuide, task: str, policy: Policy | None = None) -> bytes:
    """One greedy episode as a GIF: on each frame the step, the skill that has the most weight, and how near it is.

    Args:
        study: of the task's world.
        guide: says which skills are retrieved.
        task: its id.
        policy: (B, S) observations -> (B, A) or (B,) actions; by default the library alone.
    """

    def alone(observations: NDArray[Any]) -> NDArray[Any]:
        return guide.prior(observations, task).greedy()

    act = policy or alone
    env = _drawn(study.load_world(), task)
    observation, _ = env.reset(seed=EVAL_SEED)
    frames: list[Frame] = []
    names = guide.grounding.vocabulary.anchors
    terminated = truncated = False
    step = 0
    while not (terminated or truncated):
        retrieval = guide.retrieve(observation[None], task)
        if step % EVERY == 0:
            best = guide.library.get(int(retrieval.neighbors.ids[0, 0]))
            frames.append(
                Frame(
                    _picture(env),
                    dict(zip(names, retrieval.state.anchors[0], strict=True)) | {"target": retrieval.targets[0]},
                    best.sentence,
                    f"step {step}   skill s{best.id:04d}   similarity {float(retrieval.neighbors.scores[0, 0]):.2f}",
                )
            )
        observation, _, terminated, truncated, _ = env.step(act(observation[None])[0])
        step += 1
    env.close()
    return animation(frames)


def film_of_library(space: Workspace, task: str | None) -> bytes:
    """An episode of the library alone, of a task or of the first one that nobody demonstrated.

    Raises:
        ArtifactMissing: there is no bundle yet.
        StudyError: the bundle has no plan of the task.
    """
    bundle, study = space.artifact("bundle"), space.study
    if read_manifest(bundle) is None:
        raise ArtifactMissing(
            f"study {study.name!r}: found no bundle; expected one to play; run: lago build {space.argument}"
        )
    guide = build.guide(bundle, study.grounding)
    with closing(guide.library):
        name = task or (*study.unseen, *study.seen)[0].id
        if name not in guide.books:
            raise StudyError(f"found task {name!r}; expected one of {sorted(guide.books)}; correct --task")
        return film(study, guide, name)


def _drawn(world: World, task: str) -> Env:
    """An environment of a task that can be drawn, where it can; else one that cannot."""
    try:
        return world.make(task, rendered=True)
    except RenderingUnavailable:
        return world.make(task)


def _picture(env: Env) -> NDArray[np.uint8] | None:
    """(H, W, 3) of the scene; None where this machine or this environment cannot draw one."""
    try:
        picture = np.asarray(env.render())
    except (RenderingUnavailable, NotImplementedError):
        return None
    return picture.astype(np.uint8) if picture.ndim == 3 and picture.shape[2] == 3 else None
