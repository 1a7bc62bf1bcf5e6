"""The grounding against the simulator's own state, not against itself."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from lago_skills.errors import ShapeError, StudyError
from lago_skills.planner import scenes
from lago_skills.stages.planning.measured_scenes import measure
from lago_skills.worlds.metaworld.env import MetaWorldEnv
from lago_skills.worlds.metaworld.grounding import ANCHORS, MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import GROUPS, METAWORLD_TASKS, expand, find_task
from lago_skills.worlds.metaworld.world import MetaWorld, demonstrate
from lago_skills.worlds.seeds import DEMO_SEED
from tests.conftest import ROOT


def test_features_agree_with_the_simulator_for_all_fifty_tasks(grounding: MetaWorldGrounding) -> None:
    """Positions, opening and motion against what the simulator itself holds: bodies, sites and the task's own target."""
    index = {feature.name: i for i, feature in enumerate(grounding.vocabulary.features)}
    rng = np.random.default_rng(0)
    assert len(METAWORLD_TASKS) == sum(len(names) for names in GROUPS.values()) == 50
    with_second = 0
    for task in METAWORLD_TASKS.values():
        env = MetaWorldEnv(task)
        env.reset(seed=5)
        for _ in range(6):
            before, tip_before = env.simulated(), env.tip_position()
            observation, *_ = env.step(rng.uniform(-1, 1, 4).astype(np.float32))
            truth, tip = env.simulated(), env.tip_position()
            values = grounding.read(observation[None]).values[0]

            def vector(name: str, values: NDArray[np.float64] = values) -> NDArray[np.float64]:
                return values[[index[f"{name}_{axis}"] for axis in "xyz"]]

            # The pads give way a little while the fingers move, hence the few millimetres.
            np.testing.assert_allclose(vector("gripper"), tip, atol=8e-3)
            np.testing.assert_allclose(vector("object"), truth["object"], atol=1e-9)
            np.testing.assert_allclose(vector("goal"), truth["goal"], atol=1e-9)
            np.testing.assert_allclose(vector("gripper_to_object"), truth["object"] - tip, atol=8e-3)
            np.testing.assert_allclose(vector("object_to_goal"), truth["goal"] - truth["object"], atol=1e-9)
            reach = np.linalg.norm((truth["goal"] - tip)[:2])
            np.testing.assert_allclose(values[index["gripper_to_goal_xy"]], reach, atol=8e-3)
            np.testing.assert_allclose(values[index["gripper_opening"]], truth["opening"][0], atol=1e-9)
            moved = np.linalg.norm(truth["object"] - before["object"])
            np.testing.assert_allclose(values[index["object_speed"]], moved, atol=1e-9)
            closed = truth["opening"][0] - before["opening"][0]
            np.testing.assert_allclose(values[index["opening_change"]], closed, atol=1e-9)
            speed = np.linalg.norm(tip - tip_before)
            np.testing.assert_allclose(values[index["gripper_speed"]], speed, atol=8e-3)
            if "object2" in truth:
                np.testing.assert_allclose(vector("object2"), truth["object2"], atol=1e-9)
                with_second += 1
            for feature, value in zip(grounding.vocabulary.features, values, strict=True):
                assert feature.low <= value <= feature.high, (task.id, feature.name, value)
        env.close()
    assert with_second == 3 * 6


@pytest.mark.clock
def test_values_cost_less_than_one_distance_a_feature(grounding: MetaWorldGrounding) -> None:
    """Beside numpy in the same rounds, so that a slow or busy machine slows both."""
    rows = np.random.default_rng(0).normal(size=(256, 39))

    def distances() -> object:
        return np.stack(
            [np.linalg.norm(rows[:, :3] - rows[:, 4:7], axis=1) for _ in grounding.vocabulary.features], axis=1
        )

    def values() -> object:
        return grounding.read(rows).values

    best = dict.fromkeys((distances, values), np.inf)
    for _ in range(50):
        for measured in best:
            start = time.perf_counter()
            for _ in range(20):
                measured()
            best[measured] = min(best[measured], time.perf_counter() - start)
    assert best[values] < best[distances]


def test_a_batch_is_its_rows(grounding: MetaWorldGrounding) -> None:
    rows = np.random.default_rng(1).normal(size=(17, 39))
    targets = np.random.default_rng(2).normal(size=(17, 3))
    one_by_one = np.concatenate([grounding.read(row[None]).values for row in rows])
    np.testing.assert_array_equal(grounding.read(rows).values, one_by_one)
    inputs = np.concatenate([grounding.read(r[None]).inputs(t[None]) for r, t in zip(rows, targets, strict=True)])
    np.testing.assert_allclose(grounding.read(rows).inputs(targets), inputs, rtol=1e-6)
    assert grounding.read(rows).anchors.shape == (17, len(ANCHORS), 3)


def test_turning_by_a_full_circle_or_not_at_all_changes_nothing(grounding: MetaWorldGrounding) -> None:
    rng = np.random.default_rng(0)
    rows, targets = rng.normal(size=(5, 39)), rng.normal(size=(5, 3))
    actions = rng.uniform(-1, 1, (5, 4)).astype(np.float32)
    assert grounding.variation is not None
    for angle in (0.0, 2 * np.pi):
        turned = grounding.variation.apply(rows, targets, actions, np.full(5, angle))
        for found, expected in zip(turned, (rows, targets, actions), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_quarter_turn_swaps_x_and_y_and_keeps_heights(grounding: MetaWorldGrounding) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 39))
    targets = np.random.default_rng(1).normal(size=(3, 3))
    assert grounding.variation is not None
    turned, moved, actions = grounding.variation.apply(
        rows, targets, np.tile([0.5, 0.0, 0.2, -1.0], (3, 1)), np.full(3, np.pi / 2)
    )
    np.testing.assert_allclose(actions, np.tile([0.0, 0.5, 0.2, -1.0], (3, 1)), atol=1e-6)
    np.testing.assert_allclose(moved[:, 2], targets[:, 2])
    before, after = grounding.read(rows).inputs(targets), grounding.read(turned).inputs(moved)
    np.testing.assert_allclose(after[:, 1], before[:, 0], atol=1e-5)
    np.testing.assert_allclose(after[:, 2], before[:, 2], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(after[:, 0:3], axis=1), np.linalg.norm(before[:, 0:3], axis=1), rtol=1e-5)


def test_demonstrations_succeed_and_end_at_success() -> None:
    env = MetaWorldEnv(find_task("reach"))
    runs = [demonstrate(env, DEMO_SEED + i, 0.1) for i in range(3)]
    assert all(run.success for run in runs)
    for run in runs:
        assert run.rewards[-1] == 1.0
        assert run.rewards[:-1].sum() == 0.0
        assert np.abs(run.actions).max() <= 1.0
    env.close()


def test_episodes_are_truncated_at_the_horizon_and_rewards_are_as_named() -> None:
    for reward in ("sparse", "dense", "delta"):
        env = MetaWorldEnv(find_task("door-open"), reward=reward)
        env.reset(seed=3)
        total, steps, truncated = 0.0, 0, False
        while not truncated:
            _, value, terminated, truncated, info = env.step(np.zeros(4, np.float32))
            assert not terminated
            assert not info["success"]
            total, steps = total + value, steps + 1
        assert steps == 200
        assert (total == 0.0) == (reward == "sparse")
        env.close()


def test_unknown_tasks_are_named_with_the_nearest() -> None:
    with pytest.raises(StudyError, match=r"unknown task 'puhs'.*did you mean 'push'"):
        expand(["ten", "puhs"])
    assert [task.id for task in expand(["reach", "ten"])][:2] == ["reach", "push"]


def test_wrong_sizes_and_nan_are_refused(grounding: MetaWorldGrounding) -> None:
    with pytest.raises(ShapeError, match="expected \\(B, 39\\)"):
        grounding.read(np.zeros((2, 40)))
    bad = np.zeros((2, 39))
    bad[1, 3] = np.nan
    with pytest.raises(ShapeError, match="found nan at index \\(1, 3\\)"):
        grounding.read(bad)


def test_measured_scenes_are_the_committed_ones() -> None:
    """A demonstrated task and one whose first observation after a reset is stale."""
    world = MetaWorld()
    world.tasks = chosen = {name: find_task(name) for name in ("reach", "window-close")}
    committed = scenes.load(ROOT / "data/scenes/metaworld.json")
    for scene in measure(world, (chosen["reach"],)):
        assert (scene.demonstrations is None) == (scene.task_id == "window-close")
        for name, bounds in scene.start.items():
            np.testing.assert_allclose(bounds, committed[scene.task_id].start[name], atol=0.011)
