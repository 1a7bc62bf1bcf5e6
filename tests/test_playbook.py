"""Answers become playbooks, and playbooks say which step is active."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lago_skills.core import Condition, Playbook, Step, Target
from lago_skills.errors import PlanError
from lago_skills.planner import scenes
from lago_skills.planner.parse import parse_playbook
from lago_skills.planner.requests import playbook_request
from lago_skills.playbook import CompiledPlaybook, playbook_json, read_playbook, write_playbook
from lago_skills.worlds.metaworld.grounding import ANCHORS, METAWORLD_FEATURES, MetaWorldGrounding
from tests.conftest import ROOT
from tests.plan_answers import GOOD, TEN, parse

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
        ("", "found an empty answer"),
        ('{"steps": [', r"no complete JSON object .*cut off"),
        ('{"steps": []}', "no list of 1 to 12 steps"),
        ('{"steps": [3]}', "expected an object with 'skill'"),
        (broken(skill=""), "found skill ''"),
        (broken(skill=7), "found skill 7"),
        (broken(target={"anchor": "moon", "offset": [0, 0, 0]}), "expected an anchor"),
        (broken(target={"anchor": "goal", "offset": [0, 0]}), "offset of three numbers"),
        (broken(target={"anchor": "goal", "offset": [0, 0, 9]}), "of size at most 1"),
        (broken(target={"anchor": "goal", "offset": [0, 0, True]}), "found True"),
        (broken(when="always"), "expected a list of conditions"),
        (broken(when=[{"feature": "gripper_to_objet", "op": "<", "value": 1}]), "did you mean 'gripper_to_object'"),
        (broken(when=[{"feature": "gripper_z", "op": "==", "value": 1}]), "found operator '=='"),
        (broken(when=[{"feature": "gripper_z", "op": "<", "value": "__import__('os')"}]), "expected a finite number"),
        (broken(when=[{"feature": "gripper_z", "op": "<", "value": 1e999}]), "finite number"),
        (broken(when=[{"feature": "gripper_z", "op": "<", "value": float("nan")}]), "finite number"),
        ("x" * 200_000, "200000 characters"),
        ('{"steps":' + "[" * 5000, "no complete JSON object"),
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
    compiled = CompiledPlaybook(book, MetaWorldGrounding.vocabulary)
    active = compiled.active(values)
    assert active.tolist() == [slow_active(book, dict(zip(names, row, strict=True))) for row in values]
    anchors = rng.normal(size=(20, len(ANCHORS), 3))
    targets = compiled.targets(active, anchors)
    for i in range(len(values)):
        chosen = book.steps[int(active[i])].target
        assert chosen is not None
        np.testing.assert_allclose(targets[i], anchors[i, ANCHORS.index(chosen.anchor)] + np.array(chosen.offset))


def test_playbooks_survive_json(playbooks: dict[str, Playbook]) -> None:
    for book in playbooks.values():
        assert read_playbook(json.loads(json.dumps(write_playbook(book))), MetaWorldGrounding.vocabulary) == book


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": {"anchor": "moon", "offset": [0, 0, 0]}}, r"expected an anchor \(gripper"),
        ({"target": {"anchor": "goal", "offset": [0, 0]}}, "an offset of three numbers"),
        ({"when": [{"feature": "warmth", "op": "<", "value": 0}]}, "a condition on 'warmth'"),
        ({"skill": ""}, "expected a sentence"),
    ],
)
def test_playbooks_on_disk_are_checked_as_answers_are(
    playbooks: dict[str, Playbook], change: dict[str, Any], message: str
) -> None:
    raw = write_playbook(playbooks["push"])
    raw["steps"][0] |= change
    with pytest.raises(PlanError, match=message):
        read_playbook(raw, MetaWorldGrounding.vocabulary)
    with pytest.raises(PlanError, match="expected task_id, steps, transcript_key and model"):
        read_playbook({"steps": []}, MetaWorldGrounding.vocabulary)


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


def test_a_playbook_survives_the_form_in_which_it_is_edited(playbooks: dict[str, Playbook]) -> None:
    for book in playbooks.values():
        again = parse_playbook(
            playbook_json(book), book.task_id, MetaWorldGrounding.vocabulary, book.transcript_key, "claude"
        )
        assert again == book
