"""Environments that a study file describes: spaces behind codecs, features and anchors by name, success by a declared rule."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lago_skills.core import ActionSpace
from lago_skills.errors import DataError, StudyError
from lago_skills.study import load_study
from lago_skills.worlds.config import OwnTask
from lago_skills.worlds.gym.env import adapt, adapted, as_number
from lago_skills.worlds.gym.read_spaces import read_actions, read_observations
from lago_skills.worlds.gym.spaces import ActionCodec, ObservationCodec
from lago_skills.worlds.gym.world import GymWorld
from lago_skills.worlds.rollouts import record
from lago_skills.worlds.world import World, find_world

# Spaces ----------------------------------------------------------------------------------------------------------------

bounds = st.tuples(st.floats(-100, 99, width=32), st.floats(0.0625, 100, width=32)).map(lambda p: (p[0], p[0] + p[1]))


@settings(max_examples=60, deadline=None)
@given(st.lists(bounds, min_size=1, max_size=4), st.data())
def test_actions_of_any_range_come_back(ends: list[tuple[float, float]], data: st.DataObject) -> None:
    """Into [-1, 1] and back, by one action and by rows, within rounding; bounds stay bounds."""
    low, high = (np.array(side, np.float32) for side in zip(*ends, strict=True))
    codec = read_actions(spaces.Box(low, high, dtype=np.float32))
    shares = data.draw(arrays(np.float64, (5, len(low)), elements=st.floats(0, 1)))
    actions = (low + shares * (high.astype(np.float64) - low)).astype(np.float32).clip(low, high)
    inside = codec.encoded_rows(actions, "here")
    assert np.abs(inside).max() <= 1.0
    back = np.stack([codec.decoded(row) for row in inside])
    np.testing.assert_allclose(back, actions, atol=float((high - low).max()) * 1e-6, rtol=1e-5)
    np.testing.assert_allclose(codec.decoded(-np.ones(len(low))), low, rtol=1e-6)
    np.testing.assert_allclose(codec.decoded(np.ones(len(low))), high, rtol=1e-6)
    assert ActionCodec.of_spec(json.loads(json.dumps(codec.spec()))) == codec


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(-3, 3), st.data())
def test_numbered_actions_come_back(counts: list[int], start: int, data: st.DataObject) -> None:
    """Discrete from any number, and combinations of several numbered as one."""
    space = spaces.MultiDiscrete(counts, start=np.full(len(counts), start))
    codec = read_actions(space, flatten=True)
    assert codec.space == ActionSpace(int(np.prod(counts)), discrete=True)
    number = data.draw(st.integers(0, codec.space.size - 1))
    action = codec.decoded(number)
    assert space.contains(action)
    assert codec.encoded_rows(action[None], "here").tolist() == [number]
    one = read_actions(spaces.Discrete(4, start=start))
    assert [one.decoded(n) for n in range(4)] == [start, start + 1, start + 2, start + 3]
    for shape in ((4,), (4, 1)):
        given_numbers = np.arange(start, start + 4).reshape(shape)
        assert one.encoded_rows(given_numbers, "here").tolist() == [0, 1, 2, 3]
    assert ActionCodec.of_spec(json.loads(json.dumps(codec.spec()))) == codec


def test_dictionaries_of_boxes_are_joined_by_choice() -> None:
    space = spaces.Dict({"arm": spaces.Box(-2.0, 2.0, (2,)), "grip": spaces.Box(0.0, 1.0, (1,))})
    codec = read_actions(space, flatten=True)
    action = codec.decoded(np.array([0.0, 1.0, -1.0]))
    assert {name: part.tolist() for name, part in action.items()} == {"arm": [0.0, 2.0], "grip": [0.0]}
    np.testing.assert_allclose(codec.encoded(action), [0.0, 1.0, -1.0])


@pytest.mark.parametrize(
    ("space", "said", "remedy"),
    [
        (spaces.Box(-np.inf, np.inf, (2,)), "without finite bounds.*action_range = ", {"action_range": (-1.0, 1.0)}),
        (spaces.MultiDiscrete([2, 3]), "2 choices at once.*flatten_actions = true.*6 combinations", {"flatten": True}),
        (spaces.MultiBinary(3), "3 choices at once.*flatten_actions = true.*8 combinations", {"flatten": True}),
        (spaces.Dict(a=spaces.Box(-1, 1, (1,))), "a dictionary.*flatten_actions = true", {"flatten": True}),
        (spaces.Dict(a=spaces.Discrete(2)), "Dict of Boxes.*wrap the environment", None),
        (spaces.MultiDiscrete([40, 40]), "2 choices", None),
        (spaces.Text(3), "expected a Box, Discrete, MultiDiscrete or a Dict of Boxes", None),
        (spaces.Box(0, 9, (2,), np.int64), "of whole numbers", None),
    ],
)
def test_actions_that_would_be_guessed_are_refused(space: Any, said: str, remedy: dict[str, Any] | None) -> None:
    """And what the error says is followed."""
    with pytest.raises(StudyError, match=said):
        read_actions(space)
    if remedy is not None:
        assert read_actions(space, **remedy).space.size > 0


GOALS = spaces.Dict(
    {
        "observation": spaces.Box(-np.inf, np.inf, (4,), np.float64),
        "desired_goal": spaces.Box(-1, 1, (2,), np.float32),
        "state": spaces.Dict({"pose": spaces.Box(-1, 1, (2, 2)), "mode": spaces.Discrete(3, start=1)}),
        "camera": spaces.Box(0, 255, (8, 8, 3), np.uint8),
        "mission": spaces.Text(20),
    }
)


def test_parts_of_dictionaries_are_joined_in_the_order_asked_for() -> None:
    codec = read_observations(
        GOALS, ["goal = desired_goal", "hand = observation[1:3]", "state/pose", "state/mode"], "here"
    )
    seen = {
        "observation": np.array([1e9 + 0.5, 1.0, 2.0, 3.0]),
        "desired_goal": np.array([0.5, -0.5], np.float32),
        "state": {"pose": np.arange(4.0).reshape(2, 2), "mode": 3},
    }
    assert codec.flat(seen).tolist() == [0.5, -0.5, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 1.0]
    assert codec.entries("hand") == range(2, 4)
    assert ObservationCodec.of_spec(json.loads(json.dumps(codec.spec()))) == codec
    whole = read_observations(GOALS, ["observation"], "here").flat(seen)
    assert whole.dtype == np.float64
    assert whole[0] == 1e9 + 0.5


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            [],
            r"a dictionary of .*observation \(4 numbers\).*say here = \[\"desired_goal\", \"observation\", \"state/mode\"",
        ),
        (["camera"], "found an image, uint8 of shape .* as 'camera'"),
        (["mission"], "found a text as 'mission'"),
        (["goal"], "found here with 'goal' and an observation space of .*expected one of these"),
        (["observation[2:9]"], "and 4 numbers there; expected STOP up to 4"),
        (["observation[0:1]", "observation[1:2]"], "two parts called 'observation'; expected a name of its own"),
        (["observation[2:1]"], "which is empty"),
        (["= x"], "found observation part '= x'"),
    ],
)
def test_observations_that_would_be_guessed_are_refused(parts: list[str], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        read_observations(GOALS, parts, "here")


def test_rewards_are_one_number() -> None:
    assert [as_number(each) for each in (1, 0.5, np.float32(0.5), np.array([0.5]), [0.5])] == [1.0, 0.5, 0.5, 0.5, 0.5]
    with pytest.raises(StudyError, match=r"found array\(\[1., 2.\]\); expected one number"):
        as_number(np.array([1.0, 2.0]))


# Environments ------------------------------------------------------------------------------------------------------------


class Arm(gymnasium.Env[Any, Any]):
    """A hand in space and a goal that it moves to, in an old way or the new one."""

    observation_space = spaces.Dict(
        {"observation": spaces.Box(-3, 3, (4,), np.float64), "desired_goal": spaces.Box(-1, 1, (3,), np.float64)}
    )
    action_space = spaces.Box(-0.5, 0.5, (3,), np.float32)

    def __init__(self, style: str = "new", render_mode: str | None = None) -> None:
        self.style, self.render_mode = style, render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.hand, self.goal = self.np_random.uniform(-1, 1, 3), self.np_random.uniform(-1, 1, 3)
        return self._seen() if self.style == "old" else (self._seen(), {"options": options})

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.hand = self.hand + action
        near = bool(np.linalg.norm(self.hand - self.goal) < 0.05)
        info = {"is_success": np.float32(near), "contacts": np.zeros((self.np_random.integers(5), 2))}
        reward = np.array([-np.linalg.norm(self.hand - self.goal)])
        return (self._seen(), reward, near, info) if self.style == "old" else (self._seen(), reward, near, False, info)

    def close(self) -> None:
        if self.style == "crash":
            raise OSError("the port is gone")

    def _seen(self) -> dict[str, Any]:
        return {"observation": np.append(self.hand, 7.0), "desired_goal": self.goal}


ARM: dict[str, Any] = {
    "id": "tests.test_gym_world:Arm",
    "observation": ["hand = observation[0:3]", "goal = desired_goal"],
    "anchors": {"hand": "hand", "goal": ["goal[0]", "goal[1]", 5]},
    "anchor_range": 2.0,
    "about": "A hand in space.",
    "success": "info.is_success",
    "horizon_steps": 30,
    "demonstrator": "tests.test_gym_world:towards",
    "features": {
        "height": {"key": "hand", "index": 2, "unit": "m", "range": [-3, 3], "sentence": "how high the hand is"},
        "below": {"difference": ["goal[2]", "hand[2]"], "unit": "m", "range": [-4, 4], "sentence": "how far below"},
        "away": {"distance": ["hand", "goal"], "unit": "m", "range": [0, 5], "sentence": "how far away"},
    },
}


def towards(observation: dict[str, Any]) -> Any:
    """Of what the environment returns: a dictionary."""
    return np.clip(observation["desired_goal"] - observation["observation"][:3], -0.5, 0.5).astype(np.float32)


def arm(**changes: Any) -> GymWorld:
    return GymWorld("arm", [OwnTask(id="go", sentence="go to the goal")], {**ARM, **changes})


def test_features_and_anchors_are_what_the_file_names() -> None:
    world = arm()
    assert isinstance(world, World)
    grounding = world.grounding
    rows = np.array([[0.0, 0.0, 1.0, 0.0, 3.0, 5.0]])
    state = grounding.read(rows)
    assert state.values.tolist() == [[1.0, 4.0, 5.0]]
    assert state.anchors.tolist() == [[[0.0, 0.0, 1.0], [0.0, 3.0, 5.0]]]
    inputs = state.inputs(np.array([[0.0, 0.0, 3.0]]))
    assert grounding.heading_size == 6
    np.testing.assert_allclose(inputs[0, :3], [0.0, 0.0, 1.0])  # two metres up, of an anchor range of two
    assert grounding.vocabulary.anchors == ("hand", "goal")
    assert grounding.action_space == ActionSpace(3)


def test_the_interface_names_entries_by_their_features() -> None:
    """What is a feature by itself has its name, unit and range; what is not, the name of its part; sizes sum to the whole."""
    said = arm().interface().as_json(arm().grounding.action_space)
    entries = {entry["start"]: (entry["name"], entry["size"]) for entry in said["observation"]}
    assert sum(size for _, size in entries.values()) == arm().grounding.observation_size
    by_index = [(name, feature) for name, feature in arm().config.features.items() if feature.index is not None]
    assert by_index
    for name, feature in by_index:
        (entry,) = (each for each in said["observation"] if each["name"] == name)
        assert (entry["unit"], entry["low"], entry["high"]) == (feature.unit, *feature.range)
    assert "from [-0.5" in said["action"]["entries"][0]["meaning"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"features": {"a": {**ARM["features"]["height"], "index": 3}}},
            "and 3 numbers there; expected entries from 0 to 2",
        ),
        (
            {"features": {"a": {**ARM["features"]["away"], "distance": ["hand", "goal[0]"]}}},
            "of 3 and 1 numbers; expected as many",
        ),
        ({"features": {"a": {**ARM["features"]["below"], "difference": ["hand", "goal"]}}}, "expected one number each"),
        (
            {"features": {"a": {**ARM["features"]["below"], "difference": ["thing", 0]}}},
            "expected the number of an entry, or NAME",
        ),
        (
            {"anchors": {"hand": "hand[0]"}},
            "world.anchors.hand = 'hand\\[0\\]', of 1 numbers; expected 2, in the plane",
        ),
        ({"anchors": {"hand": "hand", "goal": "goal[0:2]"}}, "anchors of different sizes"),
        ({"observation_size": 5}, "found observations of 6 numbers.*expected 5"),
        ({"n_actions": 2}, "action space Box.*expected 2 discrete actions.*say action_size = 3, or leave it out"),
        ({"action_range": [-0.5, -0.5]}, "expected LOW below HIGH"),
        ({"observation": []}, r"say world.observation = \[.*desired_goal.*observation"),
        ({"id": None}, "found no environment; expected a Gymnasium id"),
        ({"import": ["no_such_module"]}, "ModuleNotFoundError.*name the module that registers it with import"),
    ],
)
def test_what_contradicts_the_environment_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        arm(**changes).make("go")


@pytest.mark.parametrize("style", ["new", "old", "crash"])
def test_demonstrations_are_of_what_the_environment_takes(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By a policy of raw observations; old steps of four values are read, and a crash at close is told."""
    world = arm(kwargs={"style": style})
    env = world.make("go")
    policy = world.demonstrator_in("go", env)
    assert policy is not None
    episode = record(env, policy, "go", 3, 0.0, world)
    env.close()
    assert episode.success
    assert episode.terminated
    assert episode.observations.shape[1] == 6
    moved = np.diff(episode.observations[:, :3], axis=0)
    np.testing.assert_allclose(episode.actions / 2, moved, atol=1e-5)  # half a metre is 1 inside
    assert episode.rewards[-1] > -0.05  # its own, not 0 and 1
    assert ("port is gone" in capsys.readouterr().err) == (style == "crash")


def test_a_sparse_reward_is_1_at_success_and_ends_the_episode() -> None:
    world = arm(reward="sparse")
    env = world.make("go")
    policy = world.demonstrator_in("go", env)
    assert policy is not None
    episode = record(env, policy, "go", 3, 0.0, world)
    assert episode.rewards.tolist() == [0.0] * (len(episode.rewards) - 1) + [1.0]
    assert world.make("go", reward="own").reset(seed=0)[0].shape == (6,)
    with pytest.raises(StudyError, match="found reward 'dense'; expected one of own, sparse"):
        world.make("go", reward="dense")


def test_the_horizon_cuts_what_has_no_limit() -> None:
    env = arm().make("go")
    env.reset(seed=0)
    ends = [env.step(np.zeros(3))[2:4] for _ in range(30)]
    assert ends == [(False, False)] * 29 + [(False, True)]


def test_a_bundle_reads_observations_where_the_environment_is_gone() -> None:
    spec = json.loads(json.dumps(arm().spec()))
    spec["config"]["id"] = "Gone-v0"
    again = find_world(**spec)
    assert again.grounding.read(np.zeros((1, 6))).values.shape == (1, 3)
    assert again.success_text == "info.is_success"
    with pytest.raises(StudyError, match=r"Gone-v0.*cannot be made"):
        again.make("go")


def test_any_environment_is_adapted_where_nothing_is_guessed() -> None:
    env = adapted(gymnasium.make("Pendulum-v1"))
    env.reset(seed=0)
    assert env.action_space == spaces.Box(-1.0, 1.0, (1,), np.float32)
    one, two = gymnasium.make("Pendulum-v1"), adapt(gymnasium.make("Pendulum-v1"))
    one.reset(seed=1)
    two.reset(seed=1)
    np.testing.assert_array_equal(one.step(np.array([1.0], np.float32))[0], two.step(np.array([0.5]))[0])
    with pytest.raises(StudyError, match=r"a dictionary of .*lago_skills.adapt\(env, ...\)"):
        adapted(Arm())
    assert adapt(Arm(), ["desired_goal"], horizon_steps=3).reset(seed=0)[0].shape == (3,)
    with pytest.raises(DataError, match=r"expected values from -0\.5 to 0\.5"):
        adapt(Arm(), ["desired_goal"]).actions.encoded(np.ones(3))


# Studies -------------------------------------------------------------------------------------------------------------------


def test_without_a_rule_a_study_is_refused_with_what_the_environment_shows(tmp_path: Path) -> None:
    """The remedy is followed: with the line that the message asks for, it is not."""
    text = """
name = "cart"
[world]
use = "gym"
id = "CartPole-v1"
[world.features.angle]
index = 2
unit = "rad"
range = [-0.4, 0.4]
sentence = "how far the pole leans"
[tasks]
seen = ["balance"]
[[tasks.own]]
id = "balance"
sentence = "keep the pole upright"
"""
    path = tmp_path / "cart.toml"
    path.write_text(text)
    with pytest.raises(
        StudyError,
        match=r"rewards from 1 to 1 a step, returns from .* 5 ended by termination.*Add success = .* to \[world\]",
    ):
        load_study(path).load_world().check_success()
    path.write_text(text.replace('use = "gym"', 'use = "gym"\nsuccess = "return >= 195"'))
    world = load_study(path).load_world()
    world.check_success()
    falls = record(world.make("balance"), lambda seen: 1, "balance", 0, 0.0, world)
    assert (falls.success, falls.terminated) == (False, True)
    stays = record(world.make("balance"), lambda seen: int(seen[2] + seen[3] > 0), "balance", 0, 0.0, world)
    assert (stays.success, stays.truncated, stays.success_step) == (True, True, 199)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('success = "wins"', "found world.success = 'wins'; expected: a rule of success .*'info.NAME'"),
        ('succes = "terminated"', "found unknown key 'world.succes'.*did you mean 'success'"),
        ('reward = "dense"', "found world.reward = 'dense'; expected: input should be 'own' or 'sparse'"),
        (
            "action_size = 1\nn_actions = 2",
            "one of world.action_size, numbers in a continuous action, and world.n_actions",
        ),
    ],
)
def test_a_misspelt_world_is_refused(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(
        f'name = "x"\n[world]\nuse = "gym"\n{line}\n[tasks]\nseen = ["a"]\n[[tasks.own]]\nid = "a"\nsentence = "do it"\n'
    )
    with pytest.raises(StudyError, match=said):
        load_study(path)
