"""The options of `lago skills`, apart from what they do, so that `lago --help` loads nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """The command line of `lago skills`."""
    top = commands.add_parser(
        "skills",
        help="a skill library: list, show, search, add, edit, disable, enable, merge, history, undo, verify, ...",
    )
    actions = top.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str, *, skill: bool = False) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(name, help=text)
        parser.add_argument(
            "library", metavar="LIBRARY", help="a study's name, or the folder of a library or of a bundle"
        )
        if skill:
            parser.add_argument("skill", metavar="SKILL", help="such as s0042 or 42")
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object, nothing else, on standard output"
        )
        parser.add_argument(
            "--timeout", type=float, default=10.0, help="seconds to wait for another writer (default: 10)"
        )
        parser.add_argument("--who", help="who is named in the history (default: the user)")
        return parser

    _reading(action)
    _changing(action)
    _keeping(action)


Action = Callable[..., argparse.ArgumentParser]


def _reading(action: Action) -> None:
    listing = action("list", "records, by id")
    listing.add_argument("--contains", default="", help="only sentences with this text")
    listing.add_argument("--task", help="only skills that come from this task")
    listing.add_argument("--disabled", action="store_true", help="only disabled ones")
    listing.add_argument("--after", default="0", metavar="SKILL", help="go on after this one")
    listing.add_argument("--limit", type=int, default=100, help="at most so many (default: 100)")
    action("show", "everything about one skill", skill=True)
    search = action("search", "nearest enabled skills: to words, to a latent, or in a state")
    search.add_argument("words", nargs="?", help="what the skill should do")
    search.add_argument("--latent", type=Path, metavar="FILE", help="JSON list or .npy with one latent")
    search.add_argument(
        "--obs", type=Path, metavar="FILE", help="JSON list or .npy with one observation; needs --task-of"
    )
    search.add_argument(
        "--task-of", metavar="TASK", help="with --obs: the task that is being done; its playbook is in the bundle"
    )
    search.add_argument("-k", type=int, default=8, help="how many (default: 8)")
    search.add_argument("--task", action="append", help="only skills that come from this task; may be repeated")
    history = action("history", "versions of a skill, or the latest changes of the library")
    history.add_argument("skill", nargs="?", metavar="SKILL")
    history.add_argument("--limit", type=int, default=20, help="at most so many changes (default: 20)")
    action("duplicates", "skills that do the same, in words and in behaviour", skill=True)


def _changing(action: Action) -> None:
    add = action("add", "add a skill by its sentence")
    add.add_argument("sentence", help="what the skill does, in a short sentence")
    add.add_argument("--task", action="append", default=[], help="a task that it is for; may be repeated")
    edit = action("edit", "change the words of a skill; its latent follows", skill=True)
    edit.add_argument("sentence", help="the new words")
    action("disable", "keep a skill, but let no search find it", skill=True)
    action("enable", "let searches find a disabled skill again", skill=True)
    merge = action("merge", "let one skill stand for others", skill=True)
    merge.add_argument("more", nargs="*", metavar="SKILL", help="more of them")
    merge.add_argument("--into", required=True, metavar="SKILL", help="the one that stands for them")
    undo = action("undo", "take a change back (the latest, without a number)")
    undo.add_argument("change", nargs="?", type=int, help="its number, as `history` has it")


def _keeping(action: Action) -> None:
    action("verify", "look for damage; exits with 1 if there is some")
    action("repair", "rebuild what can be rebuilt, and list what cannot")
    action("compact", "make the index anew and keep it on disk")
    for name, text in (
        ("export", "write all records as JSONL and safetensors"),
        ("copy", "a library of its own, with history"),
    ):
        action(name, text).add_argument("to", type=Path, metavar="FOLDER")
    action("import", "add the records of an export").add_argument("source", type=Path, metavar="FOLDER")
    action("diff", "what differs between two libraries").add_argument("other", metavar="OTHER")
    action("rollback", "put an earlier version of a study's grown library in use").add_argument("number", type=int)
