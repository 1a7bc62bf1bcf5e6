"""A true density: spreads and temperatures fitted to held-out segments, and figures that say whether they are right.

One number theta per skill (and per action number) multiplies the spread by exp(theta); of discrete actions, the temperature. With
L_j(theta) the negative log-likelihood of held-out segment j,

    theta_s = argmin_theta  sum_{j of skill s} L_j(theta) + (n0 / N) sum_{all N segments j} L_j(theta),

a power prior (Ibrahim and Chen 2000, Statistical Science 15(1), equation 2) that counts all segments together as n0 segments
of the skill: a skill with many segments has its own spread, one with few or none the global one. For a Gaussian it is the
familiar shrinkage v_s = (n_s v + n0 v_all) / (n_s + n0) of variances. n0 is chosen among `PRIOR_SEGMENTS` by the likelihood of
each segment under thetas fitted to the others (empirical Bayes by leave-one-out; Gelman et al., Bayesian Data Analysis, 7.2).
Within a mixture, L_j is bounded with the responsibilities at the global theta (one step of EM), so that it splits over
action numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax  # pyright: ignore[reportUnknownVariableType]

from lago_skills.decoder.steps import LabelledSteps
from lago_skills.decoder.trained_decoder import (
    MAX_LOGSTD,
    MIN_LOGSTD,
    Calibration,
    Decoder,
    DecoderWeights,
    DiscreteDecoderWeights,
    Novelty,
)
from lago_skills.prior import Components

GRID = np.linspace(-1.5, 2.0, 71)
"""Thetas that are tried."""
PRIOR_SEGMENTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 1e6)
LOG_2PI = float(np.log(2.0 * np.pi))
N_CENTRES, N_LLOYD, N_SAMPLE = 128, 8, 6000
SLOPES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
NEAR_QUANTILE = 0.9
CORRUPTION = 3.0
"""States are made strange by noise of up to this many standard deviations."""
LEVELS = (0.5, 0.8, 0.9, 0.95)


def decode_steps(
    decoder: DecoderWeights, steps: LabelledSteps, rows: NDArray[Any], noise: float | NDArray[Any] = 0.0
) -> Components:
    """What the decoder says of these steps, each under its own skill; K is 1. `noise` is added to the standardised inputs."""
    latents = decoder.latents(steps.embeddings)[steps.skills[rows]]
    inputs = steps.inputs[rows] + noise * decoder.network.input_std
    return decoder.decode(inputs, latents[:, None, :])


def log_likelihood(decoder: Decoder, steps: LabelledSteps, rows: NDArray[Any]) -> NDArray[np.float64]:
    """(n,) log-density of the actions of these steps (of discrete actions, log-probability)."""
    if isinstance(decoder, DiscreteDecoderWeights):
        latents = decoder.latents(steps.embeddings)[steps.skills[rows]]
        log_probs = decoder.log_probs(steps.inputs[rows], latents[:, None, :])[:, 0].astype(np.float64)
        return log_probs[np.arange(len(rows)), steps.actions[rows, 0].astype(np.int64)]
    return mixture_log_density(decode_steps(decoder, steps, rows), steps.actions[rows])


def mixture_log_density(components: Components, actions: NDArray[Any]) -> NDArray[np.float64]:
    """(n,) log-density of (n, A) actions under components of K = 1."""
    parts = _per_number(components, actions).sum(axis=2) + np.log(np.maximum(components.weights[:, 0], 1e-30))  # (n, M)
    return _log_sum(parts)


def _log_sum(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The log of the sum of exponentials over the last axis."""
    total: Any = logsumexp(parts, axis=-1)
    return total


def _per_number(components: Components, actions: NDArray[Any]) -> NDArray[np.float64]:
    """(n, M, A) log-densities."""
    z = (actions[:, None, :] - components.means[:, 0]) / components.stds[:, 0].astype(np.float64)
    return -0.5 * (z**2 + LOG_2PI) - np.log(components.stds[:, 0])


@dataclass(frozen=True)
class Loss:
    """L_j(theta): (N segments, G grid, P numbers), and which skill each segment is of."""

    table: NDArray[np.float64]
    skills: NDArray[np.int64]

    @cached_property
    def totals(self) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]]]:
        """Sums (G, P) over all segments, and over each skill's: leaving one out is a subtraction, so the cost is linear."""
        return self.table.sum(axis=0), {
            int(s): self.table[self.skills == s].sum(axis=0) for s in np.unique(self.skills)
        }

    def fit(self, n0: float, skill: int | None = None, without: int | None = None) -> NDArray[np.float64]:
        """(P,) theta of one skill, or of all together; perhaps as if one segment had not been seen."""
        total, by_skill = self.totals
        left_out = 0.0 if without is None else self.table[without]
        total = total - left_out
        if skill is not None:
            own = by_skill.get(skill, np.zeros_like(total))
            if without is not None and self.skills[without] == skill:
                own = own - left_out
            total = own + total * (n0 / max(len(self.table) - (without is not None), 1))
        return GRID[np.argmin(total, axis=0)]

    def at(self, segment: int, theta: NDArray[np.float64]) -> float:
        """L_j(theta)."""
        index = np.searchsorted(GRID, theta - 1e-9)
        return float(self.table[segment, index, np.arange(len(theta))].sum())

    def choose(self) -> float:
        """The n0 under which each segment is most likely given the others."""
        if len(self.table) < 3:
            return PRIOR_SEGMENTS[-1]
        costs = [
            sum(self.at(j, self.fit(n0, int(self.skills[j]), without=j)) for j in range(len(self.table)))
            for n0 in PRIOR_SEGMENTS
        ]
        return PRIOR_SEGMENTS[int(np.argmin(costs))]


def _by_segment(steps: LabelledSteps, rows: NDArray[Any], losses: NDArray[np.float64]) -> Loss:
    """(n, G, P) losses of steps -> losses of segments."""
    names, first, inverse = np.unique(steps.segments[rows], return_index=True, return_inverse=True)
    table = np.zeros((len(names), *losses.shape[1:]))
    np.add.at(table, inverse, losses)
    return Loss(table, steps.skills[rows][first])


def _losses(decoder: Decoder, steps: LabelledSteps, rows: NDArray[Any]) -> Loss:
    if isinstance(decoder, DiscreteDecoderWeights):
        logits = np.exp(-GRID)[None, :, None] * _log_probs(decoder, steps, rows)[:, None, :]  # (n, G, A)
        chosen = logits[np.arange(len(rows)), :, steps.actions[rows, 0].astype(np.int64)]
        return _by_segment(steps, rows, (_log_sum(logits) - chosen)[:, :, None])
    components, actions = decode_steps(decoder, steps, rows), steps.actions[rows]
    squares = (actions[:, None, :] - components.means[:, 0]) ** 2  # (n, M, A)
    logstd = np.clip(
        np.log(components.stds[:, 0])[:, None].astype(np.float64) + GRID[None, :, None, None], MIN_LOGSTD, MAX_LOGSTD
    )  # (n, G, M, A)
    per_number = 0.5 * squares[:, None] * np.exp(-2.0 * logstd) + logstd + 0.5 * LOG_2PI
    share = np.log(np.maximum(components.weights[:, 0], 1e-30))
    best = int(np.argmin(_mixture_cost(per_number, share)))
    parts = share - per_number[:, best].sum(axis=2)  # (n, M)
    responsibility: Any = softmax(parts, axis=1)
    return _by_segment(steps, rows, np.einsum("nm,ngma->nga", responsibility, per_number))


def _mixture_cost(per_number: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    parts = share[:, None] - per_number.sum(axis=3)  # (n, G, M)
    return -_log_sum(parts).sum(axis=0)


def _log_probs(decoder: DiscreteDecoderWeights, steps: LabelledSteps, rows: NDArray[Any]) -> NDArray[np.float64]:
    latents = decoder.latents(steps.embeddings)[steps.skills[rows]]
    return decoder.log_probs(steps.inputs[rows], latents[:, None, :])[:, 0].astype(np.float64)


def with_calibration(decoder: Decoder, calibration: Calibration) -> Decoder:
    """The same decoder with other spreads."""
    return replace(decoder, network=replace(decoder.network, calibration=calibration))


def calibrate(decoder: Decoder, steps: LabelledSteps, rows: NDArray[Any]) -> tuple[Decoder, float]:
    """The decoder with thetas fitted to these steps, and n0.

    Steps that the decoder was trained on say too little of its errors: where no step is held out, spreads are never narrowed.
    """
    losses = _losses(decoder, steps, rows)
    n0 = losses.choose()
    overall = losses.fit(n0)
    thetas = np.stack([losses.fit(n0, skill) for skill in range(len(steps.embeddings))])
    if not steps.held_out[rows].any():
        overall, thetas = np.maximum(overall, 0.0), np.maximum(thetas, 0.0)
    latents = decoder.latents(steps.embeddings)
    calibration = Calibration(latents, thetas.astype(np.float32), overall.astype(np.float32))
    return with_calibration(decoder, calibration), n0


def centres(states: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """(C, I) centres of (n, I) standardised inputs by Lloyd's algorithm, which ends after few rounds."""
    sample = states[rng.choice(len(states), min(N_SAMPLE, len(states)), replace=False)]
    nearest_centres = sample[: min(N_CENTRES, len(sample))].copy()
    for _ in range(N_LLOYD):
        nearest = np.argmin(np.sum(nearest_centres**2, axis=1) - 2.0 * sample @ nearest_centres.T, axis=1)
        counts = np.bincount(nearest, minlength=len(nearest_centres))
        sums = np.zeros_like(nearest_centres)
        np.add.at(sums, nearest, sample)
        nearest_centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], nearest_centres)
    return nearest_centres.astype(np.float32)


def widen(
    decoder: Decoder, steps: LabelledSteps, rows: NDArray[Any], states: NDArray[np.float32], rng: np.random.Generator
) -> Decoder:
    """The decoder with a spread that grows away from the (n, I) standardised states it was trained on.

    The slope is the most likely one on held-out steps whose inputs carry noise of 0 to `CORRUPTION` standard deviations: how far
    a state is from the training states then says how much the right action may differ from the decoder's.
    """
    network = decoder.network
    novelty = Novelty(centres(states, rng), np.ones(1, np.float32), np.zeros(1, np.float32))
    own = novelty.distance(network.standardise(steps.inputs[rows]))
    near = np.maximum(np.quantile(own, NEAR_QUANTILE, keepdims=True), 1e-3).astype(np.float32)
    size = rng.uniform(0.0, CORRUPTION, (len(rows), 1))
    inputs = steps.inputs[rows] + size * rng.standard_normal(steps.inputs[rows].shape) * network.input_std
    strange = replace(steps, inputs=steps.inputs.copy())
    strange.inputs[rows] = inputs

    def at(slope: float) -> Decoder:
        wider = replace(novelty, near=near, slope=np.array([slope], np.float32))
        return replace(decoder, network=replace(network, novelty=wider))

    costs = [
        -float(np.mean(log_likelihood(at(slope), strange, rows)) + np.mean(log_likelihood(at(slope), steps, rows)))
        for slope in SLOPES
    ]
    return at(SLOPES[int(np.argmin(costs))])


def uniform_scores(components: Components, actions: NDArray[Any]) -> NDArray[np.float64]:
    """(n, A) probability integral transform: where each action lies in its marginal distribution; uniform if that is right.

    The prior's samples are clipped to [-1, 1], so an action at a bound lies anywhere in the mass beyond it: there the score is
    drawn from that interval.
    Source: randomised PIT, Czado, Gneiting and Held (2009), Biometrics 65(4), section 2.
    """
    z = (actions[:, None, :] - components.means[:, 0]) / components.stds[:, 0]
    scores: NDArray[np.float64] = np.sum(components.weights[:, 0, :, None] * _normal_cdf(z), axis=1)
    draw = np.random.default_rng(0).random(scores.shape)
    scores = np.where(actions >= 1.0, scores + draw * (1.0 - scores), scores)
    return np.where(actions <= -1.0, draw * scores, scores)


def _normal_cdf(z: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Source: Abramowitz and Stegun 26.2.17, error below 7.5e-8."""
    t = 1.0 / (1.0 + 0.2316419 * np.abs(z))
    poly = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    upper = np.exp(-0.5 * z.astype(np.float64) ** 2) / np.sqrt(2.0 * np.pi) * poly
    return np.asarray(np.where(z >= 0.0, 1.0 - upper, upper), dtype=np.float64)


def coverage(scores: NDArray[np.float64], levels: tuple[float, ...] = LEVELS) -> dict[float, float]:
    """Share of actions within the central interval of each level."""
    return {level: float((np.abs(2.0 * scores - 1.0) <= level).mean()) for level in levels}


def figures(decoder: Decoder, steps: LabelledSteps, rows: NDArray[Any]) -> dict[str, float]:
    """Negative log-likelihood per step of these steps, of the simpler densities to beat, and coverage.

    The simpler ones are fitted to the training steps: one Gaussian, and one Gaussian for each skill (of discrete actions,
    frequencies).
    """
    train = np.flatnonzero(~steps.held_out)
    metrics = {"nll": -float(log_likelihood(decoder, steps, rows).mean())}
    simple = _frequencies if isinstance(decoder, DiscreteDecoderWeights) else _gaussian
    everything = np.zeros(len(steps.skills), np.int64)
    metrics["nll_one"] = -float(simple(steps, train, rows, everything).mean())
    metrics["nll_per_skill"] = -float(simple(steps, train, rows, steps.skills).mean())
    if isinstance(decoder, DecoderWeights):
        scores = uniform_scores(decode_steps(decoder, steps, rows), steps.actions[rows])
        metrics |= {f"coverage_{round(100 * level)}": share for level, share in coverage(scores).items()}
    return metrics


def _gaussian(
    steps: LabelledSteps, train: NDArray[Any], rows: NDArray[Any], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n,) log-density under a Gaussian per group; a group that was not trained on has the Gaussian of all."""
    total = np.zeros(len(rows))
    for group in np.unique(groups[rows]):
        of = train[groups[train] == group]
        known = steps.actions[of if len(of) > 1 else train]
        mean, std = known.mean(axis=0), known.std(axis=0) + 1e-3
        own = groups[rows] == group
        z = (steps.actions[rows[own]] - mean) / std
        total[own] = (-0.5 * (z**2 + LOG_2PI) - np.log(std)).sum(axis=1)
    return total


def _frequencies(
    steps: LabelledSteps, train: NDArray[Any], rows: NDArray[Any], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n,) log-probability under add-one frequencies per group."""
    n_actions, total = steps.n_actions or 1, np.zeros(len(rows))
    for group in np.unique(groups[rows]):
        counts = np.bincount(steps.actions[train[groups[train] == group], 0].astype(int), minlength=n_actions) + 1.0
        own = groups[rows] == group
        total[own] = np.log(counts / counts.sum())[steps.actions[rows[own], 0].astype(int)]
    return total


def uncalibrated(decoder: DecoderWeights) -> DecoderWeights:
    """The decoder as it was trained: spreads neither fitted nor widened."""
    thetas, novelty = decoder.network.calibration, decoder.network.novelty
    none = replace(thetas, thetas=thetas.thetas * 0, overall=thetas.overall * 0)
    narrow = Novelty(novelty.centres, novelty.near, np.zeros(1, np.float32))
    return replace(decoder, network=replace(decoder.network, calibration=none, novelty=narrow))
