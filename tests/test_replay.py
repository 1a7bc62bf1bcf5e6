"""What the learners share of memory: replay, stored priors, and who leads an episode."""

# torch leaves some argument types open, and numpy.interp some results.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch

from lago_skills.prior import ActionPrior, DiscretePrior
from lago_skills.rl.algorithm import RunningEpisode
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import LEADERS
from lago_skills.rl.guidance.advice import Layout, pack_discrete
from lago_skills.rl.guidance.leaders import Leaders
from lago_skills.rl.problem import Problem
from lago_skills.rl.sac.replay import Batch, Columns, QuickestReplay, Replay, Returns

# Replay -----------------------------------------------------------------------------------------------------------------


def running(n_steps: int, rewards: list[float]) -> RunningEpisode:
    rows = [np.array([float(i)], np.float32) for i in range(n_steps + 1)]
    actions = [np.zeros(1, np.float32)] * n_steps
    return RunningEpisode(7, "policy", None, list(rows), list(rows), list(rows), actions, rewards)


def filled(terminated: bool, *, step_by_step: bool) -> Replay:
    """Rewards 0 0 1 0 4, gamma 1/2, three steps."""
    memory = Replay(100, Columns(1, 1, 1), Returns(3, 0.5))
    whole = running(5, [0, 0, 1, 0, 4])
    if not step_by_step:
        memory.add_episode(whole, terminated)
        return memory
    part = RunningEpisode(7, "policy", None, whole.observations[:1], whole.states[:1], whole.advice[:1])
    for t in range(5):
        part.append(whole.actions[t], whole.rewards[t], whole.observations[t + 1], whole.states[t + 1])
        part.advice.append(whole.advice[t + 1])
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
    memory = Replay(4, Columns(1, 1, 1), Returns(1, 0.9))
    memory.add_episode(running(6, [0.0] * 6), False)
    assert set(by_state(memory)) == {2, 3, 4, 5}


def lengths_of(memory: Replay) -> set[int]:
    """Last states of the episodes that are in it: as many as an episode has steps."""
    batch = Batch(memory.sample(np.random.default_rng(0), 2_000), memory.columns)
    return {int(state) for state, discount in zip(batch.next_state[:, 0], batch.discount, strict=True) if not discount}


def test_of_successful_episodes_the_quickest_stay() -> None:
    memory = QuickestReplay(2, Columns(1, 1, 1), Returns(3, 0.5))
    remembered: list[set[int]] = []
    for n_steps in (9, 6, 8, 4, 7, 4):
        memory.add_episode(running(n_steps, [0.0] * (n_steps - 1) + [1.0]), terminated=True)
        remembered.append(lengths_of(memory))
    assert remembered == [{9}, {9, 6}, {6, 8}, {6, 4}, {6, 4}, {4}]
    assert memory.size == 8
    checkpoint = Checkpoint()
    memory.put(checkpoint, "successful")
    again = QuickestReplay(2, Columns(1, 1, 1), Returns(3, 0.5))
    again.get(checkpoint, "successful")
    for each in (memory, again):
        each.add_episode(running(3, [0.0, 0.0, 1.0]), terminated=True)
    one, other = (each.sample(np.random.default_rng(1), 50) for each in (memory, again))
    assert np.array_equal(one, other)
    assert lengths_of(again) == {4, 3}


def test_where_success_lasts_the_steadiest_episodes_stay() -> None:
    memory = QuickestReplay(2, Columns(1, 1, 1), Returns(1, 0.5))
    for solved in (2, 6, 4):
        memory.add_episode(running(8, [0.0] * (8 - solved) + [1.0] * solved), terminated=False)
    rewards = Batch(memory.sample(np.random.default_rng(0), 4_000), memory.columns).reward
    assert float(rewards.mean()) == pytest.approx(10 / 16, abs=0.03), "those with six and with four solved steps"


def test_rewards_are_scaled_before_they_are_learned_from() -> None:
    plain, scaled = (Replay(10, Columns(1, 1, 1), Returns(3, 0.5, scale)) for scale in (1.0, 0.01))
    for memory in (plain, scaled):
        memory.add_episode(running(4, [0.0, 1.0, 1.0, 1.0]), terminated=False)
    one, other = (Batch(each.sample(np.random.default_rng(1), 20), each.columns) for each in (plain, scaled))
    assert torch.allclose(0.01 * one.reward, other.reward)
    assert torch.equal(one.discount, other.discount)
    assert one.reward.max() == 1.75


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


def test_who_was_hardly_tried_does_not_lead_where_another_succeeds() -> None:
    """A prior that succeeds now and then leads evaluations before a policy that nobody has tried, whose posterior mean is a half."""
    leaders = Leaders(LEADERS)
    leaders.draw(np.random.default_rng(0))
    for success in (False, False, True, False, False):
        leaders.note("prior", success)
    assert leaders.best() == "prior"
    leaders.note("policy", False)
    assert leaders.best() == "prior"
    leaders.note("policy", True)
    assert leaders.best() == "policy"


def test_what_does_most_of_a_task_leads_before_what_does_some() -> None:
    """Of tasks that ask for several things no leader may ever do all."""
    leaders = Leaders(("prior", "policy"))
    leaders.draw(np.random.default_rng(0))
    for _ in range(10):
        leaders.note("prior", 0.5)
        leaders.note("policy", 0.75)
    assert leaders.best() == "policy"
    assert 0.0 <= leaders.lead_of_prior() < 0.1


def test_an_episodes_score_is_the_share_of_the_things_that_it_did() -> None:
    def nothing(number: int) -> Any:
        raise AssertionError

    of_four = Problem(name="p", tasks=("a", "b"), make=nothing, env_tasks=(0, 1), parts=(4, 1))
    assert of_four.score(0, success=False, episode_return=3.0) == 0.75
    assert of_four.score(0, success=True, episode_return=4.0) == 1.0
    assert of_four.score(0, success=False, episode_return=-2.0) == 0.0
    assert of_four.score(1, success=False, episode_return=3.0) == 0.0  # one thing is done or it is not
    alone = Problem(name="p", tasks=("a",), make=nothing, env_tasks=(0,))
    assert alone.score(0, success=False, episode_return=7.0) == 0.0


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
