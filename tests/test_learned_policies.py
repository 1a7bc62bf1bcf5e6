"""What was trained leaves the project in a bundle: its policy in NumPy is the agent in torch, and it leads where it is loaded."""

# torch leaves some types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lago_skills.artifacts.folder import read_manifest
from lago_skills.core import Playbook, Step, Target
from lago_skills.guide.learned_policy import LearnedPolicy, PolicyFacts, load_policies, save_policies
from lago_skills.guide.loaded import load
from lago_skills.prior import ActionPrior, DiscretePrior, Prior
from lago_skills.rl.config import PPOConfig, SACConfig
from lago_skills.rl.guidance.advice import DiscreteLayout, Layout
from lago_skills.rl.ppo.agent import PPO
from lago_skills.rl.sac.agent import SAC
from lago_skills.stages import train
from lago_skills.stages.workspace import Workspace, open_workspace
from tests.conftest import Lago
from tests.small_worlds import PlaneWorld
from tests.test_small_worlds import DIAL, NUMBERS, answer, begin

S, A, K = 7, 3, 2


def priors(n: int, floor: float) -> ActionPrior:
    rng = np.random.default_rng(1)
    weights = rng.random((n, K)).astype(np.float32)
    means, stds = rng.uniform(-0.9, 0.9, (n, K, A)), rng.uniform(0.1, 0.6, (n, K, A))
    return ActionPrior(
        weights / weights.sum(axis=1, keepdims=True), means.astype(np.float32), stds.astype(np.float32), floor
    )


def discrete_priors(n: int, floor: float) -> DiscretePrior:
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(n, K, A))
    logs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
    return DiscretePrior(np.full((n, K), 1.0 / K, np.float32), logs.astype(np.float32), floor)


def shaken(agent: SAC | PPO) -> dict[str, np.ndarray]:
    """Weights that no initialisation gives, those of hints among them; as `save_networks` names them."""
    torch.manual_seed(3)
    arrays: dict[str, np.ndarray] = {}
    for part, network in agent.networks().items():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                noise = 0.3 * torch.randn(value.shape, dtype=value.dtype)
                value.copy_(noise.abs() + 0.2 if name.endswith("var") else value + noise)
            arrays[f"{part}.{name}"] = value.numpy().copy()
    return arrays


def policy(arrays: dict[str, np.ndarray], **facts: Any) -> LearnedPolicy:
    known: dict[str, Any] = {
        "task": "t",
        "run": "t__x__s0",
        "algorithm": "sac",
        "leader": "policy",
        "discrete": False,
        "layer_norm": True,
        "residual_scale": None,
        "spread_by_state": False,
        "success": 1.0,
        "episodes": 3,
    }
    plan = Playbook("t", (Step("go", Target("goal", (0.0, 0.0))),), "key", "nobody")
    return LearnedPolicy(PolicyFacts(**(known | facts)), arrays, plan, np.zeros((1, 4), np.float32))


@pytest.mark.parametrize("leader", ["policy", "prior", "mix", "explore"])
@pytest.mark.parametrize("floor", [0.02, 1.0])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"observe_prior": False, "layer_norm": False},
        {"residual_scale": 0.4, "normalize_states": True},
    ],
    ids=["plain", "alone", "residual"],
)
def test_a_policy_of_sac_is_the_agent(leader: Any, floor: float, settings: dict[str, Any]) -> None:
    config = SACConfig(hidden_size=16, n_components=K, **settings)
    layout = Layout(A, K)
    agent = SAC.create(S, A, config, layout, seed=0)
    own = policy(shaken(agent), leader=leader, layer_norm=config.layer_norm, residual_scale=config.residual_scale)
    states, prior = np.random.default_rng(4).normal(size=(64, S)).astype(np.float32), priors(64, floor)
    expected = agent.greedy(states, layout.pack(prior), leader)
    np.testing.assert_allclose(own.act(states, prior), expected, atol=1e-5)


@pytest.mark.parametrize("leader", ["policy", "prior"])
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("settings", [{}, {"observe_prior": True, "std_by_state": False}, {"residual_scale": 0.5}])
def test_a_policy_of_ppo_is_the_agent(leader: Any, discrete: bool, settings: dict[str, Any]) -> None:
    config = PPOConfig(hidden_size=16, n_components=K, **settings)
    layout = DiscreteLayout(A) if discrete else Layout(A, K)
    agent = PPO.create(S, A, config, layout, seed=0, discrete=discrete)
    facts = {"residual_scale": config.residual_scale, "spread_by_state": config.std_by_state, "discrete": discrete}
    own = policy(shaken(agent), algorithm="ppo", leader=leader, **facts)
    states = np.random.default_rng(4).normal(size=(64, S)).astype(np.float32)
    prior: Prior = discrete_priors(64, 0.02) if discrete else priors(64, 0.02)
    advice = layout.pack(prior)  # pyright: ignore[reportArgumentType]  (each of its kind)
    np.testing.assert_allclose(own.act(states, prior), agent.greedy(states, advice, leader), atol=1e-5)


def test_policies_come_back_from_a_folder(tmp_path: Path) -> None:
    agent = SAC.create(S, A, SACConfig(hidden_size=16), Layout(A, K), seed=0)
    own = policy(shaken(agent))
    save_policies(tmp_path, {"t": own})
    again = load_policies(tmp_path, PlaneWorld().grounding.vocabulary)["t"]
    assert again.facts == own.facts
    assert again.plan.steps[0].skill == "go"
    states = np.zeros((2, S), np.float32)
    np.testing.assert_array_equal(again.act(states, priors(2, 0.1)), own.act(states, priors(2, 0.1)))


def trained(
    lago: Lago, folder: Path, name: str, use: str, algorithm: str, seen: str, unseen: str, answers: Any
) -> Workspace:
    path = begin(folder, name, use, "numbers", seen=seen, unseen=unseen, algorithms=algorithm, decoder="n_updates = 60")
    for command in (("plan", name, "--scenes"), ("collect", name)):
        code, _, err = lago(*command)
        assert code == 0, err
    answer(lago, folder, name, answers)
    for stage in ("plan", "segment", "pretrain", "build", "train"):
        code, _, err = lago(stage, name)
        assert code == 0, f"{stage}: {err}"
    return open_workspace(folder, path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "use", "algorithm", "seen", "unseen", "answers"),
    [
        ("plane", "PlaneWorld", "ppo guided-ppo", "visit fetch", "fetch-south", NUMBERS),
        ("dial", "DialWorld", "guided-sac", "raise lower", "set", DIAL),
    ],
)
def test_the_best_run_leads_where_its_bundle_is_loaded(
    name: str, use: str, algorithm: str, seen: str, unseen: str, answers: Any, lago: Lago, tmp_path: Path
) -> None:
    space = trained(lago, tmp_path, name, use, algorithm, seen, unseen, answers)
    code, out, err = lago(
        "bundle", "make", str(space.study_file), "--trained", "--to", str(tmp_path / "own.zip"), "--json"
    )
    assert code == 0, err
    runs = {run.name: run for run in train.training_runs(space.study)}
    guide = load(tmp_path / "own.zip", unfamiliar="answer")
    task = guide.task(unseen)
    assert task.policy is not None
    run = runs[task.policy.name]
    rows = [
        json.loads((space.artifact("runs", each) / "manifest.json").read_text())["summary"]["success"] for each in runs
    ]
    assert task.policy.facts.success == max(rows)
    env = space.world.make(unseen)
    states = np.stack([env.reset(seed=seed)[0] for seed in range(20)]).astype(np.float64)
    expected, leader = train.load_policy(
        space.artifact("runs", run.name), run, train.problem_of(space, run), space.study.train, space.study.grounding
    )
    assert task.policy.facts.leader == leader
    answered = task.answer(states)
    np.testing.assert_allclose(answered.actions, expected(states), atol=1e-5)
    assert answered.leader == run.name
    assert guide.task(unseen, library_alone=True).answer(states).leader == "library"
    assert guide.task(seen.split()[0]).answer(states).leader == "library"
    assert task.explain(states[:1])[0].leader == run.name
    code, out, _ = lago("bundle", "inspect", str(tmp_path / "own.zip"))
    assert code == 0
    assert f"led by {run.name}" in out
    for task_id in seen.split():  # down to the demonstrations
        digest = read_manifest(space.episodes(task_id)).digest  # pyright: ignore[reportOptionalMemberAccess]
        assert f"{task_id}: {space.study.collect.episodes_per_task} episodes, {digest[:12]}" in out


def test_without_a_finished_run_there_is_nothing_to_take(lago: Lago, tmp_path: Path) -> None:
    path = begin(tmp_path, "own", "PlaneWorld", "numbers", seen="visit", unseen="fetch", algorithms="guided-ppo")
    code, _, err = lago("bundle", "make", str(path), "--trained")
    assert code == 2
    assert "no finished artifact" in err
