"""Table T4 and the studies of ball push, from the exported requests to the printed rows, small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lago_skills.commands.cli import main
from lago_skills.errors import StudyError
from lago_skills.experiments.table import Choice
from lago_skills.experiments.tables.levels import Levels
from lago_skills.stages.workspace import open_workspace
from lago_skills.study import load_study
from lago_skills.worlds.ball_push.balls import COLOURS
from lago_skills.worlds.ball_push.goals import HOWS
from lago_skills.worlds.ball_push.relations import RELATIONS
from lago_skills.worlds.ball_push.tasks import GOALS
from tests.conftest import ROOT
from tests.tables import never, silent, study_in

STUDY = """
name = "small"
[world]
use = "ball-push"
[world.settings]
demonstrator = "rule"
[tasks]
seen = ["four"]
unseen = ["gather", "cyan-left-purple"]
[plan]
form = "words"
[collect]
episodes_per_task = 8
[segment]
hindsight = 40
[decoder]
algorithm = "discrete-bc"
n_updates = 60
hidden_sizes = [32]
calibrate = false
[train]
tasks = ["gather"]
[train.ppo]
n_steps = 120
warm_start_updates = 20
minibatch_size = 32
trial_episodes = 1
"""


def answer(task: str) -> str:
    """The plan that names the relation of each part of a task's goal."""
    by_word, (_, goal) = {relation.word: relation for relation in RELATIONS}, GOALS[task]
    steps = [
        {
            "skill": f"push it there, so that {by_word[HOWS[part.how]].sentence}",
            "about": [COLOURS[part.moved], COLOURS[part.reference]],
            "until": by_word[HOWS[part.how]].name,
        }
        for part in goal.parts
    ]
    return json.dumps({"steps": steps})


def answered(folder: Path) -> list[str]:
    """Export the requests, answer and import them; returns the tasks that were asked for."""
    root, asked = ["--root", str(folder)], folder / "asked.jsonl"
    assert main([*root, "plan", "small", "--export", str(asked)], never) == 0
    names = [json.loads(line)["custom_id"] for line in asked.read_text().splitlines()]
    replies: list[dict[str, Any]] = []
    for name in names:
        message = {"role": "assistant", "content": answer(name.removeprefix("plan/").split("#")[0])}
        body = {"choices": [{"message": message}]}
        replies.append({"custom_id": name, "response": {"status_code": 200, "body": body}})
    (folder / "answers.jsonl").write_text("".join(json.dumps(reply) + "\n" for reply in replies))
    assert main([*root, "plan", "small", "--import", str(folder / "answers.jsonl"), "--model", "test"], never) == 0
    return [name.removeprefix("plan/").split("#")[0] for name in names]


def test_levels_are_the_worlds_groups_that_a_study_has_whole() -> None:
    study = ROOT / "data/studies/ball-push.toml"
    table = Levels(open_workspace(ROOT, study), silent)
    assert table.levels() == ["pair", "rephrased", "easy", "two", "three", "gather", "line-up"]
    assert table.methods[:3] == ("aim", "rule", "plan-controller")
    (cell,) = table.cells(Choice(["library"], ["two"], seeds=[1]))
    assert cell.name == "library/two/1"
    with pytest.raises(StudyError, match="found level 'four'; expected one of pair, rephrased"):
        table.cells(Choice(["library"], ["four"]))
    with pytest.raises(StudyError, match="found method 'sac'; expected one of aim, rule"):
        table.cells(Choice(["sac"]))
    small = load_study(ROOT / "data/studies/ball-push-small.toml")
    assert {task.id for task in small.all_tasks} <= {task.id for task in load_study(study).all_tasks}


@pytest.mark.slow
def test_from_the_exported_requests_to_the_rows_of_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study_in(tmp_path, STUDY)
    (tmp_path / "data/transcripts/ball-push.jsonl").unlink(missing_ok=True)
    assert answered(tmp_path) == [  # the other pair is like one of these but for its colours
        "red-behind-blue", "blue-left-green", "green-front-red", "red-right-green", "gather",
    ]  # fmt: skip
    capsys.readouterr()
    methods = ("aim", "plan-controller", "bc", "library", "guided-ppo")
    asked = ["table", "T4", "small", "--methods", ",".join(methods), "--seeds", "0", "--episodes", "2", "--json"]
    root = ["--root", str(tmp_path)]
    assert main([*root, *asked], never) == 0
    said = json.loads(capsys.readouterr().out)
    assert [(row["method"], row["task"]) for row in said["rows"]] == [
        (m, lvl) for m in methods for lvl in ("gather", "four")
    ]
    assert {row["episodes"] for row in said["rows"]} == {2}
    assert {row["steps"] for row in said["rows"] if "ppo" in row["method"]} == {120}
    assert all(0.0 <= row["success"] <= 1.0 for row in said["rows"])
    assert all(row["bundle"] for row in said["rows"] if row["method"] not in ("aim", "plan-controller"))
    assert main([*root, "report", "small", "--table", "T4", "--json"], never) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == said["rows"]
    check = ["table", "T4", "small", "--methods", "library", "--seeds", "0", "--check", "library/four/0"]
    assert main([*root, *check], never) == 0
    assert "library/four/0: the same" in capsys.readouterr().out
