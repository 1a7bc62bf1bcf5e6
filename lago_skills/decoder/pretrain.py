"""Pretrain the decoder: batches, the text head's own lessons, and calibration. The algorithms are in `algorithms`."""

# torch's annotations leave some types partially unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lago_skills.core import ActionSpace
from lago_skills.decoder import calibration
from lago_skills.decoder.algorithms import IMITATORS, Trainer
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.networks import TextHead
from lago_skills.decoder.steps import LabelledSteps, Phrases
from lago_skills.decoder.trained_decoder import Array, Decoder

CONSTANT_STD = 1e-6
"""An input that varies less than this is constant; it enters as it is, so that a change at run time is not a jump."""
CONTRAST_BATCH, CONTRAST_TEMPERATURE, CONTRAST_RATE = 192, 0.1, 1e-3


@dataclass(frozen=True)
class Start:
    """The decoder that a training goes on from."""

    decoder: Decoder
    """Of the same sizes; inputs stay standardised as it does."""
    replayed: NDArray[np.bool_]
    """(T,) whether a step is of those that it was trained on: there its own answer is learned, not the action that was shown (pseudo-rehearsal, Robins 1995,
    "Catastrophic forgetting, rehearsal and pseudorehearsal"; as distillation, Li and Hoiem, arXiv 1606.09282)."""

    @property
    def teacher(self) -> Decoder:
        """The decoder as it was before its spread was calibrated, so that spreads do not grow from one training to the next."""
        network = self.decoder.network
        flat = replace(
            network.calibration, thetas=0.0 * network.calibration.thetas, overall=0.0 * network.calibration.overall
        )
        known = replace(network.novelty, slope=0.0 * network.novelty.slope)
        return replace(self.decoder, network=replace(network, calibration=flat, novelty=known))


def pretrain(
    steps: LabelledSteps,
    config: DecoderConfig,
    seed: int,
    report: Callable[[int, dict[str, float]], None],
    phrases: Phrases | None = None,
    *,
    learn_text: bool = True,
    start: Start | None = None,
) -> tuple[Decoder, dict[str, float]]:
    """Train on the steps that are not held out; returns the decoder at run time and held-out figures.

    `report(update, metrics)` is called every 100 updates. Without `learn_text` there is no text head: latents are the embeddings. With `start`
    it goes on from a decoder of the same sizes.

    Raises:
        StudyError: an algorithm for discrete actions on continuous ones, or the other way round; or one that cannot go on from a decoder.
    """
    actions = ActionSpace(steps.n_actions or steps.actions.shape[1], discrete=steps.n_actions is not None)
    config = config.of_actions(actions)
    sizes = steps.inputs.shape[1], steps.embeddings.shape[1], actions.size
    if not learn_text:
        config = config.model_copy(update={"latent_size": sizes[1], "text_sizes": ()})
    batches = _Batches(steps, config, seed, phrases, start)
    n_skip = steps.heading_size if config.heading_skip else 0
    trainer = Trainer(config, *sizes, seed, learn_text=learn_text, n_skip=n_skip)
    if start is not None:
        trainer.start_from(start.decoder)
    lessons = _Lessons(trainer.text_head, phrases, seed) if phrases is not None and learn_text else None
    loss = 0.0
    for update in range(1, config.n_updates + 1):
        metrics = trainer.update(*batches.draw())
        if lessons is not None and config.contrast_every and update % config.contrast_every == 0:
            lessons.learn()
        now = next(iter(metrics.values()))
        loss = now if update == 1 else 0.99 * loss + 0.01 * now
        if update % 100 == 0:
            report(update, {"loss": loss})
    trainer.text_head.eval()
    return _finish(trainer.export(batches.mean, batches.std), steps, config, batches.sample(), seed)


def _finish(
    decoder: Decoder, steps: LabelledSteps, config: DecoderConfig, states: Array, seed: int
) -> tuple[Decoder, dict[str, float]]:
    rows = np.flatnonzero(steps.held_out)
    if len(rows) == 0:
        rows = np.arange(len(steps.actions))
    figures = {"held_out_nll_uncalibrated": -float(calibration.log_likelihood(decoder, steps, rows).mean())}
    if config.calibrate:
        figures["held_out_nll_others"] = _cross_validated(decoder, steps, rows)
        decoder, n0 = calibration.calibrate(decoder, steps, rows)
        decoder = calibration.widen(decoder, steps, rows, states, np.random.default_rng(seed))
        figures |= {"prior_segments": n0, "novelty_slope": float(decoder.network.novelty.slope[0])}
    scores = calibration.figures(decoder, steps, rows)
    figures |= {f"held_out_{name}" if name.startswith("nll") else name: value for name, value in scores.items()}
    return decoder, {**figures, "n_held_out": float(len(rows))}


def _cross_validated(decoder: Decoder, steps: LabelledSteps, rows: NDArray[Any], n_folds: int = 5) -> float:
    """Negative log-likelihood of held-out segments under thetas fitted to other held-out segments."""
    fold = steps.segments[rows] % n_folds
    total = 0.0
    for number in range(n_folds):
        here, others = rows[fold == number], rows[fold != number]
        fitted = calibration.calibrate(decoder, steps, others)[0] if len(others) else decoder
        total -= float(calibration.log_likelihood(fitted, steps, here).sum())
    return total / len(rows)


class _Batches:
    """Draws batches of the steps that are not held out: variants, swapped context, noise, other words."""

    def __init__(
        self,
        steps: LabelledSteps,
        config: DecoderConfig,
        seed: int,
        phrases: Phrases | None,
        start: Start | None = None,
    ) -> None:
        self.steps, self.config, self.start = steps, config, start
        self.rng = np.random.default_rng(seed)
        self.train = np.flatnonzero(~steps.held_out)
        seen = steps.variants[self.train].reshape(-1, steps.variants.shape[2])
        spread = seen.std(axis=0)
        self.mean = seen.mean(axis=0).astype(np.float32)
        self.std = np.where(spread < CONSTANT_STD, 1.0, np.maximum(spread, 1e-2)).astype(np.float32)
        if start is not None:
            self.mean, self.std = start.decoder.network.input_mean, start.decoder.network.input_std
            self.teacher, self.known_latents = start.teacher, start.decoder.latents(steps.embeddings)
        cumulative = np.cumsum(steps.weights[self.train])
        self.cumulative = cumulative / cumulative[-1]
        own = steps.embeddings[:, None, :]
        self.words = (own if phrases is None else phrases.skills).astype(np.float32)  # (n_skills, P, D)

    def draw(self) -> tuple[NDArray[Any], ...]:
        """Observations and actions; for algorithms with a critic also rewards, next observations and terminals."""
        steps, config, rng = self.steps, self.config, self.rng
        # As `rng.choice` with p does, which sums all weights again for each batch: its cost would grow with the data.
        places = np.searchsorted(self.cumulative, rng.random(config.batch_size), side="right")
        rows = self.train[places]
        variant = rng.integers(0, steps.variants.shape[1], len(rows))
        states = self._standard(steps.variants[rows, variant])
        if config.algorithm in IMITATORS:
            self._swap(states)
        states += rng.normal(0.0, config.input_noise_std, states.shape).astype(np.float32)
        wording = rng.integers(0, self.words.shape[1], len(rows)) * (rng.random(len(rows)) < config.phrase_share)
        texts = self.words[steps.skills[rows], wording]
        observations, actions = np.concatenate([states, texts], axis=1), steps.variant_actions[rows, variant]
        if self.start is not None:
            actions = self._with_own_answers(self.start.replayed, rows, states, actions)
        if config.algorithm in IMITATORS:
            return observations, actions
        following = self._standard(steps.next_variants[rows, variant])
        return (
            observations,
            actions,
            steps.rewards[rows],
            np.concatenate([following, texts], axis=1),
            steps.terminals[rows],
        )

    def _with_own_answers(
        self, replayed: NDArray[np.bool_], rows: NDArray[Any], states: Array, actions: Array
    ) -> Array:
        """At replayed steps what the decoder before would do in the state as it is seen here."""
        places = np.flatnonzero(replayed[rows])
        if not len(places):
            return actions
        latents = self.known_latents[self.steps.skills[rows[places]]][:, None]
        answers = self.teacher.decode(states[places] * self.std + self.mean, latents)
        drawn = answers.flat(np.ones((len(places), 1), np.float32)).sample(self.rng)
        answered = actions.copy()
        answered[places] = np.asarray(drawn, np.float32).reshape(len(places), -1)
        return answered

    def _standard(self, inputs: Array) -> Array:
        return ((inputs - self.mean) / self.std).astype(np.float32)

    def _swap(self, states: Array) -> None:
        """Give some rows the context of others, in place; where nothing is a heading, the context is all that there is."""
        if not self.steps.heading_size:
            return
        mixed = np.flatnonzero(self.rng.random(len(states)) < self.config.context_swap_share)
        first = self.steps.heading_size
        states[mixed, first:] = states[self.rng.permutation(mixed), first:]

    def sample(self) -> Array:
        """(n, I) standardised states as they were trained on."""
        parts = [self.draw()[0][:, : len(self.mean)] for _ in range(calibration.N_SAMPLE // self.config.batch_size + 1)]
        return np.concatenate(parts).astype(np.float32)


@dataclass
class _Lessons:
    """The text head's own lessons: sentences that ask for the same thing attract each other, others repel.

    Source: supervised contrastive loss, Khosla et al. (arXiv 2004.11362), equation 2.
    """

    head: TextHead
    phrases: Phrases
    seed: int

    def __post_init__(self) -> None:
        words = self.phrases.skills  # (n_skills, P, D)
        n_skills, n_words, size = (int(n) for n in words.shape)
        texts = np.concatenate([self.phrases.texts, words.reshape(-1, size)])
        first = int(self.phrases.groups.max(initial=-1)) + 1
        own: NDArray[np.int64] = first + np.arange(n_skills * n_words) // n_words
        groups = np.concatenate([self.phrases.groups, own])
        self.texts, self.groups = torch.from_numpy(texts.astype(np.float32)), torch.from_numpy(groups)
        # Half of a batch are skills, however many texts there are.
        share = np.where(groups >= first, 0.5 / (n_skills * n_words), 0.5 / max(len(self.phrases.texts), 1))
        self.probability = share / share.sum()
        self.optimiser = torch.optim.Adam(self.head.parameters(), lr=CONTRAST_RATE)
        self.rng = np.random.default_rng((self.seed, 1))

    def learn(self) -> None:
        """One update."""
        rows = torch.from_numpy(self.rng.choice(len(self.groups), CONTRAST_BATCH, p=self.probability))
        self.head.train()
        latents, groups = self.head(self.texts[rows]), self.groups[rows]
        own = torch.eye(len(rows), dtype=torch.bool)
        logits = (latents @ latents.T / CONTRAST_TEMPERATURE).masked_fill(own, -1e9)
        same = (groups[:, None] == groups[None, :]) & ~own
        log_p = logits - torch.logsumexp(logits, dim=1, keepdim=True)
        counts = same.sum(dim=1)
        loss = -(log_p * same).sum(dim=1)[counts > 0] / counts[counts > 0]
        self.optimiser.zero_grad()
        loss.mean().backward()
        self.optimiser.step()
