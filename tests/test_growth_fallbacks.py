"""What follows when a step of growth cannot be taken as it is: another one in its place, or a person."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from lago_skills.core import Playbook
from lago_skills.errors import ApprovalNeeded, DataError, StudyError
from lago_skills.grow import learning
from lago_skills.grow.learning import Learned, grown_by_learning
from lago_skills.grow.settings import Settings
from lago_skills.grow.sources import Source
from lago_skills.grow.versions import Version

ONLINE: Any = Learned(Source("run", [], online=True), Playbook("fetch", (), "", ""), ((1, 1.0),))


def version(number: int, verdict: str) -> Version:
    growth = {"verdict": verdict, "reason": "visit falls", "number": number, "task": "fetch"}
    return Version(number, Path(f"{number:04d}"), growth)


def growing(monkeypatch: pytest.MonkeyPatch, outcomes: list[Version | Exception]) -> list[tuple[str, int]]:
    """Steps of growth come out so, one after the other; returns how each was asked for."""
    asked: list[tuple[str, int]] = []

    class Growth:
        def __init__(self, space: Any, task: Any, settings: Settings, say: Any) -> None:
            self.settings = settings

        def run(self, sources: Sequence[Source], lead: Playbook) -> Version:
            asked.append((self.settings.refresh, len(sources)))
            outcome = outcomes[len(asked) - 1]
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

    monkeypatch.setattr(learning, "Growth", Growth)
    monkeypatch.setattr(learning, "Versions", Mock())
    monkeypatch.setattr(learning, "better_plan", Mock(return_value=ONLINE.lead))
    return asked


def test_a_version_that_would_be_held_is_made_again_with_the_decoder_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    asked = growing(monkeypatch, [version(1, "held"), version(2, "accepted")])
    space: Any = Mock()
    made = grown_by_learning(space, space, ONLINE, Settings(ways=("onward",)), said.append)
    assert made.number == 2
    assert asked == [("auto", 1), ("never", 1)]
    assert said == ["version 1 is held (visit falls); made again with the decoder as it was"]
    asked = growing(monkeypatch, [version(1, "held")])  # where that was tried among others it is not made again
    assert grown_by_learning(space, space, ONLINE, Settings(), said.append).number == 1
    assert asked == [("auto", 1)]


def test_a_plan_of_a_trial_leads_only_where_it_does_better(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = Playbook("fetch", (), "", ""), Playbook("fetch", (), "", "another")
    shown, spot = SimpleNamespace(books={"fetch": own}), SimpleNamespace(before=0.9, after=0.9)
    for name, instead in {
        "material.load": Mock(return_value=shown),
        "material.led_by": Mock(),
        "load_bundle": Mock(),
        "guide_of": Mock(),
        "Spots": Mock(return_value=SimpleNamespace(check=Mock(return_value=[spot]))),
    }.items():
        monkeypatch.setattr(f"lago_skills.grow.learning.{name}", instead)
    said, task = list[str](), SimpleNamespace(id="fetch")
    space: Any = Mock()

    def better(plan: Playbook) -> Playbook:
        return learning.better_plan(space, cast("Any", task), version(1, "accepted"), plan, Settings(), said.append)

    assert better(other) is own
    assert said == ["fetch: the plan that the trial came to does no better than the task's own, which stays"]
    spot.after = 0.95
    assert better(other) is other
    assert better(own) is own


def test_where_no_episode_does_what_its_plan_says_the_plan_is_taken_and_else_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space: Any = Mock()
    asked = growing(monkeypatch, [DataError("none does"), version(1, "accepted")])
    assert grown_by_learning(space, space, ONLINE, Settings(), lambda text: None).number == 1
    assert asked == [("auto", 1), ("auto", 0)]
    growing(monkeypatch, [DataError("none does"), StudyError("nothing new")])
    with pytest.raises(DataError, match="none does"):
        grown_by_learning(space, space, ONLINE, Settings(), lambda text: None)


def test_a_flow_asks_a_person_of_a_version_that_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.exceptions import FlowPauseTimeout

    from lago_skills.flows import growing as flow

    used: list[int] = []
    answers: list[Any] = [
        SimpleNamespace(verdict="use", by="A"),
        SimpleNamespace(verdict="leave", by="B"),
        FlowPauseTimeout(),
    ]

    def pause(**options: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    space: Any = SimpleNamespace(study=SimpleNamespace(name="plane"), argument="plane", artifact=Path)
    versions = SimpleNamespace(use=used.append)
    monkeypatch.setattr(flow, "pause_flow_run", pause)
    tasks = {name: SimpleNamespace(id=name) for name in ("fetch", "carry")}

    def named(space: Any, names: Sequence[str]) -> list[Any]:
        return [tasks[name] for name in names]

    def alone(space: Any) -> Any:
        return nullcontext()

    for name, instead in {
        "Versions": Mock(return_value=versions),
        "exclusive": alone,
        "study_path": Mock(return_value=Path("plane")),
        "open_workspace": Mock(return_value=space),
        "tasks_named": named,
        "interrupted_if_cancelled": nullcontext,
        "create_table_artifact": Mock(),
        "_grown_as_task": Mock(return_value=[version(1, "held")]),
    }.items():
        monkeypatch.setattr(flow, name, instead)
    monkeypatch.setattr(flow.shown, "failures", Mock(return_value=nullcontext()))  # which asks Prefect's server
    rows = flow.grow.fn("plane", ["fetch", "carry"], Path(), wait_s=5.0)
    assert [row["verdict"] for row in rows] == ["used by A", "left by B"]
    assert used == [1]
    assert flow.grow.fn("plane", ["fetch"], Path())[0]["verdict"] == "held"
    with pytest.raises(
        ApprovalNeeded, match="nobody decided within 5 s; expected a decision; use it with: lago grow plane --use 1"
    ):
        flow.grow.fn("plane", ["fetch"], Path(), wait_s=5.0)
