"""The numbers of a plan as one vector, to be searched: its pace, offsets of targets and thresholds of conditions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Playbook, Vocabulary
from lago_skills.playbook import LEAST_PACE, MOST_PACE

Floats = NDArray[np.float64]
OFFSET_SHARE, THRESHOLD_SHARE, PACE_SCALE = 0.25, 0.01, 0.5
"""By how much a number may usually be off: an offset by a share of the plan's usual one, a threshold by a share of its feature's range, a pace by so much."""


def numbers_of(book: Playbook, vocabulary: Vocabulary) -> tuple[Floats, Floats]:
    """(n,) the pace of a plan and its numbers in the order of its steps, offset before thresholds, and (n,) by how much each may usually be off.

    A plan in words has its pace alone.
    """
    ranges = {feature.name: feature.high - feature.low for feature in vocabulary.features}
    offsets = np.array([part for step in book.steps if step.target for part in step.target.offset if part])
    usual = float(np.sqrt(np.mean(offsets**2))) if len(offsets) else vocabulary.largest_offset
    values, scales = [book.pace], [PACE_SCALE]
    for step in book.steps:
        if step.target is not None:
            values += step.target.offset
            scales += [OFFSET_SHARE * usual] * len(step.target.offset)
        values += [condition.value for condition in step.when]
        scales += [THRESHOLD_SHARE * ranges[condition.feature] for condition in step.when]
    return np.array(values), np.array(scales)


def with_numbers(book: Playbook, values: Floats, vocabulary: Vocabulary) -> Playbook:
    """The plan with other numbers, (n,) in the same order; no part of an offset is larger than the world allows, and no pace than any may be."""
    left, largest = iter(values.tolist()), vocabulary.largest_offset
    pace = min(max(next(left), LEAST_PACE), MOST_PACE)
    steps = list(book.steps)
    for number, step in enumerate(steps):
        target = step.target
        if target is not None:
            target = replace(target, offset=tuple(min(max(next(left), -largest), largest) for _ in target.offset))
        when = tuple(replace(condition, value=next(left)) for condition in step.when)
        steps[number] = replace(step, target=target, when=when)
    return replace(book, steps=tuple(steps), pace=pace)
