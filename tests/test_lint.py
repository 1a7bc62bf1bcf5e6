"""What lint finds by logic, in demonstrations and in rollouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lago_skills.core import Condition, Feature, Playbook, Step, Vocabulary
from lago_skills.errors import PlanError
from lago_skills.planner.findings import Finding, LintFile, LintRecord
from lago_skills.planner.lint import Trace, lint_demonstrations, lint_logic, lint_rollouts
from lago_skills.playbook import CompiledPlaybook

# Lint ----------------------------------------------------------------------------------------------------------------

CART = Vocabulary((Feature("x", "m", "position", -1.0, 1.0), Feature("v", "m/s", "speed", 0.0, 5.0)), ())


def cart(*whens: list[tuple[str, str, float]]) -> Playbook:
    steps = tuple(
        Step(f"step {i}", None, tuple(Condition(name, "<" if op == "<" else ">", value) for name, op, value in when))
        for i, when in enumerate(whens, start=1)
    )
    return Playbook("cart", steps, "key", "model")


def kinds(findings: tuple[Finding, ...]) -> list[tuple[str, int]]:
    return [(finding.kind, finding.step) for finding in findings]


@pytest.mark.parametrize(
    ("book", "expected"),
    [
        (cart([("x", "<", 0.5)], []), []),
        (cart([("x", "<", -1.0)], []), [("impossible", 1)]),
        (cart([("v", ">", 5.0)], []), [("impossible", 1)]),
        (cart([("x", "<", 0.1), ("x", ">", 0.2)], []), [("impossible", 1)]),
        (cart([], []), [("shadowed", 2)]),
        (cart([("x", "<", 0.5)], [("x", "<", 0.3)], []), [("shadowed", 2)]),
        (cart([("x", "<", 0.3)], [("x", "<", 0.5)], []), []),
        (cart([("x", "<", 0.5)], [("x", "<", 0.3), ("v", ">", 1.0)], []), [("shadowed", 2)]),
        (cart([("x", "<", 0.5), ("v", ">", 1.0)], [("x", "<", 0.3)], []), []),
        (cart([("x", "<", 2.0)], []), [("shadowed", 2)]),  # the feature is never above 1
    ],
)
def test_logic_finds_what_no_state_can_meet(book: Playbook, expected: list[tuple[str, int]]) -> None:
    assert kinds(lint_logic(book, CART)) == expected


@given(st.integers(0, 2**32 - 1))
def test_a_shadowed_step_is_never_active(seed: int) -> None:
    """Whatever logic calls impossible or shadowed is active in no state within the features' bounds."""
    rng = np.random.default_rng(seed)

    def conditions() -> list[tuple[str, str, float]]:
        draws = range(rng.integers(0, 3))
        return [("xv"[rng.integers(2)], "<>"[rng.integers(2)], float(rng.integers(-3, 6)) / 2) for _ in draws]

    book = cart(conditions(), conditions(), conditions(), [])
    states = np.stack([rng.uniform(-1, 1, 2000), rng.uniform(0, 5, 2000)], axis=1)
    active = set(CompiledPlaybook(book, CART).active(states).tolist())
    for finding in lint_logic(book, CART):
        if finding.step < len(book.steps):
            assert finding.step - 1 not in active, finding


def trace(xs: list[float], ended: bool = False) -> Trace:
    return Trace(np.stack([np.array(xs), np.zeros(len(xs))], axis=1), ended)


def test_demonstrations_find_steps_that_are_never_active_and_why() -> None:
    book = cart([("x", ">", 0.9)], [("x", ">", 0.5), ("v", "<", 1.0)], [])
    good = trace(list(np.linspace(0, 1, 50)), ended=True)
    assert lint_demonstrations(book, CART, [good] * 3) == ()
    short = trace(list(np.linspace(0, 0.6, 50)), ended=True)
    found = lint_demonstrations(book, CART, [short] * 3)
    assert kinds(found) == [("unmet", 1), ("unfinished", 0)]
    assert "x was 0.00 to 0.60, median 0.30" in found[0].text
    apart = cart([("x", ">", 0.5), ("x", "<", 0.52)], [])
    jump = trace([0.0] * 25 + [1.0] * 25, ended=True)
    assert ("never-active", 1) in kinds(lint_demonstrations(apart, CART, [jump]))
    assert lint_demonstrations(book, CART, []) == ()


def test_chattering_is_two_steps_that_hand_over_and_back() -> None:
    book = cart([("x", ">", 0.5)], [])
    flicker = trace([0.4, 0.6] * 50)
    steady = trace([0.4] * 50 + [0.6] * 50)
    assert ("chatters", 1) in kinds(lint_rollouts(book, CART, [flicker]))
    assert ("chatters", 1) not in kinds(lint_rollouts(book, CART, [steady]))


def test_rollouts_find_where_a_plan_gets_stuck() -> None:
    book = cart([("x", ">", 0.9)], [("x", ">", 0.5)], [])
    never = trace([0.1] * 200)
    stuck = trace([0.1] * 50 + [0.7] * 150)
    around = trace(([0.1] * 20 + [0.7] * 20 + [0.95] * 10) * 4)
    solved = trace([0.1, 0.7, 0.95], ended=True)
    assert ("never-starts", 3) in kinds(lint_rollouts(book, CART, [never] * 4))
    found = lint_rollouts(book, CART, [stuck] * 4)
    assert ("stuck", 2) in kinds(found)
    assert "x 0.70" in next(finding.text for finding in found if finding.kind == "stuck")
    found = lint_rollouts(book, CART, [around] * 4)
    assert kinds(found) == [("unsolved", 0), ("stuck", 0)]
    assert "not solved in 4 of 4 rollouts" in found[0].text
    assert "x 0.1 to 0.95 (0.1 to 0.95)" in found[0].text
    assert "hands over mostly to step 2" in found[1].text
    assert lint_rollouts(book, CART, [solved] * 9 + [never]) == (), "a plan that nearly always works is left alone"


def test_lint_results_survive_the_file_and_bad_lines_are_named(tmp_path: Path) -> None:
    file = LintFile(tmp_path / "lint.jsonl")
    record = LintRecord("a1", "push", (Finding("stuck", 2, "why"),), 5, 25, 20, 3000)
    file.append(LintRecord("a1", "push", (), 5, 0, 0, 0))
    file.append(record)
    assert LintFile(tmp_path / "lint.jsonl").get("a1") == record
    assert record.score == pytest.approx(0.79)
    with (tmp_path / "lint.jsonl").open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(PlanError, match="line 3 of lint file"):
        LintFile(tmp_path / "lint.jsonl")
