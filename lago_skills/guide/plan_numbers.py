"""The numbers of a plan as one vector, to be searched: offsets of targets and thresholds of conditions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Playbook, Vocabulary

Floats = NDArray[np.float64]
OFFSET_SHARE, THRESHOLD_SHARE = 0.25, 0.01
"""By how much a number may usually be off: an offset by a share of the plan's usual one, a threshold by a share of its feature's range."""


def numbers_of(book: Playbook, vocabulary: Vocabulary) -> tuple[Floats, Floats]:
    """(n,) the numbers of a plan in the order of its steps, offset before thresholds, and (n,) by how much each may usually be off.

    Both are empty for a plan in words.
    """
    ranges = {feature.name: feature.high - feature.low for feature in vocabulary.features}
    offsets = np.array([part for step in book.steps if step.target for part in step.target.offset if part])
    usual = float(np.sqrt(np.mean(offsets**2))) if len(offsets) else vocabulary.largest_offset
    values, scales = list[float](), list[float]()
    for step in book.steps:
        if step.target is not None:
            values += step.target.offset
            scales += [OFFSET_SHARE * usual] * len(step.target.offset)
        values += [condition.value for condition in step.when]
        scales += [THRESHOLD_SHARE * ranges[condition.feature] for condition in step.when]
    return np.array(values), np.array(scales)


def with_numbers(book: Playbook, values: Floats, vocabulary: Vocabulary) -> Playbook:
    """The plan with other numbers, (n,) in the same order; no part of an offset is larger than the world allows."""
    left, largest = iter(values.tolist()), vocabulary.largest_offset
    steps = list(book.steps)
    for number, step in enumerate(steps):
        target = step.target
        if target is not None:
            target = replace(target, offset=tuple(min(max(next(left), -largest), largest) for _ in target.offset))
        when = tuple(replace(condition, value=next(left)) for condition in step.when)
        steps[number] = replace(step, target=target, when=when)
    return replace(book, steps=tuple(steps))
