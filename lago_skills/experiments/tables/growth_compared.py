"""What a grown library is compared with, after the last stage of its stream: without growth, built anew, without a library, without plans."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Task
from lago_skills.decoder.dataset import labelled_steps
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.experiments.baselines import cloning
from lago_skills.experiments.baselines.cloning_policies import ClonedTask
from lago_skills.experiments.baselines.controllers import NumbersController
from lago_skills.grow import material
from lago_skills.grow.refresh import refreshed
from lago_skills.grow.versions import Version, Versions
from lago_skills.guide.bundle import load_bundle
from lago_skills.guide.guides import LibraryGuide
from lago_skills.stages import build
from lago_skills.stages.segment import Labelled
from lago_skills.stages.workspace import Workspace
from lago_skills.text.embed import embed

if TYPE_CHECKING:
    from lago_skills.worlds.rollouts import Policy

COMPARED = ("frozen", "frozen with found plans", "rebuilt", "controller-20", "replay-bc")
"""`frozen`: the library as it was built, and the plans that tasks had then. `frozen with found plans`: the same library, and the plans that the stream came to.
`rebuilt`: a decoder trained from nothing on all that was taken in. `controller-20`: the plans that the stream came to, by a proportional controller of a few lines.
`replay-bc`: cloning of all that was taken in, by the task's sentence, without plans."""
Say = Callable[[str], None]


def policies(method: str, space: Workspace, say: Say) -> tuple[Callable[[Task], Policy], Version]:
    """Who plays each task, and the version of the grown stream that it was made from.

    Args:
        method: one of `COMPARED`.
        space: with the versions of the grown stream.
        say: hears what is trained.
    """
    versions = Versions(space.artifact("grown"))
    last = versions.current
    assert last is not None  # the stream is measured first
    grounding = space.study.grounding
    if method == "frozen":
        first = versions.get(0)
        return _followed(load_bundle(first.folder, grounding=grounding)), first
    shown = material.load(last.folder, space.study)
    if method == "controller-20":
        return lambda task: partial(_stateless, NumbersController(shown.books[task.id], grounding, 20.0)), last
    if method == "replay-bc":
        decoder = _cloned(space, shown, say)
        return lambda task: partial(_stateless, _clone_of(task, decoder, space)), last
    if method == "rebuilt":
        decoder = refreshed(space, space.study.seen[0], shown, (), _decoder(last, space), "anew", say)
        return _followed(build.assemble(shown, decoder, build.retrieval(space.study.guide))), last
    frozen = load_bundle(versions.get(0).folder, grounding=grounding)
    latents = build.step_latents(shown.books, frozen.decoder, shown.embeddings)
    return _followed(LibraryGuide(grounding, frozen.decoder, frozen.library, shown.books, latents, frozen.config)), last


def _decoder(version: Version, space: Workspace) -> Decoder:
    guide = load_bundle(version.folder, grounding=space.study.grounding)
    with guide.library:
        return guide.decoder


def _followed(guide: LibraryGuide) -> Callable[[Task], Policy]:
    return lambda task: lambda states: guide.prior(states, task.id).greedy()


def _stateless(policy: Any, states: NDArray[np.float64]) -> NDArray[Any]:
    return policy(states, np.zeros(len(states), np.int64))


def _cloned(space: Workspace, shown: Labelled, say: Say) -> Decoder:
    """A network that clones every episode that was taken in, by its task's sentence; it trains as long as the decoder does."""
    from lago_skills.decoder.pretrain import pretrain

    study = space.study
    tasks = tuple(task for task in study.all_tasks if task.id in shown.episodes)
    config = cloning.config(study, "bc-text").model_copy(update={"phrase_share": 0.0, "contrast_every": 0})
    books, segments = cloning.one_step(tasks, shown.episodes, study.grounding)
    texts = cloning.texts(tasks, "bc-text")
    say(f"cloning {sum(map(len, shown.episodes.values()))} episodes of {len(tasks)} tasks")
    steps = labelled_steps(shown.episodes, books, segments, texts, study.grounding, config, study.weighting)
    decoder, _ = pretrain(steps, config, study.seed, lambda update, m: None)
    return decoder


def _clone_of(task: Task, decoder: Decoder, space: Workspace) -> ClonedTask:
    latent = decoder.latents(embed([task.sentence]))[0]
    return ClonedTask(space.study.grounding, decoder, latent, cloning.anchor_of(space.study.grounding))
