"""Run stages of a study: as Prefect flows on a server, or as plain functions where none is needed or none can be had."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from lago_skills.artifacts.executor import Runner
from lago_skills.commands.stage_run import StageRun, fetch_earlier, pending_jobs, run_here, say
from lago_skills.commands.stages import STAGES, require_earlier, require_success
from lago_skills.errors import ServerError
from lago_skills.flows.local_server.server import PrefectServer, loopback_works
from lago_skills.stages.workspace import Workspace, exclusive

QUICK = ("plan", "build")
"""Stages of a second: alone, they do without a server, whose start takes far longer in a new project."""
POLL_S = 0.05


def all_done(space: Workspace, stages: Sequence[str]) -> bool:
    """Whether there is nothing to do, found out before any server is started.

    Raises:
        LagoError: an input of the first unfinished stage is missing or damaged.
    """
    return all(job.done for stage in stages for job in STAGES[stage](space))


def run_stages(
    space: Workspace, stages: Sequence[str], runner: Runner, flow: Callable[[Sequence[str]], object]
) -> None:
    """Run stages, the rest of them as `flow(rest)` from when a Prefect server is up.

    Work begins at once and does not wait for the project's server to start: stages that are finished by then are shown by the flow as
    done, and if all are, there is no flow. One quick stage needs no server, unless one is configured.

    Raises:
        LagoError: what a stage raised.
        ServerError: the configured server does not answer, or is of another version. Without the project's own all is run as well.
        StudyBusy: another command is at work on the study.
    """
    store = runner.opened_store()
    if store is not None:
        fetch_earlier(space, stages[0], store)
    require_earlier(space, stages[0])
    require_success(space, stages)
    if all_done(space, stages):
        for stage in stages:
            pending_jobs(space, stage, store)  # says so
        return
    with exclusive(space):
        quick = len(stages) == 1 and stages[0] in QUICK and not os.environ.get("PREFECT_API_URL")
        if quick or not loopback_works():
            if not quick:
                say("no loopback network here: running the stages without Prefect's server")
                _without_server(space, stages, runner)
            else:
                run_here(space, stages[0], store)
            return
        with PrefectServer(space.root) as server:
            begun = _until_it_is_up(server, space, stages, runner)
            if begun is None:
                return
            with begun:
                try:
                    address = server.wait()
                except ServerError as error:
                    say(f"running the stages without Prefect's server: {error}")
                    begun.results()
                else:
                    _as_flow(address, begun, lambda: flow(stages))
                    return
            _without_server(space, stages, runner)


def _without_server(space: Workspace, stages: Sequence[str], runner: Runner) -> None:
    for stage in stages:
        with StageRun(space, stage, runner) as run:
            run.results()


def _until_it_is_up(server: PrefectServer, space: Workspace, stages: Sequence[str], runner: Runner) -> StageRun | None:
    """Run stages until the server is up; the one that is at work then, or None where all are done."""
    for stage in stages:
        run = StageRun(space, stage, runner)
        try:
            while not run.finished and not server.up:
                time.sleep(POLL_S)
            if not run.finished:
                return run
        except BaseException as error:
            run.__exit__(type(error), error, None)
            raise
        with run:
            run.results()
    return None


def _as_flow(address: str, begun: StageRun, flow: Callable[[], object]) -> None:
    say(f"Prefect: {address.removesuffix('/api')}")
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from lago_skills.flows.running import attach

    attach(begun)
    try:
        # Joining the heartbeat thread costs about a second per flow.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            flow()
    finally:
        _send_logs()


def _send_logs() -> None:
    """Hand Prefect's queued log lines over while its server is still there."""
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
