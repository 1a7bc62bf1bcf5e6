"""`lago bench guide` and `lago bench serve`: states that a task really visits, and what is measured on them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.worlds.rollouts import rollouts
from lago_skills.worlds.seeds import TRAIN_SEED

if TYPE_CHECKING:
    from lago_skills.guide.loaded import BundleGuide

N_STATES = 256
Rows = tuple[list[dict[str, Any]], dict[str, Any]]


def measure(options: argparse.Namespace, say: Callable[[str], None]) -> Rows:
    """Rows and their summary."""
    from lago_skills.guide.loaded import load

    root = options.root.resolve()
    path = options.bundle or root / "checkpoints/demo/bundle"
    with closing(load(path, unfamiliar="answer")) as guide:
        task = options.task or guide.tasks[0]
        states = visited(guide, guide.task(task).name)
    if options.what == "serve":
        from lago_skills.experiments.benches import serve_speed

        return serve_speed.bench(path, states, task, say)
    from lago_skills.experiments.benches import guide_speed

    rows, summary = guide_speed.bench(path, states, task, options.sizes or guide_speed.SIZES, say)
    live = guide_speed.Live(options.tokens_per_s, options.usd_in, options.usd_out)
    tokens = tokens_of(root, guide.guide.books[task].transcript_key)
    if tokens is not None:
        horizon = int(guide.description["tasks"][0]["horizon_steps"] or 200)
        summary["bill"] = guide_speed.bill(1e-6 * rows[0]["p50_us"], horizon, *tokens, live)
    return rows, summary


def visited(guide: BundleGuide, task: str) -> NDArray[np.float64]:
    """(N, S) states of episodes of the task that the guide leads, in the bundle's own world.

    Raises:
        StudyError: the environment is not installed.
    """
    assert guide.world is not None  # a bundle that can be loaded by its path alone has one
    known, rows = guide.task(task), list[NDArray[np.float64]]()

    def act(observations: NDArray[np.float64]) -> NDArray[Any]:
        rows.extend(observations)
        return known.act(observations)

    seed = TRAIN_SEED
    while len(rows) < N_STATES:
        rollouts(guide.world, guide.world.tasks[task], act, list(range(seed, seed + 4)), lambda n: None)
        seed += 4
    return np.stack(rows[:N_STATES])


def tokens_of(root: Path, key: str) -> tuple[float, float] | None:
    """Tokens of a recorded request and of its answer, estimated from their lengths where nobody counted them; None where it is not recorded here."""
    from lago_skills.experiments.benches.guide_speed import CHARS_PER_TOKEN
    from lago_skills.llm.transcripts import TranscriptFile

    for file in sorted((root / "data" / "transcripts").glob("*.jsonl")):
        for known in TranscriptFile(file).all():
            if known.key == key:
                asked = sum(len(message["content"]) for message in known.request["messages"])
                return asked / CHARS_PER_TOKEN, len(known.response) / CHARS_PER_TOKEN
    return None
