from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lago_skills.core import ActionSpace, Condition, Feature, Playbook, Step, Target, Task, Vocabulary
from lago_skills.errors import ArtifactCorrupt, PlanError, StudyError, TranscriptMissing
from lago_skills.experiments.baselines import direct
from lago_skills.llm.batch import export_requests, import_responses
from lago_skills.llm.transcripts import HUMAN, Request, Transcript, TranscriptFile, answered
from lago_skills.planner import scenes
from lago_skills.planner.ask import BEST, Plan, Planner, playbook_json, rounds
from lago_skills.planner.findings import Finding, LintFile, LintRecord
from lago_skills.planner.lint import Trace, lint_demonstrations, lint_logic, lint_rollouts
from lago_skills.planner.parse import parse_playbook
from lago_skills.planner.requests import playbook_request
from lago_skills.planner.scenes import Scene
from lago_skills.planner.wordings import Wordings, wordings_requests
from lago_skills.playbook import CompiledPlaybook, read_playbook, write_playbook
from lago_skills.stages.planning import measured_motions
from lago_skills.stages.workspace import open_workspace
from lago_skills.worlds.metaworld.grounding import ANCHORS, METAWORLD_FEATURES, MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import GROUPS, expand
from lago_skills.worlds.own import NamedEntries, load_grounding
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
    return parse_playbook(text, "push", MetaWorldGrounding.vocabulary, "k" * 64, "model")


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
    """Every recorded answer belongs to a request that would be asked today: a playbook, its repair, a brief one, one in words, wordings, or names of motions."""
    every = expand(["ten", "eight", "twelve", "twenty"])
    plans = committed_planner.plans(TEN, every[10:]).values()
    brief = replace(committed_planner, brief=True).plans(TEN, EIGHT).values()
    words = replace(committed_planner, form="words").plans(TEN, expand(["eight", "twelve"])).values()
    used = {version.transcript.id for found in (*plans, *brief, *words) for version in found.versions}
    wordings = {request.key for request in wordings_requests(every, every[:18], Wordings())}
    study = open_workspace(ROOT, ROOT / "data/studies/measured_motions.toml")
    used |= {answer.id for answer in measured_motions.naming(study, committed_planner.transcripts).answers.values()}
    starts = open_workspace(ROOT, ROOT / "data/studies/metaworld.toml")
    wordings |= {request.key for request in direct.requests(starts)}
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
        answered += import_responses(tmp_path / "responses.jsonl", missing, ours.transcripts, "claude", "test")
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
        ({"custom_id": missing[0].key, "response": {}}, "lacks custom_id or response"),
        (
            {"custom_id": missing[0].key, "response": {"body": {"choices": [{"message": {"content": None}}]}}},
            "expected text",
        ),
        ({"custom_id": missing[0].custom_id, "error": {"message": "rate limit"}}, "holds an error .*rate limit"),
    ]
    for line, message in cases:
        path.write_text(json.dumps(line))
        with pytest.raises(PlanError, match=message):
            import_responses(path, missing, ours.transcripts, "m", "test")
    path.write_text("not json")
    with pytest.raises(PlanError, match="cannot be read"):
        import_responses(path, missing, ours.transcripts, "m", "test")
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


# Lint ----------------------------------------------------------------------------------------------------------------

CART = Vocabulary((Feature("x", "m", "position", -1.0, 1.0), Feature("v", "m/s", "speed", 0.0, 5.0)), ())


def cart(*whens: list[tuple[str, str, float]]) -> Playbook:
    steps = tuple(
        Step(f"step {i}", None, tuple(Condition(name, "<" if op == "<" else ">", value) for name, op, value in when))
        for i, when in enumerate(whens, start=1)
    )
    return Playbook("cart", steps, "key", "model")


def kinds(findings: tuple[Finding, ...]) -> list[tuple[str, int]]:
    return [(finding.kind, finding.step) for finding in findings]


@pytest.mark.parametrize(
    ("book", "expected"),
    [
        (cart([("x", "<", 0.5)], []), []),
        (cart([("x", "<", -1.0)], []), [("impossible", 1)]),
        (cart([("v", ">", 5.0)], []), [("impossible", 1)]),
        (cart([("x", "<", 0.1), ("x", ">", 0.2)], []), [("impossible", 1)]),
        (cart([], []), [("shadowed", 2)]),
        (cart([("x", "<", 0.5)], [("x", "<", 0.3)], []), [("shadowed", 2)]),
        (cart([("x", "<", 0.3)], [("x", "<", 0.5)], []), []),
        (cart([("x", "<", 0.5)], [("x", "<", 0.3), ("v", ">", 1.0)], []), [("shadowed", 2)]),
        (cart([("x", "<", 0.5), ("v", ">", 1.0)], [("x", "<", 0.3)], []), []),
        (cart([("x", "<", 2.0)], []), [("shadowed", 2)]),  # the feature is never above 1
    ],
)
def test_logic_finds_what_no_state_can_meet(book: Playbook, expected: list[tuple[str, int]]) -> None:
    assert kinds(lint_logic(book, CART)) == expected


@given(st.integers(0, 2**32 - 1))
def test_a_shadowed_step_is_never_active(seed: int) -> None:
    """Whatever logic calls impossible or shadowed is active in no state within the features' bounds."""
    rng = np.random.default_rng(seed)

    def conditions() -> list[tuple[str, str, float]]:
        draws = range(rng.integers(0, 3))
        return [("xv"[rng.integers(2)], "<>"[rng.integers(2)], float(rng.integers(-3, 6)) / 2) for _ in draws]

    book = cart(conditions(), conditions(), conditions(), [])
    states = np.stack([rng.uniform(-1, 1, 2000), rng.uniform(0, 5, 2000)], axis=1)
    active = set(CompiledPlaybook(book, CART).active(states).tolist())
    for finding in lint_logic(book, CART):
        if finding.step < len(book.steps):
            assert finding.step - 1 not in active, finding


def trace(xs: list[float], ended: bool = False) -> Trace:
    return Trace(np.stack([np.array(xs), np.zeros(len(xs))], axis=1), ended)


def test_demonstrations_find_steps_that_are_never_active_and_why() -> None:
    book = cart([("x", ">", 0.9)], [("x", ">", 0.5), ("v", "<", 1.0)], [])
    good = trace(list(np.linspace(0, 1, 50)), ended=True)
    assert lint_demonstrations(book, CART, [good] * 3) == ()
    short = trace(list(np.linspace(0, 0.6, 50)), ended=True)
    found = lint_demonstrations(book, CART, [short] * 3)
    assert kinds(found) == [("unmet", 1), ("unfinished", 0)]
    assert "x was 0.00 to 0.60, median 0.30" in found[0].text
    apart = cart([("x", ">", 0.5), ("x", "<", 0.52)], [])
    jump = trace([0.0] * 25 + [1.0] * 25, ended=True)
    assert ("never-active", 1) in kinds(lint_demonstrations(apart, CART, [jump]))
    assert lint_demonstrations(book, CART, []) == ()


def test_chattering_is_two_steps_that_hand_over_and_back() -> None:
    book = cart([("x", ">", 0.5)], [])
    flicker = trace([0.4, 0.6] * 50)
    steady = trace([0.4] * 50 + [0.6] * 50)
    assert ("chatters", 1) in kinds(lint_rollouts(book, CART, [flicker]))
    assert ("chatters", 1) not in kinds(lint_rollouts(book, CART, [steady]))


def test_rollouts_find_where_a_plan_gets_stuck() -> None:
    book = cart([("x", ">", 0.9)], [("x", ">", 0.5)], [])
    never = trace([0.1] * 200)
    stuck = trace([0.1] * 50 + [0.7] * 150)
    around = trace(([0.1] * 20 + [0.7] * 20 + [0.95] * 10) * 4)
    solved = trace([0.1, 0.7, 0.95], ended=True)
    assert ("never-starts", 3) in kinds(lint_rollouts(book, CART, [never] * 4))
    found = lint_rollouts(book, CART, [stuck] * 4)
    assert ("stuck", 2) in kinds(found)
    assert "x 0.70" in next(finding.text for finding in found if finding.kind == "stuck")
    found = lint_rollouts(book, CART, [around] * 4)
    assert kinds(found) == [("stuck", 0)]
    assert "hands over mostly to step 2" in found[0].text
    assert lint_rollouts(book, CART, [solved] * 9 + [never]) == (), "a plan that nearly always works is left alone"


def test_lint_results_survive_the_file_and_bad_lines_are_named(tmp_path: Path) -> None:
    file = LintFile(tmp_path / "lint.jsonl")
    record = LintRecord("a1", "push", (Finding("stuck", 2, "why"),), 5, 25, 20, 3000)
    file.append(LintRecord("a1", "push", (), 5, 0, 0, 0))
    file.append(record)
    assert LintFile(tmp_path / "lint.jsonl").get("a1") == record
    assert record.score == pytest.approx(0.79)
    with (tmp_path / "lint.jsonl").open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(PlanError, match="line 3 of lint file"):
        LintFile(tmp_path / "lint.jsonl")


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


def test_a_repair_that_is_worse_is_not_used(tmp_path: Path, committed_planner: Planner) -> None:
    ours = small_planner(tmp_path, committed_planner)
    answer(ours, IMPOSSIBLE)
    answer(ours, "sorry")
    assert push(ours).chosen is push(ours).versions[0] or push(ours).book == push(ours).versions[0].playbook
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


def test_a_playbook_survives_the_form_in_which_it_is_edited(playbooks: dict[str, Playbook]) -> None:
    for book in playbooks.values():
        again = parse_playbook(
            playbook_json(book), book.task_id, MetaWorldGrounding.vocabulary, book.transcript_key, "claude"
        )
        assert again == book


def test_every_scene_is_within_the_features_bounds(committed_planner: Planner) -> None:
    """Logic relies on the bounds: no start of the fifty tasks and no demonstration may leave them."""
    for scene in committed_planner.scenes.values():
        for ranges in (scene.start, scene.demonstrations or {}):
            for feature in METAWORLD_FEATURES:
                if feature.name in ranges:
                    low, high = ranges[feature.name]
                    assert feature.low <= low <= high <= feature.high, (scene.task_id, feature.name)


# Environments of one's own ---------------------------------------------------------------------------------------------


def entries(**changes: Any) -> NamedEntries:
    feature = Feature("angle", "rad", "angle of the pole", -0.4, 0.4)
    settings: dict[str, Any] = {
        "entries": {"angle": (2, feature)},
        "world": "w",
        "observation_size": 4,
        "action_space": ActionSpace(1),
    }
    return NamedEntries(**{**settings, **changes})


def test_named_entries_are_features_without_anchors() -> None:
    grounding = entries()
    rows = np.array([[0.0, 0.0, 0.2, 0.0], [0.0, 0.0, -0.4, 9.0]])
    np.testing.assert_allclose(grounding.read(rows).values, [[0.2], [-0.4]])
    np.testing.assert_allclose(grounding.read(rows).inputs(np.zeros((2, 0))), [[0.5], [-1.0]])
    assert grounding.read(rows).anchors.shape == (2, 0, 0)
    assert grounding.variation is None
    assert grounding.heading_size == 0
    prompt = playbook_request(
        Task("t", "keep it up", "CartPole-v1"), grounding, {"t": Scene("t", {"angle": (-0.4, 0.4)})}, []
    ).prompt
    for word in ("gripper", "robot", "target"):
        assert word not in prompt
    assert "angle | rad | -0.4..0.4 | angle of the pole" in prompt
    book = CompiledPlaybook(Playbook("t", (Step("hold", None),), "k", "m"), grounding.vocabulary)
    assert book.targets(np.zeros(2, np.int64), grounding.read(rows).anchors).shape == (2, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entries": {}}, "without features"),
        ({"observation_size": 2}, r"angle.index = 2; expected 0 to 1"),
        ({"entries": {"a": (0, Feature("a", "m", "s", 1.0, 1.0))}}, "smallest value first"),
        ({"entries": {n: (0, Feature(n, "m", "s", 0.0, 1.0)) for n in "ab"}}, "both with index 0"),
    ],
)
def test_inconsistent_names_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        entries(**changes)


def test_a_grounding_class_is_loaded_and_checked() -> None:
    assert load_grounding("lago_skills.worlds.metaworld.grounding:MetaWorldGrounding").observation_size == 39
    with pytest.raises(StudyError, match="cannot be loaded"):
        load_grounding("no_such_module:Thing")
    with pytest.raises(StudyError, match="without observation_size"):
        load_grounding("collections:Counter")
