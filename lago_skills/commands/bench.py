"""`lago bench`: speed, beside the peer that a user would pick, in one run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lago_skills.commands.tables import say
from lago_skills.worlds import DEFAULT


def add_parser(commands: Any) -> None:
    """The command line of `lago bench`."""
    top = commands.add_parser("bench", help="speed, beside the peer a user would pick, in one run")
    top.add_argument(
        "what",
        choices=["library", "decoder", "train", "guide", "serve"],
        help="guide: one prior of a bundle, beside torch, and what a live model would cost; serve: the same over websocket and HTTP, beside a bare server; "
        "library: searches, adds, size, beside plain FAISS; decoder: seconds to label, embed and train as demonstrations grow; train: guided PPO and SAC beside "
        "Stable-Baselines3's plain ones",
    )
    top.add_argument(
        "--sizes",
        type=_sizes,
        help="library, guide: numbers of skills (default: 1000,10000,100000,1000000; guide: 12,10000,1000000)",
    )
    top.add_argument("--demos", type=_counts, help="decoder: demonstrations of each task (default: 1,2,5,10)")
    top.add_argument("--study", default=DEFAULT, help=f"decoder: whose tasks and settings (default: {DEFAULT})")
    top.add_argument("--bundle", type=Path, help="train, guide, serve: what guides (default: checkpoints/demo/bundle)")
    top.add_argument("--task", help="guide, serve: of the bundle (default: its first)")
    top.add_argument(
        "--tokens-per-s", type=float, default=60.0, help="guide: how fast a live model would answer (default: 60)"
    )
    top.add_argument("--usd-in", type=float, default=3.0, help="guide: its price of a million tokens in (default: 3)")
    top.add_argument("--usd-out", type=float, default=15.0, help="guide: and out (default: 15)")
    top.add_argument("--json", action="store_true", help="print one JSON object, nothing else, on standard output")


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(float(part)) for part in text.split(","))
    if not sizes or sizes[0] < 10 or list(sizes) != sorted(set(sizes)):
        raise argparse.ArgumentTypeError(
            f"found {text!r}; expected growing numbers of at least 10, such as 1000,100000"
        )
    return sizes


def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(int(part) for part in text.split(","))
    if not all(1 <= count <= 1000 for count in counts):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected numbers from 1 to 1000, such as 1,10")
    return counts


def _measure(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    if options.what == "library":
        from lago_skills.experiments.benches import library_speed

        return library_speed.bench(options.sizes or library_speed.SIZES, say)
    if options.what == "train":
        import torch

        from lago_skills.experiments.benches import training_speed

        torch.set_num_threads(1)
        return training_speed.bench(options.bundle or options.root.resolve() / "checkpoints/demo/bundle", say=say)
    if options.what in ("guide", "serve"):
        from lago_skills.commands.bundles.bench import measure

        return measure(options, say)
    from lago_skills.experiments.benches import decoder_cost
    from lago_skills.stages.workspace import Workspace
    from lago_skills.study import load_study, study_path

    root = options.root.resolve()
    path = study_path(options.study, root)
    return decoder_cost.bench(
        Workspace(root, path.resolve(), load_study(path)), options.demos or decoder_cost.COUNTS, say
    )


def bench_command(options: argparse.Namespace) -> None:
    """Measure and print."""
    rows, summary = _measure(options)
    if options.json:
        print(json.dumps({"rows": rows, "summary": summary}))  # noqa: T201
        return
    from rich.console import Console
    from rich.table import Table

    first = next(iter(rows[0]))
    table = Table(first, *(_cell(row[first]) for row in rows))
    for name in rows[0]:
        if name != first:
            table.add_row(name, *(_cell(row[name]) for row in rows))
    Console().print(table)
    if "bill" in summary:
        print(_bill(summary["bill"]))  # noqa: T201


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _bill(bill: dict[str, Any]) -> str:
    """One episode's guidance beside a model that would be asked at each step."""
    return (
        f"an episode of {bill['steps']} steps: {bill['guide_s']:g} s of guidance; a live model asked at each step, {bill['tokens_per_s']:g} tokens/s: {bill['live_s']:,} s, "
        f"{bill['live_tokens_in']:,} tokens in and {bill['live_tokens_out']:,} out, {bill['live_usd']:,} USD at {bill['usd_per_million_in']:g} and {bill['usd_per_million_out']:g} a million"
    )
