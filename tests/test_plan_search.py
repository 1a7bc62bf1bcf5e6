"""The numbers of a plan as a vector, and the search over them."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from lago_skills.core import ActionSpace, Condition, Playbook
from lago_skills.errors import PlanError
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.plan_numbers import numbers_of, with_numbers
from lago_skills.guide.portfolio import PlanOfTask
from lago_skills.planner.parse import read_answer
from lago_skills.playbook import LEAST_PACE, MOST_PACE, playbook_json, read_playbook, write_playbook
from lago_skills.prior import ActionPrior
from lago_skills.rl.guidance.advisers import joined
from lago_skills.rl.plans import search
from lago_skills.rl.plans.search import N_CANDIDATES, N_COMPARED, N_SHORTENED, Evolution, search_plan
from lago_skills.rl.problem import Problem
from lago_skills.rl.world_problem import world_problem
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import expand
from lago_skills.worlds.world import find_world
from tests.random_guides import random_guide
from tests.test_plan_exploration import heading_guide

VOCABULARY = MetaWorldGrounding.vocabulary


def test_a_plan_and_its_numbers_are_the_same_thing(playbooks: dict[str, Playbook]) -> None:
    for book in playbooks.values():
        values, scales = numbers_of(book, VOCABULARY)
        assert with_numbers(book, values, VOCABULARY) == book
        n_conditions = sum(len(step.when) for step in book.steps)
        assert len(values) == len(scales) == 1 + 3 * len(book.steps) + n_conditions
        assert (scales > 0.0).all()
        assert values[0] == 1.0
        others = with_numbers(book, values + 0.01, VOCABULARY)
        assert np.allclose(numbers_of(others, VOCABULARY)[0], values + 0.01)
        assert others.pace == 1.01
        assert [step.skill for step in others.steps] == [step.skill for step in book.steps]


def test_offsets_stay_within_what_the_world_allows(playbooks: dict[str, Playbook]) -> None:
    values, _ = numbers_of(playbooks["push"], VOCABULARY)
    far = with_numbers(playbooks["push"], values + 50.0, VOCABULARY)
    assert {part for step in far.steps if step.target for part in step.target.offset} == {VOCABULARY.largest_offset}


def test_plans_in_words_have_a_pace_alone(playbooks_in_words: dict[str, Playbook]) -> None:
    book = playbooks_in_words["push"]
    values, scales = numbers_of(book, VOCABULARY)
    assert (values.tolist(), len(scales)) == ([1.0], 1)
    assert with_numbers(book, values, VOCABULARY) == book
    assert with_numbers(book, np.array([1.5]), VOCABULARY) == replace(book, pace=1.5)


def test_a_pace_makes_actions_larger_and_stays_with_the_plan(playbooks: dict[str, Playbook]) -> None:
    book = playbooks["push"]
    guide = random_guide({"push": book, "reach": playbooks["reach"]})
    brisk = replace(book, pace=2.0)
    followed = guide.with_steps(brisk)
    observations = np.random.default_rng(0).normal(0.0, 0.1, (6, 39))
    usual, faster = (each.prior(observations, "push") for each in (guide, followed))
    assert isinstance(usual, ActionPrior)
    assert isinstance(faster, ActionPrior)
    assert np.allclose(faster.means, np.clip(2.0 * usual.means, -1.0, 1.0))
    assert np.array_equal(faster.weights, usual.weights)
    written = write_playbook(brisk)
    assert written["pace"] == 2.0
    assert read_playbook(written, VOCABULARY) == brisk
    assert "pace" not in write_playbook(book)
    told = read_answer(playbook_json(brisk), "push", VOCABULARY, book.transcript_key, book.model).playbook
    assert told is not None
    assert told.pace == 2.0
    both = joined(
        [followed.retrieve(observations[:2], "push"), guide.retrieve(observations[2:], "reach")],
        np.array([2, 0, 3, 1, 4, 5]),
        guide.grounding.read(observations),
    )
    assert both.paces is not None
    assert both.paces.tolist() == [1.0, 2.0, 1.0, 2.0, 1.0, 1.0]


@pytest.mark.parametrize("pace", ["fast", 0.0, 9.0, True, None])
def test_a_pace_that_is_none_is_refused(pace: object, playbooks: dict[str, Playbook]) -> None:
    with pytest.raises(PlanError, match=r"found pace=.*; expected a number from 0.25 to 4"):
        read_playbook(write_playbook(playbooks["push"]) | {"pace": pace}, VOCABULARY)
    text = json.dumps({"pace": pace} | json.loads(playbook_json(playbooks["push"])))
    reading = read_answer(text, "push", VOCABULARY, "k", "m")
    assert reading.playbook is None
    assert "expected a number from 0.25 to 4" in reading.findings[-1].text


def test_no_pace_is_beyond_what_any_may_be(playbooks: dict[str, Playbook]) -> None:
    values, _ = numbers_of(playbooks["push"], VOCABULARY)
    paces = [with_numbers(playbooks["push"], values + change, VOCABULARY).pace for change in (-5.0, 50.0)]
    assert paces == [LEAST_PACE, MOST_PACE]


@pytest.mark.parametrize("seed", range(5))
def test_evolution_climbs_through_noise_and_finds_what_is_two_scales_away(seed: int) -> None:
    rng, goal = np.random.default_rng(seed), np.array([2.0, -1.5, 0.0, 1.0])
    evolution = Evolution(np.zeros(4), np.ones(4), seed)
    for _ in range(40):
        candidates = evolution.candidates()
        apart = np.linalg.norm(candidates - goal, axis=1)
        evolution.learn(candidates, np.exp(-apart) + rng.normal(0.0, 0.02, len(candidates)))
    assert float(np.linalg.norm(evolution.middle - goal)) < 0.6
    assert np.linalg.norm(goal) > 2.5


def test_evolution_looks_further_away_where_all_are_alike() -> None:
    evolution = Evolution(np.zeros(3), np.ones(3), 0)
    before = evolution.spread.copy()
    candidates = evolution.candidates()
    assert np.array_equal(candidates[0], np.zeros(3)), "the middle itself is a candidate"
    evolution.learn(candidates, np.zeros(N_CANDIDATES))
    assert (evolution.spread > before).all()
    assert np.array_equal(evolution.middle, np.zeros(3))
    for _ in range(100):
        evolution.learn(evolution.candidates(), np.zeros(N_CANDIDATES))
    assert evolution.spread.tolist() == [2.0] * 3


def problem_of(guide: LibraryGuide, task: str) -> Problem:
    return world_problem(find_world("metaworld"), expand([task]), MetaWorldGrounding(), guide, 0)


def test_a_search_keeps_to_its_steps_and_keeps_a_plan_that_it_did_not_improve(playbooks: dict[str, Playbook]) -> None:
    guide = random_guide({"reach": playbooks["reach"]})  # no skill: nothing succeeds
    searched = search_plan(problem_of(guide, "reach"), PlanOfTask("reach", guide), 1_500, 0)
    assert searched.steps <= 1_500
    assert searched.episodes >= N_CANDIDATES + 2 * N_COMPARED
    assert not searched.harvested
    if not searched.improved:
        assert searched.plan.guide is guide
    again = search_plan(problem_of(guide, "reach"), PlanOfTask("reach", guide), 1_500, 0)
    assert (again.worth, again.steps) == (searched.worth, searched.steps)


def test_of_a_plan_in_words_the_pace_is_searched_and_a_rival_that_does_as_well_stays(
    playbooks_in_words: dict[str, Playbook], playbooks: dict[str, Playbook]
) -> None:
    guide = random_guide({"reach": playbooks["reach"]})
    rival = PlanOfTask("rival", guide.with_steps(replace(playbooks["reach"], pace=0.5)))
    searched = search_plan(problem_of(guide, "reach"), PlanOfTask("reach", guide), 1_500, 0, rival=rival)
    assert searched.steps > 0
    if not searched.improved:
        assert searched.plan is rival
    discrete = random_guide({"reach": playbooks["reach"]})
    discrete.playbooks["reach"].playbook = playbooks_in_words["reach"]
    discrete.grounding = SimpleNamespace(vocabulary=VOCABULARY, action_space=ActionSpace(4, discrete=True))  # pyright: ignore[reportAttributeAccessIssue]
    nothing = search_plan(problem_of(guide, "reach"), PlanOfTask("reach", discrete), 1_500, 0)
    assert (nothing.steps, nothing.improved) == (0, False), "there is no pace to be searched"


def test_a_plan_loses_a_step_that_it_does_better_without(playbooks: dict[str, Playbook]) -> None:
    reach = playbooks["reach"]
    last = reach.steps[-1]
    assert last.target is not None
    away = replace(
        last, target=replace(last.target, offset=(0.0, -0.15, 0.05)), when=(Condition("gripper_x", "<", 0.02),)
    )
    detour = heading_guide(replace(reach, steps=(away, *reach.steps)))
    searched = search_plan(problem_of(detour, "reach"), PlanOfTask("reach", detour), 3_000, 0)
    assert searched.improved
    found = searched.plan.guide
    assert [step.skill for step in found.books["reach"].steps] == [step.skill for step in reach.steps]
    assert np.array_equal(found.step_latents["reach"], detour.step_latents["reach"][1:])
    assert detour.with_steps(found.books["reach"]).books == found.books, "it is followed again by its sentences"


def test_a_search_without_steps_for_a_generation_compares_nothing(playbooks: dict[str, Playbook]) -> None:
    guide = heading_guide(playbooks["reach"])
    followed = PlanOfTask("reach", guide)
    searched = search_plan(problem_of(guide, "reach"), followed, 50, 0)
    assert searched.plan is followed
    assert (searched.improved, searched.episodes, searched.n_starts) == (False, N_SHORTENED, N_SHORTENED)
    assert len(searched.harvested) == N_SHORTENED


@pytest.mark.parametrize(("fails_from", "expected"), [(9.9, "all the way"), (1.35, "half of it"), (1.01, "as it was")])
def test_a_quicker_plan_that_fails_more_often_is_not_taken(
    fails_from: float, expected: str, playbooks: dict[str, Playbook], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every plan succeeds, the sooner the greater its pace, up to 1.5; from some pace on it fails in one start state of eight."""
    guide = heading_guide(replace(playbooks["reach"], steps=playbooks["reach"].steps[-1:]))

    def worth(runs: search.Runs, each: LibraryGuide, place: int, at_least: float = 0.0) -> float:
        runs.steps += 10
        pace = each.books["reach"].pace
        return 0.1 if pace > fails_from and place % 8 == 7 else 0.9 - 0.1 * abs(pace - 1.5)

    monkeypatch.setattr(search.Runs, "worth", worth)
    searched = search_plan(problem_of(guide, "reach"), PlanOfTask("reach", guide), 4_000, 0)
    pace = searched.plan.guide.books["reach"].pace
    assert searched.improved == (expected != "as it was")
    if expected == "all the way":
        assert pace == pytest.approx(1.5, abs=0.1)
    elif expected == "half of it":
        assert pace == pytest.approx(1.25, abs=0.05)
    else:
        assert pace == 1.0
