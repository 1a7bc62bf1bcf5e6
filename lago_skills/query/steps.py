"""The arrays that a query network is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import check_finite
from lago_skills.errors import ShapeError


@dataclass(frozen=True)
class QuerySteps:
    """Offline steps, the task each was part of and the skill that was active; `held_out` marks whole episodes not trained on."""

    inputs: NDArray[np.float32]  # (T, I), decoder inputs towards the goal
    variants: NDArray[np.float32]  # (T, V, I), the same step in variants
    tasks: NDArray[np.int64]  # (T,), rows of `words`
    skills: NDArray[np.int64]  # (T,), rows of `latents`
    held_out: NDArray[np.bool_]  # (T,)
    weights: NDArray[np.float64]  # (T,), sampling weights
    words: NDArray[np.float32]  # (n_tasks, P, D), embeddings of ways to ask for each task, its own sentence first
    latents: NDArray[np.float32]  # (n_skills, Z), unit

    def __post_init__(self) -> None:
        """Check shapes and values.

        Raises:
            ShapeError: lengths or ranks that disagree, no step to train on, a number that is not finite, or a step of a task
                or skill that is not there.
        """
        n_steps = len(self.inputs)
        shapes = {name: getattr(self, name).shape for name in self.__dataclass_fields__}
        ranks = {"inputs": 2, "variants": 3, "words": 3, "latents": 2}
        wrong = {
            name: shape
            for name, shape in shapes.items()
            if len(shape) != ranks.get(name, 1) or (name not in ("words", "latents") and shape[0] != n_steps)
        }
        if wrong or self.inputs.shape[1] != self.variants.shape[2]:
            raise ShapeError(
                f"query steps: found {wrong or shapes}; expected {n_steps} rows of each and variants with the numbers of their "
                "steps; label the episodes again"
            )
        if n_steps == 0 or bool(self.held_out.all()):
            raise ShapeError(
                f"query steps: found {n_steps} steps, all held out; expected steps to train on; collect more episodes"
            )
        for name in ("inputs", "variants", "weights", "words", "latents"):
            check_finite(getattr(self, name), f"query steps, {name}")
        for name, rows, table in (("task", self.tasks, self.words), ("skill", self.skills, self.latents)):
            if rows.min() < 0 or rows.max() >= len(table):
                raise ShapeError(
                    f"query steps: found {name} {int(rows.max())}; expected one of {len(table)}; embed every sentence"
                )
