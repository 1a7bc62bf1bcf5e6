"""One contract for every guide: no guidance, a library's, a loaded bundle's, one behind a service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lago_skills.core import ActionSpace
from lago_skills.errors import ShapeError, StudyError
from lago_skills.guide.bundle import load_bundle
from lago_skills.guide.guides import Guide, NullGuide
from lago_skills.guide.loaded import load
from lago_skills.prior import ActionPrior
from lago_skills.serve.remote import RemoteGuide
from tests.served import serving
from tests.test_bundles import states

KINDS = ("null", "library", "bundle", "remote")


@pytest.fixture(scope="module")
def guides(bundle: Path) -> Iterator[dict[str, Guide]]:
    with serving(bundle, "--unfamiliar", "answer") as running, RemoteGuide(running.address) as remote:
        yield {
            "null": NullGuide(ActionSpace(4)),
            "library": load_bundle(bundle),
            "bundle": load(bundle, unfamiliar="answer"),
            "remote": remote,
        }


@pytest.mark.parametrize("kind", KINDS)
def test_contract_a_prior_is_a_mixture_over_actions(guides: dict[str, Guide], kind: str) -> None:
    for n in (1, 2, 7):
        prior = guides[kind].prior(states(n), "push")
        assert isinstance(prior, ActionPrior)
        assert prior.means.shape[0] == n
        assert prior.means.shape[2] == 4
        np.testing.assert_allclose(prior.weights.sum(axis=1), 1.0, rtol=1e-5)
        assert (prior.stds > 0.0).all()
        assert np.abs(prior.mean()).max() <= 1.0
        assert np.isfinite(prior.log_ratio(prior.mean())).all()


@pytest.mark.parametrize("kind", KINDS)
def test_contract_the_same_states_have_the_same_prior_alone_and_among_others(
    guides: dict[str, Guide], kind: str
) -> None:
    rows = states(9, seed=4)
    together, again = guides[kind].prior(rows, "push"), guides[kind].prior(rows, "push")
    assert isinstance(together, ActionPrior)
    assert isinstance(again, ActionPrior)
    np.testing.assert_array_equal(together.means, again.means)
    for row in (0, 8):
        alone = guides[kind].prior(rows[row : row + 1], "push")
        assert isinstance(alone, ActionPrior)
        np.testing.assert_allclose(alone.means[0], together.means[row], atol=1e-5)
        np.testing.assert_allclose(alone.stds[0], together.stds[row], atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "null"])
def test_contract_what_cannot_be_advised_on_is_refused(guides: dict[str, Guide], kind: str) -> None:
    guide = guides[kind]
    with pytest.raises(StudyError, match="juggle"):
        guide.prior(states(1), "juggle")
    for bad in (np.zeros((2, 12)), np.full((1, 39), np.nan), np.zeros(39)):
        with pytest.raises(ShapeError, match="expected"):
            guide.prior(bad, "push")


def test_contract_all_that_know_the_bundle_say_the_same(guides: dict[str, Guide]) -> None:
    rows = states(6, seed=2)
    priors = [guides[kind].prior(rows, "reach") for kind in ("library", "bundle", "remote")]
    first = priors[0]
    assert isinstance(first, ActionPrior)
    for prior in priors[1:]:
        assert isinstance(prior, ActionPrior)
        np.testing.assert_allclose(prior.means, first.means, atol=1e-5)
        np.testing.assert_allclose(prior.weights, first.weights, atol=1e-5)
        assert prior.floor == first.floor
