"""What a loaded bundle answers with is what its readable twins say: the traced grounding, the straight-line plan, the prepared decoder."""

# torch leaves some types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lago_skills.core import ActionSpace, Condition, Playbook, Step, Target
from lago_skills.decoder.prepared import PreparedDecoder, PreparedWeights, can_prepare
from lago_skills.decoder.trained_decoder import Calibration, DecoderWeights, Layer, Linear, Novelty, SkillNetwork, Trunk
from lago_skills.guide.prepared_plan import PreparedPlan
from lago_skills.guide.straight_line import straight_line
from lago_skills.playbook import CompiledPlaybook
from lago_skills.prior import ActionPrior
from lago_skills.worlds.grounding import Grounding
from lago_skills.worlds.gym.config import FeatureConfig
from lago_skills.worlds.gym.features import NamedFeatures
from lago_skills.worlds.gym.spaces import flat_observation
from lago_skills.worlds.kitchen.grounding import KitchenGrounding
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.traced import Untraceable, symbols, traced
from tests.random_guides import random_guide
from tests.test_bundles import states

Z, K = 6, 3


def random_network(rng: np.random.Generator, inputs: int, *, film: bool, skip: bool, depth: int) -> DecoderWeights:
    """A decoder of any of the forms that pretraining makes, with random weights."""

    def draw(*shape: int) -> Any:
        return (rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)

    hidden, components, action = 24, 2, 4
    none = np.zeros((hidden, 0), np.float32)
    first = Layer(draw(hidden, inputs), draw(hidden), draw(hidden, Z), draw(hidden, Z) if film else none, none)
    rest = [Layer(draw(hidden, hidden), draw(hidden), none, none, none) for _ in range(depth - 1)]
    latents = draw(5, Z)
    network = SkillNetwork(
        input_mean=draw(inputs),
        input_std=np.abs(draw(inputs)) + np.float32(0.5),
        text=(Linear(draw(Z, 10), draw(Z)),),
        trunks=(Trunk((first, *rest)),),
        intents=(),
        novelty=Novelty(draw(7, inputs), np.full(1, 0.8, np.float32), np.full(1, 0.3, np.float32)),
        calibration=Calibration(latents, draw(5, action), draw(action)),
    )
    heads = (Linear(draw(n, hidden), draw(n)) for n in (components, components * action, components * action))
    return DecoderWeights(network, *heads, skip=draw(action, 5) if skip else None)


@pytest.mark.parametrize("film", [False, True])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_prepared_decoder_says_what_the_decoder_says(film: bool, skip: bool, depth: int) -> None:
    rng = np.random.default_rng(depth)
    decoder = random_network(rng, 9, film=film, skip=skip, depth=depth)
    assert can_prepare(decoder)
    latents = rng.normal(size=(4, K, Z)).astype(np.float32)
    prepared = PreparedDecoder(PreparedWeights(decoder), latents)
    inputs = rng.normal(size=(50, 9)).astype(np.float32) * rng.choice([0.3, 1.0, 10.0], (50, 1)).astype(np.float32)
    rows = rng.integers(0, 4, 50)
    expected = decoder.decode(inputs, latents[rows])
    far = decoder.network.novelty.distance(decoder.network.standardise(inputs)) / 0.8
    components, distances = prepared.decode(inputs, rows)
    ones = [prepared.decode_one(inputs[i], int(rows[i])) for i in range(50)]
    for name in ("weights", "means", "stds"):
        np.testing.assert_allclose(getattr(components, name), getattr(expected, name), atol=1e-5)
        alone = np.concatenate([getattr(each, name) for each, _ in ones])
        np.testing.assert_allclose(alone, getattr(expected, name), atol=1e-5)
    np.testing.assert_allclose(distances, far, rtol=1e-4)
    np.testing.assert_allclose(np.concatenate([distance for _, distance in ones]), far, rtol=1e-4)


def torch_twin(decoder: DecoderWeights, inputs: np.ndarray, latents: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and standard deviations as torch computes them from the same weights, operation by operation as the formulas say."""
    network = decoder.network
    x = (torch.from_numpy(inputs) - torch.from_numpy(network.input_mean)) / torch.from_numpy(network.input_std)
    z, hidden = torch.from_numpy(latents), x[:, None, :]
    for layer in network.trunks[0].layers:
        hidden = torch.nn.functional.linear(hidden, torch.from_numpy(layer.weight), torch.from_numpy(layer.bias))
        if layer.scale.shape[1]:
            hidden = hidden * (1.0 + torch.nn.functional.linear(z, torch.from_numpy(layer.scale)))
        if layer.shift.shape[1]:
            hidden = hidden + torch.nn.functional.linear(z, torch.from_numpy(layer.shift))
        hidden = torch.relu(hidden)
    hidden = hidden.expand(len(x), z.shape[1], -1)

    def head(linear: Linear) -> torch.Tensor:
        return torch.nn.functional.linear(hidden, torch.from_numpy(linear.weight), torch.from_numpy(linear.bias))

    near = torch.exp((z @ torch.from_numpy(network.calibration.latents).T - 1.0) / Calibration.WIDTH)
    rest = float(np.exp((Calibration.FAR - 1.0) / Calibration.WIDTH))
    theta = (
        near @ torch.from_numpy(network.calibration.thetas) + rest * torch.from_numpy(network.calibration.overall)
    ) / (near.sum(-1, keepdim=True) + rest)
    far = torch.cdist(x, torch.from_numpy(network.novelty.centres)).min(1).values / np.sqrt(x.shape[1])
    wider = network.novelty.slope[0] * torch.relu(far / network.novelty.near[0] - 1.0)
    shape = (*hidden.shape[:2], decoder.n_components, decoder.action_size)
    logstd = head(decoder.logstd).reshape(shape).clamp(-2.5, 0.0) + (theta + wider[:, None, None])[:, :, None, :]
    return torch.tanh(head(decoder.mean)).reshape(shape), torch.exp(logstd.clamp(-2.5, 0.0))


def test_it_is_equal_to_torch() -> None:
    rng = np.random.default_rng(9)
    decoder = random_network(rng, 9, film=True, skip=False, depth=2)
    latents = rng.normal(size=(4, K, Z)).astype(np.float32)
    inputs = rng.normal(size=(200, 9)).astype(np.float32)
    rows = rng.integers(0, 4, 200)
    means, stds = torch_twin(decoder, inputs, latents[rows])
    components, _ = PreparedDecoder(PreparedWeights(decoder), latents).decode(inputs, rows)
    np.testing.assert_allclose(components.means, means.numpy(), atol=1e-5)
    np.testing.assert_allclose(components.stds, stds.numpy(), atol=1e-5)


def named_features() -> NamedFeatures:
    """Of an environment that a study file names: entries, a difference, a distance, two anchors."""
    features = {
        "left": FeatureConfig(index=0, unit="m", range=(-1.0, 1.0), sentence="first"),
        "gap": FeatureConfig(difference=(2, 3), unit="m", range=(-1.0, 1.0), sentence="gap"),
        "far": FeatureConfig(distance=("hand", "goal"), unit="m", range=(0.0, 2.0), sentence="distance"),
    }
    return NamedFeatures(features, {"hand": [0, 1], "goal": [4, 5]}, "", flat_observation(8), ActionSpace(2))


def random_book(grounding: Grounding, rng: np.random.Generator, n_steps: int = 5) -> Playbook:
    """A plan whose conditions hold in about half of all states, each."""
    words = grounding.vocabulary
    values = grounding.read(rng.normal(0.0, 0.5, (100, grounding.observation_size))).values
    steps: list[Step] = []
    for number in range(n_steps):
        target = None
        if words.anchors:
            target = Target(str(rng.choice(words.anchors)), tuple(rng.normal(0.0, 0.1, words.target_size).tolist()))
        when: list[Condition] = []
        if number < n_steps - 1:
            places: list[int] = rng.integers(0, len(words.features), rng.integers(1, 4)).tolist()
            for place in places:
                bound = float(np.quantile(values[:, place], rng.uniform(0.2, 0.8)))
                when.append(Condition(words.features[place].name, "<" if rng.random() < 0.5 else ">", bound))
        steps.append(Step(f"do {number}", target, tuple(when)))
    return Playbook("task", tuple(steps), "key", "nobody")


@pytest.mark.parametrize("grounding", [MetaWorldGrounding(), named_features()], ids=["metaworld", "named"])
def test_a_straight_line_plan_says_what_the_plan_says(grounding: Grounding) -> None:
    rng = np.random.default_rng(4)
    seen: set[int] = set()
    for _ in range(30):
        book = random_book(grounding, rng)
        program = straight_line(book, grounding)
        assert program is not None
        rows = rng.normal(0.0, rng.choice([0.1, 0.5, 2.0]), (100, grounding.observation_size))
        state, twin = grounding.read(rows), CompiledPlaybook(book, grounding.vocabulary)
        steps = twin.active(state.values)
        expected = state.inputs(twin.targets(steps, state.anchors))
        answers = [program(row) for row in rows.tolist()]
        assert [each[0] for each in answers] == steps.tolist()
        np.testing.assert_allclose([each[1] for each in answers], expected, rtol=1e-5, atol=1e-5)
        seen |= {*steps.tolist()}
    assert seen == {0, 1, 2, 3, 4}


def test_a_grounding_that_branches_is_used_as_it_is() -> None:
    class Branching(MetaWorldGrounding):
        def read(self, observations: Any) -> Any:
            if observations[0, 0] > 0.0:
                return super().read(observations)
            return super().read(-observations)

    class Wrong(MetaWorldGrounding):
        """Says another thing of symbols than of numbers."""

        def read(self, observations: Any) -> Any:
            return super().read(observations if observations.dtype == object else observations + 0.01)

    rng = np.random.default_rng(0)
    book = random_book(MetaWorldGrounding(), rng)
    with pytest.raises(Untraceable, match="a branch on <"):
        traced(Branching())
    assert straight_line(book, Branching()) is None
    assert straight_line(book, Wrong()) is None


def test_the_kitchens_arm_is_followed_through_its_matrices() -> None:
    """Products of matrices, turns and means: what a forward model of joints is written with."""
    grounding, rng = KitchenGrounding(), np.random.default_rng(0)
    program = straight_line(random_book(grounding, rng), grounding)  # which compares them
    assert program is not None
    assert (
        len(program(rng.normal(size=59).tolist())[1])
        == grounding.read(np.zeros((1, 59))).inputs(np.zeros((1, 3))).shape[1]
    )


class Everything(NamedFeatures):
    """A grounding that does to its numbers what NumPy can do to them and a trace can follow."""

    def read(self, observations: Any) -> Any:
        state = super().read(observations)
        x: Any = observations[:, :4]

        class Read:
            anchors = state.anchors
            values: Any = np.stack(
                [
                    np.where(x[:, 0] > x[:, 1], np.minimum(x[:, 2], 0.3), np.maximum(x[:, 3], -0.2)),
                    np.abs(np.clip(-x[:, 0], -0.5, 0.5)) + np.sign(x[:, 1]),
                    np.arctan2(x[:, 0], x[:, 1]) * np.cos(x[:, 2]) / (1.0 + np.exp(-np.sin(x[:, 3]))),
                ],
                axis=1,
            )

            def inputs(self, targets: Any) -> Any:
                near = targets - state.anchors[:, 0]
                both = np.logical_and(x[:, 0] <= 0.0, ~(x[:, 1] >= 0.1)) | (x[:, 2] < x[:, 3])
                length = np.linalg.norm(near, axis=1, keepdims=True)
                parts = [near, length**2, np.log(1.0 + length), np.square(x), np.log1p(np.abs(x)), 2.0 / (3.0 + x**2)]
                chosen = np.where(both, near[:, 0], 1.0)[:, None]
                return np.concatenate([*parts, chosen, x.sum(axis=1, keepdims=True) - 1.0], axis=1).astype(np.float32)

        return Read()


def test_all_that_a_trace_can_follow_is_what_numpy_says() -> None:
    kinds = named_features()
    grounding = Everything.__new__(Everything)
    grounding.__dict__.update(kinds.__dict__)
    rng = np.random.default_rng(6)
    rows = rng.normal(0.0, 0.7, (300, 8))
    rows[:40] = rng.integers(-1, 2, (40, 8))
    for _ in range(10):
        book = random_book(grounding, rng)
        program = straight_line(book, grounding)
        assert program is not None
        state = grounding.read(rows)
        steps = CompiledPlaybook(book, grounding.vocabulary).active(state.values)
        targets = CompiledPlaybook(book, grounding.vocabulary).targets(steps, state.anchors)
        answers = [program(row) for row in rows.tolist()]
        assert [each[0] for each in answers] == steps.tolist()
        np.testing.assert_allclose([each[1] for each in answers], state.inputs(targets), rtol=1e-5, atol=1e-5)


def test_what_cannot_be_followed_says_so() -> None:
    row = symbols(np.array([traced(MetaWorldGrounding()).values[0]] * 3, object))
    for what in (
        lambda: np.arcsinh(row),
        lambda: row**3,
        lambda: np.sort(row),
        lambda: np.asarray(row, float),
        lambda: np.linalg.norm(row, 1),
    ):
        with pytest.raises((Untraceable, TypeError)):
            what()


@pytest.mark.parametrize("n", [1, 3, 40])
def test_a_prepared_plan_says_what_the_guide_says(playbooks: dict[str, Playbook], n: int) -> None:
    books = {name: replace(book, pace=1.5) if name == "push" else book for name, book in playbooks.items()}
    guide = random_guide(books)
    for task in guide.books:
        prepared, rows = PreparedPlan(guide, task), states(n, seed=5)
        expected = guide.prior(rows, task)
        decoded = prepared.decode(rows)
        assert isinstance(expected, ActionPrior)
        assert isinstance(decoded.prior, ActionPrior)
        np.testing.assert_array_equal(decoded.steps, guide.retrieve(rows, task).steps)
        for name in ("weights", "means", "stds"):
            np.testing.assert_allclose(getattr(decoded.prior, name), getattr(expected, name), atol=1e-5)
        assert decoded.unfamiliarity.shape == (n,)
