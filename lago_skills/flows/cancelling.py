"""A run that somebody cancels on Prefect's page, or through its API, stops within seconds, also where no worker of Prefect started it."""

# Prefect's clients lose the types of what they return.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from lago_skills.commands.stage_run import say

LOOK_EVERY_S = 2.0
CANCELLED = (StateType.CANCELLING, StateType.CANCELLED)


@contextmanager
def interrupted_if_cancelled() -> Generator[None]:
    """Interrupt the block, as Ctrl-C does, when its flow run or the one that it is part of is cancelled.

    Runs of a deployment are left to Prefect, which ends their process. Off the main thread there is nothing to interrupt.
    """
    context = FlowRunContext.get()
    deployed = context is not None and context.flow_run is not None and context.flow_run.deployment_id is not None
    if deployed or flow_run.parent_deployment_id or threading.current_thread() is not threading.main_thread():
        yield
        return
    runs = [UUID(each) for each in (flow_run.id, flow_run.parent_flow_run_id) if each]
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(runs, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _watch(runs: list[UUID], over: threading.Event) -> None:
    with get_client(sync_client=True) as client:
        while not over.wait(LOOK_EVERY_S):
            try:
                states = [client.read_flow_run(run).state for run in runs]
            except Exception:  # the server is busy or gone: whoever works needs it sooner and says so
                continue
            if any(state is not None and state.type in CANCELLED for state in states) and not over.is_set():
                say("cancelled on Prefect's side: stopping (what is finished is kept)")
                os.kill(os.getpid(), signal.SIGINT)
                return
