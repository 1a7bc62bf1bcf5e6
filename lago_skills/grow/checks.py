"""Does a new segment do what its sentence says? What the library has learned of that sentence is the measure.

A segment is scored by the density of its actions under the decoder with the sentence's latent, relative to uniform: below zero, acting at
random explains it better than its own sentence does. So episodes that succeed by accident, and random ones, are seen before
anything is learned from them. Of a sentence that the library has never seen done nothing is known before: its segments are measured against
each other, by the decoder that was trained on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Segment
from lago_skills.decoder.dataset import segment_inputs
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.stages.segment import Labelled

FLOOR = 0.02
"""Share of uniform in the density: no single step says more than its logarithm against a segment."""
LEAST_SHARE = 0.5
"""Of an episode's steps that can be checked, so many must be what their sentences say."""
UNLIKE_SHARE = 0.5
"""Episodes of sentences that are new must be explained so well as the best quarter of them."""


@dataclass(frozen=True)
class Checked:
    """What came of the new episodes of a task."""

    refused: tuple[int, ...]
    """Numbers of the episodes that do not do what their plan says."""
    unknown: tuple[str, ...]
    """Sentences that the library has never seen done."""


def scores(
    shown: Labelled, segments: Sequence[Segment], numbers: Sequence[int], decoder: Decoder
) -> NDArray[np.float64]:
    """(n,) mean log density of each segment's actions under its own sentence, relative to uniform; `numbers` are their places in `shown.segments`."""
    every = zip(numbers, segments, strict=True)
    return np.array([float(step_scores(shown, item, number, decoder).mean()) for number, item in every])


def step_scores(shown: Labelled, item: Segment, number: int, decoder: Decoder) -> NDArray[np.float64]:
    """(T,) log density of each of a segment's actions under its own sentence, relative to uniform; `number` is its place in `shown.segments`."""
    episode = shown.episodes[item.task_id][item.episode]
    heads = None if shown.ends is None else shown.ends.fitted[number]
    inputs = segment_inputs(item, episode, shown.books, shown.grounding, heads)
    latent = decoder.latents(shown.embeddings[item.skill][None])
    latents = np.repeat(latent[None], len(inputs), axis=0)  # (T, 1, Z)
    prior = decoder.decode(inputs, latents).flat(np.ones((len(inputs), 1), np.float32), FLOOR)
    return prior.log_ratio(episode.actions[item.start : item.stop])


def _of_episodes(
    shown: Labelled, task: str, first: int, decoder: Decoder, known: set[str]
) -> tuple[dict[int, NDArray[np.float64]], dict[int, NDArray[np.float64]]]:
    """By number of each episode of a task, from the `first` on: scores of its segments of `known` sentences, and their lengths."""
    every = enumerate(shown.segments)
    new = [(n, s) for n, s in every if s.task_id == task and s.episode >= first and s.skill in known]
    values = scores(shown, [s for _, s in new], [n for n, _ in new], decoder)
    episodes = np.array([s.episode for _, s in new], np.int64)
    lengths = np.array([s.stop - s.start for _, s in new], np.float64)
    numbers: list[int] = np.unique(episodes).tolist()
    return {n: values[episodes == n] for n in numbers}, {n: lengths[episodes == n] for n in numbers}


def unlike_the_others(shown: Labelled, task: str, first: int, decoder: Decoder) -> list[int]:
    """Numbers of the new episodes of a task, from the `first` on, that a decoder trained on them explains far worse than the others.

    Half as well as the quarter that it explains best, or no better than acting at random.
    """
    values, lengths = _of_episodes(shown, task, first, decoder, set(shown.skills))
    means = {n: float(np.average(values[n], weights=lengths[n])) for n in values}
    least = max(0.0, UNLIKE_SHARE * float(np.quantile(list(means.values()), 0.75)))
    return [number for number, mean in means.items() if mean < least]


def check(before: Labelled, after: Labelled, task: str, decoder: Decoder) -> Checked:
    """Compare the episodes of a task that `after` has and `before` has not with what the library knows.

    Args:
        before: what the decoder was trained on.
        after: with the new episodes, cut and labelled.
        task: id.
        decoder: of the version in use.
    """
    first, known = len(before.episodes.get(task, [])), set(before.skills)
    values, lengths = _of_episodes(after, task, first, decoder, known)
    refused = [n for n, of in values.items() if np.average(of > 0.0, weights=lengths[n]) < LEAST_SHARE]
    of_task = [s.skill for s in after.segments if s.task_id == task and s.episode >= first]
    unknown = tuple(skill for skill in dict.fromkeys(of_task) if skill not in known)
    return Checked(tuple(refused), unknown)
