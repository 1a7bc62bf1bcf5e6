"""The command lines of `lago bundle`, `lago guide` and `lago serve`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

COMMANDS = ("bundle", "guide", "serve")
UNFAMILIAR = "in states unlike the training's: hold still, answer all the same, or refuse (default: hold; answer where actions are discrete)"


def add_parsers(commands: Any) -> None:
    """All three."""
    _bundle(commands)
    _guide(commands)
    _serve(commands)


def run(options: argparse.Namespace) -> int:
    """The command that was asked for; its exit code."""
    if options.command == "bundle":
        from lago_skills.commands.bundles.bundle import bundle_command

        return bundle_command(options)
    if options.command == "guide":
        from lago_skills.commands.bundles.guide import guide_command

        guide_command(options)
        return 0
    from lago_skills.commands.bundles.serve import serve_command

    serve_command(options)
    return 0


def _bundle(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "bundle",
        help="what a robot loads: make it of a study, inspect, verify, compare, write as ONNX",
        usage="lago bundle make STUDY [--trained] [--to PATH]\n       lago bundle {inspect,verify} BUNDLE\n       lago bundle diff BUNDLE BUNDLE\n       lago bundle onnx BUNDLE --task TASK [--to FILE]",
    )
    parser.add_argument("action", choices=("make", "inspect", "verify", "diff", "onnx"))
    parser.add_argument("what", help="with make a study, else a bundle: a folder, or the one file that make writes")
    parser.add_argument("other", nargs="?", type=Path, help="with diff: the later bundle")
    parser.add_argument(
        "--to",
        type=Path,
        help="with make: where to write it; a name that ends in .zip is one file (default: STUDY.zip); with onnx: the file (default: TASK.onnx)",
    )
    parser.add_argument("--task", help="with onnx: id of a task, its sentence, or a recorded wording")
    parser.add_argument(
        "--trained",
        action="store_true",
        help="with make: put the best finished run of each trained task into it; it leads there",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else, on standard output")


def _guide(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "guide", help="one prior, explained: which step, which skills, what they do"
    )
    parser.add_argument("bundle", type=Path, help="a folder, or the one file that lago bundle make writes")
    parser.add_argument(
        "--task", help="id of a task, its sentence, or a recorded wording (not needed where there is one)"
    )
    parser.add_argument(
        "--obs",
        required=True,
        help="observations, (S,) or (B, S): a file .npy, .json, .csv; - for JSON on standard input",
    )
    parser.add_argument("--unfamiliar", choices=("hold", "answer", "refuse"), help=UNFAMILIAR)
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else, on standard output")


def _serve(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve", help="guidance over websocket and HTTP on this machine"
    )
    parser.add_argument(
        "bundle", type=Path, help="a folder, or the one file that lago bundle make writes; followed when it changes"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; beyond this machine only with a token (default: 127.0.0.1)",
    )
    parser.add_argument("--port", type=int, default=8765, help="0: any that is free (default: 8765)")
    parser.add_argument(
        "--unix-socket", type=Path, metavar="PATH", help="listen at a Unix socket, for this user alone, instead"
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="ask for the token that is in this file (or in LAGO_TOKEN)"
    )
    parser.add_argument("--tls-certificate", type=Path, metavar="PEM", help="serve over TLS, with --tls-key")
    parser.add_argument("--tls-key", type=Path, metavar="PEM")
    parser.add_argument(
        "--library", type=Path, metavar="FOLDER", help="follow this skill library instead of the bundle's frozen copy"
    )
    parser.add_argument(
        "--study", metavar="STUDY", help="show the study behind the bundle too: its episodes, numbers, runs at work"
    )
    parser.add_argument(
        "--edit",
        action="store_true",
        help="let the pages change the library of --library or --study (needs the extra text; whoever changes something needs the token)",
    )
    parser.add_argument("--no-pages", action="store_true", help="guidance alone, without the explorer")
    parser.add_argument("--unfamiliar", choices=("hold", "answer", "refuse"), help=UNFAMILIAR)
    parser.add_argument("--max-bytes", type=int, default=16_000_000, help="of one question (default: 16000000)")
