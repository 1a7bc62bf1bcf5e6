"""Data without playbooks: change points, kinds of motion, their names from recorded answers, and what comes of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lago_skills.commands.cli import main
from lago_skills.commands.stages import STAGES
from lago_skills.core import ActionSpace, Episode, Feature, Segment
from lago_skills.data.change_points import cut, signals
from lago_skills.data.episodes import save_episodes
from lago_skills.data.motion_clusters import Motions, find_motions, motion_segments
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.dataset import labelled_steps
from lago_skills.errors import PlanError
from lago_skills.llm.transcripts import TranscriptFile, answered
from lago_skills.planner.motion_names import GROUP, naming_request, parse_names, read_names
from lago_skills.stages import build, collect, plan, segment
from lago_skills.stages.planning import motions
from lago_skills.stages.workspace import Workspace
from lago_skills.study import load_study
from lago_skills.worlds.metaworld.env import MetaWorldEnv
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.metaworld.world import demonstrate
from lago_skills.worlds.own import NamedEntries
from tests.endpoint import PLAYBOOK, Endpoint, Reply, study_toml

Lago = Callable[..., tuple[int, str, str]]


def cost(signal: NDArray[np.float64], cuts: list[int], penalty: float) -> float:
    """The objective, written down naively."""
    price = penalty * (signal.shape[1] + 1) * np.log(len(signal))
    parts = [signal[a:b] for a, b in itertools.pairwise(cuts)]
    return sum(float(((part - part.mean(axis=0)) ** 2).sum()) for part in parts) + price * (len(parts) - 1)


@settings(max_examples=60, deadline=None)
@given(
    data=st.integers(0, 2**31),
    n_steps=st.integers(1, 14),
    n_parts=st.integers(1, 3),
    penalty=st.sampled_from([0.05, 0.3, 1.0]),
    min_steps=st.integers(1, 4),
)
def test_cuts_are_the_cheapest_of_all(data: int, n_steps: int, n_parts: int, penalty: float, min_steps: int) -> None:
    rng = np.random.default_rng(data)
    signal = rng.normal(size=(n_steps, n_parts)) + np.repeat(rng.normal(0, 3, (n_steps, n_parts)), 5, axis=0)[:n_steps]
    found = cut(signal, penalty, min_steps)
    assert found[0] == 0
    assert found[-1] == n_steps
    assert min(np.diff(found)) >= min(min_steps, n_steps)
    every = [
        [0, *inner, n_steps]
        for n in range(n_steps)
        for inner in itertools.combinations(range(1, n_steps), n)
        if min(np.diff([0, *inner, n_steps])) >= min(min_steps, n_steps)
    ]
    assert cost(signal, found, penalty) == pytest.approx(min(cost(signal, cuts, penalty) for cuts in every))


def test_a_long_signal_is_cut_where_it_was_made_to_change() -> None:
    rng = np.random.default_rng(0)
    levels = np.repeat(rng.normal(0, 4, (6, 3)), [40, 25, 90, 15, 70, 60], axis=0)
    found = cut(levels + rng.normal(size=levels.shape), 3.0, 5)
    assert found == pytest.approx([0, 40, 65, 155, 170, 240, 300], abs=1)


# A world of one point on a line: it goes right, waits, and comes back ------------------------------------------------

LINE = {
    "x": (0, Feature("x", "m", "where the point is", -2.0, 2.0)),
    "still": (1, Feature("still", "1", "never", 0, 1)),
}
PHASES = ((1.0, 12), (0.0, 10), (-1.0, 12))


def line() -> NamedEntries:
    return NamedEntries(LINE, "A point on a line.", 2, ActionSpace(1))


def there_and_back(seed: int, task: str = "task-0", *, discrete: bool = False) -> Episode:
    rng = np.random.default_rng(seed)
    speeds = np.concatenate([np.full(n + int(rng.integers(-2, 3)), speed) for speed, n in PHASES])
    moves = np.clip(speeds + rng.normal(0, 0.05, len(speeds)), -1, 1)
    x = np.concatenate([[0.0], np.cumsum(moves) * 0.1])
    observations = np.stack([x, np.ones(len(x))], axis=1).astype(np.float32)
    actions = (np.round(speeds).astype(np.int64) + 1) if discrete else moves[:, None].astype(np.float32)
    return Episode(task, seed, observations, actions, np.eye(len(moves), dtype=np.float32)[-1], True)


def found_in(episodes: list[Episode]) -> Motions:
    return find_motions("task-0", episodes, line(), 3.0, 5, 8)


@pytest.mark.parametrize("discrete", [False, True])
def test_three_phases_are_three_kinds_of_motion(discrete: bool) -> None:
    episodes = [there_and_back(seed, discrete=discrete) for seed in range(5)]
    known = found_in(episodes)
    assert [motion.number for motion in known.motions] == [1, 2, 3]
    assert [(motion.n_segments, motion.n_episodes) for motion in known.motions] == [(5, 5)] * 3
    right, waits, back = known.motions
    assert set(right.start) == {"x"}, "a number that never changes is not shown"
    assert right.start["x"] == 0.0
    assert right.end["x"] > 0.8
    assert waits.end["x"] == pytest.approx(waits.start["x"], abs=0.1)
    assert back.end["x"] == pytest.approx(0.0, abs=0.3)
    if discrete:
        assert right.action == pytest.approx((0.0, 0.0, 1.0), abs=0.1)
    else:
        assert right.action == pytest.approx((1.0,), abs=0.1)
    names = {1: "go right", 2: "wait", 3: "go left"}
    found = motion_segments(known, episodes, line(), 3.0, 5, names)
    for index, run in enumerate(episodes):
        own = [s for s in found if s.episode == index]
        assert [s.skill for s in own] == ["go right", "wait", "go left"]
        assert [own[0].start, *(s.stop for s in own)] == [0, own[1].start, own[2].start, len(run.actions)]
        true = np.flatnonzero(np.diff(np.round(np.diff(run.observations[:, 0]) * 10))) + 1
        assert [s.start for s in own[1:]] == pytest.approx(true.tolist(), abs=1)
        assert {s.cut for s in own} == {"change points"}
    alike = motion_segments(known, episodes, line(), 3.0, 5, {1: "move", 2: "move", 3: "go left"})
    assert [s.skill for s in alike if s.episode == 0] == ["move", "go left"], "neighbours of one name are one segment"
    new = motion_segments(known, [there_and_back(9, discrete=discrete)], line(), 3.0, 5, names)
    assert [s.skill for s in new] == ["go right", "wait", "go left"], "new data is compared with what was measured"


def test_data_with_nothing_to_tell_apart_is_one_motion() -> None:
    still = Episode(
        "task-0", 0, np.ones((8, 2), np.float32), np.zeros((7, 1), np.float32), np.zeros(7, np.float32), True
    )
    short = Episode(
        "task-0", 1, np.ones((2, 2), np.float32), np.zeros((1, 1), np.float32), np.ones(1, np.float32), True
    )
    for episodes in ([still], [short], [still, short]):
        known = found_in(episodes)
        assert len(known.motions) == 1
        assert known.motions[0].start == {}
        found = motion_segments(known, episodes, line(), 3.0, 5, {1: "wait"})
        assert [(s.start, s.stop) for s in found] == [(0, len(e.actions)) for e in episodes]
        assert all(np.isfinite(row).all() for row in signals(episodes, line()))


def test_segments_head_for_where_the_gripper_went() -> None:
    env = MetaWorldEnv(find_task("push"))
    run = demonstrate(env, 1_000_000, 0.1)
    env.close()
    grounding = MetaWorldGrounding()
    known = find_motions("push", [run], grounding, 3.0, 5, 8)
    assert "object_x" in known.motions[0].start or "gripper_x" in known.motions[0].start
    assert not any("object2" in name for name in known.motions[0].start), "there is no second object"
    names = {motion.number: f"motion {motion.number}" for motion in known.motions}
    found = motion_segments(known, [run], grounding, 3.0, 5, names)
    assert len(found) >= 2
    embeddings = {name: np.ones(4, np.float32) for name in names.values()}
    config = DecoderConfig(hindsight_share=0.0)
    steps = labelled_steps({"push": [run]}, {}, found, embeddings, grounding, config)
    path = grounding.read(run.observations.astype(np.float64)).anchors[:, 0]
    first = found[0]
    heading = path[first.stop] - path[first.start : first.stop]
    np.testing.assert_allclose(steps.inputs[: first.stop, :3], heading * 5.0, atol=1e-5)


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


@pytest.fixture
def lago(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lago:
    def run(*arguments: str) -> tuple[int, str, str]:
        def stages(space: Workspace, names: list[str]) -> None:
            for name in names:
                run_stage(space, name)

        code = main(["--root", str(tmp_path), *arguments], stages)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


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


def test_from_files_to_labelled_steps_by_recorded_answers(lago: Lago, tmp_path: Path) -> None:
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
    found, embeddings = segment.load(space)
    assert [s.skill for s in found if s.episode == 0] == ["move 1", "move 2", "move 3"]
    assert set(embeddings) == {"move 1", "move 2", "move 3"}
    steps = labelled_steps(
        collect.episodes(space), plan.playbooks(space), found, embeddings, space.study.grounding, DecoderConfig()
    )
    assert len(steps.actions) == sum(len(e.actions) for e in collect.episodes(space)["task-0"])
    small = space.study.model_copy(update={"decoder": DecoderConfig(n_updates=30, hidden_sizes=(16,), algorithm="bc")})
    for stage in ("pretrain", "build"):
        run_stage(replace(space, study=small), stage)
    guide = build.guide(space)
    assert {skill.sentence for skill in guide.library.list()} == {"move 1", "move 2", "move 3"}
    assert guide.prior(np.zeros((2, space.study.grounding.observation_size)), "task-1").greedy().shape[0] == 2
    before = motions.motions_path(space).read_text()
    assert lago("plan", "cart", "--segments")[0] == 0
    assert motions.motions_path(space).read_text() == before, "the same data, the same numbers"


def plan_with_the_words_of_the_data(lago: Lago, tmp_path: Path, space: Workspace, request: dict[str, Any]) -> None:
    known = motions.load(space)
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
    known = motions.load(space)
    first = {f"task-{i}": known[f"task-{i}"] for i in range(GROUP)}
    answer(lago, tmp_path, request, names_answer(first, "glide"))
    (request,) = export(lago, tmp_path)
    assert request["custom_id"].startswith(f"motions/task-{GROUP}#")
    assert "- glide 2\n" in request["body"]["messages"][0]["content"]
    with pytest.raises(PlanError, match=f"no names for the motions of task-{GROUP};"):
        motions.complete(space, TranscriptFile(plan.transcripts_path(space)))


def test_a_bad_answer_is_told_and_another_one_taken(lago: Lago, tmp_path: Path) -> None:
    space = space_of(tmp_path)
    run_stage(space, "collect")
    (request,) = export(lago, tmp_path)
    known = motions.load(space)
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
    assert motions.complete(space, TranscriptFile(plan.transcripts_path(space))).words == ("move 1", "move 2", "move 3")


def test_an_endpoint_names_motions_and_is_asked_once(lago: Lago, tmp_path: Path) -> None:
    space = space_of(tmp_path)
    run_stage(space, "collect")
    motions.measure(space, lambda text: None, again=False)
    known = motions.load(space)
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
    path = motions.motions_path(space)
    path.parent.mkdir(parents=True)
    for text in ("{", '{"task-0": {"motions": [{}]}}'):
        path.write_text(text)
        with pytest.raises(PlanError, match=r"motion file .* cannot be read.*lago plan cart --segments"):
            motions.load(space)


def test_old_segments_were_cut_by_playbooks() -> None:
    old = Segment("push", 0, 0, 5, 1, "go")
    assert old.cut == "playbook"
    new = Segment("door", 0, 0, 5, 1, "go", "change points")
    assert segment.provenance([new, old]) == {"tasks": ["door", "push"], "cut": ["change points", "playbook"]}
