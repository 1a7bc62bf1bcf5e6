"""`lago lineage STUDY [WHAT]`: what a number was made from, down to the answer and the demonstration, or what was made from these."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from lago_skills.commands.study_argument import add_study

if TYPE_CHECKING:
    from lago_skills.stages.lineage import Node
    from lago_skills.stages.workspace import Workspace


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "lineage",
        help="what a number of the report was made from, down to answers and demonstrations; or the other way",
    )
    add_study(parser)
    parser.add_argument(
        "what",
        nargs="?",
        default="report",
        help="a row of the report as TASK/METHOD/SEED (TASK/library for the library alone), an artifact such as bundle, decoder or episodes/TASK, "
        "a recorded answer as answers/TASK, or the beginning of a hash (default: report)",
    )
    parser.add_argument("--down", action="store_true", help="what was made from it, instead of what it was made from")
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else, on standard output")


def lineage_command(space: Workspace, options: argparse.Namespace) -> None:
    """Print the way from something to all that it was made from, or that was made from it.

    Raises:
        StudyError: there is no such thing.
        ArtifactCorrupt: a manifest cannot be read.
    """
    from lago_skills.stages.lineage import Lineage

    lineage = Lineage.of(space)
    start = lineage.find(str(options.what))
    if options.json:
        nodes = lineage.reached(start, down=options.down)
        rows = [{"name": each.name, "hash": each.digest, "about": each.about} for each in nodes]
        edges = [[each.name, other] for each in nodes for other in lineage.next(each.name, down=options.down)]
        print(json.dumps({"rows": rows, "summary": {"of": start, "down": options.down, "edges": edges}}))  # noqa: T201
        return
    seen: set[str] = set()

    def show(name: str, depth: int) -> None:
        node: Node = lineage.nodes[name]
        again = " (see above)" if name in seen else ""
        print(f"{'  ' * depth}{name}  {node.digest[:12]}  {node.about}".rstrip() + again)  # noqa: T201
        if name not in seen:
            seen.add(name)
            for other in lineage.next(name, down=options.down):
                show(other, depth + 1)

    show(start, 0)
