"""The numbers of a plan as a vector, and the search over them."""

from __future__ import annotations

import numpy as np
import pytest

from lago_skills.core import Playbook
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.plan_numbers import numbers_of, with_numbers
from lago_skills.guide.portfolio import PlanOfTask
from lago_skills.rl.plans.search import N_CANDIDATES, N_COMPARED, Evolution, search_plan
from lago_skills.rl.problem import Problem
from lago_skills.rl.world_problem import world_problem
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import expand
from lago_skills.worlds.world import find_world
from tests.random_guides import random_guide

VOCABULARY = MetaWorldGrounding.vocabulary


def test_a_plan_and_its_numbers_are_the_same_thing(playbooks: dict[str, Playbook]) -> None:
    for book in playbooks.values():
        values, scales = numbers_of(book, VOCABULARY)
        assert with_numbers(book, values, VOCABULARY) == book
        n_conditions = sum(len(step.when) for step in book.steps)
        assert len(values) == len(scales) == 3 * len(book.steps) + n_conditions
        assert (scales > 0.0).all()
        others = with_numbers(book, values + 0.01, VOCABULARY)
        assert np.allclose(numbers_of(others, VOCABULARY)[0], values + 0.01)
        assert [step.skill for step in others.steps] == [step.skill for step in book.steps]


def test_offsets_stay_within_what_the_world_allows(playbooks: dict[str, Playbook]) -> None:
    values, _ = numbers_of(playbooks["push"], VOCABULARY)
    far = with_numbers(playbooks["push"], values + 50.0, VOCABULARY)
    assert {part for step in far.steps if step.target for part in step.target.offset} == {VOCABULARY.largest_offset}


def test_plans_in_words_have_no_numbers(playbooks_in_words: dict[str, Playbook]) -> None:
    values, scales = numbers_of(playbooks_in_words["push"], VOCABULARY)
    assert len(values) == len(scales) == 0
    assert with_numbers(playbooks_in_words["push"], values, VOCABULARY) == playbooks_in_words["push"]


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


def test_a_plan_in_words_is_not_searched(
    playbooks_in_words: dict[str, Playbook], playbooks: dict[str, Playbook]
) -> None:
    guide = random_guide({"reach": playbooks["reach"]})
    guide.playbooks["reach"].playbook = playbooks_in_words["reach"]
    searched = search_plan(problem_of(guide, "reach"), PlanOfTask("reach", guide), 1_500, 0)
    assert (searched.steps, searched.improved) == (0, False)
