"""What waits for a person's approval, and where a number comes from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lago_skills.artifacts.executor import Runner
from lago_skills.commands.approve import WAITING_FILE
from lago_skills.commands.cli import main
from lago_skills.commands.stage_run import run_here
from lago_skills.errors import ApprovalNeeded, ApprovalOutdated, ArtifactCorrupt, PlanError
from lago_skills.flows.main import run_stages
from lago_skills.stages import approval, plan
from lago_skills.stages.lineage import Lineage
from lago_skills.stages.plan_edits import record_edit, text_of
from lago_skills.stages.workspace import Workspace, open_workspace
from tests.test_pipeline import STUDY, new_root

APPROVING = STUDY.replace("[tasks]", 'approve = "playbooks"\n[tasks]', 1)


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    """A study whose playbooks are planned and wait for approval."""
    root = new_root(tmp_path / "p")
    (root / "data/studies/small.toml").write_text(APPROVING)
    opened = open_workspace(root, root / "data/studies/small.toml")
    run_here(opened, "plan")
    return opened


def lago(space: Workspace, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["--root", str(space.root), *arguments], run_stages)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def waiting(space: Workspace) -> approval.Held:
    held = approval.held(space, "playbooks")
    assert held is not None
    return held


def edited(space: Workspace, task: str = "push") -> str:
    """The text of a task's playbook with another number."""
    text = text_of(plan.plan_of(task, plan.plans(space), "small"))
    raw = json.loads(text)
    raw["steps"][0]["target"]["offset"] = [0.0, 0.0, 0.123]
    return json.dumps(raw)


def test_what_nobody_approved_is_not_used_and_what_somebody_approved_is(
    space: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in ("segment", "pretrain", "build", "evaluate", "train", "report"):
        with pytest.raises(ApprovalNeeded, match=r"decide with: lago approve small \(nothing was used"):
            approval.require(space, stage)
    for stage in ("collect", "plan"):
        approval.require(space, stage)
    code, out, err = lago(space, capsys, "approve", "small", "--show", "--json")
    assert code == 0
    row = json.loads(out)["rows"][0]
    assert row == {**row, "what": "playbooks", "verdict": "", "digest": waiting(space).digest}
    assert "+++ push-wall (now)" in err
    code, out, err = lago(space, capsys, "approve", "small", "--by", "someone", "--digest", row["digest"][:8])
    assert code == 0, err
    approval.require(space, "segment")
    assert [(each.verdict, each.by) for each in approval.decisions(space)] == [("approved", "someone")]
    assert "nothing waits for approval" in lago(space, capsys, "approve", "small")[2]


def test_a_change_is_shown_as_the_difference_from_what_was_approved(space: Workspace) -> None:
    first = waiting(space)
    approval.decide(space, first, "approved", "someone")
    record_edit(space, "push", edited(space), "an editor")
    assert approval.held(space, "playbooks") is None  # nothing new is used until it is planned
    run_here(space, "plan")
    new = waiting(space)
    changed = [line for line in new.difference if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert len(changed) == 2
    assert "0.123" in changed[1]
    assert new.difference[0] == "--- push (approved)"
    with pytest.raises(
        ApprovalOutdated, match=r"they have changed meanwhile; look again with: lago approve small --show"
    ):
        approval.decide(space, new, "approved", "someone", looked_at=first.digest)
    assert approval.held(space, "playbooks") == new


def test_what_was_rejected_stays_so_until_somebody_else_decides(
    space: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = lago(space, capsys, "approve", "small", "--reject", "--by", "someone", "--comment", "too far")
    assert code == 0, err
    with pytest.raises(ApprovalNeeded, match="rejected; expected a person's approval"):
        approval.require(space, "segment")
    assert "rejected by someone" in lago(space, capsys, "approve", "small", "--show")[2]
    approval.decide(space, waiting(space), "approved", "another")
    approval.require(space, "segment")


def test_a_run_says_that_it_waits_and_exits_with_3(space: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = lago(space, capsys, "approve", "small", "--digest", "0000")
    assert code == 2
    assert "expected 0000, which were looked at" in err
    assert approval.decisions(space) == []

    def needs(space: Workspace, stages: Sequence[str], runner: Runner) -> None:
        approval.require(space, "segment")

    assert main(["--root", str(space.root), "run", "small", "--json"], needs) == 3
    printed = capsys.readouterr()
    summary = json.loads(printed.out)["summary"]
    assert summary["state"] == "waiting"
    assert "lago approve small" in summary["error"]
    assert "lago approve small" in printed.err


def test_mistakes_are_sentences(space: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PlanError, match=r"the edited playbook of 'push' is not valid.*your text is kept"):
        record_edit(space, "push", "{}", "someone")
    records = space.root / "data/approvals/small/decisions.jsonl"
    approval.decide(space, waiting(space), "approved", "someone")
    records.write_text(records.read_text() + "{half a li")
    with pytest.raises(ArtifactCorrupt, match="holds a line that is no decision"):
        approval.require(space, "segment")
    (space.root / "data/studies/small.toml").write_text(STUDY)
    code, _, err = lago(space, capsys, "approve", "small")
    assert code == 2
    assert 'add approve = "playbooks"' in err
    (space.root / "data/studies/small.toml").write_text(STUDY.replace("[tasks]", 'approve = "all"\n[tasks]', 1))
    assert "approve.0 = 'all'" in lago(space, capsys, "approve", "small")[2]


def test_a_run_that_cannot_be_told_is_no_reason_to_lose_a_decision(
    space: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    (space.artifact(WAITING_FILE)).write_text(json.dumps({"resume": "http://127.0.0.1:9/api/flow_runs/x/resume"}))
    code, _, err = lago(space, capsys, "approve", "small")
    assert code == 0
    assert "could not be told" in err
    assert approval.held(space, "playbooks") is None


def test_lineage_goes_from_a_playbook_to_its_answers_and_back(
    space: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    lineage = Lineage.of(space)
    assert set(lineage.next("playbooks", down=False)) == {
        f"answers/{t.id}" for t in (*space.study.seen, *space.study.unseen)
    }
    assert lineage.next("answers/push", down=True) == ["playbooks"]
    answer = lineage.nodes["answers/push"]
    assert lineage.find(answer.digest[:10]) == "answers/push"
    code, out, _ = lago(space, capsys, "lineage", "small", "playbooks", "--json")
    table: dict[str, Any] = json.loads(out)
    assert code == 0
    assert {"name": "answers/push", "hash": answer.digest, "about": answer.about} in table["rows"]
    assert ["playbooks", "answers/push"] in table["summary"]["edges"]
    code, out, _ = lago(space, capsys, "lineage", "small", "answers/push", "--down")
    assert [line.split()[0] for line in out.splitlines()] == ["answers/push", "playbooks"]
    code, _, err = lago(space, capsys, "lineage", "small", "push-wall/guided-sac/0")
    assert code == 2
    assert "which is nothing that was made; expected an artifact" in err
