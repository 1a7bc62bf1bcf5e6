"""A decoder that goes on from another one: it begins as that one, and what it is not shown anew stays as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lago_skills.decoder.algorithms import Trainer
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.pretrain import Start, pretrain
from lago_skills.decoder.steps import LabelledSteps
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.errors import StudyError
from tests.decoder_data import N_INPUTS, embeddings
from tests.decoder_fits import data, fitted, quiet, settings

CASES = ("bc film", "bc deep text", "discrete-bc")


def behaviour(decoder: Decoder, steps: LabelledSteps) -> np.ndarray:
    latents = decoder.latents(steps.embeddings)[steps.skills][:, None]
    return decoder.decode(steps.inputs, latents).behaviour()[:, 0]


@pytest.mark.parametrize("case", CASES)
def test_it_begins_as_the_decoder_before(case: str) -> None:
    old, _ = fitted(case)
    config = settings(case)
    trainer = Trainer(config, N_INPUTS, embeddings().shape[1], old.action_size, 3)
    trainer.start_from(old)
    begun = trainer.export(old.network.input_mean, old.network.input_std)
    fresh = data(case, seed=4, steps=200)
    teacher = Start(old, np.ones(200, np.bool_)).teacher
    np.testing.assert_allclose(behaviour(begun, fresh), behaviour(teacher, fresh), atol=1e-5)


@pytest.mark.parametrize("case", ["bc", "discrete-bc"])
def test_own_answers_keep_old_skills_as_they_were(case: str) -> None:
    """Skill 0 is shown to do the opposite from now on; skills 1 and 2 are replayed. Only skill 0 changes much; without replay of own answers all that is shown is learned."""
    old, _ = fitted(case)
    shown = data(case, seed=0, steps=1200)
    swapped = data(case, seed=0, steps=1200)
    anew = shown.skills == 0
    actions = swapped.variant_actions.copy()
    actions[anew] = -actions[anew] if case == "bc" else 3.0 - actions[anew]
    steps = replace(swapped, variant_actions=actions, actions=np.where(anew[:, None], actions[:, 0], swapped.actions))
    config = settings(case).model_copy(update={"n_updates": 400})
    kept, _ = pretrain(steps, config, 1, quiet, start=Start(old, ~anew))
    change = np.abs(behaviour(kept, shown) - behaviour(old, shown)).mean(axis=1)
    assert change[anew].mean() > 3 * change[~anew].mean()
    noise = np.random.default_rng(0).permutation(np.flatnonzero(~anew))
    wrong = steps.variant_actions.copy()
    wrong[np.sort(noise)] = wrong[noise]  # what is shown of replayed steps is not looked at
    other, _ = pretrain(replace(steps, variant_actions=wrong), config, 1, quiet, start=Start(old, ~anew))
    np.testing.assert_allclose(behaviour(other, shown), behaviour(kept, shown), atol=0.05)


def test_algorithms_with_other_networks_beside_are_refused() -> None:
    old, _ = fitted("bc")
    config = DecoderConfig(algorithm="iql", latent_size=4, hidden_sizes=(32,), n_updates=2)
    with pytest.raises(StudyError, match="expected one of bc, discrete-bc; train anew"):
        pretrain(data("bc", seed=0, steps=200), config, 0, quiet, start=Start(old, np.ones(200, np.bool_)))
