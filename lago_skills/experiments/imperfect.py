"""Plans as an imperfect model would have written them: numbers with noise, words with one step that is wrong, or re-worded."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from lago_skills.core import Condition, Playbook, Step, Target, Vocabulary

NUMBERS = ("1 cm", "2 cm", "4 cm")
WORDS = ("dropped", "doubled", "swapped", "wrong anchor", "reworded")
NONE = ""
"""The plan as it is."""


def imperfect(book: Playbook, kind: str, rng: np.random.Generator, vocabulary: Vocabulary) -> Playbook:
    """The plan with this fault; `reworded` exchanges words by sets of interchangeable ones and needs `reword` beside.

    Noise is in centimetres, so it is added to what is measured in metres and to nothing else.
    """
    if kind == NONE:
        return book
    if kind in NUMBERS:
        metres = {feature.name for feature in vocabulary.features if feature.unit == "m"}
        std_m = float(kind.split()[0]) / 100.0
        return replace(book, steps=tuple(_noised(step, std_m, rng, metres) for step in book.steps))
    steps = list(book.steps)
    chosen = int(rng.integers(len(steps)))
    if kind == "dropped" and len(steps) > 1:
        del steps[chosen]
    elif kind == "doubled":
        steps.insert(chosen, steps[chosen])
    elif kind == "swapped" and len(steps) > 1:
        other = chosen + 1 if chosen + 1 < len(steps) else chosen - 1
        steps[chosen], steps[other] = steps[other], steps[chosen]
    elif kind == "wrong anchor":
        steps[chosen] = _elsewhere(steps[chosen], rng, vocabulary.subjects)
    return replace(book, steps=tuple(steps))


def reworded(book: Playbook, terms: tuple[tuple[str, ...], ...], seed: int) -> Playbook:
    """Every sentence in other words that say the same."""
    from lago_skills.stages.planning.phrases import reword

    rng = random.Random(seed)
    return replace(
        book, steps=tuple(replace(step, skill=rng.choice(reword(step.skill, terms, rng)[1:])) for step in book.steps)
    )


def _noised(step: Step, std_m: float, rng: np.random.Generator, metres: set[str]) -> Step:
    """Gaussian noise on every offset and on every threshold that is in metres."""
    errors = rng.normal(0.0, std_m, len(step.when))
    when = tuple(
        Condition(c.feature, c.op, c.value + float(error) * (c.feature in metres))
        for c, error in zip(step.when, errors, strict=True)
    )
    target = step.target
    if target is not None:
        target = Target(target.anchor, tuple(value + float(rng.normal(0.0, std_m)) for value in target.offset))
    return replace(step, target=target, when=when)


def _elsewhere(step: Step, rng: np.random.Generator, anchors: tuple[str, ...]) -> Step:
    """The step about another thing."""
    others = [name for name in anchors if name not in step.about]
    swapped = tuple(reversed(step.about)) if len(step.about) > 1 else (str(rng.choice(others)),)
    return replace(step, about=swapped)
