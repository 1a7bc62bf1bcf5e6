"""Ball push: when goals hold, which can, and what they are called."""

# Gymnasium and MuJoCo leave types partially unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from lago_skills.worlds.ball_push.balls import COLOURS, N_ACTIONS, SIDES, action_of
from lago_skills.worlds.ball_push.drawing import LEVELS, PAIRS, draw_goal, feasible
from lago_skills.worlds.ball_push.env import BallPush
from lago_skills.worlds.ball_push.goals import GATHER, IN_ROW, LINE_UP, NEAR, Goal, Part, goal_of, related, side_of
from lago_skills.worlds.ball_push.sentences import (
    EASY,
    REPHRASED,
    SEVERAL,
    TRAINING,
    draw_sentence,
    sentences,
)
from lago_skills.worlds.ball_push.sentences import (
    GATHER as GATHERINGS,
)
from lago_skills.worlds.ball_push.sentences import (
    LINE_UP as ROWS,
)
from tests.ball_scenes import (
    BEHIND,
    BLUE,
    CYAN,
    FRONT,
    GREEN,
    LEFT,
    PURPLE,
    RED,
    RED_LEFT_BLUE,
    RIGHT,
    RING,
    ROW,
    SPREAD,
)


def made(level: str = "pair", **settings: Any) -> BallPush:
    return BallPush(level, **settings)


# Judges --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("degrees", "side"), [(45, BEHIND), (134.9, BEHIND), (135, LEFT), (224.9, LEFT), (225, FRONT), (314.9, FRONT), (315, RIGHT), (0, RIGHT), (44.9, RIGHT)]
)  # fmt: skip
def test_sides_are_quarters_with_their_first_edge(degrees: float, side: int) -> None:
    exact = {45: (1, 1), 135: (-1, 1), 225: (-1, -1), 315: (1, -1)}.get(int(degrees)) if degrees % 45 == 0 else None
    way = (
        np.array(exact, np.float64) * 0.2
        if exact
        else 0.3 * np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    )
    assert side_of(way) == side
    assert [bool(related(way, np.array(how))) for how in range(4)] == [how == side for how in range(4)]


def test_a_pair_holds_within_a_diameter_and_a_radius() -> None:
    left = np.array(LEFT)
    assert related(np.array([-0.3909, 0.0]), left)
    assert not related(np.array([-0.391, 0.0]), left)
    assert related(np.array([0.2, 0.0]), np.array(RIGHT))
    # Differences below a millimetre count as none: straight to the right, and not in front by a hair.
    assert related(np.array([0.0, -0.3]), np.array(FRONT))
    assert side_of(np.zeros(2)) == RIGHT


def test_gathering_and_lining_up_have_their_limits() -> None:
    near, row = np.array(NEAR), np.array(IN_ROW)
    assert related(np.array([0.0, 0.3249]), near)
    assert not related(np.array([0.0, 0.325]), near)
    for angle, inside in ((29.9, True), (30.1, False), (-29.9, True), (-30.1, False), (180.0, False)):
        way = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        assert bool(related(way, row)) == inside
    assert LINE_UP.holds(ROW)
    assert not LINE_UP.holds(ROW[[1, 0, 2, 3, 4]])
    assert GATHER.holds(RING)
    assert not GATHER.holds(RING + np.array([[0.0, 0.03], [0, 0], [0, 0], [0, 0], [0, 0]]))


@pytest.mark.parametrize(
    ("level", "goal", "layout", "keeps", "breaks"),
    [
        ("pair", RED_LEFT_BLUE, [[0.0, 0.1], [0.33, 0.1], [-0.4, 0.5], [0.4, 0.5], [-0.4, -0.1]], 0, 2),
        ("two", Goal("two", (Part(RED, LEFT, BLUE), Part(GREEN, BEHIND, PURPLE))), [[0.0, 0.0], [0.33, 0.0], [-0.4, 0.5], [-0.4, 0.2], [0.4, 0.5]], 16, 2),
        (
            "three",
            Goal("three", (Part(RED, LEFT, BLUE), Part(GREEN, BEHIND, PURPLE), Part(CYAN, BEHIND, BLUE))),
            [[0.0, 0.0], [0.33, 0.0], [-0.4, 0.5], [-0.4, 0.2], [0.33, 0.32]],
            16,
            2,
        ),
        ("gather", GATHER, RING, 3, 0),
        ("line-up", LINE_UP, ROW, 2, 1),
    ],
)  # fmt: skip
def test_an_episode_ends_at_the_first_push_after_which_its_goal_holds(
    level: str, goal: Goal, layout: Any, keeps: int, breaks: int
) -> None:
    """From a layout in which it does, a push after which it still does, and one after which it no longer does."""
    assert goal.holds(np.asarray(layout, np.float64))
    assert not goal.holds(SPREAD)
    env = made(level, goal=goal, reward="progress")
    for action, holds in ((keeps, True), (breaks, False)):
        _, info = env.reset(seed=0, options={"positions": layout})
        assert (info["goal"], info["parts_done"]) == (goal.as_json(), len(goal.parts))
        observation, reward, terminated, truncated, info = env.step(action)
        assert (terminated, truncated, info["success"]) == (holds, False, holds)
        assert goal.holds(observation.reshape(5, 2)) == holds
        assert (info["parts_done"] == len(goal.parts)) == holds
        assert reward == 100.0 if holds else reward < 0.0


def test_a_push_that_makes_a_goal_true_ends_the_episode_with_its_reward() -> None:
    layout = np.array([[-0.3, 0.2], [0.28, 0.2], [-0.4, 0.55], [0.4, -0.15], [-0.4, -0.15]])
    for reward, bonus, expected in (("sparse", True, 1.0), ("progress", True, 100.0), ("progress", False, 2.467)):
        env = made(goal=RED_LEFT_BLUE, reward=reward, bonus=bonus)
        env.reset(seed=0, options={"positions": layout})
        observation, won, terminated, truncated, info = env.step(action_of(RED, 0))
        assert won == pytest.approx(expected, abs=0.01)
        assert (terminated, truncated, info["success"], info["parts_done"]) == (True, False, True, 1)
        assert RED_LEFT_BLUE.holds(observation.reshape(5, 2))


def test_parts_are_rewarded_as_they_come_to_hold_and_cease_to() -> None:
    goal = Goal("two", (Part(RED, LEFT, BLUE), Part(GREEN, BEHIND, CYAN)))
    env = made("two", goal=goal, reward="progress")
    env.reset(seed=0, options={"positions": [[-0.3, 0.2], [0.28, 0.2], [-0.4, 0.55], [0.4, -0.15], [0.1, -0.15]]})
    assert [env.step(action_of(RED, direction))[1] for direction in (0, 2)] == [10.0, -10.0]


def test_easy_goals_are_judged_by_the_action_or_by_motion() -> None:
    right = {BEHIND: {1, 4, 5}, LEFT: {2, 5, 7}, FRONT: {3, 6, 7}, RIGHT: {0, 4, 6}}
    env = made("easy")
    for side in range(4):
        goal = Goal("easy", (Part(RED, side),))
        for action in range(N_ACTIONS):
            env.reset(seed=0, options={"positions": SPREAD, "goal": goal})
            _, reward, terminated, truncated, info = env.step(action)
            ball, direction = divmod(action, 8)
            expected = ball == RED and direction in right[side]
            assert (info["label_success"], terminated, truncated, reward) == (
                expected,
                expected,
                not expected,
                expected,
            )
            assert info["motion_success"] == expected  # red has room on all sides
    blocked = SPREAD.copy()
    blocked[RED] = [-0.47, 0.2]
    for judge, success in (("label", True), ("motion", False)):
        env = made("easy", goal=Goal("easy", (Part(RED, LEFT),)), easy_judge=judge)
        env.reset(seed=0, options={"positions": blocked})
        assert env.step(action_of(RED, 2))[4]["success"] is success


def test_goals_are_data_and_come_back_from_it() -> None:
    rng = np.random.default_rng(0)
    for level in LEVELS:
        goal = draw_goal(level, rng, feasible_only=True)
        assert goal_of(goal.as_json()) == goal
    assert RED_LEFT_BLUE.labels == (1, 2, 0, 0, 0, 1)
    assert RED_LEFT_BLUE.as_json() == {"kind": "pair", "parts": [{"moved": "red", "how": "left", "reference": "blue"}]}
    for wrong in (
        {"kind": "pair", "parts": [{"moved": "red", "how": "left"}]},
        {"kind": "pair", "parts": [{"moved": "red", "how": "under", "reference": "blue"}]},
        {"kind": "pair", "parts": [{"moved": "red", "how": "left", "reference": "red"}]},
        {"kind": "two", "parts": [{"moved": "red", "how": "left", "reference": "blue"}]},
        {"kind": "gather", "parts": [{"moved": "red", "how": "near", "reference": "blue"}] * 4},
        {"kind": "dance", "parts": []},
    ):
        with pytest.raises(ValueError, match=r"found .*; expected .*; "):
            goal_of(wrong)
    with pytest.raises(ValueError, match="found a goal of 2 parts; expected one"):
        _ = Goal("two", (Part(RED, LEFT, BLUE), Part(RED, LEFT, GREEN))).labels


def test_only_goals_that_can_hold_are_drawn() -> None:
    ring = (Part(RED, LEFT, BLUE), Part(BLUE, LEFT, GREEN), Part(GREEN, LEFT, RED))
    assert not feasible(ring)
    assert not feasible((Part(RED, LEFT, BLUE), Part(RED, RIGHT, BLUE)))
    assert feasible((Part(RED, LEFT, BLUE), Part(BLUE, LEFT, GREEN), Part(GREEN, BEHIND, PURPLE)))
    triangle = np.array([[0.0, 0.0], [0.3, 0.02], [0.14, 0.28], [0.45, 0.5], [-0.45, 0.5]])
    sides = [int(side_of(triangle[a] - triangle[b])) for a, b in ((0, 1), (1, 2), (2, 0))]
    parts = tuple(Part(a, side, b) for side, (a, b) in zip(sides, ((0, 1), (1, 2), (2, 0)), strict=True))
    assert Goal("three", parts).holds(triangle)
    assert feasible(parts)
    twos = list(combinations(PAIRS, 2))
    assert len(twos) == 3160
    assert sum(feasible(two) for two in twos) == 3160 - 10 * 28  # all sets of two but those about the same two balls
    rng = np.random.default_rng(1)
    assert all(feasible(draw_goal("three", rng, feasible_only=True).parts) for _ in range(100))
    assert not all(feasible(draw_goal("three", rng, feasible_only=False).parts) for _ in range(100))


# Sentences -----------------------------------------------------------------------------------------------------------


def test_sentences_are_as_many_as_published_ones_and_name_their_balls() -> None:
    assert len(set(TRAINING)) == 18
    assert {side: len(set(patterns)) for side, patterns in REPHRASED.items()} == dict.fromkeys(SIDES, 10)
    assert [len(set(patterns)) for patterns in EASY] == [20] * 4
    assert (len(set(SEVERAL)), len(set(ROWS)), len(set(GATHERINGS))) == (6, 20, 20)
    for level, n in (("pair", 18), ("rephrased", 10)):
        texts = [text for part in PAIRS for text in sentences(level, Goal("pair", (part,)))]
        assert len(set(texts)) == len(texts) == 80 * n
    for part in PAIRS:
        for level in ("pair", "rephrased"):
            for text in sentences(level, Goal("pair", (part,))):
                named = [colour for colour in COLOURS if f" {colour} " in f" {text.replace(chr(39), ' ')} "]
                assert sorted(named) == sorted([COLOURS[part.moved], COLOURS[part.reference]])
                assert "{" not in text
    phrases = Counter(text for patterns in REPHRASED.values() for text in patterns)
    assert max(phrases.values()) == 1  # no rephrasing is used for two sides


def test_goals_of_several_parts_join_sentences() -> None:
    goal = Goal("two", (Part(RED, LEFT, BLUE), Part(GREEN, BEHIND, CYAN)))
    assert (
        sentences("two", goal)[0]
        == "Push the red ball to the left of the blue ball and push the green ball behind the cyan ball."
    )
    drawn = {draw_sentence("two", goal, np.random.default_rng(seed)) for seed in range(200)}
    assert 30 < len(drawn) <= 36
    with pytest.raises(ValueError, match="found level 'easy' and a goal of kind 'two'"):
        sentences("easy", goal)
