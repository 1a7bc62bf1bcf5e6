"""Environments in the shapes that people report in public trackers (tests/field/data), each with what its user should end with."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import importlib
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import lago_skills
from lago_skills.commands.data import export, show
from lago_skills.errors import StudyError, TrainingStopped
from lago_skills.rl import Problem, SACConfig, train
from lago_skills.rl.problem import evaluate
from lago_skills.stages.workspace import Workspace
from lago_skills.study import load_study
from lago_skills.worlds.success import EpisodeSoFar
from tests.conftest import Lago

FIELD = Path(__file__).parent / "field" / "data"
SMALL = SACConfig(n_steps=200, random_steps=50, eval_every=100, eval_episodes=1, batch_size=16, hidden_size=16)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FIELD))


def case(name: str) -> Any:
    sys.modules.pop(name, None)
    return importlib.import_module(name)


def mine(make: Callable[[], Any], **settings: Any) -> Problem:
    """The problem that a new user writes."""

    def of(task: int) -> Callable[[], Any]:
        return make

    given: dict[str, Any] = {"name": "mine", "tasks": ("mine",), "make": of, "env_tasks": (0,)}
    return Problem(**{**given, **settings})


def with_rule(study: Path, rule: str) -> Path:
    study.write_text(
        study.read_text(encoding="utf-8").replace("[environment]\n", f'[environment]\nsuccess = "{rule}"\n'),
        encoding="utf-8",
    )
    return study


# Data --------------------------------------------------------------------------------------------------------------------


def test_whole_numbers_of_one_column_are_discrete_actions(tmp_path: Path) -> None:
    case("03_discrete_n1").make(tmp_path)
    sizes = {}
    for name in ("two_n.npz", "two_n1.npz", "two_n1.h5", "four_n1.npz"):
        (row,), summary = show(str(tmp_path / name), tmp_path)
        assert summary["problems"] == []
        assert row["action_size"] == 0
        sizes[name] = (row["episodes"], row["longest"], row["action_high"])
    assert sizes == {
        "two_n.npz": (10, 20, 1),
        "two_n1.npz": (10, 20, 1),
        "two_n1.h5": (10, 20, 1),
        "four_n1.npz": (10, 20, 3),
    }


@pytest.mark.parametrize("format", ["minari", "npz", "hdf5"])
def test_an_export_replays_as_what_was_recorded_did(format: str, lago: Lago, tmp_path: Path) -> None:
    """Pendulum's actions are from -2 to 2, and stay so; its rewards come back."""
    pendulum = case("08_export_action_range")
    truth = pendulum.make(tmp_path)
    study = tmp_path / "swing.toml"
    assert lago("collect", str(study))[0] == 0
    space = Workspace(tmp_path, study, load_study(study))
    (row,), _ = export(space, list(space.study.seen), format, tmp_path / "exported")
    if format == "minari":
        again = pendulum.replay(tmp_path / "exported" / row["dataset"])
        assert again["action space of the dataset"] == again["of the recovered environment"]
        assert again["returns when replayed from the seeds"] == truth["returns when replayed from the seeds"]
    else:
        (shown,), summary = show(row["dataset"], tmp_path)
        assert summary["action_bounds"] == [[-2.0], [2.0]]
        assert (shown["action_low"], shown["action_high"]) == (-2.0, 2.0)
        assert shown["mean_return"] == pytest.approx(np.mean(truth["returns when replayed from the seeds"]), abs=0.1)


# Environments as people have them --------------------------------------------------------------------------------------


@pytest.mark.parametrize("vectorize", ["sync", "async"])
def test_infos_may_hold_anything(vectorize: Any) -> None:
    """Two side by side whose infos hold arrays of other lengths train as the plain one does."""
    shapes, walk = case("10_environment_shapes"), importlib.import_module("environments").Walk
    started = time.perf_counter()
    ragged = train(mine(shapes.RaggedInfo, env_tasks=(0, 0), vectorize=vectorize), SMALL, 0)
    assert time.perf_counter() - started < 60.0
    plain = train(mine(walk, env_tasks=(0, 0)), SMALL, 0)
    assert without_times(ragged.curve) == without_times(plain.curve)


def without_times(curve: Any) -> Any:
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in curve]


def test_a_reward_may_be_an_array() -> None:
    shapes, walk = case("10_environment_shapes"), importlib.import_module("environments").Walk
    curves = [without_times(train(mine(kind), SMALL, 0).curve) for kind in (shapes.ArrayReward, walk)]
    assert curves[0] == curves[1]


def test_an_environment_without_a_limit_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with one, it trains and is evaluated."""
    endless = case("10_environment_shapes").NoLimit
    monkeypatch.setattr("lago_skills.rl.problem.MAX_STEPS", 500)
    with pytest.raises(TrainingStopped, match="not ended after 500 steps; expected a limit; set horizon_steps"):
        evaluate(mine(endless), lambda seen, tasks: np.zeros((len(seen), 2)), 1)
    outcomes = evaluate(mine(endless, horizon_steps=30), lambda seen, tasks: np.zeros((len(seen), 2)), 2)
    assert [each.steps for each in outcomes] == [30, 30]
    assert len(train(mine(endless, horizon_steps=30), SMALL, 0).curve) == 2
    two = mine(endless, tasks=("short", "long"), env_tasks=(0, 1), horizon_steps=(10, 20))
    outcomes = evaluate(two, lambda seen, tasks: np.zeros((len(seen), 2)), 1)
    assert [each.steps for each in outcomes] == [10, 20]


def test_falling_is_no_success() -> None:
    """Whoever lasts to the limit has done well: said in three ways; unsaid, it is asked for."""
    poles = case("11_ends_by_failure")
    truth = poles.truth()
    with pytest.raises(StudyError, match=r"found success = 'info\.success' and a step's info without entries"):
        evaluate(mine(poles.make), lambda seen, tasks: poles.falls(seen), 10)

    def lasted(so_far: EpisodeSoFar) -> bool:
        return so_far.truncated

    for rule in ("truncated", "return >= 200", lasted):
        problem = mine(poles.make, success=rule)
        for act, expected in ((poles.falls, 0.0), (poles.balances, 1.0)):
            outcomes = evaluate(problem, lambda seen, tasks, act=act: act(seen), 10)
            assert np.mean([each.success for each in outcomes]) == expected
        mean_return = truth["falls: mean return, terminated, until the limit"][0]
        falls = evaluate(problem, lambda seen, tasks: poles.falls(seen), 10)
        assert np.mean([each.episode_return for each in falls]) < 12
        assert mean_return < 12


def test_success_at_any_step_counts_unless_it_is_said_otherwise() -> None:
    walks = case("12_success_then_on")
    truth = walks.truth()
    for kind, name in ((walks.GoesOn, "success"), (walks.GoesOnFetch, "is_success")):
        for when, which in ((" at any step", "any step, which counts"), (" at the last step", "the last step")):
            problem = mine(kind, success=f"info.{name}{when}")
            outcomes = evaluate(problem, lambda seen, tasks: walks.heads_for_goal(seen), 10)
            expected = truth[f"{kind.__name__}: success at {which}"]
            assert np.mean([each.success for each in outcomes]) == expected


def test_one_that_is_open_once_trains_and_is_evaluated_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    """Found out at the first evaluation, or said before; a single instance is given back each time."""
    port = case("18_opened_once")
    curve = train(mine(port.make), SMALL, 0, final_episodes=2).curve
    assert [row["step"] for row in curve] == [100, 200]
    assert "training and evaluation take turns" in capsys.readouterr().err
    said = train(mine(port.make, instances=1), SMALL, 0, final_episodes=2)
    assert len(said.final) == 2
    assert capsys.readouterr().err == ""
    only = port.make()
    alone = Problem(name="mine", tasks=("mine",), make=lambda task: only, env_tasks=(0,))
    assert len(train(alone, SMALL, 0, final_episodes=1).curve) == 2
    assert port.Port.taken
    only.close()


# Studies -----------------------------------------------------------------------------------------------------------------


def answered(lago: Lago, folder: Path, study: Path, again: Callable[[], Any]) -> None:
    """Export open requests, let the case answer them, import, until none is open."""
    for _ in range(5):
        assert lago("plan", str(study), "--export", str(folder / "requests.jsonl"))[0] == 0
        if not (folder / "requests.jsonl").read_text(encoding="utf-8").strip():
            return
        again()
        code, _, err = lago("plan", str(study), "--import", str(folder / "responses.jsonl"), "--model", "by-hand")
        assert code == 0, err
    raise AssertionError("requests stay open")


def test_an_environment_of_ones_own_goes_the_whole_way(lago: Lago, tmp_path: Path) -> None:
    """Recorded data, playbooks, library, evaluation, training, report; then its bundle guides a problem of the user's own."""
    walk = case("13_own_environment")
    truth = walk.make(tmp_path)
    study = with_rule(tmp_path / "walk.toml", "info.success")
    assert lago("collect", str(study))[0] == 0
    ((row,), _) = (json.loads(lago("data", "list", str(study), "--json")[1])[key] for key in ("rows", "summary"))
    assert (row["episodes"], row["success"]) == (truth["episodes"], truth["success rate of the data"])
    assert lago("plan", str(study), "--scenes")[0] == 0
    answered(lago, tmp_path, study, lambda: walk.make(tmp_path) and with_rule(study, "info.success"))
    for stage in ("plan", "segment", "pretrain", "build", "evaluate", "train", "report"):
        code, _, err = lago(stage, str(study))
        assert code == 0, err
    summary = json.loads(lago("report", str(study), "--json")[1])
    assert {each["method"] for each in summary["rows"]} == {"library", "guided-sac", "sac"}
    (page,) = [path.read_text(encoding="utf-8") for path in (tmp_path / "checkpoints/walk").rglob("report.html")]
    assert "info.success" in page
    environments = importlib.import_module("environments")
    problem = mine(environments.Walk, name="stroll", tasks=("stroll",))
    advised = lago_skills.guided(problem, tmp_path / "checkpoints/walk/bundle")
    assert train(advised, SMALL, 0).curve[-1]["train/prior_share"] > 0.0
    with pytest.raises(StudyError, match=r"found task 'mine'; expected one that the bundle has a plan of, .*'stroll'"):
        lago_skills.guided(mine(environments.Walk), tmp_path / "checkpoints/walk/bundle")
    with pytest.raises(StudyError, match="a dictionary"):
        lago_skills.guided(mine(environments.GoalWalk, tasks=("stroll",)), tmp_path / "checkpoints/walk/bundle")


def test_actions_that_the_environment_does_not_take_are_refused_at_collect(lago: Lago, tmp_path: Path) -> None:
    """CartPole declared with one continuous number; the remedy is followed."""
    case("14_cartpole_readme").make(tmp_path)
    for name in ("cart-n", "cart-n1"):
        study = tmp_path / f"{name}.toml"
        code, _, err = lago("collect", str(study))
        assert code == 2
        assert re.search(r"with action space Discrete\(2\); expected actions of 1 numbers .* say n_actions = 2", err)
        study.write_text(
            study.read_text(encoding="utf-8").replace("action_size = 1", "n_actions = 2"), encoding="utf-8"
        )
        code, _, err = lago("collect", str(study))
        assert code == 0, err


def test_a_goal_environment_gives_what_the_data_joins(lago: Lago, tmp_path: Path) -> None:
    truth = case("15_goal_environment").make(tmp_path)
    study = tmp_path / "goal.toml"
    code, _, err = lago("collect", str(study))
    assert code == 2
    assert "a dictionary of achieved_goal (2 numbers), desired_goal (2 numbers), observation (2 numbers)" in err
    study.write_text(
        study.read_text(encoding="utf-8").replace(
            "[environment]\n", '[environment]\nobservation = ["observation", "desired_goal"]\n'
        )
    )
    code, _, err = lago("collect", str(study))
    assert code == 0, err
    code, _, err = lago("plan", str(study), "--scenes")
    assert code == 0, err
    (scene,) = json.loads((tmp_path / "data/scenes/goal.json").read_text(encoding="utf-8")).values()
    spans = eval(cast("str", truth["lago plan --scenes"]).removeprefix("ranges at reset within "))
    for name, (low, high) in spans.items():
        assert low - 0.01 <= scene["start"][name][0] < scene["start"][name][1] <= high + 0.01
        shown = scene["demonstrations"][name]  # by the recorded episodes that succeed, which go on from there
        assert shown[0] < shown[1]


def test_data_is_cut_without_playbooks(lago: Lago, tmp_path: Path) -> None:
    cut = case("16_change_points")
    cut.make(tmp_path)
    study = tmp_path / "cut.toml"
    assert lago("collect", str(study))[0] == 0
    answered(lago, tmp_path, study, lambda: cut.make(tmp_path))
    for stage in ("plan", "segment", "pretrain", "build"):
        code, _, err = lago(stage, str(study))
        assert code == 0, err
    names = cut.names(tmp_path)["names"]
    code, out, err = lago("skills", "list", str(study), "--json")
    assert code == 0, err
    skills = json.loads(out)["rows"]
    assert len(skills) >= max(1, len(names))


def test_every_feature_has_its_row(lago: Lago, tmp_path: Path) -> None:
    """Of other units, of other sentences, and called after things that there are not."""
    truth = case("17_feature_names").make(tmp_path)
    study = tmp_path / "names.toml"
    assert lago("plan", str(study), "--scenes")[0] == 0
    _, prompt, _ = lago("plan", str(study), "--prompt", "walk")
    rows = [line for line in prompt.splitlines() if line.count(" | ") >= 3][1:]
    assert len(rows) == truth["rows of the prompt's table"]
    assert [row.split(" | ")[0] for row in rows] == ["tilt_x", "tilt_y", "gap_to_object2", "goal_y"]
    assert [row.split(" | ")[1] for row in rows] == ["rad", "mrad", "m", "m"]
    for word in ("gripper", "robot"):
        assert word not in prompt
