"""The entry point of `lago`: hands the command line a way to run stages, loaded only when a command needs it."""

# Prefect's decorators lose the types of what they wrap.
# pyright: reportArgumentType=false

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lago_skills.commands.cli import main as run_cli

if TYPE_CHECKING:
    from lago_skills.artifacts.executor import Runner
    from lago_skills.stages.workspace import Workspace


def run_stages(space: Workspace, stages: Sequence[str], runner: Runner) -> None:
    """Run stages of a study in order.

    Raises:
        LagoError: what a stage raised.
    """
    from lago_skills.flows.run import run_stages as run

    def flow(rest: Sequence[str]) -> None:
        from lago_skills.flows.pipeline import pipeline
        from lago_skills.flows.stages import FLOWS

        where = (runner.name, runner.n_workers, runner.address, runner.limit_s, runner.store)
        if len(rest) == 1:
            FLOWS[rest[0]](str(space.study_file), space.root, *where)
        else:
            pipeline(str(space.study_file), space.root, list(rest), *where)

    run(space, stages, runner, flow)


def flows_command(options: argparse.Namespace) -> None:
    """`lago flows`.

    Raises:
        LagoError: what it raised.
    """
    from lago_skills.flows.deployments import flows_command as command

    command(options)


def main() -> None:
    """`lago`."""
    sys.exit(run_cli(sys.argv[1:], run_stages, flows_command))


if __name__ == "__main__":
    main()
