"""`lago picture KIND STUDY`: one picture of a study, as PNG or SVG, or a film of it as GIF."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lago_skills.commands.study_argument import add_study
from lago_skills.errors import StudyError

if TYPE_CHECKING:
    from lago_skills.stages.workspace import Workspace

KINDS = {
    "curves": "success over steps, with intervals over seeds",
    "success": "a field for each task and method",
    "latents": "the library's skills on a plane",
    "timeline": "skills by weight over an episode",
    "reliability": "whether the decoder's spreads are right",
    "growth": "versions of a grown library: its size, and what became of old tasks",
    "animation": "an episode of the library alone, with the skill at work in words on each frame (GIF)",
    "stream": "a stream of tasks on record in table T6: success of each task after each stage",
    "shadowing": "success with 10 and 100 times as many skills, as table shadowing has it",
}


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "picture", help="one picture of a study as PNG or SVG, in colours that colour-blind people tell apart"
    )
    parser.add_argument(
        "kind", choices=tuple(KINDS), help="; ".join(f"{name}: {about}" for name, about in KINDS.items())
    )
    add_study(parser)
    parser.add_argument("--task", help="of one task alone (default: of all; for timeline: the first demonstrated one)")
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="a file that ends in .png or .svg, of an animation in .gif (default: STUDY-KIND.svg or .gif)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else, on standard output")


def picture_command(space: Workspace, options: argparse.Namespace) -> None:
    """Draw it into a file.

    Raises:
        StudyError: the file is to be of another format.
        ArtifactMissing: what it would show has not been made.
    """
    from lago_skills.report import plots
    from lago_skills.report.study_pictures import PICTURES

    formats = ("gif",) if options.kind == "animation" else ("svg", "png")
    path: Path = options.to or Path(f"{space.study.name}-{options.kind}.{formats[0]}")
    name = path.suffix.removeprefix(".").lower()
    if name not in formats:
        endings = " or ".join(f".{each}" for each in sorted(formats))
        raise StudyError(f"found --to {str(path)!r}; expected a name that ends in {endings}; correct it")
    with plots.as_format("png" if name == "png" else "svg"):
        image = PICTURES[options.kind](space, options.task)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image)
    if options.json:
        print(json.dumps({"rows": [], "summary": {"picture": str(path), "bytes": len(image)}}))  # noqa: T201
        return
    print(f"picture: {path}", file=sys.stderr)  # noqa: T201
