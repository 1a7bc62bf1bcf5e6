"""One contract for every decoder algorithm; densities, two-sided skills, calibration, novelty, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from lago_skills.decoder import calibration
from lago_skills.decoder.config import Algorithm, DecoderConfig
from lago_skills.decoder.pretrain import pretrain
from lago_skills.decoder.runtime import Calibration, Decoder, DecoderWeights, DiscreteDecoderWeights
from lago_skills.decoder.steps import LabelledSteps, Phrases
from lago_skills.errors import ArtifactCorrupt, ShapeError, StudyError
from lago_skills.prior import ActionPrior, DiscretePrior
from tests.decoder_data import N_INPUTS, N_SKILLS, SIGNS, choosers, embeddings, followers, two_sided

SMALL: dict[str, Any] = {
    "batch_size": 64,
    "hidden_sizes": (32, 32),
    "latent_size": 4,
    "learning_rate": 5e-3,
    "text_dropout": 0.0,
}
N_UPDATES = {"td3+bc": 700, "plas": 700}
"""Their actors learn at every second update, or after the action VAE."""
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
CASES = [*ALGORITHMS, "bc film", "bc deep text"]


def quiet(update: int, metrics: dict[str, float]) -> None:
    assert np.isfinite(metrics["loss"]), update


def settings(case: str, **changes: Any) -> DecoderConfig:
    name, _, extra = case.partition(" ")
    own: dict[str, Any] = {"film": {"join": "film"}, "deep text": {"text_sizes": (8,)}, "": {}}[extra]
    slow = {"learning_rate": 2e-3} if name == "plas" else {}
    updates = N_UPDATES.get(name, 250)
    return DecoderConfig.model_validate({**SMALL, "n_updates": updates, "algorithm": name, **slow, **own, **changes})


def data(case: str, **changes: Any) -> LabelledSteps:
    return choosers(**changes) if case.startswith("discrete") else followers(**changes)


def fitted(case: str, seed: int = 0, **changes: Any) -> tuple[Decoder, dict[str, float]]:
    return pretrain(data(case), settings(case, **changes), seed, quiet)


@pytest.fixture(scope="module", params=CASES)
def trained(request: pytest.FixtureRequest) -> tuple[str, Decoder, dict[str, float]]:
    return (request.param, *fitted(request.param))


def answers(decoder: Decoder, inputs: NDArray[Any], latents: NDArray[Any]) -> list[NDArray[np.float32]]:
    """Everything a decoder says."""
    if isinstance(decoder, DiscreteDecoderWeights):
        return [decoder.log_probs(inputs, latents)]
    found = decoder.decode(inputs, latents)
    return [found.weights, found.means, found.stds]


def best(decoder: Decoder, inputs: NDArray[Any], latents: NDArray[Any]) -> NDArray[Any]:
    """The best action of every state, with one latent each."""
    ones = np.ones((len(inputs), 1), np.float32)
    if isinstance(decoder, DiscreteDecoderWeights):
        return DiscretePrior(ones, decoder.log_probs(inputs, latents)).mode()
    return decoder.decode(inputs, latents).flat(ones).mode()


def test_contract_shapes_and_densities(trained: tuple[str, Decoder, dict[str, float]]) -> None:
    _, decoder, _ = trained
    rng = np.random.default_rng(1)
    inputs, latents = rng.normal(size=(5, N_INPUTS)), decoder.latents(embeddings(6, seed=3)).reshape(1, 6, 4)
    latents = np.repeat(latents, 5, axis=0)
    np.testing.assert_allclose(np.linalg.norm(latents, axis=2), 1.0, rtol=1e-5)
    assert decoder.input_size == N_INPUTS
    assert decoder.latent_size == 4
    found = answers(decoder, inputs, latents)
    if isinstance(decoder, DecoderWeights):
        assert found[0].shape == (5, 6, decoder.n_components)
        assert found[1].shape == found[2].shape == (5, 6, decoder.n_components, 2)
        np.testing.assert_allclose(found[0].sum(axis=2), 1.0, rtol=1e-5)
        assert np.abs(found[1]).max() <= 1.0
        assert found[2].min() >= np.exp(-2.5) * 0.999
        assert found[2].max() <= 1.0
    else:
        assert decoder.action_size == 4
        assert found[0].shape == (5, 6, 4)
        np.testing.assert_allclose(np.exp(found[0]).sum(axis=2), 1.0, rtol=1e-5)
    for number in range(6):  # a batch of latents is each latent by itself
        alone = answers(decoder, inputs, latents[:, number : number + 1])
        for one, many in zip(alone, found, strict=True):
            np.testing.assert_allclose(one[:, 0], many[:, number], rtol=2e-4, atol=1e-5)


def test_contract_identity(trained: tuple[str, Decoder, dict[str, float]]) -> None:
    """The skills do what they did: follow, flee, stay; on states that nobody trained on."""
    case, decoder, _ = trained
    fresh = data(case, seed=9, steps=300)
    latents = decoder.latents(fresh.embeddings)[fresh.skills][:, None]
    chosen = best(decoder, fresh.inputs, latents)
    if case.startswith("discrete"):
        right = np.where(SIGNS[fresh.skills] == 0, 0, np.where(SIGNS[fresh.skills] * fresh.inputs[:, 0] > 0, 1, 2))
        assert (chosen == right).mean() > 0.8
    else:
        wanted = 0.8 * SIGNS[fresh.skills][:, None] * fresh.inputs[:, :2]
        follows = np.corrcoef(chosen.ravel(), wanted.ravel())[0, 1]
        assert follows > (
            0.4 if case == "plas" else 0.9
        )  # the wrong skill has -1 or 0; PLAS also explores its action space


def test_contract_likelihood_is_better_than_chance_and_than_a_gaussian_per_skill(
    trained: tuple[str, Decoder, dict[str, float]],
) -> None:
    case, decoder, figures = trained
    fresh = data(case, seed=9, steps=300)
    rows = np.arange(len(fresh.actions))
    chance = np.log(4.0) if case.startswith("discrete") else 2 * np.log(2.0)
    found = calibration.figures(decoder, fresh, rows)
    assert found["nll"] < chance
    assert found["nll"] == pytest.approx(figures["held_out_nll"], abs=0.3)
    if case not in ("plas", "td3+bc", "awac", "discrete-cql"):  # whose actions follow rewards too
        assert found["nll"] < found["nll_per_skill"] < found["nll_one"]


def test_contract_files_round_trip_bit_for_bit(trained: tuple[str, Decoder, dict[str, float]], tmp_path: Path) -> None:
    _, decoder, _ = trained
    path = tmp_path / "decoder.safetensors"
    decoder.save(path)
    again = type(decoder).load(path)
    rng = np.random.default_rng(2)
    inputs, latents = rng.normal(size=(4, N_INPUTS)), decoder.latents(embeddings(3, seed=5))[None].repeat(4, axis=0)
    for one, other in zip(answers(decoder, inputs, latents), answers(again, inputs, latents), strict=True):
        np.testing.assert_array_equal(one, other)
    other_kind = DecoderWeights if isinstance(decoder, DiscreteDecoderWeights) else DiscreteDecoderWeights
    with pytest.raises(ArtifactCorrupt, match="pretrain again"):
        other_kind.load(path)


@pytest.mark.parametrize("case", ALGORITHMS)
def test_contract_the_same_seed_is_the_same_decoder(case: str, tmp_path: Path) -> None:
    files: list[bytes] = []
    for number, seed in enumerate((3, 3, 4)):
        decoder, _ = fitted(case, seed, n_updates=12)
        decoder.save(tmp_path / str(number))
        files.append((tmp_path / str(number)).read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


@pytest.mark.parametrize("case", ["bc", "discrete-bc", "iql"])
def test_contract_bad_steps_are_refused(case: str) -> None:
    steps = data(case)
    bad = steps.inputs.copy()
    bad[3, 2] = np.nan
    with pytest.raises(ShapeError, match=r"inputs: found nan at index \(3, 2\)"):
        replace(steps, inputs=bad)
    with pytest.raises(ShapeError, match="label the episodes again"):
        replace(steps, rewards=steps.rewards[:5])
    with pytest.raises(ShapeError, match="label the episodes again"):
        replace(steps, variants=steps.variants[:, :, :5])
    with pytest.raises(ShapeError, match="rescale the actions"):
        replace(steps, actions=steps.actions - 9.0)
    with pytest.raises(ShapeError, match="expected steps to train on"):
        replace(steps, held_out=np.ones_like(steps.held_out))
    with pytest.raises(ShapeError, match="embed every sentence"):
        replace(steps, skills=steps.skills + 1)
    wrong = {"bc": "discrete-bc", "iql": "discrete-cql"}.get(case, "iql")
    with pytest.raises(
        StudyError, match=r"decoder\.algorithm = .* and .*actions.*; expected .*; correct decoder\.algorithm"
    ):
        pretrain(steps, settings(wrong, n_updates=1), 0, quiet)
    if case.startswith("discrete"):
        with pytest.raises(ShapeError, match="whole numbers"):
            replace(steps, actions=steps.actions + np.float32(0.5), n_actions=6)


@pytest.mark.parametrize("case", ["bc", "td3+bc", "discrete-bc"])
def test_contract_constant_inputs_and_a_skill_of_one_segment(case: str) -> None:
    """A constant input stays harmless when it changes later, and a skill seen once is decoded with the spread of all."""
    steps = data(case)
    flat = steps.inputs.copy()
    flat[:, 7] = 3.25
    skills = np.where(steps.segments == 0, 2, np.minimum(steps.skills, 1))
    many = flat[:, None]
    steps = replace(steps, inputs=flat, variants=many, next_variants=many, skills=skills)
    decoder, figures = pretrain(steps, settings(case, n_updates=60), 0, quiet)
    assert np.isfinite(list(figures.values())).all()
    assert decoder.network.input_std[7] == 1.0
    thetas = decoder.network.calibration
    np.testing.assert_allclose(thetas.thetas[2], thetas.overall, atol=0.051)  # within one step of the grid
    moved = flat[:4].copy()
    moved[:, 7] += 0.5
    latents = decoder.latents(steps.embeddings[:1])[None].repeat(4, axis=0)
    for one, other in zip(answers(decoder, flat[:4], latents), answers(decoder, moved, latents), strict=True):
        assert np.abs(one - other).max() < 0.5


def test_contract_a_decoder_refuses_what_is_not_its_own(trained: tuple[str, Decoder, dict[str, float]]) -> None:
    _, decoder, _ = trained
    latents = np.zeros((2, 1, 4), np.float32)
    with pytest.raises(ShapeError, match="of the same bundle"):
        answers(decoder, np.zeros((2, N_INPUTS + 1)), latents)
    with pytest.raises(ShapeError, match="found nan"):
        answers(decoder, np.full((2, N_INPUTS), np.nan), latents)
    with pytest.raises(ShapeError, match="embed the sentences"):
        decoder.latents(np.zeros((2, 5)))
    with pytest.raises(ShapeError, match="embeddings: found inf"):
        decoder.latents(np.full((1, 12), np.inf))


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
