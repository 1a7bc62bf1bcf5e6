"""The arrays that a decoder is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelledSteps:
    """Offline steps with the active skill's sentence embedding; `held_out` marks whole episodes kept for calibration."""

    inputs: NDArray[np.float32]  # (T, I), decoder inputs towards the playbook's target
    variants: NDArray[np.float32]  # (T, V, I), the same step in variants to train on
    variant_actions: NDArray[np.float32]  # (T, V, A)
    embeddings: NDArray[np.float32]  # (T, D)
    actions: NDArray[np.float32]  # (T, A), in [-1, 1]
    held_out: NDArray[np.bool_]  # (T,)
    weights: NDArray[np.float64]  # (T,), sampling weights
