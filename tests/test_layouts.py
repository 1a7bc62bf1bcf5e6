"""Random episodes with random ends, ranges, starts and successes, in every layout: read back, they are the same, or what is lost is known."""

# PyArrow and Stable-Baselines3 leave types partially unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
import pickle  # noqa: TID251  (written as others write it)
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lago_skills.commands.cli import main
from lago_skills.data.config import SourceConfig
from lago_skills.data.read_source import read
from lago_skills.data.sources import Sizes, episodes_of
from lago_skills.errors import DataError
from lago_skills.worlds.gym.read_spaces import read_actions
from tests.conftest import ROOT
from tests.layouts import LAYOUTS, baselines_3, lerobot_3, replay_buffer
from tests.recordings import Actions, Layout, Recording, survives
from tests.tables import never

N_OBSERVED = 3
BOX = Actions([-2.0, 0.5], [2.0, 4.0])


@st.composite
def action_spaces(draw: st.DrawFn) -> Actions:
    if draw(st.booleans()):
        return Actions([], [], start=draw(st.sampled_from([-2, 0, 1, 5])), n=draw(st.integers(2, 4)))
    low = [draw(st.floats(-50, 49)) for _ in range(2)]
    return Actions(low, [each + draw(st.floats(0.5, 100)) for each in low])


@st.composite
def recordings(draw: st.DrawFn, actions: Actions, *, cut: bool) -> list[Recording]:
    """Up to four episodes; none begins where the one before it ended."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ends = st.sampled_from(["terminated", "truncated", *(["cut"] if cut else [])])
    several: list[Recording] = []
    for _ in range(draw(st.integers(1, 4))):
        n, end = draw(st.integers(1, 6)), draw(ends)
        low, high = np.array(actions.low, np.float32), np.array(actions.high, np.float32)
        taken = (
            rng.integers(actions.start, actions.start + actions.n, n) if actions.n else rng.uniform(low, high, (n, 2))
        )
        first = draw(st.one_of(st.none(), st.integers(0, n - 1)))
        success = np.zeros(n, np.bool_)
        if first is not None:
            success[first] = True
            success[first:] |= rng.random(n - first) < 0.5
        several.append(
            Recording(
                rng.normal(size=(n + 1, N_OBSERVED)).astype(np.float32),
                taken if actions.n else np.clip(taken.astype(np.float32), low, high),
                rng.normal(size=n).astype(np.float32),
                terminated=end == "terminated",
                truncated=end == "truncated",
                success=success,
            )
        )
    return several


def assert_the_same(layout: Layout, source: SourceConfig, several: list[Recording], actions: Actions) -> None:
    codec = read_actions(actions.space)
    sizes = Sizes(N_OBSERVED, codec.space, codec)
    expected = [kept for each in several if (kept := survives(each, layout)) is not None]
    if not expected:
        with pytest.raises(DataError, match="without a single step whose outcome is known"):
            episodes_of(read(source, Path()), source, "go", sizes)
        return
    episodes = episodes_of(read(source, Path()), source, "go", sizes)
    assert [len(each.actions) for each in episodes] == [len(each.actions) for each in expected]
    for episode, truth in zip(episodes, expected, strict=True):
        np.testing.assert_array_equal(episode.observations, truth.observations)
        np.testing.assert_allclose(episode.rewards, truth.rewards, atol=1e-6)
        own = np.array([codec.decoded(action) for action in episode.actions])
        if actions.n:
            np.testing.assert_array_equal(own, truth.actions)
        else:
            width = np.subtract(actions.high, actions.low)
            np.testing.assert_allclose((own - truth.actions) / width, 0, atol=1e-5)
        assert all(getattr(episode, end) == getattr(truth, end) for end in layout.ends)
        if layout.success:
            assert episode.success == bool(truth.success.any())
            assert episode.success_step == (int(np.flatnonzero(truth.success)[0]) if truth.success.any() else None)


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_a_layout_can_say_is_what_is_read(name: str, data: st.DataObject) -> None:
    layout = LAYOUTS[name]
    actions = data.draw(action_spaces())
    several = data.draw(recordings(actions, cut=layout.cut))
    # Rows of which none leads to the next one are taken for shuffled, unless each is marked as an end.
    assume(any(len(each.actions) > 1 for each in several) or all(each.terminated for each in several))
    with tempfile.TemporaryDirectory() as folder:
        source = layout.write(Path(folder), several, actions)
        assert_the_same(layout, source, several, actions)


# What other packages wrote themselves ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["imitation", "imitation.pkl"])
def test_rollouts_of_imitation(name: str) -> None:
    """Written by imitation 1.0.1 with datasets 5.2.0, and pickled as its first versions did: three episodes, the second cut by a limit."""
    source = SourceConfig(path=str(ROOT / "tests/data/layouts" / name), task="go", rewards="recorded")
    data = read(source, Path())
    episodes = episodes_of(data, source, "go", None)
    assert [len(each.actions) for each in episodes] == [3, 5, 4]
    assert [each.success_step for each in episodes] == [2, None, 3]  # `is_success` of their infos
    assert [(each.terminated, each.truncated) for each in episodes] == [(True, False), (False, True), (True, False)]
    assert episodes[2].rewards.tolist() == [0, 1, 2, 3]
    first = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_array_equal(episodes[0].observations, first)
    assert data.ends == ("terminal",)


def one(n: int, seed: int, end: str, actions: Actions = BOX) -> Recording:
    rng = np.random.default_rng(seed)
    taken = rng.uniform(actions.low, actions.high, (n, 2)).astype(np.float32)
    success = np.arange(n) == n - 1
    rewards = np.arange(n, dtype=np.float32)
    observations = rng.normal(size=(n + 1, N_OBSERVED)).astype(np.float32)
    return Recording(observations, taken, rewards, end == "terminated", end == "truncated", success)


def pickled(path: Path, held: Any) -> SourceConfig:
    with (path / "x.pkl").open("wb") as stream:
        pickle.dump(held, stream)
    return SourceConfig(path=str(path / "x.pkl"), task="go", rewards="recorded", success="all")


def test_a_replay_buffer_of_several_environments(tmp_path: Path) -> None:
    """Each environment's steps are episodes of its own, though they lie side by side."""
    sides = [[one(3, 0, "terminated"), one(2, 1, "truncated")], [one(4, 2, "truncated"), one(1, 3, "cut")]]
    source = pickled(tmp_path, replay_buffer(sides, BOX, 50))
    assert_the_same(LAYOUTS["baselines 3"], source, [*sides[0], *sides[1]], BOX)


def test_arrays_of_several_environments_side_by_side(tmp_path: Path) -> None:
    """A buffer's arrays as they are, (N, E, ...): nobody's reward is taken for another's."""
    sides = [[one(3, 0, "terminated"), one(2, 1, "truncated")], [one(4, 2, "truncated"), one(1, 3, "cut")]]
    buffer = replay_buffer(sides, BOX, 5)
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    np.savez(tmp_path / "x.npz", **{name: getattr(buffer, name) for name in names})
    source = SourceConfig(path=str(tmp_path / "x.npz"), task="go", rewards="recorded", success="all")
    source = source.model_copy(update={"action_range": (-1.0, 1.0)})
    data = read(source, Path())
    assert_the_same(LAYOUTS["baselines 3"], source, [*sides[0], *sides[1]], BOX)
    assert "environment" in data.ends


def test_arrays_of_episodes_one_below_another(tmp_path: Path) -> None:
    """(E, T, ...), the shorter ones filled with zeros: lengths say which steps are steps, and without them nothing is guessed."""
    several = [one(3, 0, "terminated"), one(5, 1, "truncated"), one(2, 2, "terminated")]

    def filled(values: list[Any]) -> Any:
        return np.stack(
            [np.concatenate([each, np.zeros((5 - len(each), *each.shape[1:]), each.dtype)]) for each in values]
        )

    def at_end(each: Recording, flag: bool) -> Any:
        return np.arange(len(each.actions)) == (len(each.actions) - 1 if flag else -1)

    arrays = {
        "observations": filled([each.observations[:-1] for each in several]),
        "next_observations": filled([each.observations[1:] for each in several]),
        "actions": filled([each.actions for each in several]),
        "rewards": filled([each.rewards for each in several]),
        "terminals": filled([at_end(each, each.terminated) for each in several]),
        "timeouts": filled([at_end(each, each.truncated) for each in several]),
        "infos/success": filled([each.success for each in several]),
    }
    source = SourceConfig(path=str(tmp_path / "x.npz"), task="go", rewards="recorded", action_range=(BOX.low, BOX.high))
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=r"found zeros at the end of episode 0.*'lengths' of the episodes \(E,\)"):
        read(source, Path())
    arrays["lengths"] = np.array([3, 5, 2])  # the remedy
    np.savez(tmp_path / "x.npz", **arrays)
    assert_the_same(LAYOUTS["d4rl"], source, several, BOX)
    del arrays["lengths"], arrays["next_observations"]
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=r"shape \(3, 5, 3\), and nothing that says which axis is time; .* 'lengths'"):
        read(source, Path())


def test_parts_of_observations_are_named(tmp_path: Path) -> None:
    several = [one(3, 0, "terminated")]
    source = LAYOUTS["goal hdf5"].write(tmp_path, several, BOX)
    nobody = source.model_copy(update={"observations": []})
    with pytest.raises(DataError, match=r"several parts, \['goal', 'hand'\].*correct observations = "):
        read(nobody, Path())
    wrong = source.model_copy(update={"observations": ["hand", "fingers"]})
    with pytest.raises(DataError, match=r"several parts, \['goal', 'hand'\], and observations = \['hand', 'fingers'\]"):
        read(wrong, Path())


@pytest.mark.parametrize(("file", "kind"), [("x.tfrecord-00000-of-00001", "TensorFlow"), (".zgroup", "Zarr")])
def test_folders_of_other_kinds_are_named(tmp_path: Path, file: str, kind: str) -> None:
    (tmp_path / file).touch()
    with pytest.raises(DataError, match=f"found .* of {kind}.*write its arrays with np.savez"):
        read(SourceConfig(path=str(tmp_path)), Path())


def test_a_replay_buffer_that_went_round_leaves_out_what_has_lost_its_start(tmp_path: Path) -> None:
    several = [one(4, 0, "terminated"), one(3, 1, "truncated"), one(3, 2, "terminated"), one(2, 3, "cut")]
    source = pickled(tmp_path, replay_buffer([several], BOX, 10))  # 12 steps in the room of 10: the first two are gone
    assert_the_same(LAYOUTS["baselines 3"], source, several[1:], BOX)
    assert "left out" in read(source, Path()).ends[-1]


def test_a_replay_buffer_of_dictionaries_is_joined_by_name(tmp_path: Path) -> None:
    several = [one(4, 0, "terminated"), one(3, 1, "truncated")]
    source = pickled(tmp_path, replay_buffer([several], BOX, 10, parts=True))
    with pytest.raises(DataError, match=r"several parts, \['other', 'state'\].*say|correct observations"):
        read(source, Path())
    assert_the_same(LAYOUTS["baselines 3"], source.model_copy(update={"observations": ["state"]}), several, BOX)


def test_a_replay_buffer_that_a_learner_filled(tmp_path: Path) -> None:
    """Soft actor-critic of Stable-Baselines3 on Pendulum stores actions rescaled to [-1, 1]; here they are the environment's again."""
    import gymnasium
    from stable_baselines3 import SAC

    class Noted(gymnasium.Wrapper[Any, Any, Any, Any]):
        taken: list[Any] = []  # noqa: RUF012

        def step(self, action: Any) -> Any:
            self.taken.append(np.array(action))
            return super().step(action)

    learner = SAC(
        "MlpPolicy", Noted(gymnasium.make("Pendulum-v1")), buffer_size=1000, learning_starts=300, device="cpu"
    )
    learner.learn(450)
    learner.save_replay_buffer(tmp_path / "buffer.pkl")
    source = SourceConfig(path=str(tmp_path / "buffer.pkl"), task="go", success="return >= -2000", rewards="recorded")
    codec = read_actions(gymnasium.spaces.Box(-2, 2, (1,)))
    episodes = episodes_of(read(source, Path()), source, "go", Sizes(3, codec.space, codec))
    assert [len(each.actions) for each in episodes] == [200, 200, 50]
    assert [each.truncated for each in episodes] == [True, True, False]
    own = [codec.decoded(action) for each in episodes for action in each.actions]
    np.testing.assert_allclose(np.array(own), np.array(Noted.taken), atol=1e-5)


# Bad input ------------------------------------------------------------------------------------------------------------


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_nothing_that_a_pickle_names_is_run(tmp_path: Path) -> None:
    buffer = replay_buffer([[one(4, 0, "terminated")]], BOX, 10)
    buffer.trap = Malicious(tmp_path / "trapped")
    source = pickled(tmp_path, buffer)
    assert len(read(source, Path()).episodes) == 1
    assert not (tmp_path / "trapped").exists()
    source = pickled(tmp_path, Malicious(tmp_path / "trapped"))
    with pytest.raises(DataError, match=r"found a pickled object of .*mkdir; expected a replay buffer"):
        read(source, Path())
    assert not (tmp_path / "trapped").exists()
    with (tmp_path / "x.pkl").open("rb") as stream:
        pickle.load(stream)
    assert (tmp_path / "trapped").exists()  # it is what it claims to be


@pytest.mark.parametrize("cut", [3, 100, 2000])
def test_a_pickle_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    baselines_3(tmp_path, [one(4, 0, "terminated")], BOX)
    (tmp_path / "x.pkl").write_bytes((tmp_path / "x.pkl").read_bytes()[:cut])
    with pytest.raises(DataError, match="cannot be read"):
        read(SourceConfig(path=str(tmp_path / "x.pkl")), Path())


def test_datasets_of_lerobot_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    several = [one(4, 0, "terminated"), one(3, 1, "truncated")]
    layout = LAYOUTS["lerobot 2"]
    source = layout.write(tmp_path, several, BOX)
    files = sorted((tmp_path / "lerobot-v2.1/data").rglob("*.parquet"))
    whole = files[1].read_bytes()
    files[1].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    with pytest.raises(DataError, match=r"pointer of Git LFS.*fetch it with: git lfs pull"):
        read(source, Path())
    files[1].unlink()
    with pytest.raises(DataError, match=r"found 4 steps in 1 files; expected 7.*download the rest"):
        read(source, Path())
    files[1].write_bytes(whole)  # the remedy
    assert_the_same(layout, source, several, BOX)
    shutil.copy(files[0], files[0].with_name("episode_000007.parquet"))
    with pytest.raises(DataError, match="found frame_index 0 of episode 0 in the place of 1; expected every step once"):
        read(source, Path())


def test_columns_of_observations_are_named_where_there_are_several(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    several = [one(4, 0, "terminated"), one(3, 1, "truncated")]
    source = lerobot_3(tmp_path, several, BOX)
    (file,) = (tmp_path / "lerobot-v3.0/data").rglob("*.parquet")
    table: Any = pq.read_table(file)
    pq.write_table(
        table.append_column("observation.environment_state", pa.array([[0.0, 1.0, 2.0]] * table.num_rows)), file
    )
    with pytest.raises(DataError, match=r"several columns of observations.*say observations = \[\.\.\.\]"):
        read(source, Path())
    named = source.model_copy(update={"observations": ["observation.state"]})
    assert_the_same(LAYOUTS["lerobot 3"], named, several, BOX)
    both = source.model_copy(
        update={"observations": ["goal = observation.environment_state[0:2]", "observation.state"]}
    )
    assert read(both, Path()).episodes[0].observations[0].tolist() == [0.0, 1.0, *several[0].observations[0].tolist()]
    wrong = source.model_copy(update={"observations": ["observation.joints"]})
    with pytest.raises(DataError, match=r"found no column 'observation\.joints'"):
        read(wrong, Path())


def test_one_task_of_a_source_by_what_the_source_calls_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lerobot_3(tmp_path, [one(4, 0, "terminated"), one(3, 1, "truncated")], BOX)
    assert main(["--root", str(tmp_path), "data", "show", "lerobot-v3.0", "--json"], never) == 0
    assert 'source_task = \\"go to the goal\\"\\ntask = \\"TODO\\"' in capsys.readouterr().out
    source = SourceConfig(
        path=str(tmp_path / "lerobot-v3.0"),
        task="go",
        source_task="go to the goal",
        success="all",
        action_range=(BOX.low, BOX.high),
    )
    assert len(episodes_of(read(source, Path()), source, "go", None)) == 2
    other = source.model_copy(update={"source_task": "come back"})
    with pytest.raises(DataError, match=r"found episodes of \['go to the goal'\], none of source_task = 'come back'"):
        episodes_of(read(other, Path()), other, "go", None)


def test_without_pyarrow_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = lerobot_3(tmp_path, [one(4, 0, "terminated")], BOX)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"no PyArrow here.*pip install 'lago-skills\[parquet\]'"):
        read(source, Path())


def test_a_buffer_filled_by_hand_has_the_range_of_its_space(tmp_path: Path) -> None:
    """Actions that were never rescaled show it by leaving [-1, 1]."""
    recording = one(6, 0, "terminated")
    buffer = replay_buffer([[recording]], BOX, 10)
    buffer.actions[:6, 0] = recording.actions
    assert_the_same(LAYOUTS["baselines 3"], pickled(tmp_path, buffer), [recording], BOX)
    images = replace(recording, observations=np.zeros((7, 3), np.float32))
    buffer = replay_buffer([[images]], BOX, 10)
    buffer.observations = np.zeros((10, 1, 4, 4, 3), np.uint8)
    with pytest.raises(DataError, match=r"found observations of shape \(4, 4, 3\).*images are not supported"):
        read(pickled(tmp_path, buffer), Path())
