"""What a decoder's densities are worth: spread, calibration, strange states, other words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lago_skills.decoder import calibration
from lago_skills.decoder.pretrain import pretrain
from lago_skills.decoder.steps import LabelledSteps, Phrases
from lago_skills.decoder.trained_decoder import Calibration, Decoder, DecoderWeights
from lago_skills.prior import ActionPrior
from tests.decoder_data import N_INPUTS, N_SKILLS, embeddings, followers, two_sided
from tests.decoder_fits import answers, data, quiet, settings


def prior(decoder: Decoder, steps: LabelledSteps, rows: NDArray[Any]) -> ActionPrior:
    assert isinstance(decoder, DecoderWeights)
    found = calibration.decode_steps(decoder, steps, rows)
    return found.flat(np.ones((len(rows), 1), np.float32))


def test_two_ways_stay_two_ways() -> None:
    steps, fresh = two_sided(), two_sided(seed=5, steps=400)
    rows = np.arange(len(fresh.actions))
    nll: dict[int, float] = {}
    for n_components in (1, 3):
        decoder, _ = pretrain(steps, settings("bc", n_components=n_components, n_updates=350), 0, quiet)
        nll[n_components] = -float(calibration.log_likelihood(decoder, fresh, rows).mean())
        found = prior(decoder, fresh, rows)
        sides = np.abs(found.sample(np.random.default_rng(0))[:, 0]), np.abs(found.mode()[:, 0])
        if n_components == 1:
            assert (sides[1] < 0.35).mean() > 0.9  # one Gaussian heads for the obstacle
        else:
            for side in sides:
                assert ((side > 0.4) & (side < 1.0)).mean() > 0.97
            left = found.sample(np.random.default_rng(1))[:, 0] < 0
            assert 0.3 < left.mean() < 0.7  # both ways are taken
            np.testing.assert_allclose(found.mode()[:, 1], 0.5 * fresh.inputs[:, 1], atol=0.25)
    assert nll[3] < nll[1] - 0.8


def test_the_likelihood_learns_the_true_spread_and_stock_bc_does_not() -> None:
    """facts.md, 3: d3rlpy's own spread falls to its floor whatever the data."""
    steps, fresh = followers(noise=0.3, steps=2000), followers(noise=0.3, seed=4, steps=500)
    rows, nll = np.arange(500), dict[str, float]()
    for case in ("bc", "stock-bc"):
        decoder, _ = pretrain(steps, settings(case, calibrate=False, n_components=1, n_updates=400), 0, quiet)
        nll[case] = -float(calibration.log_likelihood(decoder, fresh, rows).mean())
        assert isinstance(decoder, DecoderWeights)
        spread = float(np.median(calibration.decode_steps(decoder, fresh, rows).stds))
        assert 0.2 < spread < 0.4 if case == "bc" else spread < 0.15
    calibrated, _ = pretrain(steps, settings("stock-bc", n_updates=400), 0, quiet)
    assert nll["bc"] < -float(calibration.log_likelihood(calibrated, fresh, rows).mean()) + 0.3 < nll["stock-bc"]


def noisy(spreads: tuple[float, ...], seed: int, steps: int = 3000) -> LabelledSteps:
    """Followers whose skills are unequally noisy."""
    clean = followers(noise=0.0, steps=steps, seed=seed)
    rng = np.random.default_rng(seed + 100)
    off = rng.normal(size=clean.actions.shape) * np.array(spreads)[clean.skills][:, None]
    actions = np.clip(clean.actions + off, -1, 1).astype(np.float32)
    return replace(clean, actions=actions, variant_actions=actions[:, None])


def test_calibration_fits_each_skill_and_shrinks_where_there_is_little() -> None:
    """A decoder with one spread for all is given three: by support, in closed form as for variances, and near its own latent."""
    steps = noisy((0.1, 0.1, 0.35), 0)
    decoder, _ = pretrain(steps, settings("bc", n_components=1, n_updates=400, calibrate=False), 0, quiet)
    decoder = one_spread(decoder, -1.5)
    fresh = noisy((0.1, 0.1, 0.35), 1)
    rows = np.arange(len(fresh.actions))
    before = calibration.figures(decoder, fresh, rows)
    better, n0 = calibration.calibrate(decoder, steps, np.flatnonzero(steps.held_out))
    after = calibration.figures(better, fresh, rows)
    assert after["nll"] < before["nll"] - 0.1
    for level in (50, 80, 90, 95):
        assert after[f"coverage_{level}"] == pytest.approx(level / 100, abs=0.06)
    thetas = better.network.calibration.thetas
    assert (thetas[2] > thetas[0] + 0.4).all()
    assert n0 in calibration.PRIOR_SEGMENTS
    # What is fitted is what acts, at the skill's latent; a sentence far from all has the spread of all.
    found = better.network.calibration(better.latents(steps.embeddings))
    np.testing.assert_allclose(found, thetas, atol=0.1)
    away = Calibration(np.eye(4, dtype=np.float32)[:2], np.array([[1.0], [2.0]], np.float32), np.zeros(1, np.float32))
    assert away(np.eye(4, dtype=np.float32)[3]) == pytest.approx(0.0, abs=1e-2)


def test_leaving_a_segment_out_is_fitting_to_the_others() -> None:
    rng = np.random.default_rng(0)
    skills = np.array([0, 0, 1, 1, 1, 3])
    squares = rng.uniform(0.2, 4.0, (6, 2))
    grid = calibration.GRID
    table = 0.5 * squares[:, None, :] * np.exp(-2 * grid)[None, :, None] + grid[None, :, None]
    loss = calibration.Loss(table, skills)
    for left_out in range(6):
        others = np.arange(6) != left_out
        fewer = calibration.Loss(table[others], skills[others])
        for skill in (None, 0, 1, 2, 3):  # of skill 2 there is no segment, of skill 3 none is left
            np.testing.assert_array_equal(loss.fit(4.0, skill, without=left_out), fewer.fit(4.0, skill))


def test_steps_are_drawn_as_numpy_draws_with_weights() -> None:
    from lago_skills.decoder.pretrain import _Batches  # pyright: ignore[reportPrivateUsage]: what is drawn shows nowhere else

    steps = followers(steps=400)
    weights = np.random.default_rng(3).uniform(0.0, 2.0, 400)
    steps = replace(
        steps, weights=weights, inputs=np.repeat(np.arange(400.0)[:, None], N_INPUTS, axis=1).astype(np.float32)
    )
    steps = replace(steps, variants=steps.inputs[:, None], next_variants=steps.inputs[:, None])
    config = settings("bc", input_noise_std=0.0, context_swap_share=0.0, batch_size=64)
    batches = _Batches(steps, config, 5, None)
    drawn = np.rint(batches.draw()[0][:, 0] * batches.std[0] + batches.mean[0]).astype(int)
    kept = np.flatnonzero(~steps.held_out)
    expected = np.random.default_rng(5).choice(kept, 64, p=weights[kept] / weights[kept].sum())
    np.testing.assert_array_equal(drawn, expected)


def test_a_skill_with_few_segments_is_drawn_to_all_in_proportion() -> None:
    """For Gaussians the fit is the shrinkage of variances, to the step of the grid."""
    grid, n0 = calibration.GRID, 4.0
    squares, counts = np.array([1.0, 9.0]), np.array([40, 2])
    table = np.concatenate(
        [
            np.repeat((0.5 * v * np.exp(-2 * grid) + grid)[None, :, None], n, axis=0)
            for v, n in zip(squares, counts, strict=True)
        ]
    )
    loss = calibration.Loss(table, np.repeat([0, 1], counts))
    total = float((squares * counts).sum() / counts.sum())
    for skill in (0, 1):
        expected = (counts[skill] * squares[skill] + n0 * total) / (counts[skill] + n0)
        assert float(np.exp(2 * loss.fit(n0, skill)[0])) == pytest.approx(expected, rel=0.06)
    assert float(np.exp(2 * loss.fit(n0, 7)[0])) == pytest.approx(total, rel=0.06)
    assert calibration.Loss(table[:2], np.zeros(2, np.int64)).choose() == calibration.PRIOR_SEGMENTS[-1]


def test_scores_of_a_true_density_are_uniform_also_at_the_bounds() -> None:
    steps = followers(noise=0.0, steps=4000)
    decoder, _ = pretrain(steps, settings("bc", n_updates=30, calibrate=False), 0, quiet)
    rows = np.arange(len(steps.actions))
    found = calibration.decode_steps(one_spread(decoder, -0.5), steps, rows)
    actions = found.flat(np.ones((len(rows), 1))).sample(np.random.default_rng(0))
    assert (np.abs(actions) == 1.0).mean() > 0.02
    scores = calibration.uniform_scores(found, actions)
    assert np.abs(np.quantile(scores, np.linspace(0, 1, 21)) - np.linspace(0, 1, 21)).max() < 0.03
    for level, share in calibration.coverage(scores).items():
        assert share == pytest.approx(level, abs=0.02)


def one_spread(decoder: Decoder, logstd: float) -> DecoderWeights:
    """The same decoder with one spread for everything."""
    assert isinstance(decoder, DecoderWeights)
    wide = replace(decoder.logstd, weight=decoder.logstd.weight * 0, bias=np.full_like(decoder.logstd.bias, logstd))
    return replace(decoder, logstd=wide)


@pytest.mark.parametrize("case", ["bc", "discrete-bc"])
def test_strange_states_have_a_wide_prior(case: str) -> None:
    steps = data(case, steps=2000)
    decoder, _ = pretrain(steps, settings(case, n_updates=400), 0, quiet)
    network = decoder.network
    plain = replace(decoder, network=replace(network, novelty=replace(network.novelty, slope=np.zeros(1, np.float32))))
    fresh = data(case, seed=11, steps=500)
    rows, rng = np.arange(500), np.random.default_rng(0)
    assert (
        calibration.log_likelihood(decoder, fresh, rows).mean()
        > calibration.log_likelihood(plain, fresh, rows).mean() - 0.05
    )
    strange = replace(fresh, inputs=fresh.inputs + rng.normal(0, 3.0, fresh.inputs.shape).astype(np.float32))
    assert (
        calibration.log_likelihood(decoder, strange, rows).mean()
        > calibration.log_likelihood(plain, strange, rows).mean() + 0.5
    )
    latents = decoder.latents(steps.embeddings[:1])[None].repeat(4, axis=0)
    far = answers(decoder, np.full((4, N_INPUTS), 40.0), latents)[-1]
    if case == "bc":
        np.testing.assert_allclose(far, 1.0)
    else:
        assert far.max() < np.log(0.9)
    distances = network.novelty.distance(
        network.standardise(fresh.inputs[:50] * np.array([[1.0], [8.0]]).repeat(25, axis=0))
    )
    assert distances[:25].max() < distances[25:].max()


def phrases(steps: LabelledSteps, n_words: int = 4) -> Phrases:
    """Skills 0 and 1 are opposites that look alike; wordings elsewhere show which direction of the embedding matters."""
    rng = np.random.default_rng(0)
    words = np.stack([steps.embeddings + rng.normal(0, 0.05, steps.embeddings.shape) for _ in range(n_words)], axis=1)
    words[:, 0] = steps.embeddings
    return Phrases(
        words.astype(np.float32), np.zeros((0, steps.embeddings.shape[1]), np.float32), np.zeros(0, np.int64)
    )


def test_other_words_have_the_same_latent_and_opposites_that_look_alike_do_not() -> None:
    rng = np.random.default_rng(3)
    vectors = embeddings()
    vectors[1] = vectors[0] + rng.normal(0, 0.08, vectors.shape[1])  # cosine about .96
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    steps = followers(embeddings=vectors)
    before = float(vectors[0] @ vectors[1])
    assert before > 0.9
    known = phrases(steps)
    decoder, _ = pretrain(steps, settings("bc", contrast_every=1), 0, quiet, known)
    after = decoder.latents(vectors)
    assert float(after[0] @ after[1]) < 0.6
    new = np.asarray(vectors + rng.normal(0, 0.03, vectors.shape), dtype=np.float32)
    assert (np.sum(decoder.latents(new) * after, axis=1) > 0.9).all()
    assert len(after) == N_SKILLS
