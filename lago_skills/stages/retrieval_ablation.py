"""How skills are best looked up, measured: `python -m lago_skills.stages.retrieval_ablation`.

A cell is (variant, seed); the seed is of the demonstrations (five of each of the ten tasks), of the decoder and of the query
network alike. Each becomes one row of `data/results/retrieval-ablation.csv` as soon as it is finished, and finished cells are not
run again. Success is of the library alone: `seen` on fresh start states of the ten demonstrated tasks, `unseen` on the eight
others, `weakest` the task with the least; `agrees` is the share of states, on the way through the unseen tasks, in which the nearest
skill is the one that the playbook's active step would find. `top_1` is how often the learned query's nearest skill is the labelled
one in demonstrations that training has not seen, `top_1_by_task` the same for the most frequent skill of the task.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Task
from lago_skills.guide.guides import LibraryGuide, RetrievalConfig
from lago_skills.stages import build, collect, plan, pretrain, query, segment
from lago_skills.stages.ablation import commit_of, finished
from lago_skills.stages.job import Workspace
from lago_skills.store import verify
from lago_skills.study import load_study

RESULTS = Path("data/results/retrieval-ablation.csv")
QUERIES: dict[str, dict[str, Any]] = {
    "playbook": {"query": "playbook"},
    "learned": {"query": "learned"},
    "blend": {"query": "blend"},
    "learned, heading by the playbook": {"query": "blend", "blend": 1.0},
}
VARIANTS: dict[str, RetrievalConfig] = {
    f"{name}, k = {k}" + (f", support ** {weight}" if weight else ""): RetrievalConfig(
        k=k, support_weight=weight, **change
    )
    for weight, k in (
        (0.0, 4),
        (0.0, 1),
        (0.0, 8),
        (0.25, 4),
        (0.25, 8),
    )  # with one neighbour there is nothing to weigh
    for name, change in QUERIES.items()
}


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    variant: str
    seed: int

    @property
    def key(self) -> dict[str, str]:
        """The row's first fields."""
        return {"variant": self.variant, "seed": str(self.seed)}


def workspace(root: Path, seed: int) -> Workspace:
    """The demo study with another seed, its demonstrations, playbooks, segments and decoder made."""
    file = root / "data/studies/demo.toml"
    study = load_study(file)
    space = Workspace(root, file, study.model_copy(update={"name": f"retrieval-{seed}", "seed": seed}))
    for stage in (collect, plan, segment, pretrain):
        for job in stage.jobs(space):
            if not job.done:
                job.run(_quiet)
    return space


def _quiet(done: int, note: str) -> None:
    """No progress."""


class Bench:
    """Measures cells of one seed."""

    def __init__(self, space: Workspace, n_episodes: int) -> None:
        self.space, self.n_episodes = space, n_episodes
        self.commit = commit_of(space.root)  # of the code that runs, whatever is checked out when a row is finished
        decoder_dir = space.artifact("decoder")
        learned = query.learned(space, decoder_dir, space.study.seed)
        self.figures = verify(query.job(space, decoder_dir, space.study.seed).folder).summary
        self.guide = build.assemble(space, pretrain.load(decoder_dir), learned)

    def measure(self, cell: Cell) -> dict[str, Any]:
        """The row of a cell."""
        config = replace(
            VARIANTS[cell.variant],
            temperature=self.guide.config.temperature,
            floor=self.guide.config.floor,
        )
        parts = self.guide.grounding, self.guide.decoder, self.guide.library
        books = {name: book.playbook for name, book in self.guide.playbooks.items()}
        guide = LibraryGuide(*parts, books, self.guide.step_latents, config, self.guide.learned)
        study, started = self.space.study, time.monotonic()
        agreed: list[NDArray[np.bool_]] = []
        success = {task.id: self._success(guide, task, None) for task in study.seen}
        success |= {task.id: self._success(guide, task, agreed) for task in study.unseen}
        weakest = min(success, key=success.__getitem__)
        return {
            **cell.key,
            "seen": round(float(np.mean([success[task.id] for task in study.seen])), 4),
            "unseen": round(float(np.mean([success[task.id] for task in study.unseen])), 4),
            "weakest": f"{weakest} {success[weakest]:.2f}",
            "below_half": " ".join(name for name, value in success.items() if value < 0.5),
            "agrees": round(float(np.concatenate(agreed).mean()), 4),
            "top_1": self.figures["top_1"],
            "top_1_by_task": self.figures["top_1_by_task"],
            "episodes": self.n_episodes,
            "seconds": round(time.monotonic() - started, 1),
            "commit": self.commit,
        }

    def _success(self, guide: LibraryGuide, task: Task, agreed: list[NDArray[np.bool_]] | None) -> float:
        from lago_skills.envs.metaworld import EVAL_SEED
        from lago_skills.evaluate.rollouts import rollouts

        book, planned = guide.playbooks[task.id], guide.neighbors(task.id)[0].ids[:, 0]

        def policy(observations: NDArray[np.float64]) -> NDArray[np.float32]:
            found = guide.retrieve(observations, task.id)
            if agreed is not None:
                active = book.active(guide.grounding.values(observations))
                agreed.append(found.neighbors.ids[:, 0] == planned[active])
            return guide.decode(observations, found).mean()

        seeds = [EVAL_SEED + i for i in range(self.n_episodes)]
        return float(np.mean([result.success for result in rollouts(task, policy, seeds, lambda n: None)]))


def run(
    path: Path, cells: list[Cell], bench: Callable[[int], Bench], say: Callable[[str], None]
) -> list[dict[str, str]]:
    """Measure the cells that are missing in the file, row by row; all rows are returned."""
    benches: dict[int, Bench] = {}
    for cell in cells:
        if any(cell.key.items() <= row.items() for row in finished(path)):
            continue
        if cell.seed not in benches:
            benches[cell.seed] = bench(cell.seed)
        row = benches[cell.seed].measure(cell)
        new = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, list(row), lineterminator="\n")
            if new:
                table.writeheader()
            table.writerow(row)
        say(f"{cell.variant}, seed {cell.seed}: seen {row['seen']:.2f}, unseen {row['unseen']:.2f}, {row['seconds']} s")
    return finished(path)


def main() -> None:
    """Measure variants by name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path.cwd())
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=20)
    chosen = parser.parse_args()
    run(
        chosen.root / RESULTS,
        [Cell(variant, seed) for variant in chosen.variants for seed in chosen.seeds],
        lambda seed: Bench(workspace(chosen.root, seed), chosen.episodes),
        lambda text: print(text, flush=True),  # noqa: T201
    )


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    main()
