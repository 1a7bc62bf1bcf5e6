"""How lines and tables are printed: whole and plain in a pipe; on a terminal within its width, with nothing cut off."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

WHOLE = 10_000
"""Characters of a line in a pipe: nothing is wrapped there."""
LEAST_WIDTH = 40
_LEAD = re.compile(r"\s*\S+ {2,}(?:\S+ {2,})?")


def print_lines(lines: Iterable[str]) -> None:
    """Lines for people. On a terminal those that are too long go on under where their text began, after an id and a version."""
    terminal = sys.stdout.isatty()
    width = max(shutil.get_terminal_size().columns, LEAST_WIDTH)
    for line in lines:
        print(wrapped(line, width) if terminal else line)  # noqa: T201


def wrapped(line: str, width: int) -> str:
    """A line within a width; what does not fit goes on under its text."""
    if len(line) <= width:
        return line
    lead = _LEAD.match(line)
    indent = " " * min(len(lead.group()) if lead else 2, width // 3)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=indent,
        drop_whitespace=True,
        replace_whitespace=False,
        break_on_hyphens=False,
    )


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table whose first column is never cut. Columns that have nothing in any row are left out; others are folded where the terminal is too narrow."""
    from rich.console import Console
    from rich.table import Table

    lines = [list(row) for row in rows]
    used = [place for place, _ in enumerate(columns) if not place or any(line[place] for line in lines)]
    table = Table(padding=(0, 1), collapse_padding=True)
    for place in used:
        table.add_column(columns[place], no_wrap=not place, overflow="fold")
    for line in lines:
        table.add_row(*(line[place] for place in used))
    console = Console() if sys.stdout.isatty() else Console(width=WHOLE)
    console.print(table)
