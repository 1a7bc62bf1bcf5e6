"""What each part of the decoder brings, measured: `python -m lago_skills.stages.ablation`.

A cell is (variant, demonstrations per task, seed of the demonstrations, seed of the decoder). Each becomes one row of
`data/results/decoder-ablation.csv` as soon as it is finished, and finished cells are not run again. Success is of the library
alone: `seen` on fresh start states of the ten demonstrated tasks, `unseen` on the eight others, `weakest` the task with the least.
Likelihoods (`nll...`, per step) and coverage are of demonstrations that neither training nor calibration has seen. Cosines are of
the pairs in `data/opposites.json` after the text head; `told_apart` is the share whose paraphrase is nearer than the opposite.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Segment, Task
from lago_skills.data.dataset import labelled_steps
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.runtime import DecoderWeights
from lago_skills.decoder.steps import LabelledSteps, Phrases
from lago_skills.envs.grounding import MetaWorldGrounding
from lago_skills.guide.guides import LibraryGuide, RetrievalConfig
from lago_skills.stages import build, collect, opposites, plan, segment
from lago_skills.stages.job import Workspace
from lago_skills.study import load_study

RESULTS = Path("data/results/decoder-ablation.csv")
N_TEST, MAX_DEMONSTRATIONS = 5, 10
"""Demonstrations kept for likelihoods, and at most so many others to train on."""


class RawGrounding(MetaWorldGrounding):
    """The decoder sees the observation itself and the target: nothing is relative."""

    def inputs(self, observations: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float32]:
        """(B, 39) observations, (B, 3) targets -> (B, 42)."""
        return np.concatenate([targets, observations], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Variant:
    """What differs from the default."""

    config: dict[str, Any] = field(default_factory=dict[str, Any])
    raw: bool = False
    one_hot: bool = False
    act: str = "mean"
    """`mean` or `mode` of the prior."""
    temperature: float | None = None
    """Of the weights of neighbours; without it, the study's."""


PLAIN_TEXT: dict[str, Any] = {"phrase_share": 0.0, "contrast_every": 0, "text_dropout": 0.0}
VARIANTS: dict[str, Variant] = {
    "default": Variant(),
    "one component": Variant({"n_components": 1}),
    **{f"temperature {t}": Variant(temperature=t) for t in (0.1, 0.3, 0.5, 0.8)},
    **{f"one component, temperature {t}": Variant({"n_components": 1}, temperature=t) for t in (0.1, 0.3, 0.5, 0.8)},
    "two components": Variant({"n_components": 2}),
    "five components": Variant({"n_components": 5}),
    "mode": Variant(act="mode"),
    "film": Variant({"join": "film"}),
    "not calibrated": Variant({"calibrate": False}),
    "g from actions alone": Variant(PLAIN_TEXT),
    "g with a hidden layer": Variant({"text_sizes": (64,)}),
    "one-hot skills": Variant(PLAIN_TEXT, one_hot=True),
    "raw observation": Variant({"context_swap_share": 0.0}, raw=True),
    "no turning, no hindsight, no swaps": Variant(
        {"turned_share": 0.0, "hindsight_share": 0.0, "context_swap_share": 0.0}
    ),
    "d3rlpy's stochastic bc": Variant({"algorithm": "stock-bc", "calibrate": False}),
    "d3rlpy's stochastic bc, calibrated": Variant({"algorithm": "stock-bc"}),
    "iql": Variant({"algorithm": "iql"}),
    "td3+bc": Variant({"algorithm": "td3+bc"}),
    "awac": Variant({"algorithm": "awac"}),
    "plas": Variant({"algorithm": "plas"}),
}


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    variant: str
    demonstrations: int
    data_seed: int
    decoder_seed: int

    @property
    def key(self) -> dict[str, str]:
        """The row's first fields."""
        return {name: str(getattr(self, name)) for name in self.__dataclass_fields__}


def workspace(root: Path, seed: int) -> Workspace:
    """The demo study with enough demonstrations of one seed; its artifacts are kept apart from those of the demo."""
    file = root / "data/studies/demo.toml"
    study = load_study(file)
    name, wanted = (
        f"ablation-{seed}",
        study.collect.model_copy(update={"episodes_per_task": MAX_DEMONSTRATIONS + N_TEST}),
    )
    space = Workspace(root, file, study.model_copy(update={"name": name, "seed": seed, "collect": wanted}))
    for stage in (collect, plan, segment):
        for job in stage.jobs(space):
            if not job.done:
                job.run(_quiet)
    return space


class Bench:
    """Measures cells on the demonstrations of one workspace."""

    def __init__(self, space: Workspace, n_episodes: int) -> None:
        self.space, self.n_episodes = space, n_episodes
        self.segments, self.embeddings = segment.load(space)
        self.episodes, self.books = collect.episodes(space), plan.playbooks(space)
        self._pairs: opposites.Opposites | None = None
        self._words: dict[tuple[str, ...], Phrases | None] = {}
        self._trained: dict[str, tuple[DecoderWeights, list[Segment], float]] = {}

    def words(self, sentences: list[str]) -> Phrases | None:
        """Other words, embedded once."""
        from lago_skills.stages.phrases import phrases

        if tuple(sentences) not in self._words:
            self._words[tuple(sentences)] = phrases(self.space, sentences)
        return self._words[tuple(sentences)]

    def steps(
        self, first: int, stop: int, config: DecoderConfig, raw: bool, embeddings: dict[str, NDArray[np.float32]]
    ) -> tuple[LabelledSteps, list[Segment]]:
        """Labelled steps of the demonstrations first to stop of every task."""
        own = {task: runs[first:stop] for task, runs in self.episodes.items()}
        found = [
            Segment(s.task_id, s.episode - first, s.start, s.stop, s.step, s.skill)
            for s in self.segments
            if first <= s.episode < stop
        ]
        grounding = RawGrounding() if raw else self.space.study.grounding
        return labelled_steps(own, self.books, found, embeddings, grounding, config), found

    def trained(self, cell: Cell) -> tuple[DecoderWeights, list[Segment], float]:
        """The decoder of a cell, the segments it was trained on, and how many seconds that took; variants that differ in retrieval share it."""
        from lago_skills.decoder.pretrain import pretrain

        variant = VARIANTS[cell.variant]
        config = DecoderConfig(**variant.config)
        key = f"{cell.demonstrations} {cell.decoder_seed} {variant.raw} {variant.one_hot} {config.model_dump_json()}"
        if key not in self._trained:
            steps, found = self.steps(0, cell.demonstrations, config, variant.raw, self._embeddings(variant))
            words = self.words(list(dict.fromkeys(s.skill for s in found))) if config.uses_phrases else None
            started = time.monotonic()
            decoder, _ = pretrain(steps, config, cell.decoder_seed, lambda update, metrics: None, words)
            assert isinstance(decoder, DecoderWeights)
            self._trained[key] = decoder, found, time.monotonic() - started
        return self._trained[key]

    def _embeddings(self, variant: Variant) -> dict[str, NDArray[np.float32]]:
        return _one_hot(self.embeddings) if variant.one_hot else self.embeddings

    def measure(self, cell: Cell) -> dict[str, Any]:
        """The row of a cell."""
        from lago_skills.decoder import calibration

        variant = VARIANTS[cell.variant]
        config = DecoderConfig(**variant.config)
        embeddings = self._embeddings(variant)
        decoder, found, seconds = self.trained(cell)
        retrieval = self.space.study.guide.model_dump()
        if variant.temperature is not None:
            retrieval["temperature"] = variant.temperature
        fresh, _ = self.steps(MAX_DEMONSTRATIONS, MAX_DEMONSTRATIONS + N_TEST, config, variant.raw, embeddings)
        figures = calibration.figures(decoder, fresh, np.arange(len(fresh.actions)))
        guide = build.assemble_from(
            RawGrounding() if variant.raw else self.space.study.grounding,
            decoder,
            found,
            embeddings,
            self.books,
            RetrievalConfig(**retrieval),
        )
        study = self.space.study
        success = {task.id: self._success(guide, task, variant.act) for task in (*study.seen, *study.unseen)}
        weakest = min(success, key=success.__getitem__)
        return {
            **cell.key,
            "seen": round(float(np.mean([success[task.id] for task in study.seen])), 4),
            "unseen": round(float(np.mean([success[task.id] for task in study.unseen])), 4),
            "weakest": f"{weakest} {success[weakest]:.2f}",
            "episodes": self.n_episodes,
            **{name: round(value, 4) for name, value in figures.items()},
            **self._opposites(decoder, embeddings, variant.one_hot),
            "seconds": round(seconds, 1),
            "commit": commit_of(self.space.root),
        }

    def _opposites(
        self, decoder: DecoderWeights, embeddings: dict[str, NDArray[np.float32]], one_hot: bool
    ) -> dict[str, float | str]:
        """Cosines after g, and the share of pairs whose paraphrase is nearer than the opposite."""
        names = {"cos_opposite": "opposite", "cos_paraphrase": "paraphrase", "told_apart": "told"}
        if one_hot:
            return dict.fromkeys(names, "")
        if self._pairs is None:
            self._pairs = opposites.load(self.space.root, embeddings)
        found = opposites.told(self._pairs.table(decoder.latents), "after")
        return {column: round(found[key], 4) for column, key in names.items()}

    def _success(self, guide: LibraryGuide, task: Task, act: str) -> float:
        from lago_skills.envs.metaworld import EVAL_SEED
        from lago_skills.evaluate.rollouts import rollouts

        def policy(observations: NDArray[np.float64]) -> NDArray[np.float32]:
            prior = guide.prior(observations, task.id)
            return prior.mode() if act == "mode" else prior.mean()

        seeds = [EVAL_SEED + i for i in range(self.n_episodes)]
        return float(np.mean([result.success for result in rollouts(task, policy, seeds, lambda n: None)]))


def _quiet(done: int, note: str) -> None:
    """No progress."""


def _one_hot(embeddings: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    rows = np.eye(len(embeddings), dtype=np.float32)
    return dict(zip(embeddings, rows, strict=True))


def commit_of(root: Path) -> str:
    """Short name of the checked-out commit, or `unknown`."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def finished(path: Path) -> list[dict[str, str]]:
    """Rows that have been measured."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def run(
    path: Path, cells: list[Cell], bench: Callable[[int], Bench], say: Callable[[str], None]
) -> list[dict[str, str]]:
    """Measure the cells that are missing in the file, row by row; all rows are returned."""
    benches: dict[int, Bench] = {}
    for cell in cells:
        if any(cell.key.items() <= row.items() for row in finished(path)):
            continue
        if cell.data_seed not in benches:
            benches[cell.data_seed] = bench(cell.data_seed)
        row = benches[cell.data_seed].measure(cell)
        new = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, list(row), lineterminator="\n")
            if new:
                table.writeheader()
            table.writerow(row)
        say(f"{cell}: seen {row['seen']:.2f}, unseen {row['unseen']:.2f}, nll {row['nll']:.2f}, {row['seconds']} s")
    return finished(path)


def main() -> None:
    """Measure variants by name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path.cwd())
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--demonstrations", nargs="*", type=int, default=[1, 5])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2], help="of demonstrations and decoder alike")
    parser.add_argument("--episodes", type=int, default=20)
    chosen = parser.parse_args()
    cells = [
        Cell(variant, count, seed, seed)
        for count in chosen.demonstrations
        for seed in chosen.seeds
        for variant in chosen.variants
    ]
    run(
        chosen.root / RESULTS,
        cells,
        lambda seed: Bench(workspace(chosen.root, seed), chosen.episodes),
        lambda text: print(text, flush=True),  # noqa: T201
    )


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    main()
