"""Franka Kitchen as a world: what its observation says, its starts, its rewards, and who shows its subtasks."""

# gymnasium-robotics and MuJoCo leave types partially unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from lago_skills.commands.cli import main
from lago_skills.errors import StudyError
from lago_skills.report import study_page
from lago_skills.stages import build, collect, evaluate, plan, pretrain, segment
from lago_skills.stages.collect import demonstrations
from lago_skills.stages.workspace import open_workspace
from lago_skills.study import CollectConfig
from lago_skills.worlds.grounding import check_identity, identity
from lago_skills.worlds.kitchen.demonstrator import MOTIONS
from lago_skills.worlds.kitchen.env import LINGER_STEPS, Kitchen
from lago_skills.worlds.kitchen.grounding import ANCHORS, GOALS, KitchenGrounding
from lago_skills.worlds.kitchen.kinematics import AHEAD, HANDLES, KNOBS, OBJECTS, gripper, handles, jacobian, joints_at
from lago_skills.worlds.kitchen.subtasks import SUBTASKS, subtasks_of
from lago_skills.worlds.kitchen.tasks import PUBLISHED
from lago_skills.worlds.kitchen.world import KitchenWorld
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.rollouts import record
from tests.conftest import ROOT, run_stages

SITES = {
    "microwave": "microhandle_site", "kettle": "kettle_site", "light_switch": "light_site", "slide_cabinet": "slide_site",
    "hinge_cabinet": "hinge_site2",
}  # fmt: skip

_NO_STAGES: Any = object()


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


def test_the_arm_moves_as_its_jacobian_says(kitchen: Kitchen) -> None:
    import mujoco

    model, data = kitchen.model, kitchen.data
    kitchen.reset(seed=3)
    theirs = np.zeros((2, 3, model.nv))
    cast("Any", mujoco).mj_jacSite(model, data, theirs[0], theirs[1], model.site("end_effector").id)
    ours = jacobian(data.qpos[None, :7].copy())[0]
    np.testing.assert_allclose(ours, np.concatenate([theirs[0, :, :7], theirs[1, :, :7]]), atol=2e-2)


def test_a_pose_is_found_where_there_is_one(kitchen: Kitchen) -> None:
    kitchen.reset(seed=3)
    start, bounds = kitchen.data.qpos[:7].copy(), kitchen.theirs.robot_env.robot_pos_bound[:7].T
    place = np.array([-0.3, 0.4, 2.2])
    joints = joints_at(place, AHEAD, start, *bounds)
    assert joints is not None
    now, axes = gripper(joints[None])
    np.testing.assert_allclose(now[0], place, atol=0.01)
    np.testing.assert_allclose(axes[0], AHEAD, atol=0.05)
    assert ((joints >= bounds[0]) & (joints <= bounds[1])).all()
    assert joints_at(np.array([3.0, 0.0, 2.0]), AHEAD, start, *bounds) is None  # out of reach


def test_half_of_the_starts_are_before_a_handle(kitchen: Kitchen) -> None:
    apart: list[float] = []
    for seed in range(16):
        observation, _ = kitchen.reset(seed=seed)
        place, _ = gripper(observation[None, :7])
        apart.append(float(np.linalg.norm(handles(observation[None, OBJECTS])[0] - place, axis=1).min()))
        assert not any(each.dist < -1e-3 and kitchen.of_arm(each) for each in kitchen.data.contact)
    assert 4 <= sum(each < 0.28 for each in apart) <= 14


def test_a_hand_goes_where_a_controller_sends_it(kitchen: Kitchen) -> None:
    """What a controller of a few lines is given is enough to come near a point in the open."""
    grounding, place = KitchenGrounding(), np.array([-0.35, 0.3, 2.1])
    observation, _ = kitchen.reset(seed=0)
    first = np.linalg.norm(grounding.read(observation[None]).anchors[0, 0] - place)
    for _ in range(60):
        hand = grounding.read(observation[None]).anchors[:, 0]
        action = grounding.hand_motion(observation[None], 10.0 * (place - hand), np.array([False]))
        assert action.shape == (1, 9)
        observation, *_ = kitchen.step(action[0])
    last = np.linalg.norm(grounding.read(observation[None]).anchors[0, 0] - place)
    assert last < min(0.06, 0.5 * first)


def test_the_next_part_is_the_first_that_is_not_done(kitchen: Kitchen) -> None:
    world, task = KitchenWorld(), "microwave.kettle.light-switch.slide-cabinet"
    assert world.parts(task) == ("microwave", "kettle", "light-switch", "slide-cabinet")
    observation, _ = KitchenWorld().make(task).reset(seed=0)
    rows = np.stack([observation] * 3)
    for row, names in ((1, ("microwave",)), (2, ("microwave", "kettle", "light-switch", "slide-cabinet"))):
        for name in names:
            rows[row, OBJECTS][list(SUBTASKS[name].joints)] = SUBTASKS[name].goal
    assert world.next_part(task, rows) == ["microwave", "kettle", "slide-cabinet"]


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
    assert all(len(each.actions) == (each.success_step or 0) + 1 + LINGER_STEPS for each in good)
    handle = HANDLES.index(SUBTASKS[subtask].handle)
    for each in good:
        state = grounding.read(each.observations)
        left = np.linalg.norm(state.anchors[:, 1 + handle] - GOALS[handle], axis=1)
        assert left[-1] < 0.9 * left[0]  # a subtask is done within 0.3 of its goal, which is soon for a sliding door
        solved = (each.success_step or 0) + 2
        assert state.moved[solved - 8 : solved, 1 + handle].sum() > 0.005
        hand = np.linalg.norm(state.anchors[:, 0] - state.anchors[:, 1 + handle], axis=1)
        assert hand[-1] > hand[solved] + 0.03  # it has let go and drawn back
        assert state.hand[-1, 0] > 0.8
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
    with pytest.raises(
        StudyError, match=r"found task 'microwave\.kettle\.microwave', which asks for 'microwave' twice"
    ):
        world.make("microwave.kettle.microwave")
    with pytest.raises(StudyError, match=r"found task 'kettle\.oven'; expected one of"):
        world.make("kettle.oven")
    with pytest.raises(StudyError, match="found reward 'dense'; expected sparse"):
        world.make("microwave", reward="dense")


def test_an_arm_starts_where_it_can(kitchen: Kitchen) -> None:
    joints = [0.1, -1.5, 1.5, -2.5, 0.2, 1.5, 1.0]
    observation, _ = kitchen.reset(seed=0, options={"joints": joints})
    np.testing.assert_allclose(observation[:7], joints, atol=0.05)
    for wrong, message in (
        ({"joints": [0.1, -1.5, 9.0, -2.5, 0.2, 1.5, 1.0]}, "found joint 2 at 9.000 rad, out of the arm's reach"),
        ({"joints": [0.1]}, r"expected \(7,\) finite angles"),
        ({"elbow": 1}, r"found reset options \['elbow'\]; expected 'joints'"),
    ):
        with pytest.raises(ValueError, match=message):
            kitchen.reset(seed=0, options=wrong)


def test_a_demonstrator_that_fails_is_said_with_what_to_do() -> None:
    world, config = KitchenWorld(), CollectConfig(episodes_per_task=1, action_noise_std=1.0, max_tries=1)
    (task,) = world.find(["top-burner"])
    with pytest.raises(StudyError, match=r"succeeded in 0 of 1 episodes .*lower collect\.action_noise_std"):
        demonstrations(world, task, 1, config, 0, lambda done, note: None)


def test_without_its_package_the_kitchen_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    with pytest.raises(StudyError, match=r"install it with: pip install 'lago-skills\[kitchen\]'"):
        KitchenWorld().make("kettle")


@pytest.mark.slow
def test_the_whole_pipeline_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Demonstrations, recorded plans, alignment, decoder, library: two of each subtask are enough to do some of it, and the rows are there."""
    for folder in ("studies", "scenes", "transcripts"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    study = (ROOT / "data/studies/kitchen.toml").read_text(encoding="utf-8")
    small = study.replace("episodes_per_task = 25", "episodes_per_task = 2").replace("starts = 24", "starts = 2")
    small = small.replace("[decoder]", "[decoder]\nn_updates = 200").replace("episodes = 20", "episodes = 1")
    small = small.replace('unseen = ["pairs", "fours"]', 'unseen = ["microwave.light-switch"]').partition("[train]")[0]
    (tmp_path / "data/studies/kitchen.toml").write_text(small, encoding="utf-8")
    for name in ("scenes/kitchen.json", "transcripts/kitchen.jsonl"):
        shutil.copy(ROOT / "data" / name, tmp_path / "data" / name)
    space = open_workspace(tmp_path, tmp_path / "data/studies/kitchen.toml")
    run_stages(space, plan, collect, segment, pretrain, build)
    bundle = space.artifact("bundle")
    guide = build.guide(bundle, space.study.grounding)
    task = "microwave.light-switch"
    env = space.world.make(task)
    observation, _ = env.reset(seed=0)
    assert guide.prior(observation[None], task).greedy().shape == (1, 9)
    with pytest.raises(StudyError, match="was made for another environment"):
        check_identity("bundle", identity(guide.grounding), MetaWorldGrounding())
    env.close()
    run_stages(space, evaluate, study_page)
    page = (space.artifact("report") / "report.html").read_text(encoding="utf-8")
    assert f"{task} by the library alone: {space.world.tasks[task].sentence}" in page
    (row,), _ = study_page.results(space)
    assert row["task"] == task
    assert row["subtasks"] == row["return"]
    capsys.readouterr()
    table = [
        "--root",
        str(tmp_path),
        "evaluate",
        "kitchen",
        "--table",
        "sequences",
        "--seeds",
        "0",
        "--episodes",
        "1",
        "--tasks",
        task,
    ]
    names = "random,words/controller-10,demonstrator"
    assert main([*table, "--methods", names, "--json"], _NO_STAGES) == 0
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["demonstrator"]["subtasks"] == 2.0
    assert rows["random"]["subtasks"] == 0.0
    assert {"task", "method", "steps", "seed", "subtasks", "success", "episodes"} <= set(rows["random"])
