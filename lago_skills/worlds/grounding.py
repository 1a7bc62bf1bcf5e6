"""Groundings: the named features that plans speak about, and what the decoder sees.

A grounding turns a batch of observations into named features (B, F), into the anchor points a playbook
may head for (B, n_anchors, 3), and into the decoder's inputs (B, I). It holds no state between calls.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Feature, Vocabulary
from lago_skills.errors import StudyError


class Grounding(Protocol):
    """What an environment must bring so that plans and skills can be written about it."""

    observation_size: int
    action_size: int
    vocabulary: Vocabulary
    """The features, in the order of `values`, and the anchors, in the order of `anchors`."""
    world: str
    """Sentences for the planner: frame, units, what an action does."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """The vocabulary's features."""
        ...

    def values(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """(B, S) observations -> (B, F) feature values."""
        ...

    def anchors(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """(B, S) observations -> (B, n_anchors, 3) points in metres."""
        ...

    def inputs(self, observations: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float32]:
        """(B, S) observations and (B, 3) target points -> (B, I) decoder inputs."""
        ...

    def turn(
        self, observations: NDArray[Any], targets: NDArray[Any], actions: NDArray[Any], angles: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """The same moments seen from a frame turned about the vertical by (B,) angles.

        A grounding without that symmetry returns its arguments.
        """
        ...


@runtime_checkable
class AnchoredGrounding(Grounding, Protocol):
    """What plans in words need beside: what moved, what the hand does, and a decoder's view of any two anchors."""

    def moved(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """(B, S) observations -> (B, n_anchors) metres that each anchor moved in the last control step."""
        ...

    def hand(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """(B, S) observations -> (B, 2) how far the hand is open and by how much that changed in the last control step, or (B, 0)."""
        ...

    def subject_inputs(
        self, observations: NDArray[Any], targets: NDArray[Any], subjects: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """(B, S) observations, (B, 3) target points and (B, 2) numbers of the anchors that are thing and place (-1: none) -> (B, I).

        The first `n_heading` numbers are the heading to the target.
        """
        ...

    @property
    def n_heading(self) -> int:
        """How many of the subject inputs are the heading."""
        ...


def anchored(grounding: Grounding) -> AnchoredGrounding:
    """The grounding, if plans in words can be followed in it.

    Raises:
        StudyError: it has no anchors, or lacks what plans in words need.
    """
    if not isinstance(grounding, AnchoredGrounding) or len(grounding.vocabulary.anchors) < 2:
        raise StudyError(
            f'found plan.form = "words" and a grounding ({type(grounding).__name__}) without anchors, moved, hand or subject_inputs; expected '
            'lago_skills.worlds.grounding.AnchoredGrounding, since steps in words are about anchors; add these methods, or set plan.form = "numbers"'
        )
    return grounding


def identity(grounding: Grounding) -> dict[str, Any]:
    """What two environments have in common where a bundle of one can advise in the other: sizes, features and anchors."""
    return {
        "observation_size": grounding.observation_size,
        "action_size": grounding.action_size,
        "features": [feature.name for feature in grounding.features],
        "anchors": list(grounding.vocabulary.anchors),
    }


def check_identity(what: str, found: dict[str, Any], grounding: Grounding) -> None:
    """Refuse what was made for another environment; `found` is the `identity` of the one it was made for.

    Raises:
        StudyError: it differs.
    """
    for name, expected in identity(grounding).items():
        if found.get(name) != expected:
            raise StudyError(
                f"{what} was made for another environment: found {name} {found.get(name)!r}; expected {expected!r}; take a bundle that was "
                "made for this environment"
            )


def goals(grounding: Grounding, observations: NDArray[Any]) -> NDArray[np.float64]:
    """(B, S) observations -> (B, 3) where the task wants things; zeros where the environment has no goal among its anchors."""
    names = grounding.vocabulary.anchors
    if "goal" not in names:
        return np.zeros((len(observations), 3))
    return grounding.anchors(observations)[:, names.index("goal")]
