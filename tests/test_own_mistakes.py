"""What a new user gets wrong without noticing: said aloud, or refused, and the remedy works."""

# Gymnasium leaves types of spaces partially unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gymnasium
import numpy as np
import pytest

from lago_skills.artifacts.executor import Runner
from lago_skills.commands.stage_run import StageRun
from lago_skills.core import Vocabulary
from lago_skills.data.config import SourceConfig
from lago_skills.data.read_source import read
from lago_skills.data.sources import episodes_of
from lago_skills.errors import DataError, PlanError, StudyError
from lago_skills.playbook import read_playbook
from lago_skills.rl.guided import check_parts
from lago_skills.stages.workspace import open_workspace
from lago_skills.study import load_study
from lago_skills.worlds.gym.env import adapt
from lago_skills.worlds.gym.features import NamedFeatures
from tests.conftest import Lago
from tests.test_gym_world import Arm

STUDY = """
name = "cart"
[world]
use = "gym"
id = "CartPole-v1"
success = "return >= 20"
[world.features.pole_angle]
index = 2
unit = "rad"
range = [-0.42, 0.42]
sentence = "angle of the pole"
[tasks]
seen = ["balance"]
[[tasks.own]]
id = "balance"
sentence = "keep the pole upright"
[collect]
episodes_per_task = 0
[[data]]
path = "cart.npz"
task = "balance"
"""


def recorded(order: list[int], *, following: bool) -> dict[str, Any]:
    """Three episodes of a policy that balances for a while, with the entries of observations in this order."""
    env = gymnasium.make("CartPole-v1")
    rows: list[tuple[Any, int, float, bool, Any]] = []
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        for step in range(40):
            action = int(3.0 * observation[2] + observation[3] > 0.0)
            after, reward, terminated, _, _ = env.step(action)
            rows.append((observation[order], action, float(reward), terminated or step == 39, after[order]))
            observation = after
            if terminated:
                break
    names = ("observations", "actions", "rewards", "terminals", "next_observations")
    arrays = {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}
    return arrays if following else {name: values for name, values in arrays.items() if name != "next_observations"}


def collected(study: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a run of the stage says, its processes and all."""
    with StageRun(open_workspace(study.parent, study), "collect", Runner()) as run:
        run.results()
    printed = capsys.readouterr()
    return printed.out + printed.err


@pytest.mark.parametrize(("following", "n_steps"), [(False, 117), (True, 120)])
def test_a_last_action_that_leads_nowhere_is_said_to_be_left_out(
    tmp_path: Path, lago: Lago, capsys: pytest.CaptureFixture[str], following: bool, n_steps: int
) -> None:
    np.savez(tmp_path / "cart.npz", **recorded([0, 1, 2, 3], following=following))
    (tmp_path / "cart.toml").write_text(STUDY)
    code, shown, _ = lago("data", "show", "cart.npz")
    assert code == 0
    note = "the last action of 3 episodes is left out, since nothing says what it led to"
    assert (note in " ".join(shown.split())) is not following
    assert (note in collected(tmp_path / "cart.toml", capsys)) is not following
    assert f'"steps": {n_steps}' in lago("data", "list", str(tmp_path / "cart.toml"), "--json")[1]


def test_observations_in_another_order_are_noticed_by_their_ranges(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "cart.npz", **recorded([2, 0, 1, 3], following=True))
    (tmp_path / "cart.toml").write_text(STUDY.replace("[-0.42, 0.42]", "[-0.2, 0.2]"))
    said = collected(tmp_path / "cart.toml", capsys)
    assert "balance: feature 'pole_angle' goes from" in said
    assert "hold the same entries in the same order as the environment's" in said
    np.savez(tmp_path / "cart.npz", **recorded([0, 1, 2, 3], following=True))  # the remedy
    assert "feature" not in collected(tmp_path / "cart.toml", capsys)


def test_a_guided_environment_has_its_parts_in_the_order_of_the_bundle() -> None:
    made_for = adapt(Arm(), ["desired_goal", "hand = observation[0:3]"])
    grounding = cast("Any", SimpleNamespace(observation_parts=made_for.observations.names))
    check_parts("reach", gymnasium.wrappers.TimeLimit(made_for, 5), grounding)
    other = adapt(Arm(), ["hand = observation[0:3]", "desired_goal"])
    with pytest.raises(
        StudyError,
        match=r"found observations of hand \(3\), desired_goal \(3\); expected desired_goal \(3\), hand \(3\), in this order",
    ):
        check_parts("reach", other, grounding)
    check_parts(
        "reach", gymnasium.make("CartPole-v1"), grounding
    )  # nothing says what its numbers are; sizes are compared elsewhere


def vocabulary(anchor_range: float) -> Vocabulary:
    from lago_skills.worlds.gym.config import FeatureConfig

    arm = adapt(Arm(), ["hand = observation[0:3]", "goal = desired_goal"])
    feature = FeatureConfig.model_validate({"index": 0, "unit": "m", "range": [-1, 1], "sentence": "where the hand is"})
    anchors: Any = {"hand": "hand", "goal": "goal"}
    return NamedFeatures(
        {"x": feature}, anchors, "", arm.observations, arm.actions.space, anchor_range=anchor_range
    ).vocabulary


def test_offsets_may_be_as_large_as_the_world_is() -> None:
    def book(offset: float) -> Any:
        step: Any = {"skill": "go there", "target": {"anchor": "goal", "offset": [0.0, 0.0, offset]}, "when": []}
        return {"task_id": "go", "transcript_key": "k", "model": "m", "steps": [step]}

    read_playbook(book(22.0), vocabulary(3.0))
    with pytest.raises(
        PlanError, match=r"found 31\.0 as a part of the offset; expected a finite number of size at most 30"
    ):
        read_playbook(book(31.0), vocabulary(3.0))
    with pytest.raises(PlanError, match="of size at most 1"):
        read_playbook(book(2.0), vocabulary(0.05))


def test_import_paths_are_looked_for_in_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lago: Lago
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/crane_of_today.py").write_text("from tests.test_gym_world import Arm as Crane\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [*sys.path])
    code, out, err = lago("init", "--env", "crane_of_today:Crane", "--to", str(tmp_path / "studies/crane.toml"))
    assert code == 0, err
    assert "TODO" in out
    study = load_study(tmp_path / "studies/crane.toml")
    assert study.load_world().make("task").observation_space.shape == (7,)


@pytest.mark.parametrize("name", ["success", "is_success"])
@pytest.mark.parametrize("rule", ["info.success", "info.is_success"])
def test_success_has_two_names(tmp_path: Path, name: str, rule: str) -> None:
    arrays = recorded([0, 1, 2, 3], following=True)
    flags = np.arange(len(arrays["actions"])) % 40 == 10
    flags[80:] = False
    np.savez(tmp_path / "x.npz", **arrays, **cast("Any", {name: flags}))
    source = SourceConfig(path=str(tmp_path / "x.npz"), task="go", success=rule)
    assert [each.success_step for each in episodes_of(read(source, Path()), source, "go", None)] == [10, 10, None]


def test_an_error_lists_what_the_file_has(tmp_path: Path) -> None:
    """Parts of observations in arrays of their own: all names are shown, and naming them is the remedy."""
    arrays = recorded([0, 1, 2, 3], following=False)
    observations = arrays.pop("observations")
    np.savez(tmp_path / "x.npz", **arrays, **{"state/cart": observations[:, :2], "state/pole": observations[:, 2:]})
    source = SourceConfig(path=str(tmp_path / "x.npz"), task="go", success="all")
    with pytest.raises(
        DataError,
        match=r"among \['actions', 'rewards', 'state/cart', 'state/pole', 'terminals'\].*name them with observations = ",
    ):
        read(source, Path())
    named = source.model_copy(update={"observations": ["state/cart", "state/pole"]})
    assert len(read(named, Path()).episodes) == 3
