"""Ball push as a world: tasks, what its grounding says, balls numbered by their roles, and that what is learned of some balls holds for others."""

# scikit-learn ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier

from lago_skills.core import Episode
from lago_skills.errors import ShapeError, StudyError
from lago_skills.worlds.ball_push.balls import N_ACTIONS, action_of
from lago_skills.worlds.ball_push.by_role import ByRole
from lago_skills.worlds.ball_push.env import BallPush
from lago_skills.worlds.ball_push.goals import Goal, Part
from lago_skills.worlds.ball_push.grounding import BallPushGrounding, Renumbered
from lago_skills.worlds.ball_push.observed import N_OBSERVED, colours_of, reordered, roles
from lago_skills.worlds.ball_push.tasks import GOALS
from lago_skills.worlds.ball_push.world import BallPushWorld
from lago_skills.worlds.rollouts import record, rollouts
from lago_skills.worlds.world import World, find_world

PURPLE_LEFT_GREEN = Goal("pair", (Part(3, 1, 2),))
LAYOUT = np.array([[0.0, 0.5], [-0.4, 0.5], [0.1, 0.1], [-0.3, 0.0], [0.4, 0.3]])


def seen(goal: Goal, positions: NDArray[np.float64] = LAYOUT) -> NDArray[np.float64]:
    return np.append(positions.reshape(-1), goal.vector)[None]


def no_targets(n: int) -> NDArray[np.float64]:
    return np.zeros((n, 0))


def test_there_is_a_task_for_each_pair_and_a_sample_of_the_rest() -> None:
    world = find_world("ball-push")
    assert isinstance(world, World)
    assert {group: len(names) for group, names in world.groups.items()} == {
        "pair": 80, "rephrased": 80, "easy": 20, "two": 20, "three": 20, "gather": 1, "line-up": 1, "four": 4, "76": 76, "shown": 24, "unshown": 56,
    }  # fmt: skip
    assert len(world.tasks) == 222
    assert set(world.groups["four"]) <= set(world.groups["shown"])
    assert all("purple" in name or "cyan" in name for name in world.groups["unshown"])
    assert world.tasks["purple-left-green"].sentence == "push the purple ball to the left of the green ball"
    assert (world.tasks["purple-left"].horizon_steps, world.tasks["gather"].horizon_steps) == (1, 50)
    assert {world.tasks[name].parts for name in world.groups["three"]} == {3}
    again = find_world(**find_world("ball-push", by_role=True, demonstrator="rule").spec())
    assert again.spec() == {"use": "ball-push", "by_role": True, "side_told": True, "demonstrator": "rule"}
    with pytest.raises(StudyError, match="found task 'red-left-red'; expected one of"):
        world.make("red-left-red")
    with pytest.raises(StudyError, match="found reward 'dense'; expected one of sparse, progress"):
        world.make("gather", reward="dense")
    with pytest.raises(StudyError, match="found demonstrator = 'oracle'; expected one of planner, rule"):
        BallPushWorld(demonstrator="oracle")


def test_parts_of_a_task_are_its_pairs_and_the_next_one_is_the_first_that_does_not_hold() -> None:
    world = BallPushWorld()
    task = world.groups["two"][0]
    parts = world.parts(task)
    assert task == ".".join(parts)
    assert set(parts) <= set(world.groups["pair"])
    assert world.parts("gather") == ("gather",)
    _, goal = GOALS[task]
    first = goal.parts[0]
    done = LAYOUT.copy()
    done[first.reference] = [0.0, 0.2]
    done[first.moved] = (
        done[first.reference] + 0.3 * np.array([[0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [1.0, 0.0]])[first.how]
    )
    apart = LAYOUT.copy()
    apart[[first.moved, first.reference]] = [[-0.45, -0.17], [0.45, 0.55]]
    rows = np.concatenate([seen(goal, done), seen(goal, apart)])
    assert world.next_part(task, rows)[1] == parts[0]
    assert world.next_part(task, rows)[0] == parts[1]


def test_features_and_anchors_are_where_the_balls_are_and_say_nothing_of_the_goal() -> None:
    grounding = BallPushGrounding()
    state = grounding.read(seen(PURPLE_LEFT_GREEN))
    names = [feature.name for feature in grounding.vocabulary.features]
    read = dict(zip(names, state.values[0].tolist(), strict=True))
    assert (read["purple_x"], read["purple_y"], read["green_x"], read["green_y"]) == (-0.3, 0.0, 0.1, 0.1)
    np.testing.assert_array_equal(state.anchors[0], LAYOUT)
    assert grounding.vocabulary.subjects == ("red", "blue", "green", "purple", "cyan")
    other = grounding.read(seen(Goal("pair", (Part(0, 0, 4),))))
    about = np.array([[3, 2]])
    np.testing.assert_array_equal(
        state.subject_inputs(no_targets(1), about), other.subject_inputs(no_targets(1), about)
    )
    by_role = BallPushGrounding(by_role=True)
    assert by_role.vocabulary.anchors == ()  # a number is no ball's name there
    assert by_role.read(seen(PURPLE_LEFT_GREEN)).anchors.shape == (1, 0, 0)
    with pytest.raises(ShapeError, match="found no goal in row 0"):
        grounding.read(np.zeros((1, N_OBSERVED)))
    with pytest.raises(ShapeError, match=r"expected \(B, 74\)"):
        grounding.read(np.zeros((1, 10)))


@pytest.mark.parametrize("level", ["pair", "easy", "three", "gather", "line-up"])
def test_features_stay_in_their_ranges(level: str) -> None:
    grounding = BallPushGrounding()
    env = ByRole(BallPush(level, observe_goal=True, horizon_steps=50))
    rng = np.random.default_rng(0)
    rows: list[NDArray[np.float64]] = []
    for seed in range(5):
        rows.append(env.reset(seed=seed)[0])
        rows.extend(env.step(int(rng.integers(N_ACTIONS)))[0] for _ in range(10))
    state = grounding.read(np.stack(rows))
    low = np.array([feature.low for feature in grounding.vocabulary.features])
    high = np.array([feature.high for feature in grounding.vocabulary.features])
    assert ((state.values >= low) & (state.values <= high)).all()
    inputs = state.inputs(no_targets(len(rows)))
    assert np.isfinite(inputs).all()
    assert np.abs(inputs).max() < 8.0


def test_a_decoder_sees_the_same_whichever_balls_are_named() -> None:
    """Two goals about other balls, lying alike; and the same with numbers for roles where actions are by colour."""
    other = Goal("pair", (Part(0, 1, 4),))
    swapped = LAYOUT[[3, 1, 0, 4, 2]]  # red lies where purple did, cyan where green did
    shown = BallPushGrounding(by_role=True)
    here, there = (shown.read(row).inputs(no_targets(1)) for row in (seen(PURPLE_LEFT_GREEN), seen(other, swapped)))
    others = slice(23, 47)  # where balls lie that neither goal names, in the order of their colours
    for row in (here, there):
        row[:, others] = 0.0
    np.testing.assert_allclose(here, there, atol=1e-6)
    untold = BallPushGrounding(by_role=True, side_told=False)
    same = Goal("pair", (Part(3, 0, 2),))  # another side
    sides = [untold.read(seen(goal)).inputs(no_targets(1)) for goal in (PURPLE_LEFT_GREEN, same)]
    np.testing.assert_array_equal(sides[0], sides[1])
    assert sides[0].shape[1] == here.shape[1] - 10
    numbered = BallPushGrounding()
    assert numbered.read(seen(other, swapped)).inputs(no_targets(1)).shape[1] == here.shape[1] + 25


def test_balls_are_numbered_by_role_and_pushed_by_the_same_numbers() -> None:
    """The same pushes, by role and by colour, have the same effect; and the planner shows both alike."""
    for task in ("purple-left-green", "gather", "cyan-front", BallPushWorld().groups["two"][1]):
        worlds = (BallPushWorld(by_role=True), BallPushWorld())
        by_role, by_colour = (
            record(world.make(task), world.demonstrator(task), task, 4, 0.0, world) for world in worlds
        )
        _, goal = GOALS[task]
        assert len(by_role.actions) == len(by_colour.actions)
        for row, action, other, same in zip(
            by_role.observations, by_role.actions, by_colour.observations, by_colour.actions, strict=False
        ):
            colours = colours_of(goal, row.astype(np.float64))
            np.testing.assert_array_equal(row[:10].reshape(5, 2), other[:10].reshape(5, 2)[colours])
            np.testing.assert_array_equal(reordered(row[None], np.argsort(colours)[None])[0], other.astype(np.float64))
            assert action_of(int(colours[action // 8]), int(action % 8)) == same
    first = by_role_start("purple-left-green")
    np.testing.assert_array_equal(roles(first[None]), [[0, 1, 2, 3, 4]])
    with pytest.raises(ValueError, match="make the environment with observe_goal=True"):
        ByRole(BallPush())


def by_role_start(task: str) -> NDArray[np.float64]:
    return BallPushWorld(by_role=True).make(task).reset(seed=0)[0]


@pytest.mark.parametrize(("n_kept", "n_orders"), [(2, 6), (0, 120)])
def test_balls_numbered_otherwise_are_the_same_demonstration(n_kept: int, n_orders: int) -> None:
    variation, grounding = Renumbered(n_kept), BallPushGrounding(by_role=True)
    rows = np.repeat(seen(PURPLE_LEFT_GREEN), n_orders, axis=0)
    actions = (np.arange(n_orders) * 7 % N_ACTIONS)[:, None]
    varied, _, renumbered = variation.apply(rows, no_targets(n_orders), actions, np.arange(float(n_orders)))
    np.testing.assert_array_equal(varied[0], rows[0])
    for before, action, after, number in zip(rows, actions[:, 0], varied, renumbered[:, 0].astype(int), strict=True):
        assert number % 8 == action % 8
        np.testing.assert_array_equal(after[:10].reshape(5, 2)[number // 8], before[:10].reshape(5, 2)[action // 8])
    assert len({tuple(each) for each in varied}) == n_orders
    assert len({tuple(each[10:]) for each in varied}) == (1 if n_kept else 20)  # which balls the goal names
    inputs = np.delete(grounding.read(varied).inputs(no_targets(n_orders)), slice(23, 47), axis=1)
    np.testing.assert_allclose(
        inputs, np.repeat(inputs[:1], n_orders, axis=0), atol=1e-6
    )  # but for the order of unnamed balls
    assert set(variation.draw(2000, np.random.default_rng(0)).tolist()) == set(range(n_orders))


def test_without_mujoco_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lago_skills.worlds.ball_push.scene", raising=False)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(StudyError, match=r"install it with: pip install 'lago-skills\[ball-push\]'"):
        BallPushWorld().make("gather")


def test_its_interface_names_all_numbers_and_pushes() -> None:
    for world in (BallPushWorld(by_role=True), BallPushWorld()):
        described = world.interface().as_json(world.grounding.action_space)
        assert described["action"]["size"] == len(described["action"]["entries"]) == 40
        assert sum(entry["size"] for entry in described["observation"]) == N_OBSERVED
    assert BallPushWorld().provenance("gather").requirements[0].startswith("mujoco==")


@pytest.mark.slow
def test_what_is_learned_of_four_pairs_holds_for_balls_that_nobody_showed() -> None:
    """Cloned from the rule's pushes, one pair for each side: numbered by role, or varied by renumbering, it serves purple and cyan balls; else it cannot."""
    by_colour = BallPushWorld(demonstrator="rule")
    as_shown = _cloned(by_colour, Renumbered(5))
    assert _cloned(by_colour, Renumbered(0)) > max(0.7, as_shown + 0.3)
    assert _cloned(BallPushWorld(by_role=True, demonstrator="rule"), Renumbered(2)) > max(0.7, as_shown + 0.3)


def _cloned(world: BallPushWorld, variation: Renumbered) -> float:
    """Share of 28 unshown pairs that a cloned policy solves."""
    grounding, rng = world.grounding, np.random.default_rng(0)
    episodes: list[Episode] = []
    for number, task in enumerate(world.groups["four"]):
        env, show = world.make(task), world.demonstrator(task)
        found = [record(env, show, task, 100 * number + seed, 0.1, world) for seed in range(40)]
        episodes += [episode for episode in found if episode.success]
    rows = np.concatenate([each.observations[:-1] for each in episodes]).astype(np.float64)
    actions = np.concatenate([each.actions for each in episodes])[:, None]
    inputs, labels = list[Any](), list[Any]()
    for _ in range(8):
        varied, _, same = variation.apply(rows, no_targets(len(rows)), actions, variation.draw(len(rows), rng))
        inputs.append(grounding.read(varied).inputs(no_targets(len(rows))))
        labels.append(same[:, 0].astype(int))
    net = MLPClassifier((128,), alpha=1e-2, max_iter=20, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        net.fit(np.concatenate(inputs), np.concatenate(labels))

    def policy(observations: NDArray[np.float64]) -> NDArray[np.int64]:
        seen_by_net = grounding.read(observations).inputs(no_targets(len(observations)))
        chances = np.asarray(net.predict_proba(seen_by_net), np.float64)
        return np.array([net.classes_[rng.choice(len(row), p=row / row.sum())] for row in chances])

    tasks = world.groups["unshown"][::2]
    good = [rollouts(world, world.tasks[task], policy, [0], lambda n: None)[0].success for task in tasks]
    return float(np.mean(good))
