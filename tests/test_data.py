"""Offline data in and out: files of every kind become the same episodes, come back exactly, and bad ones are refused."""

# h5py and Minari leave types partially unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
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
from numpy.typing import NDArray

from lago_skills.commands.cli import main
from lago_skills.core import ActionSpace, Episode, Playbook, Segment, Step
from lago_skills.data.config import SourceConfig, WeightingConfig
from lago_skills.data.episodes import load_episodes, save_episodes
from lago_skills.data.hdf5_files import write_hdf5
from lago_skills.data.minari_files import About, write_minari
from lago_skills.data.sources import Sizes, episodes_of, read, source_hash, tasks_of
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.dataset import episode_weights, held_out_episodes, labelled_steps
from lago_skills.errors import DataError, ShapeError, StudyError
from lago_skills.stages import collect
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.study import load_study
from lago_skills.worlds.metaworld.env import MetaWorldEnv, demonstrate
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.own import NamedEntries, registered_spec

SIZES = Sizes(observation=3, actions=ActionSpace(2))
DISCRETE = Sizes(observation=3, actions=ActionSpace(3, discrete=True))


def episode(n: int = 6, *, seed: int = 0, success: bool = True, task: str = "go", discrete: bool = False) -> Episode:
    rng = np.random.default_rng(seed)
    rewards = np.zeros(n, np.float32)
    rewards[-1] = float(success)
    actions = rng.integers(0, 3, n) if discrete else rng.uniform(-1, 1, (n, 2)).astype(np.float32)
    return Episode(task, seed, rng.normal(size=(n + 1, 3)).astype(np.float32), actions, rewards, success)


def some(*, discrete: bool = False) -> list[Episode]:
    return [episode(4 + i, seed=10 + i, success=i != 1, discrete=discrete) for i in range(3)]


def same(one: list[Episode], two: list[Episode]) -> bool:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert (a.task_id, a.seed, a.success) == (b.task_id, b.seed, b.success)
        for name in ("observations", "actions", "rewards"):
            assert getattr(a, name).dtype == getattr(b, name).dtype
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    return True


def written(kind: str, folder: Path, episodes: list[Episode]) -> SourceConfig:
    if kind == "minari":
        name, new = write_minari("lago/x", episodes, "d", About("me", "test", []), folder)
        assert new
        return SourceConfig(path=str(folder / name))
    path = folder / f"x.{kind}"
    (save_episodes if kind == "npz" else write_hdf5)(path, episodes)
    return SourceConfig(path=str(path))


def loaded(config: SourceConfig, task: str = "go", sizes: Sizes | None = SIZES) -> list[Episode]:
    return episodes_of(read(config, Path()), config, task, sizes)


def npz(folder: Path, **arrays: NDArray[Any]) -> SourceConfig:
    np.savez(folder / "x.npz", **arrays)  # pyright: ignore[reportArgumentType]  (an array may not be called allow_pickle)
    return SourceConfig(path=str(folder / "x.npz"), task="go", success="all")


def flat(n: int = 4, **other: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """One episode with T observations, as D4RL has it."""
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {
        "observations": rng.normal(size=(n, 3)),
        "actions": rng.uniform(-1, 1, (n, 2)),
        "rewards": np.arange(n, dtype=np.float64),
        "terminals": np.arange(n) == n - 1,
    }
    return {**arrays, **other}


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
    episodes = [episode(n, seed=i, success=data.draw(st.booleans())) for i, n in enumerate(lengths)]
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
        assert two.terminated == one.success
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
    following = arrays["observations"] + 1.0
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
        loaded(SourceConfig(path=str(folder), task="go"))
    folder = minari_dataset(tmp_path / "c", gymnasium.spaces.Discrete(3), np.zeros(4, np.int64), np.zeros((3, 2)), box)
    with pytest.raises(DataError, match="the space Discrete"):
        loaded(SourceConfig(path=str(folder), task="go"))
    (folder / "data" / "main_data.hdf5").write_bytes(b"torn")
    (folder / "data" / "metadata.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read as a Minari dataset"):
        loaded(SourceConfig(path=str(folder), task="go"))


# Bad input -----------------------------------------------------------------------------------------------------------


def bad(name: str, value: Any, index: Any) -> dict[str, NDArray[Any]]:
    arrays = flat()
    arrays[name][index] = value
    return arrays


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (bad("observations", np.nan, (1, 2)), r"episode 0: found nan in observations at index \(1, 2\)"),
        (bad("actions", np.inf, (2, 0)), r"found inf in actions at index \(2, 0\).*leave the episode out"),
        (bad("rewards", np.nan, 1), "found nan in rewards"),
        (bad("actions", 1.5, (0, 0)), r"found 1\.5 as number 0 of action 0; expected values from -1 to 1"),
        (flat(observations=np.zeros((4, 5))), "found observations of 5 numbers; expected 3.*another environment"),
        (
            flat(actions=np.zeros((4, 1))),
            "found actions of 1 numbers; expected actions of 2 numbers.*another environment",
        ),
        (flat(observations=np.zeros((4, 2, 3))), r"found observations of shape \(4, 2, 3\).*flatten"),
        (flat(actions=np.zeros((4, 2, 1))), r"actions \(4, 2, 1\)"),
        (flat(actions=np.zeros(4)), r"actions \(4,\).*whole numbers"),
        (flat(actions=np.full((4, 2), "left")), "found actions of type <U4; expected numbers"),
        (flat(rewards=np.zeros(3)), "found 4 actions and 3 rewards"),
        (flat(observations=np.zeros((3, 3))), "found 3 observations for 1 episodes of 4 steps"),
        (flat(next_observations=np.zeros((4, 2))), "found 4 observations"),
        (flat(terminals=np.zeros(3, bool)), "found 3 flags"),
        (flat(success=np.array([True, False])), r"found 'success' of shape \(2,\) for 1 episodes"),
        ({"observations": np.zeros((4, 3))}, "found no array 'actions'"),
        ({k: v for k, v in flat().items() if k != "terminals"}, "found neither 'lengths' nor 'terminals'"),
        ({**flat(), "lengths": np.array([5])}, "for episodes of 5 steps"),
        (flat(1), "without a single step whose outcome is known"),
        (flat(0, terminals=np.zeros(0, bool)), "found no episodes"),
        (flat(4, lengths=np.zeros(0, np.int64)), "for episodes of 0 steps"),
    ],
)
def test_bad_data_is_one_sentence(tmp_path: Path, arrays: dict[str, NDArray[Any]], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        loaded(npz(tmp_path, **arrays))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_text("seed,reward\n1,2\n")
    with pytest.raises(DataError, match=r"is neither NPZ nor HDF5 \(it begins with b'seed,rew'\)"):
        loaded(SourceConfig(path=str(tmp_path / "x.npz")))
    with pytest.raises(DataError, match=r"found no data at .*none\.npz"):
        loaded(SourceConfig(path=str(tmp_path / "none.npz")))
    with pytest.raises(DataError, match="cannot be read as a Minari dataset"):
        loaded(SourceConfig(path=str(tmp_path)))
    with pytest.raises(DataError, match="holds Python objects, which are never unpickled"):
        loaded(npz(tmp_path, **flat(actions=np.array([None] * 4, dtype=object))))
    good = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(good[:100] + bytes(40) + good[140:])
    with pytest.raises(DataError, match="cannot be read"):
        loaded(SourceConfig(path=str(tmp_path / "x.npz"), task="go", success="all"))
    save_episodes(tmp_path / "y.npz", some())
    whole = (tmp_path / "y.npz").read_bytes()
    (tmp_path / "y.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="neither NPZ nor HDF5"):
        loaded(SourceConfig(path=str(tmp_path / "y.npz")))
    write_hdf5(tmp_path / "z.h5", some())
    with h5py.File(tmp_path / "z.h5", "a") as file:
        del file["actions_1"]
    with pytest.raises(DataError, match="expected HDF5 as d3rlpy's dump writes it"):
        loaded(SourceConfig(path=str(tmp_path / "z.h5")))
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_dataset("num_episodes", data=1)
        file.create_dataset("observations_0_0", data=np.zeros((4, 3)))
    with pytest.raises(DataError, match="observations of several parts"):
        loaded(SourceConfig(path=str(tmp_path / "t.h5")))


def test_an_episode_checks_its_ranks_and_its_discrete_actions() -> None:
    good = episode(discrete=True)
    assert good.discrete
    with pytest.raises(ShapeError, match="no whole numbers from 0"):
        replace(good, actions=-1 - np.asarray(good.actions))
    with pytest.raises(ShapeError, match="no whole numbers from 0"):
        replace(good, actions=np.zeros(6, np.float32))
    with pytest.raises(ShapeError, match=r"expected \(T\+1, S\)"):
        replace(good, actions=np.zeros((6, 2, 2), np.float32))


def test_a_source_is_in_one_place() -> None:
    with pytest.raises(ValueError, match="one of path and minari"):
        SourceConfig()
    with pytest.raises(ValueError, match="one of path and minari"):
        SourceConfig(path="x", minari="y")


# Weights, and steps to train on --------------------------------------------------------------------------------------


def test_failures_count_less_and_the_best_fully() -> None:
    mixed = [episode(success=True), episode(success=False)]
    assert episode_weights(mixed, WeightingConfig(temperature=0.5)).tolist() == [1.0, np.exp(-2.0)]
    assert episode_weights(mixed, WeightingConfig(temperature=0.0)).tolist() == [1.0, 0.0]
    assert episode_weights([mixed[0]] * 3, WeightingConfig()).tolist() == [1.0] * 3
    failed = [replace(mixed[1], rewards=np.full(6, r, np.float32)) for r in (1.0, 2.0, 3.0)]
    np.testing.assert_allclose(
        episode_weights(failed, WeightingConfig(temperature=1.0)), np.exp([-1.0, -0.5, 0.0]), rtol=1e-6
    )
    assert episode_weights([mixed[1]] * 2, WeightingConfig(temperature=0.0)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("successes", "expected"),
    [
        ([True] * 5, {4}),
        ([True], set[int]()),
        ([False, False], {1}),
        ([True, True, False, False], {1}),
        ([True, False, False], {2}),
        ([True, False], {1}),
        ([False, True, True, True, True, True, True], {5, 6}),
    ],
)
def test_held_out_are_successes_where_there_are_enough(successes: list[bool], expected: set[int]) -> None:
    assert held_out_episodes([episode(success=s) for s in successes], 0.2) == expected


def entries() -> NamedEntries:
    from lago_skills.core import Feature

    names = {f"f{i}": (i, Feature(f"f{i}", "1", f"number {i}", -3.0, 3.0)) for i in range(3)}
    return NamedEntries(names, "A point moves.", 3, ActionSpace(2))


def test_one_segment_one_step_and_constant_features_can_be_trained_on() -> None:
    """Two skills, one of them with a single segment of a single step; an entry that never changes."""
    runs = [replace(e, observations=e.observations * np.array([1, 0, 1], np.float32)) for e in some()]
    runs[1] = replace(
        runs[1], observations=runs[1].observations[:2], actions=runs[1].actions[:1], rewards=runs[1].rewards[:1]
    )
    found = [Segment("go", i, 0, len(run.actions), 0, "often") for i, run in enumerate(runs) if i != 1]
    found.append(Segment("go", 1, 0, 1, 1, "once", "change points"))
    embeddings = {name: np.full(4, i, np.float32) for i, name in enumerate(("often", "once"))}
    book = Playbook("go", (Step("often", None),), "key", "m")
    steps = labelled_steps({"go": runs}, {"go": book}, found, embeddings, entries(), DecoderConfig())
    assert len(steps.actions) == 4 + 1 + 6
    assert np.isfinite(steps.variants).all()
    assert steps.weights.sum() == pytest.approx(1.0)
    assert steps.weights[-1] == pytest.approx(np.exp(-10.0) * steps.weights[0])
    assert steps.held_out.sum() == 6
    numbered = [episode(discrete=True)]
    with pytest.raises(DataError, match=r"found 3 discrete actions; expected actions of 2 numbers"):
        labelled_steps({"go": numbered}, {"go": book}, found[:1], embeddings, entries(), DecoderConfig())


# Stages and the command line -----------------------------------------------------------------------------------------

STUDY = """
name = "mine"
[tasks]
seen = ["push", "reach"]
[collect]
episodes_per_task = 0
[[data]]
path = "push.npz"
task = "push"
[[data]]
path = "both.h5"
"""


@pytest.fixture(scope="module")
def pushes() -> list[Episode]:
    env = MetaWorldEnv(find_task("push"))
    good = [demonstrate(env, 1_000_000 + i, 0.1) for i in range(2)]
    failed = next(run for i in range(20) if not (run := demonstrate(env, 1_500_000 + i, 1.0)).success)
    env.close()
    assert [e.success for e in (*good, failed)] == [True, True, False]
    return [*good, failed]


@pytest.fixture
def space(tmp_path: Path, pushes: list[Episode]) -> Workspace:
    """A study of two tasks whose data comes from two files; one of them holds both tasks and another one."""
    path = tmp_path / "data" / "studies" / "mine.toml"
    path.parent.mkdir(parents=True)
    path.write_text(STUDY)
    save_episodes(tmp_path / "push.npz", pushes)
    write_hdf5(tmp_path / "both.h5", [replace(pushes[i], task_id=t) for i, t in enumerate(("reach", "push", "other"))])
    return open_workspace(tmp_path, path)


def collected(space: Workspace) -> None:
    for job in collect.jobs(space):
        job.run(lambda done, note: None)


def test_sources_become_the_same_artifact_as_demonstrations(space: Workspace, pushes: list[Episode]) -> None:
    collected(space)
    found = collect.episodes(space)
    assert same(found["push"], [*pushes, pushes[1]])
    assert same(found["reach"], [replace(pushes[0], task_id="reach")])
    push, reach = collect.jobs(space)
    assert push.done
    hashes = [source["sha256"] for source in push.recipe["data"]]
    assert hashes == [source_hash(source, space.root) for source in space.study.data]
    assert "path" not in push.recipe["data"][0]
    save_episodes(space.root / "push.npz", pushes[:1])
    push, reach = collect.jobs(space)
    assert not push.done
    assert reach.done, "a file that another task does not use does not matter"


def test_scripted_demonstrations_beside_a_source(space: Workspace) -> None:
    text = STUDY.replace("= 0", "= 1").replace(
        'task = "push"', 'task = "push"\nbeside_scripted = true\nkeep = "success"'
    )
    space.study_file.write_text(text)
    space = open_workspace(space.root, space.study_file)
    assert [space.study.n_scripted(task) for task in space.study.seen] == [1, 0]
    collected(space)
    assert [e.success for e in collect.episodes(space)["push"]] == [True] * 4


def test_a_source_without_the_task_is_one_sentence(space: Workspace) -> None:
    write_hdf5(space.root / "both.h5", [replace(e, task_id="other") for e in load_episodes(space.root / "push.npz")])
    push, reach = collect.jobs(space)
    push.run(lambda done, note: None)
    with pytest.raises(DataError, match=r"found episodes of \['other'\], none of task 'reach'"):
        reach.run(lambda done, note: None)


def test_sources_together_must_hold_episodes_of_one_kind(space: Workspace, pushes: list[Episode]) -> None:
    space.study_file.write_text(STUDY.replace('task = "push"\n', ""))
    space = open_workspace(space.root, space.study_file)
    write_hdf5(space.root / "both.h5", [replace(pushes[0], task_id="other")])
    with pytest.raises(DataError, match=r"task 'reach': found no episode in push\.npz, both\.h5"):
        collect.jobs(space)[1].run(lambda done, note: None)
    numbered = np.zeros(len(pushes[0].actions), np.int64)
    write_hdf5(space.root / "both.h5", [replace(pushes[0], actions=numbered)])
    with pytest.raises(DataError, match="found actions of whole numbers from 0 to 0; expected actions of 4 numbers"):
        collect.jobs(space)[0].run(lambda done, note: None)


def test_data_of_another_environment_is_refused_by_the_stage(space: Workspace) -> None:
    save_episodes(space.root / "push.npz", [episode(task="push")])
    with pytest.raises(DataError, match="found observations of 3 numbers; expected 39"):
        collect.jobs(space)[0].run(lambda done, note: None)


def lago(space: Workspace, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["--root", str(space.root), "data", *arguments], lambda space, stages: None)
    told = capsys.readouterr()
    return code, told.out, told.err


def table(space: Workspace, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = lago(space, capsys, *arguments, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert set(found) == {"rows", "summary"}
    return found


def test_list_and_show(space: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = lago(space, capsys, "list", "mine")
    assert code == 2
    assert "run: lago collect mine" in err
    collected(space)
    found = table(space, capsys, "list", "mine")
    assert [(row["task"], row["episodes"], row["success"], row["scripted"]) for row in found["rows"]] == [
        ("push", 4, 0.75, 0),
        ("reach", 1, 1.0, 0),
    ]
    assert lago(space, capsys, "list", "mine")[0] == 0
    found = table(space, capsys, "show", "both.h5")
    assert [(row["task"], row["episodes"], row["observation_size"], row["action_size"]) for row in found["rows"]] == [
        ("reach", 1, 39, 4),
        ("push", 1, 39, 4),
        ("other", 1, 39, 4),
    ]
    assert found["summary"]["format"] == "hdf5"
    assert found["summary"]["problems"] == []
    assert 38 in found["summary"]["constant_entries"] or 11 in found["summary"]["constant_entries"]
    for what, message in (("none.npz", "found no data at"), ("no-such-v0", "found no Minari dataset 'no-such-v0'")):
        code, _, err = lago(space, capsys, "show", what)
        assert code == 2
        assert message in err


def test_show_tells_every_problem_and_stays_json(space: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = flat(9, terminals=np.array([0, 0, 1, 0, 0, 1, 0, 1, 1], bool))
    arrays["observations"][[0, 3], 1] = np.nan
    arrays["actions"][6, 0] = 3.0
    npz(space.root, **arrays)
    found = table(space, capsys, "show", "x.npz")
    (row,) = found["rows"]
    assert (row["task"], row["episodes"], row["shortest"], row["success"], row["action_high"]) == (
        None,
        4,
        1,
        None,
        3.0,
    )
    problems = found["summary"]["problems"]
    assert len(problems) == 3
    assert "found nan in observations at index (0, 1)" in problems[0]
    assert problems[0].endswith("(and 1 more episodes)")
    assert "found 3 as number 0" in problems[1]
    assert "no step whose outcome is known" in problems[2]
    assert "problem: " in lago(space, capsys, "show", "x.npz")[1]
    npz(space.root, **flat(0, terminals=np.zeros(0, bool)))
    assert "found no episodes" in table(space, capsys, "show", "x.npz")["summary"]["problems"][0]
    words = flat(actions=np.full((4, 2), "left"), observations=np.zeros((4, 3, 1)))
    npz(space.root, **words)
    found = table(space, capsys, "show", "x.npz")
    assert found["rows"][0]["action_low"] is None
    assert "found actions of type <U4" in found["summary"]["problems"][0]


@pytest.mark.parametrize("format", ["npz", "hdf5"])
def test_files_are_exported(space: Workspace, capsys: pytest.CaptureFixture[str], format: str) -> None:
    collected(space)
    found = table(space, capsys, "export", "mine", "--format", format, "--task", "push")
    (row,) = found["rows"]
    assert Path(row["dataset"]).parent == space.root / "data" / "exports"
    config = SourceConfig(path=row["dataset"])
    assert same(loaded(config, "push", None), collect.episodes(space)["push"])
    assert not list(Path(row["dataset"]).parent.glob(".*"))
    code, _, err = lago(space, capsys, "export", "mine", "--task", "door-open")
    assert code == 2
    assert "expected a seen task of study 'mine', one of ['push', 'reach']" in err


def test_a_minari_dataset_is_exported_once_and_is_the_same_environment(
    space: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    collected(space)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(space.root / "minari"))
    rows = table(space, capsys, "export", "mine")["rows"]
    assert [(row["dataset"], row["new"]) for row in rows] == [
        ("lago/mine-push-v0", True),
        ("lago/mine-reach-v0", True),
    ]
    rows = table(space, capsys, "export", "mine", "--task", "push")["rows"]
    assert [(row["dataset"], row["new"]) for row in rows] == [("lago/mine-push-v0", False)]
    shown = table(space, capsys, "show", "lago/mine-push-v0")
    assert shown["summary"]["environment"] == "lago/push-v0"
    assert shown["rows"][0]["success"] == 0.75
    config = SourceConfig(minari="lago/mine-push-v0")
    episodes = collect.episodes(space)["push"]
    assert same(loaded(config, "push", Sizes(39, ActionSpace(4))), episodes)
    dataset = minari.load_dataset("lago/mine-push-v0")
    about = dataset.storage.metadata
    assert about["algorithm_name"].startswith("episodes of a file with SHA-256 ")
    assert about["requirements"] == ["metaworld==3.1.1"]
    assert "4 episodes of task 'push' (push the puck to a goal)" in about["description"]
    env = dataset.recover_environment()
    observation, _ = env.reset(seed=episodes[0].seed)
    terminated: Any = False
    for action in np.asarray(episodes[0].actions):
        observation, _, terminated, _, _ = env.step(action)
    env.close()
    assert terminated
    np.testing.assert_allclose(observation, episodes[0].observations[-1], atol=1e-6)
    save_episodes(space.root / "push.npz", load_episodes(space.root / "push.npz")[:1])
    collected(space)
    assert table(space, capsys, "export", "mine", "--task", "push")["rows"][0]["dataset"] == "lago/mine-push-v1"
    elsewhere = space.root / "elsewhere"
    table(space, capsys, "export", "mine", "--task", "push", "--to", str(elsewhere))
    assert (elsewhere / "lago" / "mine-push-v0" / "data").is_dir()
    assert os.environ["MINARI_DATASETS_PATH"] == str(space.root / "minari")


def test_only_registered_environments_have_a_specification(tmp_path: Path) -> None:
    assert registered_spec("NoSuchThing-v3") is None
    spec = registered_spec("CartPole-v1")
    assert spec is not None
    name, _ = write_minari("x", some(discrete=True), "d", About("me", "test", [], env_spec=spec), tmp_path)
    dataset = minari.MinariDataset(tmp_path / name / "data")
    assert dataset.action_space == gymnasium.spaces.Discrete(2)


# Study files ---------------------------------------------------------------------------------------------------------

HEAD = 'name = "x"\n[tasks]\nseen = ["reach", "push"]\n'


def own(*sentences: str) -> str:
    names = [f"t{i}" for i in range(len(sentences))]
    tasks = [
        f'[[tasks.own]]\nid = "{name}"\nenv_id = "CartPole-v1"\nsentence = {json.dumps(sentence, ensure_ascii=False)}\n'
        for name, sentence in zip(names, sentences, strict=True)
    ]
    environment = (
        '[environment]\nobservation_size = 4\n[environment.features.a]\nindex = 0\nunit = "m"\nrange = [0, 1]\n'
    )
    return f'name = "x"\n[tasks]\nseen = {names}\n{"".join(tasks)}{environment}sentence = "a number"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD + '[[data]]\npath = "a.npz"\ntask = "door-open"',
            "found data 'a.npz' of task 'door-open'; expected a task of",
        ),
        (HEAD + '[[data]]\npath = "a.npz"\nminari = "b"', r"data\.0.*one of path and minari"),
        (HEAD + '[[data]]\npath = "a.npz"\ntaks = "push"', r"unknown key 'data\.0\.taks'.*did you mean 'task'"),
        (HEAD + '[[data]]\npath = "a.npz"\nkeep = "most"', r"found data\.0\.keep = 'most'"),
        (HEAD + "[collect]\nepisodes_per_task = 0", r"episodes_per_task = 0 and no \[\[data\]\] of task 'reach'"),
        (HEAD + '[segment]\nchange_points = ["door-open"]', r"found 'door-open' in segment\.change_points"),
        (HEAD + "[weighting]\ntemperature = -1", r"found weighting\.temperature = -1"),
        (own("do it", "Do  it"), "found tasks 't0' and 't1' with the same sentence 'Do  it'; expected one of its own"),
        (own("walk " * 10_000), r"found tasks\.own\.0\.sentence = 'walk walk .*\(50002 characters\); expected: .*500"),
        (own("one\ntwo"), "one line of text, in any language"),
    ],
)
def test_mistakes_in_a_study_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.toml").write_text(text.replace("\\n", "\n") if "[[tasks.own]]" not in text else text)
    with pytest.raises(StudyError, match=message) as caught:
        load_study(tmp_path / "x.toml")
    assert len(str(caught.value)) < 600


def test_a_sentence_may_be_in_any_language(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(own("öffne die Schublade", "引き出しを開ける", "افتح الدرج"))
    assert [task.sentence for task in load_study(tmp_path / "x.toml").seen][1] == "引き出しを開ける"
