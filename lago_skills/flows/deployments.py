"""`lago flows`: the project's server kept open, a study that runs on a schedule, and a database that does not grow for ever."""

# Prefect's decorators lose the types of what they wrap.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import argparse
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from lago_skills.commands.runner_options import runner_of
from lago_skills.commands.stage_run import say
from lago_skills.errors import StudyError
from lago_skills.flows.local_server.server import PrefectServer
from lago_skills.study import load_study, study_path

HTTP = ("http", "https")
PAGE = 200
"""Runs that the API returns at a time."""


def flows_command(options: argparse.Namespace) -> None:
    """Do what `lago flows ACTION` says, on the server at `PREFECT_API_URL` or the project's own.

    Raises:
        StudyError: there is no such study, or an option makes no sense.
        ServerError: no server could be had.
    """
    root = Path(options.root).resolve()
    action = {"ui": _ui, "serve": _serve, "watch": _watch, "clean": _clean}[str(options.action)]
    if options.action == "serve":
        _check(root, options)
    if options.action == "watch" and options.webhook is not None and urlsplit(options.webhook).scheme not in HTTP:
        raise StudyError(
            f"found --webhook {options.webhook!r}; expected an address that begins with http:// or https://; correct it"
        )
    with PrefectServer(root, logs=options.action == "serve") as server:
        say(f"Prefect: {server.wait().removesuffix('/api')}")
        action(root, options)


def _ui(root: Path, options: argparse.Namespace) -> None:
    say("Ctrl-C to stop")
    threading.Event().wait()


def _check(root: Path, options: argparse.Namespace) -> None:
    load_study(study_path(options.study, root))
    runner_of(options)
    if options.every is not None and not options.every >= 60:
        raise StudyError(f"found --every {options.every:g}; expected 60 seconds or more; correct it")
    if options.cron is not None:
        from prefect.client.schemas.schedules import CronSchedule

        try:
            CronSchedule(cron=options.cron)
        except ValueError as error:
            raise StudyError(
                f"found --cron {options.cron!r}; expected five fields as cron has them, such as '0 2 * * *' for two at night; correct it"
            ) from error


def _serve(root: Path, options: argparse.Namespace) -> None:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy

    from lago_skills.flows.pipeline import pipeline

    runner = runner_of(options)
    path = study_path(options.study, root).resolve()
    parameters: dict[str, Any] = {
        "study": str(path),
        "root": str(root),
        "runner": runner.name,
        "workers": runner.n_workers,
        "dask_address": runner.address,
        "time_limit_s": runner.limit_s,
        "store": runner.store,
    }
    pipeline.serve(
        name=path.stem,
        cron=options.cron,
        interval=options.every,
        parameters=parameters,
        tags=[path.stem],
        global_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        print_starting_message=True,
    )


def _watch(root: Path, options: argparse.Namespace) -> None:
    from lago_skills.flows.automations import watch

    for name in watch(options.webhook):
        say(f"automation set up: {name}")


def _clean(root: Path, options: argparse.Namespace) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterEndTime

    before = datetime.now(UTC) - timedelta(days=options.keep_days)
    old = FlowRunFilter(end_time=FlowRunFilterEndTime(before_=cast("Any", before)))
    n_removed = 0
    with get_client(sync_client=True) as client:
        while runs := client.read_flow_runs(flow_run_filter=old, limit=PAGE):
            for run in runs:
                client.delete_flow_run(run.id)
            n_removed += len(runs)
    say(f"removed {n_removed} runs that ended before {before:%Y-%m-%d %H:%M} UTC")
    if options.json:
        print(json.dumps({"rows": [], "summary": {"removed": n_removed, "before": before.isoformat()}}))  # noqa: T201
