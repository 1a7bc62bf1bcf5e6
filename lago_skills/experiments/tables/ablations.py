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
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Task
from lago_skills.experiments.cells import Cell, Column, Row, Say, Schema, mixed, optional_float
from lago_skills.experiments.evaluation_episodes import eval_seeds, success_share
from lago_skills.experiments.table import Choice, Grid, Opener, Results, Table, as_text, refuse
from lago_skills.experiments.tables.ablated import Ablated
from lago_skills.experiments.tables.variants import DEFAULT, VARIANTS, Variant
from lago_skills.guide.guides import LibraryGuide
from lago_skills.stages.workspace import Workspace
from lago_skills.study import MAX_SEED
from lago_skills.worlds.rollouts import rollouts
from lago_skills.worlds.world import Env, World

if TYPE_CHECKING:
    from lago_skills.prior import ActionPrior

N_ENVS = 4
UNREPEATED = ("train_s", "wall_s", "commit")
"""Columns that differ from one measurement to the next."""
SCHEMA = Schema(
    "ablations",
    (
        Column("table"),
        Column("study"),
        Column("variant"),
        Column("demos", int, "demonstrations of each seen task"),
        Column("seed", int),
        Column("seen", float),
        Column("unseen", float),
        Column("weakest"),
        Column("weakest_success", float),
        Column("below_half"),
        Column("episodes", int, "of each task"),
        *(Column(name, float) for name in ("nll", "nll_one", "nll_per_skill")),
        *(Column(f"coverage_{share}", float) for share in (50, 80, 90, 95)),
        *(Column(name, optional_float) for name in ("told_apart", "top_1", "agrees")),
        Column("updates", int),
        Column("train_s", float),
        Column("wall_s", float),
        Column("commit", about="of the code that measured it; with a + if it had been changed since"),
        Column("bundle", about="fingerprint of what all variants change: segments, playbooks, settings of the study"),
    ),
    keys=("table", "study", "variant", "demos", "seed"),
    form="VARIANT/DEMOS/SEED",
    label="{variant}/{demos}/{seed}".format_map,
)


class Ablations(Table):
    """What each part of decoder and retrieval brings."""

    schema = SCHEMA
    repeated = tuple(name for name in SCHEMA.names if name not in UNREPEATED)

    def __init__(self, space: Workspace, say: Say) -> None:
        super().__init__(space, say)
        self._ablated: dict[tuple[int, int], Ablated] = {}
        self._envs: dict[str, list[Env]] = {}

    def cells(self, choice: Choice) -> list[Cell]:
        """Seed by seed, in the order of `VARIANTS`; names of variants have no comma."""
        variants = choice.methods or list(VARIANTS)
        refuse("variant", [name for name in variants if name not in VARIANTS], f"one of {', '.join(VARIANTS)}")
        refuse("--tasks", choice.tasks or [], "none, since a row of ablations is about all tasks of the study")
        return [
            SCHEMA.cell(study=self.space.study.name, variant=name, demos=demos, seed=seed)
            for demos in choice.demos_of(self.space.study)
            for seed in choice.seeds_of()
            for name in variants
        ]

    def ablated(self, seed: int, demos: int) -> Ablated:
        """What the variants of one seed and number of demonstrations are made from; the next seed's demonstrations are fresh."""
        if (seed, demos) not in self._ablated:
            other = self.replicate((seed + 1) % (MAX_SEED + 1), demos)
            self._ablated[seed, demos] = Ablated(self.replicate(seed, demos), other, self.say)
        return self._ablated[seed, demos]

    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        """The row of a cell."""
        ablated, chosen = self.ablated(cell["seed"], cell["demos"]), VARIANTS[cell["variant"]]
        decoder, train_s = ablated.decoder(chosen)
        guide = ablated.guide(chosen, decoder)
        started, study = time.monotonic(), self.space.study
        play = Play(self.space.world, guide, chosen, cell["seed"], n_episodes, self._envs)
        success = {task.id: play.success(task) for task in (*study.seen, *study.unseen)}
        weakest = min(success, key=success.__getitem__)
        row = SCHEMA.row(
            **cell,
            seen=round(float(np.mean([success[task.id] for task in study.seen])), 4),
            unseen=round(float(np.mean([success[task.id] for task in study.unseen])), 4),
            weakest=weakest,
            weakest_success=round(success[weakest], 4),
            below_half=" ".join(name for name, share in success.items() if share < 0.5),
            episodes=n_episodes,
            **{name: round(value, 4) for name, value in ablated.densities(chosen, decoder).items()},
            told_apart=ablated.separation(chosen, decoder),
            top_1=ablated.learned[1] if guide.learned else None,
            agrees=play.agrees({task.id for task in study.unseen}),
            updates=ablated.config(chosen).n_updates,
            train_s=round(train_s, 1),
            wall_s=round(time.monotonic() - started, 1),
            commit=self.commit,
            bundle=ablated.bundle,
        )
        return [row]

    def message(self, rows: list[Row]) -> str:
        """Success, the weakest task, likelihood and cost."""
        (row,) = rows
        weakest = f"{row['weakest']} {row['weakest_success']:.2f}"
        shares = f"seen {row['seen']:.2f}, unseen {row['unseen']:.2f}"
        return f"{shares}, {weakest}, nll {row['nll']:.2f}, {row['train_s']:.0f} s"

    def results(self, rows: list[Row]) -> Results:
        """Means over seeds."""
        entries = summary(rows)
        shown = ("seen", "unseen", "weakest", "", "nll", "coverage_90", "told_apart", "agrees", "train_s", "seeds")
        lines: list[list[str]] = []
        for entry in entries:
            values = {**entry, "": entry["weakest_success"]}
            lines.append([entry["variant"], str(entry["demos"]), *(as_text(values[name]) for name in shown)])
        grid = Grid(("variant", "demos", *shown), lines)
        return Results([*rows], entries, [grid], mixed(rows, ("table", "demos")))


class Play:
    """Episodes of one variant, in environments that are kept for the next one."""

    def __init__(
        self, world: World, guide: LibraryGuide, chosen: Variant, seed: int, n_episodes: int, envs: dict[str, list[Env]]
    ) -> None:
        self.world, self.guide, self.chosen, self.envs = world, guide, chosen, envs
        self.seeds = eval_seeds(seed, n_episodes)
        self.rng = np.random.default_rng(seed)
        self._agreed: defaultdict[str, list[NDArray[np.bool_]]] = defaultdict(list)

    def success(self, task: Task) -> float:
        """Share of episodes with success at any step."""
        if task.id not in self.envs:
            self.envs[task.id] = [self.world.make(task.id) for _ in range(N_ENVS)]
        book, planned = self.guide.playbooks[task.id], self.guide.neighbors(task.id)[0].ids[:, 0]

        def policy(observations: NDArray[np.float64]) -> NDArray[np.float32]:
            retrieval = self.guide.retrieve(observations, task.id)
            if self.guide.learned:
                active = book.active(self.guide.grounding.read(observations).values)
                self._agreed[task.id].append(retrieval.neighbors.ids[:, 0] == planned[active])
            return self._act(cast("ActionPrior", self.guide.decode(retrieval)))

        results = rollouts(self.world, task, policy, self.seeds, lambda n: None, envs=self.envs[task.id])
        return success_share(results)

    def _act(self, prior: ActionPrior) -> NDArray[np.float32]:
        ways: dict[str, Callable[[], NDArray[np.float32]]] = {
            "mean": prior.mean,
            "mode": prior.mode,
            "sample": lambda: prior.sample(self.rng),
        }
        return ways[self.chosen.act]()

    def agrees(self, tasks: set[str]) -> float | None:
        """Share of the states of these tasks in which the learned query finds what the playbook does."""
        flags = [each for task, several in self._agreed.items() if task in tasks for each in several]
        return round(float(np.concatenate(flags).mean()), 4) if flags else None


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """One entry per (variant, demos), in the order of `VARIANTS`: means over seeds; `weakest` is the least of all seeds.

    `nll_default` is the default's on the variant's seeds, since seeds differ in it by more than some variants do.
    """
    usual = {(row["demos"], row["seed"]): row["nll"] for row in rows if row["variant"] == DEFAULT}
    groups: defaultdict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["demos"], row["variant"]].append(row)
    order = {name: number for number, name in enumerate(VARIANTS)}
    entries: list[dict[str, Any]] = []
    for (demos, name), group in sorted(groups.items(), key=lambda item: (-item[0][0], order.get(item[0][1], 99))):
        entry: dict[str, Any] = {"variant": name, "demos": demos, "seeds": len(group)}
        entry["about"] = VARIANTS[name].about if name in VARIANTS else ""
        for column in ("seen", "unseen", "nll", "nll_one", "nll_per_skill", "coverage_90", "train_s"):
            entry[column] = round(float(np.mean([row[column] for row in group])), 4)
        for column in ("told_apart", "top_1", "agrees"):
            values = [row[column] for row in group]
            entry[column] = round(float(np.mean(values)), 4) if None not in values else None
        beside = [usual.get((demos, row["seed"])) for row in group]
        entry["nll_default"] = (
            None if None in beside else round(float(np.mean([x for x in beside if x is not None])), 4)
        )
        least = min(group, key=lambda row: row["weakest_success"])
        entries.append({**entry, "weakest": least["weakest"], "weakest_success": least["weakest_success"]})
    return entries


def openers() -> dict[str, Opener]:
    """This table."""
    return {"ablations": Ablations}
