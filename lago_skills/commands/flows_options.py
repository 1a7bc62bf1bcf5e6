"""The options of `lago flows`; what they do is the flows package's, which knows Prefect."""

from __future__ import annotations

import argparse
from typing import Any

from lago_skills.commands import runner_options
from lago_skills.commands.study_argument import add_study


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "flows", help="Prefect: keep its server open, run a study on a schedule, tell of failures, remove old runs"
    )
    actions: Any = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("ui", help="keep the project's Prefect server open, to look at runs, until Ctrl-C")
    serve: argparse.ArgumentParser = actions.add_parser(
        "serve", help="wait here for runs of a study, started by a schedule, Prefect's page or its API, until Ctrl-C"
    )
    add_study(serve)
    when = serve.add_mutually_exclusive_group()
    when.add_argument("--cron", metavar="'0 2 * * *'", help="when to run it, as cron says it")
    when.add_argument("--every", type=float, metavar="SECONDS", help="how often to run it")
    runner_options.add_options(serve, workers="jobs at the same time (default: as many as the study says)")
    watch: argparse.ArgumentParser = actions.add_parser(
        "watch",
        help="have the server start a deployment whose run crashed once more, and tell somebody of runs that failed",
    )
    watch.add_argument("--webhook", metavar="URL", help="who is told: JSON with `subject` and `text` is sent there")
    clean: argparse.ArgumentParser = actions.add_parser(
        "clean", help="remove runs that ended long ago from Prefect's database; artifacts and recorded decisions stay"
    )
    clean.add_argument("--keep-days", type=float, default=30.0, metavar="N", help="younger ones stay (default: 30)")
    clean.add_argument("--json", action="store_true", help="print one JSON object, nothing else, on standard output")
