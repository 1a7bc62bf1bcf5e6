"""The options of `lago grow`, apart from what they do, so that `lago --help` loads nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lago_skills.commands.study_argument import add_study


def add_parser(commands: Any) -> None:
    """The command line of `lago grow`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "grow",
        help="a built library takes in a task more, or episodes of one; versions, and the way back",
        usage="lago grow STUDY --task TASK [--data FILE ...] [--from-runs] [--learn STEPS]\n       lago grow STUDY --unnamed [--live | --export FILE | --import FILE]\n       lago grow STUDY --tidy [--cap N] [--dry-run]\n       lago grow STUDY --list | --use NUMBER",
    )
    add_study(parser)
    parser.add_argument(
        "--task",
        action="append",
        default=[],
        help="id or sentence of a task of the study's world; may be repeated: one after the other",
    )
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="episodes of the task: a file or the folder of a dataset; may be repeated",
    )
    parser.add_argument(
        "--success", default="recorded", help="with --data: how an episode shows that it succeeded (default: recorded)"
    )
    parser.add_argument(
        "--from-runs", action="store_true", help="successful episodes of the study's finished training runs of the task"
    )
    parser.add_argument(
        "--learn",
        type=int,
        default=0,
        metavar="STEPS",
        help="then learn the task online with the new version's advice, and grow by what succeeded",
    )
    parser.add_argument(
        "--refresh",
        choices=("auto", "always", "never"),
        default="auto",
        help="train the decoder: where it has something to learn (default), always, never",
    )
    parser.add_argument(
        "--refresh-how",
        choices=("auto", "onward", "anew"),
        default="auto",
        help="onward from the decoder before, so that old skills stay nearly as they were; anew from random weights; auto (default): onward, and anew where an old task falls or the new one is not done",
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=0.05,
        help="by so much an old task may do worse before a person decides (default: 0.05)",
    )
    parser.add_argument(
        "--episodes",
        type=int,
        default=10,
        help="of each old task that is played; the new one has twice as many (default: 10)",
    )
    parser.add_argument(
        "--episodes-again", type=int, default=100, help="of a task that seems to do worse (default: 100)"
    )
    parser.add_argument(
        "--spot-tasks",
        type=int,
        default=10,
        metavar="N",
        help="N old tasks are played: those that fail now and then, then those that changed most (default: 10)",
    )
    parser.add_argument(
        "--harvest",
        type=int,
        default=10,
        metavar="N",
        help="with --learn: the N quickest successes are taken in (default: 10)",
    )
    parser.add_argument(
        "--unnamed",
        action="store_true",
        help="name what the library's sentences do not explain of its demonstrations: asks, as for plans, with --live, --export or --import",
    )
    parser.add_argument(
        "--tidy",
        action="store_true",
        help="retire skills that no plan looks up, and merge those that say and do the same",
    )
    parser.add_argument(
        "--cap", type=int, metavar="N", help="with --tidy: so many skills may stay, those looked up most"
    )
    parser.add_argument("--dry-run", action="store_true", help="with --tidy: say what would be done, and stop")
    parser.add_argument("--list", action="store_true", help="the versions there are")
    parser.add_argument("--use", type=int, metavar="NUMBER", help="put a version in use, an earlier or a held one")
    _asking(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else, on standard output")


def _asking(parser: argparse.ArgumentParser) -> None:
    """How the task's plan is asked for; by default a recorded answer is taken."""
    parser.add_argument("--live", action="store_true", help="ask a language model for the plan first")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write what is to be asked, and stop")
    parser.add_argument("--import", dest="import_", type=Path, metavar="FILE", help="record answers, and stop")
    parser.add_argument("--model", help="with --live and --import: whose answers they are")
    parser.add_argument("--source", default="recorded by hand", help="with --import: how the answers were got")
    parser.set_defaults(repair=True, wordings=False, direct=False, segments=False, again=None)
