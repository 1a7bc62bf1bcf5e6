"""Pictures of a decoder: its latents, whether its spreads are right, how it widens where states are new, and what its skills do."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Playbook, Segment
from lago_skills.decoder import calibration
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.steps import LabelledSteps
from lago_skills.decoder.trained_decoder import Decoder, DecoderWeights, DiscreteDecoderWeights
from lago_skills.report import plots
from lago_skills.report.plots import Field
from lago_skills.stages.segment import Labelled
from lago_skills.words.geometry import subjects_of
from lago_skills.worlds.grounding import anchored

LEVELS = np.linspace(0.05, 0.95, 19)
N_STRANGE, MAX_NOISE, N_BINS = 4, 6.0, 14
FIELD_M, FIELD_POINTS = 0.12, 9
"""Targets of an action field lie up to so far from the effector, on a square of so many points."""


def pictures(demonstrations: Labelled, decoder: Decoder, config: DecoderConfig) -> dict[str, bytes]:
    """PNG files by title, of a decoder that was trained with `config`.

    Which there are depends on whether actions are continuous and have a target to be drawn towards.
    """
    steps, grounding = demonstrations.steps(config), demonstrations.grounding
    rows = np.flatnonzero(steps.held_out) if steps.held_out.any() else np.arange(len(steps.actions))
    drawn = {"Latents of the playbooks' steps": latents(demonstrations.books, demonstrations.embeddings, decoder)}
    if isinstance(decoder, DiscreteDecoderWeights):
        return drawn | {"What the skills do": plots.action_shares(*shares(decoder, steps, demonstrations.skills))}
    drawn |= {
        "Reliability of the spreads": reliability(decoder, steps, rows),
        "New states have a wide prior": novelty(decoder, steps, rows),
    }
    if grounding.heading_size and decoder.action_size > 1:
        drawn["What the skills do"] = plots.action_fields(fields(decoder, demonstrations))
    return drawn


def shares(
    decoder: DiscreteDecoderWeights, steps: LabelledSteps, sentences: list[str]
) -> tuple[list[str], NDArray[np.float64]]:
    """Sentences of the demonstrated skills, and the (n_skills, A) mean probability of each action at their steps."""
    z = decoder.latents(steps.embeddings)
    rows = [np.flatnonzero(steps.skills == number) for number in range(len(sentences))]
    probabilities = [
        np.exp(decoder.log_probs(steps.inputs[own], z[number][None, None].repeat(len(own), axis=0))[:, 0]).mean(axis=0)
        for number, own in enumerate(rows)
    ]
    return sentences, np.stack(probabilities).astype(np.float64)


def latents(books: dict[str, Playbook], embeddings: dict[str, NDArray[np.float32]], decoder: Decoder) -> bytes:
    """A point for every step of every playbook, by task and by verb; steps of the same sentence are drawn apart a little."""
    entries = [(book.task_id, step.sentence) for book in books.values() for step in book.steps]
    z = decoder.latents(np.stack([embeddings[skill] for _, skill in entries]))
    z = z + np.random.default_rng(0).normal(0.0, 0.03, z.shape).astype(np.float32)
    verbs = [skill.split()[0] for _, skill in entries]
    return plots.latent_map(z, {"task": [task for task, _ in entries], "verb": verbs})


def reliability(decoder: DecoderWeights, steps: LabelledSteps, rows: NDArray[np.int64]) -> bytes:
    """Before and after calibration."""
    shares: dict[str, NDArray[np.float64]] = {}
    for name, one in (("calibrated", decoder), ("as trained", calibration.uncalibrated(decoder))):
        scores = calibration.uniform_scores(calibration.decode_steps(one, steps, rows), steps.actions[rows])
        shares[name] = np.array(list(calibration.coverage(scores, tuple(LEVELS)).values()))
    return plots.reliability(shares, LEVELS)


def strange(decoder: DecoderWeights, steps: LabelledSteps, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Held-out states with growing noise, by distance from the training states.

    `distance` are centres of bins; `error` the root mean square of what the decoder's mean is off; `spread before` and
    `spread after` the prior's mean spread without and with widening.
    """
    rng = np.random.default_rng(0)
    many = np.repeat(rows, N_STRANGE)
    noise = rng.uniform(0.0, MAX_NOISE, (len(many), 1)) * rng.standard_normal((len(many), steps.inputs.shape[1]))
    noise[:: 2 * N_STRANGE] = 0.0
    after = calibration.decode_steps(decoder, steps, many, noise).flat(np.ones((len(many), 1), np.float32))
    before = calibration.decode_steps(calibration.uncalibrated(decoder), steps, many, noise).flat(
        np.ones((len(many), 1), np.float32)
    )
    network = decoder.network
    distance = network.novelty.distance(network.standardise(steps.inputs[many] + noise * network.input_std))
    edges = np.quantile(distance, np.linspace(0, 1, N_BINS + 1))
    of = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, N_BINS - 1)
    squares = (after.mean() - steps.actions[many]) ** 2

    def binned(values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.array([float(values[of == number].mean()) for number in range(N_BINS)])

    return {
        "distance": binned(distance),
        "error": np.sqrt(binned(squares)),
        "spread before": binned(before.std()),
        "spread after": binned(after.std()),
    }


def novelty(decoder: DecoderWeights, steps: LabelledSteps, rows: NDArray[np.int64]) -> bytes:
    """Error and spread over distance."""
    values = strange(decoder, steps, rows)
    return plots.novelty(values.pop("distance"), values, float(decoder.network.novelty.near[0]))


def fields(decoder: DecoderWeights, demonstrations: Labelled) -> list[Field]:
    """What each skill does at the start of one of its segments, were the target elsewhere."""
    grounding, embeddings = demonstrations.grounding, demonstrations.embeddings
    by_sentence: defaultdict[str, list[Segment]] = defaultdict(list)
    for item in demonstrations.segments:
        by_sentence[item.skill].append(item)
    axis = np.linspace(-FIELD_M, FIELD_M, FIELD_POINTS)
    offsets = np.stack([part.ravel() for part in np.meshgrid(axis, axis)], axis=1)
    shown: list[Field] = []
    for sentence, items in by_sentence.items():
        item = items[len(items) // 2]
        observation = demonstrations.episodes[item.task_id][item.episode].observations[item.start].astype(np.float64)
        observations = np.repeat(observation[None], len(offsets), axis=0)
        state = grounding.read(observations)
        targets = state.anchors[:, 0] + np.pad(offsets, ((0, 0), (0, grounding.vocabulary.target_size - 2)))
        z = decoder.latents(embeddings[sentence][None])[None].repeat(len(offsets), axis=0)
        inputs = state.inputs(targets)
        if item.cut == "alignment":
            subjects = subjects_of(demonstrations.books[item.task_id].steps[item.step], grounding.vocabulary.anchors)
            there = anchored(grounding).read(observations)
            inputs = there.subject_inputs(targets, np.repeat([subjects], len(offsets), axis=0))
        prior = decoder.decode(inputs, z).flat(np.ones((len(offsets), 1), np.float32))
        actions, spreads = prior.mean().astype(np.float64), prior.std()[:, :2].mean(axis=1).astype(np.float64)
        shown.append(Field(sentence, offsets, actions[:, :2], spreads))
    return shown
