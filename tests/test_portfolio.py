"""Several plans of one task: asked for in one request, read, kept as an artifact, followed one after another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lago_skills.llm.transcripts import TranscriptFile, answered
from lago_skills.planner.ask import Planner
from lago_skills.planner.findings import Finding, LintFile, LintRecord
from lago_skills.planner.parse import read_several
from lago_skills.planner.portfolio import Portfolio
from lago_skills.planner.requests import playbook_request, portfolio_request
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from tests.plan_answers import GOOD, TEN

TASK = TEN[1]
OTHER = {"steps": [{**GOOD["steps"][0], "skill": "press it down"}, GOOD["steps"][1]]}
IMPOSSIBLE = {
    "steps": [{**GOOD["steps"][0], "when": [{"feature": "gripper_opening", "op": ">", "value": 2}]}, GOOD["steps"][1]]
}
BAD: dict[str, Any] = {"steps": [{"skill": "fly", "target": {"anchor": "moon", "offset": [0, 0, 0]}, "when": []}]}


def several(*plans: tuple[str, object]) -> str:
    return json.dumps({"plans": [{"way": way, **plan} for way, plan in plans if isinstance(plan, dict)]})


def read(text: str) -> list[tuple[str, bool]]:
    ways, _ = read_several(text, "push", MetaWorldGrounding.vocabulary, "k" * 64, "model")
    return [(each.way, each.reading.playbook is not None) for each in ways]


def test_each_plan_of_an_answer_is_read_by_itself() -> None:
    answer = several(("grip it", GOOD), ("by flying", BAD), ("press on it", OTHER))
    assert read(answer) == [("grip it", True), ("by flying", False), ("press on it", True)]
    assert read(f"Five ways come to mind.\n```json\n{answer}\n```\nGood luck!") == read(answer)
    assert read(f"<think>{several(('draft', GOOD))}</think>{answer}") == read(answer)
    assert read(several(("draft", GOOD)) + "\nBetter:\n" + answer) == read(answer), "the last list counts"


def test_plans_without_a_list_are_taken_too() -> None:
    assert read(json.dumps(GOOD) + "\n\n" + json.dumps(OTHER)) == [("", True), ("", True)]
    assert read(json.dumps({"plans": [GOOD, "none", {"way": 3}]})) == [("", True), ("", False), ("", False)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found an empty answer"),
        ("I cannot do that.", 'expected {"plans"'),
        ('{"plans": []}', 'expected {"plans"'),
        ('{"plans": [{"way": "grip it", "steps": [', "cut off"),
        ("x" * 100_001, "at most 100000"),
    ],
)
def test_an_answer_without_a_plan_says_why(text: str, words: str) -> None:
    ways, findings = read_several(text, "push", MetaWorldGrounding.vocabulary, "k" * 64, "model")
    assert ways == []
    assert words in findings[0].text


def test_the_request_is_the_plan_request_with_another_ending(committed_planner: Planner) -> None:
    grounding, scenes = committed_planner.grounding, committed_planner.scenes
    one = playbook_request(TASK, grounding, scenes, ["close the fingers"])
    five = portfolio_request(TASK, grounding, scenes, ["close the fingers"], 5)
    head, _, form = one.prompt.partition("# Answer\n")
    assert five.prompt.startswith(head.strip())
    assert five.prompt.count("# Answer") == 1
    assert form.strip().splitlines()[-1].removeprefix("{") in five.prompt.replace("}]}]}", "}]}")
    assert "5 playbooks" in five.prompt
    assert five.schema["properties"]["plans"]["items"]["properties"]["steps"] == one.schema["properties"]["steps"]
    assert "other words" in portfolio_request(TASK, grounding, scenes, [], 5, form="words").prompt


@pytest.fixture
def planner(tmp_path: Path, committed_planner: Planner) -> Planner:
    transcripts, lint = TranscriptFile(tmp_path / "t.jsonl"), LintFile(tmp_path / "l.jsonl")
    return Planner("demo", committed_planner.grounding, committed_planner.scenes, transcripts, lint, portfolio=5)


def portfolio_of(planner: Planner) -> Portfolio:
    found = planner.plans((), (TASK,))["push"].portfolio
    assert found is not None
    return found


def test_a_portfolio_is_asked_for_beside_the_plan(planner: Planner) -> None:
    assert [each.name for each in planner.missing((), (TASK,))] == ["plan/push", "portfolio/push"]
    assert [each.name for each in replace(planner, portfolio=0).missing((), (TASK,))] == ["plan/push"]
    demonstrated = planner.missing((TASK,), ())
    assert [each.name for each in demonstrated] == ["plan/push"], "whoever is shown how needs no other ways"
    planner.transcripts.append(answered(portfolio_of(planner).request, several(("grip", GOOD)), "m", "test"))
    assert [each.name for each in planner.missing((), (TASK,))] == ["plan/push"]


def test_each_plan_of_a_portfolio_has_findings_and_score_of_its_own(planner: Planner) -> None:
    text = several(("grip", GOOD), ("fly", BAD), ("never", IMPOSSIBLE))
    given = answered(portfolio_of(planner).request, text, "m", "test")
    planner.transcripts.append(given)
    planner.lint.append(LintRecord(f"{given.id}/1", "push", (Finding("stuck", 1, "there"),), 0, 10, 8, 900))
    kinds = [[finding.kind for finding in each.findings] for each in portfolio_of(planner).alternatives]
    assert kinds == [["stuck"], ["invalid"], ["impossible"]]
    assert [each.score is not None for each in portfolio_of(planner).alternatives] == [True, False, False]
    assert len(portfolio_of(planner).playbooks) == 2


def test_a_portfolio_without_a_plan_is_asked_again_of_another_model(planner: Planner) -> None:
    planner.transcripts.append(answered(portfolio_of(planner).request, "sorry", "m", "test"))
    assert portfolio_of(planner).findings
    asked_of = {
        model: [each.name for each in planner.missing((), (TASK,), asked=model)] for model in (None, "m", "other")
    }
    assert asked_of == {None: ["plan/push"], "m": ["plan/push"], "other": ["plan/push", "portfolio/push"]}
    planner.transcripts.append(answered(portfolio_of(planner).request, several(("grip", GOOD)), "other", "test"))
    planner.transcripts.append(answered(portfolio_of(planner).request, "sorry again", "m", "test"))
    assert len(portfolio_of(planner).playbooks) == 1, "an answer without a plan takes no place"


def test_sentences_that_change_leave_an_answered_portfolio_alone(planner: Planner) -> None:
    before = replace(planner, words=("close the fingers",))
    before.transcripts.append(answered(portfolio_of(before).request, several(("grip", GOOD)), "m", "test"))
    after = replace(planner, words=("close the fingers", "open the fingers"))
    assert len(portfolio_of(after).playbooks) == 1
