"""Plans are repaired, edited and answered by several models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from lago_skills.llm.transcripts import HUMAN, Transcript, TranscriptFile, answered
from lago_skills.planner.ask import BEST, Plan, Planner
from lago_skills.planner.findings import Finding, LintFile, LintRecord
from lago_skills.planner.requests import playbook_request
from tests.plan_answers import GOOD, TEN

# Repair, edits, models ----------------------------------------------------------------------------------------------


def small_planner(tmp_path: Path, committed: Planner, model: str | None = None) -> Planner:
    return Planner(
        "demo",
        committed.grounding,
        committed.scenes,
        TranscriptFile(tmp_path / "t.jsonl"),
        LintFile(tmp_path / "l.jsonl"),
        model,
    )


def answer(planner: Planner, text: str, model: str = "m", parent: str | None = None) -> Transcript:
    """Record an answer to the open request (or the repair) of the task `push`."""
    found = next(iter(planner.plans((), (TEN[1],)).values()))
    request = found.open_repair or found.request
    given = answered(found.request if parent else request, text, model, "test", {"total_tokens": 7}, parent)
    planner.transcripts.append(given)
    return given


def push(planner: Planner) -> Plan:
    return planner.plans((), (TEN[1],))["push"]


IMPOSSIBLE = json.dumps(
    {"steps": [{**GOOD["steps"][0], "when": [{"feature": "gripper_opening", "op": ">", "value": 2}]}, GOOD["steps"][1]]}
)


def test_an_answer_with_findings_is_repaired_once(tmp_path: Path, committed_planner: Planner) -> None:
    ours = small_planner(tmp_path, committed_planner)
    answer(ours, IMPOSSIBLE)
    found = push(ours)
    assert [finding.kind for finding in found.versions[0].findings] == ["impossible"]
    assert found.open_repair is not None
    assert "gripper_opening > 2 can never hold" in found.open_repair.prompt
    assert found.book.steps, "until it is repaired, the first answer serves"
    assert [r.name for r in ours.missing((), (TEN[1],))] == ["repair/push"]
    assert ours.missing((), (TEN[1],), repairs=False) == []
    answer(ours, json.dumps(GOOD))
    found = push(ours)
    assert found.repaired
    assert found.chosen is not None
    assert found.chosen is found.versions[1]
    assert found.chosen.authors == ("m (2)", "m (1)"), "the untouched step keeps its author"
    assert found.tokens == 14
    first_only = replace(ours, use_repairs=False)
    assert push(first_only).chosen == push(first_only).versions[0]
    assert first_only.missing((), (TEN[1],)) == []
    assert ours.missing((), (TEN[1],)) == []


def test_an_answer_goes_back_as_often_as_the_study_says_and_the_best_round_is_used(
    tmp_path: Path, committed_planner: Planner
) -> None:
    ours = replace(small_planner(tmp_path, committed_planner), repairs=3)
    asked: list[str] = []
    for number, solved in enumerate((0, 4, 2), start=1):
        found = push(ours)
        asked.append((found.open_repair or found.request).key)
        given = answer(ours, json.dumps(GOOD).replace("0.02", f"0.0{number}"))
        failed = Finding("unsolved", 0, f"round {number}: the object did not move")
        ours.lint.append(LintRecord(given.id, "push", (failed,), 0, 5, solved, 900))
    found = push(ours)
    assert found.open_repair is not None, "one round is left"
    assert "round 3: the object did not move" in found.open_repair.prompt, "each round is told of the last one"
    assert "0.03" in found.open_repair.prompt
    assert found.chosen is found.versions[1], "the best so far"
    assert found.versions[1].authors == ("m (2)", "m (1)")
    answer(ours, json.dumps(GOOD).replace("0.02", "0.05"))
    found = push(ours)
    assert len(found.versions) == 4
    assert found.open_repair is None
    assert len({*asked, found.request.key}) == 3, "no request is asked twice"
    once = push(replace(ours, repairs=1))
    assert len(once.versions) == 2


def test_a_repair_that_is_worse_is_not_used(tmp_path: Path, committed_planner: Planner) -> None:
    ours = small_planner(tmp_path, committed_planner)
    answer(ours, IMPOSSIBLE)
    answer(ours, "sorry")
    assert push(ours).chosen == push(ours).versions[0]
    fresh = small_planner(tmp_path / "2", committed_planner)
    first = answer(fresh, json.dumps(GOOD))
    fresh.lint.append(LintRecord(first.id, "push", (Finding("stuck", 1, "there"),), 0, 10, 8, 900))
    second = answer(fresh, json.dumps(GOOD).replace("0.02", "0.03"))
    fresh.lint.append(LintRecord(second.id, "push", (), 0, 10, 2, 900))
    found = push(fresh)
    assert found.chosen is not None
    assert found.chosen.transcript == first
    assert found.repaired


def test_an_edit_is_a_version_of_its_own_and_wins(tmp_path: Path, committed_planner: Planner) -> None:
    ours = small_planner(tmp_path, committed_planner)
    first = answer(ours, json.dumps(GOOD))
    answer(ours, json.dumps(GOOD).replace("go there", "go there slowly"), HUMAN, first.id)
    found = push(ours)
    assert len(found.versions) == 2
    assert found.book.model == HUMAN
    assert found.chosen is not None
    assert found.chosen.authors == ("m (1)", "human (2)")
    answer(small_planner(tmp_path, committed_planner), json.dumps(GOOD), "other")
    assert push(small_planner(tmp_path, committed_planner)).book.model == "other", "an edit belongs to what it edits"
    assert push(small_planner(tmp_path, committed_planner, "m")).book.model == HUMAN


def test_the_best_model_is_the_one_whose_plan_works(tmp_path: Path, committed_planner: Planner) -> None:
    ours = small_planner(tmp_path, committed_planner, BEST)
    for model, solved in (("weak", 3), ("strong", 9), ("last", 5)):
        request = playbook_request(TEN[1], ours.grounding, ours.scenes, [])
        given = answered(request, json.dumps(GOOD).replace("go there", f"go {model}"), model, "test")
        ours.transcripts.append(given)
        ours.lint.append(LintRecord(given.id, "push", (), 0, 10, solved, 900))
    assert ours.transcripts.models() == ["last", "strong", "weak"]
    assert push(ours).book.model == "strong"
    assert push(small_planner(tmp_path, committed_planner, "weak")).book.model == "weak"
    assert push(small_planner(tmp_path, committed_planner)).book.model == "last"
    assert small_planner(tmp_path, committed_planner, "absent").missing((), (TEN[1],))
