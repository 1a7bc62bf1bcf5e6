"""A small study in words as a user runs it: the table of skills, lint by demonstrations and rollouts, controllers as priors of learners."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.commands.cli import main
from lago_skills.core import Playbook, Step
from lago_skills.errors import ArtifactCorrupt, StudyError
from lago_skills.experiments import behaviour
from lago_skills.experiments.baselines.controllers import ControllerGuide, NumbersController
from lago_skills.experiments.replicate import Replicate, replicate_space
from lago_skills.experiments.tables import latent as latent_table
from lago_skills.experiments.tables import latent_learners, skill_changes
from lago_skills.llm.transcripts import Request
from lago_skills.planner.findings import Finding
from lago_skills.planner.lint import Trace, lint_alignment, lint_rollouts
from lago_skills.planner.requests import repair_request
from lago_skills.report import table_pictures
from lago_skills.stages import collect, plan
from lago_skills.stages.planning import plan_checks
from lago_skills.stages.workspace import open_workspace
from lago_skills.study import load_study
from lago_skills.worlds.grounding import anchored, hand_actions_of, motion_of
from lago_skills.worlds.metaworld.env import MetaWorldEnv
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.metaworld.world import demonstrate
from lago_skills.worlds.seeds import DEMO_SEED
from tests.conftest import ROOT
from tests.tables import silent

GROUNDING = MetaWorldGrounding()
RELATION = {relation.name: relation for relation in GROUNDING.vocabulary.relations}
PUSH = Playbook(
    "push",
    (
        Step("move the open gripper there", about=("object",), until=RELATION["above thing"]),
        Step("slide the thing", about=("object", "goal"), until=RELATION["thing at place"]),
    ),
    "key",
    "model",
    "words",
)
STUDY = """
name = "words"
[tasks]
seen = ["reach", "push"]
unseen = []
[plan]
form = "words"
[collect]
episodes_per_task = 2
[decoder]
heading_skip = true
n_updates = 400
[guide]
temperature = 0.05
"""
_ARGS: Any = object()


# Lint -----------------------------------------------------------------------------------------------------------------


def test_steps_that_demonstrations_do_not_show_are_faults() -> None:
    lengths, scores = np.array([[3, 40], [3, 30], [20, 30]]), np.array([-1.0, -9.0, -1.5])
    findings = lint_alignment(PUSH, lengths, scores)
    assert [finding.kind for finding in findings] == ["never-active", "unaligned"]
    assert findings[0].step == 1
    assert "67%" in findings[0].text
    assert "2 (-9.0)" in findings[1].text
    assert lint_alignment(PUSH, np.full((3, 2), 20), np.full(3, -1.0)) == ()


def test_rollouts_of_plans_in_words_say_where_they_are_stuck() -> None:
    values = np.zeros((100, len(GROUNDING.vocabulary.features)))
    opening = Trace(values, False, np.zeros(100, int))
    findings = lint_rollouts(PUSH, GROUNDING.vocabulary, [opening] * 3)
    assert {(finding.kind, finding.step) for finding in findings} == {
        ("unsolved", 0),
        ("never-active", 2),
        ("never-starts", 1),
    }
    late = Trace(values, False, np.repeat([0, 1], 50).astype(int))
    late = Trace(values, False, np.repeat([0, 1], [20, 80]).astype(int))
    assert ("stuck", 2) in {(f.kind, f.step) for f in lint_rollouts(PUSH, GROUNDING.vocabulary, [late] * 3)}
    assert lint_rollouts(PUSH, GROUNDING.vocabulary, [Trace(values, True, np.zeros(100, int))] * 3) == ()


def test_a_repair_of_words_speaks_of_no_threshold() -> None:
    request = Request("plan/push", "the prompt")
    findings = (Finding("stuck", 2, "nothing moves"),)
    words = repair_request(request, "{}", findings, "words").prompt
    assert "step 2: nothing moves" in words
    assert "thresholds" not in words
    assert "thresholds" in repair_request(request, "{}", findings).prompt


# Controllers as priors -------------------------------------------------------------------------------------------------


def test_a_controller_is_a_prior_around_what_it_does(playbooks: dict[str, Playbook]) -> None:
    states = demonstrate(MetaWorldEnv(find_task("push")), DEMO_SEED, 0.1).observations.astype(np.float64)
    guide = ControllerGuide(playbooks["push"], GROUNDING, 10.0)
    controller = NumbersController(playbooks["push"], GROUNDING, 10.0)
    actions = controller(states, np.zeros(len(states), np.int64))
    np.testing.assert_allclose(guide.prior(states, "push").mean(), actions)
    # In words, without a memory: the step after the last one that is over.
    steps = (
        Step("move the open gripper there", about=("object",), until=RELATION["above thing"]),
        Step("close the fingers", about=("object",), until=RELATION["holding thing"]),
        Step("slide the closed gripper", about=("object", "goal"), until=RELATION["thing at place"]),
    )
    words = ControllerGuide(Playbook("push", steps, "key", "model", "words"), GROUNDING, 10.0)
    fingers = words.prior(states, "push").mean()[:, 3]
    assert fingers[0] == -1.0
    assert fingers[-1] == 1.0


@pytest.mark.slow
def test_a_controller_advises_a_learner(
    playbooks: dict[str, Playbook], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"n_steps": 400, "eval_every": 200, "eval_episodes": 2}
    monkeypatch.setattr(latent_learners, "COMMON", short)
    monkeypatch.setattr(latent_learners, "ALONE", {"sac": {"random_steps": 100, "hidden_size": 32, "batch_size": 32}})
    monkeypatch.setattr(latent_learners, "LAST_EPISODES", 2)
    monkeypatch.setattr(latent_learners, "EVAL_EVERY", 200)
    space = open_workspace(ROOT, ROOT / "data/studies/metaworld.toml")
    guide = ControllerGuide(playbooks["push"], GROUNDING, 10.0)
    evaluations = latent_learners.learn(space.study, find_task("push"), guide, "guided-sac", 0, 3)
    assert set(evaluations) == {200, 400}
    assert evaluations[200].success_last is None
    assert evaluations[400].episodes == 3
    assert evaluations[400].success == 1.0  # whoever is advised so well does not end below it


def test_cells_of_learners_are_named_by_their_steps() -> None:
    chosen = latent_table.cells(["words/library/dropped+sac", "numbers/controller-20"], [0], ["push"])
    assert [cell.name for cell in chosen] == [
        "words/library/dropped+sac@5000/push/0",
        "words/library/dropped+sac@20000/push/0",
        "numbers/controller-20//push/0",
    ]
    table = latent_table.Latent(open_workspace(ROOT, ROOT / "data/studies/metaworld.toml"), silent)
    runs = [table.measured_together(cell) for cell in chosen]
    assert runs[0] == runs[1] != runs[2]  # one training run gives both
    with pytest.raises(StudyError, match="a learner of sac, ppo"):
        latent_table.cells(["words/library+ddpg"], [0], ["push"])
    with pytest.raises(StudyError, match="of plans in words alone"):
        latent_table.cells(["numbers/controller-metres"], [0], ["push"])


def test_the_latent_table_is_of_the_study_that_its_rows_are_of() -> None:
    with pytest.raises(StudyError, match="found study 'words' with --table latent"):
        latent_table.Latent(open_workspace(ROOT, ROOT / "data/studies/words.toml"), silent)


# The table of skills ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words")
    (path / "data/lint").mkdir(parents=True)
    for name in ("scenes", "transcripts", "opposite_skills"):
        (path / "data" / name).symlink_to(ROOT / "data" / name)
    (path / "data/studies").mkdir()
    (path / "data/studies/words.toml").write_text(STUDY)
    return path


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_table_of_skills(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = ["--root", str(root), "evaluate", "words", "--table", "skills", "--tasks", "push", "--episodes", "1"]
    assert main([*table, "--json"], _ARGS) == 0
    results = json.loads(capsys.readouterr().out)
    columns = {"skill", "change", "task", "success", "steps", "direction", "speed"}
    assert all(columns <= set(row) for row in results["rows"])
    rows = {(row["skill"][:20], row["change"]): row for row in results["rows"]}
    assert {change for _, change in rows} == set(behaviour.CHANGES)
    assert all(row["direction"] == pytest.approx(1.0) for (_, change), row in rows.items() if change == "as it is")
    grip, lower = (
        next(skill for skill, _ in rows if skill.startswith(start)) for start in ("Keep the gripper", "Lower the open")
    )
    assert rows[lower, "opposite"]["direction"] < rows[lower, "as it is"]["direction"]
    assert rows[grip, "opposite"]["success"] <= rows[grip, "as it is"]["success"]
    summary = results["summary"]
    assert len(summary["round_trip"]["confusion"]) == len(summary["skills"]) == 5
    assert sum(map(sum, summary["round_trip"]["confusion"])) == 2 * (1 + 4)  # every segment of the other demonstrations
    assert summary["support"][summary["skills"][2]["skill"]] == {"down": 2}
    assert all(entry["told_apart"] in (True, False) for entry in summary["opposites"])
    assert main(table, _ARGS) == 0
    assert "round trip" in capsys.readouterr().out
    assert main([*table, "--check"], _ARGS) == 0
    assert "the same" in capsys.readouterr().out
    drawn = table_pictures.pictures(load_study(root / "data/studies/words.toml"), root)
    assert list(drawn) == ["What it costs to change a skill: success lost on its worst task"]
    assert all(png.startswith(b"\x89PNG") for png in drawn.values())
    assert main([*table, "--methods", "upside down"], _ARGS) == 2
    assert "expected one of as it is, disabled" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_plans_in_words_are_linted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against demonstrations alone where there is no bundle yet."""
    space = open_workspace(root, root / "data/studies/words.toml")
    for job in (*collect.jobs(space), *plan.jobs(space)):
        job.run(_no_progress)
    assert main(["--root", str(root), "plan", "lint", "push", "--study", "words"], _ARGS) == 0
    printed = capsys.readouterr()
    assert "no bundle yet" in printed.err
    record = json.loads((root / "data/lint/metaworld.jsonl").read_text())
    assert record["demonstrations"] == 2
    assert record["rollouts"] == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sentences_that_nobody_showed_are_findings(root: Path) -> None:
    """In another language, or of a motion that is in no demonstration: who answers in their stead is named."""
    space = open_workspace(root, root / "data/studies/words.toml")
    for job in (*collect.jobs(space), *plan.jobs(space)):
        job.run(_no_progress)
    guide = Replicate(replicate_space(space, 0, 2), silent).guide
    recorded = plan.plan_of("push", plan.plans(space), "words")
    unheard = ("fahre mit offenem Greifer zur Sache", "hurl the thing across the room")
    book = replace(PUSH, steps=tuple(replace(step, skill=text) for step, text in zip(PUSH.steps, unheard, strict=True)))
    shown = collect.load(space.collected)["push"]
    record = plan_checks.check(space.study, recorded.task, "an answer", book, shown, [guide])
    findings = {(finding.kind, finding.step): finding.text for finding in record.findings}
    for step, text in enumerate(unheard, start=1):
        assert f'no demonstration shows "{text}", so the controller does ' in findings["undemonstrated", step]


def _no_progress(done: float, note: str) -> None:
    """No progress is shown."""


def test_pictures_are_of_the_studies_that_the_tables_are_about() -> None:
    names = {study: table_pictures.recipe(load_study(ROOT / f"data/studies/{study}.toml"), ROOT) for study in STUDIES}
    assert {study: list(drawn) for study, drawn in names.items()} == STUDIES
    (latent,) = table_pictures.pictures(load_study(ROOT / "data/studies/metaworld.toml"), ROOT).values()
    assert latent.startswith(b"\x89PNG")


STUDIES = {"metaworld": ["latent"], "words": ["latent", "skills"], "demo": []}


def test_opposites_of_skills_are_of_this_form(tmp_path: Path) -> None:
    known = behaviour.read_opposites(ROOT, "words", GROUNDING.vocabulary)
    assert len(known) == 15
    assert behaviour.read_opposites(tmp_path, "words", GROUNDING.vocabulary) == {}
    (tmp_path / "data/opposite_skills").mkdir(parents=True)
    (tmp_path / "data/opposite_skills/words.json").write_text('[{"skill": "up"}]')
    with pytest.raises(ArtifactCorrupt, match="expected a list of objects with skill, until, opposite"):
        behaviour.read_opposites(tmp_path, "words", GROUNDING.vocabulary)


@pytest.mark.parametrize(
    ("move", "placed", "way"),
    [
        ((0.0, 0.0, 0.3), True, "up"),
        ((0.0, 0.1, -0.3), False, "down"),
        ((0.3, 0.0, 0.1), True, "towards the place"),
        ((-0.3, 0.0, 0.1), True, "back from the place"),
        ((0.0, 0.3, 0.1), True, "left"),
        ((0.3, 0.0, 0.0), False, "sideways"),
        ((0.001, 0.0, 0.0), True, "still"),
    ],
)
def test_ways_have_names(move: tuple[float, float, float], placed: bool, way: str) -> None:
    assert behaviour.way_of(np.array(move), placed=placed) == way


def test_what_a_change_does_is_said_plainly() -> None:
    assert "no support" in skill_changes.effect("slowly", 0.98, 1.0, 0.0)
    assert skill_changes.effect("slowly", 0.5, 1.0, 0.0) == "slower, as it says"
    assert "no support" in skill_changes.effect("from the left", 1.0, 0.99, 0.0)
    assert skill_changes.effect("opposite", 1.0, -0.5, 0.0) == "does otherwise, as it says"
    assert skill_changes.effect("opposite", 1.0, 0.95, 1.5) == "does otherwise, as it says"
    assert skill_changes.effect("disabled", 1.0, 0.5, 0.0) == ""


def test_a_grounding_that_does_not_say_how_its_actions_move_the_hand_has_them_say_it() -> None:
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (5, 4)).astype(np.float32)
    moved = motion_of(anchored(GROUNDING), np.zeros((5, 39)), actions)
    assert np.array_equal(moved, actions[:, :3].astype(np.float64))
    assert hand_actions_of(anchored(GROUNDING)) is None
