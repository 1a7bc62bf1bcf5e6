"""Run stages as Prefect flows: one flow per stage, one task per job, each job in a worker process."""

# Prefect's decorators lose the types of what they wrap.
# pyright: reportUntypedFunctionDecorator=false, reportCallIssue=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from flows.local_server.server import loopback_works, prefect_server
from lago_skills.artifacts.progress import StageProgress
from lago_skills.artifacts.workers import WorkerPool
from lago_skills.commands.stages import STAGES, JobAddress, require_earlier
from lago_skills.stages.job import Job
from lago_skills.stages.workspace import Workspace, exclusive


def say(text: str) -> None:
    """One line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def address(space: Workspace, job: Job) -> JobAddress:
    """How a worker process finds the job."""
    return JobAddress(str(space.root), str(space.study_file), job.stage, job.name)


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


@contextmanager
def _pool(space: Workspace, jobs: list[Job]) -> Generator[tuple[WorkerPool, StageProgress]]:
    """Workers and a progress display for some jobs; Ctrl-C stops the workers at once."""
    with StageProgress(jobs[0].stage, sum(job.total for job in jobs), jobs[0].unit) as progress:
        pool = WorkerPool(min(space.study.workers, len(jobs)), progress.update)

        def stop(number: int, frame: FrameType | None) -> None:
            pool.kill()
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield pool, progress
            pool.close()
        except BaseException:
            pool.kill()
            raise
        finally:
            signal.signal(signal.SIGINT, before)


def _one(pool: WorkerPool, progress: StageProgress, where: JobAddress, total: int) -> dict[str, Any]:
    manifest = pool.wait(str(where), pool.submit(where.name, where))
    progress.finish(where.name, total)
    return {"job": where.name, "digest": manifest.digest, "seconds": manifest.seconds, **manifest.summary}


def run_plain(space: Workspace, stages: list[str]) -> None:
    """The stages without Prefect, for a machine that cannot talk to itself."""
    from concurrent.futures import ThreadPoolExecutor

    for stage in stages:
        jobs = pending_jobs(space, stage)
        if not jobs:
            continue
        with _pool(space, jobs) as (pool, progress), ThreadPoolExecutor(space.study.workers) as threads:
            futures = [threads.submit(_one, pool, progress, address(space, job), job.total) for job in jobs]
            for future in futures:
                future.result()


def stage_body(space: Workspace, stage: str) -> list[dict[str, Any]]:
    """What every stage's flow does: a Prefect task per pending job. Call it inside a flow.

    Raises:
        LagoError: what the first failing job raised.
    """
    from prefect import task

    jobs = pending_jobs(space, stage)
    if not jobs:
        return []
    with _pool(space, jobs) as (pool, progress):

        @task(name=stage, task_run_name=stage + ": {where.name}", persist_result=False)
        def make(where: JobAddress, total: int) -> dict[str, Any]:
            return _one(pool, progress, where, total)

        futures = [make.submit(address(space, job), job.total) for job in jobs]
        return [future.result() for future in futures]


def all_done(space: Workspace, stages: list[str]) -> bool:
    """Whether there is nothing to do, found out before any server is started.

    Raises:
        LagoError: an input of the first unfinished stage is missing or damaged.
    """
    return all(job.done for stage in stages for job in STAGES[stage](space))


def run_stages(space: Workspace, stages: list[str], run: Callable[[], object]) -> None:
    """Run flows with a Prefect server at hand; without a working loopback, the plain functions.

    Raises:
        LagoError: what a stage raised.
        ServerError: no Prefect server could be had.
        StudyBusy: another command is at work on the study.
    """
    require_earlier(space, stages[0])
    if all_done(space, stages):
        for stage in stages:
            pending_jobs(space, stage)  # says so
        return
    with exclusive(space):
        _run_held(space, stages, run)


def _run_held(space: Workspace, stages: list[str], run: Callable[[], object]) -> None:
    if not loopback_works():
        say("no loopback network here: running the stages without Prefect's server")
        run_plain(space, stages)
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
