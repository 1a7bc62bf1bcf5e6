"""Latents on a plane: what maps of a library draw."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def on_a_plane(latents: NDArray[Any]) -> NDArray[np.float64]:
    """(N, Z) -> (N, 2): the first two principal components, each with its largest part positive, so that a map drawn again looks the same.

    One skill, or latents of one number, have fewer components: the rest is 0.
    """
    points = np.zeros((len(latents), 2))
    if not len(latents):
        return points
    centred = latents - latents.mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)  # (Z, Z), in columns, the largest last
    chosen = axes[:, ::-1][:, :2]
    signs = np.sign(chosen[np.argmax(np.abs(chosen), axis=0), np.arange(chosen.shape[1])])
    points[:, : chosen.shape[1]] = centred @ (chosen * signs)
    return points
