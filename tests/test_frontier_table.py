"""Rows of the frontier table become means over tasks; learners have one entry for whoever leads and one for the policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lago_skills.core import Playbook
from lago_skills.errors import StudyError
from lago_skills.experiments.cells import Row
from lago_skills.experiments.table import Choice
from lago_skills.experiments.tables.frontier import Frontier, noisy, opposite_plan, wrong_plans
from lago_skills.experiments.tables.frontier_rows import ALL_PARTS, FOUND, LEARNERS, SCHEMA, Found, summary
from lago_skills.guide.bundle import load_bundle
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.plan_numbers import numbers_of
from tests.random_guides import random_guide, unit
from tests.test_portfolio_stages import workspace


def row(task: str, method: str, success: float, **values: Any) -> Row:
    known: dict[str, Any] = {
        "study": "small",
        "level": "twelve",
        "steps": 0,
        "seed": 0,
        "success_last": None,
        "steps_to_success": None,
        "leader": "prior",
        "plan": "",
        "episodes_to_first_success": None,
        "demos": 0,
        "episodes": 20,
        "wall_s": 1.0,
        "commit": "abc",
        "bundle": "",
    }
    return SCHEMA.row(task=task, method=method, success=success, **(known | values))


def test_means_are_over_tasks_and_the_least_of_them_is_said() -> None:
    rows = [
        row("sweep", "portfolio", 1.0, success_last=0.5, steps_to_success=60.0),
        row("sweep", "portfolio", 0.8, seed=1, success_last=0.5, steps_to_success=80.0),
        row("hammer", "portfolio", 0.1, success_last=0.1, steps_to_success=190.0),
        row("hammer", "portfolio", 0.3, seed=1, success_last=0.1, steps_to_success=150.0),
    ]
    (entry,) = summary(rows)
    assert (entry["success"], entry["least"], entry["tasks"], entry["seeds"]) == (0.55, 0.1, 2, 2)
    assert (entry["success_last"], entry["steps_to_success"]) == (0.3, 120.0)
    assert entry["low"] <= 0.55 <= entry["high"]


def test_runs_of_unlike_trials_are_counted_to_the_next_thousand_steps() -> None:
    rows = [
        row("sweep", "portfolio-guided-sac", 0.5, steps=4_620, leader=""),
        row("hammer", "portfolio-guided-sac", 0.7, steps=4_130, leader=""),
        row("sweep", "portfolio-guided-sac", 1.0, steps=20_010, leader="mix", success_last=1.0),
        row("sweep", "portfolio-guided-sac", 0.9, steps=20_010, leader="policy", success_last=0.9),
        row("sweep", "portfolio-20-episodes", 1.0, steps=1_711),
    ]
    named = {(e["method"], e["steps"], e["leader"]): e["success"] for e in summary(rows)}
    assert named == {
        ("portfolio-20-episodes", 0, "prior"): 1.0,
        ("portfolio-guided-sac", 5_000, ""): 0.6,
        ("portfolio-guided-sac", 21_000, "mix"): 1.0,
        ("portfolio-guided-sac", 21_000, "policy"): 0.9,
    }
    assert next(e for e in summary(rows) if e["leader"] == "")["success_last"] is None, "it is not measured on the way"


# Cells are measured ---------------------------------------------------------------------------------------------------


@pytest.fixture
def frontier(tmp_path: Path, bundle: Path, playbooks: dict[str, Playbook], monkeypatch: pytest.MonkeyPatch) -> Frontier:
    """The table on one small task, with a library that has no skill, in place of the ten tasks' of each form."""
    space = workspace(tmp_path, "small", "")
    guide = load_bundle(bundle)
    push = replace(playbooks["push"], task_id="reach")
    books = {"reach": playbooks["reach"], "reach/1": push}
    latents = {name: unit(np.random.default_rng(1), len(book.steps)) for name, book in books.items()}
    guide = LibraryGuide(guide.grounding, guide.decoder, guide.library, books, latents, guide.config)

    def digest(name: str) -> str:
        return f"{name}-digest"

    def in_form(table: Frontier, form: str, seed: int) -> SimpleNamespace:
        return SimpleNamespace(guide=guide, space=space, bundle=digest)

    monkeypatch.setattr(Frontier, "in_form", in_form)
    small = {
        "n_steps": 700,
        "eval_every": 350,
        "eval_episodes": 1,
        "random_steps": 100,
        "hidden_size": 16,
        "batch_size": 16,
    }
    monkeypatch.setattr("lago_skills.experiments.tables.frontier.COMMON", small)
    monkeypatch.setattr("lago_skills.experiments.tables.frontier.ALONE", {"sac": {}})
    return Frontier(space, lambda text: None)


def measured(table: Frontier, method: str) -> list[Row]:
    (cell,) = table.cells(Choice(methods=[method], seeds=[0]))
    return table.measure(cell, 2)


@pytest.mark.parametrize(
    ("method", "leader", "plan", "made_from"),
    [
        ("random", "", "", ""),
        ("numbers/controller-10", "prior", "", ""),
        ("words/library", "prior", "", "library-digest"),
        ("portfolio", "prior", "", "library-digest+library-digest"),
        ("plan-3", "prior", "words: reach/1", "library-digest+library-digest"),
    ],
)
def test_what_needs_no_episode_has_a_row_without_steps(
    frontier: Frontier, method: str, leader: str, plan: str, made_from: str
) -> None:
    (row,) = measured(frontier, method)
    assert (row["steps"], row["leader"], row["plan"], row["bundle"]) == (0, leader, plan, made_from)
    assert (row["task"], row["episodes"]) == ("reach", 2)
    assert row["steps_to_success"] <= 200.0


def test_what_is_found_in_episodes_says_how_many_steps_they_took(
    frontier: Frontier, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = "lago_skills.experiments.tables.frontier"
    monkeypatch.setattr(f"{tables}.TRIAL_EPISODES", 4)
    monkeypatch.setitem(FOUND, "numbers/explored", Found("numbers", 300))
    for method in ("portfolio-20-episodes", "portfolio-20-episodes-at-end", "numbers/explored", "noise-2cm/numbers"):
        (row,) = measured(frontier, method)
        assert (row["steps"] > 0) == (method != "noise-2cm/numbers"), "of one plan there is nothing to try"
        assert row["bundle"] == ("library-digest" if "numbers" in method else "library-digest+library-digest")
        assert row["plan"] in ("reach", "words: reach", "numbers: reach", "words: reach/1", "numbers: reach/1")
    (row,) = measured(frontier, "controller-10-portfolio-20-episodes")
    assert row["success"] == 1.0, "a controller that heads for the goal reaches it"
    assert row["episodes_to_first_success"] is not None


def test_learners_have_a_row_for_each_evaluation_and_one_for_the_policy_alone(
    frontier: Frontier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lago_skills.experiments.tables.frontier.TRIAL_EPISODES", 2)
    rows = measured(frontier, ALL_PARTS)
    assert [row["leader"] for row in rows if row["success_last"] is not None][-1] == "policy"
    assert rows[-1]["steps"] >= 700
    assert all(row["success_last"] is None for row in rows if row["steps"] < rows[-1]["steps"])
    assert not list(frontier.space.artifact("unfinished").rglob("checkpoint")), "what is finished leaves nothing behind"
    plain = measured(frontier, "sac")
    assert (plain[-1]["leader"], plain[-1]["plan"], plain[-1]["bundle"]) == ("policy", "", "")


def test_methods_and_tasks_that_are_not_there_are_refused(frontier: Frontier) -> None:
    with pytest.raises(StudyError, match="found method 'magic'; expected random"):
        frontier.cells(Choice(methods=["magic"]))
    with pytest.raises(StudyError, match="found task 'fly'; expected a task of the study, push, reach"):
        frontier.cells(Choice(tasks=["fly"]))
    with pytest.raises(StudyError, match="found plan-7 of reach and 4 valid plans"):
        measured(frontier, "plan-7")


def test_what_takes_a_part_away_differs_in_that_part_alone() -> None:
    whole = LEARNERS[ALL_PARTS]
    for name, parts in {
        "without-portfolio": {"plans"},
        "without-search": {"search_steps"},
        "without-following": {"settings"},
        "without-speed": {"settings"},
    }.items():
        differing = {part for part in vars(whole) if getattr(whole, part) != getattr(LEARNERS[name], part)}
        assert differing == parts
    assert whole.settings["observe_prior"] is False, "the policy acts without the library"


def test_noise_is_on_every_number_of_a_plan_and_in_no_word(playbooks: dict[str, Playbook]) -> None:
    guide = random_guide({"push": playbooks["push"]})
    followed = noisy(guide, "push", "2 cm", np.random.default_rng(0))
    before, _ = numbers_of(playbooks["push"], guide.grounding.vocabulary)
    after, _ = numbers_of(followed.books["push"], guide.grounding.vocabulary)
    offsets = [step.target.offset for step in playbooks["push"].steps if step.target]
    assert 0.01 < np.std(after - before) < 0.03
    assert np.count_nonzero(after != before) >= 3 * len(offsets)
    assert [step.skill for step in followed.books["push"].steps] == [step.skill for step in playbooks["push"].steps]
    assert np.array_equal(followed.step_latents["push"], guide.step_latents["push"])


def test_bad_portfolios_are_of_other_tasks_or_of_the_other_side(playbooks: dict[str, Playbook]) -> None:
    guide = random_guide({name: playbooks[name] for name in ("push", "reach", "door-open")})
    wrong = wrong_plans(guide, "reach", 5)
    assert [plan.name for plan in wrong] == ["of door-open", "of push"]
    for plan, other in zip(wrong, ("door-open", "push"), strict=True):
        assert list(plan.guide.books) == ["reach"]
        assert plan.guide.books["reach"].steps == playbooks[other].steps
        assert np.array_equal(plan.guide.step_latents["reach"], guide.step_latents[other])
    opposite = opposite_plan(guide, "push").books["push"]
    for before, after in zip(playbooks["push"].steps, opposite.steps, strict=True):
        assert before.target is not None
        assert after.target is not None
        assert [a + b for a, b in zip(before.target.offset, after.target.offset, strict=True)] == [0.0] * 3
        assert before.when == after.when
