"""Tables of training runs: runs on record, the guides of the baselines, and the commands on a small study."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.commands.cli import main, parser
from lago_skills.commands.evaluate import evaluate_command
from lago_skills.commands.tables import report_table
from lago_skills.errors import StudyError
from lago_skills.experiments import curves
from lago_skills.experiments.baselines.nearest import NearestStepGuide
from lago_skills.experiments.cells import Row
from lago_skills.experiments.registry import TRAINING_TABLES
from lago_skills.experiments.replicate import Replicate, replicate_space
from lago_skills.experiments.result_file import ResultFile
from lago_skills.experiments.tables import training_runs
from lago_skills.experiments.tables.compared_advisers import Advisers, ClonedGuide
from lago_skills.experiments.tables.specs import SPECS, UNTRAINED
from lago_skills.guide.guides import LibraryGuide
from lago_skills.rl.methods import METHODS
from lago_skills.stages import collect
from lago_skills.stages.workspace import Workspace
from tests.conftest import continuous
from tests.tables import TEN, curve_rows, never, silent, study_in

# Runs -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A small study whose demonstrations and decoder are there."""
    space = study_in(tmp_path_factory.mktemp("tables"), TEN + "[query]\nn_updates = 20\n")
    assert Replicate(replicate_space(space, 0, 1), silent).guide.library.n_active > 0
    return space


@pytest.fixture
def space(pretrained: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The small study without any results, and tables of short runs."""
    brief = {"n_steps": 200, "eval_every": 100, "eval_episodes": 1}
    for name, spec in SPECS.items():
        own = {"rollout_steps": 10} if spec.together else {"random_steps": 50, "hidden_size": 16}
        changed = replace(
            spec, settings=brief | own, by_algorithm={}, demos=min(spec.demos, 1), at=(100, 200), final_episodes=2
        )
        monkeypatch.setitem(SPECS, name, changed)
        on_file(pretrained, name).path.unlink(missing_ok=True)
    return pretrained


def on_file(space: Workspace, table: str) -> ResultFile:
    return ResultFile.of(curves.schema(table), space.root)


def changed(row: Row, **values: Any) -> Row:
    return curves.schema(row["table"]).row(**{**row, **values})


def advisers_of(space: Workspace) -> Advisers:
    return Advisers(Replicate(replicate_space(space, 0, 1), silent), silent)


def test_all_methods_of_the_tables_are_known() -> None:
    assert set(TRAINING_TABLES) == set(SPECS)
    for spec in SPECS.values():
        assert set(spec.methods) <= {*METHODS, *UNTRAINED}


def test_of_a_table_of_one_policy_a_run_is_on_record_with_all_its_tasks(tmp_path: Path) -> None:
    space = study_in(tmp_path, TEN)
    table = training_runs.table(space, "T1")
    seen = [task.id for task in space.study.seen]
    rows = [row for task in seen for seed in (0, 1) for row in curve_rows("ppo", task, seed, {400: 0.5}, "T1")]
    table.file.add(*rows[:-1])
    assert [run.name for run in table.recorded(table.file.rows())] == ["ppo/ten/0"]
    assert {row["task"] for row in table.rows()} == {*seen}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_each_baseline_is_advised_as_its_name_says(space: Workspace) -> None:
    advisers = advisers_of(space)
    task = space.study.unseen[0]
    assert advisers.guide("none", (task,), 1) is None
    library, shuffled, learned = (advisers.guide(name, (task,), 1) for name in ("library", "shuffled", "learned query"))
    observations = np.random.default_rng(0).normal(0.0, 0.2, (5, 39))
    means = [guide.prior(observations, task.id).greedy() for guide in (library, shuffled, learned) if guide is not None]
    assert len(means) == 3
    assert not np.allclose(means[0], means[1])
    cloned = advisers.guide("cloned", (task,), 1)
    assert isinstance(cloned, ClonedGuide)
    prior = continuous(cloned.prior(observations, task.id))
    assert prior.floor == space.study.guide.floor
    assert prior.means.shape[2] == 4
    shown = advisers.demonstrations(task, 1)
    assert [(episode.task_id, episode.success) for episode in shown] == [(task.id, True)]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_each_part_taken_away_is_missing_and_the_rest_is_there(space: Workspace) -> None:
    advisers = advisers_of(space)
    task = space.study.unseen[0]
    whole = advisers.replicate.guide
    observations = np.random.default_rng(0).normal(0.0, 0.2, (5, 39))
    one, fixed, nearest, brief = (
        advisers.guide(name, (task,), 0) for name in ("one skill", "fixed text", "nearest step", "brief prompt")
    )
    assert isinstance(one, LibraryGuide)
    assert one.retrieve(observations, task.id).weights.shape == (5, 1)
    assert isinstance(fixed, LibraryGuide)
    embeddings = advisers.replicate.labelled.embeddings
    texts = np.stack([embeddings[step.skill] for step in fixed.playbooks[task.id].playbook.steps])
    assert np.allclose(fixed.step_latents[task.id], texts, atol=1e-5)
    assert isinstance(nearest, NearestStepGuide)
    assert isinstance(brief, LibraryGuide)
    assert brief.playbooks[task.id].playbook != whole.playbooks[task.id].playbook
    fingerprints = [
        advisers.bundle(name, (task,), 0)
        for name in ("library", "one skill", "fixed text", "nearest step", "brief prompt")
    ]
    assert len({*fingerprints}) == 5
    assert advisers.bundle("none", (task,), 0) == ""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_nearest_step_says_what_was_done_there(space: Workspace) -> None:
    """In a demonstrated state, towards the plan's target, the skill of that state answers with the demonstrated action."""
    advisers = advisers_of(space)
    guide: LibraryGuide = advisers.nearest_step
    task = space.study.seen[0]
    episode = collect.load(advisers.replicate.space.collected)[task.id][0]
    observations = episode.observations[:-1].astype(np.float64)
    retrieval = guide.retrieve(observations, task.id)
    prior = guide.decode(retrieval)
    assert prior.means.shape[:2] == retrieval.neighbors.ids.shape
    book, known = guide.playbooks[task.id].playbook, guide.library.list()
    ids = {skill.sentence: skill.id for skill in known}
    labels = [ids[book.steps[step].skill] for step in map(int, retrieval.steps)]
    own = np.array([row.tolist().index(label) for row, label in zip(retrieval.neighbors.ids, labels, strict=True)])
    assert np.abs(prior.means[np.arange(len(own)), own] - episode.actions).mean() < 0.02


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_small_table_from_the_command_line(space: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(space.root)]
    command = [*root, "evaluate", "small", "--table", "T3", "--tasks", "reach-wall", "--seeds", "0"]
    assert main([*command, "--methods", "bc,rlpd", "--json"], never) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [(row["method"], row["steps"]) for row in printed["rows"]] == [("bc", 0), ("rlpd", 100), ("rlpd", 200)]
    of_mean = {"mean", "mean_low", "mean_high"}
    assert printed["rows"][0].keys() == {"method", "steps", "iqm", "low", "high", "n_tasks", "n_seeds"} | of_mean
    before = (space.root / "data/results/T3.csv").read_text()
    assert main([*command, "--methods", "bc,rlpd"], never) == 0  # nothing is measured twice
    assert (space.root / "data/results/T3.csv").read_text() == before
    assert "bc" in capsys.readouterr().out
    rows = on_file(space, "T3").rows()
    assert [(row["method"], row["steps"], row["episodes"], row["demos"]) for row in rows] == [
        ("bc", 0, 2, 1),
        ("rlpd", 100, 1, 1),
        ("rlpd", 200, 2, 1),
    ]
    assert main([*command, "--check", "rlpd/reach-wall/0", "--json"], never) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["same"] is True
    assert main([*root, "report", "small", "--table", "T3", "--json"], never) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == printed["rows"]
    assert main([*root, "report", "small", "--table", "T3"], never) == 0
    page = Path(capsys.readouterr().out.split("page: ")[1].strip()).read_text(encoding="utf-8")
    assert "half of each batch from the demonstrations" in page
    assert "lago evaluate small --table T3" in page


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "methods", [("bc", "bc-ppo"), pytest.param(("library", "bc", "guided-ppo", "bc-ppo"), marks=pytest.mark.long)]
)
def test_one_policy_for_all_demonstrated_tasks(
    methods: tuple[str, ...], space: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--root", str(space.root), "evaluate", "small", "--table", "T1", "--seeds", "0", "--json"]
    assert main([*command, "--methods", ",".join(methods)], never) == 0
    printed = json.loads(capsys.readouterr().out)
    seen = [task.id for task in space.study.seen]
    episodes = {
        (name, steps): n
        for name in methods
        for steps, n in (((100, 1), (200, 2)) if name.endswith("ppo") else ((0, 2),))
    }
    assert [(row["method"], row["steps"], row["n_tasks"]) for row in printed["rows"]] == [
        (name, steps, 10) for name, steps in episodes
    ]
    rows = on_file(space, "T1").rows()
    assert [row["task"] for row in rows] == seen * len(episodes)
    assert {(row["method"], row["steps"]): row["episodes"] for row in rows} == episodes
    assert all(row["bundle"] for row in rows if row["method"] in ("bc", "bc-ppo"))  # of the clone
    assert main([*command, "--methods", "bc", "--check", "bc/ten/0"], never) == 0
    checked = json.loads(capsys.readouterr().out)["summary"]
    assert (checked["same"], checked["compared"]) == (True, 10)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_table_shows_the_runs_that_it_shares(space: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(space.root)]
    command = [*root, "evaluate", "small", "--tasks", "reach-wall", "--seeds", "0", "--json"]
    chosen = ["--methods", "library,shuffled library,shuffled-no-harvest"]
    assert main([*command, "--table", "T5", *chosen], never) == 0
    captured = capsys.readouterr()
    assert [row["method"] for row in json.loads(captured.out)["rows"]] == [
        "shuffled library",
        *["shuffled-no-harvest"] * 2,
    ]
    assert "library: runs of table T2; measure those that are missing with --table T2 --methods library" in captured.err
    assert main([*command, "--table", "T2", "--methods", "library"], never) == 0
    capsys.readouterr()
    assert main([*root, "report", "small", "--table", "T5", "--json"], never) == 0
    assert {row["method"] for row in json.loads(capsys.readouterr().out)["rows"]} == {
        "shuffled library",
        "shuffled-no-harvest",
        "library",
    }
    assert "library," not in (space.root / "data/results/T5.csv").read_text().replace("shuffled library,", "")
    assert main([*root, "report", "small", "--table", "T5"], never) == 0
    page = space.artifact("tables", "T5.html").read_text()
    assert [page.count(text) for text in ("<img ", "wrong skills, one part", "one way of guiding alone</h2>")] == [
        3,
        1,
        1,
    ]


def test_pictures_show_methods_of_their_table() -> None:
    for spec in SPECS.values():
        for title, names in spec.pictures.items():
            assert set(names) <= set(spec.methods), title
            assert len(names) <= 10, title  # as many as there are colours that can be told apart


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_wrong_table_is_told_by_check(space: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(space.root)]
    command = [
        *root,
        "evaluate",
        "small",
        "--table",
        "T2",
        "--tasks",
        "reach-wall",
        "--seeds",
        "0",
        "--methods",
        "library",
    ]
    assert main(command, never) == 0
    file = on_file(space, "T2")
    (row,) = file.rows()
    file.replace([changed(row, success=0.111)])
    capsys.readouterr()
    assert main([*command, "--check"], never) == 1
    assert "differs" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_check_is_of_a_trained_run_and_copes_with_evaluations_that_one_side_lacks(
    space: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--root", str(space.root), "evaluate", "small", "--table", "T2", "--tasks", "reach-wall", "--seeds", "0"]
    command = [*root, "--methods", "random,sac", "--json"]
    assert main(command, never) == 0
    file = on_file(space, "T2")
    rows = file.rows()
    assert [(row["method"], row["steps"], row["prior_share"]) for row in rows] == [
        ("random", 0, 0.0),
        ("sac", 100, 0.0),
        ("sac", 200, 0.0),
    ]

    def checked(stored: list[Row], exit_code: int) -> dict[str, Any]:
        file.replace(stored)
        capsys.readouterr()
        assert main([*command, "--check"], never) == exit_code
        return json.loads(capsys.readouterr().out)["summary"]

    summary = checked([rows[0], rows[2]], 0)
    assert (summary["cell"], summary["same"], summary["compared"]) == ("sac/reach-wall/0", True, 1)
    assert summary["values"]["reach-wall at 100"] == [None, rows[1]["success"]]
    assert checked([rows[0], rows[1]], 1)["same"] is False  # its end is missing
    assert checked([rows[0], rows[1], changed(rows[2], success=0.123)], 1)["same"] is False
    older = checked([rows[0], rows[1], changed(rows[2], success=rows[2]["success"] + 0.5, commit="0000000")], 1)
    assert (older["greatest_difference"], older["commits"]) == (
        0.5,
        [sorted({rows[1]["commit"], "0000000"}), [rows[1]["commit"]]],
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--methods", "sca"],
            "found method 'sca'; expected one of random, scripted, plan-controller-10, plan-controller-20, plan-controller-30, library, guided-sac",
        ),
        (["--tasks", "soccer"], "found task 'soccer'; expected a task of the study"),
        (["--seeds", "900"], "found seed 900"),
        (["--demos", "3"], "found --demos with --table T2"),
        (
            ["--table", "T1", "--tasks", "push"],
            "found --tasks with --table T1; expected none, since its runs train one",
        ),
        (["--check", "sac/push/7"], "found no stored row of cell 'sac/push/7'"),
    ],
)
def test_what_there_is_not_is_refused(tmp_path: Path, more: list[str], message: str) -> None:
    space = study_in(tmp_path, TEN)
    options = parser().parse_args(["evaluate", "small", "--table", "T2", *more])
    with pytest.raises(StudyError, match=message):
        evaluate_command(space, options)


def test_a_report_of_no_runs_is_refused(tmp_path: Path) -> None:
    space = study_in(tmp_path, TEN)
    with pytest.raises(StudyError, match="found no row of study 'small'"):
        report_table(space, "T2", as_json=True)
