"""`lago bench`: speed, beside the peer that a user would pick, in one run."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any


def add_parser(commands: Any) -> None:
    """The command line of `lago bench`."""
    top = commands.add_parser("bench", help="speed, beside the peer a user would pick, in one run")
    top.add_argument("what", choices=["library"], help="library: searches, adds, size, beside plain FAISS")
    top.add_argument("--sizes", type=_sizes, help="numbers of skills (default: 1000,10000,100000,1000000)")
    top.add_argument("--json", action="store_true", help="print one JSON object, nothing else, on standard output")


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(float(part)) for part in text.split(","))
    if not sizes or sizes[0] < 100 or list(sizes) != sorted(set(sizes)):
        raise argparse.ArgumentTypeError(
            f"found {text!r}; expected growing numbers of at least 100, such as 1000,100000"
        )
    return sizes


def bench_command(options: argparse.Namespace) -> None:
    """Measure and print."""
    from lago_skills.bench_library import SIZES, bench

    rows, summary = bench(options.sizes or SIZES, lambda text: print(text, file=sys.stderr, flush=True))  # noqa: T201
    if options.json:
        print(json.dumps({"rows": rows, "summary": summary}))  # noqa: T201
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", *(f"{row['size']:,}" for row in rows))
    for name in rows[0]:
        if name != "size":
            table.add_row(name, *(f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for row in rows))
    Console().print(table)
