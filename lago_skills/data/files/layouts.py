"""Names that other packages give the arrays of a flat file, as they are called here."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.data.files.ends import CUT_NAMES, EPISODE_IDS, LENGTHS

SHORT = {
    "obs": "observations",
    "acts": "actions",
    "rews": "rewards",
    "next_obs": "next_observations",
    "observation": "observations",
    "action": "actions",
    "reward": "rewards",
    "next_observation": "next_observations",
}
"""imitation's names, those of expert trajectories of the first Stable-Baselines, and singular ones."""
STOPS = "episode_ends"
"""Diffusion Policy: how many steps there are up to the end of each episode."""
INDICES, TERMINAL = "indices", "terminal"
"""imitation: where the actions of each episode but the first begin, and whether it ended by itself."""
STARTS = "episode_starts"
"""Stable-Baselines: true at the first step of each episode."""
MASKS = "masks"
"""OGBench and JAX-based learners: 0 where the environment ended an episode; `terminals` are then ends of any kind."""
ARRAYS = (*SHORT, STOPS, INDICES, TERMINAL, STARTS, MASKS)


def renamed(arrays: dict[str, NDArray[Any]], present: Collection[str]) -> dict[str, NDArray[Any]]:
    """The arrays under the names that are read; `present` are all names of the file, read or not."""
    named = {key if SHORT.get(key) in arrays else SHORT.get(key, key): values for key, values in arrays.items()}
    if STOPS in named and LENGTHS not in named:
        named[LENGTHS] = np.diff(named.pop(STOPS).reshape(-1), prepend=0).astype(np.int64)
    if INDICES in named and TERMINAL in named and "actions" in named:
        n = len(named["actions"])
        named[LENGTHS] = np.diff(np.concatenate([[0], named.pop(INDICES).reshape(-1), [n]])).astype(np.int64)
        named["terminated"] = named.pop(TERMINAL)
    if STARTS in named and not any(key in named for key in (LENGTHS, *EPISODE_IDS)):
        named[EPISODE_IDS[0]] = np.cumsum(named.pop(STARTS).reshape(-1).astype(np.int64))
    trajectories = MASKS in named or (
        "qpos" in present and "rewards" not in named
    )  # OGBench, with rewards and as it is downloaded
    if trajectories and "terminals" in named:
        ends = named.pop("terminals").reshape(-1).astype(bool)
        named[CUT_NAMES[0]] = ends
        if MASKS in named:
            named["terminations"] = ends & (named.pop(MASKS).reshape(-1) == 0)
    return named
