"""Guided PPO: losses and advantages by hand, plain where the guide is silent, and learning with good, wrong and no guides."""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lago_skills.prior import ActionPrior
from lago_skills.rl.config import PPOConfig
from lago_skills.rl.guidance.advice import DiscreteLayout, Layout
from lago_skills.rl.guidance.trial import Trial
from lago_skills.rl.loop import Loop, train
from lago_skills.rl.networks import Normalizer
from lago_skills.rl.ppo.agent import PPO, Rows
from lago_skills.rl.ppo.algorithm import ProximalPolicyOptimisation
from lago_skills.rl.ppo.distributions import Categorical, Gaussian
from lago_skills.rl.ppo.networks import Network
from lago_skills.rl.ppo.rollout import advantages
from lago_skills.rl.problem import Problem
from tests.ppo_envs import (
    HORIZON,
    KINDS,
    SHORT,
    Count,
    Kind,
    Told,
    config,
    curve_of,
    identity,
    numbers,
    weights_of,
)


def ppo_of(loop: Loop) -> ProximalPolicyOptimisation:
    assert isinstance(loop.algorithm, ProximalPolicyOptimisation)
    return loop.algorithm


def trying(loop: Loop) -> bool:
    return ppo_of(loop).trying


# Advantages ---------------------------------------------------------------------------------------------------------------


def torchs_policy(agent: PPO, acted: torch.Tensor, rows: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities, entropies and divergences from the prior as torch's own distributions have them, given what the actor put out."""
    layout, settings = agent.advice_layout, agent.config
    if isinstance(layout, DiscreteLayout):
        policy = torch.distributions.Categorical(logits=acted)
        return policy.log_prob(rows.action), policy.entropy(), -(rows.advice * policy.logits).sum(dim=1)
    assert layout is not None
    assert agent.log_std is not None
    mean, change = acted.chunk(2, dim=1) if settings.std_by_state else (acted, torch.zeros(()))
    spread = (agent.log_std + change).clamp(-4.0, 1.0).exp()
    if settings.residual_scale is not None:
        corrected = layout.mean(rows.advice) + settings.residual_scale * mean
        mean = torch.where(layout.silent(rows.advice)[:, None], mean, corrected)
    normal = torch.distributions.Normal(mean, spread.expand_as(mean))
    of_mean, of_std = layout.hint(rows.advice).chunk(2, dim=1)
    prior = torch.distributions.Normal(of_mean, of_std)
    apart = (
        torch.distributions.kl_divergence(prior, normal) + of_std.log() + 0.5
    )  # without what the policy cannot change
    apart = apart.sum(dim=1)
    return normal.log_prob(rows.action).sum(dim=1), normal.entropy().sum(dim=1), apart


@pytest.mark.parametrize("residual_scale", [None, 0.3])
@pytest.mark.parametrize("std_by_state", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_clipped_one(kind: Kind, std_by_state: bool, residual_scale: float | None) -> None:
    """Beside torch's own distributions, the divergence from the prior in it."""
    discrete, n = kind == "discrete", 64
    layout = DiscreteLayout(4) if discrete else Layout(4, 2)
    config = PPOConfig(
        hidden_size=16,
        observe_prior=True,
        entropy_weight=0.01,
        std_by_state=std_by_state,
        residual_scale=residual_scale,
    )
    agent = PPO.create(5, 4, config, layout, 0, discrete=discrete)
    torch.manual_seed(1)
    for weight in agent.parameters():
        weight.detach().add_(0.2 * torch.randn(weight.shape))
    advice = torch.rand(n, layout.width) + 0.1
    if discrete:
        advice = advice / advice.sum(dim=1, keepdim=True)
    state, action = torch.randn(n, 5), torch.randint(4, (n,)) if discrete else torch.randn(n, 4)
    weights = torch.where(torch.arange(n) % 2 == 0, 3.0, 0.0)  # half of the states count
    rows = Rows(state, advice, action, -3.0 - torch.rand(n), torch.randn(n), torch.randn(n), weights)
    hint = layout.hint(advice)

    def outputs(network: Network) -> torch.Tensor:
        assert network.hint is not None
        return network.head(network.second((network.first(state) + hint @ network.hint).tanh()).tanh())

    log_p, entropy, apart = torchs_policy(agent, outputs(agent.actor), rows)
    ratio, ahead = (log_p - rows.log_prob).exp(), (rows.advantage - rows.advantage.mean()) / rows.advantage.std()
    loss = -torch.minimum(ahead * ratio, ahead * ratio.clamp(0.8, 1.2)).mean() - 0.01 * entropy.mean()
    loss = loss + 0.5 * ((outputs(agent.critic)[:, 0] - rows.target) ** 2).mean() + (weights * apart).mean()
    assert agent.loss(rows)[0].item() == pytest.approx(loss.item(), rel=1e-4)


def test_advantages_by_hand() -> None:
    """Gamma and lambda 1/2, values 1: a termination has nothing after it, a time limit has 8, and no sum goes past an end."""
    rewards = np.array([[1], [2], [3], [4]], np.float32)
    values = np.ones((4, 1), np.float32)
    following = np.array([[1], [8], [1], [6]], np.float32)
    ended = np.array([[False], [True], [True], [False]])
    terminated = np.array([[False], [False], [True], [False]])
    # errors: 1 + 1/2 - 1, 2 + 4 - 1, 3 + 0 - 1, 4 + 3 - 1
    found = advantages(rewards, values, following, terminated, ended, 0.5, 0.5)
    np.testing.assert_allclose(found[:, 0], [0.5 + 0.25 * 5.0, 5.0, 2.0, 6.0])


@pytest.mark.parametrize("terminates", [True, False])
def test_a_time_limit_bootstraps_and_a_termination_does_not(terminates: bool) -> None:
    """The critic, which cannot see the time, learns 1 / (1 - gamma) without an end, and the mean over five steps with one."""
    gamma = 0.8
    problem = Problem("count", ("count",), lambda task: lambda: Count(terminates), (0, 0), success="terminated")
    settings: dict[str, Any] = {
        "n_steps": 4_000,
        "gae_lambda": 0.9,
        "gamma": gamma,
        "eval_every": 4_000,
        "n_epochs": 4,
        "hidden_size": 32,
    }
    result = train(problem, config(**settings), 0)
    with torch.inference_mode():
        value = float(result.agent.value(np.zeros((1, 1), np.float32), np.zeros((1, 0), np.float32))[0])
    endless = 1.0 / (1.0 - gamma)
    if not terminates:
        assert value == pytest.approx(endless, rel=0.05)
    else:
        # one value for five states: the mean of the five returns that lambda-returns settle at, far below the endless one
        assert 1.5 < value < 0.7 * endless


# Distributions ------------------------------------------------------------------------------------------------------------


def test_the_gaussian_is_torchs_own() -> None:
    mean, log_std = torch.randn(5, 3), torch.randn(5, 3)
    actions = torch.randn(5, 3)
    peer = torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)
    ours = Gaussian(mean, log_std)
    torch.testing.assert_close(ours.log_prob(actions), peer.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), peer.entropy())
    assert float(Gaussian(torch.full((1, 3), 7.0), log_std[:1]).mode().max()) == 1.0


def test_the_continuous_divergence_is_the_closed_form_on_average() -> None:
    n, layout = 50_000, Layout(2, 1)
    means = np.tile(np.array([[[0.2, -0.3]]], np.float32), (n, 1, 1))
    prior = ActionPrior(np.ones((n, 1), np.float32), means, np.full_like(means, 0.5))
    policy = Gaussian(torch.zeros(n, 2), torch.tensor([-1.0, -0.5]).expand(n, 2))
    advice = torch.from_numpy(layout.pack(prior))
    found = policy.reverse_divergence(layout, advice, torch.Generator().manual_seed(0))
    normals = (torch.distributions.Normal(0.0, torch.tensor([-1.0, -0.5]).exp()),)
    closed = torch.distributions.kl_divergence(
        normals[0], torch.distributions.Normal(torch.from_numpy(means[0, 0]), 0.5)
    ).sum()
    assert float(found.mean()) == pytest.approx(float(closed), abs=0.02)


def test_the_discrete_divergence_is_exact() -> None:
    layout, logits = DiscreteLayout(3), torch.randn(4, 3)
    probabilities = torch.softmax(torch.randn(4, 3), dim=1)
    policy = Categorical(torch.log_softmax(logits, dim=1))
    peer = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=logits), torch.distributions.Categorical(probs=probabilities)
    )
    torch.testing.assert_close(policy.reverse_divergence(layout, probabilities, torch.Generator()), peer)
    torch.testing.assert_close(policy.entropy(), torch.distributions.Categorical(logits=logits).entropy())
    same = Categorical(probabilities.log())
    of_same, of_policy = (each.forward_divergence(layout, probabilities) for each in (same, policy))
    assert bool((of_same <= of_policy).all())


def test_running_moments_are_those_of_all_states() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(3.0, 2.0, (n, 4)).astype(np.float32) for n in (5, 100, 17)]
    found = Normalizer(4, enabled=True)
    for part in parts:
        found.update(torch.from_numpy(part))
    whole = np.concatenate(parts)
    np.testing.assert_allclose(found.mean.numpy(), whole.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.var.numpy(), whole.var(axis=0), rtol=1e-5)
    seen = found(torch.from_numpy(whole)).numpy()
    np.testing.assert_allclose(seen.std(axis=0), 1.0, rtol=1e-4)
    assert float(found(torch.full((1, 4), 1e6)).max()) == 10.0


# Plain is plain -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fade", ["adaptive", "constant"])
def test_a_silent_guide_is_the_plain_algorithm_bit_for_bit(kind: Kind, fade: str) -> None:
    constant = fade == "constant"
    settings = config(**SHORT, fade=fade, observe_prior=constant, residual_scale=0.5 if constant else None)
    plain = train(identity(kind), settings, 3)
    silent = train(identity(kind, Told(kind, floor=1.0)), settings, 3)
    ignored = {"train/density_weight"}
    for one, other in zip(numbers(plain.curve), numbers(silent.curve), strict=True):
        assert {k: v for k, v in one.items() if k not in ignored} == {
            k: v for k, v in other.items() if k not in ignored
        }
    for one, other in zip(weights_of(plain), weights_of(silent), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_is_the_same_run_and_another_is_not(kind: Kind) -> None:
    runs = [train(identity(kind, Told(kind)), config(**SHORT), seed) for seed in (1, 1, 2)]
    assert numbers(runs[0].curve) == numbers(runs[1].curve)
    assert numbers(runs[0].curve) != numbers(runs[2].curve)


# Learning -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_guide_beats_none_and_a_wrong_one_is_overcome(kind: Kind) -> None:
    settings = config(eval_every=500)
    none = curve_of(train(identity(kind), settings, 0))
    good = curve_of(train(identity(kind, Told(kind)), settings, 0))
    wrong = curve_of(train(identity(kind, Told(kind, [False])), settings, 0))
    assert none[-1] > 0.9
    assert good[0] > none[0] + 0.1
    assert good[-1] > none[-1] - 0.02
    assert wrong[-1] > none[-1] - 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("divergence", ["reverse", "forward"])
def test_a_wrong_guide_that_never_fades_is_overcome_where_the_reward_is_worth_more(kind: Kind, divergence: str) -> None:
    settings: dict[str, Any] = {
        "divergence": divergence,
        "fade": "constant",
        "density_weight": 0.02,
        "trial_episodes": 0,
    }
    wrong = train(identity(kind, Told(kind, [False])), config(**settings), 0)
    assert wrong.curve[-1]["train/density_weight"] == pytest.approx(0.02)
    assert curve_of(wrong)[-1] > 0.85


def test_each_task_has_a_weight_of_its_own() -> None:
    """The first task's prior is right, the second's is the opposite: the divergence counts in the first alone."""
    loop = Loop(identity("continuous", Told("continuous", [True, False]), 2), config(), 0)
    loop.begin()
    while trying(loop):
        loop.advance()
    first, second = ppo_of(loop).density_weights(loop.step)
    loop.close()
    assert first > 0.0
    assert second == 0.0


def test_the_guide_is_asked_once_a_state_and_not_at_all_when_nothing_uses_it() -> None:
    told = Told("continuous")
    loop = Loop(identity("continuous", told), config(fade_until=0.5), 0)
    loop.begin()
    while trying(loop):
        loop.advance()
    n_begun = loop.n_episodes  # each is begun with a look at whether the guide speaks
    assert told.n_rows <= loop.step + n_begun
    loop.advance()
    while ppo_of(loop).density_weights(loop.step).any():
        loop.advance()
    before = told.n_rows
    loop.advance()
    loop.close()
    assert told.n_rows == before


def test_a_residual_policy_begins_as_the_prior() -> None:
    problem = identity("continuous", Told("continuous"))
    settings = config(residual_scale=0.3, observe_prior=False, n_steps=256, eval_every=256, n_epochs=1)
    loop = Loop(problem, settings, 0)
    loop.begin()
    at_first = np.mean([each.episode_return for each in loop.evaluate(20)])
    loop.close()
    assert at_first > 0.95 * HORIZON


def test_the_warm_start_gives_policy_and_critic_what_the_prior_knows() -> None:
    problem = identity("continuous", Told("continuous"))
    loop = Loop(problem, config(observe_prior=False, warm_start_updates=400), 0)
    loop.begin()
    while trying(loop):
        loop.advance()
    algorithm = ppo_of(loop)
    agent = algorithm.agent
    states = torch.from_numpy(np.random.default_rng(0).uniform(-0.9, 0.9, (200, 2)).astype(np.float32))
    with torch.inference_mode():
        actions = agent.policy(states, torch.zeros(200, algorithm.layout.width if algorithm.layout else 0)).mode()
        value = float(agent.value(states.numpy(), np.zeros((200, 0), np.float32)).mean())
    loop.close()
    assert float((actions - states).abs().mean()) < 0.15
    assert 1.4 < value < 2.2  # nearly 1 at each step, gamma 1/2


def test_a_policy_may_begin_as_the_prior() -> None:
    """The prior leads every episode until it is copied; the evaluation that follows is the copy's."""
    problem = identity("continuous", Told("continuous"))
    settings = config(
        trial_by="prior", trial_episodes=4, observe_prior=False, density_weight=0.0, warm_start_updates=400
    )
    rows = train(problem, settings, 0).curve
    first = rows[0]
    assert first["step"] < 1_000  # before the first regular row
    assert first["train/prior_share"] == 1.0
    assert all(row["train/prior_share"] == 0.0 for row in rows[2:])
    untaught = train(identity("continuous"), settings, 0).curve
    assert first["eval/return"] > untaught[-1]["eval/return"]
    assert first["eval/return"] > 0.9 * HORIZON


# What the prior is worth ----------------------------------------------------------------------------------------------------


def trial(prior: list[float], untrained: list[float], later: list[float]) -> Trial:
    found = Trial(1)
    for value in prior:
        found.note(0, True, value, untrained=True)
    for value in untrained:
        found.note(0, False, value, untrained=True)
    for value in later:
        found.note(0, False, value, untrained=False)
    return found


def test_the_lead_of_a_prior_goes_from_one_to_nothing_as_the_policy_overtakes_it() -> None:
    assert trial([1, 1], [0, 0], []).lead(0) == 1.0
    assert trial([1, 1], [0, 0], [0]).lead(0) == 1.0
    assert trial([1, 1], [0, 0], [0, 1]).lead(0) == pytest.approx(0.9 / 1.9)
    assert trial([1, 1], [0, 0], [1, 1]).lead(0) == 0.0
    assert trial([1, 1], [0, 0], [2]).lead(0) == 0.0


def test_a_prior_that_does_no_better_than_an_untrained_policy_has_no_lead() -> None:
    assert not trial([0, 0], [0, 0], []).accepted(0)
    assert not trial([5, 5], [5, 5], []).accepted(0)
    assert trial([-5, -5], [-7, -7], []).accepted(0)
    assert not trial([1, 0, 2], [0, 1, 1.5], []).accepted(0)  # within what chance does
    assert not trial([1], [], []).accepted(0)
    assert not trial([1], [], []).over(1)
    assert trial([1], [0], []).over(1)


def test_a_prior_that_leads_all_of_the_trial_is_taken_as_it_is() -> None:
    alone = Trial(1, turns=False)
    assert not alone.accepted(0)
    alone.note(0, True, 2.0, untrained=True)
    assert alone.over(1)
    assert alone.accepted(0)
    assert alone.lead(0) == 1.0
    alone.note(0, False, 1.0, untrained=False)
    assert alone.lead(0) == 0.5
    worthless = Trial(1, turns=False)
    worthless.note(0, True, 0.0, untrained=True)
    worthless.note(0, False, 0.0, untrained=False)
    assert worthless.lead(0) == 0.0
