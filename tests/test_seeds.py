"""No start state serves two purposes: the seeds that each purpose takes, for every seed that a study or a run may have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from lago_skills.core import Episode
from lago_skills.errors import StudyError
from lago_skills.experiments.evaluation_episodes import EVAL_SPAN, eval_seeds
from lago_skills.rl.world_problem import EVALS_PER_RUN, SEEDS_PER_RUN, world_problem
from lago_skills.stages import collect
from lago_skills.stages.planning.measured_scenes import N_DEMONSTRATIONS, N_STARTS
from lago_skills.stages.planning.plan_checks import N_ROLLOUTS
from lago_skills.stages.workspace import Workspace
from lago_skills.study import MAX_SEED, CollectConfig
from lago_skills.worlds import rollouts
from lago_skills.worlds.metaworld.env import MetaWorldEnv
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.metaworld.world import MetaWorld
from lago_skills.worlds.seeds import DEMO_SEED, EVAL_SEED, LINT_SEED, SCENE_SEED, TRAIN_SEED
from tests.small_worlds import PlaneEnv, PlaneWorld
from tests.tables import study_in

FAILED = Episode(
    "reach", 0, np.zeros((2, 39), np.float32), np.zeros((1, 4), np.float32), np.zeros(1, np.float32), False
)
MOST_DEMONSTRATIONS, MOST_TRIES = 1_000, 10
"""What a study may ask for; more is refused."""
Purpose = tuple[str, int]
"""What start states are for, and the seed of the study or run."""


def tried(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that collecting tries where no demonstration ever succeeds."""
    seeds: list[int] = []

    def record(env: object, policy: object, task: str, seed: int, *_: object) -> Episode:
        seeds.append(seed)
        return FAILED

    def quick(world: MetaWorld, task: str) -> PlaneEnv:
        return PlaneEnv(task)  # never played

    monkeypatch.setattr(rollouts, "record", record)
    monkeypatch.setattr(MetaWorld, "make", quick)
    with pytest.raises(StudyError, match="succeeded in 0 of"):
        collect.jobs(space)[0].run(lambda done, note: None)
    assert seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    return seeds


def taken(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Purpose, range]]:
    """All that anything may take; what has a name of its own may not share a start state."""
    world, study = PlaneWorld(), space.study
    largest, once = (
        study.collect.model_copy(update={"episodes_per_task": episodes, "max_tries": tries})
        for episodes, tries in ((MOST_DEMONSTRATIONS, MOST_TRIES), (1, 1))
    )
    for name, most in (("episodes_per_task", MOST_DEMONSTRATIONS), ("max_tries", MOST_TRIES)):
        with pytest.raises(ValidationError, match="less than or equal to"):
            CollectConfig(**{name: most + 1})
    n_tried = len(tried(replace(space, study=study.model_copy(update={"collect": largest})), monkeypatch))
    assert n_tried == MOST_DEMONSTRATIONS * MOST_TRIES
    yield ("scenes", 0), range(SCENE_SEED, SCENE_SEED + max(N_STARTS, N_DEMONSTRATIONS))
    yield ("lint", 0), range(LINT_SEED, LINT_SEED + (MAX_SEED + 1) * N_ROLLOUTS)
    for seed in range(MAX_SEED + 1):
        own = study.model_copy(update={"collect": once, "seed": seed})
        (start,) = tried(replace(space, study=own), monkeypatch)
        yield ("demonstrations", seed), range(start, start + n_tried)
        of_tables = eval_seeds(seed, EVAL_SPAN)
        yield ("evaluation", seed), range(of_tables[0], of_tables[-1] + 1)
        run = world_problem(world, tuple(world.tasks.values()), world.grounding, None, seed)
        yield ("evaluation", seed), range(run.eval_seed, run.eval_seed + EVALS_PER_RUN)
        yield ("training", seed), range(run.first_seed, run.first_seed + SEEDS_PER_RUN)


def test_no_start_state_serves_two_purposes_or_two_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spans: dict[Purpose, range] = {}
    for purpose, span in taken(study_in(tmp_path), monkeypatch):
        known = spans.get(purpose, span)
        spans[purpose] = range(min(known.start, span.start), max(known.stop, span.stop))
    assert len(spans) == 2 + 3 * (MAX_SEED + 1)
    first = {"demonstrations": DEMO_SEED, "evaluation": EVAL_SEED, "training": TRAIN_SEED}
    assert {name: spans[name, 0].start for name in first} == first
    ordered = sorted(spans.items(), key=lambda item: item[1].start)
    for (one, before), (other, after) in itertools.pairwise(ordered):
        assert before.stop <= after.start, f"{one} takes {before}, {other} takes {after}"


def test_the_same_seed_gives_the_same_start() -> None:
    env = MetaWorldEnv(find_task("push"))
    first, _ = env.reset(seed=11)
    env.step(np.ones(4, np.float32))
    again, _ = env.reset(seed=11)
    other, _ = env.reset(seed=12)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    env.close()
