"""The shadowing table: does a plan still find the right skills when a library fills with irrelevant ones?

To the library of a study skills are added, 10 and 100 times as many as it has: sentences that somebody made up, sentences of all plans that are recorded in the
project (of other tasks and other worlds), and near duplicates of its own. Then tasks are played by the library alone, from the same start states.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import LagoError, StudyError
from lago_skills.experiments.cells import Cell, Column, Row, Schema
from lago_skills.experiments.evaluation_episodes import eval_seeds, success_share
from lago_skills.experiments.intervals import success_over_tasks
from lago_skills.experiments.table import Choice, Grid, Opener, Results, Table, demonstrated_tasks, interval, refuse
from lago_skills.guide.guides import LibraryGuide
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.stages import plan
from lago_skills.stages.workspace import open_workspace
from lago_skills.study import study_path
from lago_skills.worlds.rollouts import rollouts

KINDS = ("none", "made up", "recorded plans", "near duplicates")
TIMES = (10, 100)
METHODS = {"temperature 0.05": 0.05, "temperature 0.5": 0.5}
"""How skills are weighted by their similarity; the second is the package's default."""
NEAR = 0.05
"""Spread of the noise on each number of a latent of 16: cosine .98."""
VERBS = [
    "stir",
    "pour",
    "fold",
    "wipe",
    "shake",
    "peel",
    "unscrew",
    "press",
    "push",
    "pull",
    "lift",
    "drag",
    "rotate",
    "tilt",
    "squeeze",
    "tap",
    "carry",
    "lower",
    "slide",
    "hook",
]
THINGS = [
    "cup",
    "towel",
    "lid",
    "carrot",
    "sponge",
    "book",
    "drawer",
    "object",
    "goal",
    "handle",
    "cable",
    "plate",
    "box",
    "bottle",
    "lamp",
    "curtain",
    "spoon",
    "tray",
    "hinge",
    "brick",
]
MANNERS = [
    "from above",
    "slowly",
    "with the closed {effector}",
    "with the open {effector}",
    "from behind",
    "along the table",
    "to the goal",
    "through free space",
    "from the left",
    "twice",
    "without touching it",
    "until it clicks",
]
N_TIMED = 200
EXAM = "exam"
"""Studies whose names begin so are left alone: nothing is taken from what is kept for an exam."""
SCHEMA = Schema(
    "shadowing",
    (
        Column("table"),
        Column("study"),
        Column("method"),
        Column("kind", about=f"of the skills that were added: {', '.join(KINDS)}"),
        Column("times", int, "as many as the library has; 0 where none is added"),
        Column("task"),
        Column("seed", int),
        Column("success", float, "share of episodes with success at any step"),
        Column("episodes", int),
        Column("skills", int, "in the library, the added ones among them"),
        Column(
            "recall",
            float,
            "of the plan's steps whose sentence is a skill of the library: share in which that skill has the most weight",
        ),
        Column("prior_us", float, "median time of a prior of one state, microseconds"),
        Column("wall_s", float),
        Column("commit", about="of the code that measured it; with a + if it had been changed since"),
        Column("bundle", about="fingerprint of what the library was made from"),
    ),
    keys=("table", "study", "method", "kind", "times", "task", "seed"),
    form="METHOD/KIND/TIMES/TASK/SEED",
    label="{method}/{kind}/{times}/{task}/{seed}".format_map,
)


@dataclass(frozen=True)
class _Crowd:
    """A library with what was added to it."""

    guide: LibraryGuide
    own: frozenset[str]
    """The sentences that it had before."""


class Shadowing(Table):
    """Success and recall in a library that is full of something else."""

    schema = SCHEMA
    repeated = ("success", "episodes", "skills", "recall", "bundle")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._crowds: dict[tuple[Any, ...], _Crowd] = {}

    def cells(self, choice: Choice) -> list[Cell]:
        """Seeds, methods, kinds, sizes, tasks."""
        study = self.space.study
        choice.refuse_all(("demos",), "option", "none, since the library is the study's; leave it out")
        methods = choice.methods or list(METHODS)
        refuse("method", [name for name in methods if name not in METHODS], f"one of {', '.join(METHODS)}")
        known = demonstrated_tasks(study)
        tasks = choice.tasks_of(study, known, f"a task of the study, {', '.join(known)}")
        added = [("none", 0), *itertools.product(KINDS[1:], TIMES)]
        return [
            SCHEMA.cell(study=study.name, method=method, kind=kind, times=times, task=task, seed=seed)
            for seed in choice.seeds_of((0,))
            for method in methods
            for kind, times in added
            for task in tasks
        ]

    def measured_together(self, cell: Cell) -> Hashable:
        """A crowd is made once."""
        return cell["seed"], cell["method"], cell["kind"], cell["times"]

    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        """Play a task."""
        began, (task,) = time.monotonic(), self.space.study.find([cell["task"]])
        crowd = self._crowd(cell)
        played = rollouts(
            self.space.world,
            task,
            partial(_act, crowd.guide, task.id),
            eval_seeds(cell["seed"], n_episodes),
            lambda n: None,
        )
        row = SCHEMA.row(
            **cell,
            success=round(success_share(played), 4),
            episodes=n_episodes,
            skills=crowd.guide.library.n_active,
            recall=round(_recall(crowd, task.id), 4),
            prior_us=round(_prior_us(self, crowd.guide, task.id), 1),
            wall_s=round(time.monotonic() - began, 1),
            commit=self.commit,
            bundle=self.replicate(cell["seed"]).bundle("library"),
        )
        return [row]

    def _crowd(self, cell: Cell) -> _Crowd:
        key = (cell["seed"], cell["method"], cell["kind"], cell["times"])
        if key not in self._crowds:
            guide = self.replicate(cell["seed"]).guide
            own = [skill for skill in guide.library.list() if skill.enabled]
            n_added = cell["times"] * len(own)
            added = {"made up": _made_up, "recorded plans": self._recorded, "near duplicates": _near}
            more = added[cell["kind"]](guide, n_added) if n_added else []
            kept = [NewSkill(s.sentence, s.latent, provenance=s.provenance, support=s.support) for s in own]
            library = SkillLibrary.in_memory(guide.decoder.latent_size, [*kept, *more])
            config = replace(guide.config, temperature=METHODS[cell["method"]])
            crowded = LibraryGuide(
                guide.grounding, guide.decoder, library, guide.books, guide.step_latents, config, ends=guide.ends
            )
            self._crowds = {key: _Crowd(crowded, frozenset(s.sentence for s in own))}  # one at a time
        return self._crowds[key]

    def _recorded(self, guide: LibraryGuide, n_added: int) -> list[NewSkill]:
        """Sentences of recorded plans of the seen and unseen tasks of the project's studies, as if they had been demonstrated; there may be fewer than wanted."""
        own = {skill.sentence for skill in guide.library.list()}
        sentences: dict[str, None] = {}
        for path in sorted((self.space.root / "data" / "studies").rglob("*.toml")):
            if path.stem.startswith(EXAM):
                continue
            try:
                space = open_workspace(self.space.root, study_path(str(path), self.space.root))
                tasks, known = {task.id for task in (*space.study.seen, *space.study.unseen)}, plan.plans(space)
            except LagoError:
                continue  # of a world that is not installed
            for each in (each for task, each in known.items() if task in tasks):
                books = [each.chosen.playbook] if each.chosen else []
                books += [other.playbook for other in each.portfolio.alternatives] if each.portfolio else []
                sentences |= dict.fromkeys(step.sentence for book in books if book is not None for step in book.steps)
        more = [each for each in sentences if each not in own]
        return _named(guide, more[:n_added], {"segments": 5.0, "steps": 100.0})

    def message(self, rows: list[Row]) -> str:
        """Success and recall."""
        return f"{rows[0]['success']:.2f}, recall {rows[0]['recall']:.2f} among {rows[0]['skills']} skills"

    def results(self, rows: list[Row]) -> Results:
        """Means over tasks by method, kind and size."""
        groups: defaultdict[tuple[str, str, int], list[Row]] = defaultdict(list)
        for row in rows:
            groups[row["method"], row["kind"], row["times"]].append(row)
        entries: list[dict[str, Any]] = [
            {
                "method": method,
                "kind": kind,
                "times": times,
                "skills": own[0]["skills"],
                **success_over_tasks(own),
                "least": min(row["success"] for row in own),
                "recall": round(float(np.mean([row["recall"] for row in own])), 4),
                "prior_us": round(float(np.median([row["prior_us"] for row in own])), 1),
            }
            for (method, kind, times), own in groups.items()
        ]
        columns = ("method", "added", "times", "skills", "success", "95 %", "least", "recall", "prior, us", "tasks")
        lines = [
            [
                entry["method"],
                entry["kind"],
                str(entry["times"]),
                str(entry["skills"]),
                f"{entry['success']:.3f}",
                interval(entry["low"], entry["high"]),
                f"{entry['least']:.2f}",
                f"{entry['recall']:.2f}",
                f"{entry['prior_us']:.0f}",
                str(entry["tasks"]),
            ]
            for entry in entries
        ]
        return Results([*rows], entries, [Grid(columns, lines)])


def _act(guide: LibraryGuide, task: str, states: NDArray[np.float64]) -> NDArray[Any]:
    return guide.prior(states, task).greedy()


def _named(guide: LibraryGuide, sentences: list[str], support: dict[str, float]) -> list[NewSkill]:
    from lago_skills.text.embed import embed

    if not sentences:
        return []
    latents = guide.decoder.latents(embed(sentences))
    return [NewSkill(each, latent, support=support) for each, latent in zip(sentences, latents, strict=True)]


def _made_up(guide: LibraryGuide, n_added: int) -> list[NewSkill]:
    """Sentences that nobody demonstrated."""
    effector = guide.grounding.nouns.effector
    manners = [manner.format(effector=effector) for manner in MANNERS]
    every = [f"{verb} the {thing} {manner}" for verb, thing, manner in itertools.product(VERBS, THINGS, manners)]
    if n_added > len(every):
        raise StudyError(f"found {n_added} skills to make up; expected at most {len(every)}; take a smaller library")
    order: list[int] = np.random.default_rng(0).permutation(len(every))[:n_added].tolist()
    return _named(guide, [every[number] for number in order], {})


def _near(guide: LibraryGuide, n_added: int) -> list[NewSkill]:
    """The library's own skills over and over, each a little beside itself, with as many demonstrations."""
    rng, own = np.random.default_rng(0), guide.library.list()
    added: list[NewSkill] = []
    for number in range(n_added):
        skill = own[number % len(own)]
        latent = skill.latent + rng.normal(0.0, NEAR, skill.latent.shape)
        unit = (latent / np.linalg.norm(latent)).astype(np.float32)
        added.append(NewSkill(f"{skill.sentence} ({number})", unit, support=dict(skill.support)))
    return added


def _recall(crowd: _Crowd, task: str) -> float:
    """Of the steps whose sentence the library had, the share in which that skill has the most weight; 1 where there is no such step."""
    neighbors, weights = crowd.guide.neighbors(task)
    steps = crowd.guide.books[task].steps
    first = [int(ids[row.argmax()]) for ids, row in zip(neighbors.ids, weights, strict=True)]
    hits = [
        crowd.guide.library.get(n).sentence == s.sentence
        for n, s in zip(first, steps, strict=True)
        if s.sentence in crowd.own
    ]
    return float(np.mean(hits)) if hits else 1.0


def _prior_us(table: Table, guide: LibraryGuide, task: str) -> float:
    env = table.space.world.make(task)
    try:
        state = np.asarray(env.reset(seed=0)[0], np.float64)[None]
    finally:
        env.close()
    times: list[float] = []
    for _ in range(N_TIMED):
        began = time.perf_counter()
        guide.prior(state, task)
        times.append(time.perf_counter() - began)
    return 1e6 * float(np.median(times))


def openers() -> dict[str, Opener]:
    """This table."""
    return {"shadowing": Shadowing}
