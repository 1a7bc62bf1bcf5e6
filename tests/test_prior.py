from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lago_skills.errors import ShapeError
from lago_skills.prior import ActionPrior, uniform_prior


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
