"""docs/reference/commands.md: every command of `lago` with its options, from the parsers that read them; `python -m tests.docs --write` puts it there."""

# argparse has no public names for what a parser consists of.
# pyright: reportPrivateUsage=false, reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator

from lago_skills.commands.cli import parser

Subcommands = argparse._SubParsersAction
HIDDEN = (argparse._HelpAction, argparse._SubParsersAction)
RUNNER = {"runner", "dask", "store", "time_limit"}
"""Options that many commands share, told in full of the first of them."""


def commands(program: argparse.ArgumentParser, about: str = "") -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """A program and all commands below it, each with what its parent says of it."""
    yield program, about
    for action in program._actions:
        if isinstance(action, Subcommands):
            said = {each.dest: each.help or "" for each in action._choices_actions}
            for name, command in action.choices.items():
                yield from commands(command, said.get(name, ""))


def how_written(action: argparse.Action) -> str:
    """An option or argument as one types it: `--seeds N,M`, `STUDY`, `{ws,http}`."""
    values = "{" + ",".join(str(each) for each in action.choices) + "}" if action.choices else ""
    if isinstance(action.metavar, str):
        values = action.metavar
    if not action.option_strings:
        return f"`{values or action.dest.upper()}`"
    takes_value = action.nargs != 0
    value = (values or action.dest.strip("_").upper()) if takes_value else ""
    if action.nargs == "?":
        value = f"[{value}]"
    return ", ".join(f"`{option} {value}`" if value else f"`{option}`" for option in action.option_strings)


def meaning(action: argparse.Action) -> str:
    """What the parser says of it, and its default where the text does not."""
    said = (action.help or "").replace("|", "\\|").replace("<", "&lt;")
    default = action.default
    shown = (
        default not in (None, False, True, argparse.SUPPRESS, []) and "default" not in said and action.option_strings
    )
    return f"{said} (default: `{default}`)" if shown else said


def section(command: argparse.ArgumentParser, about: str, first: str) -> list[str]:
    """Heading, usage and options of one command; `first` is the one of which the shared options are told in full."""
    level = "##" if command.prog.count(" ") < 2 else "###"
    actions = [each for each in command._actions if not isinstance(each, HIDDEN)]
    usage = command.format_usage().rstrip().replace("usage: ", "       ", 1)
    title = f"{about[:1].upper()}{about[1:]}." if about else (command.description or "")
    lines = ["", f"{level} `{command.prog}`", "", title, "", "```text", textwrap.dedent(usage), "```"]
    shared = [] if command.prog == first else [each for each in actions if each.dest in RUNNER]
    rows = [f"| {how_written(each)} | {meaning(each)} |" for each in actions if each not in shared]
    if shared:
        where = first.replace(" ", "-")
        rows.append(
            f"| {', '.join(f'`{each.option_strings[0]}`' for each in shared)} | where work is done: as of [{first}](#{where}) |"
        )
    return [*lines, "", "| | |", "|---|---|", *rows] if rows else lines


def page() -> str:
    """The reference in Markdown."""
    known = list(commands(parser()))
    first = next(command.prog for command, _ in known if any(each.dest in RUNNER for each in command._actions))
    return "\n".join(line for command, about in known for line in section(command, about, first))[1:]
