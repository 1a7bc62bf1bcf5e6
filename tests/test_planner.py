from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lago_skills.core import ANCHORS, Condition, Playbook, Step, Target
from lago_skills.envs.grounding import METAWORLD_FEATURES, MetaWorldGrounding
from lago_skills.envs.tasks import GROUPS, expand
from lago_skills.errors import ArtifactCorrupt, PlanError, TranscriptMissing
from lago_skills.llm.transcripts import Request, Transcript, TranscriptFile
from lago_skills.planner import scenes
from lago_skills.planner.ask import Planner, export_requests, import_responses, rounds
from lago_skills.planner.parse import parse_playbook
from lago_skills.planner.requests import playbook_request
from lago_skills.playbook import CompiledPlaybook, playbook_from
from tests.conftest import ROOT

TEN, EIGHT = expand(list(GROUPS["ten"])), expand(list(GROUPS["eight"]))
GOOD: dict[str, Any] = {
    "steps": [
        {
            "skill": "close  the fingers",
            "target": {"anchor": "object", "offset": [0, 0, 0.1]},
            "when": [{"feature": "gripper_to_object", "op": "<", "value": 0.02}],
        },
        {"skill": "go there", "target": {"anchor": "goal", "offset": [0, 0, 0]}, "when": []},
    ]
}


def parse(text: str) -> Playbook:
    return parse_playbook(text, "push", METAWORLD_FEATURES, "k" * 64, "model")


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
    used = {
        request.key
        for _, request in committed_planner._ask(TEN, EIGHT, stop_at_missing=False)  # pyright: ignore[reportPrivateUsage]
    }
    assert {transcript.key for transcript in committed_planner.transcripts.all()} == used


def test_a_request_depends_on_nothing_but_its_arguments(committed_planner: Planner) -> None:
    grounding = committed_planner.grounding
    first = playbook_request(TEN[0], grounding, committed_planner.scenes, ["a skill"])
    again = playbook_request(TEN[0], grounding, dict(committed_planner.scenes), ["a skill"])
    other = playbook_request(TEN[0], grounding, committed_planner.scenes, ["another skill"])
    assert first.key == again.key != other.key
    assert "object2" not in first.prompt
    assert "range in demonstrations" in first.prompt
    unseen = playbook_request(EIGHT[0], grounding, committed_planner.scenes, [])
    assert "range in demonstrations" not in unseen.prompt
    assert "object2" in playbook_request(expand(["stick-push"])[0], grounding, committed_planner.scenes, []).prompt


def test_the_committed_scenes_are_what_the_simulator_shows(committed_planner: Planner) -> None:
    from lago_skills.envs.metaworld import SCENE_SEED, MetaWorldEnv

    env = MetaWorldEnv(TEN[1])
    grounding = committed_planner.grounding
    starts = np.stack([env.reset(seed=SCENE_SEED + i)[0] for i in range(25)])
    found = scenes.ranges(grounding.values(starts), grounding.features)
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
    while missing := ours.missing(TEN, EIGHT):
        export_requests(missing, tmp_path / "requests.jsonl")
        lines: list[str] = []
        for line in (tmp_path / "requests.jsonl").read_text().splitlines():
            request = json.loads(line)
            key = request["custom_id"].rpartition("#")[2]
            recorded = next(t for t in committed_planner.transcripts.all() if t.key == key)
            body = {"choices": [{"message": {"content": recorded.response}}], "usage": {"total_tokens": 5}}
            lines.append(json.dumps({"custom_id": request["custom_id"], "response": {"body": body}}))
        (tmp_path / "responses.jsonl").write_text("\n".join(lines))
        answered += import_responses(
            tmp_path / "responses.jsonl", missing, ours.transcripts, ours.grounding.features, "claude", "test"
        )
        ours = planner(tmp_path / "t.jsonl", committed_planner)
    assert answered == len(ours.transcripts) == 18
    assert ours.playbooks(TEN, EIGHT) == committed_planner.playbooks(TEN, EIGHT)


def test_foreign_and_malformed_responses_are_refused_and_record_nothing(
    tmp_path: Path, committed_planner: Planner
) -> None:
    ours = planner(tmp_path / "t.jsonl", committed_planner)
    missing = ours.missing(TEN, EIGHT)
    path = tmp_path / "r.jsonl"
    good = {"choices": [{"message": {"content": json.dumps(GOOD)}}]}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"custom_id": "plan/reach#beef", "response": {"body": good}}, "key 'beef' that is not open"),
        ({"custom_id": missing[0].key, "response": {}}, "lacks custom_id or response"),
        (
            {"custom_id": missing[0].key, "response": {"body": {"choices": [{"message": {"content": None}}]}}},
            "expected text",
        ),
        (
            {
                "custom_id": missing[0].key,
                "response": {"body": {"choices": [{"message": {"content": broken(skill="")}}]}},
            },
            "found skill ''",
        ),
        (
            {"custom_id": missing[0].key, "response": {"body": {"choices": [{"message": {"content": " "}}]}}},
            "holds no JSON object",
        ),
    ]
    for line, message in cases:
        path.write_text(json.dumps(line))
        with pytest.raises(PlanError, match=message):
            import_responses(path, missing, ours.transcripts, ours.grounding.features, "m", "test")
    path.write_text("not json")
    with pytest.raises(PlanError, match="cannot be read"):
        import_responses(path, missing, ours.transcripts, ours.grounding.features, "m", "test")
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
    with pytest.raises(PlanError, match="is empty"):
        file.append(transcript("x", "  "))


# Parsing -----------------------------------------------------------------------------------------------------------


def test_prose_and_fences_around_the_json_are_ignored() -> None:
    for text in (json.dumps(GOOD), f"Sure {{!}}\n```json\n{json.dumps(GOOD)}\n```\nGood luck."):
        book = parse(text)
        assert book.steps[0].skill == "close the fingers"
        assert book.steps[0].when == (Condition("gripper_to_object", "<", 0.02),)


def broken(**change: object) -> str:
    return json.dumps({"steps": [{**GOOD["steps"][0], **change}, GOOD["steps"][1]]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no JSON object"),
        ('{"steps": [', "holds no JSON object"),
        ('{"steps": []}', "no list of 1 to 12 steps"),
        ('{"steps": [3]}', "expected an object with 'skill'"),
        (broken(skill=""), "found skill ''"),
        (broken(skill=7), "found skill 7"),
        (broken(target={"anchor": "moon", "offset": [0, 0, 0]}), "expected an anchor"),
        (broken(target={"anchor": "goal", "offset": [0, 0]}), "offset of three numbers"),
        (broken(target={"anchor": "goal", "offset": [0, 0, 9]}), "size at most 1"),
        (broken(target={"anchor": "goal", "offset": [0, 0, True]}), "found True"),
        (broken(when="always"), "expected a list of conditions"),
        (broken(when=[{"feature": "gripper_to_objet", "op": "<", "value": 1}]), "did you mean 'gripper_to_object'"),
        (broken(when=[{"feature": "gripper_z", "op": "==", "value": 1}]), "found operator '=='"),
        (broken(when=[{"feature": "gripper_z", "op": "<", "value": "__import__('os')"}]), "expected a finite number"),
        (broken(when=[{"feature": "gripper_z", "op": "<", "value": 1e999}]), "finite number"),
        (broken(when=[{"feature": "gripper_z", "op": "<", "value": float("nan")}]), "finite number"),
        ("x" * 200_000, "200000 characters"),
        ('{"steps":' + "[" * 5000, "holds no JSON object"),
    ],
)
def test_bad_answers_are_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        parse(text)


# Playbooks at run time -----------------------------------------------------------------------------------------------


def slow_active(book: Playbook, row: dict[str, float]) -> int:
    for i, step in enumerate(book.steps[:-1]):
        if all((row[c.feature] < c.value) if c.op == "<" else (row[c.feature] > c.value) for c in step.when):
            return i
    return len(book.steps) - 1


@given(st.integers(0, 2**32 - 1))
def test_the_active_step_agrees_with_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [feature.name for feature in METAWORLD_FEATURES]
    steps: list[Step] = [
        Step(
            f"skill {i}",
            Target(str(rng.choice(ANCHORS)), (0.1 * i, 0.0, -0.2)),
            tuple(
                Condition(str(rng.choice(names)), "<" if rng.random() < 0.5 else ">", float(rng.normal()))
                for _ in range(rng.integers(0, 3))
            ),
        )
        for i in range(4)
    ]
    book = Playbook("push", (*steps, Step("last", Target("goal", (0.0, 0.0, 0.0)))), "k", "m")
    values = rng.normal(size=(20, len(names)))
    compiled = CompiledPlaybook(book, METAWORLD_FEATURES)
    active = compiled.active(values)
    assert active.tolist() == [slow_active(book, dict(zip(names, row, strict=True))) for row in values]
    anchors = rng.normal(size=(20, len(ANCHORS), 3))
    targets = compiled.targets(active, anchors)
    for i in range(len(values)):
        chosen = book.steps[int(active[i])].target
        np.testing.assert_allclose(targets[i], anchors[i, ANCHORS.index(chosen.anchor)] + np.array(chosen.offset))


def test_playbooks_survive_json(playbooks: dict[str, Playbook]) -> None:
    from dataclasses import asdict

    for book in playbooks.values():
        assert playbook_from(json.loads(json.dumps(asdict(book)))) == book


def test_scene_files_that_cannot_be_read_are_refused(tmp_path: Path, grounding: MetaWorldGrounding) -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        scenes.load(tmp_path / "none.json")
    (tmp_path / "s.json").write_text('{"push": {"wrong": 1}}')
    with pytest.raises(PlanError, match="one JSON object with a scene per task"):
        scenes.load(tmp_path / "s.json")
    known = scenes.load(ROOT / "data/scenes/metaworld.json")
    scenes.save(tmp_path / "again.json", list(known.values()))
    assert scenes.load(tmp_path / "again.json") == known
    with pytest.raises(PlanError, match="no scene is known for task 'push'"):
        playbook_request(TEN[1], grounding, {}, [])
