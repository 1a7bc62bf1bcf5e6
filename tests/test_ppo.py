"""Guided PPO: advantages by hand, plain where the guide is silent, going on after a kill, and learning with good, wrong and no guides."""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lago_skills import bench_train
from lago_skills.core import Playbook
from lago_skills.envs.grounding import MetaWorldGrounding
from lago_skills.envs.tasks import expand
from lago_skills.errors import DiskFull, ShapeError, StudyError, TrainingStopped
from lago_skills.prior import ActionPrior, DiscretePrior
from lago_skills.rl import ppo
from lago_skills.rl.advice import DiscreteLayout, Layout
from lago_skills.rl.advisers import GuideAdviser, by_task
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import PPOConfig, SACConfig
from lago_skills.rl.distributions import Categorical, Gaussian
from lago_skills.rl.drive import TrainResult
from lago_skills.rl.metaworld import metaworld_problem
from lago_skills.rl.methods import METHODS
from lago_skills.rl.ppo import LOG_KEYS, PPO, Rows
from lago_skills.rl.ppo_networks import Forward, Network, Normalizer
from lago_skills.rl.problem import Problem, evaluate
from lago_skills.rl.rollout import Rollout, advantages, advantages_and_targets
from lago_skills.rl.runlog import Row
from lago_skills.rl.train_ppo import PPOLoop, train
from lago_skills.rl.trial import Trial
from lago_skills.stages import train as stage
from lago_skills.stages.job import Workspace
from lago_skills.study import load_study
from tests.test_guide import guide as random_guide

Kind = Literal["continuous", "discrete"]
needs_peer = pytest.mark.skipif(importlib.util.find_spec("stable_baselines3") is None, reason="needs stable-baselines3")
KINDS: tuple[Kind, ...] = ("continuous", "discrete")
N_BITS, HORIZON = 4, 10
N_ACTIONS = 2**N_BITS


# Small environments -------------------------------------------------------------------------------------------------------


class Identity(gymnasium.Env[NDArray[np.float32], Any]):
    """Do what you see: reward 1 for the action that the observation names, less the farther away. Ends by a time limit."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (N_BITS if kind == "discrete" else 2,), np.float32)
        self.action_space = (
            gymnasium.spaces.Discrete(N_ACTIONS)
            if kind == "discrete"
            else gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.total = 0, 0.0
        return self.draw(), {}

    def draw(self) -> NDArray[np.float32]:
        if self.kind == "discrete":
            self.seen = self.np_random.integers(0, 2, N_BITS).astype(np.float32) * 2.0 - 1.0
        else:
            self.seen = self.np_random.uniform(-0.9, 0.9, 2).astype(np.float32)
        return self.seen

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if self.kind == "discrete":
            reward = float(action == named(self.seen[None])[0])
        else:
            assert self.action_space.contains(action)
            reward = 1.0 - float(np.abs(action - self.seen).mean())
        self.steps += 1
        self.total += reward
        return self.draw(), reward, False, self.steps == HORIZON, {"success": self.total > 0.9 * HORIZON}


def named(observations: NDArray[Any]) -> NDArray[np.int64]:
    """(B, N_BITS) observations -> (B,) the discrete action that each names."""
    return (observations > 0).astype(np.int64) @ 2 ** np.arange(observations.shape[1])


class Count(gymnasium.Env[NDArray[np.float32], Any]):
    """Reward 1 at each step; the fifth ends the episode, by termination or by a time limit."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, terminates: bool) -> None:
        self.terminates = terminates

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.steps += 1
        over = self.steps == 5
        return np.zeros(1, np.float32), 1.0, over and self.terminates, over and not self.terminates, {}


class Broken(Identity):
    """Breaks at its n-th step, counted over all episodes and copies: by a reward that is not a number or far too large, or by a crash."""

    def __init__(self, how: Literal["nan", "huge", "crash"], at: int, counter: list[int]) -> None:
        super().__init__("discrete")
        self.how, self.at, self.counter = how, at, counter

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.counter[0] += 1
        observation, reward, terminated, truncated, info = super().step(action)
        if self.counter[0] == self.at:
            if self.how == "crash":
                raise RuntimeError("the simulator is gone")
            reward = float("nan") if self.how == "nan" else 1e38
        return observation, reward, terminated, truncated, info


class Told:
    """A prior that knows the action, or the opposite one, for all tasks or some; with a floor of 1 it says nothing."""

    n_plan_steps = 0

    def __init__(self, kind: Kind, right: Sequence[bool] = (True,), floor: float = 0.02) -> None:
        self.kind, self.right, self.floor = kind, np.asarray(right), floor
        self.n_rows = 0

    def prior(
        self, observations: NDArray[Any], tasks: NDArray[np.int64], shifts: Sequence[NDArray[np.float64] | None]
    ) -> ActionPrior | DiscretePrior:
        self.n_rows += len(observations)
        wanted = np.where(self.right[tasks][:, None], observations, -observations)
        weights = np.ones((len(wanted), 1), np.float32)
        if self.kind == "continuous":
            means = wanted[:, None].astype(np.float32)
            return ActionPrior(weights, means, np.full_like(means, 0.1), self.floor)
        log_probs = np.full((len(wanted), 1, N_ACTIONS), np.log(0.1 / (N_ACTIONS - 1)), np.float32)
        log_probs[np.arange(len(wanted)), 0, named(wanted)] = np.log(0.9)
        return DiscretePrior(weights, log_probs, self.floor)


def identity(kind: Kind, adviser: Told | None = None, n_tasks: int = 1) -> Problem:
    def make(task: int) -> Callable[[], gymnasium.Env[Any, Any]]:
        return lambda: Identity(kind)

    tasks = tuple(f"{kind}-{n}" for n in range(n_tasks))
    return Problem("identity", tasks, make, tuple(range(n_tasks)) * (4 // n_tasks), adviser=adviser)


def config(**settings: Any) -> PPOConfig:
    usual: dict[str, Any] = {
        "n_steps": 4_000,
        "hidden_size": 64,
        "rollout_steps": 64,
        "minibatch_size": 64,
        "learning_rate": 1e-3,
        "gamma": 0.5,
        "initial_std": 0.4,
        "n_epochs": 5,
        "eval_every": 1_000,
        "eval_episodes": 10,
        "warm_start_updates": 100,
    }
    return PPOConfig(**(usual | settings))


SHORT: dict[str, Any] = {"n_steps": 1_024, "eval_every": 256, "n_epochs": 2, "eval_episodes": 2}


def numbers(curve: list[Row]) -> list[dict[str, float]]:
    """A curve without its times."""
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in curve]


def weights_of(result: TrainResult[PPO]) -> list[NDArray[Any]]:
    """Parameters of all networks but what a hint goes through."""
    networks = result.agent.networks().values()
    return [
        value.numpy()
        for network in networks
        for name, value in network.state_dict().items()
        if not name.endswith("hint")
    ]


# Advantages ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hint_size", [0, 3])
@pytest.mark.parametrize("hidden_size", [8, 96])  # below and above the size from which products are oneDNN's
def test_a_networks_gradients_are_those_of_torch(hidden_size: int, hint_size: int) -> None:
    torch.manual_seed(0)
    network = Network(5, hint_size, hidden_size, 2, head_gain=1.0)
    for weight in network.parameters():
        weight.detach().normal_(0.0, 0.3)
    x, hint = torch.randn(80, 5), torch.randn(80, hint_size) if hint_size else None
    hidden = network.first(x)
    if hint is not None and network.hint is not None:
        hidden = hidden + hint @ network.hint
    expected = network.head(network.second(hidden.tanh()).tanh())
    outputs, kept = network.evaluate(x, hint)
    torch.testing.assert_close(outputs, expected, rtol=1e-3, atol=1e-4)
    by_outputs = torch.randn(80, 2)
    of_layers, of_hint = network.gradients(Forward(x, hint, kept, outputs), by_outputs)
    layers = [weight for name, weight in network.named_parameters() if name != "hint"]
    wanted = torch.autograd.grad(expected, [*layers, *([] if network.hint is None else [network.hint])], by_outputs)
    for found, right in zip([*of_layers, *of_hint], wanted, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("residual_scale", [None, 0.3])
@pytest.mark.parametrize("std_by_state", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_descends_the_clipped_loss(
    kind: Kind, std_by_state: bool, residual_scale: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step's gradient beside torch's own of the loss as the docstring has it, the divergence from the prior in it."""
    discrete, n = kind == "discrete", 64
    layout = DiscreteLayout(4) if discrete else Layout(4, 2)
    config = PPOConfig(
        hidden_size=16,
        observe_prior=True,
        entropy_weight=0.01,
        max_grad_norm=1e6,
        std_by_state=std_by_state,
        residual_scale=residual_scale,
    )
    agent = PPO.create(5, 4, config, layout, 0, discrete=discrete)
    torch.manual_seed(1)
    for weight in agent.adam.parameters:
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

    acted = outputs(agent.actor)
    if discrete:
        policy = torch.distributions.Categorical(logits=acted)
        log_p, entropy = policy.log_prob(action), policy.entropy()
        apart = -(advice * policy.logits).sum(dim=1)
    else:
        assert agent.log_std is not None
        mean, change = acted.chunk(2, dim=1) if std_by_state else (acted, torch.zeros(()))
        spread = (agent.log_std + change).clamp(-4.0, 1.0).exp()
        if residual_scale is not None:
            assert isinstance(layout, Layout)
            mean = torch.where(layout.silent(advice)[:, None], mean, layout.mean(advice) + residual_scale * mean)
        normal = torch.distributions.Normal(mean, spread.expand_as(mean))
        log_p, entropy = normal.log_prob(action).sum(dim=1), normal.entropy().sum(dim=1)
        prior = torch.distributions.Normal(hint[:, :4], hint[:, 4:])
        apart = torch.distributions.kl_divergence(prior, normal).sum(dim=1)
    ratio, ahead = (log_p - rows.log_prob).exp(), (rows.advantage - rows.advantage.mean()) / rows.advantage.std()
    loss = -torch.minimum(ahead * ratio, ahead * ratio.clamp(0.8, 1.2)).mean() - 0.01 * entropy.mean()
    loss = loss + 0.5 * ((outputs(agent.critic)[:, 0] - rows.target) ** 2).mean() + (weights * apart).mean()
    wanted = torch.autograd.grad(loss, agent.adam.parameters)
    taken: list[tuple[torch.Tensor, ...]] = []
    monkeypatch.setattr(agent.adam, "step", taken.append)
    agent.update(rows, 0.0)
    assert len(taken) == config.n_epochs
    for found, right in zip(taken[0], wanted, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-4)


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
    problem = Problem("count", ("count",), lambda task: lambda: Count(terminates), (0, 0))
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
        value = float(result.agent.values(torch.zeros(1, 1), torch.zeros(1, 0)))
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
    found, _ = policy.divergence(layout, advice, policy.noise(torch.Generator().manual_seed(0)), torch.ones(n))
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
    weights = torch.ones(4)
    torch.testing.assert_close(policy.divergence(layout, probabilities, torch.zeros(0), weights)[0], peer)
    torch.testing.assert_close(policy.entropy(), torch.distributions.Categorical(logits=logits).entropy())
    same = Categorical(probabilities.log())
    of_same, of_policy = (each.apart_from(layout, probabilities, weights)[0] for each in (same, policy))
    assert bool((of_same <= of_policy).all())


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_distributions_are_those_of_torch(kind: Kind) -> None:
    torch.manual_seed(0)
    n, weights = 6, torch.randn(6)
    if kind == "discrete":
        layout: Layout | DiscreteLayout = DiscreteLayout(4)
        advice = torch.softmax(torch.randn(n, 4), dim=1)
        parameters = [torch.log_softmax(torch.randn(n, 4), dim=1).requires_grad_()]
        policy: Gaussian | Categorical = Categorical(parameters[0])
        actions = torch.randint(4, (n,))
    else:
        layout = Layout(4, 2)
        advice = torch.rand(n, layout.width) + 0.1
        parameters = [torch.randn(n, 4).requires_grad_(), (0.3 * torch.randn(n, 4)).requires_grad_()]
        policy, actions = Gaussian(*parameters), torch.randn(n, 4)
    noise = policy.noise(torch.Generator().manual_seed(1))
    quantities = {
        "log_prob": (policy.log_prob(actions), policy.by_log_prob(actions, weights)),
        "entropy": (policy.entropy(), policy.by_entropy(weights)),
        "forward": policy.apart_from(layout, advice, weights),
        "reverse": policy.divergence(layout, advice, noise, weights),
    }
    if isinstance(layout, Layout):  # rho comes detached
        mean, log_std = parameters
        rho = layout.rho(advice, mean + log_std.exp() * noise)
        quantities["reverse"] = (-policy.entropy() - rho, quantities["reverse"][1])
    for name, (value, found) in quantities.items():
        wanted = torch.autograd.grad((weights * value).sum(), parameters, allow_unused=True, retain_graph=True)
        for ours, right, parameter in zip(found, wanted, parameters, strict=True):
            expected = torch.zeros_like(parameter) if right is None else right
            torch.testing.assert_close(
                ours, expected, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )


def test_running_moments_are_those_of_all_states() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(3.0, 2.0, (n, 4)).astype(np.float32) for n in (5, 100, 17)]
    found = Normalizer(4, enabled=True)
    for part in parts:
        found.see(torch.from_numpy(part))
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
    settings = config(**SHORT, fade=fade, residual_scale=0.5 if fade == "constant" else None)
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


def curve_of(result: TrainResult[PPO]) -> list[float]:
    return [row["eval/return"] / HORIZON for row in result.curve]


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
    loop = PPOLoop(identity("continuous", Told("continuous", [True, False]), 2), config(), 0)
    loop.begin(None)
    while loop.trying:
        loop.advance()
    first, second = loop.density_weights()
    loop.close()
    assert first > 0.0
    assert second == 0.0


def test_the_guide_is_asked_once_a_state_and_not_at_all_when_nothing_uses_it() -> None:
    told = Told("continuous")
    loop = PPOLoop(identity("continuous", told), config(fade_until=0.5), 0)
    loop.begin(None)
    while loop.trying:
        loop.advance()
    n_begun = loop.n_episodes  # each is begun with a look at whether the guide speaks
    assert told.n_rows <= loop.step + n_begun
    loop.advance()
    while loop.density_weights().any():
        loop.advance()
    before = told.n_rows
    loop.advance()
    loop.close()
    assert told.n_rows == before


def test_a_residual_policy_begins_as_the_prior() -> None:
    problem = identity("continuous", Told("continuous"))
    settings = config(residual_scale=0.3, observe_prior=False, n_steps=256, eval_every=256, n_epochs=1)
    loop = PPOLoop(problem, settings, 0)
    loop.begin(None)
    at_first = np.mean([each.episode_return for each in loop.evaluate(20)])
    loop.close()
    assert at_first > 0.95 * HORIZON


def test_the_warm_start_gives_policy_and_critic_what_the_prior_knows() -> None:
    problem = identity("continuous", Told("continuous"))
    loop = PPOLoop(problem, config(observe_prior=False, warm_start_updates=400), 0)
    loop.begin(None)
    while loop.trying:
        loop.advance()
    states = torch.from_numpy(np.random.default_rng(0).uniform(-0.9, 0.9, (200, 2)).astype(np.float32))
    with torch.inference_mode():
        actions = loop.agent.policy(states, torch.zeros(200, loop.layout.width if loop.layout else 0)).mode()
        value = float(loop.agent.values(states, torch.zeros(200, 0)).mean())
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


# Going on -----------------------------------------------------------------------------------------------------------------


class Stop(Exception):
    """Raised in the middle of a run."""


@pytest.mark.parametrize("at", [70, 700])
def test_a_run_goes_on_from_its_checkpoint_as_if_it_had_not_been_stopped(at: int, tmp_path: Path) -> None:
    """70 is within the trial of the prior, 700 after it."""

    def report(step: int, row: Row) -> None:
        if step >= at:
            raise Stop

    settings = config(**SHORT | {"rollout_steps": 8, "eval_every": 64}, trial_episodes=50, initial_std=0.2)
    recipe = {"same": True}
    made = identity("continuous", Told("continuous"))
    whole = train(made, settings, 5, folder=tmp_path / "whole")
    with pytest.raises(Stop):
        train(made, settings, 5, folder=tmp_path / "cut", recipe=recipe, report=report)
    kept = Checkpoint.load(tmp_path / "cut" / "checkpoint", recipe)
    assert kept is not None
    assert kept.values["counters"][2] == (at == 70)  # still trying
    rest = train(made, settings, 5, folder=tmp_path / "cut", recipe=recipe)
    assert numbers(rest.curve) == numbers(whole.curve)
    for one, other in zip(weights_of(whole), weights_of(rest), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(rest.harvested) == len(whole.harvested) > 0
    for one, other in zip(whole.harvested, rest.harvested, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(one.observations, other.observations)


KILLED = """
import sys
from pathlib import Path
from tests.test_ppo import SHORT, Told, config, identity, train
def report(step, row):
    print(step, flush=True)
    if step >= 700:
        sys.stdin.read()
train(identity("discrete", Told("discrete")), config(**SHORT), 5, folder=Path(sys.argv[1]), report=report)
"""


def test_a_run_goes_on_after_sigkill(tmp_path: Path) -> None:
    whole = train(identity("discrete", Told("discrete")), config(**SHORT), 5)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "cut")]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 700:
            pass
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "cut" / "checkpoint").is_dir()
    rest = train(identity("discrete", Told("discrete")), config(**SHORT), 5, folder=tmp_path / "cut")
    assert numbers(rest.curve) == numbers(whole.curve)


def test_a_full_disk_keeps_the_former_checkpoint_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = Checkpoint.save, list[Path]()

    def save(self: Checkpoint, folder: Path, recipe: dict[str, Any]) -> None:
        calls.append(folder)
        if len(calls) == 2:
            raise DiskFull("the disk is full; expected room; free some")
        real(self, folder, recipe)

    monkeypatch.setattr(Checkpoint, "save", save)
    result = train(identity("discrete"), config(**SHORT), 0, folder=tmp_path)
    assert len(result.curve) == len(calls) == 4
    assert "training goes on" in capsys.readouterr().err
    assert (tmp_path / "checkpoint").is_dir()


# Bad input ----------------------------------------------------------------------------------------------------------------


def broken(how: Literal["nan", "huge", "crash"], at: int) -> Problem:
    counter = [0]
    return Problem("broken", ("broken",), lambda task: lambda: Broken(how, at, counter), (0, 0))


def test_a_reward_that_is_not_a_number_stops_the_run_with_its_step() -> None:
    with pytest.raises(TrainingStopped, match=r"environment 1 \(broken\), reward at step 25: found nan"):
        train(broken("nan", 50), config(**SHORT), 0)


def test_losses_that_are_not_finite_stop_the_run() -> None:
    with pytest.raises(
        TrainingStopped, match=r"update after step 128: found loss/value = inf; expected finite numbers; lower"
    ):
        train(broken("huge", 50), config(**SHORT), 0)


def test_an_environment_that_crashes_is_restarted_and_counted() -> None:
    result = train(broken("crash", 50), config(**SHORT), 0)
    assert [row["train/crashes"] for row in result.curve] == [1, 1, 1, 1]
    assert [row["eval/crashes"] for row in result.curve] == [0, 0, 0, 0]


def test_nothing_is_learned_from_a_step_that_crashed() -> None:
    """The step before the crash bootstraps from the state it led to; the crash itself is no row of the update."""
    rollout = Rollout.empty(4, np.zeros((1, 1)), np.zeros((1, 1), np.float32), 0, (), np.int64)
    rollout.rewards[:, 0] = 1.0
    rollout.crashed[2] = rollout.truncated[2] = True
    values = np.array([[0.1], [0.2], [0.4], [0.8]], np.float32)
    found, _ = advantages_and_targets(rollout, values, np.array([1.6], np.float32), 0.5, 0.5)
    last = 1.0 + 0.5 * 0.4 - 0.2
    np.testing.assert_allclose(found[:2, 0], [1.0 + 0.5 * 0.2 - 0.1 + 0.25 * last, last], rtol=1e-6)
    np.testing.assert_allclose(found[3, 0], 1.0 + 0.5 * 1.6 - 0.8, rtol=1e-6)
    loop = PPOLoop(broken("crash", 50), config(**SHORT), 0)
    loop.begin(None)
    loop.advance(lambda step: None)
    loop.close()
    assert float(loop.agent.normalizer.count) == 2 * 64 - 1


def test_a_guide_for_discrete_actions_may_advise_on_several_tasks() -> None:
    class Named:
        """The prior of `Told`, as a guide has it; of other certainty on other tasks if wanted."""

        def __init__(self, floors: tuple[float, float]) -> None:
            self.floors = floors

        def prior(self, observations: NDArray[Any], task: str) -> ActionPrior | DiscretePrior:
            number = int(task[-1])
            told = Told("discrete", (True, False), self.floors[number])
            return told.prior(observations, np.full(len(observations), number), [None] * len(observations))

    tasks, observations = ("discrete-0", "discrete-1"), np.random.default_rng(0).choice([-1.0, 1.0], (6, N_BITS))
    numbers_of_tasks = np.array([0, 1, 1, 0, 1, 0])
    found = GuideAdviser(Named((0.02, 0.02)), tasks).prior(observations, numbers_of_tasks, [None] * 6)
    wanted = Told("discrete", (True, False)).prior(observations, numbers_of_tasks, [None] * 6)
    assert isinstance(found, DiscretePrior)
    assert isinstance(wanted, DiscretePrior)
    np.testing.assert_array_equal(found.probabilities(), wanted.probabilities())
    with pytest.raises(ShapeError, match=r"floor 0.02 and .* floor 1.0 from one guide; expected the same"):
        GuideAdviser(Named((0.02, 1.0)), tasks).prior(observations, numbers_of_tasks, [None] * 6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_over_other_actions_is_refused(kind: Kind) -> None:
    other: Kind = "continuous" if kind == "discrete" else "discrete"
    with pytest.raises(ShapeError, match="take a bundle that was made for this environment"):
        train(identity(kind, Told(other)), config(**SHORT), 0)


# Log, methods, Meta-World -----------------------------------------------------------------------------------------------------


def test_every_log_key_is_explained_once_and_written(tmp_path: Path) -> None:
    said = re.findall(r"^  ([a-z]+/[a-z_]+) ", ppo.__doc__ or "", re.MULTILINE)
    assert tuple(said) == LOG_KEYS
    result = train(identity("discrete"), config(**SHORT), 0, folder=tmp_path, final_episodes=3)
    assert all(tuple(row) == ("step", *LOG_KEYS) for row in result.curve)
    assert [row["step"] for row in result.curve] == [256, 512, 768, 1024]
    assert (tmp_path / "curve.csv").read_text(encoding="utf-8").splitlines()[0] == ",".join(("step", *LOG_KEYS))
    assert list(tmp_path.glob("events.*"))
    assert len(result.final) == 3
    assert result.leader == "policy"


def test_successes_are_harvested_as_they_were_acted() -> None:
    result = train(identity("continuous", Told("continuous")), config(**SHORT, initial_std=0.2), 0)
    assert result.harvested
    for episode in result.harvested:
        assert episode.success
        assert episode.rewards.sum() > 0.9 * HORIZON
        np.testing.assert_allclose(
            episode.rewards, 1.0 - np.abs(episode.actions - episode.observations[:-1]).mean(axis=1), atol=1e-5
        )
    assert result.curve[-1]["train/harvested"] == len(result.harvested)
    none = train(identity("continuous", Told("continuous")), config(**SHORT, initial_std=0.2, harvest=False), 0)
    assert not none.harvested


def test_epochs_end_early_where_the_policy_has_moved_far() -> None:
    free = train(identity("continuous"), config(**SHORT | {"n_epochs": 20}), 0)
    held = train(identity("continuous"), config(**SHORT | {"n_epochs": 20}, target_kl=0.005, anneal=True), 0)
    assert held.curve[-1]["policy/approx_kl"] < free.curve[-1]["policy/approx_kl"]


def test_the_settings_of_every_method_are_known_to_its_algorithm() -> None:
    for each in METHODS.values():
        kind = {"sac": SACConfig, "ppo": PPOConfig}[each.algorithm]
        assert kind(**each.settings).model_dump() != {} or not each.settings


def test_a_run_on_several_metaworld_tasks_with_a_library(
    grounding: MetaWorldGrounding, playbooks: dict[str, Playbook]
) -> None:
    guide = random_guide(playbooks)
    tasks = expand(list(guide.playbooks))[:2]
    problem = metaworld_problem(tasks, grounding, guide, 0)
    settings = config(n_steps=200, rollout_steps=50, eval_every=200, eval_episodes=1, n_epochs=1)
    result = train(problem, settings, 0)
    assert result.curve[-1]["time/guide_share"] > 0.0
    assert problem.adviser is not None
    observations = np.stack([problem.make(n % 2)().reset(seed=n)[0] for n in range(5)])
    numbers_of_tasks = np.arange(5) % 2
    found = problem.adviser.prior(observations, numbers_of_tasks, [None] * 5)
    apart = by_task(numbers_of_tasks, lambda rows, task: guide.prior(observations[rows], tasks[task].id))
    assert isinstance(apart, ActionPrior)
    assert isinstance(found, ActionPrior)
    np.testing.assert_allclose(found.means, apart.means, atol=1e-6)
    np.testing.assert_allclose(found.weights, apart.weights, atol=1e-6)


def test_networks_go_to_disk_and_back() -> None:
    made = [PPO.create(3, 2, config(), None, seed) for seed in (0, 1)]
    kept = Checkpoint()
    states = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    none = np.zeros((4, 0), np.float32)
    made[0].put(kept)
    assert not np.array_equal(made[0].greedy(states, none, "policy"), made[1].greedy(states, none, "policy"))
    made[1].get(kept)
    np.testing.assert_array_equal(made[0].greedy(states, none, "policy"), made[1].greedy(states, none, "policy"))
    np.testing.assert_array_equal(made[0].act(states, none), made[1].act(states, none))


STUDY = """
name = "small"
[tasks]
seen = ["ten"]
unseen = ["push-wall"]
[train]
tasks = ["push-wall"]
algorithms = ["guided-ppo", "ppo"]
seeds = [0]
final_episodes = 1
[train.ppo]
n_steps = 400
rollout_steps = 100
eval_every = 200
eval_episodes = 1
n_epochs = 1
hidden_size = 16
warm_start_updates = 5
"""


def test_the_stage_trains_and_what_it_learned_acts_again(tmp_path: Path, bundle: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(STUDY, encoding="utf-8")
    space = Workspace(tmp_path, path, load_study(path))
    shutil.copytree(bundle, space.artifact("bundle"))
    observations = np.random.default_rng(0).normal(0.0, 0.3, (5, 39))
    for cell, job in zip(stage.cells(space), stage.jobs(space), strict=True):
        assert not job.done
        summary = job.run(lambda done, note: None).summary
        assert job.done
        assert (summary["method"], summary["leader"], summary["steps"]) == (cell.algorithm, "policy", 400)
        assert (summary["guide_share"] > 0.0) == (cell.algorithm == "guided-ppo")
        act, leader = stage.learned(space, cell)
        assert leader == "policy"
        actions = act(observations)
        assert actions.shape == (5, 4)
        assert float(np.abs(actions).max()) <= 1.0
        assert not np.array_equal(actions[0], actions[1])
        assert not space.artifact("unfinished", cell.name).exists()


# Beside the public implementation ---------------------------------------------------------------------------------------------


def test_without_the_peer_the_benchmark_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def find_spec(name: str) -> None:
        """Nothing is installed."""

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(StudyError, match="pip install stable-baselines3"):
        bench_train.bench(tmp_path)


def peer_curve(model: Any, kind: Kind, n_rows: int, n_steps: int) -> list[float]:
    """Mean reward of greedy episodes on the evaluation seeds, after each `n_steps`."""
    found: list[float] = []
    for _ in range(n_rows):
        model.learn(n_steps, reset_num_timesteps=False)

        def act(observations: NDArray[Any], tasks: NDArray[np.int64]) -> NDArray[Any]:
            return model.predict(observations, deterministic=True)[0]

        outcomes = evaluate(identity(kind), act, 10)
        found.append(float(np.mean([each.episode_return for each in outcomes])) / HORIZON)
    return found


@pytest.mark.slow
@pytest.mark.timeout(240)
@needs_peer
@pytest.mark.filterwarnings("ignore:Converting a tensor:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_the_curve_is_that_of_stable_baselines(kind: Kind) -> None:
    """Same settings, three seeds each: both learn as fast (the mean over the curve) and as well (its second half)."""
    settings = config(n_steps=4_096, eval_every=512, n_epochs=10, normalize_states=False, std_by_state=False)
    ours = np.mean([curve_of(train(identity(kind), settings, seed)) for seed in range(3)], axis=0)
    models = [bench_train.peer_ppo(identity(kind), settings, seed) for seed in range(3)]
    theirs = np.mean([peer_curve(model, kind, len(ours), 512) for model in models], axis=0)
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.06)
    assert np.abs(ours - theirs)[-4:].mean() < 0.04
    assert ours[-1] > 0.9


@pytest.mark.slow
@pytest.mark.timeout(240)
@needs_peer
@pytest.mark.filterwarnings("ignore:Converting a tensor:UserWarning")
def test_speeds_are_measured_in_turns(bundle: Path) -> None:
    settings = PPOConfig(rollout_steps=50, n_steps=4_000, trial_episodes=1, warm_start_updates=10, fade="constant")
    quick = SACConfig(random_steps=100, batch_size=32, hidden_size=32)
    rows, summary = bench_train.bench(bundle, settings, rounds=1, sac=quick)
    assert [row["algorithm"] for row in rows] == ["ppo", "sac", "sac, the peer's updates"]
    assert list(rows[0]) == ["algorithm", "ours_steps_per_s", "peer_steps_per_s", "ratio", "guide_share"]
    assert rows[0]["ratio"] == pytest.approx(rows[0]["ours_steps_per_s"] / rows[0]["peer_steps_per_s"], rel=0.01)
    assert 0.0 < rows[0]["guide_share"] < 1.0
    assert summary["peer"].startswith("stable-baselines3 ")
    assert summary["processor"]
