"""The entry point of `lago`: hands the command line a way to run stages, loaded only when a command needs it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lago_skills.commands.cli import main as run_cli

if TYPE_CHECKING:
    from lago_skills.stages.workspace import Workspace


def run_stages(space: Workspace, stages: list[str]) -> None:
    """Run stages as flows.

    Raises:
        LagoError: what a stage raised.
    """
    from flows.run import run_stages as run

    def flow() -> None:
        from flows.pipeline import FLOWS, pipeline

        if len(stages) == 1:
            FLOWS[stages[0]](str(space.study_file), str(space.root))
        else:
            pipeline(str(space.study_file), str(space.root), stages)

    run(space, stages, flow)


def main() -> None:
    """`lago`."""
    sys.exit(run_cli(sys.argv[1:], run_stages))


if __name__ == "__main__":
    main()
