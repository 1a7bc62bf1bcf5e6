"""`lago guide`: what a bundle says of some states, and why."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import DataError

if TYPE_CHECKING:
    from lago_skills.guide.explanation import Explanation


def guide_command(options: argparse.Namespace) -> None:
    """Print an explanation for each state.

    Raises:
        DataError: the observations cannot be read.
    """
    from lago_skills.guide.loaded import load

    guide = load(options.bundle, unfamiliar=options.unfamiliar)
    explanations = guide.task(options.task).explain(observations(options.obs))
    if options.json:
        rows = [each.as_json() for each in explanations]
        print(json.dumps({"rows": rows, "summary": {"bundle": guide.digest, "states": len(rows)}}))  # noqa: T201
        return
    for number, each in enumerate(explanations):
        print("\n".join(_lines(number, each, len(explanations))))  # noqa: T201


def observations(source: str) -> NDArray[np.float64]:
    """(B, S) observations of a file, or of standard input.

    Raises:
        DataError: there are none.
    """
    try:
        rows = np.asarray(_read(source), np.float64)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"found no observations in {source!r} ({error}); expected numbers (S,) or (B, S), as .npy, .json or .csv; convert them"
        ) from error
    return rows[None] if rows.ndim == 1 else rows


def _read(source: str) -> Any:
    if source == "-":
        return json.load(sys.stdin)
    path = Path(source)
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    return np.loadtxt(path, delimiter=",", ndmin=2)


def _lines(number: int, each: Explanation, n: int) -> list[str]:
    head = f"state {number}: " if n > 1 else ""
    lines = [f"{head}{each.task}, step {each.step} of {each.n_steps}: {each.sentence}"]
    lines += [f"  because {text}" for text in each.why]
    lines += [f"  next: {text}" for text in each.switches[:3]]
    if each.target:
        lines.append(f"  heads for {_numbers(each.target)}")
    lines += [f"  {share.weight:6.1%}  {share.id}  {share.sentence}  {_numbers(share.action)}" for share in each.skills]
    acts = _numbers(each.action) if isinstance(each.action, list) else str(each.action)
    by = "" if each.leader == "library" else f" by the policy of {each.leader}"
    lines.append(f"  action{by} {acts}, spread {_numbers(each.spread)}")
    familiar = "unfamiliar" if each.unfamiliarity > 1.0 else "familiar"
    lines.append(f"  {familiar} (unfamiliarity {each.unfamiliarity:.2f}; beyond 1 nothing is known)")
    return lines


def _numbers(values: list[float]) -> str:
    return "(" + ", ".join(f"{value:+.3f}" for value in values) + ")"
