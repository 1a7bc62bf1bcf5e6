"""States unlike all that a bundle was made from: how they are noticed, and what is done about them."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Playbook
from lago_skills.errors import StudyError
from lago_skills.worlds.grounding import Grounding

Floats = NDArray[np.float64]
InUnfamiliar = Literal["hold", "answer", "refuse"]
"""`hold`: no action (zeros), and a prior that knows nothing. `answer`: the library's action all the same, and such a prior. `refuse`: an error."""
FAR = 4.0
"""A state is unfamiliar beyond so many times the distance within which nine in ten held-out demonstrated states lie."""
OUTSIDE = 1.0
"""And where a named feature leaves its declared range by more than so many times that range."""


class Ranges:
    """Declared ranges of the features that a plan compares; those without a finite range do not count."""

    def __init__(self, grounding: Grounding, book: Playbook) -> None:
        compared = {condition.feature for step in book.steps for condition in step.when}
        features = [
            (place, each)
            for place, each in enumerate(grounding.vocabulary.features)
            if each.name in compared and np.isfinite(each.high - each.low) and each.high > each.low
        ]
        self._places = np.array([place for place, _ in features], np.int64)
        self._middle = np.array([0.5 * (each.low + each.high) for _, each in features])
        self._inverse_spans = np.array([1.0 / (each.high - each.low) for _, each in features])

    def outside(self, values: Floats) -> Floats:
        """(B, F) -> (B,) by how many of its ranges the worst of the features is outside, 0 where none is."""
        if not len(self._places):
            return np.zeros(len(values))
        shares = np.abs(values[:, self._places] - self._middle) * self._inverse_spans
        return np.maximum(shares.max(axis=1) - 0.5, 0.0)


def unfamiliarity(distances: NDArray[Any], outside: Any) -> Floats:
    """(B,) how unlike the training's states those of a batch are: beyond 1 they are unfamiliar.

    The greater of two shares: of `FAR`, how far the decoder's inputs are from all that it was trained on (B,), in units of the distance of nine in ten
    held-out ones; of `OUTSIDE`, by how many of its ranges a feature that the plan compares is out of it (B,).
    """
    return np.maximum(distances.astype(np.float64) / FAR, outside / OUTSIDE)


def check_policy(policy: str, actions: ActionSpace) -> InUnfamiliar:
    """One of `InUnfamiliar`, if that makes sense for such actions.

    Raises:
        StudyError: it is none, or it is `hold` and no action is none.
    """
    if policy not in get_args(InUnfamiliar):
        raise StudyError(
            f"found unfamiliar = {policy!r}; expected one of {', '.join(get_args(InUnfamiliar))}; say what is to be done in states unlike the training's"
        )
    if policy == "hold" and actions.discrete:
        raise StudyError(
            "found unfamiliar = 'hold' and discrete actions, of which none is known to do nothing; expected 'answer' or 'refuse'; choose one of them"
        )
    return policy  # pyright: ignore[reportReturnType]  (checked above)
