"""Episodes from files: round trips through every format, where success, tasks and ranges of actions come from."""

# h5py and Minari leave types partially unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lago_skills.core import ActionSpace
from lago_skills.data.config import SourceConfig
from lago_skills.data.read_source import read, source_hash
from lago_skills.data.sources import Sizes, tasks_of
from lago_skills.errors import DataError
from lago_skills.worlds.gym.read_spaces import read_actions
from tests.data_files import DISCRETE, SIZES, episode, flat, loaded, npz, same, some, written

# Round trips ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("kind", ["npz", "hdf5", "minari"])
def test_what_is_written_is_read_exactly(tmp_path: Path, kind: str, discrete: bool) -> None:
    episodes = some(discrete=discrete)
    assert same(loaded(written(kind, tmp_path, episodes), sizes=DISCRETE if discrete else SIZES), episodes)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), kind=st.sampled_from(["npz", "hdf5"]), data=st.data()
)
def test_any_episodes_come_back(tmp_path: Path, lengths: list[int], kind: str, data: st.DataObject) -> None:
    episodes = [
        episode(n, seed=i, success=data.draw(st.booleans()), truncated=data.draw(st.booleans()))
        for i, n in enumerate(lengths)
    ]
    assert same(loaded(written(kind, tmp_path, episodes)), episodes)


def test_d3rlpy_reads_what_is_written_and_the_other_way_round(tmp_path: Path) -> None:
    from d3rlpy.dataset import Episode as TheirEpisode
    from d3rlpy.dataset import InfiniteBuffer, ReplayBuffer, dump

    episodes = some()
    config = written("hdf5", tmp_path, episodes)
    with (tmp_path / "x.hdf5").open("rb") as stream:
        theirs = ReplayBuffer.load(stream, InfiniteBuffer()).episodes
    for one, two in zip(episodes, theirs, strict=True):
        np.testing.assert_array_equal(np.asarray(two.observations), one.observations[:-1])
        np.testing.assert_array_equal(two.actions, one.actions)
        assert two.terminated == one.terminated
    with (tmp_path / "theirs.h5").open("w+b") as stream:
        dump(
            [TheirEpisode(e.observations[:-1], e.actions, e.rewards[:, None], terminated=e.success) for e in episodes],
            stream,
        )
    config = SourceConfig(path=str(tmp_path / "theirs.h5"), task="go", success="terminated")
    found = loaded(config)
    assert [e.success for e in found] == [True, False, True]
    np.testing.assert_array_equal(found[0].actions, episodes[0].actions[:-1])  # nothing says what the last one led to
    np.testing.assert_array_equal(found[0].observations, episodes[0].observations[:-1])
    assert found[0].rewards.tolist() == [0.0, 0.0, 1.0]


def test_d3rlpys_discrete_actions_are_whole_numbers(tmp_path: Path) -> None:
    episodes = some(discrete=True)
    source = written("hdf5", tmp_path, episodes)
    found = loaded(source, sizes=DISCRETE)
    assert found[0].discrete
    assert found[0].actions.dtype == np.int64
    with pytest.raises(DataError, match=r"whole numbers from 0 to 2; expected actions of 2 numbers in \[-1, 1\]"):
        loaded(source)


def test_the_declared_actions_say_how_arrays_are_read(tmp_path: Path) -> None:
    """One column of whole numbers is discrete where the environment says so, and one axis is one number where it says that."""
    column = npz(tmp_path, **flat(actions=np.array([[0.0], [2.0], [1.0], [0.0]])))
    assert loaded(column, sizes=DISCRETE)[0].actions.tolist() == [0, 2, 1]
    with pytest.raises(DataError, match="whole numbers from 0 to 2; expected 2 discrete actions"):
        loaded(column, sizes=replace(DISCRETE, actions=ActionSpace(2, discrete=True)))
    with pytest.raises(DataError, match=r"actions of 1 numbers; expected 3 discrete actions"):
        loaded(npz(tmp_path, **flat(actions=np.array([[0.5], [2.0], [1.0], [0.0]]))), sizes=DISCRETE)
    line = npz(tmp_path, **flat(actions=np.array([0, 1, -1, 0])))
    one = replace(SIZES, actions=ActionSpace(1))
    assert loaded(line, sizes=one)[0].actions.tolist() == [[0.0], [1.0], [-1.0]]
    with pytest.raises(DataError, match=r"add environment\.action_size .* or environment\.n_actions"):
        loaded(line, sizes=replace(SIZES, actions=ActionSpace(0)))


def test_flat_arrays_are_split_where_episodes_end(tmp_path: Path) -> None:
    arrays = flat(6, terminals=np.array([0, 0, 1, 0, 0, 0], bool), timeouts=np.array([0, 0, 0, 0, 0, 1], bool))
    config = npz(tmp_path, **arrays)
    found = loaded(config.model_copy(update={"success": "terminated", "rewards": "recorded"}))
    assert [len(e.actions) for e in found] == [2, 2]
    assert [e.success for e in found] == [True, False]
    assert [e.rewards.tolist() for e in found] == [[0.0, 3.0], [3.0, 9.0]]  # the last reward goes to the step before
    following = np.roll(arrays["observations"], -1, axis=0)
    following[[2, 5]] += 1.0
    found = loaded(npz(tmp_path, **arrays, next_observations=following))
    assert [len(e.actions) for e in found] == [3, 3]
    np.testing.assert_allclose(found[1].observations[-1], following[-1], rtol=1e-6)
    cut_off = {**arrays, "timeouts": np.zeros(6, bool)}
    assert [len(raw.actions) for raw in read(npz(tmp_path, **cut_off), Path()).episodes] == [3, 3]
    (tmp_path / "x.h5").unlink(missing_ok=True)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        file.create_group("metadata")
    assert len(loaded(SourceConfig(path=str(tmp_path / "x.h5"), task="go", success="all"))) == 2


# Success, tasks, ranges ----------------------------------------------------------------------------------------------


def test_success_shows_in_the_way_the_source_says(tmp_path: Path) -> None:
    arrays = flat(6, terminals=np.array([0, 0, 1, 0, 0, 0], bool), rewards=np.array([0, 0, -1, 0, 0, 5.0]))
    config = npz(tmp_path, **arrays)

    def successes(rule: Any) -> list[bool]:
        return [e.success for e in loaded(config.model_copy(update={"success": rule}))]

    assert successes("terminated") == [True, False]
    assert successes("rewarded") == [False, True]
    assert successes("all") == [True, True]
    assert successes(-1.0) == [True, True]
    assert successes(0.0) == [False, True]
    with pytest.raises(DataError, match=r"found no record of success.*say how success shows"):
        successes("recorded")
    only = config.model_copy(update={"success": "rewarded", "keep": "success"})
    assert [e.success for e in loaded(only)] == [True]
    assert len(loaded(config.model_copy(update={"max_episodes": 1}))) == 1
    with pytest.raises(DataError, match="found no successful episode among 2"):
        loaded(only.model_copy(update={"success": 100.0}))


def test_episodes_bring_their_tasks(tmp_path: Path) -> None:
    arrays = flat(6, terminals=np.array([0, 0, 1, 0, 0, 1], bool), names=np.array(["go", "come"]))
    config = npz(tmp_path, **arrays).model_copy(update={"task": None, "task_key": "names"})
    assert tasks_of(read(config, Path()), config) == ["go", "come"]
    assert [e.task_id for e in loaded(config, "come")] == ["come"]
    with pytest.raises(DataError, match=r"found episodes of \['come', 'go'\], none of task 'stay'"):
        loaded(config, "stay")
    with pytest.raises(DataError, match="no task's name under 'task_id'"):
        loaded(config.model_copy(update={"task_key": "task_id"}))


def test_actions_are_rescaled_from_the_range_that_the_source_says(tmp_path: Path) -> None:
    actions = np.array([[0.0, 10.0], [4.0, 20.0], [2.0, 15.0], [1.0, 12.5]])
    config = npz(tmp_path, **flat(actions=actions))
    with pytest.raises(
        DataError, match=r"found 10 as number 1 of action 0; expected values from -1 to 1; say their range"
    ):
        loaded(config)
    scaled = config.model_copy(update={"action_range": ([0.0, 10.0], [4.0, 20.0])})
    assert loaded(scaled)[0].actions.tolist() == [[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]]
    wide = loaded(config.model_copy(update={"action_range": (0.0, 20.0)}))
    assert wide[0].actions.tolist() == [[-1.0, 0.0], [np.float32(-0.6), 1.0], [np.float32(-0.8), 0.5]]
    for bad, message in (
        ((0.0, 15.0), "expected values from 0 to 15"),
        (([0.0], [1.0, 2.0, 3.0]), "a range for actions of 3 numbers and actions of 2"),
        ((1.0, 1.0), "expected the smallest value first"),
    ):
        with pytest.raises(DataError, match=message):
            loaded(config.model_copy(update={"action_range": bad}))
    rounded = npz(tmp_path, **flat(actions=np.full((4, 2), 1.0 + 1e-6)))
    assert float(loaded(rounded)[0].actions.max()) == 1.0


def minari_dataset(root: Path, space: Any, observations: Any, actions: Any, action_space: Any, **other: Any) -> Path:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    n = len(actions)
    buffer = EpisodeBuffer(
        observations=observations,
        actions=actions,
        rewards=[0.0] * n,
        terminations=[False] * (n - 1) + [True],
        truncations=[False] * n,
        **other,
    )
    os.environ["MINARI_DATASETS_PATH"] = str(root)
    try:
        with pytest.warns(UserWarning, match="None"):
            minari.create_dataset_from_buffers(
                "test/x-v0", [buffer], observation_space=space, action_space=action_space
            )
    finally:
        del os.environ["MINARI_DATASETS_PATH"]
    return root / "test" / "x-v0"


def test_minaris_spaces_say_the_range_and_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = gymnasium.spaces.Box
    parts = {"hand": np.ones((4, 2), np.float32), "goal": np.zeros((4, 1), np.float32)}
    space = gymnasium.spaces.Dict({"hand": box(-1, 1, (2,)), "goal": box(-1, 1, (1,)), "other": box(-1, 1, (1,))})
    folder = minari_dataset(
        tmp_path,
        space,
        {**parts, "other": np.zeros((4, 1), np.float32)},
        np.array([[0.0], [5.0], [10.0]], np.float32),
        box(0, 10, (1,)),
        infos={"success": np.array([False, False, True, True])},
        seed=7,
    )
    config = SourceConfig(path=str(folder), task="go", observations=["goal", "hand"])
    (found,) = loaded(config, sizes=None)
    assert found.observations[0].tolist() == [0.0, 1.0, 1.0]
    assert found.actions[:, 0].tolist() == [-1.0, 0.0, 1.0]
    assert found.success
    assert found.seed == 7
    for entries in ([], ["hand", "gaol"]):
        with pytest.raises(DataError, match=r"a dictionary of \['goal', 'hand', 'other'\].*correct observations"):
            loaded(config.model_copy(update={"observations": entries}))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    by_id = SourceConfig(minari="test/x-v0", task="go", observations=["goal", "hand"])
    assert same(loaded(by_id, sizes=None), [found])
    assert source_hash(by_id, Path()) == source_hash(config, Path())
    with pytest.raises(DataError, match=r"no Minari dataset 'test/y-v0'.*minari download test/y-v0"):
        loaded(SourceConfig(minari="test/y-v0", task="go"))


def test_minaris_other_spaces(tmp_path: Path) -> None:
    box, rows = gymnasium.spaces.Box(-9, 9, (3,)), np.zeros((4, 3), np.float32)
    folder = minari_dataset(tmp_path / "a", box, rows, np.array([5, 6, 7]), gymnasium.spaces.Discrete(3, start=5))
    (found,) = loaded(SourceConfig(path=str(folder), task="go", success="all"), sizes=DISCRETE)
    assert found.actions.tolist() == [0, 1, 2]
    several = gymnasium.spaces.MultiDiscrete([2, 2])
    folder = minari_dataset(tmp_path / "b", box, rows, np.zeros((3, 2), np.int64), several)
    with pytest.raises(DataError, match="found actions of the space MultiDiscrete"):
        loaded(SourceConfig(path=str(folder), task="go", success="all"))
    codec = read_actions(several, flatten=True)
    sizes = Sizes(3, codec.space, codec)
    (found,) = loaded(SourceConfig(path=str(folder), task="go", success="all"), sizes=sizes)
    assert found.actions.tolist() == [0, 0, 0]
    folder = minari_dataset(tmp_path / "c", gymnasium.spaces.Discrete(3), np.zeros(4, np.int64), np.zeros((3, 2)), box)
    with pytest.raises(DataError, match="the space Discrete"):
        loaded(SourceConfig(path=str(folder), task="go"))
    (folder / "data" / "main_data.hdf5").write_bytes(b"torn")
    (folder / "data" / "metadata.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read as a Minari dataset"):
        loaded(SourceConfig(path=str(folder), task="go"))


# Names of other packages ---------------------------------------------------------------------------------------------------


def test_files_of_other_packages_are_read(tmp_path: Path) -> None:
    """imitation's rollouts, the first Stable-Baselines' expert trajectories, OGBench as it is downloaded and with rewards."""
    rng = np.random.default_rng(0)
    obs, acts = rng.normal(size=(9, 3)), rng.uniform(-1, 1, (7, 2))
    rollouts = {
        "obs": obs,
        "acts": acts,
        "rews": np.arange(7.0),
        "indices": np.array([3]),
        "terminal": np.array([True, False]),
    }
    np.savez(tmp_path / "imitation.npz", infos=np.array([{}] * 7, object), **rollouts)  # pyright: ignore[reportArgumentType]
    first, second = read(SourceConfig(path="imitation.npz"), tmp_path).episodes
    assert [len(each.actions) for each in (first, second)] == [3, 4]
    assert [len(each.observations) for each in (first, second)] == [4, 5]
    assert [(each.terminated, each.truncated) for each in (first, second)] == [(True, False), (False, False)]
    np.testing.assert_array_equal(second.rewards, [3.0, 4.0, 5.0, 6.0])
    starts = np.array([1, 0, 0, 1, 0, 0, 0], bool)
    np.savez(tmp_path / "sb.npz", obs=obs[:7], actions=acts, rewards=np.ones(7), episode_starts=starts)
    assert [len(each.actions) for each in read(SourceConfig(path="sb.npz"), tmp_path).episodes] == [3, 4]
    ends = np.array([0, 0, 1, 0, 0, 0, 1], np.float32)
    np.savez(tmp_path / "ogbench.npz", observations=obs[:7], actions=acts, terminals=ends, qpos=obs[:7])
    downloaded = read(SourceConfig(path="ogbench.npz"), tmp_path).episodes
    assert [(each.terminated, each.truncated, each.rewards) for each in downloaded] == [(False, True, None)] * 2
    masks = np.array([1, 0, 1, 1, 1, 1, 0], np.float32)
    np.savez(tmp_path / "task.npz", observations=obs[:7], actions=acts, rewards=masks - 1, terminals=ends, masks=masks)
    assert [each.terminated for each in read(SourceConfig(path="task.npz"), tmp_path).episodes] == [False, True]
