"""One contract for every decoder: shapes, identity, likelihood, files, repetition, bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lago_skills.decoder import calibration
from lago_skills.decoder.pretrain import pretrain
from lago_skills.decoder.trained_decoder import Decoder, DecoderWeights, DiscreteDecoderWeights
from lago_skills.errors import ArtifactCorrupt, ShapeError, StudyError
from tests.decoder_data import N_INPUTS, SIGNS, embeddings
from tests.decoder_fits import ALGORITHMS, CASES, answers, best, data, fitted, quiet, settings


@pytest.fixture(scope="module", params=CASES)
def trained(request: pytest.FixtureRequest) -> tuple[str, Decoder, dict[str, float]]:
    return (request.param, *fitted(request.param))


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
