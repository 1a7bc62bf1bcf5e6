"""Data of one's own in the stages and at the command line."""

# h5py and Minari leave types partially unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest

from lago_skills.commands.cli import main
from lago_skills.core import ActionSpace, Episode
from lago_skills.data.config import SourceConfig
from lago_skills.data.episodes import load_episodes, save_episodes
from lago_skills.data.files.hdf5 import write_hdf5
from lago_skills.data.files.minari import About, write_minari
from lago_skills.data.read_source import source_hash
from lago_skills.data.sources import Sizes
from lago_skills.errors import DataError
from lago_skills.stages import collect
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.worlds.gym.make import registered_spec
from lago_skills.worlds.metaworld.env import MetaWorldEnv
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.metaworld.world import demonstrate
from tests.data_files import episode, flat, loaded, npz, same, some

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
    found = collect.load(space.collected)
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
    assert [e.success for e in collect.load(space.collected)["push"]] == [True] * 4


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
    code = main(["--root", str(space.root), "data", *arguments], lambda space, stages, runner: None)
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
    assert {11, 38} <= set(found["summary"]["constant_entries"])
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
    assert same(loaded(config, "push", None), collect.load(space.collected)["push"])
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
    episodes = collect.load(space.collected)["push"]
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
