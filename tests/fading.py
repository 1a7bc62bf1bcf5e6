"""What a guide costs that is useless or wrong, and what a perfect one brings: `python -m tests.fading` writes `data/results/fading.csv`.

On the walk of `tests.small_envs` with the larger goal, sparse reward: plain SAC, and guided SAC with a guide that points to the goal, away from it, or
nowhere (all actions alike, with the weight of a guide that is sure of itself). A row is a run; `steps_to_90` is the first of the evaluations, every 250
steps, from which on success stays at .9 or more; empty if there is none.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import torch

from lago_skills.artifacts.folder import write_text
from lago_skills.rl import train
from lago_skills.rl.config import SACConfig
from lago_skills.rl.methods import METHODS
from tests.conftest import ROOT
from tests.small_envs import Pointing, Walk, problem

RESULTS = ROOT / "data/results/fading.csv"
GUIDES = {"none": None, "right": Pointing(1.0), "wrong": Pointing(-1.0), "useless": Pointing(0.0, std=1.0)}
CONFIG = SACConfig(
    n_steps=6_000, random_steps=300, eval_every=250, eval_episodes=40, batch_size=64, hidden_size=64, learning_rate=1e-3
)
COLUMNS = ("guide", "seed", "final", "steps_to_90", "prior_share_last", "leader")


class Nearby(Walk):
    """A larger goal: plain learning finds it within a few thousand steps."""

    radius = 0.3


def steps_to_stay(curve: list[tuple[int, float]], threshold: float = 0.9) -> int | None:
    """First step from which on all scores are at least the threshold."""
    below = [i for i, (_, score) in enumerate(curve) if score < threshold]
    first = below[-1] + 1 if below else 0
    return curve[first][0] if first < len(curve) else None


def run(guide: str, seed: int, config: SACConfig = CONFIG) -> dict[str, object]:
    """One row."""
    chosen = config if GUIDES[guide] is not None else config.model_copy(update=METHODS["sac"].settings)
    result = train(problem(Nearby, GUIDES[guide], seed=seed), chosen, seed)
    curve = [(int(row["step"]), row["eval/success"]) for row in result.curve]
    last = result.curve[-1]
    values = (guide, seed, round(float(np.mean([s for _, s in curve[-4:]])), 4), steps_to_stay(curve))
    return dict(zip(COLUMNS, (*values, round(last["train/prior_share"], 4), result.leader), strict=True))


def main() -> int:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    rows = read(RESULTS)
    for seed in range(seeds):
        for guide in GUIDES:
            if not any((row["guide"], int(row["seed"])) == (guide, seed) for row in rows):
                rows.append({name: "" if value is None else str(value) for name, value in run(guide, seed).items()})
                lines = [",".join(COLUMNS), *(",".join(row[name] for name in COLUMNS) for row in rows)]
                write_text(RESULTS, "\n".join(lines) + "\n")
                print(rows[-1], file=sys.stderr, flush=True)
    return 0


def read(path: Path) -> list[dict[str, str]]:
    """Rows on record."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


if __name__ == "__main__":
    sys.exit(main())
