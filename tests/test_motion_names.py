"""Kinds of motion get their names from recorded answers, and what comes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.commands.stages import STAGES
from lago_skills.core import Segment
from lago_skills.data.episodes import save_episodes
from lago_skills.data.motion_clusters import Motions
from lago_skills.decoder.config import DecoderConfig
from lago_skills.errors import PlanError
from lago_skills.llm.transcripts import TranscriptFile, answered
from lago_skills.planner.motion_names import GROUP, naming_request, parse_names, read_names
from lago_skills.stages import build, collect, segment
from lago_skills.stages.planning import measured_motions
from lago_skills.stages.workspace import Workspace
from lago_skills.study import load_study
from tests.conftest import Lago
from tests.endpoint import PLAYBOOK, Endpoint, Reply, study_toml
from tests.line_world import found_in, line, there_and_back

# Names ---------------------------------------------------------------------------------------------------------------


def names_answer(tasks: dict[str, Motions], word: str = "move") -> str:
    said = [
        {"task": name, "motion": motion.number, "skill": f"{word} {motion.number}"}
        for name, known in tasks.items()
        for motion in known.motions
    ]
    return "Here you are:\n" + json.dumps({"names": said}) + "\nGood luck!"


def space_of(folder: Path, *, data: bool = True, n_seen: int = 1) -> Workspace:
    """A study of a line: `n_seen` tasks with data and without playbooks, and one unseen task."""
    text = study_toml("http://127.0.0.1:9/v1", n_seen + 1).replace("seen = ['task-0']", "")
    seen = [f"task-{i}" for i in range(n_seen)]
    text = text.replace('seen = ["task-0"]', f"seen = {seen}")
    text = text.replace(f"unseen = {[f'task-{i}' for i in range(1, n_seen + 1)]}", f"unseen = ['task-{n_seen}']")
    text = text.replace("CartPole-v1", "Line-v0")  # which is not installed: the study file says what its spaces are
    start, end = text.index("[environment]"), text.index("[plan.live]")
    environment = (
        '[environment]\nworld = "A point on a line."\nobservation_size = 2\naction_size = 1\n'
        '[environment.features.x]\nindex = 0\nunit = "m"\nrange = [-2, 2]\nsentence = "where the point is"\n'
        f"[segment]\nchange_points = {seen}\n[collect]\nepisodes_per_task = 0\n"
    )
    environment += '[[data]]\npath = "line.npz"\ntask = "task-0"\n' if data else ""
    for name in seen[1:]:
        environment += f'[[data]]\npath = "line.npz"\ntask = "{name}"\n'
    path = folder / "data" / "studies" / "cart.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text[:start] + environment + text[end:])
    save_episodes(folder / "line.npz", [there_and_back(seed) for seed in range(4)])
    return Workspace(folder, path, load_study(path))


def run_stage(space: Workspace, name: str) -> None:
    for job in STAGES[name](space):
        job.run(lambda done, note: None)


def export(lago: Lago, folder: Path, *options: str) -> list[dict[str, Any]]:
    code, _, err = lago("plan", "cart", "--export", str(folder / "requests.jsonl"), *options)
    assert code == 0, err
    return [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]


def answer(lago: Lago, folder: Path, request: dict[str, Any], text: str) -> tuple[int, str, str]:
    body = {"choices": [{"message": {"content": text}}]}
    line = {"custom_id": request["custom_id"], "response": {"body": body}}
    (folder / "responses.jsonl").write_text(json.dumps(line))
    return lago("plan", "cart", "--import", str(folder / "responses.jsonl"), "--model", "m")


LINE_BOOK = """{"steps": [
  {"skill": "move 3", "when": [{"feature": "x", "op": ">", "value": 0.5}]},
  {"skill": "move 1", "when": []}
]}"""


def test_from_files_to_a_guide_by_recorded_answers(lago: Lago, tmp_path: Path) -> None:
    space = space_of(tmp_path)
    code, _, err = lago("plan", "cart", "--export", str(tmp_path / "requests.jsonl"))
    assert code == 2
    assert "run: lago collect cart" in err
    run_stage(space, "collect")
    code, _, err = lago("plan", "cart")
    assert code == 2
    assert "found no names for the motions of task-0; expected a recorded answer" in err
    (request,) = export(lago, tmp_path)
    assert request["custom_id"].startswith("motions/task-0#")
    prompt = request["body"]["messages"][0]["content"]
    assert "A point on a line." in prompt
    assert 'task-0: "keep the pole upright, way 0"' in prompt
    assert "Motion 3: 4 pieces in 4 episodes" in prompt
    assert "x (m): where the point is" in prompt
    assert "gripper" not in prompt
    plan_with_the_words_of_the_data(lago, tmp_path, space, request)
    run_stage(space, "segment")
    (job,) = segment.jobs(space)
    assert job.done
    assert job.recipe["names"]["task-0"][1] == "m"
    found, embeddings = segment.load(space.artifact("segments"))
    assert [s.skill for s in found if s.episode == 0] == ["move 1", "move 2", "move 3"]
    assert set(embeddings) == {"move 1", "move 2", "move 3"}
    steps = segment.labelled(space).steps(DecoderConfig())
    assert len(steps.actions) == sum(len(e.actions) for e in collect.load(space.collected)["task-0"])
    small = space.study.model_copy(update={"decoder": DecoderConfig(n_updates=300, hidden_sizes=(32,), algorithm="bc")})
    for stage in ("pretrain", "build"):
        run_stage(replace(space, study=small), stage)
    guide = build.guide(space.artifact("bundle"), space.study.grounding)
    assert {skill.sentence for skill in guide.library.list()} == {"move 1", "move 2", "move 3"}
    there, back = guide.prior(np.array([[0.2, 1.0], [0.9, 1.0]]), "task-1").greedy()[:, 0]
    assert there > 0.3, "move 1 goes right"
    assert back < -0.3, "and move 3, beyond a half, back"
    before = space.motions.read_text()
    assert lago("plan", "cart", "--segments")[0] == 0
    assert space.motions.read_text() == before, "the same data, the same numbers"


def plan_with_the_words_of_the_data(lago: Lago, tmp_path: Path, space: Workspace, request: dict[str, Any]) -> None:
    known = measured_motions.load(space.motions)
    code, _, err = answer(lago, tmp_path, request, names_answer({"task-0": known["task-0"]}))
    assert code == 0, err
    assert "1 requests are open now" in err, "now the unseen task can be planned, with the words of the data"
    (request,) = export(lago, tmp_path)
    assert request["custom_id"].startswith("plan/task-1#")
    assert "- move 1\n- move 2\n- move 3\n" in request["body"]["messages"][0]["content"]
    code, _, err = answer(lago, tmp_path, request, LINE_BOOK)
    assert code == 0, err
    assert export(lago, tmp_path) == []
    code, out, err = lago("plan", "cart", "--json")
    assert code == 0, err
    assert [row["task"] for row in json.loads(out)["rows"]] == ["task-1"]


def test_later_requests_list_the_sentences_of_earlier_ones(lago: Lago, tmp_path: Path) -> None:
    space = space_of(tmp_path, n_seen=GROUP + 1)
    run_stage(space, "collect")
    (request,) = export(lago, tmp_path)
    known = measured_motions.load(space.motions)
    first = {f"task-{i}": known[f"task-{i}"] for i in range(GROUP)}
    answer(lago, tmp_path, request, names_answer(first, "glide"))
    (request,) = export(lago, tmp_path)
    assert request["custom_id"].startswith(f"motions/task-{GROUP}#")
    assert "- glide 2\n" in request["body"]["messages"][0]["content"]
    with pytest.raises(PlanError, match=f"no names for the motions of task-{GROUP};"):
        measured_motions.complete(space.study, measured_motions.load(space.motions), TranscriptFile(space.transcripts))


def test_a_bad_answer_is_told_and_another_one_taken(lago: Lago, tmp_path: Path) -> None:
    space = space_of(tmp_path)
    run_stage(space, "collect")
    (request,) = export(lago, tmp_path)
    known = measured_motions.load(space.motions)
    short = json.loads(names_answer(known).split("\n")[1])
    del short["names"][1]
    code, _, err = answer(lago, tmp_path, request, json.dumps(short))
    assert code == 0
    assert "1 requests are open now" in err
    code, _, err = lago("plan", "cart")
    assert code == 2
    assert "found None as the name of motion 2 of task 'task-0'" in err
    assert "answer of m" in err
    assert answer(lago, tmp_path, export(lago, tmp_path)[0], names_answer(known))[0] == 0
    assert measured_motions.complete(
        space.study, measured_motions.load(space.motions), TranscriptFile(space.transcripts)
    ).words == (
        "move 1",
        "move 2",
        "move 3",
    )


def test_an_endpoint_names_motions_and_is_asked_once(lago: Lago, tmp_path: Path) -> None:
    space = space_of(tmp_path)
    run_stage(space, "collect")
    measured_motions.measure(space, lambda text: None, again=False)
    known = measured_motions.load(space.motions)
    for good in (False, True):

        def behave(before: int, body: dict[str, Any], good: bool = good) -> Reply:
            asked = "Name every kind of motion" in body["messages"][0]["content"]
            if asked:
                return Reply(names_answer(known) if good else "I cannot say.")
            return Reply(json.dumps(PLAYBOOK).replace("pole_angle", "x"))

        with Endpoint(behave) as endpoint:
            text = space.study_file.read_text()
            address = text.split('base_url = "')[1].split('"')[0]
            space.study_file.write_text(text.replace(address, endpoint.url))
            code, _, err = lago("plan", "cart", "--live", "--model", f"model-{good}")
        assert len(endpoint.bodies) == (2 if good else 1)
        assert (code == 0) == good, err
        assert good or "found no names of motions in an answer" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found no names of motions in an answer"),
        ('{"names": [{"task": "task-0"}]}', "KeyError"),
        ('{"names": [{"task": "task-0", "motion": "one", "skill": "go"}]}', "ValueError"),
        ('{"names": []}', "found None as the name of motion 1"),
        ('{"names": [{"task": "task-0", "motion": 1, "skill": "   "}]}', "as the name of motion 1"),
        ('{"names": [{"task": "task-0", "motion": 1, "skill": "a\\u0000b"}]}', "without control characters"),
        (json.dumps({"names": [{"task": "task-0", "motion": 1, "skill": "go " * 10_000}]}), "at most 500 characters"),
    ],
)
def test_answers_that_name_nothing_are_one_sentence(text: str, message: str) -> None:
    task = load_task()
    known = found_in([there_and_back(seed) for seed in range(3)])
    with pytest.raises(PlanError, match=message) as caught:
        parse_names(text, [(task, known)])
    assert len(str(caught.value)) < 400


def load_task() -> Any:
    from lago_skills.core import Task

    return Task("task-0", "go there and come back", "Line-v0")


def test_names_in_any_language_are_taken(tmp_path: Path) -> None:
    known = found_in([there_and_back(seed) for seed in range(3)])
    tasks = [(load_task(), known)]
    transcripts = TranscriptFile(tmp_path / "t.jsonl")
    request = naming_request(tasks, line(), [])
    said = [{"task": "task-0", "motion": i, "skill": s} for i, s in enumerate(("nach  rechts", "待つ", "вернуться"), 1)]
    transcripts.append(answered(request, json.dumps({"names": said}, ensure_ascii=False), "m", "test"))
    assert read_names(tasks, line(), transcripts, None).words == ("nach rechts", "待つ", "вернуться")
    assert read_names(tasks, line(), transcripts, "another").open == request


def test_a_damaged_motion_file_is_one_sentence(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    path = space.motions
    path.parent.mkdir(parents=True)
    for text in ("{", '{"task-0": {"motions": [{}]}}'):
        path.write_text(text)
        with pytest.raises(PlanError, match=r"motion file .* cannot be read.*lago plan cart --segments"):
            measured_motions.load(space.motions)


def test_old_segments_were_cut_by_playbooks() -> None:
    old = Segment("push", 0, 0, 5, 1, "go")
    assert old.cut == "playbook"
    new = Segment("door", 0, 0, 5, 1, "go", "change points")
    assert segment.provenance([new, old]) == {"tasks": ["door", "push"], "cut": ["change points", "playbook"]}
