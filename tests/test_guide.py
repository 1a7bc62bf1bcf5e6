"""Library, decoder at run time and guide; and the guide on real tasks against a random one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lago_skills.artifacts.folder import writing
from lago_skills.core import ActionSpace, Playbook, Step, Target
from lago_skills.decoder.trained_decoder import DecoderWeights
from lago_skills.errors import ArtifactCorrupt, LibraryConflict, ShapeError, StudyError
from lago_skills.guide.bundle import load_bundle, write_bundle
from lago_skills.guide.guides import LibraryGuide, NullGuide
from lago_skills.guide.retrieval import RetrievalConfig
from lago_skills.rl.world_problem import world_problem
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.metaworld.world import MetaWorld
from tests.conftest import continuous, random_decoder
from tests.random_guides import random_guide, unit


def test_the_guide_follows_a_library_that_changes(playbooks: dict[str, Playbook]) -> None:
    built = random_guide(playbooks, k=1)
    observations = np.random.default_rng(3).normal(0.0, 0.3, (6, 39))
    before = built.retrieve(observations, "push")
    first = int(before.neighbors.ids[0, 0])
    built.library.disable(first)
    after = built.retrieve(observations, "push")
    assert first not in after.neighbors.ids
    built.library.undo()
    np.testing.assert_array_equal(built.retrieve(observations, "push").neighbors.ids, before.neighbors.ids)
    for skill in built.library.list():
        built.library.disable(skill.id)
    with pytest.raises(LibraryConflict, match="no enabled skill"):
        built.prior(observations, "push")


def test_decoding_a_batch_of_neighbours_is_decoding_each(tmp_path: Path) -> None:
    decoder = random_decoder()
    rng = np.random.default_rng(0)
    inputs, latents = rng.normal(size=(6, 28)), np.stack([unit(rng, 3) for _ in range(6)])
    found = decoder.decode(inputs, latents)
    assert found.means.shape == found.stds.shape == (6, 3, 2, 4)
    assert np.abs(found.means).max() <= 1.0
    assert found.stds.min() > 0.0
    np.testing.assert_allclose(found.weights.sum(axis=2), 1.0, rtol=1e-5)
    for b in range(6):
        for k in range(3):
            one = decoder.decode(inputs[b : b + 1], latents[b : b + 1, k : k + 1])
            np.testing.assert_allclose(one.means[0, 0], found.means[b, k], rtol=1e-4, atol=1e-5)
    decoder.save(tmp_path / "d")
    again = DecoderWeights.load(tmp_path / "d").decode(inputs, latents)
    np.testing.assert_array_equal(again.means, found.means)
    with pytest.raises(ShapeError, match="use the grounding and library of the same bundle"):
        decoder.decode(inputs[:, :5], latents)
    with pytest.raises(ShapeError, match="embed the sentences with the model"):
        decoder.latents(np.zeros((2, 7)))


def test_the_null_guide_knows_nothing(grounding: MetaWorldGrounding) -> None:
    prior = NullGuide(ActionSpace(4)).prior(np.zeros((3, 39)), "push")
    assert (prior.log_ratio(np.random.default_rng(0).uniform(-1, 1, (3, 4))) == 0.0).all()


def test_the_prior_is_the_mixture_of_the_active_steps_neighbours(playbooks: dict[str, Playbook]) -> None:
    built = random_guide(playbooks)
    observations = np.random.default_rng(3).normal(0.0, 0.3, (40, 39))
    found = built.retrieve(observations, "push-wall")
    prior = continuous(built.prior(observations, "push-wall"))
    assert prior.means.shape == (40, 3 * 2, 4)
    np.testing.assert_allclose(prior.weights.sum(1), 1.0, rtol=1e-5)
    assert set(found.steps.tolist()) <= set(range(len(playbooks["push-wall"].steps)))
    assert (np.diff(found.neighbors.scores, axis=1) <= 0).all()
    assert (np.diff(found.weights, axis=1) <= 0).all()
    np.testing.assert_allclose(prior.weights.reshape(40, 3, 2).sum(axis=2), found.weights, rtol=1e-5)
    one = continuous(built.prior(observations[7:8], "push-wall"))
    np.testing.assert_allclose(one.mean()[0], prior.mean()[7], rtol=1e-4, atol=1e-6)


def test_wrong_tasks_and_observations_are_refused(playbooks: dict[str, Playbook]) -> None:
    built = random_guide(playbooks)
    with pytest.raises(StudyError, match="no playbook for task 'juggle'"):
        built.prior(np.zeros((1, 39)), "juggle")
    with pytest.raises(ShapeError):
        built.prior(np.zeros((1, 12)), "push")


def test_a_bundle_round_trips_and_damage_is_found(tmp_path: Path, playbooks: dict[str, Playbook]) -> None:
    built = random_guide(playbooks)
    folder = tmp_path / "bundle"
    latents = {name: unit(np.random.default_rng(2), len(book.steps)) for name, book in playbooks.items()}
    with writing(folder, "build", {}) as writer:
        write_bundle(writer.path, built.decoder, built.library, playbooks, latents, RetrievalConfig(k=2))
    observations = np.random.default_rng(3).normal(0.0, 0.3, (5, 39))
    expected = LibraryGuide(built.grounding, built.decoder, built.library, playbooks, latents, RetrievalConfig(k=2))
    found = load_bundle(folder).prior(observations, "push")
    np.testing.assert_array_equal(found.greedy(), expected.prior(observations, "push").greedy())
    (folder / "playbooks.json").write_text("{}")
    with pytest.raises(ArtifactCorrupt, match=r"playbooks\.json"):
        load_bundle(folder)


class OtherArm(MetaWorldGrounding):
    """An environment of the same sizes with features of its own."""

    vocabulary = replace(
        MetaWorldGrounding.vocabulary,
        features=tuple(
            replace(feature, name=f"other_{feature.name}") for feature in MetaWorldGrounding.vocabulary.features
        ),
    )


def test_a_bundle_of_another_environment_is_refused(tmp_path: Path, playbooks: dict[str, Playbook]) -> None:
    built, own, world = random_guide(playbooks), OtherArm(), MetaWorld()
    world.grounding = own
    book = Playbook("push", (Step(playbooks["push"].steps[0].skill, Target("goal", (0.0, 0.0, 0.0))),), "key", "model")
    latents = {"push": built.step_latents["push"][:1]}
    with writing(tmp_path / "bundle", "build", {}) as writer:
        write_bundle(writer.path, built.decoder, built.library, {"push": book}, latents, RetrievalConfig(), world=world)
    with pytest.raises(StudyError, match=r"bundle'.* was made for another environment: found features \['other_"):
        load_bundle(tmp_path / "bundle")
    again = load_bundle(tmp_path / "bundle", grounding=own)
    assert again.grounding is own
    with pytest.raises(StudyError, match="guide was made for another environment"):
        world_problem(MetaWorld(), [find_task("push")], MetaWorldGrounding(), again, 0)
    assert world_problem(MetaWorld(), [find_task("push")], own, again, 0).adviser is not None


def test_the_run_time_part_loads_no_text_model_no_torch_and_no_client() -> None:
    code = (
        "import sys, lago_skills.guide.bundle\n"
        "bad = {'torch', 'transformers', 'sentence_transformers', 'openai', 'd3rlpy', 'prefect', 'metaworld', 'gymnasium'}\n"
        "assert not bad & set(sys.modules), bad & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
