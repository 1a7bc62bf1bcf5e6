"""Two small worlds walk the whole pipeline, as a user of another world would: scenes, plans, data, decoder, library, evaluation, learners, report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.commands.stages import STAGES
from lago_skills.guide.bundle import load_bundle
from lago_skills.guide.guides import NullGuide
from lago_skills.prior import ActionPrior, DiscretePrior
from lago_skills.rl.judged import Judged
from lago_skills.stages import collect
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.worlds.rollouts import record, rollouts
from lago_skills.worlds.seeds import EVAL_SEED
from lago_skills.worlds.world import World, find_world
from tests.conftest import ROOT, Lago
from tests.small_worlds import DialWorld, PlaneWorld

pytestmark = pytest.mark.slow

STUDY = """
name = "{name}"
[world]
use = "tests.small_worlds:{use}"
[tasks]
seen = [{seen}]
unseen = [{unseen}]
[collect]
episodes_per_task = 8
[plan]
form = "{form}"
[decoder]
{decoder}
hidden_sizes = [64, 64]
batch_size = 128
[zero_shot]
episodes = 5
[train]
tasks = [{unseen}]
algorithms = [{algorithms}]
seeds = [0]
final_episodes = 3
[train.sac]
n_steps = 300
random_steps = 100
eval_every = 300
eval_episodes = 2
hidden_size = 16
batch_size = 16
[train.ppo]
n_steps = 600
rollout_steps = 50
eval_every = 600
eval_episodes = 2
hidden_size = 16
minibatch_size = 25
"""
Answers = dict[str, list[dict[str, Any]]]
GO, CARRY = "drive straight to the parcel", "drive straight to the goal"
WITH_PARCEL = [{"feature": "cart_to_parcel", "op": "<", "value": 0.05}]
NUMBERS: Answers = {
    "visit": [{"skill": CARRY, "target": {"anchor": "goal", "offset": [0.0, 0.0]}, "when": []}],
    "fetch": [
        {"skill": CARRY, "target": {"anchor": "goal", "offset": [0.0, 0.0]}, "when": WITH_PARCEL},
        {"skill": GO, "target": {"anchor": "parcel", "offset": [0.0, 0.0]}, "when": []},
    ],
}
WORDS: Answers = {
    "visit": [{"skill": "drive straight to the thing", "about": ["goal"], "until": "at thing"}],
    "fetch": [
        {"skill": "drive straight to the thing", "about": ["parcel"], "until": "at thing"},
        {"skill": "drive with the thing to the place", "about": ["parcel", "goal"], "until": "thing at place"},
    ],
}
DIAL: Answers = {
    "raise": [{"skill": "turn it up", "when": []}],
    "lower": [{"skill": "turn it down", "when": []}],
    "set": [
        {"skill": "turn it up", "when": [{"feature": "mark", "op": ">", "value": 0.0}]},
        {"skill": "turn it down", "when": []},
    ],
}
for _plans in (NUMBERS, WORDS):
    _plans["fetch-south"] = _plans["fetch"]


def begin(folder: Path, name: str, use: str, form: str, **settings: str) -> Path:
    path = folder / "data/studies" / f"{name}.toml"
    path.parent.mkdir(parents=True)
    quoted = {key: ", ".join(f'"{each}"' for each in settings[key].split()) for key in ("seen", "unseen", "algorithms")}
    path.write_text(
        STUDY.format(name=name, use=use, form=form, decoder=settings.get("decoder", "n_updates = 600"), **quoted)
    )
    return path


def answer(lago: Lago, folder: Path, study: str, answers: Answers) -> list[str]:
    """Export, answer each task's request, import, until nothing is open; returns the prompts."""
    prompts: list[str] = []
    for _ in range(10):
        code, _, err = lago("plan", study, "--export", str(folder / "requests.jsonl"))
        assert code == 0, err
        lines: list[str] = []
        for line in (folder / "requests.jsonl").read_text().splitlines():
            request = json.loads(line)
            prompt = str(request["body"]["messages"][0]["content"])
            prompts.append(prompt)
            (task,) = [name for name in answers if f'"{find_task(study, name)}"' in prompt]
            body = {"choices": [{"message": {"content": json.dumps({"steps": answers[task]})}}], "model": "test"}
            lines.append(json.dumps({"custom_id": request["custom_id"], "response": {"body": body}}))
        if not lines:
            return prompts
        (folder / "responses.jsonl").write_text("\n".join(lines))
        code, _, err = lago("plan", study, "--import", str(folder / "responses.jsonl"), "--source", "a test")
        assert code == 0, err
    raise AssertionError("requests stay open")


def find_task(study: str, name: str) -> str:
    world = DialWorld() if study == "dial" else PlaneWorld()
    return world.tasks[name].sentence


def walk(lago: Lago, path: Path, answers: Answers) -> tuple[Workspace, list[str]]:
    folder, study = path.parent.parent.parent, path.stem
    code, _, err = lago("plan", study, "--scenes")
    assert code == 0, err
    prompts = answer(lago, folder, study, answers)
    for stage in STAGES:
        code, _, err = lago(stage, study)
        assert code == 0, (stage, err)
    return open_workspace(folder, path), prompts


@pytest.mark.parametrize(
    ("form", "answers", "decoder", "task"),
    [
        ("numbers", NUMBERS, "n_updates = 600", "fetch-south"),
        ("words", WORDS, "n_updates = 600", "fetch-south"),
        # A critic needs the step after, so that its states keep their context, and it knows the shown half of the plane alone.
        pytest.param(
            "numbers", NUMBERS, 'algorithm = "discrete-cql"\nn_updates = 1200', "fetch", marks=pytest.mark.long
        ),
    ],
)
def test_a_plane_with_discrete_actions_walks_the_pipeline(
    lago: Lago, tmp_path: Path, form: str, answers: Answers, decoder: str, task: str
) -> None:
    settings = {"seen": "shown", "unseen": "fetch-south", "algorithms": "ppo guided-ppo", "decoder": decoder}
    path = begin(tmp_path, "plane", "PlaneWorld", form, **settings)
    space, prompts = walk(lago, path, answers)
    for word in ("gripper", "robot", "finger", "metres", "height", "left, right or forward, only up"):
        found = [line for prompt in prompts for line in prompt.splitlines() if word in line]
        assert not found, found[:2]
    if form == "numbers":
        assert any('"offset" in yd [x, y]' in prompt and "[0.0, 0.0]}" in prompt for prompt in prompts)
    shown = collect.load(space.collected)
    assert all(each.discrete and each.actions.max() < 5 for runs in shown.values() for each in runs)
    # A guide from the bundle alone gives probabilities of five actions, and solves what nobody has shown.
    guide = load_bundle(space.artifact("bundle"))
    states = shown["fetch"][0].observations[:4].astype(np.float64)
    prior = guide.prior(states, "fetch-south")
    assert isinstance(prior, DiscretePrior)
    np.testing.assert_allclose(prior.probabilities().sum(axis=1), 1.0, rtol=1e-5)
    assert (NullGuide(guide.grounding.action_space).prior(states, "x").log_ratio(prior.mode()) == 0.0).all()
    world = PlaneWorld()
    results = rollouts(
        world,
        world.tasks[task],
        lambda observations: guide.prior(observations, task).greedy(),
        [EVAL_SEED + i for i in range(20)],
        lambda n: None,
    )
    assert np.mean([result.success for result in results]) >= 0.9
    page = next(space.artifact("report").glob("*.html")).read_text(encoding="utf-8")
    assert page.count("data:image/gif") == 1  # one film, of the guided run
    summary = json.loads((space.artifact("report") / "rows.json").read_text(encoding="utf-8"))["summary"]
    assert {"zero_shot_mean", "guided_success", "plain_success"} <= set(summary)


def test_a_dial_without_anchors_walks_the_pipeline(lago: Lago, tmp_path: Path) -> None:
    settings = {"seen": "raise lower", "unseen": "set", "algorithms": "sac guided-sac"}
    path = begin(tmp_path, "dial", "DialWorld", "numbers", **settings)
    space, prompts = walk(lago, path, DIAL)
    assert not any(word in prompt for prompt in prompts for word in ("target", "anchor", "gripper"))
    guide = load_bundle(space.artifact("bundle"))
    states = np.array([[0.0, 0.8], [0.0, -0.8], [0.5, 0.8]])
    prior = guide.prior(states, "set")
    assert isinstance(prior, ActionPrior)
    assert prior.mean()[0, 0] > 0.3
    assert prior.mean()[1, 0] < -0.3
    world = DialWorld()
    results = rollouts(
        world,
        world.tasks["set"],
        lambda observations: guide.prior(observations, "set").greedy(),
        [EVAL_SEED + i for i in range(20)],
        lambda n: None,
    )
    assert np.mean([result.success for result in results]) >= 0.9


def test_a_world_of_ones_own_is_made_again_from_its_spec() -> None:
    for world in (PlaneWorld(), DialWorld()):
        again = find_world(**world.spec())
        assert type(again) is type(world)
        assert again.find(list(world.tasks)) == tuple(world.tasks.values())
    assert [task.id for task in PlaneWorld().find(["shown"])] == ["visit", "fetch"]


def test_tables_know_no_world(lago: Lago, tmp_path: Path) -> None:
    """The table of zero-shot of the plane, with what can be measured there."""
    begin(tmp_path, "plane", "PlaneWorld", "numbers", seen="shown", unseen="fetch-south", algorithms="ppo")
    for name in ("scenes", "transcripts"):
        (tmp_path / "data" / name).mkdir()
    code, _, err = lago("plan", "plane", "--scenes")
    assert code == 0, err
    answer(lago, tmp_path, "plane", NUMBERS)
    table = ["evaluate", "plane", "--table", "zero-shot", "--seeds", "0", "--episodes", "4", "--json"]
    code, out, err = lago(*table, "--methods", "library,random,scripted")
    assert code == 0, err
    summary = {(row["method"], row["level"]): row["success"] for row in json.loads(out)["summary"]}
    assert summary["scripted", "unseen"] == 1.0
    assert summary["library", "unseen"] >= 0.75
    assert summary["random", "unseen"] < 0.5


def test_the_world_in_the_documents_works() -> None:
    """As it stands there: its demonstrator solves it, and a demonstration is recorded under its rule."""
    text = (ROOT / "docs/your-own-study.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class CartWorld" in block]
    names: dict[str, Any] = {"__name__": "documents"}
    exec(code, names)
    world = names["CartWorld"]()
    assert isinstance(world, World)
    env = Judged(world.make("balance"), world.success, world.tasks["balance"].horizon_steps, ends_at_success=True)
    observation, _ = env.reset(seed=0)
    act, over, info = world.demonstrator("balance"), False, dict[str, Any]()
    assert act is not None
    while not over:
        observation, _, terminated, truncated, info = env.step(act(observation))
        over = terminated or truncated
    assert info["success"]
    episode = record(world.make("balance"), act, "balance", 0, 0.0, world)
    assert episode.discrete
