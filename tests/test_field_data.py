"""Files in the shapes that people report in public trackers (tests/field/data), each with what its user should end with."""

# h5py and pytest leave types partially unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.commands.data import show
from lago_skills.core import Episode
from lago_skills.data.config import SourceConfig
from lago_skills.data.read_source import read
from lago_skills.data.sources import episodes_of
from lago_skills.errors import DataError, StudyError
from lago_skills.study import load_study

FIELD = Path(__file__).parent / "field" / "data"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FIELD))


def made(case: str, folder: Path) -> dict[str, Any]:
    """Write a case; what is true of it."""
    sys.modules.pop(case, None)
    return importlib.import_module(case).make(folder)


def collected(study: Path) -> list[Episode]:
    """The episodes that a study's one source gives."""
    loaded = load_study(study)
    (source,) = loaded.data
    return episodes_of(read(source, study.parent), source, loaded.seen[0].id, None)


def success(episodes: list[Episode]) -> list[bool]:
    return [episode.success for episode in episodes]


def test_next_observations_say_where_episodes_end(tmp_path: Path) -> None:
    truth = made("01_qlearning_npz", tmp_path)
    (row,), summary = show(str(tmp_path / "q.npz"), tmp_path)
    assert row["episodes"] == truth["episodes"] == 20
    assert (row["shortest"], row["longest"], row["terminated"]) == (50, 50, 0)
    assert summary["ends"] == ["terminals", "next_observations"]
    (first, *_) = read_path(tmp_path / "q.npz")
    assert first.observations.shape == (51, 4)


def read_path(path: Path) -> Any:
    return read(SourceConfig(path=str(path)), path.parent).episodes


def test_dones_at_time_limits_are_no_terminations(tmp_path: Path) -> None:
    truth = made("02_dones_and_timeouts", tmp_path)
    episodes = collected(tmp_path / "dones.toml")
    assert [episode.terminated for episode in episodes] == truth["ended by the environment"]
    assert [episode.truncated for episode in episodes] == [not each for each in truth["ended by the environment"]]
    assert np.mean(success(episodes)) == 0.4


def test_a_group_for_each_episode_is_read(tmp_path: Path) -> None:
    truth = made("04_group_per_episode", tmp_path)
    episodes = read_path(tmp_path / "trajectory.state.h5")
    assert [len(raw.actions) for raw in episodes] == truth["steps of each"]
    assert [raw.observations.shape for raw in episodes] == truth["observations of each"]
    assert all(raw.rewards is None for raw in episodes)
    source = SourceConfig(path=str(tmp_path / "trajectory.state.h5"), task="walk")
    assert success(episodes_of(read(source, tmp_path), source, "walk", None)) == truth["success of each, at any step"]
    (row,), summary = show(str(tmp_path / "trajectory.state.h5"), tmp_path)
    assert row["mean_return"] is None
    assert "traj_0 to traj_3" in summary["ends"][0]
    data = read(source, tmp_path)
    for key, value in {"success": "rewarded", "rewards": "recorded"}.items():
        with pytest.raises(DataError, match="found no rewards"):
            episodes_of(data, source.model_copy(update={key: value}), "walk", None)


def test_parts_of_observations_in_groups_are_joined_by_name(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "demos.hdf5", "w") as file:
        for number in (10, 2):
            group = file.create_group(f"data/demo_{number}")
            group["actions"] = np.full((3, 1), number / 10.0)
            group["dones"] = np.array([0, 0, 1])
            group["rewards"] = np.array([0.0, 0.0, 1.0])
            for part in ("obs", "next_obs"):
                group[f"{part}/arm/position"] = np.zeros((3, 2))
                group[f"{part}/object"] = np.ones((3, 3))
    source = SourceConfig(path=str(tmp_path / "demos.hdf5"), task="lift", success="rewarded")
    with pytest.raises(DataError, match="'arm/position', 'object'"):
        read(source, tmp_path)
    named = source.model_copy(update={"observations": ["object", "arm/position"]})
    first, second = episodes_of(read(named, tmp_path), named, "lift", None)
    assert (float(first.actions[0, 0]), float(second.actions[0, 0])) == (pytest.approx(0.2), 1.0)
    assert first.observations.tolist() == [[1.0, 1.0, 1.0, 0.0, 0.0]] * 4
    assert (first.success, first.terminated, first.success_step) == (True, True, 2)


def test_lengths_and_flags_of_a_step_are_both_read(tmp_path: Path) -> None:
    truth = made("05_lengths_and_terminals", tmp_path)
    for name in ("terminals", "terminated"):
        episodes = collected(tmp_path / f"{name}.toml")
        assert [len(raw.actions) for raw in read_path(tmp_path / f"{name}.npz")] == [30] * 6
        assert success(episodes) == truth["ended by the environment"]


def test_lengths_that_contradict_the_flags_are_refused(tmp_path: Path) -> None:
    n = 20
    flags = np.zeros(n, bool)
    flags[7] = True
    np.savez(
        tmp_path / "x.npz",
        observations=np.zeros((n, 3)),
        actions=np.zeros((n, 1)),
        rewards=np.zeros(n),
        lengths=np.array([10, 10]),
        terminals=flags,
    )
    with pytest.raises(DataError, match="after row 7, in the middle of an episode of 'lengths'"):
        read_path(tmp_path / "x.npz")


def test_numbers_of_episodes_say_where_they_end(tmp_path: Path) -> None:
    arrays = {"observations": np.zeros((9, 3)), "actions": np.zeros((9, 1)), "rewards": np.zeros(9)}
    np.savez(tmp_path / "x.npz", **arrays, episode_index=np.array([4, 4, 4, 4, 7, 7, 2, 2, 2]))  # pyright: ignore[reportArgumentType]
    episodes = read_path(tmp_path / "x.npz")
    assert [len(raw.actions) for raw in episodes] == [4, 2, 3]
    assert not any(raw.terminated or raw.truncated for raw in episodes)
    np.savez(tmp_path / "y.npz", **arrays, episode_index=np.arange(3))  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="3 entries of 'episode_index' and 9 actions"):
        read_path(tmp_path / "y.npz")


def test_shuffled_rows_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "x.npz",
        observations=rng.normal(size=(20, 3)),
        next_observations=rng.normal(size=(20, 3)),
        actions=np.zeros((20, 1)),
        rewards=np.zeros(20),
        terminals=np.arange(20) == 19,
    )
    with pytest.raises(DataError, match="order of time"):
        read_path(tmp_path / "x.npz")


def test_the_sparse_reward_is_at_the_first_success(tmp_path: Path) -> None:
    truth = made("06_success_mid_episode", tmp_path)
    episodes = collected(tmp_path / "passes.toml")
    assert np.mean(success(episodes)) == truth["success rate, at any step"] == 1.0
    first = truth["action that first succeeds (from 0)"]
    assert [episode.success_step for episode in episodes] == first
    for episode, step in zip(episodes, first, strict=True):
        assert np.flatnonzero(episode.rewards).tolist() == [step]
        assert (episode.terminated, episode.truncated) == (False, True)


def test_is_success_is_a_record_of_success(tmp_path: Path) -> None:
    truth = made("07_is_success", tmp_path)
    assert success(collected(tmp_path / "fetch.toml")) == truth["success of each (success = recorded)"]


def test_exported_ends_are_the_recorded_ones(tmp_path: Path) -> None:
    from lago_skills.data.episodes import save_episodes
    from lago_skills.data.files.hdf5 import write_hdf5
    from lago_skills.data.files.minari import About, read_minari, write_minari

    truth = made("09_export_ends", tmp_path)
    episodes = collected(tmp_path / "hopper.toml")
    assert success(episodes) == truth["success of each"]
    write_minari("lago/hopper", episodes, "digest", About("x", "x", []), tmp_path / "out")
    save_episodes(tmp_path / "x.npz", episodes)
    write_hdf5(tmp_path / "x.h5", episodes)
    exported = [
        read_minari(tmp_path / "out" / "lago" / "hopper-v0", "x", "task_id", []).episodes,
        read_path(tmp_path / "x.npz"),
        read_path(tmp_path / "x.h5"),
    ]
    for each in exported:
        assert [raw.terminated for raw in each] == truth["terminated at the last step, exported too"]
        assert [raw.truncated for raw in each] == truth["truncated at the last step, exported too"]


def test_arrays_that_nobody_needs_are_not_read(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, array in {
            "observations": np.zeros((9, 2)),
            "actions": np.zeros((9, 1)),
            "rewards": np.zeros(9),
            "terminals": np.arange(9) == 8,
        }.items():
            file[name] = array
        # a terabyte where it was read
        file.create_dataset("images", shape=(10**6, 10**6), dtype=np.uint8, chunks=(1, 1000), compression="gzip")
        file["infos/is_success"] = np.arange(9) == 4
    (episode,) = read_path(tmp_path / "x.h5")
    assert episode.success_record is not None
    assert np.flatnonzero(episode.success_record[1]).tolist() == [4]


def test_what_is_shown_can_be_pasted(tmp_path: Path) -> None:
    """The block that `lago data show` ends with, under the settings it was given, is read as it was shown."""
    made("02_dones_and_timeouts", tmp_path)
    (path,) = tmp_path.glob("*.npz")
    _, bare = show(path.name, tmp_path)
    assert 'task = "TODO"' in bare["block"]
    assert 'success = "TODO"' in bare["block"]
    (row,), summary = show(path.name, tmp_path, ['task = "walk"', 'success = "terminated"'])
    assert summary["success_rule"] == "terminated"
    (again,) = tomllib.loads(summary["block"])["data"]
    source = SourceConfig.model_validate(again)
    episodes = episodes_of(read(source, tmp_path), source, "walk", None)
    assert np.mean(success(episodes)) == row["success"] == 0.4
    for setting, said in (
        ("winning = 1", "found unknown key 'winning'"),
        ("success = nothing", "which is no TOML"),
        ('success = "x"', "'recorded', 'rewarded'"),
    ):
        with pytest.raises(StudyError, match=said):
            show(path.name, tmp_path, [setting])
