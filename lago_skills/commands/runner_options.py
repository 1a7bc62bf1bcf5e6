"""The options that say where work is run, and how long a piece of it may take."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, get_args

from lago_skills.artifacts.calls import RunnerName
from lago_skills.errors import StudyError

if TYPE_CHECKING:
    from lago_skills.artifacts.executor import Runner


def add_options(parser: Any, *, workers: str) -> None:
    """Add them to a command; `workers` says what there are so many of."""
    parser.add_argument(
        "--runner",
        choices=get_args(RunnerName),
        default="processes",
        help="where work is done: processes of this machine (default), or a Dask cluster",
    )
    parser.add_argument("--workers", type=int, metavar="N", help=workers)
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="with --runner dask: a scheduler, such as tcp://10.0.0.1:8786 (default: a cluster of its own on this machine)",
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        help="artifacts are shared with other machines through this place, such as s3://bucket/folder (default: machines share the project folder)",
    )
    parser.add_argument(
        "--time-limit", type=float, metavar="SECONDS", help="stop a piece of work that takes longer (default: none)"
    )


def runner_of(options: argparse.Namespace) -> Runner:
    """What the options say.

    Raises:
        StudyError: an impossible number.
        LagoError: an address for workers that have none.
    """
    from lago_skills.artifacts.executor import Runner
    from lago_skills.study.config import MAX_WORKERS

    if options.workers is not None and not 1 <= options.workers <= MAX_WORKERS:
        raise StudyError(f"found number of workers {options.workers}; expected 1 to {MAX_WORKERS}; correct it")
    if options.time_limit is not None and not options.time_limit > 0:
        raise StudyError(f"found --time-limit {options.time_limit:g}; expected seconds above 0; correct it")
    return Runner(options.runner, options.workers, options.dask, options.time_limit, options.store)
