"""Recorded answers, requests that nobody has answered yet, and the transcript file."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.core import Playbook
from lago_skills.errors import ArtifactCorrupt, PlanError, TranscriptMissing
from lago_skills.experiments.baselines import direct
from lago_skills.llm.batch import export_requests, import_responses
from lago_skills.llm.transcripts import Request, Transcript, TranscriptFile
from lago_skills.planner import scenes
from lago_skills.planner.ask import Planner, rounds
from lago_skills.planner.requests import playbook_request
from lago_skills.planner.wordings import Wordings, wordings_requests
from lago_skills.stages import plan
from lago_skills.stages.planning import measured_motions
from lago_skills.stages.workspace import open_workspace
from lago_skills.worlds.metaworld.grounding import METAWORLD_FEATURES
from lago_skills.worlds.metaworld.tasks import expand
from tests.conftest import ROOT
from tests.plan_answers import EIGHT, GOOD, TEN

# Recorded answers -------------------------------------------------------------------------------------------------


def test_all_eighteen_playbooks_replay_from_the_recorded_answers(playbooks: dict[str, Playbook]) -> None:
    assert set(playbooks) == {task.id for task in (*TEN, *EIGHT)}
    for book in playbooks.values():
        assert 2 <= len(book.steps) <= 6
        assert book.steps[-1].when == ()
        assert book.model == "claude"


def test_unseen_playbooks_reuse_the_words_of_the_training_tasks(playbooks: dict[str, Playbook]) -> None:
    known = {step.skill for task in TEN for step in playbooks[task.id].steps}
    steps = [step.skill for task in EIGHT for step in playbooks[task.id].steps]
    assert np.mean([skill in known for skill in steps]) > 0.9


def test_no_transcript_is_orphaned(committed_planner: Planner) -> None:
    """Every recorded answer belongs to a request that would be asked today: a playbook, its repair, a brief one, one in words, a portfolio, wordings, or
    names of motions."""
    every = expand(["ten", "eight", "twelve", "twenty"])
    plans = replace(committed_planner, portfolio=5).plans(TEN, every[10:]).values()
    brief = replace(committed_planner, brief=True).plans(TEN, EIGHT).values()
    words = replace(committed_planner, form="words", portfolio=5).plans(TEN, every[10:]).values()
    used = {version.transcript.id for found in (*plans, *brief, *words) for version in found.versions}
    growth = plan.plans(
        open_workspace(ROOT, ROOT / "data/studies/growth.toml")
    ).values()  # whose portfolios are of demonstrated tasks too
    several = [found.portfolio.transcript for found in (*plans, *words, *growth) if found.portfolio is not None]
    used |= {transcript.id for transcript in several if transcript is not None}
    wordings = {request.key for request in wordings_requests(every, every[:18], Wordings())}
    study = open_workspace(ROOT, ROOT / "data/studies/motions.toml")
    motions = measured_motions.load(study.motions)
    naming = measured_motions.naming(study.study, motions, committed_planner.transcripts)
    used |= {answer.id for answer in naming.answers.values()}
    starts = open_workspace(ROOT, ROOT / "data/studies/metaworld.toml")
    wordings |= {request.key for request in direct.requests(starts.study)}
    for transcript in committed_planner.transcripts.all():
        assert transcript.id in used or transcript.key in wordings, transcript.name


def test_a_request_depends_on_nothing_but_its_arguments(committed_planner: Planner) -> None:
    grounding = committed_planner.grounding
    first = playbook_request(TEN[0], grounding, committed_planner.scenes, ["a skill"])
    again = playbook_request(TEN[0], grounding, dict(committed_planner.scenes), ["a skill"])
    other = playbook_request(TEN[0], grounding, committed_planner.scenes, ["another skill"])
    assert first.key == again.key != other.key
    assert "object2" not in first.prompt
    assert "range in demonstrations" in first.prompt
    unseen = playbook_request(EIGHT[0], grounding, committed_planner.scenes, [])
    brief = playbook_request(EIGHT[0], grounding, committed_planner.scenes, [], brief=True)
    assert "slow" in unseen.prompt  # advice about targets
    assert "slow" not in brief.prompt
    assert len(brief.prompt) < 0.8 * len(unseen.prompt)
    assert "range in demonstrations" not in unseen.prompt
    assert "object2" in playbook_request(expand(["stick-push"])[0], grounding, committed_planner.scenes, []).prompt


def test_the_committed_scenes_are_what_the_simulator_shows(committed_planner: Planner) -> None:
    from lago_skills.worlds.metaworld.env import MetaWorldEnv
    from lago_skills.worlds.seeds import SCENE_SEED

    env = MetaWorldEnv(TEN[1])
    grounding = committed_planner.grounding
    starts = np.stack([env.reset(seed=SCENE_SEED + i)[0] for i in range(25)])
    found = scenes.ranges(grounding.read(starts).values, grounding.vocabulary.features)
    for name, bounds in committed_planner.scenes["push"].start.items():
        np.testing.assert_allclose(found[name], bounds, atol=0.011)
    env.close()


def test_rounds_settle_the_words_first() -> None:
    sizes = [len(members) for members in rounds(TEN)]
    assert sizes == [1, 1, 2, 2, 2, 2]
    assert [task for members in rounds(TEN) for task in members] == list(TEN)


# Missing answers, export and import ---------------------------------------------------------------------------------


def planner(path: Path, committed: Planner) -> Planner:
    return Planner("demo", committed.grounding, committed.scenes, TranscriptFile(path))


def test_a_missing_answer_names_request_prompt_and_command(tmp_path: Path, committed_planner: Planner) -> None:
    empty = planner(tmp_path / "none.jsonl", committed_planner)
    with pytest.raises(TranscriptMissing, match=r"'plan/reach'.*prompt\.md.*lago plan demo --export") as error:
        empty.playbooks(TEN, EIGHT)
    assert "lago plan demo --import" in str(error.value)


def test_export_answer_import_round_by_round(tmp_path: Path, committed_planner: Planner) -> None:
    """Answering with the committed answers leads to the same playbooks, through the Batch API's own format."""
    ours = planner(tmp_path / "t.jsonl", committed_planner)
    answered = 0
    while missing := ours.missing(TEN, EIGHT, repairs=False):
        export_requests(missing, tmp_path / "requests.jsonl")
        lines: list[str] = []
        for line in (tmp_path / "requests.jsonl").read_text().splitlines():
            request = json.loads(line)
            key = request["custom_id"].rpartition("#")[2]
            recorded = next(t for t in committed_planner.transcripts.all() if t.key == key)
            body = {"choices": [{"message": {"content": recorded.response}}], "usage": {"total_tokens": 5}}
            lines.append(json.dumps({"custom_id": request["custom_id"], "response": {"body": body}}))
        (tmp_path / "responses.jsonl").write_text("\n".join(lines))
        imported = import_responses(tmp_path / "responses.jsonl", missing, ours.transcripts, "claude", "test")
        assert imported.problems == ()
        answered += imported.n_recorded
        ours = planner(tmp_path / "t.jsonl", committed_planner)
    assert answered == len(ours.transcripts) == 18
    books = ours.playbooks(TEN, EIGHT)
    for name, found in committed_planner.plans(TEN, EIGHT).items():
        assert books[name] == found.versions[0].playbook


def test_foreign_and_malformed_responses_are_refused_and_record_nothing(
    tmp_path: Path, committed_planner: Planner
) -> None:
    ours = planner(tmp_path / "t.jsonl", committed_planner)
    missing = ours.missing(TEN, EIGHT)
    path = tmp_path / "r.jsonl"
    good = {"choices": [{"message": {"content": json.dumps(GOOD)}}]}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"custom_id": "plan/reach#beef", "response": {"body": good}}, "key 'beef' that is not open"),
        ({"custom_id": missing[0].key, "response": {}}, "found no response.body"),
        ({"response": {"body": good}}, "found no custom_id"),
        (
            {"custom_id": missing[0].key, "response": {"body": {"choices": [{"message": {"content": None}}]}}},
            "expected text",
        ),
        ({"custom_id": missing[0].custom_id, "error": {"message": "rate limit"}}, "'plan/reach' failed: rate limit"),
    ]
    for line, message in cases:
        path.write_text(json.dumps(line))
        imported = import_responses(path, missing, ours.transcripts, "m", "test")
        assert imported.n_recorded == 0
        assert re.search(message, imported.problems[0])
    path.write_text("not json")
    assert (
        "line 1 of r.jsonl: found no JSON in UTF-8"
        in import_responses(path, missing, ours.transcripts, "m", "test").problems[0]
    )
    for wrong in (tmp_path / "absent.jsonl", tmp_path):
        with pytest.raises(PlanError, match="cannot be read"):
            import_responses(wrong, missing, ours.transcripts, "m", "test")
    assert not (tmp_path / "t.jsonl").exists()


# The transcript file -------------------------------------------------------------------------------------------------


def transcript(prompt: str, response: str = "{}", model: str = "m") -> Transcript:
    request = Request("plan/x", prompt)
    return Transcript(request.key, request.name, request.canonical(), response, model, "test", "2026-01-01T00:00:00")


def test_a_torn_last_line_was_never_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    file = TranscriptFile(path)
    file.append(transcript("one"))
    with path.open("a") as stream:
        stream.write('{"key": "torn')
    file = TranscriptFile(path)
    assert len(file) == 1
    file.append(transcript("two"))
    assert len(TranscriptFile(path)) == 2


def test_an_edited_line_is_found(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    file = TranscriptFile(path)
    file.append(transcript("one"))
    file.append(transcript("two"))
    path.write_text(path.read_text().replace('"one"', '"ONE"'))
    with pytest.raises(ArtifactCorrupt, match=r"line 1 .* was edited"):
        TranscriptFile(path)
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(ArtifactCorrupt, match=r"line 1 .* is not a transcript"):
        TranscriptFile(path)


def test_the_latest_answer_of_the_asked_model_is_replayed(tmp_path: Path) -> None:
    file = TranscriptFile(tmp_path / "t.jsonl")
    for model, response in (("a", "1"), ("b", "2"), ("a", "3")):
        file.append(transcript("one", response, model))
    request = Request("plan/x", "one")
    assert file.replay(request, "demo").response == "3"
    assert file.replay(request, "demo", model="b").response == "2"
    with pytest.raises(TranscriptMissing):
        file.replay(request, "demo", model="c")


def test_every_scene_is_within_the_features_bounds(committed_planner: Planner) -> None:
    """Logic relies on the bounds: no start of the fifty tasks and no demonstration may leave them."""
    for scene in committed_planner.scenes.values():
        for ranges in (scene.start, scene.demonstrations or {}):
            for feature in METAWORLD_FEATURES:
                if feature.name in ranges:
                    low, high = ranges[feature.name]
                    assert feature.low <= low <= high <= feature.high, (scene.task_id, feature.name)
