"""Variations of a plan: what they change, and that they find what the plan lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lago_skills.core import Playbook
from lago_skills.errors import StudyError
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.plan_numbers import numbers_of
from lago_skills.guide.portfolio import PlanOfTask
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.rl.plans.best import load_best, save_best
from lago_skills.rl.plans.exploration import MOST_CHANGES, N_CONFIRMING, explore_plans, vary
from lago_skills.rl.plans.training import find_plan
from lago_skills.rl.problem import Problem
from lago_skills.rl.world_problem import world_problem
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import expand
from lago_skills.worlds.world import find_world
from tests.conftest import random_decoder
from tests.random_guides import random_guide

VOCABULARY = MetaWorldGrounding.vocabulary


def test_a_variation_differs_from_its_plan_in_what_it_says(playbooks: dict[str, Playbook]) -> None:
    guide, rng = random_guide({"push": playbooks["push"]}), np.random.default_rng(0)
    book, kinds = guide.books["push"], set[str]()
    for _ in range(100):
        variation, changes = vary(guide, "push", rng)
        varied = variation.books["push"]
        assert 1 <= len(changes) <= MOST_CHANGES
        assert len(varied.steps) == len(book.steps)
        for number, (before, after) in enumerate(zip(book.steps, varied.steps, strict=True)):
            own = [text for text in changes if text.startswith(f"step {number + 1}: ")]
            assert (before == after) == (not own)
            latent = variation.step_latents["push"][number]
            if after.skill != before.skill:
                assert f'"{after.skill}"' in own[-1] or any(f'"{after.skill}"' in text for text in own)
                kinds.add("skill")
            else:
                assert np.array_equal(latent, guide.step_latents["push"][number])
            assert after.target is not None
            assert before.target is not None
            assert max(abs(part) for part in after.target.offset) <= VOCABULARY.largest_offset
            kinds |= {"anchor"} if after.target.anchor != before.target.anchor else set()
            kinds |= {"target"} if after.target.offset != before.target.offset else set()
            kinds |= {"threshold"} if after.when != before.when else set()
    assert kinds == {"skill", "anchor", "target", "threshold"}
    assert guide.books["push"] is book


def test_a_plan_brings_its_latents_by_its_sentences(playbooks: dict[str, Playbook]) -> None:
    guide = random_guide({"push": playbooks["push"]})
    variation, _ = vary(guide, "push", np.random.default_rng(3))
    rng = np.random.default_rng(0)
    while variation.books["push"].steps[0].skill == guide.books["push"].steps[0].skill:
        variation, _ = vary(variation, "push", rng)
    again = guide.with_steps(variation.books["push"])
    assert np.allclose(again.step_latents["push"], variation.step_latents["push"])
    unknown = replace(variation.books["push"].steps[0], skill="sing a song")
    book = replace(variation.books["push"], steps=(unknown, *variation.books["push"].steps[1:]))
    with pytest.raises(
        StudyError, match=r"step 1 of a plan of 'push': found skill 'sing a song'.*build the bundle again"
    ):
        guide.with_steps(book)


def heading_guide(book: Playbook) -> LibraryGuide:
    """Heads where the plan says, whatever the skill."""
    decoder = random_decoder()
    straight = np.zeros((4, 3), np.float32)
    straight[:3] = 2.0 * np.eye(3)
    still = replace(decoder.mean, weight=np.zeros_like(decoder.mean.weight), bias=np.zeros_like(decoder.mean.bias))
    guide = random_guide({book.task_id: book})
    decoder = replace(decoder, mean=still, skip=straight)
    shown = {"segments": 1.0, "steps": 40.0}
    skills = [NewSkill(each.sentence, each.latent, support=shown) for each in guide.library.list()]
    library = SkillLibrary.in_memory(8, skills)
    return LibraryGuide(guide.grounding, decoder, library, guide.books, guide.step_latents, guide.config)


def problem_of(guide: object) -> Problem:
    assert isinstance(guide, LibraryGuide)
    return world_problem(find_world("metaworld"), expand(["reach"]), MetaWorldGrounding(), guide, 0)


@pytest.fixture
def missing(playbooks: dict[str, Playbook]) -> LibraryGuide:
    """A plan that heads for a point 8 cm beside the goal."""
    steps = [
        replace(step, target=replace(step.target, offset=(0.08, 0.0, 0.0))) if step.target else step
        for step in playbooks["reach"].steps
    ]
    return heading_guide(replace(playbooks["reach"], steps=tuple(steps)))


def test_variations_find_the_success_that_the_plan_never_has(missing: LibraryGuide, tmp_path: Path) -> None:
    best = find_plan(problem_of, {"reach": missing}, 0, trial_episodes=20, explore_steps=10_000)
    assert best.trial is None
    explored = best.exploration
    assert explored is not None
    assert explored.first_success is not None
    assert explored.first_success > 1, "the plan itself is followed first"
    assert explored.share >= 0.6
    assert best.first_success == explored.first_success
    assert best.steps == explored.steps <= 10_000 + 150 * (N_CONFIRMING + 1)
    assert best.n_starts == explored.episodes
    assert len(best.harvested) >= 1 + 3
    assert explored.plan is not None
    changed = best.changed
    assert changed is not None
    assert changed is explored.plan.guide is best.guide
    assert best.summary()["exploration"]["changes"] == [*explored.changes]
    before, _ = numbers_of(missing.books["reach"], VOCABULARY)
    after, _ = numbers_of(changed.books["reach"], VOCABULARY)
    assert not np.array_equal(before, after) or changed.books["reach"] != missing.books["reach"]
    save_best(best, "reach", tmp_path / "best", {"a": 1})
    again = load_best({"reach": missing}, "reach", tmp_path / "best", {"a": 1})
    assert again is not None
    assert again.summary() == best.summary()
    assert again.changed is not None
    assert again.changed.books == changed.books
    assert [len(each.actions) for each in again.harvested] == [len(each.actions) for each in best.harvested]


def test_a_plan_that_succeeds_is_not_varied_and_one_in_words_cannot_be(
    playbooks: dict[str, Playbook], playbooks_in_words: dict[str, Playbook]
) -> None:
    right = heading_guide(playbooks["reach"])
    explored = explore_plans(problem_of(right), [PlanOfTask("reach", right)], 5_000, 0, tried=False)
    assert (explored.first_success, explored.changes, explored.episodes) == (1, (), 1 + N_CONFIRMING)
    assert explored.plan is not None
    assert explored.plan.guide is right
    right.playbooks["reach"].playbook = replace(playbooks_in_words["push"], task_id="reach")
    nothing = explore_plans(problem_of(right), [PlanOfTask("reach", right)], 5_000, 0)
    assert (nothing.plan, nothing.episodes, nothing.steps) == (None, 0, 0)


def test_what_succeeds_in_a_trial_is_not_explored(playbooks: dict[str, Playbook], missing: LibraryGuide) -> None:
    plans = {"right": heading_guide(playbooks["reach"]), "missing": missing}
    best = find_plan(problem_of, plans, 0, trial_episodes=4, explore_steps=5_000)
    assert best.name == "right"
    assert best.exploration is None
    assert best.changed is None
