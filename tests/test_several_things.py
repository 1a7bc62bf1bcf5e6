"""Plans in words for several things: their parts, which is at work, when a hand lets go, and whose demonstrations say what they mean."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lago_skills.artifacts.tensors import load_arrays
from lago_skills.core import Neighbors, Playbook, Step
from lago_skills.guide.retrieval import without
from lago_skills.words.alignment import LEAST_STEPS, most_likely
from lago_skills.words.ends import ENDS_FILE, Ends
from lago_skills.words.geometry import Floats
from lago_skills.words.order import Order, in_order, parts
from lago_skills.words.words_plan import WordsPlan
from lago_skills.worlds.grounding import anchored
from lago_skills.worlds.kitchen.grounding import ANCHORS, KitchenGrounding
from lago_skills.worlds.kitchen.kinematics import AHEAD, OBJECTS, jacobian, joints_at
from lago_skills.worlds.kitchen.subtasks import SUBTASKS
from lago_skills.worlds.kitchen.world import KitchenWorld

GROUNDING = anchored(KitchenGrounding())
RELATION = {relation.name: relation for relation in GROUNDING.vocabulary.relations}
PLACES = {"microwave": "microwave_open", "kettle": "back_burner", "light_switch": "light_switch_on"}


def step(skill: str, until: str, *about: str) -> Step:
    return Step(skill, about=about, until=RELATION[until])


def gripped(thing: str) -> tuple[Step, ...]:
    place = PLACES[thing]
    return (
        step("come before it", "before thing", thing, place),
        step("put open fingers about it", "around thing", thing),
        step("close the fingers on it", "holding thing", thing),
        step("draw it along", "thing at place", thing, place),
        step("let go and draw back", "clear of thing", thing),
    )


def pushed(thing: str) -> tuple[Step, ...]:
    place = PLACES[thing]
    return (
        step("bring closed fingers beside it", "behind thing", thing, place),
        step("push it along", "thing at place", thing, place),
        step("let go and draw back", "clear of thing", thing),
    )


def book(*steps: Step) -> Playbook:
    return Playbook("task", steps, "key", "model", "words")


SHOWN = {"microwave": gripped("microwave"), "kettle": gripped("kettle"), "light_switch": pushed("light_switch")}
ORDER = Order.of([book(*steps) for steps in SHOWN.values()])
ALL_THREE = book(*(each for steps in SHOWN.values() for each in steps))


def corrected(*steps: Step) -> tuple[tuple[Step, ...], list[str]]:
    found = in_order(book(*steps), [each.sentence for each in steps], ORDER, named_things=True)
    return found.playbook.steps, [change.kind for change in found.changes]


# The plan ---------------------------------------------------------------------------------------------------------------


def test_a_plan_for_several_things_has_a_part_for_each() -> None:
    assert parts(ALL_THREE.steps, ORDER) == [slice(0, 5), slice(5, 10), slice(10, 13)]
    without_letting_go = SHOWN["microwave"][:4] + SHOWN["light_switch"][:2]
    assert parts(without_letting_go, ORDER) == [slice(0, 4), slice(4, 6)]
    assert parts(SHOWN["kettle"], ORDER) == [slice(0, 5)]
    other_thing_on_the_way = (*SHOWN["kettle"][:2], *SHOWN["microwave"][2:])  # nothing was brought anywhere before
    assert len(parts(other_thing_on_the_way, ORDER)) == 1
    nothing_moved = (*SHOWN["kettle"], SHOWN["microwave"][0])  # the end of a plan that moves nothing more
    assert len(parts(nothing_moved, ORDER)) == 1


def test_what_demonstrations_show_of_each_thing_stays_as_it_is() -> None:
    assert corrected(*ALL_THREE.steps) == (ALL_THREE.steps, [])


def test_a_step_that_is_missing_from_one_part_is_put_back_there() -> None:
    steps = [each for number, each in enumerate(ALL_THREE.steps) if number != 7]  # the kettle is not gripped
    assert corrected(*steps) == (ALL_THREE.steps, ["inserted"])


def test_a_thing_that_is_not_let_go_of_is() -> None:
    steps = [each for number, each in enumerate(ALL_THREE.steps) if number != 4]
    assert corrected(*steps) == (ALL_THREE.steps, ["inserted"])


def test_a_step_that_ends_as_nothing_ever_did_with_its_thing_is_replaced() -> None:
    odd = replace(SHOWN["microwave"][0], until=RELATION["behind thing"])
    plan = book(odd, *ALL_THREE.steps[1:])
    nearest = [each.sentence for each in ALL_THREE.steps]
    found = in_order(plan, nearest, ORDER, named_things=True)
    assert found.playbook.steps == ALL_THREE.steps
    assert [change.kind for change in found.changes] == ["replaced"]
    assert "found 'behind thing', in which no demonstration with 'microwave' ends" in found.changes[0].text
    # Things that are roles and not names may be treated as any other thing was.
    assert in_order(plan, nearest, ORDER).playbook.steps[0] == odd


# At run time ------------------------------------------------------------------------------------------------------------


def _ends() -> Ends:
    """As if each thing had been brought 90 % of its way, and hands had drawn back 20 cm."""
    observation = KitchenWorld().make("microwave").reset(seed=0)[0]
    anchors = GROUNDING.read(observation[None]).anchors[0]
    skills = tuple(dict.fromkeys(each.sentence for steps in SHOWN.values() for each in steps))
    words: dict[str, None] = {}
    rows: dict[str, list[object]] = {}
    for thing, steps in SHOWN.items():
        way = anchors[ANCHORS.index(PLACES[thing])] - anchors[ANCHORS.index(thing)]
        for each in steps:
            assert each.until is not None
            words.setdefault(each.until.word)
            moves = each.until.mover == "thing"
            offset = {"clear": (0.0, -0.2, 0.0), "before": (0.0, -0.12, 0.0), "behind": (0.1, 0.0, 0.0)}
            heads = np.zeros(3) if moves else np.array(offset.get(each.until.word, (0.0, 0.0, 0.0)))
            lie = (anchors[ANCHORS.index(thing), 2], np.linalg.norm(way[:2]), way[2], float(len(each.about) > 1))
            entry: dict[str, object] = {
                "skill": skills.index(each.sentence),
                "word": list(words).index(each.until.word),
                "by_thing": moves,
                "lie": lie,
                "fitted": heads,
                "heads": heads,
                "ended": -0.1 * way if moves else heads,
                "contact": np.zeros(3),
                "thing": ANCHORS.index(thing),
            }
            for name, value in entry.items():
                rows.setdefault(name, []).append(value)
    arrays = {name: np.array(values) for name, values in rows.items()}
    held = np.array([[0.3, -1.0], [0.6, 1.0]])
    return Ends(skills, tuple(words), **arrays, tolerance=np.full(len(skills), 0.03), held=held, order=ORDER)


ENDS = _ends()
PLAN = WordsPlan(ALL_THREE, GROUNDING, ENDS)
WEIGHTS = np.eye(len(ENDS.skills))[[ENDS.skills.index(each.sentence) for each in ALL_THREE.steps]]


def _observation(*done: str) -> NDArray[np.float64]:
    observation = KitchenWorld().make("microwave.kettle.light-switch.slide-cabinet").reset(seed=0)[0].copy()
    for name in done:
        observation[OBJECTS][list(SUBTASKS[name].joints)] = SUBTASKS[name].goal
    return observation


def _steps(*observations: NDArray[np.float64]) -> list[int]:
    steps: list[int] = PLAN.read(GROUNDING.read(np.stack(observations)), WEIGHTS).steps.tolist()
    return steps


def test_the_first_part_that_is_not_done_is_at_work() -> None:
    nothing, one, two = _observation(), _observation("microwave"), _observation("microwave", "kettle")
    other = _observation("kettle")
    assert _steps(nothing, one, two, other) == [0, 5, 10, 0]
    assert _steps(_observation("microwave", "kettle", "light-switch")) == [
        12
    ]  # all is done: the last thing is let go of


def test_only_steps_of_the_part_at_work_are_near() -> None:
    """How far a state is from where steps may begin: the one at work may, those of other things are infinitely far."""
    observations = np.stack(
        [_observation(), _observation("microwave"), _observation("microwave", "kettle", "light-switch")]
    )
    state = GROUNDING.read(observations)
    apart, steps = PLAN.apart(state, WEIGHTS), PLAN.read(state, WEIGHTS).steps.tolist()
    for row, step in enumerate(steps):
        assert apart[row, step] <= 1.0
        near = np.flatnonzero(np.isfinite(apart[row])).tolist()
        assert step in near
        assert max(near) - min(near) < 5
    assert len({*steps}) == 3


def test_a_hand_that_is_still_at_a_thing_lets_go_of_it_first() -> None:
    """The arm's joints are those of a hand at the kettle on its burner, and then of one that has drawn back."""
    at_kettle = _observation("microwave", "kettle")
    handle = GROUNDING.read(at_kettle[None]).anchors[0, ANCHORS.index("kettle")]
    bounds = np.full(7, -3.0), np.full(7, 3.7)
    joints = joints_at(handle + np.array([0.0, -0.02, 0.0]), AHEAD, at_kettle[:7], *bounds)
    assert joints is not None
    at_kettle[:7], at_kettle[7:9] = joints, 0.02
    reading = PLAN.read(GROUNDING.read(at_kettle[None]), WEIGHTS)
    assert reading.steps.tolist() == [9]
    np.testing.assert_allclose(reading.targets[0], handle + np.array([0.0, -0.2, 0.0]), atol=1e-6)
    away = joints_at(handle + np.array([0.0, -0.19, 0.0]), AHEAD, joints, *bounds)
    assert away is not None
    at_kettle[:7], at_kettle[7:9] = away, 0.04
    assert _steps(at_kettle) == [10]


def test_a_hand_that_draws_back_goes_on_until_it_is_clear() -> None:
    """Half of the way out: drawing back it goes on, on its way to the next thing it does not turn round."""
    halfway = _observation("microwave", "kettle")
    handle = GROUNDING.read(halfway[None]).anchors[0, ANCHORS.index("kettle")]
    bounds = np.full(7, -3.0), np.full(7, 3.7)
    joints = joints_at(handle + np.array([0.0, -0.12, 0.0]), AHEAD, halfway[:7], *bounds)
    assert joints is not None
    halfway[:7] = joints
    turning = np.asarray(np.linalg.pinv(jacobian(joints[None])[0][:3]), np.float64)
    rows = np.stack([halfway] * 3)
    for row, speed in enumerate((-0.3, 0.0, 0.3)):  # m/s, away from the wall, at rest, towards it
        rows[row, 9:16] = speed * turning[:, 1]
    assert _steps(*rows) == [9, 10, 10]


def test_a_thing_that_slips_back_a_little_is_done_while_it_is_left_alone() -> None:
    """Done at 85 % of the demonstrated way; not undone before it is back at 70 %."""
    assert SUBTASKS["microwave"].joints == (13,)
    done = [_observation() for _ in range(4)]
    handle = ANCHORS.index("microwave")
    place = GROUNDING.read(done[0][None]).anchors[0, ANCHORS.index("microwave_open")]
    began = np.linalg.norm(GROUNDING.read(done[0][None]).anchors[0, handle] - place)
    angles = np.linspace(0.0, -0.75, 400)
    rows = np.stack([done[0]] * len(angles))
    rows[:, OBJECTS][:, 13] = angles
    left = np.linalg.norm(GROUNDING.read(rows).anchors[:, handle] - place, axis=1) / began
    share = (1.0 - left) / 0.9
    at_78 = rows[int(np.argmin(np.abs(share - 0.78)))]
    at_60 = rows[int(np.argmin(np.abs(share - 0.60)))]
    assert _steps(at_78, at_60) == [5, 0]


def test_named_things_are_answered_by_what_was_shown_with_them() -> None:
    draw, push = (
        ENDS.skills.index(SHOWN[name][number].sentence) for name, number in (("kettle", 3), ("light_switch", 1))
    )
    kettle, switch, knob = (ENDS.supported(ANCHORS.index(name)) for name in ("kettle", "light_switch", "top_knob"))
    assert kettle[draw]
    assert not kettle[push]
    assert switch[push]
    assert not switch[draw]
    assert knob.all()  # nobody has shown anything with it
    assert replace(ENDS, thing=np.zeros(0, np.int64)).supported(ANCHORS.index("kettle")).all()


def test_ends_of_another_thing_hardly_count() -> None:
    word, lie = "clear", np.array([[1.9, 0.4, 0.0, 0.0]])
    far = ENDS.ended.copy()
    far[(ENDS.thing == ANCHORS.index("kettle")) & (ENDS.word == ENDS.number("clear"))] = (0.0, -0.5, 0.0)
    ends, weights = replace(ENDS, ended=far), WEIGHTS[4]
    of = {name: ends.offsets("ended", word, lie, weights, by_thing=False, thing=ANCHORS.index(name)) for name in PLACES}
    assert of["kettle"][0, 1] == pytest.approx(-0.5, abs=0.01)
    assert of["microwave"][0, 1] == pytest.approx(-0.2, abs=0.01)


def test_excluded_skills_answer_only_where_there_are_no_others() -> None:
    neighbors = Neighbors(np.array([[3, 1, 2], [3, 1, 2]]), np.array([[0.9, 0.8, 0.7]] * 2, np.float32))
    found = without(neighbors, [frozenset({3}), frozenset({1, 2, 3})], 2)
    assert found.ids.tolist() == [[1, 2], [3, 1]]
    np.testing.assert_allclose(found.scores, [[0.8, 0.7], [0.9, 0.8]])


def test_hands_that_hold_are_each_things_own() -> None:
    """Of a thick handle fingers are nearly open; that says nothing of a thin one."""
    own = np.full((len(ANCHORS), 2, 2), np.nan)
    own[ANCHORS.index("kettle")] = [[0.8, -0.1], [0.9, 0.1]]
    ends = replace(ENDS, held_thing=own)
    np.testing.assert_array_equal(ends.hand_holding(ANCHORS.index("kettle")), own[ANCHORS.index("kettle")])
    np.testing.assert_array_equal(ends.hand_holding(ANCHORS.index("microwave")), ENDS.held)  # nobody held it
    np.testing.assert_array_equal(ENDS.hand_holding(ANCHORS.index("kettle")), ENDS.held)


def test_learned_ends_of_named_things_are_kept_in_files(tmp_path: Path) -> None:
    own = np.full((len(ANCHORS), 2, 2), np.nan)
    own[2] = 0.5
    replace(ENDS, held_thing=own).save(tmp_path)
    again = Ends.load(tmp_path, GROUNDING.vocabulary)
    np.testing.assert_array_equal(again.thing, ENDS.thing)
    np.testing.assert_allclose(again.held_thing, own)
    assert again.order == ENDS.order
    roles = replace(ENDS, thing=np.zeros(0, np.int64), held_thing=np.zeros((0, 2, 0)))
    roles.save(tmp_path)
    assert set(load_arrays(tmp_path / ENDS_FILE)).isdisjoint({"thing", "held_thing"})  # as files of before
    assert not len(Ends.load(tmp_path, GROUNDING.vocabulary).thing)


# Alignment --------------------------------------------------------------------------------------------------------------


def _best_by_trying(likely: Floats, stops: Floats) -> float:
    """All ways to lay two or three steps over a few control steps."""
    length, n = likely.shape

    def best(k: int, start: int) -> float:
        if k == n:
            return 0.0 if start == length else -np.inf
        ends = range(start + LEAST_STEPS, length + 1)
        return max((likely[start:stop, k].sum() + stops[stop, k] + best(k + 1, stop) for stop in ends), default=-np.inf)

    return float(best(0, 0))


@given(st.integers(1, 3), st.integers(0, 9), st.integers(0, 2**31))
def test_the_likeliest_ends_are_those_of_trying_all(n_steps: int, more: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    length = n_steps * LEAST_STEPS + more
    likely, stops = rng.normal(size=(length, n_steps)), rng.normal(size=(length + 1, n_steps))
    ends, score = most_likely(likely, stops)
    assert score == pytest.approx(_best_by_trying(likely, stops))
    assert ends[0] == 0
    assert ends[-1] == length
    assert min(np.diff(ends)) >= LEAST_STEPS
    own = sum(likely[a:b, k].sum() + stops[b, k] for k, (a, b) in enumerate(itertools.pairwise(ends)))
    assert own == pytest.approx(score)
