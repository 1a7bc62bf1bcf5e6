"""Replicates of a study: with another seed and number of demonstrations, which is what tables compare.

The seed is that of the demonstrations, of whatever is trained on them, and of the start states of evaluation, which no demonstration
shares. What a replicate needs (episodes, segments, decoder, clones) is kept as artifacts under `checkpoints/STUDY/table/`, so that only
what is missing is made, whichever table asks.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lago_skills.artifacts.folder import fingerprint
from lago_skills.core import Task
from lago_skills.errors import StudyError
from lago_skills.experiments.baselines import cloning
from lago_skills.experiments.baselines.cloning_policies import ClonedTask, Demonstrated, Forgetful, Replay, Uniform
from lago_skills.experiments.baselines.controllers import GAINS, NumbersController, WordsController
from lago_skills.experiments.cells import Say
from lago_skills.guide.guides import LibraryGuide
from lago_skills.stages import build, collect, plan, pretrain, segment
from lago_skills.stages.job import Job, digest
from lago_skills.stages.segment import Labelled
from lago_skills.stages.workspace import Workspace
from lago_skills.worlds.world import Demonstrator, World, rules_of

if TYPE_CHECKING:
    from lago_skills.worlds.rollouts import EpisodePolicy


@dataclass(frozen=True)
class ReplicateSpace(Workspace):
    """The workspace of one seed and number of demonstrations: a study of its own in all but name."""

    @property
    def place(self) -> Path:
        """The folder that holds everything of it."""
        name = f"s{self.study.seed}-d{self.study.collect.episodes_per_task}"
        return self.root.joinpath("checkpoints", self.study.name, "table", name)

    def episodes(self, task: str) -> Path:
        """Where the demonstrations of a task are kept."""
        return self.place / "episodes" / task

    @property
    def library(self) -> Path:
        """Where a skill library would be; the table's own are in memory."""
        return self.place / "library"

    def artifact(self, *parts: str) -> Path:
        """Where any other artifact is kept."""
        return self.place.joinpath(*parts)


def replicate_space(space: Workspace, seed: int, demos: int) -> ReplicateSpace:
    """The study with another seed and number of demonstrations.

    Raises:
        StudyError: the study has an environment or data of its own, which have no scripted policy.
    """
    study = space.study
    if study.gym or study.data or study.unplanned:
        raise StudyError(
            f"study {study.name!r}: found an environment, data or motions of its own; expected tasks that their world demonstrates, since "
            "the table collects demonstrations anew for each seed; use a study without [environment], [[data]] and segment.change_points"
        )
    wanted = study.collect.model_copy(update={"episodes_per_task": demos})
    return ReplicateSpace(space.root, space.study_file, study.model_copy(update={"seed": seed, "collect": wanted}))


@contextmanager
def _held(folder: Path) -> Generator[None]:
    """Let no other process make artifacts there meanwhile; waits for it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Replicate:
    """Makes what the methods of one seed and number of demonstrations need, once, when it is first needed; gives their policies."""

    def __init__(self, space: ReplicateSpace, say: Say) -> None:
        self.space, self._say = space, say

    def make(self, jobs: Callable[[], list[Job]]) -> None:
        """Run the jobs that are not done."""
        with _held(self.space.place):
            for job in jobs():
                if not job.done:
                    self._say(f"{self.space.place.name}: {job.stage} {job.name}")
                    job.run(lambda done, note: None)

    @cached_property
    def collected(self) -> ReplicateSpace:
        """The workspace, its demonstrations collected."""
        self.make(lambda: collect.jobs(self.space))
        return self.space

    @cached_property
    def segmented(self) -> ReplicateSpace:
        """The workspace, its demonstrations collected and labelled."""
        space = self.collected
        for stage in (plan, segment):
            self.make(lambda stage=stage: stage.jobs(space))
        return space

    @cached_property
    def labelled(self) -> Labelled:
        """Its demonstrations with their labels."""
        return segment.labelled(self.segmented)

    @cached_property
    def guide(self) -> LibraryGuide:
        """The library alone, as `lago evaluate` measures it."""
        space = self.segmented
        self.make(lambda: pretrain.jobs(space))
        decoder = pretrain.load(space.artifact("decoder"))
        return build.assemble(self.labelled, decoder, build.retrieval(space.study.guide))

    @cached_property
    def shuffled(self) -> LibraryGuide:
        """The same decoder, library and playbooks, but each sentence of a playbook asks for what another sentence says."""
        guide = self.guide
        books = guide.books
        rows = {
            step.sentence: latent
            for name, book in books.items()
            for step, latent in zip(book.steps, guide.step_latents[name], strict=True)
        }
        names = list(rows)
        order: list[int] = np.random.default_rng(self.space.study.seed).permutation(len(names)).tolist()
        following = {
            names[order[i]]: names[order[i - 1]] for i in range(len(names))
        }  # one circle: nobody keeps its own
        latents = {
            name: np.stack([rows[following[step.sentence]] for step in book.steps]) for name, book in books.items()
        }
        return LibraryGuide(
            guide.grounding, guide.decoder, guide.library, books, latents, guide.config, ends=guide.ends
        )

    @cached_property
    def demonstrated(self) -> Demonstrated:
        """The demonstrated segments, for replay."""
        shown = self.labelled
        return Demonstrated(shown.grounding, shown.episodes, shown.segments, shown.books, shown.embeddings)

    def cloned(self, kind: cloning.Kind, task: Task) -> ClonedTask:
        """The policy of a task that was cloned without playbooks."""
        space = self.collected
        self.make(lambda: [cloning.job(space, kind)])
        if kind == "bc-onehot" and task not in space.study.seen:
            self._say(f"{kind}: {task.id} gets the number of {cloning.stand_in(task, space.study.seen).id}")
        return cloning.load(space.artifact(kind), space.study, kind, task)

    def policy(self, method: str, task: Task) -> EpisodePolicy:
        """The method's policy for a task."""
        if method in ("library", "random-library"):
            guide = self.guide if method == "library" else self.shuffled
            return Forgetful(lambda observations: guide.prior(observations, task.id).greedy())
        for kind in cloning.KINDS:
            if method == kind:
                return self.cloned(kind, task)
        if method == "replay":
            return Replay(self.demonstrated, task.id)
        if method in GAINS:
            self.make(lambda: plan.jobs(self.space))
            grounding = self.space.study.grounding
            book = plan.load(self.space.artifact("playbooks"), grounding.vocabulary)[task.id]
            controller = WordsController if book.form == "words" else NumbersController
            return controller(book, grounding, GAINS[method])
        if method == "random":
            return Uniform(self.space.study.grounding.action_space, self.space.study.seed)
        rules = rules_of(self.space.world, task.id)
        expert = rules[method] if method in rules else demonstrator(self.space.world, task)
        return Forgetful(lambda observations: np.stack([expert(row) for row in observations]))

    def bundle(self, method: str) -> str:
        """Fingerprint of all that the method's policy was made from; call it after `policy`."""
        space = self.space
        inputs: dict[str, Any] = {"method": method}
        if method in ("library", "random-library"):
            parts = ("decoder", "segments", "playbooks")
            inputs |= {name: digest(space.artifact(name)) for name in parts} | space.study.guide.model_dump(mode="json")
        elif method in cloning.KINDS:
            inputs["network"] = digest(space.artifact(method))
        elif method in GAINS:
            inputs |= {"playbooks": digest(space.artifact("playbooks"))}
        elif method == "replay":
            inputs |= {name: digest(space.artifact(name)) for name in ("segments", "playbooks")}
        else:
            return ""
        return fingerprint(inputs)[:12]


def demonstrator(world: World, task: Task) -> Demonstrator:
    """Who shows the task.

    Raises:
        StudyError: nobody does.
    """
    expert = world.demonstrator(task.id)
    if expert is None:
        raise StudyError(
            f"found method 'scripted' and no demonstrator of task {task.id!r} in world {world.name!r}; expected one; leave that "
            "method out with --methods"
        )
    return expert
