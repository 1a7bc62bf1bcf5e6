"""The shared parts of the learners, and soft actor-critic: by hand where a hand can do it, learning where it takes seconds."""

# torch leaves some argument types open, and numpy.interp some results.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import csv
import errno
import importlib.util
import itertools
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lago_skills import bench_train
from lago_skills.core import Episode, Playbook
from lago_skills.envs.grounding import MetaWorldGrounding
from lago_skills.envs.tasks import find_task
from lago_skills.errors import ArtifactCorrupt, DiskFull, ShapeError, StudyError, TrainingStopped
from lago_skills.evaluate.rollouts import rollouts
from lago_skills.guide.guides import NullGuide
from lago_skills.prior import ActionPrior, DiscretePrior
from lago_skills.rl import checkpoint, runlog, sac
from lago_skills.rl.adam import Adam, ScalarAdam
from lago_skills.rl.advice import Layout, pack_discrete
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import LEADERS, PPOConfig, SACConfig
from lago_skills.rl.drive import TrainResult
from lago_skills.rl.envs import MAX_CRASHES, Envs, Watched
from lago_skills.rl.leaders import Leaders
from lago_skills.rl.metaworld import metaworld_problem
from lago_skills.rl.methods import METHODS, method
from lago_skills.rl.networks import Actor, Critics, load_networks, save_networks
from lago_skills.rl.policy import greedy_policy
from lago_skills.rl.problem import Problem, evaluate
from lago_skills.rl.replay import Batch, Columns, Replay, Running
from lago_skills.rl.runlog import RunLog
from lago_skills.rl.sac import LOG_KEYS, SAC
from lago_skills.rl.train_sac import SACLoop, train
from tests.fading import Nearby, steps_to_stay
from tests.small_envs import Echo, Pointing, Walk, problem
from tests.test_guide import guide as random_guide

SMALL = SACConfig(n_steps=600, random_steps=300, eval_every=300, eval_episodes=2, batch_size=32, hidden_size=16)


# Replay -----------------------------------------------------------------------------------------------------------------


def running(n_steps: int, rewards: list[float]) -> Running:
    rows = [np.array([float(i)], np.float32) for i in range(n_steps + 1)]
    actions = [np.zeros(1, np.float32)] * n_steps
    return Running(7, "policy", None, list(rows), list(rows), list(rows), actions, rewards)


def filled(terminated: bool, *, step_by_step: bool) -> Replay:
    """Rewards 0 0 1 0 4, gamma 1/2, three steps."""
    memory = Replay(100, Columns(1, 1, 1), n_step=3, gamma=0.5)
    whole = running(5, [0, 0, 1, 0, 4])
    if not step_by_step:
        memory.add_episode(whole, terminated)
        return memory
    part = Running(7, "policy", None, whole.observations[:1], whole.states[:1], whole.advice[:1])
    for t in range(5):
        part.step(
            whole.actions[t], whole.rewards[t], whole.observations[t + 1], whole.states[t + 1], whole.advice[t + 1]
        )
        memory.add_latest(part, t == 4, terminated and t == 4)
    return memory


def by_state(memory: Replay) -> dict[int, tuple[float, float, int]]:
    batch = Batch(memory.sample(np.random.default_rng(0), 500), memory.columns)
    assert torch.equal(batch.advice, batch.state)
    assert torch.equal(batch.next_advice, batch.next_state)
    rows = zip(batch.state[:, 0], batch.reward, batch.discount, batch.next_state[:, 0], strict=True)
    return {int(s): (float(r), float(d), int(n)) for s, r, d, n in rows}


@pytest.mark.parametrize("step_by_step", [True, False])
def test_n_step_returns_by_hand(step_by_step: bool) -> None:
    memory = filled(True, step_by_step=step_by_step)
    assert memory.size == 5
    assert by_state(memory) == {
        0: (0.25, 0.125, 3),
        1: (0.5, 0.125, 4),
        2: (2.0, 0.0, 5),
        3: (2.0, 0.0, 5),
        4: (4.0, 0.0, 5),
    }


@pytest.mark.parametrize("step_by_step", [True, False])
def test_a_time_limit_bootstraps_and_a_termination_does_not(step_by_step: bool) -> None:
    found = by_state(filled(False, step_by_step=step_by_step))
    assert found[2] == (2.0, 0.125, 5)
    assert found[3] == (2.0, 0.25, 5)
    assert found[4] == (4.0, 0.5, 5)


def test_the_ring_forgets_the_oldest() -> None:
    memory = Replay(4, Columns(1, 1, 1), n_step=1, gamma=0.9)
    memory.add_episode(running(6, [0.0] * 6), False)
    assert set(by_state(memory)) == {2, 3, 4, 5}


# Advice -----------------------------------------------------------------------------------------------------------------


def priors(batch: int, n: int, floor: float, seed: int = 0) -> ActionPrior:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(n), batch).astype(np.float32)
    means = rng.uniform(-1, 1, (batch, n, 3)).astype(np.float32)
    return ActionPrior(weights, means, rng.uniform(0.05, 1.0, (batch, n, 3)).astype(np.float32), floor)


@pytest.mark.parametrize(("n", "floor"), [(1, 0.0), (2, 0.02), (4, 0.5), (4, 1.0)])
def test_rows_of_advice_score_actions_as_the_prior_does(n: int, floor: float) -> None:
    prior, layout = priors(50, n, floor), Layout(3, 4)
    rows = layout.pack(prior)
    assert rows.shape == (50, layout.width)
    actions = np.random.default_rng(1).uniform(-1, 1, (50, 3)).astype(np.float32)
    found = layout.rho(torch.from_numpy(rows), torch.from_numpy(actions)).numpy()
    np.testing.assert_allclose(np.maximum(found, -20), np.maximum(prior.log_ratio(actions), -20), rtol=2e-3, atol=2e-3)
    expected = np.zeros((50, 6)) if floor == 1.0 else np.concatenate([prior.mean(), prior.std()], axis=1)
    np.testing.assert_allclose(layout.hint(torch.from_numpy(rows)).numpy(), expected, atol=1e-6)


def test_a_full_floor_scores_exactly_nothing_and_pulls_nowhere() -> None:
    layout = Layout(3, 4)
    rows = torch.from_numpy(layout.pack(priors(20, 3, 1.0)))
    actions = torch.zeros(20, 3, requires_grad=True)
    score = layout.rho(rows, actions)
    score.sum().backward()
    assert torch.equal(score, torch.zeros(20))
    assert actions.grad is not None
    assert torch.equal(actions.grad, torch.zeros(20, 3))


def test_gradients_stay_finite_far_from_a_narrow_prior() -> None:
    layout = Layout(2, 2)
    means, stds = np.zeros((4, 1, 2), np.float32), np.full((4, 1, 2), 1e-3, np.float32)
    rows = torch.from_numpy(layout.pack(ActionPrior(np.ones((4, 1), np.float32), means, stds, 0.02)))
    actions = torch.ones(4, 2, requires_grad=True)
    score = layout.rho(rows, actions)
    score.sum().backward()
    assert torch.allclose(score, torch.full((4,), float(np.log(0.02))), atol=1e-4)
    assert actions.grad is not None
    assert torch.isfinite(actions.grad).all()


def test_only_the_heaviest_components_are_kept() -> None:
    layout, prior = Layout(3, 2), priors(30, 6, 0.1)
    weights, means, _ = layout.parts(torch.from_numpy(layout.pack(prior)))
    heaviest = np.sort(prior.weights, axis=1)[:, ::-1][:, :2]
    np.testing.assert_allclose(weights.numpy(), heaviest / heaviest.sum(axis=1, keepdims=True), rtol=1e-5)
    row = int(np.argmax(prior.weights[0]))
    np.testing.assert_array_equal(means[0, 0].numpy(), prior.means[0, row])
    drawn = layout.samples(layout.pack(prior), np.random.default_rng(0))
    assert drawn.shape == (30, 3)
    assert np.abs(drawn).max() <= 1.0


def test_discrete_priors_become_probabilities() -> None:
    log_probs = np.log(np.array([[[0.7, 0.2, 0.1]]], np.float32))
    rows = pack_discrete(DiscretePrior(np.ones((1, 1), np.float32), log_probs, floor=0.3))
    np.testing.assert_allclose(rows, [[0.59, 0.24, 0.17]], atol=1e-6)


# Leaders ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("good", LEADERS)
def test_the_leader_that_succeeds_leads(good: str) -> None:
    leaders, rng = Leaders(LEADERS), np.random.default_rng(0)
    led: list[str] = []
    for _ in range(300):
        leader = leaders.draw(rng)
        led.append(leader)
        leaders.note(leader, bool(rng.random() < (0.9 if leader == good else 0.1)))
    assert leaders.best() == good
    assert np.mean([leader == good for leader in led[-100:]]) > 0.6


def test_a_prior_that_fails_from_now_on_is_left_for_a_policy_that_succeeds() -> None:
    leaders, rng = Leaders(LEADERS), np.random.default_rng(1)
    assert leaders.lead_of_prior() == 1.0
    for episode in range(400):
        leader = leaders.draw(rng)
        early = episode < 100
        share = {"prior": 0.8 * early, "explore": 0.1, "mix": 0.1, "policy": 0.8 * (not early)}[leader]
        leaders.note(leader, bool(rng.random() < share))
    assert leaders.best() == "policy"
    assert leaders.lead_of_prior() < 0.2
    again = Leaders(LEADERS)
    again.set_values(json.loads(json.dumps(leaders.values())))
    assert again.draw(np.random.default_rng(5)) == leaders.draw(np.random.default_rng(5))


def test_as_long_as_no_prior_has_spoken_the_policy_leads() -> None:
    leaders = Leaders(LEADERS)
    leaders.note("policy", False)
    assert leaders.best() == "policy"
    leaders.draw(np.random.default_rng(0))
    assert leaders.best() == "prior"  # of which nothing bad is known
    again = Leaders(LEADERS)
    again.set_values(json.loads(json.dumps(leaders.values())))
    assert again.best() == "prior"


def test_the_priors_lead_shrinks_as_the_policy_succeeds() -> None:
    leaders = Leaders(("policy",))
    leads = [leaders.lead_of_prior()]
    for _ in range(20):
        leaders.note("policy", True)
        leads.append(leaders.lead_of_prior())
    assert leads[0] == 1.0
    assert leads[-1] < 0.15
    assert all(a >= b for a, b in itertools.pairwise(leads))


# Networks and updates ---------------------------------------------------------------------------------------------------


def test_the_actors_log_density_integrates_to_one() -> None:
    torch.manual_seed(0)
    actor = Actor(2, 0, 1, 8)
    x = torch.zeros(20_000, 2)
    action, log_p = actor(x, None, torch.randn(20_000, 1))
    counts, edges = np.histogram(action.detach().numpy()[:, 0], bins=40, range=(-1, 1), density=True)
    centres = (edges[:-1] + edges[1:]) / 2
    order = np.argsort(action.detach().numpy()[:, 0])
    density = np.interp(centres, action.detach().numpy()[order, 0], log_p.detach().exp().numpy()[order])
    assert np.abs(density - counts)[2:-2].max() < 0.15 * counts.max()


def test_both_critics_are_independent_networks() -> None:
    torch.manual_seed(0)
    critics = Critics(3, 2, 8, layer_norm=True)
    x = torch.randn(5, 3)
    both = critics(x, torch.randn(5, 2))
    assert both.shape == (2, 5)
    assert torch.equal(both, critics(x))  # what it sees of a prior has no weight yet
    assert not torch.allclose(both[0], both[1])
    _, kept = critics.evaluate(x, None)
    for gradient in critics.gradients(x, None, kept, torch.stack([torch.ones(5), torch.zeros(5)])):
        assert gradient[1].abs().max() == 0


@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("hint_size", [0, 3])
@pytest.mark.parametrize("hidden_size", [8, 96])  # below and above the size from which products are oneDNN's
def test_the_critics_gradients_are_those_of_torch(hidden_size: int, hint_size: int, layer_norm: bool) -> None:
    torch.manual_seed(0)
    critics = Critics(5, hint_size, hidden_size, layer_norm)
    for weight in critics.weights:
        weight.detach().normal_(0.0, 0.3)
    replayed = torch.randn(80, 11)  # the columns of a batch are parts of wider rows
    x = replayed[:, 1:6].clone().requires_grad_()
    seen = replayed[:, 1:6]
    hint = replayed[:, 6 : 6 + hint_size] if hint_size else None

    def activate(hidden: torch.Tensor) -> torch.Tensor:
        return (torch.nn.functional.layer_norm(hidden, hidden.shape[-1:]) if layer_norm else hidden).relu()

    w0, b0, w1, b1, w2, b2 = critics.weights[:6]
    hidden = x @ w0 + b0
    if hint is not None:
        hidden = hidden + hint @ critics.weights[6]
    expected = (activate(activate(hidden) @ w1 + b1) @ w2 + b2)[..., 0]
    weighed = torch.randn(2, 80)
    values, kept = critics.evaluate(seen, hint)
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(critics(seen, hint), expected, rtol=1e-3, atol=1e-4)
    by_x, *by_weights = torch.autograd.grad(expected, [x, *critics.weights], weighed)
    torch.testing.assert_close(critics.by_inputs(kept, weighed, 2), by_x[:, -2:], rtol=1e-3, atol=1e-3)
    for found, wanted in zip(critics.gradients(seen, hint, kept, weighed), by_weights, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def torchs_actor(
    actor: Actor, x: torch.Tensor, hint: torch.Tensor | None, noise: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Action and log-density as torch's own functions have them, differentiable."""
    hidden = actor.first(x)
    if actor.hint is not None and hint is not None:
        hidden = hidden + hint @ actor.hint
    mean, raw = actor.head(actor.second(hidden.relu()).relu()).chunk(2, dim=1)
    if noise is None:
        return mean.tanh(), torch.zeros(len(x))
    normal = torch.distributions.Normal(mean, (3.5 * raw.tanh() - 1.5).exp())
    pre = mean + normal.stddev * noise
    squash = torch.distributions.TanhTransform()
    return pre.tanh(), (normal.log_prob(pre) - squash.log_abs_det_jacobian(pre, pre.tanh())).sum(dim=1)


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("hint_size", [0, 3])
@pytest.mark.parametrize("hidden_size", [8, 96])
def test_the_actors_gradients_are_those_of_torch(hidden_size: int, hint_size: int, sampled: bool) -> None:
    torch.manual_seed(0)
    actor = Actor(5, hint_size, 2, hidden_size)
    for weight in actor.weights:
        weight.detach().normal_(0.0, 0.3)
    replayed = torch.randn(80, 11)
    x, hint = replayed[:, 1:6], replayed[:, 6 : 6 + hint_size] if hint_size else None
    noise = torch.randn(80, 2) if sampled else None
    action, log_p, kept = actor.evaluate(x, hint, noise)
    expected, expected_log_p = torchs_actor(actor, x, hint, noise)
    torch.testing.assert_close(action, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(log_p, expected_log_p, rtol=1e-3, atol=1e-3)
    by_action, by_log_p = torch.randn(80, 2), 0.3
    loss = (by_action * expected).sum() + by_log_p * expected_log_p.sum()
    wanted = torch.autograd.grad(loss, actor.weights)
    for found, right in zip(actor.gradients(x, hint, kept, by_action, by_log_p), wanted, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("residual_scale", [None, 0.3])
def test_the_actor_descends_the_loss_of_its_docstring(
    residual_scale: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SMALL.model_copy(update={"residual_scale": residual_scale, "density_weight": 0.5})
    agent, batch = SAC.create(28, 4, config, LAYOUT, seed=0), batch_of(64)
    batch.advice[:8, 8] = 1.0  # of some states the prior says nothing
    for weight in (*agent.actor.weights, *agent.critics.weights):
        weight.detach().add_(0.1 * torch.randn(weight.shape))
    noise = torch.randn(batch.action.shape, generator=torch.Generator().set_state(agent.generator.get_state()))
    hint = LAYOUT.hint(batch.advice)
    raw, log_p = torchs_actor(agent.actor, batch.state, hint, noise)
    action = raw
    if residual_scale is not None:
        corrected = (LAYOUT.mean(batch.advice) + residual_scale * raw).clamp(-1.0, 1.0)
        action = torch.where(LAYOUT.silent(batch.advice)[:, None], raw, corrected)
    w0, b0, w1, b1, w2, b2, w_hint = agent.critics.weights
    hidden = torch.cat([batch.state, action], dim=1) @ w0 + b0 + hint @ w_hint
    for w, b in ((w1, b1), (w2, b2)):
        hidden = torch.nn.functional.layer_norm(hidden, hidden.shape[-1:]).relu() @ w + b
    loss = (agent.alpha * log_p - hidden[..., 0].amin(dim=0)).mean()
    loss = loss + 4.0 * ((action[-20:] - batch.action[-20:]) ** 2).sum(dim=1).mean()
    loss = loss - 0.5 * LAYOUT.rho(batch.advice, action).mean()
    wanted = torch.autograd.grad(loss, agent.actor.weights)
    taken: list[list[torch.Tensor]] = []
    monkeypatch.setattr(agent.actor_adam, "step", taken.append)
    found, _ = agent.update_actor(batch, 20, 4.0, 0.5)
    assert found == pytest.approx(loss.item(), rel=1e-3)
    for step, right in zip(taken[0], wanted, strict=True):
        torch.testing.assert_close(step, right, rtol=1e-3, atol=1e-4)


LAYOUT = Layout(4, 4)


def batch_of(n: int, seed: int = 0, *, guided: bool = True) -> Batch:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    advice = LAYOUT.pack(
        ActionPrior(np.full((n, 2), 0.5, np.float32), draw(n, 2, 4), np.full((n, 2, 4), 0.3, np.float32), 0.02)
    )
    if not guided:
        advice = advice[:, :0]
    rest = np.concatenate([draw(n, 1), np.full((n, 1), 0.9, np.float32)], axis=1)
    rows = np.concatenate([draw(n, 28), draw(n, 4), advice, rest, draw(n, 28), advice], axis=1)
    return Batch(rows, Columns(28, 4, advice.shape[1]))


def act(agent: SAC, batch: Batch, *, greedy: bool = True) -> NDArray[np.float32]:
    return agent.act(batch.state.numpy(), batch.advice.numpy(), greedy=greedy)


WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "density": {"density_weight": 0.1, "density_in_target": True, "target_proposals": False},
    "residual": {"residual_scale": 0.5},
    "unseen prior": {"observe_prior": False},
    "no layer norm": {"layer_norm": False},
}


@pytest.mark.parametrize("way", [None, *WAYS])
def test_updates_lower_the_bellman_error_and_are_deterministic(way: str | None) -> None:
    settings = {"tau": 0.0001, "learning_rate": 1e-3, **WAYS.get(way or "", {})}
    config = SMALL.model_copy(update=settings)
    batch = batch_of(64, guided=way is not None)
    curves: list[list[float]] = []
    for _ in range(2):
        agent = SAC.create(28, 4, config, LAYOUT if way is not None else None, seed=3)
        curves.append([agent.update_critics(batch, 0.1) for _ in range(200)])
        agent.update_actor(batch, 8, 1.0, 0.1)
    assert curves[0] == curves[1]
    assert np.mean(curves[0][-20:]) < 0.3 * np.mean(curves[0][:5])


def test_the_actor_climbs_the_critic() -> None:
    agent = SAC.create(28, 4, SMALL.model_copy(update={"learning_rate": 3e-3}), None, seed=1)
    batch = batch_of(64, guided=False)
    values = [agent.update_actor(batch, 0, 0.0, 0.0)[1] for _ in range(150)]
    assert np.mean(values[-10:]) > np.mean(values[:10])


def test_self_imitation_pulls_the_actor_to_what_succeeded() -> None:
    config = SMALL.model_copy(update={"learning_rate": 3e-3})
    agent = SAC.create(28, 4, config, LAYOUT, seed=1)
    batch = batch_of(64)
    for _ in range(400):
        agent.update_actor(batch, 32, 50.0, 0.0)
    mode = act(agent, batch)
    miss = ((mode - batch.action.numpy()) ** 2).sum(1)
    assert miss[-32:].mean() < 0.5 * miss[:32].mean()


def test_a_warm_start_draws_the_policy_to_the_priors_mean() -> None:
    agent = SAC.create(28, 4, SMALL.model_copy(update={"learning_rate": 3e-3}), LAYOUT, seed=1)
    batch = batch_of(64)

    def apart() -> float:
        actions = act(agent, batch)
        return float(((actions - batch.advice[:, :4].numpy()) ** 2).mean())

    before = apart()
    for _ in range(300):
        agent.warm_start(batch)
    assert apart() < 0.1 * before


def test_density_draws_the_policy_to_where_the_prior_is_dense() -> None:
    agent = SAC.create(28, 4, SMALL.model_copy(update={"learning_rate": 3e-3}), LAYOUT, seed=1)
    batch = batch_of(64)

    def density() -> float:
        actions = torch.from_numpy(act(agent, batch, greedy=False))
        return float(LAYOUT.rho(batch.advice, actions).mean())

    before = density()
    for _ in range(300):
        agent.update_actor(batch, 0, 0.0, 5.0)
    assert density() > max(before + 1.0, 1.5)


def test_a_residual_policy_starts_near_the_prior() -> None:
    agent = SAC.create(28, 4, SMALL.model_copy(update={"residual_scale": 0.1}), LAYOUT, seed=1)
    batch = batch_of(64)
    actions = act(agent, batch, greedy=False)
    assert np.abs(actions - batch.advice[:, :4].numpy()).max() <= 0.1 + 1e-6


@pytest.mark.parametrize("leader", LEADERS)
def test_greedy_actions_are_the_leaders(leader: Any) -> None:
    agent = SAC.create(28, 4, SMALL, LAYOUT, seed=1)
    batch = batch_of(64)
    states, advice = batch.state.numpy(), batch.advice.numpy()
    found = agent.greedy(states, advice, leader)
    policy, prior = act(agent, batch), advice[:, :4]
    if leader == "mix":
        values = [agent.value(states, advice, each) for each in (policy, prior)]
        np.testing.assert_array_equal(found, np.where((values[1] > values[0])[:, None], prior, policy))
        assert 0 < (values[1] > values[0]).mean() < 1
    else:
        np.testing.assert_array_equal(found, policy if leader == "policy" else prior)


@pytest.mark.parametrize("leader", LEADERS)
def test_where_the_prior_is_silent_greedy_actions_are_the_policys(leader: Any) -> None:
    agent = SAC.create(28, 4, SMALL, LAYOUT, seed=1)
    batch = batch_of(64)
    states, advice = batch.state.numpy(), batch.advice.numpy().copy()
    advice[::2] = LAYOUT.pack(NullGuide(4).prior(np.zeros((32, 39)), "any"))
    np.testing.assert_array_equal(
        agent.greedy(states, advice, leader)[::2], agent.greedy(states, advice, "policy")[::2]
    )


def test_adam_is_torchs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    own, reference = Adam(ours.parameters(), 0.01), torch.optim.Adam(theirs.parameters(), lr=0.01, fused=True)
    scalar, number = ScalarAdam(0.5, 0.01), torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    of_number = torch.optim.Adam([number], lr=0.01)
    for seed in range(20):
        if seed == 10:  # and goes on from what was kept
            kept = Checkpoint()
            own.put(kept, "adam")
            kept.save(tmp_path / "kept", {})
            loaded = Checkpoint.load(tmp_path / "kept", {})
            assert loaded is not None
            own = Adam(ours.parameters(), 0.01)
            own.get(loaded, "adam")
            scalar, state = ScalarAdam(0.0, 0.01), scalar.state()
            scalar.set_state(state)
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        own.descend((ours(x) ** 2).mean())
        reference.zero_grad()
        (theirs(x) ** 2).mean().backward()
        reference.step()
        scalar.step(2 * (scalar.value - 0.3))
        of_number.zero_grad()
        ((number - 0.3) ** 2).backward()
        of_number.step()
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, two)
    assert scalar.value == pytest.approx(number.item(), abs=1e-12)


def test_networks_are_saved_and_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    agent, again = SAC.create(28, 4, SMALL, LAYOUT, seed=5), SAC.create(28, 4, SMALL, LAYOUT, seed=6)
    save_networks(path, actor=agent.actor, critics=agent.critics)
    load_networks(path, actor=again.actor, critics=again.critics)
    batch = batch_of(7)
    np.testing.assert_array_equal(act(agent, batch), act(again, batch))
    with pytest.raises(ArtifactCorrupt, match="train again"):
        load_networks(path, actor=SAC.create(30, 4, SMALL, LAYOUT, seed=5).actor)


# Environments -----------------------------------------------------------------------------------------------------------


def test_a_crash_ends_the_episode_and_is_counted() -> None:
    envs = Envs([lambda: Walk(crash_at=3), Walk], ["first", "second"])
    envs.reset([1, 2])
    for _ in range(2):
        assert not envs.step(np.full((2, 2), 0.01, np.float32))[3].any()
    observations, _, terminated, truncated, infos = envs.step(np.full((2, 2), 0.01, np.float32))
    assert truncated.tolist() == [True, False]
    assert not terminated[0]
    assert infos[0]["crash"] == "RuntimeError: the simulator fell over"
    assert infos[1]["success"] is not None
    assert np.isfinite(observations).all()
    assert envs.counts() == [(3, 1), (3, 0)]
    assert np.isfinite(envs.restart(0, 5)).all()
    envs.close()


def test_an_environment_that_always_crashes_stops_the_run() -> None:
    watched = Watched(lambda: Walk(crash_at=1), "arm")
    watched.reset(seed=0)
    for _ in range(MAX_CRASHES):
        assert watched.step(np.zeros(2, np.float32))[3]
    with pytest.raises(TrainingStopped, match=r"arm: found 21 crashes.*expected at most 20"):
        watched.step(np.zeros(2, np.float32))


class Once(Walk):
    """Crashes once, in one of its copies: at a step or at a reset, counted over all of them; or while it is made again."""

    def __init__(self, step: int = 0, reset: int = 0, make: int = 0, counts: list[int] | None = None) -> None:
        super().__init__()
        self.at, self.counts = (step, reset, make), counts if counts is not None else [0, 0, 0]
        self._count(2)

    def _count(self, what: int) -> None:
        self.counts[what] += 1
        if self.counts[what] == self.at[what]:
            raise RuntimeError("the simulator fell over")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._count(1)
        return super().reset(seed=seed, options=options)

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._count(0)
        return super().step(action)


def once(**at: int) -> Callable[[], Once]:
    counts = [0, 0, 0]
    return lambda: Once(**at, counts=counts)


def test_an_environment_that_crashes_at_reset_or_when_it_is_made_again_is_made_once_more() -> None:
    watched = Watched(once(reset=2, make=2), "arm")
    first, _ = watched.reset(seed=3)
    again, _ = watched.reset(seed=3)  # this one crashes, and so does making the next
    np.testing.assert_array_equal(first, again)
    assert watched.counts() == (0, 2)


def test_nothing_is_learned_from_a_step_that_crashed() -> None:
    def rows(crash: int) -> NDArray[np.float32]:
        loop = SACLoop(problem(once(step=crash)), SMALL.model_copy(update={"n_step": 3}), 0, ())
        loop.begin(None)
        while loop.step < 20:
            loop.advance()
        loop.close()
        kept = Checkpoint()
        loop.memory.put(kept, "memory")
        return kept.array("memory")

    smooth, crashed = rows(0), rows(15)
    np.testing.assert_array_equal(smooth[:12], crashed[:12])
    assert len(smooth) == 18  # the last two wait for steps to come
    assert len(crashed) == 14 + 3  # all of the 14 before the crash, though cut off; three of the five after it
    columns = Columns(4, 2, 0)
    discounts = Batch(crashed, columns).discount.numpy()
    np.testing.assert_allclose(discounts[11:14], 0.99 ** np.array([3, 2, 1]))  # a crash is no termination


def test_an_environment_that_crashes_while_it_is_evaluated_has_failed() -> None:
    made = problem(once(step=30))
    outcomes = evaluate(made, lambda observations, tasks: np.zeros((len(observations), 2), np.float32), 3, n_envs=3)
    assert [outcome.crashed for outcome in outcomes].count(True) == 1
    assert not any(outcome.success for outcome in outcomes if outcome.crashed)
    assert len(outcomes) == 3
    crashes = [0]

    class Evaluated(Walk):
        def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            if self.np_random_seed >= 1_000_000 and self.left == 20 and not crashes[0]:
                crashes[0] = 1
                raise RuntimeError("the simulator fell over")
            return super().step(action)

    curve = train(problem(Evaluated), SMALL, 0).curve
    assert [row["eval/crashes"] for row in curve] == [1, 0]


def test_infos_may_hold_dictionaries() -> None:
    wrapped: Any = gymnasium.wrappers.RecordEpisodeStatistics
    envs = Envs([lambda: wrapped(Walk()), lambda: wrapped(Walk(crash_at=30))], ["first", "second"])
    envs.reset([1, 2])
    infos = [envs.step(np.zeros((2, 2), np.float32))[4] for _ in range(40) if not envs.counts()[1][1]]
    envs.close()
    assert len(infos) == 30
    assert "episode" not in infos[-1][0]
    result = train(problem(lambda: wrapped(Walk())), SMALL, 0)
    assert same(result, train(problem(Walk), SMALL, 0))


@pytest.mark.parametrize("guided", [False, True])
def test_processes_of_their_own_change_nothing(guided: bool) -> None:
    made = problem(Walk, Pointing(1.0) if guided else None, n_envs=2)
    assert same(train(replace(made, vectorize="async"), SMALL, 0), train(made, SMALL, 0))


def test_going_back_into_an_episode_repeats_it() -> None:
    envs, other = Envs([Walk], ["walk"]), Envs([Walk], ["walk"])
    envs.reset([4])
    rng = np.random.default_rng(0)
    observation = [envs.step(rng.uniform(-1, 1, (1, 2)).astype(np.float32))[0] for _ in range(7)][-1]
    seed, actions = envs.positions()[0]
    assert seed == 4
    other.reset([0])
    np.testing.assert_array_equal(other.restart(0, seed, replay=list(actions), counts=(7, 2))[None], observation)
    assert other.counts() == [(7, 2)]
    action = np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(envs.step(action)[0], other.step(action)[0])
    envs.close()
    other.close()


@pytest.mark.parametrize(
    ("space", "what"),
    [
        (gymnasium.spaces.Box(-2.0, 2.0, (2,)), "RescaleAction"),
        (gymnasium.spaces.Discrete(3, start=1), "Discrete from 0"),
        (gymnasium.spaces.MultiBinary(3), "found MultiBinary"),
    ],
)
def test_spaces_that_no_learner_knows_are_refused(space: Any, what: str) -> None:
    class Odd(Walk):
        action_space = space

    with pytest.raises(StudyError, match=what):
        Envs([Odd], ["odd"])


def test_observations_of_several_axes_are_refused() -> None:
    class Picture(Walk):
        observation_space = gymnasium.spaces.Box(0.0, 1.0, (8, 8))

    with pytest.raises(StudyError, match="FlattenObservation"):
        Envs([Picture], ["picture"])


def test_soft_actor_critic_refuses_discrete_actions() -> None:
    class Choice(Walk):
        action_space = gymnasium.spaces.Discrete(3)

    with pytest.raises(StudyError, match="train with PPO"):
        train(problem(Choice), SMALL, 0)


def test_a_reward_or_an_observation_that_is_not_finite_stops_with_the_step() -> None:
    with pytest.raises(TrainingStopped, match=r"environment 0 \(small\), reward at step 41: found nan; expected"):
        train(problem(lambda: Walk(bad_reward_at=41)), SMALL, 0)

    class Hole(Walk):
        def _seen(self) -> NDArray[np.float64]:
            return np.array([0.0, np.inf if self.n_steps == 5 else 0.0, 0.0, 0.0])

    with pytest.raises(TrainingStopped, match=r"observation at step 5: found inf at index \[1\]"):
        train(problem(Hole), SMALL, 0)

    class Rich(Walk):
        def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            observation, _, terminated, truncated, info = super().step(action)
            return observation, 1e39, terminated, truncated, info

    with pytest.raises(TrainingStopped, match=r"reward at step 1: found 1e\+39; expected finite numbers that float32"):
        train(problem(Rich), SMALL, 0)


def test_a_loss_that_is_not_finite_stops_with_the_step() -> None:
    class Steep(Walk):
        def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            observation, _, terminated, truncated, info = super().step(action)
            return observation, 1e30, terminated, truncated, info

    with pytest.raises(TrainingStopped, match=r"small, update 1 at step \d+: found loss/critic = inf"):
        train(problem(Steep), SMALL, 0)


def test_a_guide_for_other_actions_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"found actions of size 4; expected size 2"):
        train(problem(Walk, NullGuide(4)), SMALL, 0)


def test_a_task_without_playbook_is_refused(playbooks: dict[str, Playbook]) -> None:
    with pytest.raises(StudyError, match="found no playbook for 'soccer'"):
        metaworld_problem([find_task("soccer")], MetaWorldGrounding(), random_guide(playbooks), 0)


def test_rollouts_do_not_depend_on_how_many_run_side_by_side() -> None:
    task = find_task("reach")

    def goal_seeking(observations: NDArray[np.float64]) -> NDArray[np.float32]:
        heading = 10.0 * (observations[:, 36:39] - observations[:, :3] + np.array([0.0, 0.0, 0.045]))
        return np.clip(np.concatenate([heading, np.zeros((len(heading), 1))], 1), -1, 1).astype(np.float32)

    steps: list[int] = []
    one = rollouts(task, goal_seeking, [5, 6, 7], steps.append, n_envs=1)
    three = rollouts(task, goal_seeking, [5, 6, 7], lambda n: None, n_envs=3)
    assert one == three
    assert [r.seed for r in one] == [5, 6, 7]
    assert all(r.success for r in one)
    assert sum(steps) == sum(r.steps for r in one)
    made = metaworld_problem([task], MetaWorldGrounding(), None, 0)
    outcomes = evaluate(made, lambda observations, tasks: goal_seeking(observations), 3, n_envs=2)
    assert [(o.success, o.seed) for o in outcomes] == [(True, made.eval_seed + i) for i in range(3)]


# Runs -------------------------------------------------------------------------------------------------------------------


def timeless(result: TrainResult[SAC]) -> list[list[float]]:
    return [[row[key] for key in LOG_KEYS if not key.startswith("time/")] for row in result.curve]


def same(one: TrainResult[SAC], two: TrainResult[SAC]) -> bool:
    np.testing.assert_array_equal(timeless(one), timeless(two))
    a, b = one.agent, two.agent
    return all(
        torch.equal(first.state_dict()[key], value)
        for first, second in ((a.actor, b.actor), (a.critics, b.critics), (a.targets, b.targets))
        for key, value in second.state_dict().items()
    )


@pytest.mark.parametrize("guided", [False, True])
def test_a_run_logs_every_key_and_repeats_itself(guided: bool, tmp_path: Path) -> None:
    made = problem(Walk, Pointing(1.0) if guided else None, n_envs=2)
    first, again = train(made, SMALL, 0, folder=tmp_path, final_episodes=2), train(made, SMALL, 0)
    for row in first.curve:
        assert tuple(row) == ("step", *LOG_KEYS)
        assert all(key in (sac.__doc__ or "") for key in LOG_KEYS)
    assert [row["step"] for row in first.curve] == [300, 600]
    assert same(first, again)
    assert first.leader in (LEADERS if guided else ("policy",))
    assert [outcome.seed for outcome in first.final] == [1_000_000, 1_000_001]
    with (tmp_path / "curve.csv").open() as stream:
        kept = list(csv.DictReader(stream))
    assert [float(row["eval/success"]) for row in kept] == [row["eval/success"] for row in first.curve]
    assert list(tmp_path.glob("events.*"))
    other = train(problem(Walk, Pointing(1.0) if guided else None, n_envs=2, seed=1), SMALL, 1)
    assert not np.array_equal(timeless(first), timeless(other), equal_nan=True)
    if guided:
        assert first.harvested
        assert {episode.task_id for episode in first.harvested} == {"small"}
        assert all(episode.success and episode.rewards[-1] == 1.0 for episode in first.harvested)


def test_further_evaluations_change_nothing_but_the_log() -> None:
    made = problem(Walk, Pointing(1.0), n_envs=2)
    early = train(made, SMALL.model_copy(update={"eval_early": (101, 300)}), 0)
    usual = train(made, SMALL, 0)
    assert [row["step"] for row in early.curve] == [102, 300, 600]
    assert early.curve[-1]["eval/return"] == usual.curve[-1]["eval/return"]
    for name, value in usual.agent.actor.state_dict().items():
        assert torch.equal(early.agent.actor.state_dict()[name], value)


@pytest.mark.parametrize("env", [Walk, Echo])  # Echo never succeeds, so no leader has anything in its favour
@pytest.mark.parametrize("method_name", ["sac", "guided-sac", "guided-sac-kl"])
def test_a_guide_that_says_nothing_is_the_plain_algorithm_bit_for_bit(method_name: str, env: Any) -> None:
    config = SMALL.model_copy(update=METHODS[method_name].settings)
    silent, without = train(problem(env, NullGuide(2)), config, 0), train(problem(env), config, 0)
    assert silent.leader == without.leader == "policy"
    np.testing.assert_array_equal(
        [[v for k, v in row.items() if k[:4] != "time" and k != "train/fade"] for row in silent.curve],
        [[v for k, v in row.items() if k[:4] != "time" and k != "train/fade"] for row in without.curve],
    )
    assert silent.curve[-1]["train/prior_share"] == 0.0
    for name, value in without.agent.actor.state_dict().items():
        assert torch.equal(silent.agent.actor.state_dict()[name], value)
    assert torch.equal(silent.agent.actor.state_dict()["hint"], torch.zeros(4, 16))
    assert env is Walk or all(row["eval/return"] < 0.0 for row in without.curve)


GO = """
import sys
from pathlib import Path
from lago_skills.rl.train_sac import SACLoop, train
from tests.test_rl import SMALL, Pointing, Walk, problem
train(problem(Walk, Pointing(1.0), n_envs=2), SMALL.model_copy(update={"n_steps": 900}), 0, folder=Path(sys.argv[1]),
      report=lambda step, row: print(step, flush=True))
"""


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", GO, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 700:  # after the second checkpoint, before the end
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert Checkpoint.load(tmp_path / "checkpoint", {"other": 1}) is None
    config, made = SMALL.model_copy(update={"n_steps": 900}), problem(Walk, Pointing(1.0), n_envs=2)
    steps: list[int] = []
    went_on = train(made, config, 0, folder=tmp_path, report=lambda step, row: steps.append(step))
    assert steps[0] > 600
    whole = train(made, config, 0)
    assert same(went_on, whole)
    assert len(went_on.harvested) == len(whole.harvested) > 0
    with (tmp_path / "curve.csv").open() as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == ["300", "600", "900"]


def test_a_run_on_the_simulator_goes_on_exactly(tmp_path: Path, playbooks: dict[str, Playbook]) -> None:
    config = SMALL.model_copy(update={"n_steps": 500, "eval_every": 250, "plan_noise_m": 0.05})
    made = metaworld_problem([find_task("door-lock")], MetaWorldGrounding(), random_guide(playbooks), 0)
    recipe = {"same": True}
    train(made, config.model_copy(update={"n_steps": 250}), 0, folder=tmp_path, recipe=recipe)
    went_on, whole = train(made, config, 0, folder=tmp_path, recipe=recipe), train(made, config, 0)
    # a shorter run has a smaller buffer, but neither is full
    assert same(went_on, whole)


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    train(problem(Walk), SMALL, 0, folder=tmp_path)
    path = tmp_path / "checkpoint" / checkpoint.ARRAYS_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArtifactCorrupt, match="damaged"):
        train(problem(Walk), SMALL, 0, folder=tmp_path)


def test_a_full_disk_keeps_the_checkpoint_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SMALL.model_copy(update={"n_steps": 300})
    recipe = {"same": True}
    train(problem(Walk), config, 0, folder=tmp_path, recipe=recipe)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    result = train(problem(Walk), SMALL, 0, folder=tmp_path, recipe=recipe)
    assert [row["step"] for row in result.curve] == [300, 600]
    assert "full while writing checkpoint" in capsys.readouterr().err
    kept = Checkpoint.load(tmp_path / "checkpoint", recipe)
    assert kept is not None
    assert kept.values["counters"][0] == 300
    with pytest.raises(DiskFull):
        kept.save(tmp_path / "checkpoint", recipe)


FULL = """
import os, sys
from pathlib import Path
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.train_sac import SACLoop, train
from tests.test_rl import SMALL, Walk, problem
folder, recipe = Path(sys.argv[1]), {"same": True}
config = SMALL.model_copy(update={"n_steps": 1200})
def report(step, row):
    filler = folder / "filler"
    if step == 400:
        with filler.open("wb", buffering=0) as stream:
            try:
                while stream.write(bytes(4096)): pass
            except OSError as error:
                print(error)
    if step == 1000:
        filler.unlink()
curve = train(problem(Walk), config, 0, folder=folder, recipe=recipe, report=report).curve
print([row["step"] for row in curve], (folder / "curve.csv").read_text().count("\\n"))
print(Checkpoint.load(folder / "checkpoint", recipe).values["counters"][0])
"""


def test_a_disk_that_really_is_full_stops_nothing(tmp_path: Path) -> None:
    mounted = f"mount -t tmpfs -o size=2m tmpfs {tmp_path}"
    apart = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*apart, mounted], check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    script = f'{mounted} && exec "$0" -c "$1" "$2"'
    done = subprocess.run(
        [*apart, script, sys.executable, FULL, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[Errno 28] No space left on device", "[300, 600, 900, 1200] 5", "1200"]
    assert "is full; expected room for the log" in done.stderr
    assert "is full while writing" in done.stderr


def test_a_full_disk_only_delays_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RunLog(tmp_path, ["a/b"])
    log.add({"step": 1, "a/b": 0.5})

    def full(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(runlog, "write_text", full)
        log.add({"step": 2, "a/b": 0.25})
        assert (tmp_path / "curve.csv").read_text() == "step,a/b\n1,0.5\n"
        patch.setattr(runlog, "write_text", broken)
        with pytest.raises(OSError, match="broken"):
            log.add({"step": 3, "a/b": 0.1})
    log.add({"step": 4, "a/b": 1.0})
    log.close()
    assert (tmp_path / "curve.csv").read_text() == "step,a/b\n1,0.5\n2,0.25\n3,0.1\n4,1.0\n"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path)).Reload()
    shown = [(each.step, each.value) for each in board.Scalars("a/b")]
    np.testing.assert_allclose(shown, [(1, 0.5), (2, 0.25), (3, 0.1), (4, 1.0)], rtol=1e-6)


def test_a_kill_between_the_two_renames_of_a_checkpoint_loses_nothing(tmp_path: Path) -> None:
    train(problem(Walk), SMALL, 0, folder=tmp_path, recipe={"same": True})
    (tmp_path / "checkpoint").rename(tmp_path / ".checkpoint.1.old")
    kept = Checkpoint.load(tmp_path / "checkpoint", {"same": True})
    assert kept is not None
    assert kept.values["counters"][0] == 600


def test_a_run_goes_on_only_with_the_guide_and_the_demonstrations_it_was_begun_with(tmp_path: Path) -> None:
    made = problem(Walk, Pointing(1.0))
    shown = demonstrations(3, made)

    def reported(other: Problem, demos: list[Episode]) -> list[int]:
        steps: list[int] = []
        train(other, SMALL, 0, demonstrations=demos, folder=tmp_path, report=lambda step, row: steps.append(step))
        return steps

    assert reported(made, shown)[0] == 100
    assert reported(made, shown) == []  # it has ended
    assert reported(problem(Walk, Pointing(-1.0)), shown)[0] == 100
    assert reported(problem(Walk, Pointing(-1.0)), shown[:2])[0] == 100


def test_an_environment_that_does_not_repeat_itself_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [0]

    class Restless(Walk):
        def __init__(self) -> None:
            super().__init__()
            made[0] += 1
            self.shift = 0.001 * made[0]

        def _seen(self) -> NDArray[np.float64]:
            return super()._seen() + self.shift

    recipe = {"same": True}
    config = SMALL.model_copy(update={"n_steps": 300})
    train(problem(Restless, Pointing(1.0)), config, 0, folder=tmp_path, recipe=recipe)
    assert "found another observation" not in capsys.readouterr().err
    result = train(problem(Restless, Pointing(1.0)), SMALL, 0, folder=tmp_path, recipe=recipe)
    assert "environment 0: found another observation than before" in capsys.readouterr().err
    assert [row["step"] for row in result.curve] == [300, 600]


def test_a_log_row_with_other_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="declare new keys"):
        RunLog(None, ["a/b"]).add({"step": 1, "a/c": 2.0})


def demonstrations(n: int, made: Problem) -> list[Episode]:
    """Straight walks to the goal."""
    found: list[Episode] = []
    for seed in range(n):
        env = Walk()
        observation, _ = env.reset(seed=5000 + seed)
        observations, actions, rewards, done = [observation], list[Any](), list[float](), False
        while not done:
            action = np.clip(8.0 * observation[2:], -1.0, 1.0).astype(np.float32)
            observation, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            observations.append(observation)
            actions.append(action)
            rewards.append(reward)
        arrays = [np.array(rows, np.float32) for rows in (observations, actions, rewards)]
        found.append(Episode(made.tasks[0], seed, *arrays, success=True))
    return found


def test_demonstrations_fill_their_share_of_a_batch() -> None:
    made = problem(Walk)
    shown = demonstrations(3, made)
    config = SMALL.model_copy(update=METHODS["rlpd"].settings)
    plain, taught = train(made, config, 0), train(made, config, 0, demonstrations=shown)
    assert plain.curve[-1]["loss/critic"] != taught.curve[-1]["loss/critic"]
    assert not taught.harvested  # a baseline that does not harvest


def test_learners_have_names() -> None:
    assert method("rlpd").demonstrations
    for each in METHODS.values():
        usual = PPOConfig() if each.algorithm == "ppo" else SACConfig()
        type(usual).model_validate(usual.model_dump() | each.settings)
    with pytest.raises(StudyError, match="found learner 'sca'"):
        method("sca")


def test_a_learned_policy_is_found_again(tmp_path: Path) -> None:
    made = problem(Walk, Pointing(1.0))
    result = train(made, SMALL, 0, final_episodes=5)
    act = greedy_policy(made, result.agent, result.leader)
    assert [o.steps for o in evaluate(made, act, 5)] == [o.steps for o in result.final]


def test_the_step_from_which_success_stays() -> None:
    assert steps_to_stay([(1, 0.9), (2, 0.5), (3, 0.95), (4, 1.0)]) == 3
    assert steps_to_stay([(1, 0.9), (2, 1.0)]) == 1
    assert steps_to_stay([(1, 1.0), (2, 0.8)]) is None


# Learning ---------------------------------------------------------------------------------------------------------------

LEARN = SACConfig(
    n_steps=3_000, random_steps=300, eval_every=500, eval_episodes=40, batch_size=64, hidden_size=64, learning_rate=1e-3
)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_plain_sac_learns_to_repeat_what_it_sees() -> None:
    config = LEARN.model_copy(update=METHODS["sac"].settings | {"n_step": 1, "gamma": 0.5, "actor_every": 1})
    curve = train(problem(Echo), config, 0).curve
    assert curve[-1]["eval/return"] > -0.5  # over 20 steps; uniform noise has about -21
    assert curve[0]["eval/return"] < 4 * curve[-1]["eval/return"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_good_guide_beats_none_and_a_wrong_one_is_overcome() -> None:
    plain = LEARN.model_copy(update=METHODS["sac"].settings)
    longer = {"n_steps": 5_000}
    alone = train(problem(Nearby), plain.model_copy(update=longer), 0).curve
    good = train(problem(Nearby, Pointing(1.0)), LEARN, 0).curve
    wrong = train(problem(Nearby, Pointing(-1.0)), LEARN.model_copy(update=longer), 0).curve
    assert alone[0]["eval/success"] < 0.5
    assert min(row["eval/success"] for row in good) > 0.9
    assert alone[-1]["eval/success"] > 0.9
    assert wrong[-1]["eval/success"] > 0.9
    assert wrong[-1]["train/prior_share"] < 0.1
    assert wrong[-1]["train/fade"] < 0.1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(importlib.util.find_spec("stable_baselines3") is None, reason="needs stable-baselines3")
@pytest.mark.filterwarnings("ignore:Converting a tensor:UserWarning")
def test_plain_sac_has_the_curve_of_stable_baselines() -> None:
    """Same settings, three seeds each: both learn as fast (the logarithm of what is missing, over the curve) and as well (at its end)."""
    alike = {"n_step": 1, "gamma": 0.5, "actor_every": 1, "layer_norm": False, "initial_alpha": 1.0}
    config = LEARN.model_copy(update=METHODS["sac"].settings | alike | {"eval_every": 250, "n_steps": 2_500})
    seeds = (0, 1, 2)
    ours = [[row["eval/return"] for row in train(problem(Echo, seed=seed), config, seed).curve] for seed in seeds]
    theirs = [
        peer_returns(bench_train.peer_sac(problem(Echo, seed=seed), config, seed), len(ours[0])) for seed in seeds
    ]
    mine, peers = np.log10(-np.mean(ours, axis=0)), np.log10(-np.mean(theirs, axis=0))
    assert mine[0] > 0.7  # nothing is learned before the first updates; uniform noise misses 21, which is 1.3
    assert abs(mine - peers).mean() < 0.2
    assert mine[-1] < peers[-1] + 0.15


def peer_returns(model: Any, n_rows: int) -> list[float]:
    """Mean return of greedy episodes on the evaluation seeds, after each 250 steps."""
    found: list[float] = []
    for _ in range(n_rows):
        model.learn(250, reset_num_timesteps=False)

        def act(observations: NDArray[Any], tasks: NDArray[np.int64]) -> NDArray[Any]:
            return model.predict(observations.astype(np.float32), deterministic=True)[0]

        found.append(float(np.mean([each.episode_return for each in evaluate(problem(Echo), act, 40)])))
    return found
