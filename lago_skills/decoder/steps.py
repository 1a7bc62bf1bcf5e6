"""The arrays that a decoder is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import check_finite
from lago_skills.errors import ShapeError


@dataclass(frozen=True)
class LabelledSteps:
    """Offline steps with the active skill's sentence embedding; `held_out` marks whole episodes kept for calibration.

    Rewards are a skill's own: 1 where its segment ends because the skill's end was reached (the playbook went on, or the episode
    succeeded), and the segment is then terminal. With discrete actions, actions and variant actions are numbers of
    actions, (T, 1) and (T, V, 1), and `n_actions` says how many there are.
    """

    inputs: NDArray[np.float32]  # (T, I), decoder inputs towards the playbook's target
    variants: NDArray[np.float32]  # (T, V, I), the same step in variants to train on
    next_variants: NDArray[np.float32]  # (T, V, I), the step after, in the same frame and towards the same target
    variant_actions: NDArray[np.float32]  # (T, V, A)
    skills: NDArray[np.int64]  # (T,), rows of `embeddings`
    embeddings: NDArray[np.float32]  # (n_skills, D)
    segments: NDArray[np.int64]  # (T,), which segment a step belongs to
    actions: NDArray[np.float32]  # (T, A), in [-1, 1]
    rewards: NDArray[np.float32]  # (T,)
    terminals: NDArray[np.bool_]  # (T,)
    held_out: NDArray[np.bool_]  # (T,)
    weights: NDArray[np.float64]  # (T,), sampling weights
    heading_size: int = 0
    """The first so many inputs are the heading to the target; the rest is context. 0 where a target means nothing."""
    n_actions: int | None = None
    """Count of discrete actions; None for continuous ones."""

    def __post_init__(self) -> None:
        """Check shapes and values.

        Raises:
            ShapeError: no step to train on, lengths that disagree, values that are not finite, actions outside their
                range, or a step of a skill that has no embedding.
        """
        steps = len(self.actions)
        shapes = {
            name: getattr(self, name).shape
            for name in self.__dataclass_fields__
            if name not in ("n_actions", "heading_size")
        }
        ranks = {"inputs": 2, "variants": 3, "next_variants": 3, "variant_actions": 3, "embeddings": 2, "actions": 2}
        wrong = {
            name: shape
            for name, shape in shapes.items()
            if len(shape) != ranks.get(name, 1) or (name != "embeddings" and shape[0] != steps)
        }
        last = [(self.inputs, self.variants), (self.inputs, self.next_variants), (self.actions, self.variant_actions)]
        if wrong or any(one.shape[1] != many.shape[-1] for one, many in last):
            raise ShapeError(
                f"labelled steps: found {wrong or shapes}; expected {steps} rows of each, variants with the numbers of their steps; "
                "label the episodes again"
            )
        if steps == 0 or bool(self.held_out.all()):
            raise ShapeError(
                f"labelled steps: found {steps} steps, all held out; expected steps to train on; collect more episodes"
            )
        for name in ("inputs", "variants", "next_variants", "variant_actions", "embeddings", "actions", "rewards"):
            check_finite(getattr(self, name), f"labelled steps, {name}")
        if self.skills.min() < 0 or self.skills.max() >= len(self.embeddings):
            raise ShapeError(
                f"labelled steps: found skill {int(self.skills.max())}; expected one of {len(self.embeddings)} embeddings; "
                "embed every sentence of the playbooks"
            )
        self._check_actions()

    def _check_actions(self) -> None:
        if self.n_actions is None:
            low, high, range_ = float(self.actions.min()), float(self.actions.max()), (-1.0, 1.0)
        else:
            low, high, range_ = float(self.actions.min()), float(self.actions.max()), (0.0, self.n_actions - 1.0)
            if self.actions.shape[1] != 1 or (self.actions % 1 != 0).any():
                raise ShapeError(
                    f"labelled steps: found actions {self.actions.shape} for {self.n_actions} discrete actions; expected whole "
                    "numbers (T, 1); number the actions from 0"
                )
        if low < range_[0] or high > range_[1]:
            raise ShapeError(
                f"labelled steps: found actions from {low:.3g} to {high:.3g}; expected {range_[0]:.3g} to {range_[1]:.3g}; "
                "rescale the actions"
            )


@dataclass(frozen=True)
class Phrases:
    """Other words: what teaches the text head which differences between sentences matter.

    `skills` are other wordings of each skill, the first its own sentence; the text head and the decoder are trained on
    any of them. `texts` are sentences about anything, and those of one group ask for the same thing.
    """

    skills: NDArray[np.float32]  # (n_skills, P, D)
    texts: NDArray[np.float32]  # (W, D)
    groups: NDArray[np.int64]  # (W,)
