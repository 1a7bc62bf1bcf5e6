"""Ablations: what each part of the decoder and of retrieval brings, one change of the study's default at a time.

A cell is (variant, demonstrations, seed), with the same demonstrations, default decoder and start states as the zero-shot table's.
Each becomes one row of `data/results/ablations.csv`. Success is of the library alone, an episode ends at it: `seen` is the mean
over the demonstrated tasks, `unseen` over the others, `weakest` the task with the least, `below_half` those under one half.
Negative log-likelihoods (`nll...`, per step) and coverage are of the next seed's demonstrations, which neither training nor
calibration has seen; `nll_one` and `nll_per_skill` are of one Gaussian and of one per skill, fitted to the demonstrations that were
trained on. `told_apart` is the share of the pairs in `data/opposites.json` whose paraphrase is nearer than the opposite, in latents.
With a learned query, `top_1` is how often its nearest skill is the labelled one in held-out demonstrations, and `agrees` how
often, on the way through the unseen tasks, it is the one that the playbook's active step finds. `updates` and `train_s` are of the decoder.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import fingerprint, verify
from lago_skills.core import Segment, Task
from lago_skills.decoder.calibration import uncalibrated
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.dataset import labelled_steps
from lago_skills.decoder.runtime import DecoderWeights
from lago_skills.experiments.tables import opposites
from lago_skills.experiments.tables.variants import DEFAULT, VARIANTS, RawGrounding, Variant
from lago_skills.experiments.tables.zero_shot import EVAL_SPAN, Say, commit, variant
from lago_skills.experiments.tables.zero_shot import Variant as Made
from lago_skills.guide.guides import LibraryGuide, RetrievalConfig
from lago_skills.query.runtime import LearnedQuery
from lago_skills.stages import build, collect, plan, pretrain, query, segment
from lago_skills.stages.job import digest
from lago_skills.stages.planning.phrases import phrases
from lago_skills.stages.workspace import Workspace
from lago_skills.study import MAX_SEED, GuideConfig
from lago_skills.worlds.grounding import Grounding
from lago_skills.worlds.rollouts import rollouts
from lago_skills.worlds.seeds import EVAL_SEED
from lago_skills.worlds.world import Env, World

if TYPE_CHECKING:
    from lago_skills.prior import ActionPrior

TABLE = "ablations"
RESULTS = Path("data/results/ablations.csv")
N_ENVS = 4
Embeddings = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Cell:
    """What is measured once."""

    study: str
    variant: str
    demos: int
    """Demonstrations of each seen task."""
    seed: int

    @property
    def name(self) -> str:
        """How a cell is named on the command line: `k 8/5/0`; names have no comma."""
        return f"{self.variant}/{self.demos}/{self.seed}"


@dataclass(frozen=True)
class Row:
    """A measured cell."""

    table: str
    study: str
    variant: str
    demos: int
    seed: int
    seen: float
    unseen: float
    weakest: str
    weakest_success: float
    below_half: str
    episodes: int
    """Of each task."""
    nll: float
    nll_one: float
    nll_per_skill: float
    coverage_50: float
    coverage_80: float
    coverage_90: float
    coverage_95: float
    told_apart: float | None
    top_1: float | None
    agrees: float | None
    updates: int
    train_s: float
    wall_s: float
    commit: str
    """Of the code that measured it; with a + if it had been changed since."""
    bundle: str
    """Fingerprint of what all variants change: segments, playbooks, settings of the study."""

    @property
    def cell(self) -> Cell:
        """What was measured."""
        return Cell(self.study, self.variant, self.demos, self.seed)

    @property
    def group(self) -> tuple[str, int, int]:
        """Rows of one group have one bundle."""
        return self.table, self.demos, self.seed

    @property
    def told(self) -> str:
        """What was found."""
        weakest = f"{self.weakest} {self.weakest_success:.2f}"
        return f"seen {self.seen:.2f}, unseen {self.unseen:.2f}, {weakest}, nll {self.nll:.2f}, {self.train_s:.0f} s"


UNREPEATED = ("train_s", "wall_s", "commit")
"""Columns that differ from one measurement to the next."""


class Ground:
    """What variants of one seed and number of demonstrations share; a decoder is trained once, whoever asks for it."""

    def __init__(self, space: Workspace, seed: int, demos: int, say: Say) -> None:
        self._say = say
        self._made = Made(variant(space, seed, demos), say)
        self.space = self._made.segmented
        other = Made(variant(space, (seed + 1) % (MAX_SEED + 1), demos), say).segmented
        self.segments, self.embeddings = segment.load(self.space)
        self.books, self.episodes = plan.playbooks(self.space), collect.episodes(self.space)
        self._fresh, self._fresh_segments = collect.episodes(other), segment.load(other)[0]
        self._trained: dict[str, tuple[DecoderWeights, float]] = {}

    @cached_property
    def learned(self) -> tuple[LearnedQuery, float]:
        """The learned query of the default decoder, and its `top_1`."""
        self.decoder(VARIANTS[DEFAULT])
        folder, seed = self.space.artifact("decoder"), self.space.study.seed
        found = query.learned(self.space, folder, seed)
        return found, float(verify(query.job(self.space, folder, seed).folder).summary["top_1"])

    @cached_property
    def pairs(self) -> opposites.Opposites:
        """The opposites, embedded."""
        return opposites.load(self.space.root, self.embeddings)

    def config(self, chosen: Variant) -> DecoderConfig:
        """The decoder's settings."""
        return DecoderConfig(**{**self.space.study.decoder.model_dump(), **chosen.decoder})

    def grounding(self, chosen: Variant) -> Grounding:
        """What the decoder sees."""
        usual = self.space.study.grounding
        return cast("Grounding", RawGrounding(usual)) if chosen.raw else usual

    def texts(self, chosen: Variant) -> Embeddings:
        """What the decoder is told sentences by."""
        if not chosen.one_hot:
            return self.embeddings
        return dict(zip(self.embeddings, np.eye(len(self.embeddings), dtype=np.float32), strict=True))

    def decoder(self, chosen: Variant) -> tuple[DecoderWeights, float]:
        """A variant's decoder, and how many seconds its training took."""
        config = self.config(chosen)
        key = f"{chosen.raw} {chosen.one_hot} {config.model_dump_json()}"
        if key not in self._trained:
            own = config != self.space.study.decoder or chosen.raw or chosen.one_hot
            self._trained[key] = self._train(chosen, config) if own else self._default()
        found, seconds = self._trained[key]
        return found if chosen.calibrated else uncalibrated(found), seconds

    def _default(self) -> tuple[DecoderWeights, float]:
        self._made.make(lambda: pretrain.jobs(self.space))
        folder = self.space.artifact("decoder")
        decoder = pretrain.load(folder)
        assert isinstance(decoder, DecoderWeights)  # of continuous actions, as this table is
        return decoder, verify(folder).seconds

    def _train(self, chosen: Variant, config: DecoderConfig) -> tuple[DecoderWeights, float]:
        from lago_skills.decoder.pretrain import pretrain as fit

        self._say(f"{self.space.place.name}: pretrain {chosen.decoder or chosen}")
        started = time.monotonic()
        study, texts = self.space.study, self.texts(chosen)
        steps = labelled_steps(
            self.episodes, self.books, self.segments, texts, self.grounding(chosen), config, study.weighting
        )
        known = list(dict.fromkeys(item.skill for item in self.segments))
        words = phrases(self.space, known) if config.uses_phrases else None
        decoder, _ = fit(steps, config, study.seed, lambda update, metrics: None, words)
        assert isinstance(decoder, DecoderWeights)  # discrete algorithms are refused for continuous actions
        return decoder, time.monotonic() - started

    def densities(self, chosen: Variant, decoder: DecoderWeights) -> dict[str, float]:
        """Likelihoods and coverage of demonstrations that nobody has trained on."""
        from lago_skills.decoder import calibration

        both = {task: [*runs, *self._fresh[task]] for task, runs in self.episodes.items()}
        later = [replace(s, episode=s.episode + len(self.episodes[s.task_id])) for s in self._fresh_segments]
        found: list[Segment] = [*self.segments, *later]
        steps = labelled_steps(both, self.books, found, self.texts(chosen), self.grounding(chosen), self.config(chosen))
        fresh = steps.segments >= len(self.segments)
        return calibration.figures(decoder, replace(steps, held_out=fresh), np.flatnonzero(fresh))

    def guide(self, chosen: Variant, decoder: DecoderWeights) -> LibraryGuide:
        """The library of a variant."""
        settings = RetrievalConfig(**self.settings(chosen))
        learned = self.learned[0] if settings.query != "playbook" else None
        parts = self.segments, self.texts(chosen), self.books, settings, learned
        return build.assemble_from(self.grounding(chosen), decoder, *parts)

    def settings(self, chosen: Variant) -> dict[str, Any]:
        """Of retrieval."""
        return GuideConfig(**{**self.space.study.guide.model_dump(), **chosen.guide}).model_dump()

    def told_apart(self, chosen: Variant, decoder: DecoderWeights) -> float | None:
        """Of numbers there is nothing to tell."""
        if chosen.one_hot:
            return None
        return round(opposites.told(self.pairs.table(decoder.latents), "after")["told"], 4)

    @cached_property
    def bundle(self) -> str:
        """Fingerprint of what the variants change."""
        made = {name: digest(self.space.artifact(name)) for name in ("segments", "playbooks")}
        study = self.space.study.model_dump(mode="json", include={"decoder", "guide", "query"})
        return fingerprint(made | study)[:12]


class Bench:
    """Measures cells of a study, in any order."""

    def __init__(self, space: Workspace, say: Say) -> None:
        self.space, self._say, self._commit = space, say, commit()
        self._grounds: dict[tuple[int, int], Ground] = {}
        self._envs: dict[str, list[Env]] = {}

    def measure(self, cell: Cell, n_episodes: int) -> Row:
        """The row of a cell."""
        key = (cell.seed, cell.demos)
        if key not in self._grounds:
            self._grounds[key] = Ground(self.space, *key, self._say)
        ground, chosen = self._grounds[key], VARIANTS[cell.variant]
        decoder, train_s = ground.decoder(chosen)
        guide = ground.guide(chosen, decoder)
        started = time.monotonic()
        play = Play(self.space.world, guide, chosen, cell.seed, n_episodes, self._envs)
        success = {task.id: play.success(task) for task in (*self.space.study.seen, *self.space.study.unseen)}
        weakest = min(success, key=success.__getitem__)
        figures: dict[str, Any] = {name: round(value, 4) for name, value in ground.densities(chosen, decoder).items()}
        return Row(
            table=TABLE,
            **asdict(cell),
            seen=round(float(np.mean([success[task.id] for task in self.space.study.seen])), 4),
            unseen=round(float(np.mean([success[task.id] for task in self.space.study.unseen])), 4),
            weakest=weakest,
            weakest_success=round(success[weakest], 4),
            below_half=" ".join(name for name, value in success.items() if value < 0.5),
            episodes=n_episodes,
            **figures,
            told_apart=ground.told_apart(chosen, decoder),
            top_1=ground.learned[1] if guide.learned else None,
            agrees=play.agrees({task.id for task in self.space.study.unseen}),
            updates=ground.config(chosen).n_updates,
            train_s=round(train_s, 1),
            wall_s=round(time.monotonic() - started, 1),
            commit=self._commit,
            bundle=ground.bundle,
        )


class Play:
    """Episodes of one variant, in environments that are kept for the next one."""

    def __init__(
        self, world: World, guide: LibraryGuide, chosen: Variant, seed: int, n_episodes: int, envs: dict[str, list[Env]]
    ) -> None:
        self.world, self.guide, self.chosen, self.envs = world, guide, chosen, envs
        self.seeds = [EVAL_SEED + EVAL_SPAN * seed + i for i in range(n_episodes)]
        self.rng = np.random.default_rng(seed)
        self._agreed: defaultdict[str, list[NDArray[np.bool_]]] = defaultdict(list)

    def success(self, task: Task) -> float:
        """Share of episodes with success at any step."""
        if task.id not in self.envs:
            self.envs[task.id] = [self.world.make(task.id) for _ in range(N_ENVS)]
        book, planned = self.guide.playbooks[task.id], self.guide.neighbors(task.id)[0].ids[:, 0]

        def policy(observations: NDArray[np.float64]) -> NDArray[np.float32]:
            found = self.guide.retrieve(observations, task.id)
            if self.guide.learned:
                active = book.active(self.guide.grounding.read(observations).values)
                self._agreed[task.id].append(found.neighbors.ids[:, 0] == planned[active])
            return self._act(cast("ActionPrior", self.guide.decode(found)))

        results = rollouts(self.world, task, policy, self.seeds, lambda n: None, envs=self.envs[task.id])
        return float(np.mean([result.success for result in results]))

    def _act(self, prior: ActionPrior) -> NDArray[np.float32]:
        ways: dict[str, Callable[[], NDArray[np.float32]]] = {
            "mean": prior.mean,
            "mode": prior.mode,
            "sample": lambda: prior.sample(self.rng),
        }
        return ways[self.chosen.act]()

    def agrees(self, tasks: set[str]) -> float | None:
        """Share of the states of these tasks in which the learned query finds what the playbook does."""
        found = [flags for task, several in self._agreed.items() if task in tasks for flags in several]
        return round(float(np.concatenate(found).mean()), 4) if found else None


def cells(space: Workspace, variants: list[str], seeds: list[int], demos: list[int]) -> list[Cell]:
    """All cells of a choice, seed by seed."""
    return [Cell(space.study.name, name, count, seed) for count in demos for seed in seeds for name in variants]


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """One entry per (variant, demos), in the order of `VARIANTS`: means over seeds; `weakest` is the least of all seeds.

    `nll_default` is the default's on the variant's seeds, since seeds differ in it by more than some variants do.
    """
    usual = {(row.demos, row.seed): row.nll for row in rows if row.variant == DEFAULT}
    groups: defaultdict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.demos, row.variant].append(row)
    order = {name: number for number, name in enumerate(VARIANTS)}
    found: list[dict[str, Any]] = []
    for (demos, name), group in sorted(groups.items(), key=lambda item: (-item[0][0], order.get(item[0][1], 99))):
        entry: dict[str, Any] = {"variant": name, "demos": demos, "seeds": len(group)}
        entry["about"] = VARIANTS[name].about if name in VARIANTS else ""
        for column in ("seen", "unseen", "nll", "nll_one", "nll_per_skill", "coverage_90", "train_s"):
            entry[column] = round(float(np.mean([getattr(row, column) for row in group])), 4)
        for column in ("told_apart", "top_1", "agrees"):
            values = [getattr(row, column) for row in group]
            entry[column] = round(float(np.mean(values)), 4) if None not in values else None
        beside = [usual.get((demos, row.seed)) for row in group]
        entry["nll_default"] = (
            None if None in beside else round(float(np.mean([x for x in beside if x is not None])), 4)
        )
        least = min(group, key=lambda row: row.weakest_success)
        found.append({**entry, "weakest": least.weakest, "weakest_success": least.weakest_success})
    return found


def check(space: Workspace, stored: Row, say: Say) -> dict[str, Any]:
    """Measure a stored row again: `values` has each column that must repeat as (stored, now), `same` says whether all do."""
    now = Bench(space, say).measure(stored.cell, stored.episodes)
    values = {name: (value, getattr(now, name)) for name, value in asdict(stored).items() if name not in UNREPEATED}
    return {"cell": stored.cell.name, "same": all(a == b for a, b in values.values()), "values": values}
