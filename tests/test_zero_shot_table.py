"""The zero-shot table: which cells there are, what they say together, and the command that measures and checks them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lago_skills.commands import evaluate as evaluate_command
from lago_skills.commands.cli import main, parser
from lago_skills.errors import StudyError
from lago_skills.experiments import measuring
from lago_skills.experiments.baselines import cloning
from lago_skills.experiments.cells import Row
from lago_skills.experiments.replicate import Replicate, replicate_space
from lago_skills.experiments.result_file import ResultFile
from lago_skills.experiments.table import Choice, commit
from lago_skills.experiments.tables import zero_shot
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.worlds.metaworld.tasks import GROUPS, find_task
from tests.conftest import ROOT
from tests.tables import STUDY, TEN, never, silent, study_in
from tests.tables import zero_shot_cell as cell
from tests.tables import zero_shot_row as row


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return study_in(tmp_path)


# Cells and summaries ----------------------------------------------------------------------------------------------------


def test_cells_come_by_method_then_seed_and_noise_needs_no_demonstrations(space: Workspace) -> None:
    table = zero_shot.ZeroShot(space, silent)
    chosen = table.cells(Choice(["library", "random"], ["reach", "push"], demos=[5, 1], seeds=[0, 1]))
    assert [each.name for each in chosen[:5]] == [
        "library/reach/5/0", "library/push/5/0", "library/reach/5/1", "library/push/5/1", "random/reach/0/0"
    ]  # fmt: skip
    assert len(chosen) == 4 + 4 + 4  # random once for both numbers of demonstrations


@pytest.mark.parametrize(
    ("names", "tasks"),
    [
        (["seen"], ["reach", "push"]),
        (["unseen", "push"], ["reach-wall", "push"]),
        (["seen", "unseen", "reach"], ["reach", "push", "reach-wall"]),
    ],
)
def test_tasks_may_be_groups(space: Workspace, names: list[str], tasks: list[str]) -> None:
    table = zero_shot.ZeroShot(space, silent)
    assert [each["task"] for each in table.cells(Choice(["random"], names, seeds=[0]))] == tasks
    with pytest.raises(StudyError, match="found task 'pick-place'"):  # of the ten, but not of the study
        table.cells(Choice(["random"], ["ten"], seeds=[0]))


def test_groups_of_the_world_are_names_of_its_tasks() -> None:
    study = open_workspace(ROOT, ROOT / "data/studies/metaworld.toml")
    table = zero_shot.ZeroShot(study, silent)
    for name in ("ten", "eight"):
        chosen = table.cells(Choice(["random"], [name], seeds=[0]))
        assert tuple(each["task"] for each in chosen) == GROUPS[name]


def test_summaries_are_means_over_tasks_whatever_seeds_they_have() -> None:
    def at(task: str, seed: int, success: float, level: str = "seen", method: str = "library") -> Row:
        return row(cell(method, task, 5, seed), success, level=level)

    few = [at("push", 0, 0.6), at("push", 1, 0.8), at("reach", 0, 0.1), at("door-lock", 0, 1.0, "unseen")]
    assert zero_shot.summary(few)[0]["low"] is None  # a task of one seed says nothing of other seeds
    rows = [*few, at("reach", 1, 0.1)]
    entries = zero_shot.summary([at("push", 0, 0.0, method="bc-text"), *rows])
    assert [(e["method"], e["level"]) for e in entries] == [
        ("library", "seen"),
        ("bc-text", "seen"),
        ("library", "unseen"),
    ]
    seen = entries[0]
    assert seen["success"] == pytest.approx((0.7 + 0.1) / 2)
    assert seen["low"] == pytest.approx((0.6 + 0.1) / 2)
    assert seen["high"] == pytest.approx((0.8 + 0.1) / 2)
    assert (seen["tasks"], seen["seeds"], seen["episodes"], seen["success_last"]) == (2, 2, 80, 0.25)
    assert entries[2]["low"] is None
    assert entries[2]["high"] is None


# Measuring --------------------------------------------------------------------------------------------------------------


def test_an_interrupted_table_goes_on_where_it_stopped_and_a_row_can_be_checked(
    space: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real episodes, of the methods that need nothing made first."""
    messages: list[str] = []

    def say(text: str) -> None:
        messages.append(text)
        if len(messages) == 2:
            raise KeyboardInterrupt

    table = zero_shot.ZeroShot(space, say)
    chosen = table.cells(Choice(["scripted", "random"], ["reach", "reach-wall"], seeds=[3]))
    with pytest.raises(KeyboardInterrupt):
        measuring.measure(table, zero_shot.ZeroShot, measuring.missing({}, chosen, 1, 2))
    before = table.file.rows()
    assert [each.cell for each in before] == chosen[:2]  # what was measured before the interruption is there
    command = ["--root", str(space.root), "evaluate", str(space.study_file), "--table", "zero-shot", "--episodes", "1"]
    command += ["--methods", "scripted,random", "--seeds", "3", "--tasks", "reach,reach-wall"]
    assert main([*command, "--json"], never) == 0
    printed = json.loads(capsys.readouterr().out)
    assert table.file.rows()[:2] == before
    assert [(r["method"], r["task"], r["level"], r["demos"]) for r in printed["rows"]] == [
        ("scripted", "reach", "seen", 0), ("scripted", "reach-wall", "unseen", 0),
        ("random", "reach", "seen", 0), ("random", "reach-wall", "unseen", 0),
    ]  # fmt: skip
    assert [r["success"] for r in printed["rows"]] == [1.0, 1.0, 0.0, 0.0]
    assert {r["environment_steps"] for r in printed["rows"]} == {200}
    assert printed["rows"][0]["episode_steps"] < 200
    assert printed["rows"][0]["commit"] == commit()
    # Checking.
    assert main([*command, "--check"], never) == 0
    assert "the same" in capsys.readouterr().out
    text = table.file.path.read_text()
    table.file.path.write_text(text.replace("scripted,0,3,1.0", "scripted,0,3,0.0"))
    assert main([*command, "--check", "scripted/reach/0/3", "--json"], never) == 1
    checked = json.loads(capsys.readouterr().out)
    assert checked["values"]["success"] == [0.0, 1.0]
    assert main([*command, "--check", "scripted/reach/0/3"], never) == 1
    assert "differs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json"], "found --json without --table"),
        (["--methods", "library"], "found --methods without --table"),
        (["--table", "zero-shot", "--methods", "magic"], "found method 'magic'; expected one of library, bc-text"),
        (["--table", "zero-shot", "--tasks", "hammer"], "found task 'hammer'; expected a seen or unseen task"),
        (["--table", "zero-shot", "--seeds", "100"], "found seed 100; expected a number from 0 to 99"),
        (["--table", "zero-shot", "--demos", "0"], "found number of demonstrations 0"),
        (["--table", "zero-shot", "--episodes", "0"], "found number of episodes 0"),
        (["--table", "zero-shot", "--workers", "0"], "found number of workers 0"),
        (["--table", "zero-shot", "--check"], "found no stored row of the chosen cells"),
        (["--table", "zero-shot", "--check", "library/x"], "found no stored row of cell 'library/x'"),
    ],
)
def test_mistakes_are_refused_with_a_sentence(
    space: Workspace, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(space.root), "evaluate", str(space.study_file), *arguments], never) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_without_a_table_the_command_is_the_stage(space: Workspace) -> None:
    stages: list[Sequence[str]] = []
    assert not evaluate_command.wanted(parser().parse_args(["evaluate", "small"]))
    arguments = ["--root", str(space.root), "evaluate", str(space.study_file)]
    assert main(arguments, lambda space, names, runner: stages.append(names)) == 0
    assert stages == [["evaluate"]]


def test_a_study_with_data_of_its_own_is_refused(tmp_path: Path) -> None:
    space = study_in(tmp_path, STUDY + '[[data]]\npath = "own.npz"\ntask = "push"\n')
    with pytest.raises(StudyError, match="expected tasks that their world demonstrates"):
        replicate_space(space, 0, 5)


def test_the_commit_names_the_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len(commit().rstrip("+")) >= 7
    monkeypatch.setattr("lago_skills.__file__", str(tmp_path / "__init__.py"))
    assert commit() == "unknown"


# The command, all of it -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_measures_every_method_and_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = study_in(tmp_path, TEN.replace("episodes = 2", "episodes = 1"))  # two tasks are played
    command = ["--root", str(tmp_path), "evaluate", str(space.study_file), "--table", "zero-shot"]
    command += ["--tasks", "push,reach-wall"]
    assert main([*command, "--seeds", "0,1", "--methods", "scripted,random", "--workers", "2"], never) == 0
    printed = capsys.readouterr().out
    assert "reach-wall" in printed
    assert "scripted" in printed
    assert len(ResultFile.of(zero_shot.SCHEMA, tmp_path).rows()) == 2 * 2 * 2
    assert main([*command, "--seeds", "0", "--json"], never) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {r["method"] for r in printed["rows"]} == set(zero_shot.METHODS)
    assert len(printed["rows"]) == len(zero_shot.METHODS) * 2
    assert all(0.0 <= r["success_last"] <= r["success"] <= 1.0 for r in printed["rows"])
    assert all((r["bundle"] == "") == (r["method"] in ("random", "scripted")) for r in printed["rows"])
    assert next(e["success"] for e in printed["summary"] if e["method"] == "scripted") == 1.0
    results = ResultFile.of(zero_shot.SCHEMA, tmp_path).path
    before = results.read_bytes()
    artifacts = sorted(str(path) for path in (tmp_path / "checkpoints/small/table").glob("*/*/manifest.json"))
    assert any(path.endswith("s0-d1/bc-text/manifest.json") for path in artifacts)
    assert main([*command, "--seeds", "0"], never) == 0
    assert results.read_bytes() == before
    capsys.readouterr()
    command += ["--seeds", "0"]
    for name in ("library/reach-wall/1/0", "bc-text/push/1/0", "replay/push/1/0"):
        assert main([*command, "--check", name], never) == 0, capsys.readouterr().out
    _the_shuffled_library_asks_for_other_skills(space)
    reach, push = find_task("reach"), find_task("push")
    assert cloning.stand_in(find_task("reach-wall"), (push, reach)) == reach
    assert cloning.stand_in(push, (reach, push)) == push


def _the_shuffled_library_asks_for_other_skills(space: Workspace) -> None:
    messages: list[str] = []
    replicate = Replicate(replicate_space(space, 0, 1), messages.append)
    right, wrong = replicate.guide.step_latents, replicate.shuffled.step_latents
    assert messages == []  # everything was made before
    known = {tuple(z) for latents in right.values() for z in latents.tolist()}
    for name, latents in right.items():
        assert (np.abs(latents - wrong[name]).max(axis=1) > 1e-4).all()
        assert {tuple(z) for z in wrong[name].tolist()} <= known
