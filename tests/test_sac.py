"""Soft actor-critic: its networks, losses and updates."""

# torch leaves some argument types open, and numpy.interp some results.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lago_skills.core import ActionSpace
from lago_skills.errors import ArtifactCorrupt
from lago_skills.guide.guides import NullGuide
from lago_skills.prior import ActionPrior
from lago_skills.rl.config import LEADERS
from lago_skills.rl.guidance.advice import Layout
from lago_skills.rl.networks import load_networks, save_networks
from lago_skills.rl.sac.agent import SAC
from lago_skills.rl.sac.networks import Actor, Critics
from lago_skills.rl.sac.replay import Batch, Columns
from tests.conftest import continuous
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
    critics(x)[0].sum().backward()
    gradients = [weight.grad for weight in critics.parameters() if weight.grad is not None]
    assert len(gradients) >= 6  # weights and biases of three layers
    for gradient in gradients:
        assert gradient[0].abs().max() > 0
        assert gradient[1].abs().max() == 0


@pytest.mark.parametrize("layer_norm", [True, False])
def test_a_critic_is_a_plain_network_with_the_hint_in_its_first_layer(layer_norm: bool) -> None:
    torch.manual_seed(0)
    critics = Critics(3, 2, 8, layer_norm)
    for weight in critics.parameters():
        weight.detach().normal_(0.0, 0.3)
    x, hint = torch.randn(5, 3), torch.randn(5, 2)
    weights = dict(critics.named_parameters())
    norm: Any = torch.nn.LayerNorm(8) if layer_norm else torch.nn.Identity()
    for number in range(2):
        w0, b0, w1, b1, w2, b2, w_hint = (
            weights[name][number] for name in ("weight0", "bias0", "weight1", "bias1", "weight2", "bias2", "hint")
        )
        hidden = norm(norm(x @ w0 + b0 + hint @ w_hint).relu() @ w1 + b1).relu()
        torch.testing.assert_close(critics(x, hint)[number], (hidden @ w2 + b2)[:, 0])


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


def test_the_actor_is_a_tanh_normal() -> None:
    torch.manual_seed(0)
    actor = Actor(5, 3, 2, 8)
    for weight in actor.parameters():
        weight.detach().normal_(0.0, 0.3)
    x, hint, noise = torch.randn(80, 5), torch.randn(80, 3), torch.randn(80, 2)
    for got, wanted in zip(actor(x, hint, noise), torchs_actor(actor, x, hint, noise), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(actor(x, hint, None)[0], torchs_actor(actor, x, hint, None)[0])


@pytest.mark.parametrize("residual_scale", [None, 0.3])
def test_the_actors_loss_is_that_of_its_docstring(residual_scale: float | None) -> None:
    config = SMALL.model_copy(update={"residual_scale": residual_scale, "density_weight": 0.5})
    agent, batch = SAC.create(28, 4, config, LAYOUT, seed=0), batch_of(64)
    batch.advice[:8, 8] = 1.0  # of some states the prior says nothing
    for weight in (*agent.actor.parameters(), *agent.critics.parameters()):
        weight.detach().add_(0.1 * torch.randn(weight.shape))
    noise = torch.randn(batch.action.shape, generator=torch.Generator().set_state(agent.generator.get_state()))
    hint = LAYOUT.hint(batch.advice)
    action, log_p = torchs_actor(agent.actor, batch.state, hint, noise)
    if residual_scale is not None:
        corrected = (LAYOUT.mean(batch.advice) + residual_scale * action).clamp(-1.0, 1.0)
        action = torch.where(LAYOUT.silent(batch.advice)[:, None], action, corrected)
    value = agent.critics(torch.cat([batch.state, action], dim=1), hint).amin(dim=0)
    loss = (agent.alpha * log_p - value).mean()
    loss = loss + 4.0 * ((action[-20:] - batch.action[-20:]) ** 2).sum(dim=1).mean()
    loss = loss - 0.5 * LAYOUT.rho(batch.advice, action).mean()
    assert agent.actor_loss(batch, 20, 4.0, 0.5)[0].item() == pytest.approx(loss.item(), rel=1e-3)


@pytest.mark.parametrize("better", ["policy", "prior"])
def test_the_target_is_the_reward_and_the_value_of_the_better_action(better: str) -> None:
    config = SMALL.model_copy(update={"initial_alpha": 0.5})
    agent, batch = SAC.create(28, 4, config, LAYOUT, seed=0), batch_of(64)
    noise = torch.randn(batch.action.shape, generator=torch.Generator().set_state(agent.generator.get_state()))
    state, hint = batch.next_state, LAYOUT.hint(batch.next_advice)
    with torch.no_grad():
        agent.critics.get_parameter("bias2").add_(1.0)  # the targets stay
        action, log_p = agent.actor(state, hint, noise)
        values = [
            agent.targets(torch.cat([state, each], dim=1), hint).amin(dim=0)
            for each in (action, LAYOUT.mean(batch.next_advice))
        ]
        of_policy, of_prior = values[0] - 0.5 * log_p, values[1]
        chosen = (of_policy > of_prior) if better == "policy" else (of_policy <= of_prior)
        assert chosen.any()
        target = batch.reward + batch.discount * torch.maximum(of_policy, of_prior)
        predicted = agent.critics(torch.cat([batch.state, batch.action], dim=1), LAYOUT.hint(batch.advice))
    loss = agent.critic_loss(batch, 0.0).item()
    assert loss == pytest.approx((predicted - target).square().mean().item(), rel=1e-4)


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
    advice[::2] = LAYOUT.pack(continuous(NullGuide(ActionSpace(4)).prior(np.zeros((32, 39)), "any")))
    np.testing.assert_array_equal(
        agent.greedy(states, advice, leader)[::2], agent.greedy(states, advice, "policy")[::2]
    )


def test_networks_are_saved_and_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    agent, again = SAC.create(28, 4, SMALL, LAYOUT, seed=5), SAC.create(28, 4, SMALL, LAYOUT, seed=6)
    save_networks(path, actor=agent.actor, critics=agent.critics)
    load_networks(path, actor=again.actor, critics=again.critics)
    batch = batch_of(7)
    np.testing.assert_array_equal(act(agent, batch), act(again, batch))
    with pytest.raises(ArtifactCorrupt, match="train again"):
        load_networks(path, actor=SAC.create(30, 4, SMALL, LAYOUT, seed=5).actor)
