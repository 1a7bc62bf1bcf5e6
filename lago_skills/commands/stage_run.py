"""A stage at work: what it still has to make is given to workers at once, and whoever wants to know waits for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

from lago_skills.artifacts.calls import Call, Turn, no_turn
from lago_skills.artifacts.executor import Runner, in_order, returned
from lago_skills.artifacts.folder import Manifest, fingerprint, remove_abandoned
from lago_skills.artifacts.progress import StageProgress
from lago_skills.artifacts.store import Store
from lago_skills.commands.stages import JUDGED, STAGES, JobAddress, inputs_of, stays_home
from lago_skills.errors import StoreError
from lago_skills.stages import approval
from lago_skills.stages.elsewhere import Elsewhere, Place, share
from lago_skills.stages.job import Job
from lago_skills.stages.workspace import Workspace

Wait = Callable[[Sequence[Call[Manifest]], Sequence[Future[Manifest]]], Iterable[Manifest]]
"""Waits for what calls return, in their order."""


def say(text: str) -> None:
    """One line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def pending_jobs(space: Workspace, stage: str, store: Store | None = None) -> list[Job]:
    """What a stage still has to make; says so when that is nothing. What another machine has put into the store is fetched, what is finished here put there.

    Raises:
        ArtifactCorrupt: a finished artifact is damaged.
        StoreError: the store cannot be read or written.
    """
    jobs = STAGES[stage](space)
    for job in jobs:
        remove_abandoned(job.folder)  # of workers that outlived their command by a moment nobody else would look
    pending = [job for job in jobs if not job.done]
    if store is not None:
        for job in jobs:
            if job not in pending:
                store.push(space.root, job.folder)
        pending = [job for job in pending if not store.pull(space.root, job.folder, fingerprint(job.recipe))]
    if not pending:
        say(f"{stage:<9} already done: {len(jobs)} artifact{'s' * (len(jobs) != 1)}")
    elif len(pending) < len(jobs):
        say(f"{stage:<9} {len(jobs) - len(pending)} of {len(jobs)} artifacts already done")
    return pending


def run_here(space: Workspace, stage: str, store: Store | None = None) -> None:
    """Make what a quick stage still has to make in this process, since another one takes longer to start.

    Raises:
        ApprovalNeeded: it would use what nobody has approved yet.
        LagoError: what the first failing job raised.
    """
    jobs = pending_jobs(space, stage, store)
    if jobs:
        approval.require(space, stage)
    for job in jobs:
        with StageProgress(stage, job.total, job.unit) as progress:
            manifest = job.run(lambda done, note, name=job.name: progress.update(name, done, note))
        if store is not None:
            store.push(space.root, job.folder)
        for note in manifest.summary.get("notes", ()):
            say(f"{stage:<9} {job.name}: {note}")


class Stopped(Exception):
    """What workers are told that are to stop at once."""


def fetch_earlier(space: Workspace, stage: str, store: Store) -> None:
    """Fetch what the stages before this one have made elsewhere, as far as the store has it."""
    names = list(STAGES)
    for earlier in names[: names.index(stage)]:
        if pending_jobs(space, earlier, store):
            return


class StageRun:
    """The pending jobs of a stage, at work. As a context it lets its workers go at the end, and stops them at an error."""

    def __init__(self, space: Workspace, stage: str, runner: Runner, turn: Turn = no_turn) -> None:
        """Begin. Each job on this machine waits for its `turn`.

        Raises:
            ApprovalNeeded: it would use what nobody has approved yet.
            LagoError: a finished artifact is damaged, there are no such workers, or a store cannot be used.
        """
        self.space, self.stage = space, stage
        self._stack = ExitStack()
        self._store = runner.opened_store()
        jobs = pending_jobs(space, stage, self._store)
        self.calls: list[Call[Manifest]] = []
        self.futures: list[Future[Manifest]] = []
        if not jobs:
            return
        approval.require(space, stage)
        if space.study.gym is not None and stage in JUDGED:
            say(f"{stage:<9} success: {space.world.success_text}")
        self._totals = {job.name: job.total for job in jobs}
        self._away = False
        if self._store is not None and runner.name == "dask":
            self._away = not stays_home(space, stage)
            runner = runner if self._away else Runner(n_workers=runner.n_workers, limit_s=runner.limit_s)
        self._jobs = {job.name: job for job in jobs}
        self.calls += [replace(call, limit_s=runner.limit_s) for call in self._calls(jobs)]
        total = sum(self._totals.values())
        with ExitStack() as stack:
            self._progress = stack.enter_context(StageProgress(stage, total, jobs[0].unit))
            n_workers = min(space.study.workers, len(jobs), space.study.instances)
            workers = stack.enter_context(runner.hire(n_workers, self._progress.update, turn))
            self.futures += [workers.submit(call) for call in self.calls]
            self._stack = stack.pop_all()

    def _calls(self, jobs: Sequence[Job]) -> list[Call[Manifest]]:
        space, stage = self.space, self.stage
        addresses = [JobAddress(str(space.root), str(space.study_file), stage, job.name) for job in jobs]
        if self._store is None or not self._away:
            return [Call(each.name, str(each), each) for each in addresses]
        snapshot, inputs = share(self._store, space, inputs_of(space, stage))
        return [
            Call(each.name, str(each), Elsewhere(self._store.url, snapshot, inputs, (Place.of(job, space.root),), each))
            for each, job in zip(addresses, jobs, strict=True)
        ]

    def tell(self, heard: Callable[[float, str], None]) -> None:
        """From now on call `heard(share of the stage that is done, note)` with each change."""
        if self.calls:
            self._progress.heard = heard

    @property
    def finished(self) -> bool:
        """Whether there is nothing to wait for."""
        return all(future.done() for future in self.futures)

    def results(self, wait: Wait | None = None) -> dict[str, Manifest]:
        """The manifests of what was made, by job; waited for here, where nobody else does it.

        Raises:
            LagoError: what the first failing job raised.
        """
        if not self.calls:
            return {}
        progress, totals = self._progress, self._totals
        made = wait(self.calls, self.futures) if wait else returned(self.futures)

        def finish(call: Call[Manifest], _: Manifest) -> None:
            self._keep(self._jobs[call.name])
            progress.finish(call.name, totals[call.name])

        manifests = in_order(self.calls, made, finish)
        for call, manifest in zip(self.calls, manifests, strict=True):
            for note in manifest.summary.get("notes", ()):
                say(f"{self.stage:<9} {call.name}: {note}")
        return dict(zip(totals, manifests, strict=True))

    def _keep(self, job: Job) -> None:
        """Have what was made both here and in the store."""
        if self._store is None:
            return
        if not self._away:
            self._store.push(self.space.root, job.folder)
        elif not job.done and not self._store.pull(self.space.root, job.folder, fingerprint(job.recipe)):
            raise StoreError(
                f"found no artifact of {job.stage} {job.name!r} in the store {self._store.url!r} although it was made; expected it there; see that nobody "
                "empties the store, and run the same command again"
            )

    def stop(self) -> None:
        """Stop what is at work, and have nothing more begun."""
        self._stack.__exit__(Stopped, Stopped(), None)

    def __enter__(self) -> Self:
        """The run itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the workers go, or stop them."""
        self._stack.__exit__(kind, error, trace)
