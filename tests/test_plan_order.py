"""Plans in words with a step that is missing, misplaced, said twice or about another thing are brought into the order that demonstrations show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lago_skills.core import Playbook, Step
from lago_skills.words.order import END, START, Order, in_order
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding

VOCABULARY = MetaWorldGrounding.vocabulary
RELATION = {relation.name: relation for relation in VOCABULARY.relations}


def step(skill: str, until: str, *about: str) -> Step:
    return Step(skill, about=about or ("object",), until=RELATION[until])


OVER = step("move the open gripper over it", "above thing")
AROUND = step("lower the open gripper", "around thing")
GRIP = step("close the fingers", "holding thing")
SLIDE = step("slide the gripped thing", "thing at place", "object", "goal")
CLOSED_OVER = step("move the closed gripper over it", "above thing")
BESIDE = step("lower the closed gripper beside it", "behind thing", "object", "goal")
SHOVE = step("push it with closed fingers", "thing at place", "object", "goal")


def book(*steps: Step) -> Playbook:
    return Playbook("task", steps, "key", "model", "words")


DRAG, PUSH = book(OVER, AROUND, GRIP, SLIDE), book(CLOSED_OVER, BESIDE, SHOVE)
ORDER = Order.of([DRAG, PUSH])


def corrected(*steps: Step) -> tuple[Step, ...]:
    return in_order(book(*steps), [each.sentence for each in steps], ORDER).playbook.steps


@pytest.mark.parametrize("plan", [DRAG, PUSH])
def test_what_demonstrations_show_stays_as_it_is(plan: Playbook) -> None:
    found = in_order(plan, [each.sentence for each in plan.steps], ORDER)
    assert found.playbook == plan
    assert found.changes == ()
    assert found.written == tuple(range(len(plan.steps)))


@pytest.mark.parametrize("plan", [DRAG, PUSH])
def test_a_step_that_is_missing_is_put_back(plan: Playbook) -> None:
    for number in range(len(plan.steps)):
        rest = [each for place, each in enumerate(plan.steps) if place != number]
        found = in_order(book(*rest), [each.sentence for each in rest], ORDER)
        assert found.playbook.steps == plan.steps
        assert [change.kind for change in found.changes] == ["inserted"]
        assert found.changes[0].step == number + 1
        assert f'"{plan.steps[number].skill}"' in found.changes[0].text
        assert max(found.written) < len(rest)


@pytest.mark.parametrize("plan", [DRAG, PUSH])
def test_steps_that_changed_places_are_put_back(plan: Playbook) -> None:
    for number in range(len(plan.steps) - 1):
        steps = list(plan.steps)
        steps[number], steps[number + 1] = steps[number + 1], steps[number]
        found = [each.until for each in corrected(*steps)]
        wanted = [each.until for each in plan.steps]
        # Whatever was put before it, the way is the demonstrated one.
        assert found[-len(wanted) :] == wanted


def test_a_step_said_twice_is_said_once() -> None:
    assert corrected(OVER, AROUND, AROUND, GRIP, SLIDE) == DRAG.steps


def test_a_step_about_another_thing_is_about_that_of_the_plan() -> None:
    for number, each in enumerate(DRAG.steps):
        steps = list(DRAG.steps)
        steps[number] = replace(each, about=("object2",) if len(each.about) == 1 else ("goal", "object"))
        assert corrected(*steps) == DRAG.steps
    # Of two steps that disagree, what demonstrations move is the thing.
    assert corrected(replace(CLOSED_OVER, about=("goal",)), SHOVE)[0].about == ("object",)


def test_where_demonstrations_go_on_to_another_thing_a_plan_may() -> None:
    other = replace(OVER, about=("object2",))
    order = Order.of([DRAG, book(*DRAG.steps, other, replace(AROUND, about=("object2",)))])
    two = book(*DRAG.steps, other, replace(AROUND, about=("object2",)))
    assert in_order(two, [each.sentence for each in two.steps], order).playbook.steps[-1].about == ("object2",)


def test_what_nobody_has_shown_is_left_to_the_plan() -> None:
    lift = step("lift the gripped thing straight up", "thing lifted")
    raised = step("raise the open gripper", "gripper raised")
    steps = (raised, OVER, AROUND, GRIP, lift, SLIDE)
    nearest = [each.sentence for each in (OVER, OVER, AROUND, GRIP, SLIDE, SLIDE)]
    found = in_order(book(*steps), nearest, ORDER)
    assert found.playbook.steps == steps
    assert found.changes == ()


def test_a_plan_that_ends_on_its_way_goes_on_to_where_demonstrations_end() -> None:
    above = replace(SLIDE, until=RELATION["thing above place"])
    found = in_order(
        book(OVER, AROUND, GRIP, above), [each.sentence for each in (OVER, AROUND, GRIP, SLIDE)], ORDER
    ).playbook
    assert found.steps[-1].until == RELATION["thing at place"]
    assert found.steps[-1].about == ("object", "goal")


def test_a_step_to_which_no_way_leads_is_left_out() -> None:
    order = Order.of([DRAG])
    found = in_order(book(*DRAG.steps, GRIP), [each.sentence for each in (*DRAG.steps, GRIP)], order)
    assert found.playbook.steps == DRAG.steps
    assert found.changes[0].kind == "left out"
    assert "no demonstration shows" in found.changes[0].text


def test_nothing_is_corrected_by_no_demonstrations() -> None:
    nothing = Order(())
    assert in_order(DRAG, [each.sentence for each in DRAG.steps], nothing).playbook == DRAG


def test_an_order_is_kept_in_a_file() -> None:
    again = Order.from_values(ORDER.values(), VOCABULARY)
    assert again == ORDER
    assert again.way([START], {END}) is not None
