"""The door to worlds: found by name or import path, refused with a sentence, and nobody outside a world's folder speaks its words."""

from __future__ import annotations

import gc
import re
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.artifacts.folder import writing
from lago_skills.errors import StudyError
from lago_skills.study import load_study
from lago_skills.worlds import DEFAULT
from lago_skills.worlds.config import OwnTask
from lago_skills.worlds.gym.config import FeatureConfig, GymConfig
from lago_skills.worlds.gym.world import GymWorld
from lago_skills.worlds.metaworld.world import MetaWorld
from lago_skills.worlds.rollouts import record, rollouts
from lago_skills.worlds.world import EpisodeSoFar, World, find_world
from tests.conftest import ROOT

STUDY = """
name = "mine"
[world]
use = "{use}"
[tasks]
seen = ["reach"]
"""


class Half:
    """A world without most of its parts."""

    name = "half"


class Broken:
    """A world that cannot be made."""

    def __init__(self) -> None:
        raise OSError("no licence")


def test_a_registered_world_is_found_and_can_be_made_again() -> None:
    world = find_world(DEFAULT)
    assert isinstance(world, World)
    again = find_world(**world.spec())
    assert type(again) is type(world) is MetaWorld
    assert len(world.tasks) == 50
    assert [task.id for task in world.find(["ten"])] == list(world.groups["ten"])
    assert find_world("lago_skills.worlds.metaworld.world:MetaWorld").name == DEFAULT


def test_a_world_is_made_with_the_settings_of_a_study(tmp_path: Path) -> None:
    text = 'name = "balls"\n[world]\nuse = "ball-push"\n[world.settings]\nside_told = false\n[tasks]\nseen = ["four"]\n'
    path = tmp_path / "balls.toml"
    path.write_text(text)
    study = load_study(path)
    world = study.load_world()
    assert world.spec()["side_told"] is False
    assert find_world(**world.spec()).spec() == world.spec()
    assert study.world_recipe() == {"world": {"use": "ball-push", "settings": {"side_told": False}}}
    path.write_text(text.replace("side_told", "side_tod"))
    with pytest.raises(StudyError, match=r"cannot be made \(TypeError.*'side_tod'.*made from \['side_tod'\]"):
        load_study(path).load_world()


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (
            "mars",
            r"found world\.use = 'mars'; expected one of ball-push, gym, kitchen, metaworld, metaworld-altered, or the",
        ),
        ("no_such_module:World", r"cannot be made \(ModuleNotFoundError"),
        ("tests.test_worlds:NoSuchClass", r"cannot be made \(AttributeError"),
        ("tests.test_worlds:Broken", r"cannot be made \(OSError: no licence\)"),
        (
            "tests.test_worlds:Half",
            r"without tasks, groups, .*success, .*demonstrator, .*spec, provenance; expected the parts",
        ),
    ],
)
def test_what_is_no_world_is_refused(use: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=said):
        find_world(use)
    path = tmp_path / "mine.toml"
    path.write_text(STUDY.format(use=use))
    with pytest.raises(StudyError, match=said):
        load_study(path)


def test_a_study_names_its_world(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(STUDY.format(use=DEFAULT))
    study = load_study(path)
    assert study.load_world().name == DEFAULT
    assert [task.id for task in study.seen] == ["reach"]
    assert study.recordings == DEFAULT


def test_a_world_and_an_environment_of_ones_own_exclude_each_other(tmp_path: Path) -> None:
    """The remedy is followed: without [world] the study is read."""
    own = """
[[tasks.own]]
id = "reach"
sentence = "keep the pole upright"
env_id = "CartPole-v1"
[environment]
observation_size = 4
action_size = 1
[environment.features.angle]
index = 2
unit = "rad"
range = [-0.4, 0.4]
sentence = "how far the pole leans"
"""
    path = tmp_path / "mine.toml"
    path.write_text(STUDY.format(use=DEFAULT) + own)
    with pytest.raises(
        StudyError, match=r"found \[world\] use = 'metaworld' and \[environment\]; expected one of them"
    ):
        load_study(path)
    path.write_text((STUDY.format(use=DEFAULT) + own).replace('[world]\nuse = "metaworld"\n', ""))
    assert load_study(path).load_world().name == "mine"


def test_rewards_that_a_world_has_not_are_refused() -> None:
    with pytest.raises(StudyError, match="found reward 'shaped'; expected one of sparse, dense, delta"):
        MetaWorld().make("reach", reward="shaped")


def test_success_is_the_worlds_to_say() -> None:
    """The last step's flag of the arm; of an environment without a rule, nobody's."""
    so_far = EpisodeSoFar()
    so_far.add(0.0, {"success": True}, terminated=False, truncated=False)
    assert MetaWorld().success(so_far)
    so_far.add(0.0, {"success": False}, terminated=False, truncated=True)
    assert not MetaWorld().success(so_far)
    assert so_far.truncated
    with pytest.raises(
        StudyError,
        match=r"without a rule of success.*no entries in its infos; rewards from 1 to 1 .* Add success = .* to \[world\]",
    ):
        own_world().success(so_far)


def own_world(env_id: str = "CartPole-v1", size: int = 4, success: str | None = None) -> GymWorld:
    angle = FeatureConfig(index=2, unit="rad", range=(-0.4, 0.4), sentence="how far the pole leans")
    task = OwnTask(id="balance", sentence="keep the pole upright", env_id=env_id)
    config = GymConfig(observation_size=size, n_actions=2, features={"angle": angle}, about="A cart.", success=success)
    return GymWorld("cart", [task], config)


def test_an_environment_of_ones_own_is_made_and_checked() -> None:
    world = own_world()
    assert isinstance(world, World)
    env = world.make("balance")
    assert env.reset(seed=0)[0].shape == (4,)
    env.close()
    assert world.demonstrator("balance") is None
    spec = world.provenance("balance").env_spec
    assert spec is not None
    assert spec.id == "CartPole-v1"
    with pytest.raises(
        StudyError, match=r"found observations of 4 numbers, Box.*; expected 5, as world.observation_size"
    ):
        own_world(size=5).make("balance")
    with pytest.raises(StudyError, match=r"which cannot be made .* expected a Gymnasium id"):
        own_world("NoSuchThing-v3").make("balance")
    with pytest.raises(StudyError, match=r"found task 'fly', expected one of .*\['balance'\]"):
        world.make("fly")


def test_an_environment_that_ended_is_not_stepped_further() -> None:
    """CartPole whose task it is to fall: the environment ends solved, and may not be stepped after that."""
    world = own_world(success="terminated")
    (task,) = world.find(["balance"])
    ways: list[Any] = []

    def right(observations: np.ndarray[Any, Any]) -> Any:
        ways.append(len(observations))
        return np.ones(len(observations), np.int64)

    results = rollouts(world, task, right, [1, 2, 3], lambda n: None, n_envs=2)
    assert [result.success for result in results] == [True, True, True]
    assert all(result.steps < 15 for result in results)


def test_a_demonstration_is_what_was_executed() -> None:
    """With noise, clipped; the seed is that of the start state and of the noise."""
    world = MetaWorld()
    env = world.make("reach")
    first, second = (record(env, world.demonstrator("reach"), "reach", 5, 0.5, world) for _ in range(2))
    env.close()
    np.testing.assert_array_equal(first.actions, second.actions)
    assert float(np.abs(first.actions).max()) <= 1.0
    assert len(first.observations) == len(first.actions) + 1
    assert first.success == bool(first.rewards[-1])


def test_nobody_outside_its_folder_speaks_of_a_world() -> None:
    """Names of worlds; what an arm is made of is still spoken of where plans in words are followed."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in (ROOT / "lago_skills").rglob("*.py")
        if "worlds" not in path.parts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search("metaworld|sawyer", line, re.IGNORECASE)
    ]
    assert found == []


def test_a_bundle_of_an_own_environment_asks_for_its_grounding(tmp_path: Path) -> None:
    from lago_skills.guide.bundle import GROUNDING_FILE, load_bundle

    with writing(tmp_path / "bundle", "build", {}) as writer:
        (writer.path / GROUNDING_FILE).write_text('{"world": {"use": "own"}}')
    with pytest.raises(StudyError, match="expected its grounding beside it; pass grounding="):
        load_bundle(tmp_path / "bundle")


def test_a_closed_simulator_is_freed_at_once_and_may_be_closed_again() -> None:
    """Its memory is not the interpreter's own, so that the collector of cycles hardly ever comes by: tables of many cells grew to gigabytes."""
    env = find_world("metaworld").make("reach")
    env.reset(seed=0)
    simulator: Any = env
    model = weakref.ref(simulator._env.unwrapped.model)
    gc.collect()
    gc.disable()
    try:
        assert model() is not None
        env.close()
        assert model() is None
    finally:
        gc.enable()
    env.close()
