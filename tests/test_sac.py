"""Soft actor-critic: its networks, gradients and updates, by hand and beside torch's own."""

# torch leaves some argument types open, and numpy.interp some results.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lago_skills.errors import ArtifactCorrupt
from lago_skills.guide.guides import NullGuide
from lago_skills.prior import ActionPrior
from lago_skills.rl.adam import Adam, ScalarAdam
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import LEADERS
from lago_skills.rl.guidance.advice import Layout
from lago_skills.rl.networks import Actor, Critics, load_networks, save_networks
from lago_skills.rl.sac.replay import Batch, Columns
from lago_skills.rl.sac.agent import SAC
from tests.small_envs import SMALL


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
    gradients = critics.gradients(x, None, kept, torch.stack([torch.ones(5), torch.zeros(5)]))
    assert max(each.abs().max() for each in gradients[:7]) > 0
    assert max(each.abs().max() for each in gradients[7:]) == 0


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
    both = [weight[number] for number in range(2) for weight in by_weights]
    for found, wanted in zip(critics.gradients(seen, hint, kept, weighed), both, strict=True):
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
        own.step(torch.autograd.grad((ours(x) ** 2).mean(), own.parameters))
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
