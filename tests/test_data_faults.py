"""Data and studies that cannot be used, and what is weighted, held out and trained on of data that can."""

# h5py and Minari leave types partially unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Playbook, Segment, Step
from lago_skills.data.config import SourceConfig, WeightingConfig
from lago_skills.data.episodes import save_episodes
from lago_skills.data.files.hdf5 import write_hdf5
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.dataset import episode_weights, held_out_episodes, labelled_steps
from lago_skills.errors import DataError, ShapeError, StudyError
from lago_skills.study import load_study
from lago_skills.worlds.own import NamedEntries
from tests.data_files import bad, episode, flat, loaded, npz, some


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
    with pytest.raises(
        DataError, match=r"is neither NPZ, HDF5, Parquet nor a pickled replay buffer \(it begins with b'seed,rew'\)"
    ):
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
    with pytest.raises(DataError, match="neither NPZ, HDF5, Parquet nor"):
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
