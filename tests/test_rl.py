"""The learner: replay by hand, leaders, updates, and learning on a task that takes a minute."""

# torch leaves some argument types open, and numpy.interp some results.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lago_skills.core import Playbook
from lago_skills.envs.grounding import MetaWorldGrounding
from lago_skills.envs.metaworld import MetaWorldEnv
from lago_skills.envs.tasks import find_task
from lago_skills.errors import ArtifactCorrupt, TrainingStopped
from lago_skills.evaluate.rollouts import rollouts
from lago_skills.rl.config import SACConfig
from lago_skills.rl.guidance import Guidance, greedy_policy
from lago_skills.rl.leaders import LEADERS, Leaders
from lago_skills.rl.networks import Actor, Agent, Critics, load_agent, save_agent
from lago_skills.rl.replay import Batch, Replay, join
from lago_skills.rl.sac import LOG_KEYS, TrainResult, train, update_actor, update_critics
from tests.test_guide import guide as random_guide

SMALL = SACConfig(n_steps=600, random_steps=300, eval_every=300, eval_episodes=2, batch_size=32, hidden_size=16)


# Replay -----------------------------------------------------------------------------------------------------------------


def filled(terminated: bool) -> Replay:
    memory = Replay(100, 1, 1, n_step=3, gamma=0.5)
    states = np.arange(6, dtype=np.float32)[:, None]
    rewards = np.array([0, 0, 1, 0, 4], np.float32)
    memory.add_episode(states, np.tile(states, (1, 2)), np.zeros((5, 1), np.float32), rewards, terminated)
    return memory


def by_state(memory: Replay) -> dict[int, tuple[float, float, int]]:
    batch = memory.sample(np.random.default_rng(0), 500)
    rows = zip(batch.state[:, 0], batch.reward, batch.discount, batch.next_state[:, 0], strict=True)
    return {int(s): (float(r), float(d), int(n)) for s, r, d, n in rows}


def test_n_step_returns_by_hand() -> None:
    """Rewards 0 0 1 0 4, gamma 1/2, three steps: sums stop at the episode's end."""
    assert by_state(filled(terminated=True)) == {
        0: (0.25, 0.125, 3),
        1: (0.5, 0.125, 4),
        2: (2.0, 0.0, 5),
        3: (2.0, 0.0, 5),
        4: (4.0, 0.0, 5),
    }


def test_a_time_limit_bootstraps_and_a_termination_does_not() -> None:
    found = by_state(filled(terminated=False))
    assert found[2] == (2.0, 0.125, 5)
    assert found[3] == (2.0, 0.25, 5)
    assert found[4] == (4.0, 0.5, 5)


def test_the_ring_forgets_the_oldest() -> None:
    memory = Replay(4, 1, 1, n_step=1, gamma=0.9)
    states = np.arange(7, dtype=np.float32)[:, None]
    memory.add_episode(states, np.tile(states, (1, 2)), np.zeros((6, 1), np.float32), np.zeros(6, np.float32), False)
    assert set(by_state(memory)) == {2, 3, 4, 5}
    both = join(memory.sample(np.random.default_rng(0), 3), memory.sample(np.random.default_rng(1), 2))
    assert both.state.shape == (5, 1)
    assert both.reward.shape == (5,)


# Leaders ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("good", LEADERS)
def test_the_leader_that_succeeds_leads(good: str) -> None:
    leaders, rng = Leaders(LEADERS), np.random.default_rng(0)
    led = [leaders.draw(rng) for _ in range(1)]
    for _ in range(300):
        leader = leaders.draw(rng)
        led.append(leader)
        leaders.note(leader, bool(rng.random() < (0.9 if leader == good else 0.1)))
    assert leaders.best() == good
    assert np.mean([leader == good for leader in led[-100:]]) > 0.6


def test_a_prior_that_fails_from_now_on_is_left_for_a_policy_that_succeeds() -> None:
    leaders, rng = Leaders(LEADERS), np.random.default_rng(1)
    for episode in range(400):
        leader = leaders.draw(rng)
        early = episode < 100
        share = {"prior": 0.8 * early, "explore": 0.1, "mix": 0.1, "policy": 0.8 * (not early)}[leader]
        leaders.note(leader, bool(rng.random() < share))
    assert leaders.best() == "policy"


# Networks ---------------------------------------------------------------------------------------------------------------


def test_the_actors_log_density_integrates_to_one() -> None:
    torch.manual_seed(0)
    actor = Actor(2, 1, 8)
    x = torch.zeros(20_000, 2)
    action, log_p = actor(x, torch.randn(20_000, 1))
    counts, edges = np.histogram(action.detach().numpy()[:, 0], bins=40, range=(-1, 1), density=True)
    centres = (edges[:-1] + edges[1:]) / 2
    order = np.argsort(action.detach().numpy()[:, 0])
    density = np.interp(centres, action.detach().numpy()[order, 0], log_p.detach().exp().numpy()[order])
    assert np.abs(density - counts)[2:-2].max() < 0.15 * counts.max()


def test_both_critics_are_independent_networks() -> None:
    torch.manual_seed(0)
    critics = Critics(3, 8)
    x = torch.randn(5, 3)
    both = critics(x)
    assert both.shape == (2, 5)
    assert not torch.allclose(both[0], both[1])
    both[0].sum().backward()
    for weight in critics.weights:
        assert weight.grad is not None
        assert weight.grad[1].abs().max() == 0


def batch_of(n: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    hint = np.concatenate([draw(n, 4), np.full((n, 4), 0.3, np.float32)], axis=1)
    return Batch(draw(n, 28), hint, draw(n, 4), draw(n), np.full(n, 0.9, np.float32), draw(n, 28), hint)


@pytest.mark.parametrize("guidance", ["none", "proposals"])
def test_updates_lower_the_bellman_error_and_are_deterministic(guidance: str) -> None:
    config = SMALL.model_copy(update={"guidance": guidance, "tau": 0.0001, "learning_rate": 1e-3})
    batch = batch_of(64)
    curves: list[list[float]] = []
    for _ in range(2):
        agent = Agent.create(28, 4, config, seed=3)
        curves.append([update_critics(agent, batch, config) for _ in range(200)])
        update_actor(agent, batch, 8, config)
    assert curves[0] == curves[1]
    assert np.mean(curves[0][-20:]) < 0.3 * np.mean(curves[0][:5])


def test_the_actor_climbs_the_critic() -> None:
    config = SMALL.model_copy(update={"guidance": "none", "learning_rate": 3e-3})
    agent = Agent.create(28, 4, config, seed=1)
    batch = batch_of(64)
    values = [update_actor(agent, batch, 0, config)[1] for _ in range(150)]
    assert np.mean(values[-10:]) > np.mean(values[:10])


def test_self_imitation_pulls_the_actor_to_what_succeeded() -> None:
    config = SMALL.model_copy(update={"learning_rate": 3e-3, "imitation_weight": 50.0})
    agent = Agent.create(28, 4, config, seed=1)
    batch = batch_of(64)
    for _ in range(400):
        update_actor(agent, batch, 32, config)
    mode = agent.act(batch.state, batch.hint, greedy=True)
    miss = ((mode - batch.action) ** 2).sum(1)
    assert miss[-32:].mean() < 0.5 * miss[:32].mean()


# Runs -------------------------------------------------------------------------------------------------------------------


def run(playbooks: dict[str, Playbook], guidance: str, seed: int = 0) -> TrainResult:
    config = SMALL.model_copy(update={"guidance": guidance})
    built = random_guide(playbooks) if guidance != "none" else None
    return train(find_task("door-lock"), MetaWorldGrounding(), built, config, seed, 2, lambda step, row: None)


@pytest.mark.parametrize("guidance", ["none", "proposals"])
def test_a_run_logs_every_key_and_repeats_itself(guidance: str, playbooks: dict[str, Playbook]) -> None:
    first, again = run(playbooks, guidance), run(playbooks, guidance)
    for row in first.curve:
        assert set(row) == {"step", *LOG_KEYS}
    assert [row["step"] for row in first.curve] == [300, 600]
    timeless = [key for key in LOG_KEYS if not key.startswith("time/")]
    for one, two in zip(first.curve, again.curve, strict=True):
        np.testing.assert_array_equal([one[k] for k in timeless], [two[k] for k in timeless])
    for one, two in zip(first.agent.actor.parameters(), again.agent.actor.parameters(), strict=True):
        assert torch.equal(one, two)
    assert first.leader in (("policy",) if guidance == "none" else LEADERS)
    assert len(first.final) == 2
    other = run(playbooks, guidance, seed=1)
    pairs = zip(first.agent.actor.parameters(), other.agent.actor.parameters(), strict=True)
    assert any(not torch.equal(one, two) for one, two in pairs)


def test_no_guide_is_the_plain_algorithm_bit_for_bit(playbooks: dict[str, Playbook]) -> None:
    """Guidance switched off takes not one random number and no value from a guide that is there."""
    config = SMALL.model_copy(update={"guidance": "none"})
    with_guide = train(
        find_task("door-lock"), MetaWorldGrounding(), random_guide(playbooks), config, 0, 2, lambda step, row: None
    )
    without = run(playbooks, "none")
    for one, two in zip(with_guide.agent.actor.parameters(), without.agent.actor.parameters(), strict=True):
        assert torch.equal(one, two)
    assert with_guide.curve[-1]["train/prior_share"] == 0.0


def test_agents_are_saved_and_damage_is_found(tmp_path: object, playbooks: dict[str, Playbook]) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "a.safetensors"
    agent = Agent.create(28, 4, SMALL, seed=5)
    save_agent(agent, path)
    again = load_agent(path, 28, 4, SMALL)
    batch = batch_of(7)
    np.testing.assert_array_equal(
        agent.act(batch.state, batch.hint, greedy=True), again.act(batch.state, batch.hint, greedy=True)
    )
    with pytest.raises(ArtifactCorrupt, match="train again"):
        load_agent(path, 30, 4, SMALL)
    guidance = Guidance(find_task("push-wall"), MetaWorldGrounding(), random_guide(playbooks))
    observations = np.random.default_rng(0).normal(0, 0.2, (3, 39))
    for leader in LEADERS:
        assert greedy_policy(agent, guidance, leader)(observations).shape == (3, 4)


def test_a_reward_that_is_not_finite_stops_with_the_step(
    monkeypatch: pytest.MonkeyPatch, playbooks: dict[str, Playbook]
) -> None:
    real = MetaWorldEnv.step

    def step(self: MetaWorldEnv, action: np.ndarray) -> object:
        observation, _, terminated, truncated, info = real(self, action)
        return observation, float("nan"), terminated, truncated, info

    monkeypatch.setattr(MetaWorldEnv, "step", step)
    with pytest.raises(TrainingStopped, match=r"'door-lock', environment step 1: found reward nan"):
        run(playbooks, "none")


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
