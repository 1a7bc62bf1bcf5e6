from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lago_skills.errors import ShapeError
from lago_skills.prior import ActionPrior, Components, DiscretePrior, uniform_prior
from lago_skills.rl.guidance.advice import Layout


def draw(seed: int, floor: float, batch: int = 3, k: int = 4, size: int = 2) -> ActionPrior:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(k), batch).astype(np.float32)
    means = rng.uniform(-0.5, 0.5, (batch, k, size)).astype(np.float32)
    return ActionPrior(weights, means, rng.uniform(0.05, 0.15, (batch, k, size)).astype(np.float32), floor)


@given(st.integers(0, 10_000), st.floats(0.001, 1.0))
def test_rho_never_falls_below_the_log_of_the_floor(seed: int, floor: float) -> None:
    prior = draw(seed, floor)
    actions = np.random.default_rng(seed).uniform(-1, 1, (3, 2))
    assert (prior.log_ratio(actions) >= np.log(floor) - 1e-12).all()


def test_full_floor_is_exactly_no_guidance() -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 4))
    assert (uniform_prior(5, 4).log_ratio(actions) == 0.0).all()
    assert (draw(0, 1.0).log_ratio(actions[:3, :2]) == 0.0).all()


def test_it_is_a_density_relative_to_uniform() -> None:
    """The mean of exp(rho) under the uniform distribution is 1 (components lie well inside the box)."""
    prior = draw(1, 0.1, batch=1)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 801)] * 2), -1).reshape(-1, 2)
    weights, means, stds = (np.repeat(x, len(grid), 0) for x in (prior.weights, prior.means, prior.stds))
    many = ActionPrior(weights, means, stds, floor=0.1)
    assert np.exp(many.log_ratio(grid)).mean() == pytest.approx(1.0, abs=5e-3)


def test_samples_have_the_mixtures_mean_and_spread() -> None:
    prior = draw(2, 0.0, batch=1)
    weights, means, stds = (np.repeat(x, 20_000, 0) for x in (prior.weights, prior.means, prior.stds))
    many = ActionPrior(weights, means, stds)
    samples = many.sample(np.random.default_rng(0))
    np.testing.assert_allclose(samples.mean(0), prior.mean()[0], atol=0.01)
    np.testing.assert_allclose(samples.std(0), prior.std()[0], atol=0.01)
    assert np.abs(samples).max() <= 1.0


def test_shapes_are_checked() -> None:
    with pytest.raises(ShapeError, match=r"expected \(B, K\), \(B, K, A\)"):
        ActionPrior(np.ones((2, 3), np.float32), np.zeros((2, 2, 4), np.float32), np.ones((2, 2, 4), np.float32))
    with pytest.raises(ShapeError, match=r"found floor 1\.5"):
        ActionPrior(np.ones((2, 1), np.float32), np.zeros((2, 1, 4), np.float32), np.ones((2, 1, 4), np.float32), 1.5)


def test_the_mode_is_on_one_side_where_the_mean_is_between() -> None:
    means = np.array([[[-0.7], [0.7], [0.68], [0.0]]], np.float32)
    stds = np.full((1, 4, 1), 0.1, np.float32)
    prior = ActionPrior(np.array([[0.4, 0.3, 0.3, 0.0]], np.float32), means, stds)
    assert abs(float(prior.mean()[0, 0])) < 0.2
    assert float(prior.mode()[0, 0]) > 0.6  # two skills agree, though the heaviest component is on the other side
    grid = np.linspace(-1, 1, 2001)
    weights, means, stds = (np.repeat(x, 2001, 0) for x in (prior.weights, means, stds))
    many = ActionPrior(weights, means, stds)
    assert abs(grid[np.argmax(many.log_ratio(grid[:, None]))] - float(prior.mode()[0, 0])) < 0.02


def test_components_become_one_mixture() -> None:
    rng = np.random.default_rng(0)
    inner = rng.dirichlet(np.ones(2), (5, 3)).astype(np.float32)
    means = rng.uniform(-1, 1, (5, 3, 2, 4)).astype(np.float32)
    outer = rng.dirichlet(np.ones(3), 5).astype(np.float32)
    prior = Components(inner, means, np.full_like(means, 0.2)).flat(outer, 0.1)
    assert prior.weights.shape == (5, 6)
    assert prior.floor == 0.1
    np.testing.assert_allclose(prior.mean(), np.einsum("bk,bkm,bkma->ba", outer, inner, means), rtol=1e-4, atol=1e-6)


def choices(floor: float = 0.0) -> DiscretePrior:
    rows = np.array([[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]], np.float32)
    return DiscretePrior(np.array([[0.75, 0.25]], np.float32), np.log(rows), floor)


def test_a_discrete_prior_is_a_mixture_scored_against_uniform() -> None:
    prior = choices()
    np.testing.assert_allclose(prior.probabilities(), [[0.55, 0.35, 0.1]], rtol=1e-6)
    assert prior.mode().tolist() == [0]
    many = DiscretePrior(np.repeat(prior.weights, 20_000, 0), np.repeat(prior.log_probs, 20_000, 0))
    shares = np.bincount(many.sample(np.random.default_rng(0)), minlength=3) / 20_000
    np.testing.assert_allclose(shares, [0.55, 0.35, 0.1], atol=0.01)
    for action in range(3):
        assert choices(1.0).log_ratio(np.array([action])) == 0.0
        assert choices(0.2).log_ratio(np.array([action])) >= np.log(0.2)
    assert prior.log_ratio(np.array([2]))[0] == pytest.approx(np.log(0.3), rel=1e-5)
    with pytest.raises(ShapeError, match=r"expected \(B, K\), \(B, K, A\)"):
        DiscretePrior(np.ones((2, 3), np.float32), np.zeros((2, 2, 4), np.float32))
    with pytest.raises(ShapeError, match=r"found floor -1"):
        DiscretePrior(np.ones((2, 1), np.float32), np.zeros((2, 1, 4), np.float32), -1.0)


def test_a_mean_at_the_edge_is_an_action() -> None:
    """Weights that add up to a little more than 1 in float32 would leave [-1, 1]."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(7), 2_000).astype(np.float32)
    prior = ActionPrior(weights, np.ones((2_000, 7, 3), np.float32), np.full((2_000, 7, 3), 0.1, np.float32), 0.0)
    assert np.einsum("bk,bka->ba", prior.weights, prior.means).max() > 1.0
    assert prior.mean().max() == prior.greedy().max() == 1.0
    assert Layout(3, 7).pack(prior)[:, :3].max() == 1.0
