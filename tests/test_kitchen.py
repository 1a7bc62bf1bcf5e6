"""Franka Kitchen as a world: what its observation says, its starts, its rewards, and who shows its subtasks."""

# gymnasium-robotics and MuJoCo leave types partially unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from lago_skills.errors import StudyError
from lago_skills.worlds.kitchen.demonstrator import MOTIONS
from lago_skills.worlds.kitchen.env import Kitchen
from lago_skills.worlds.kitchen.grounding import ANCHORS, GOALS, KitchenGrounding
from lago_skills.worlds.kitchen.kinematics import HANDLES, KNOBS, OBJECTS, gripper, handles
from lago_skills.worlds.kitchen.subtasks import SUBTASKS, subtasks_of
from lago_skills.worlds.kitchen.tasks import PUBLISHED
from lago_skills.worlds.kitchen.world import KitchenWorld
from lago_skills.worlds.rollouts import record

SITES = {
    "microwave": "microhandle_site", "kettle": "kettle_site", "light_switch": "light_site", "slide_cabinet": "slide_site",
    "hinge_cabinet": "hinge_site2",
}  # fmt: skip


@pytest.fixture(scope="module")
def kitchen() -> Kitchen:
    return Kitchen(subtasks_of("microwave"), varied=True)


def test_the_arm_is_where_its_joints_say(kitchen: Kitchen) -> None:
    rng = np.random.default_rng(0)
    site = kitchen.model.site("end_effector").id
    for seed in range(3):
        kitchen.reset(seed=seed)
        for _ in range(10):
            kitchen.step(rng.uniform(-1, 1, 9))
        place, axes = gripper(kitchen.data.qpos[None, :7].copy())
        np.testing.assert_allclose(place[0], kitchen.data.site_xpos[site], atol=2e-3)
        np.testing.assert_allclose(axes[0], kitchen.data.site_xmat[site].reshape(3, 3), atol=2e-2)


def test_handles_are_where_their_joints_say(kitchen: Kitchen) -> None:
    import mujoco

    for each in SUBTASKS.values():
        kitchen.reset(seed=0)
        kitchen.data.qpos[9 + np.array(each.joints)] = each.goal
        cast("Any", mujoco).mj_forward(kitchen.model, kitchen.data)
        places = handles(kitchen.data.qpos[None, 9:].copy())[0]
        for name, site in SITES.items():
            np.testing.assert_allclose(
                places[HANDLES.index(name)], kitchen.data.site_xpos[kitchen.model.site(site).id], atol=1e-3
            )
        for name, site in (("bottom_knob", "knob2_site"), ("top_knob", "knob4_site")):
            np.testing.assert_allclose(KNOBS[name], kitchen.data.site_xpos[kitchen.model.site(site).id], atol=1e-3)


def test_starts_vary_with_the_seed_alone(kitchen: Kitchen) -> None:
    first, _ = kitchen.reset(seed=5)
    other, _ = kitchen.reset(seed=6)
    again, _ = kitchen.reset(seed=5)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other)[:7].max() > 0.05
    moved = [kitchen.reset(seed=seed)[0][OBJECTS] for seed in range(12)]
    assert len({tuple(np.round(each, 1)) for each in moved}) > 3  # other things are moved already
    assert all(abs(each[13]) < 0.1 for each in moved)  # but the microwave's door is shut


@pytest.mark.slow
@pytest.mark.parametrize("subtask", MOTIONS)
def test_each_subtask_is_shown(subtask: str) -> None:
    """With noise, from varied starts; its handle comes to its anchor of a goal, and the reward is one."""
    world, grounding = KitchenWorld(), KitchenGrounding()
    env = world.make(subtask)
    shows = world.demonstrator_in(subtask, env)
    episodes = [record(env, shows, subtask, seed, 0.05, world) for seed in range(4)]
    env.close()
    good = [each for each in episodes if each.success]
    assert len(good) >= 3
    assert all(each.rewards.sum() == 1.0 and each.terminated for each in good)
    handle = HANDLES.index(SUBTASKS[subtask].handle)
    for each in good:
        state = grounding.read(each.observations)
        left = np.linalg.norm(state.anchors[:, 1 + handle] - GOALS[handle], axis=1)
        assert left[-1] < 0.9 * left[0]  # a subtask is done within 0.3 of its goal, which is soon for a sliding door
        assert state.moved[-8:, 1 + handle].sum() > 0.005
        low = np.array([feature.low for feature in grounding.vocabulary.features])
        high = np.array([feature.high for feature in grounding.vocabulary.features])
        assert ((state.values >= low) & (state.values <= high)).all()


def test_a_decoder_sees_the_arm_and_the_anchors_in_question(kitchen: Kitchen) -> None:
    grounding = KitchenGrounding()
    observation, _ = kitchen.reset(seed=0)
    state = grounding.read(observation[None])
    targets = state.anchors[:, 2]
    assert state.anchors.shape == (1, len(ANCHORS), 3)
    kettle = np.array([[ANCHORS.index("kettle"), ANCHORS.index("back_burner")]])
    alone = np.array([[ANCHORS.index("kettle"), -1]])
    one, two = state.subject_inputs(targets, kettle), state.subject_inputs(targets, alone)
    assert one.shape == two.shape
    assert np.abs(one - two).max() > 0.1
    heading = grounding.heading_size
    np.testing.assert_allclose(state.inputs(targets)[:, :3], (targets - state.anchors[:, 0]) * 5.0, rtol=1e-5)
    assert np.isfinite(state.inputs(targets)[:, heading:]).all()


def test_tasks_are_single_pairs_and_fours() -> None:
    world = KitchenWorld()
    assert set(world.groups["single"]) == set(SUBTASKS)
    assert {len(name.split(".")) for name in world.groups["pairs"]} == {2}
    assert {len(set(name.split("."))) for name in (*world.groups["fours"], *world.groups["sealed"])} == {4}
    assert world.groups["fours"][: len(PUBLISHED)] == tuple(".".join(each) for each in PUBLISHED)
    assert not set(world.groups["fours"]) & set(world.groups["sealed"])
    assert world.tasks["microwave.kettle.bottom-burner.light-switch"].horizon_steps == 280
    with pytest.raises(StudyError, match=r"found task 'microwave\.microwave'"):
        world.make("microwave.microwave")
    with pytest.raises(StudyError, match="found reward 'dense'; expected sparse"):
        world.make("microwave", reward="dense")
