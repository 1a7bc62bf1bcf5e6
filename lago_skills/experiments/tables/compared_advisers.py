"""Who advises the training runs of a table: the library, what it is compared with, and the library with a part taken away."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import ArtifactWriter, fingerprint
from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.core import Episode, Task
from lago_skills.experiments.baselines import cloning
from lago_skills.experiments.baselines.cloning_policies import ClonedTask
from lago_skills.experiments.baselines.nearest import NearestStepGuide
from lago_skills.experiments.cells import Say
from lago_skills.experiments.replicate import Replicate, ReplicateSpace
from lago_skills.guide.guides import Guide, LibraryGuide
from lago_skills.playbook import read_playbook, write_playbook
from lago_skills.prior import Prior
from lago_skills.query.query_network import LearnedQuery
from lago_skills.rl import methods
from lago_skills.stages import build, collect, plan, pretrain
from lago_skills.stages import query as query_stage
from lago_skills.stages.job import Job, digest

BRIEF_FILE, EMBEDDINGS_FILE = "playbooks.json", "embeddings.safetensors"


class ClonedGuide:
    """The prior of a policy cloned from demonstrations, without language and without library; by task."""

    def __init__(self, cloned: dict[str, ClonedTask], floor: float) -> None:
        self.cloned, self.floor = cloned, floor

    def prior(self, observations: NDArray[Any], task: str) -> Prior:
        """(B, S) observations -> prior over actions."""
        return self.cloned[task].prior(observations, self.floor)


class Advisers:
    """Who may advise the runs of one replicate, each made once, when it is first needed."""

    def __init__(self, replicate: Replicate, say: Say) -> None:
        self.replicate, self._say = replicate, say
        self._targets: dict[tuple[str, int], Replicate] = {}

    def guide(self, adviser: methods.Adviser, tasks: tuple[Task, ...], demos: int) -> Guide | None:
        """Who advises; nobody where the language model's answer was not a playbook."""
        makers: dict[methods.Adviser, Callable[[], Guide | None]] = {
            "none": lambda: None,
            "library": lambda: self.replicate.guide,
            "shuffled": lambda: self.replicate.shuffled,
            "learned query": lambda: self.learned_query,
            "cloned": lambda: self.cloned(tasks, demos),
            "one skill": lambda: self._changed(self.replicate.guide, k=1),
            "fixed text": lambda: self.fixed_text,
            "nearest step": lambda: self.nearest_step,
            "brief prompt": lambda: self.brief(tasks),
        }
        return makers[adviser]()

    def bundle(self, adviser: methods.Adviser, tasks: tuple[Task, ...], demos: int) -> str:
        """Fingerprint of all that this adviser was made from, empty where there is none; call it after `guide`."""
        if adviser == "none":
            return ""
        if adviser == "cloned":
            spaces = [self._target(task, demos).space for task in tasks] if demos else [self.replicate.space]
            return fingerprint({"cloned": [digest(space.artifact("bc-onehot")) for space in spaces]})[:12]
        whole = self.replicate.bundle("library")
        parts = {"fixed text": "decoder-fixed-text", "brief prompt": "playbooks-brief"}
        if adviser in ("library", "shuffled", "learned query"):
            return whole
        changed = digest(self.replicate.space.artifact(parts[adviser])) if adviser in parts else ""
        return fingerprint({"library": whole, "adviser": adviser, "changed": changed})[:12]

    @staticmethod
    def _changed(guide: LibraryGuide, learned: LearnedQuery | None = None, **settings: Any) -> LibraryGuide:
        config, parts = replace(guide.config, **settings), (guide.grounding, guide.decoder, guide.library)
        return LibraryGuide(*parts, guide.books, guide.step_latents, config, learned, guide.ends)

    @cached_property
    def fixed_text(self) -> LibraryGuide:
        """Latents are the sentence embeddings: a decoder trained on them, a library of them."""
        space = self.replicate.segmented
        job = pretrain.job(space, space.study.seed, space.artifact("decoder-fixed-text"), learn_text=False)
        self.replicate.make(lambda: [job])
        decoder = pretrain.load(job.folder)
        return build.assemble(self.replicate.labelled, decoder, build.retrieval(space.study.guide))

    @cached_property
    def nearest_step(self) -> NearestStepGuide:
        """No decoder: each skill does what the nearest of its demonstrated steps did."""
        guide, shown = self.replicate.guide, self.replicate.labelled
        return NearestStepGuide(guide, shown.steps(self.replicate.space.study.decoder), shown.skills)

    def brief(self, tasks: tuple[Task, ...]) -> LibraryGuide | None:
        """The same library; playbooks of tasks without demonstrations are answers to one sentence of instructions.

        Raises:
            TranscriptMissing: an answer has not been recorded.
        """
        guide, space = self.replicate.guide, self.replicate.space
        self.replicate.make(lambda: [brief_job(space)])
        folder = space.artifact("playbooks-brief")
        books = {
            name: read_playbook(entry, guide.grounding.vocabulary)
            for name, entry in json.loads((folder / BRIEF_FILE).read_text(encoding="utf-8")).items()
        }
        if any(task.id not in books for task in tasks):
            return None
        vectors = load_arrays(folder / EMBEDDINGS_FILE)
        latents = {name: guide.decoder.latents(vectors[name]) for name in books}
        return LibraryGuide(guide.grounding, guide.decoder, guide.library, books, latents, guide.config)

    @cached_property
    def learned_query(self) -> LibraryGuide:
        """The same library, decoder and playbooks; skills are looked up by the learned query alone."""
        guide, space = self.replicate.guide, self.replicate.space
        learned = query_stage.learned(query_stage.job(space, space.artifact("decoder"), space.study.seed))
        return self._changed(guide, learned, query="learned")

    def _target(self, task: Task, demos: int) -> Replicate:
        """The task by itself, as if it were the only one that is demonstrated."""
        key = (task.id, demos)
        if key not in self._targets:
            study = self.replicate.space.study
            alone = study.model_copy(
                update={
                    "tasks": study.tasks.model_copy(update={"seen": [task.id], "unseen": [], "planned": []}),
                    "collect": study.collect.model_copy(update={"episodes_per_task": demos}),
                }
            )
            space = TargetSpace(self.replicate.space.root, self.replicate.space.study_file, alone)
            target = Replicate(space, self._say)
            target.make(lambda: collect.jobs(space))
            self._targets[key] = target
        return self._targets[key]

    def demonstrations(self, task: Task, demos: int) -> list[Episode]:
        """Of the task itself."""
        return collect.load(self._target(task, demos).space.collected)[task.id]

    def cloned(self, tasks: tuple[Task, ...], demos: int) -> ClonedGuide:
        """Policies cloned from demonstrations of the tasks themselves: of each by itself, or, without a number of them, of the seen tasks together."""
        floor = self.replicate.space.study.guide.floor
        if not demos:
            return ClonedGuide({task.id: self.replicate.cloned("bc-onehot", task) for task in tasks}, floor)
        clones: dict[str, ClonedTask] = {}
        for task in tasks:
            target = self._target(task, demos)
            target.make(lambda target=target: [cloning.job(target.space, "bc-onehot")])
            clones[task.id] = cloning.load(target.space.artifact("bc-onehot"), target.space.study, "bc-onehot", task)
        return ClonedGuide(clones, floor)


@dataclass(frozen=True)
class TargetSpace(ReplicateSpace):
    """The workspace of one task that is demonstrated by itself."""

    @property
    def place(self) -> Path:
        """The folder that holds everything of it."""
        task = self.study.seen[0].id
        return super().place.with_name(f"{super().place.name}-{task}")


def brief_job(space: ReplicateSpace) -> Job:
    """Playbooks of the unseen tasks by the brief prompt, with the embeddings of their sentences; answers that are no playbooks are left out.

    Raises:
        TranscriptMissing: an answer has not been recorded.
    """
    wanted = space.study.plan.model_copy(update={"prompt": "brief", "repair": False})
    asked = ReplicateSpace(space.root, space.study_file, space.study.model_copy(update={"plan": wanted}))
    planner, tasks = plan.planner(asked), asked.study.unseen
    known = {task.id: planner.plan(task, request) for task, request in planner.requests(asked.study.seen, tasks)}
    for answer in (known[task.id] for task in tasks):
        if not answer.versions:
            planner.transcripts.replay(answer.request, f"{asked.study.name}-brief")
    chosen = {task.id: known[task.id].chosen for task in tasks}
    books = {name: write_playbook(v.playbook) for name, v in chosen.items() if v is not None and v.playbook is not None}

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        from lago_skills.text.embed import embed

        (writer.path / BRIEF_FILE).write_text(json.dumps(books, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        vectors = {name: embed([step["skill"] for step in book["steps"]]) for name, book in books.items()}
        save_arrays(vectors, writer.path / EMBEDDINGS_FILE)
        writer.summary = {"playbooks": len(books), "tasks": len(tasks)}

    recipe = {"stage": "plan", "version": plan.VERSION, "prompt": "brief", "playbooks": books}
    return Job("plan", "playbooks-brief", space.artifact("playbooks-brief"), recipe, 1, "playbooks", make)
