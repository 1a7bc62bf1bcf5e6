"""Plans of one task are followed one after another, or the best of them is found in a few episodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lago_skills.core import Playbook
from lago_skills.errors import StudyError
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.portfolio import LEAST_STEPS, PlanSwitch, portfolio, step_limits
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.rl.plans.trial import try_plans
from tests.random_guides import random_guide
from tests.small_envs import Pointing, Walk, problem


@pytest.fixture
def guide(playbooks: dict[str, Playbook]) -> LibraryGuide:
    push, reach = playbooks["push"], playbooks["reach"]
    return random_guide({"push": push, "push/2": replace(reach, task_id="push"), "push/1": push, "reach": reach})


def test_the_plans_of_a_task_are_its_own_and_then_those_of_its_portfolio(guide: LibraryGuide) -> None:
    assert guide.plans("push") == ("push", "push/1", "push/2")
    assert guide.plans("reach") == ("reach",)
    assert guide.plans("fly") == ()


def test_a_guide_that_follows_a_plan_does_what_the_plan_says(guide: LibraryGuide) -> None:
    observations = np.random.default_rng(0).normal(0, 0.1, (5, guide.grounding.observation_size))
    own, other = (guide.following(plan).prior(observations, "push") for plan in ("push", "push/2"))
    assert np.array_equal(own.greedy(), guide.prior(observations, "push").greedy())
    assert np.array_equal(other.greedy(), guide.prior(observations, "push/2").greedy())
    assert not np.array_equal(own.greedy(), other.greedy())
    with pytest.raises(StudyError, match=r"found plan 'push/9'; expected one of .*'push/2'"):
        guide.following("push/9")


def test_plans_of_several_guides_begin_with_those_for_the_task_itself(guide: LibraryGuide) -> None:
    names = [each.name for each in portfolio("push", {"words": guide, "numbers": guide})]
    assert names[:2] == ["words: push", "numbers: push"]
    assert names[2:] == ["words: push/1", "words: push/2", "numbers: push/1", "numbers: push/2"]
    assert [each.name for each in portfolio("push", {"words": guide})] == ["push", "push/1", "push/2"]
    with pytest.raises(StudyError, match="expected one that a guide has a plan of"):
        portfolio("fly", {"words": guide})


def with_durations(guide: LibraryGuide, steps: float) -> LibraryGuide:
    """The same guide, its skills demonstrated once for so many steps."""
    skills = [
        NewSkill(each.sentence, each.latent, support={"segments": 2.0, "steps": 2.0 * steps})
        for each in guide.library.list()
    ]
    library = SkillLibrary.in_memory(8, skills)
    books = guide.books
    return LibraryGuide(guide.grounding, guide.decoder, library, books, guide.step_latents, guide.config)


def test_a_step_may_take_twice_as_long_as_in_demonstrations(guide: LibraryGuide) -> None:
    assert step_limits(with_durations(guide, 30.0), "push").tolist() == pytest.approx(
        [60.0] * len(guide.books["push"].steps)
    )
    assert set(step_limits(guide, "push").tolist()) == {LEAST_STEPS}, "skills that nobody demonstrated"


def test_a_plan_that_comes_no_further_hands_over_to_the_next(guide: LibraryGuide) -> None:
    known = with_durations(guide, 10.0)
    plans = portfolio("push", {"words": known})
    switch = PlanSwitch("push", plans)
    still = np.zeros((1, guide.grounding.observation_size))  # nothing ever moves
    acted = [switch.act(still, np.zeros(1, np.int64)) for _ in range(70)]
    by_plan = [each.guide.prior(still, "push").greedy() for each in plans]
    led = [next(i for i, action in enumerate(by_plan) if np.array_equal(action, done)) for done in acted]
    assert led == [0] * 21 + [1] * 21 + [2] * 21 + [0] * 7, "a first look at the state, and then twice ten steps"


def test_episodes_are_remembered_apart(guide: LibraryGuide) -> None:
    plans = portfolio("push", {"words": with_durations(guide, 10.0)})
    apart, together = PlanSwitch("push", plans), PlanSwitch("push", plans)
    states = np.random.default_rng(0).normal(0, 0.1, (3, guide.grounding.observation_size))
    for _ in range(50):
        one_by_one = [apart.act(states[i : i + 1], np.array([i]))[0] for i in range(3)]
        at_once = together.act(states[::-1].copy(), np.array([2, 1, 0]))[::-1]
        assert np.allclose(one_by_one, at_once, atol=1e-6)


# A trial ---------------------------------------------------------------------------------------------------------------


WALK = replace(problem(Walk), horizon_steps=40)
AWAY, NOWHERE, SLOWLY, QUICKLY = (Pointing(factor) for factor in (-1.0, 0.0, 0.1, 1.0))


def test_a_trial_finds_the_plan_that_works_and_the_quicker_of_two() -> None:
    plans = [("away", AWAY), ("nowhere", NOWHERE), ("slowly", SLOWLY), ("quickly", QUICKLY)]
    for seed in range(5):
        trial = try_plans(WALK, plans, 20, seed)
        assert plans[trial.best][0] == "quickly"
        assert sum(each.episodes for each in trial.plans) == 20
        assert len(trial.harvested) == sum(each.successes for each in trial.plans)
        assert all(each.success and each.rewards[-1] == 1.0 for each in trial.harvested)
        assert trial.first_success is not None
        assert trial.first_success <= 4, "as long as nothing works, something new is tried"


def test_a_trial_of_plans_that_all_fail_says_so() -> None:
    trial = try_plans(WALK, [("away", AWAY), ("nowhere", NOWHERE)], 6, 3)
    assert (trial.best, trial.first_success, trial.harvested) == (0, None, ())
    assert trial.steps == 6 * 40
    assert try_plans(WALK, [("quickly", QUICKLY)], 2, 0).plans[0].successes == 2
