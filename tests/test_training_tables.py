"""Tables of training runs: statistics by hand, cells on disk, the guides of the baselines, and the commands on a small study."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.commands.cli import main
from lago_skills.commands.train import TABLE_NAMES
from lago_skills.errors import ArtifactCorrupt, StudyError
from lago_skills.experiments.baselines.nearest import NearestStepGuide
from lago_skills.experiments.curves import (
    CurveCell,
    CurveRow,
    improvements,
    mixed,
    reach,
    scores,
    sooner,
    steps_to,
    summary,
)
from lago_skills.experiments.intervals import iqm, probability_of_improvement, stratified_iqm
from lago_skills.experiments.result_file import RowFile
from lago_skills.experiments.tables import training as training_tables
from lago_skills.experiments.tables.specs import TABLES
from lago_skills.experiments.tables.training import Bench
from lago_skills.experiments.tables.training_guides import ClonedGuide, Seed
from lago_skills.experiments.tables.zero_shot import Variant, variant
from lago_skills.guide.guides import LibraryGuide
from lago_skills.rl.methods import METHODS
from lago_skills.stages import collect, segment
from lago_skills.stages.workspace import Workspace, open_workspace
from tests.test_zero_shot_table import STUDY, never, study_in

TEN = STUDY.replace('"reach", "push"', '"ten"').replace("per_task = 2", "per_task = 1") + "[query]\nn_updates = 20\n"
"""Answers are recorded for unseen tasks beside all ten seen ones."""

# Statistics -------------------------------------------------------------------------------------------------------------


def test_the_middle_half_by_hand() -> None:
    assert iqm(np.array([0.0, 1.0, 2.0, 9.0])) == 1.5
    assert iqm(np.array([5.0])) == 5.0
    # of six values 1.5 are cut at either end: half of the second, the third and fourth, half of the fifth
    assert iqm(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 50.0])) == pytest.approx((0.5 * 1 + 2 + 3 + 0.5 * 4) / 3)
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    assert iqm(values.reshape(20, 20)) == pytest.approx(np.sort(values)[100:300].mean())


def test_intervals_are_about_seeds_of_the_same_tasks() -> None:
    apart = [np.array([0.0, 0.0, 0.0]), np.array([1.0, 1.0, 1.0])]
    assert stratified_iqm(apart) == (0.5, (0.5, 0.5))
    assert stratified_iqm([np.array([0.3]), np.array([0.7])]) == (0.5, None)
    assert stratified_iqm([np.array([0.3, 0.3]), np.array([0.7])])[1] is None  # one task of one seed
    middle, interval = stratified_iqm([np.random.default_rng(i).uniform(size=5) for i in range(8)])
    assert interval is not None
    assert interval[0] < middle < interval[1]


def test_the_chance_of_a_better_run_by_hand() -> None:
    ours, theirs = [np.array([0.5, 1.0])], [np.array([0.5, 0.0])]
    assert probability_of_improvement(ours, theirs)[0] == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert probability_of_improvement([np.ones(3)] * 2, [np.zeros(3)] * 2) == (1.0, (1.0, 1.0))
    assert probability_of_improvement([np.ones(3)], [np.ones(3)])[0] == 0.5
    assert probability_of_improvement([np.ones(3)] * 2, [np.zeros(3), np.zeros(1)]) == (1.0, None)


def rows_of(method: str, task: str, seed: int, curve: dict[int, float]) -> list[CurveRow]:
    return [
        CurveRow("T2", "small", task, method, seed, steps, success, 20, 0, "policy", 0.5, 99.5, 0.05, 12.0, "abc", "")
        for steps, success in curve.items()
    ]


ROWS = [
    row
    for seed in (0, 1)
    for task in ("reach", "push")
    for method, curve in (("library", {0: 0.6}), ("guided-sac", {5000: 0.5 + 0.5 * seed, 10000: 1.0}), ("sac", {5000: 0.0, 10000: 0.1}))
    for row in rows_of(method, task, seed, curve)
]  # fmt: skip


def test_what_tables_say_of_curves() -> None:
    entries = {(entry["method"], entry["steps"]): entry for entry in summary(ROWS, (5000, 10000))}
    assert set(entries) == {("library", 0), ("guided-sac", 5000), ("guided-sac", 10000), ("sac", 5000), ("sac", 10000)}
    assert entries["guided-sac", 5000]["iqm"] == 0.75
    assert entries["guided-sac", 5000]["low"] == entries["guided-sac", 5000]["mean_low"] == 0.5
    assert entries["guided-sac", 5000]["mean"] == 0.75
    assert (entries["guided-sac", 5000]["n_tasks"], entries["guided-sac", 5000]["n_seeds"]) == (2, 2)
    assert scores(ROWS, "library", 10000)["push"].tolist() == [0.6, 0.6]
    found = steps_to(ROWS, 0.8)
    assert found["guided-sac", "push", 0] == 10000
    assert found["guided-sac", "push", 1] == 5000
    assert found["sac", "push", 0] is None
    assert {entry["method"]: (entry["runs"], entry["reached"], entry["median_steps"]) for entry in reach(ROWS)} == {
        "library": (4, 0, None),
        "guided-sac": (4, 4, 7500.0),
        "sac": (4, 0, None),
    }
    chances = improvements(ROWS, "guided-sac", 10000)
    assert [(entry["over"], entry["probability"]) for entry in chances] == [("library", 1.0), ("sac", 1.0)]


# Rows on disk -----------------------------------------------------------------------------------------------------------


def test_runs_come_back_as_they_were_and_a_measured_one_stays(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "T2.csv", CurveRow)
    assert file.rows() == []
    first, second = rows_of("sac", "push", 0, {1: 0.1, 2: 0.2}), rows_of("sac", "push", 1, {1: 0.3})
    file.add_all(first)
    file.add_all(second)
    file.add_all(rows_of("sac", "push", 0, {1: 0.9}))
    assert file.rows() == [*first, *second]
    assert file.cells() == {first[0].cell, second[0].cell}
    file.path.write_text("task,seed\npush,0\n")
    with pytest.raises(ArtifactCorrupt, match="expected the columns table, study, task, method"):
        file.rows()


def test_how_much_sooner_by_hand() -> None:
    rows = [
        *rows_of("guided-sac", "push", 0, {250: 0.9, 2500: 0.9, 5000: 1.0}),
        *rows_of("guided-sac", "push", 1, {2500: 0.1, 5000: 0.8}),
        *rows_of("guided-sac", "push", 2, {250: 0.1, 1000: 0.8, 5000: 0.8}),
        *rows_of("ppo", "push", 0, {2500: 0.5, 5000: 0.5, 7500: 0.9}),
        *rows_of("ppo", "push", 1, {2500: 0.5, 5000: 0.9}),
        *rows_of("sac", "push", 0, {2500: 0.9, 5000: 0.9}),
        *rows_of("sac", "push", 1, {2500: 0.5, 5000: 0.7}),
        *rows_of("sac", "push", 2, {2500: 0.5, 5000: 0.7}),
        *rows_of("ppo", "reach", 0, {2500: 1.0}),
        *rows_of("guided-sac", "reach", 0, {250: 0.0, 2500: 0.7}),
        *rows_of("sac", "reach", 0, {2500: 0.0}),
    ]
    found = {(entry.pop("than"), entry.pop("task")): entry for entry in sooner(rows, "guided-sac", ["sac", "ppo"])}
    ours = {"our_runs": 3, "our_reached": 3, "our_steps": 1000.0}
    assert found == {
        ("ppo", "push"): {"runs": 2, "reached": 2, "their_least": 3750, "their_steps": 6250, "times_fewer": 3.8} | ours,
        ("sac", "push"): {"runs": 3, "reached": 1, "their_least": 5000, "their_steps": None, "times_fewer": 5.0} | ours,
        ("ppo", "reach"): {
            "runs": 1,
            "reached": 1,
            "their_least": 0.0,
            "their_steps": 2500.0,
            "our_runs": 1,
            "our_reached": 0,
            "our_steps": None,
            "times_fewer": None,
        },
    }


def test_runs_of_different_bundles_are_told_of() -> None:
    rows = [replace(row, bundle=row.method) for row in ROWS]
    assert mixed(rows) == []
    assert mixed([*rows[1:], replace(rows[0], bundle="other")]) == ["library, seed 0"]


def test_of_a_table_of_one_policy_a_run_is_on_record_with_all_its_tasks(made: Workspace) -> None:
    seen = [task.id for task in made.study.seen]
    rows = [
        replace(row, table="T1") for task in seen for seed in (0, 1) for row in rows_of("ppo", task, seed, {400: 0.5})
    ]
    path = TABLES["T1"].path(made.root, "T1")
    path.unlink(missing_ok=True)
    RowFile(path, CurveRow).add_all(rows[:-1])
    assert training_tables.recorded(made, "T1") == {CurveCell("T1", "small", "ppo", "ten", 0)}
    assert {row.task for row in training_tables.rows(made, "T1")} == {*seen}
    path.unlink()


# Runs -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A small study whose demonstrations and decoder are made once."""
    space = study_in(tmp_path_factory.mktemp("tables"), TEN)
    assert Variant(variant(space, 0, 1), lambda text: None).guide.library.n_active > 0
    return space


@pytest.fixture
def space(made: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The small study without any results, and tables of short runs."""
    small: dict[str, Any] = {
        "n_steps": 400,
        "eval_every": 200,
        "eval_episodes": 2,
        "random_steps": 100,
        "hidden_size": 16,
    }
    for name, spec in TABLES.items():
        brief = (
            small if not spec.together else {"n_steps": 400, "eval_every": 200, "eval_episodes": 1, "rollout_steps": 20}
        )
        changed = replace(
            spec, settings=brief, by_algorithm={}, demos=min(spec.demos, 1), at=(200, 400), final_episodes=3
        )
        monkeypatch.setitem(training_tables.TABLES, name, changed)
        changed.path(made.root, name).unlink(missing_ok=True)
    return made


def test_all_methods_of_the_tables_are_known() -> None:
    assert set(TABLE_NAMES) == set(TABLES)
    for spec in TABLES.values():
        assert set(spec.methods) <= {*METHODS, *training_tables.UNTRAINED}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_each_baseline_is_advised_as_its_name_says(space: Workspace) -> None:
    made = Seed(Variant(variant(space, 0, 1), lambda text: None), lambda text: None)
    task = space.study.unseen[0]
    assert made.guide("none", (task,), 1) is None
    library, shuffled, learned = (made.guide(name, (task,), 1) for name in ("library", "shuffled", "learned query"))
    observations = np.random.default_rng(0).normal(0.0, 0.2, (5, 39))
    means = [guide.prior(observations, task.id).mean() for guide in (library, shuffled, learned) if guide is not None]
    assert len(means) == 3
    assert not np.allclose(means[0], means[1])
    cloned = made.guide("cloned", (task,), 1)
    assert isinstance(cloned, ClonedGuide)
    prior = cloned.prior(observations, task.id)
    assert prior.floor == space.study.guide.floor
    assert prior.means.shape[2] == 4
    shown = made.demonstrations(task, 1)
    assert [(episode.task_id, episode.success) for episode in shown] == [(task.id, True)]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_each_part_taken_away_is_missing_and_the_rest_is_there(space: Workspace) -> None:
    made = Seed(Variant(variant(space, 0, 1), lambda text: None), lambda text: None)
    task = space.study.unseen[0]
    whole = made.variant.guide
    observations = np.random.default_rng(0).normal(0.0, 0.2, (5, 39))
    one, fixed, nearest, brief = (
        made.guide(name, (task,), 0) for name in ("one skill", "fixed text", "nearest step", "brief prompt")
    )
    assert isinstance(one, LibraryGuide)
    assert one.retrieve(observations, task.id).weights.shape == (5, 1)
    assert isinstance(fixed, LibraryGuide)
    embeddings = segment.load(made.variant.space)[1]
    texts = np.stack([embeddings[step.skill] for step in fixed.playbooks[task.id].playbook.steps])
    assert np.allclose(fixed.step_latents[task.id], texts, atol=1e-5)
    assert isinstance(nearest, NearestStepGuide)
    assert isinstance(brief, LibraryGuide)
    assert brief.playbooks[task.id].playbook != whole.playbooks[task.id].playbook
    fingerprints = [
        made.bundle(name, (task,), 0) for name in ("library", "one skill", "fixed text", "nearest step", "brief prompt")
    ]
    assert len({*fingerprints}) == 5
    assert made.bundle("none", (task,), 0) == ""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_nearest_step_says_what_was_done_there(space: Workspace) -> None:
    """In a demonstrated state, towards the plan's target, the skill of that state answers with the demonstrated action."""
    made = Seed(Variant(variant(space, 0, 1), lambda text: None), lambda text: None)
    guide: LibraryGuide = made.nearest_step
    task = space.study.seen[0]
    episode = collect.episodes(made.variant.space)[task.id][0]
    observations = episode.observations[:-1].astype(np.float64)
    found = guide.retrieve(observations, task.id)
    prior = guide.decode(found)
    assert prior.means.shape[:2] == found.neighbors.ids.shape
    book, known = guide.playbooks[task.id].playbook, guide.library.list()
    ids = {skill.sentence: skill.id for skill in known}
    labels = [ids[book.steps[step].skill] for step in map(int, found.steps)]
    own = np.array([row.tolist().index(label) for row, label in zip(found.neighbors.ids, labels, strict=True)])
    assert np.abs(prior.means[np.arange(len(own)), own] - episode.actions).mean() < 0.02


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_small_table_from_the_command_line(space: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(space.root)]
    command = [*root, "evaluate", "small", "--table", "T3", "--tasks", "reach-wall", "--seeds", "0"]
    assert main([*command, "--methods", "bc,rlpd", "--json"], never) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["method"], row["steps"]) for row in found["rows"]] == [("bc", 0), ("rlpd", 200), ("rlpd", 400)]
    of_mean = {"mean", "mean_low", "mean_high"}
    assert found["rows"][0].keys() == {"method", "steps", "iqm", "low", "high", "n_tasks", "n_seeds"} | of_mean
    before = (space.root / "data/results/T3.csv").read_text()
    assert main([*command, "--methods", "bc,rlpd"], never) == 0  # nothing is measured twice
    assert (space.root / "data/results/T3.csv").read_text() == before
    assert "bc" in capsys.readouterr().out
    rows = RowFile(space.root / "data/results/T3.csv", CurveRow).rows()
    assert [(row.method, row.steps, row.episodes, row.demos) for row in rows] == [
        ("bc", 0, 3, 1),
        ("rlpd", 200, 2, 1),
        ("rlpd", 400, 3, 1),
    ]
    assert main([*command, "--check", "rlpd/reach-wall/0", "--json"], never) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["same"] is True
    assert main([*root, "report", "small", "--table", "T3", "--json"], never) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == found["rows"]
    assert main([*root, "report", "small", "--table", "T3"], never) == 0
    page = Path(capsys.readouterr().out.split("page: ")[1].strip()).read_text(encoding="utf-8")
    assert "half of each batch from the demonstrations" in page
    assert "lago evaluate small --table T3" in page


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_one_policy_for_all_demonstrated_tasks(space: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--root", str(space.root), "evaluate", "small", "--table", "T1", "--seeds", "0", "--json"]
    assert main([*command, "--methods", "library,bc,guided-ppo,bc-ppo"], never) == 0
    found = json.loads(capsys.readouterr().out)
    seen = [task.id for task in space.study.seen]
    assert [(row["method"], row["steps"], row["n_tasks"]) for row in found["rows"]] == [
        ("library", 0, 10),
        ("bc", 0, 10),
        ("guided-ppo", 200, 10),
        ("guided-ppo", 400, 10),
        ("bc-ppo", 200, 10),
        ("bc-ppo", 400, 10),
    ]
    rows = RowFile(space.root / "data/results/T1.csv", CurveRow).rows()
    assert [row.task for row in rows] == seen * (len(rows) // len(seen))
    assert {(row.method, row.steps): row.episodes for row in rows} == {
        ("library", 0): 3,
        ("bc", 0): 3,
        ("guided-ppo", 200): 1,
        ("guided-ppo", 400): 3,
        ("bc-ppo", 200): 1,
        ("bc-ppo", 400): 3,
    }
    assert all(row.bundle for row in rows if row.method in ("bc", "bc-ppo"))  # of the clone
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
    told = capsys.readouterr()
    assert [row["method"] for row in json.loads(told.out)["rows"]] == ["shuffled library", *["shuffled-no-harvest"] * 2]
    assert "library: runs of table T2; measure those that are missing with --table T2 --methods library" in told.err
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
    for spec in TABLES.values():
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
    file = space.root / "data/results/T2.csv"
    rows = RowFile(file, CurveRow).rows()
    file.unlink()
    RowFile(file, CurveRow).add_all([replace(rows[0], success=0.111)])
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
    file = space.root / "data/results/T2.csv"
    rows = RowFile(file, CurveRow).rows()
    assert [(row.method, row.steps, row.prior_share) for row in rows] == [
        ("random", 0, 0.0),
        ("sac", 200, 0.0),
        ("sac", 400, 0.0),
    ]

    def checked(kept: list[CurveRow], exit_code: int) -> dict[str, Any]:
        file.unlink()
        RowFile(file, CurveRow).add_all(kept)
        capsys.readouterr()
        assert main([*command, "--check"], never) == exit_code
        return json.loads(capsys.readouterr().out)["summary"]

    found = checked([rows[0], rows[2]], 0)
    assert (found["cell"], found["same"], found["compared"]) == ("sac/reach-wall/0", True, 1)
    assert found["values"]["reach-wall at 200"] == [None, rows[1].success]
    assert checked([rows[0], rows[1]], 1)["same"] is False  # its end is missing
    assert checked([rows[0], rows[1], replace(rows[2], success=0.123)], 1)["same"] is False
    older = checked([rows[0], rows[1], replace(rows[2], success=rows[2].success + 0.5, commit="0000000")], 1)
    assert (older["greatest_difference"], older["commits"]) == (
        0.5,
        [sorted({rows[1].commit, "0000000"}), [rows[1].commit]],
    )


@pytest.mark.slow
@pytest.mark.timeout(180)
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
        (["--check", "sac/push/7"], "found no stored run of 'sac/push/7'"),
    ],
)
def test_what_there_is_not_is_told(space: Workspace, more: list[str], message: str) -> None:
    from lago_skills.commands.cli import parser
    from lago_skills.commands.train import evaluate_training

    options = parser().parse_args(["evaluate", "small", "--table", "T2", *more])
    with pytest.raises(StudyError, match=message):
        evaluate_training(space, options)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_report_of_no_runs_is_refused(space: Workspace) -> None:
    from lago_skills.commands.train import report_training

    with pytest.raises(StudyError, match="found no run of study 'small'"):
        report_training(space, "T2", as_json=True)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_workers_share_the_runs(space: Workspace) -> None:
    """Two processes, two runs; what is on record is not measured again."""
    chosen = [CurveCell("T2", "small", method, "reach-wall", 0) for method in ("library", "plan-controller-10")]
    said: list[str] = []
    training_tables.run(space, "T2", chosen, said.append, n_workers=2)
    assert [text.split(":")[0] for text in said] == [f"{i}/2 {cell.name}" for i, cell in enumerate(chosen, 1)]
    assert all(text.endswith(" s") for text in said)
    assert set(chosen) <= training_tables.recorded(space, "T2")
    again = training_tables._run_there(space.root, space.study_file, "T2", chosen[0], _silent)  # pyright: ignore[reportPrivateUsage]
    assert again == "measured by another process"
    assert not list(space.artifact("unfinished", "T2").iterdir())  # no lock is left behind
    assert isinstance(Bench(space, "T2", lambda text: None).measure(chosen[0])[0], CurveRow)


def _silent(done: int, note: str) -> None:
    """No progress is shown."""


def _claim(root: Path, study_file: Path, cell: CurveCell, has: Any, done: Any) -> None:
    with training_tables._claim(open_workspace(root, study_file), cell) as mine:  # pyright: ignore[reportPrivateUsage]
        assert mine
        has.set()
        done.wait()


@pytest.mark.timeout(120)
def test_a_run_that_another_process_is_at_is_left_to_it(space: Workspace) -> None:
    cell = CurveCell("T2", "small", "sac", "reach-wall", 0)
    context = multiprocessing.get_context("spawn")
    has, done = context.Event(), context.Event()
    other = context.Process(target=_claim, args=(space.root, space.study_file, cell, has, done))
    other.start()
    try:
        assert has.wait(60)
        told = training_tables._run_there(space.root, space.study_file, "T2", cell, _silent)  # pyright: ignore[reportPrivateUsage]
        assert told == "left to another process, which is at it"
        other.kill()  # a claim goes with its process
        other.join()
        with training_tables._claim(space, cell) as mine:  # pyright: ignore[reportPrivateUsage]
            assert mine
    finally:
        other.kill()
