"""The zero-shot table: the library alone beside its baselines, on demonstrated tasks and on tasks without any demonstration.

A cell (method, task, demonstrations, seed) is one row of `data/results/zero-shot.csv`. The seed is that of the demonstrations, of
whatever is trained on them, and of the start states of evaluation, which no demonstration shares. What a pair of seed and
demonstrations needs (episodes, segments, decoder, clones) is kept as artifacts under `checkpoints/STUDY/table/`, so that only what is
missing is made.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import lago_skills
from lago_skills.artifacts.folder import fingerprint
from lago_skills.artifacts.workers import Progress, WorkerPool
from lago_skills.core import Task
from lago_skills.errors import StudyError
from lago_skills.experiments import cells as cells_
from lago_skills.experiments.baselines import cloning
from lago_skills.experiments.baselines.cloning_policies import ClonedTask, Demonstrated, Forgetful, Replay, Uniform
from lago_skills.experiments.baselines.controllers import GAINS, NumbersController, WordsController
from lago_skills.experiments.cells import UNTRAINED, Cell, ResultFile, Row
from lago_skills.guide.guides import LibraryGuide
from lago_skills.stages import build, collect, plan, pretrain, segment
from lago_skills.stages.job import Job, digest
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.worlds.world import Demonstrator

if TYPE_CHECKING:
    from lago_skills.worlds.rollouts import EpisodePolicy

TABLE = "zero-shot"
RESULTS = Path("data/results/zero-shot.csv")
REPEATED = ("level", "success", "success_last", "episodes", "episode_steps", "environment_steps", "bundle")
"""Columns of a row that come out the same whenever they are measured."""
EVAL_SPAN = 1000
"""Start states of evaluation kept for each seed."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class VariantSpace(Workspace):
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


def variant(space: Workspace, seed: int, demos: int) -> VariantSpace:
    """The study with another seed and number of demonstrations.

    Raises:
        StudyError: the study has an environment or data of its own, which have no scripted policy.
    """
    study = space.study
    if study.environment or study.data or study.unplanned:
        raise StudyError(
            f"study {study.name!r}: found an environment, data or motions of its own; expected Meta-World tasks with scripted "
            "demonstrations, since the table collects them anew for each seed; use a study without [environment], [[data]] and "
            "segment.change_points"
        )
    wanted = study.collect.model_copy(update={"episodes_per_task": demos})
    return VariantSpace(space.root, space.study_file, study.model_copy(update={"seed": seed, "collect": wanted}))


@contextmanager
def _held(folder: Path) -> Generator[None]:
    """Let no other process make artifacts there meanwhile; waits for it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Variant:
    """Makes what the methods of one variant need, once, when it is first needed; gives their policies."""

    def __init__(self, space: VariantSpace, say: Say) -> None:
        self.space, self._say = space, say

    def make(self, jobs: Callable[[], list[Job]]) -> None:
        """Run the jobs that are not done."""
        with _held(self.space.place):
            for job in jobs():
                if not job.done:
                    self._say(f"{self.space.place.name}: {job.stage} {job.name}")
                    job.run(lambda done, note: None)

    @cached_property
    def segmented(self) -> VariantSpace:
        """The workspace, its demonstrations collected and labelled."""
        for stage in (collect, plan, segment):
            self.make(lambda stage=stage: stage.jobs(self.space))
        return self.space

    @cached_property
    def guide(self) -> LibraryGuide:
        """The library alone, as `lago evaluate` measures it."""
        space = self.segmented
        self.make(lambda: pretrain.jobs(space))
        return build.assemble(space, pretrain.load(space.artifact("decoder")))

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
        space = self.segmented
        found, embeddings = segment.load(space)
        return Demonstrated(space.study.grounding, collect.episodes(space), found, plan.playbooks(space), embeddings)

    def cloned(self, kind: cloning.Kind, task: Task) -> ClonedTask:
        """The policy of a task that was cloned without playbooks."""
        space = self.segmented
        self.make(lambda: [cloning.job(space, kind)])
        if kind == "bc-onehot" and task not in space.study.seen:
            self._say(f"{kind}: {task.id} gets the number of {cloning.stand_in(task, space.study.seen).id}")
        return cloning.load(space, kind, task)

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
            book, grounding = plan.playbooks(self.space)[task.id], self.space.study.grounding
            controller = WordsController if book.form == "words" else NumbersController
            return controller(book, grounding, GAINS[method])
        if method == "random":
            return Uniform(self.space.study.grounding.action_space, self.space.study.seed)
        expert = demonstrator(self.space, task)
        return Forgetful(lambda observations: np.stack([expert(row) for row in observations]))

    def bundle(self, method: str) -> str:
        """Fingerprint of all that the method's policy was made from; call it after `policy`."""
        space = self.space
        made: dict[str, Any] = {"method": method}
        if method in ("library", "random-library"):
            parts = ("decoder", "segments", "playbooks")
            made |= {name: digest(space.artifact(name)) for name in parts} | space.study.guide.model_dump(mode="json")
        elif method in cloning.KINDS:
            made["network"] = digest(space.artifact(method))
        elif method in GAINS:
            made |= {"playbooks": digest(space.artifact("playbooks"))}
        elif method == "replay":
            made |= {name: digest(space.artifact(name)) for name in ("segments", "playbooks")}
        else:
            return ""
        return fingerprint(made)[:12]


def demonstrator(space: Workspace, task: Task) -> Demonstrator:
    """Who shows the task.

    Raises:
        StudyError: nobody does.
    """
    found = space.world.demonstrator(task.id)
    if found is None:
        raise StudyError(
            f"found method 'scripted' and no demonstrator of task {task.id!r} in world {space.world.name!r}; expected one; leave that "
            "method out with --methods"
        )
    return found


def measure(made: Variant, cell: Cell, task: Task, n_episodes: int, commit: str) -> Row:
    """Play the episodes of a cell."""
    from lago_skills.worlds.rollouts import full_rollouts
    from lago_skills.worlds.seeds import EVAL_SEED

    policy = made.policy(cell.method, task)
    bundle = made.bundle(cell.method)
    taken: list[int] = []
    started = time.monotonic()
    seeds = [EVAL_SEED + EVAL_SPAN * cell.seed + i for i in range(n_episodes)]
    results = full_rollouts(made.space.world, task, policy, seeds, taken.append)
    flags: NDArray[Any] = np.array([[result.success, bool(result.success_last)] for result in results])
    return Row(
        table=TABLE,
        study=cell.study,
        task=cell.task,
        level="seen" if task in made.space.study.seen else "unseen",
        method=cell.method,
        demos=cell.demos,
        seed=cell.seed,
        success=round(float(flags[:, 0].mean()), 4),
        success_last=round(float(flags[:, 1].mean()), 4),
        episodes=n_episodes,
        episode_steps=round(float(np.mean([result.steps for result in results])), 1),
        environment_steps=sum(taken),
        wall_s=round(time.monotonic() - started, 1),
        commit=commit,
        bundle=bundle,
    )


def commit() -> str:
    """The git commit of the code that runs, with a + if it has been changed since; `unknown` outside of a checkout."""
    folder = Path(lago_skills.__file__).parent

    def git(*arguments: str) -> str:
        found = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
        return found.stdout.strip()

    name = git("rev-parse", "--short", "HEAD")
    return name + "+" * bool(git("status", "--porcelain", ".")) if name else "unknown"


class Bench:
    """Measures cells of a study, in any order; what variants share with each other is kept."""

    def __init__(self, space: Workspace, say: Say) -> None:
        self.space, self._say, self._commit = space, say, commit()
        self._tasks = {task.id: task for task in (*space.study.seen, *space.study.unseen)}
        self._variants: dict[tuple[int, int], Variant] = {}

    def measure(self, cell: Cell, n_episodes: int) -> Row:
        """The row of a cell."""
        key = (cell.seed, cell.demos)
        if key not in self._variants:
            self._variants[key] = Variant(variant(self.space, *key), self._say)
        return measure(self._variants[key], cell, self._tasks[cell.task], n_episodes, self._commit)


def cells(space: Workspace, methods: list[str], seeds: list[int], demos: list[int], tasks: list[str]) -> list[Cell]:
    """All cells of a choice, in the order in which they are worth having: methods, then seeds, then tasks."""
    chosen = [
        Cell(space.study.name, method, task, 0 if method in UNTRAINED else count, seed)
        for count in demos
        for method in methods
        for seed in seeds
        for task in tasks
    ]
    return list(dict.fromkeys(chosen))


def run(space: Workspace, file: ResultFile[Row], missing: list[tuple[Cell, int]], say: Say, n_workers: int = 1) -> None:
    """Measure cells with so many episodes each; each is on disk when the next begins.

    Several workers share the variants among them, so that nothing is made twice.
    """
    if n_workers == 1:
        _run_here(space, file, missing, say)
        return
    by_variant: defaultdict[tuple[int, int], list[tuple[Cell, int]]] = defaultdict(list)
    for cell, n_episodes in missing:
        by_variant[cell.demos, cell.seed].append((cell, n_episodes))
    with WorkerPool(n_workers) as pool:
        where = (space.root, space.study_file, file.path)
        shares = [(share[0][0].name, partial(_run_there, *where, share)) for share in by_variant.values()]
        for name, future in [(name, pool.submit(name, call)) for name, call in shares]:
            pool.wait(f"cell {name} and its like", future)


def _run_there(root: Path, study_file: Path, results: Path, missing: list[tuple[Cell, int]], _: Progress) -> None:
    _run_here(open_workspace(root, study_file), ResultFile(results, Row), missing, _say_there)


def _say_there(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _run_here(space: Workspace, file: ResultFile[Row], missing: list[tuple[Cell, int]], say: Say) -> None:
    cells_.measure(Bench(space, say).measure, file, missing, say)


def check(space: Workspace, stored: Row, say: Say) -> dict[str, Any]:
    """Measure a stored row again: `values` has each column that must repeat as (stored, now), `same` says whether all do."""
    now = Bench(space, say).measure(stored.cell, stored.episodes)
    values = {name: (getattr(stored, name), getattr(now, name)) for name in REPEATED}
    return {"cell": stored.cell.name, "same": all(a == b for a, b in values.values()), "values": values}
