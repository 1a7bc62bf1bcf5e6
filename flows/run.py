"""Run stages as Prefect flows: one flow per stage, one task per job, each job in a worker process."""

# Prefect's decorators lose the types of what they wrap.
# pyright: reportUntypedFunctionDecorator=false, reportCallIssue=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flows.local_server.server import loopback_works, prefect_server
from lago_skills.artifacts.executor import Call, Executor, Processes, in_order
from lago_skills.artifacts.folder import Manifest
from lago_skills.artifacts.progress import StageProgress
from lago_skills.artifacts.workers import Listener, WorkerPool
from lago_skills.commands.stages import JUDGED, STAGES, JobAddress, require_earlier, require_success
from lago_skills.stages.job import Job
from lago_skills.stages.workspace import Workspace, exclusive, open_workspace

R = TypeVar("R")


QUICK = ("plan", "build")
"""Stages of a second: alone, they do without a server, whose start takes far longer in a new project."""


def say(text: str) -> None:
    """One line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


@dataclass(frozen=True)
class PrefectTasks:
    """Prefect's task runner, inside of a flow: a Prefect task for each call, which waits for the call's process."""

    name: str
    """Of the tasks."""

    def run(
        self,
        calls: Sequence[Call[R]],
        n_workers: int,
        listener: Listener | None = None,
        finished: Callable[[Call[R], R], None] | None = None,
    ) -> list[R]:
        """See `Executor`."""
        from prefect import task

        with WorkerPool(n_workers, listener) as pool:

            @task(name=self.name, task_run_name=self.name + ": {name}", persist_result=False)
            def make(name: str, number: int) -> R:
                call = calls[number]
                return pool.wait(call.what, pool.submit(name, call.work))

            futures = [make.submit(call.name, number) for number, call in enumerate(calls)]
            return in_order(calls, (future.result() for future in futures), finished)


def pending_jobs(space: Workspace, stage: str) -> list[Job]:
    """What a stage still has to make; says so when that is nothing.

    Raises:
        ArtifactCorrupt: a finished artifact is damaged.
    """
    jobs = STAGES[stage](space)
    pending = [job for job in jobs if not job.done]
    if not pending:
        say(f"{stage:<9} already done: {len(jobs)} artifact{'s' * (len(jobs) != 1)}")
    elif len(pending) < len(jobs):
        say(f"{stage:<9} {len(jobs) - len(pending)} of {len(jobs)} artifacts already done")
    return pending


def run_stage(space: Workspace, stage: str, executor: Executor) -> dict[str, Manifest]:
    """Make what a stage still has to make; returns the manifests of that, by job.

    Raises:
        LagoError: what the first failing job raised.
    """
    jobs = pending_jobs(space, stage)
    if not jobs:
        return {}
    if space.study.gym is not None and stage in JUDGED:
        say(f"{stage:<9} success: {space.world.success_text}")
    calls: list[Call[Manifest]] = []
    for job in jobs:
        where = JobAddress(str(space.root), str(space.study_file), job.stage, job.name)
        calls.append(Call(job.name, str(where), where))
    totals = {job.name: job.total for job in jobs}
    with StageProgress(stage, sum(totals.values()), jobs[0].unit) as progress:
        manifests = executor.run(
            calls,
            min(space.study.workers, len(jobs), space.study.instances),
            progress.update,
            lambda call, _: progress.finish(call.name, totals[call.name]),
        )
    for name, manifest in zip(totals, manifests, strict=True):
        for note in manifest.summary.get("notes", ()):
            say(f"{stage:<9} {name}: {note}")
    return dict(zip(totals, manifests, strict=True))


def stage_body(root: str, study_file: str, stage: str) -> list[dict[str, Any]]:
    """What every stage's flow does: a Prefect task per pending job. Call it inside a flow.

    Raises:
        LagoError: what the first failing job raised.
    """
    manifests = run_stage(open_workspace(Path(root), Path(study_file)), stage, PrefectTasks(stage))
    return [
        {"job": name, "digest": each.digest, "seconds": each.seconds, **each.summary}
        for name, each in manifests.items()
    ]


def all_done(space: Workspace, stages: list[str]) -> bool:
    """Whether there is nothing to do, found out before any server is started.

    Raises:
        LagoError: an input of the first unfinished stage is missing or damaged.
    """
    return all(job.done for stage in stages for job in STAGES[stage](space))


def run_stages(space: Workspace, stages: list[str], run: Callable[[], object]) -> None:
    """Run flows with a Prefect server at hand; one quick stage, or any without a working loopback, as the plain functions.

    Raises:
        LagoError: what a stage raised.
        ServerError: no Prefect server could be had.
        StudyBusy: another command is at work on the study.
    """
    require_earlier(space, stages[0])
    require_success(space, stages)
    if all_done(space, stages):
        for stage in stages:
            pending_jobs(space, stage)  # says so
        return
    with exclusive(space):
        _run_held(space, stages, run)


def _run_held(space: Workspace, stages: list[str], run: Callable[[], object]) -> None:
    quick = len(stages) == 1 and stages[0] in QUICK and not os.environ.get("PREFECT_API_URL")
    if quick or not loopback_works():
        if not quick:
            say("no loopback network here: running the stages without Prefect's server")
        for stage in stages:
            run_stage(space, stage, Processes())
        return
    with prefect_server(space.root) as url:
        say(f"Prefect: {url.removesuffix('/api')}")
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        try:
            # Joining the heartbeat thread costs about a second per flow.
            with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
                run()
        finally:
            _send_logs()


def _send_logs() -> None:
    """Hand Prefect's queued log lines over while its server is still there."""
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
