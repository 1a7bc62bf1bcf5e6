"""Episodes as they leave: in the environment's own actions, with what says which those are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode
from lago_skills.worlds.gym.spaces import ActionCodec


@dataclass(frozen=True)
class Recorded:
    """An episode of which the actions are the environment's."""

    episode: Episode
    actions: NDArray[Any]  # (T, A) in the environment's range, or (T,) or (T, M) of its numbers

    @property
    def discrete(self) -> bool:
        """Whether actions are numbers of alternatives."""
        return self.episode.discrete


def in_environment(episode: Episode, codec: ActionCodec | None) -> Recorded:
    """The episode with its actions as the environment takes them."""
    if codec is None or not len(episode.actions):
        return Recorded(episode, episode.actions)
    decoded = [codec.decoded(action) for action in episode.actions]
    if codec.keys:
        decoded = [np.concatenate([np.reshape(part, -1) for part in each.values()]) for each in decoded]
    return Recorded(episode, np.asarray(decoded, np.int64 if episode.discrete else np.float32))


def action_arrays(codec: ActionCodec | None) -> dict[str, NDArray[Any]]:
    """Arrays of a file that say which range its actions have, or which number the first has; none where they are the usual ones."""
    if codec is None:
        return {}
    if codec.space.discrete:
        return {"action_start": np.array(codec.start)} if codec.start else {}
    low, high = codec.bounds()
    return {"action_low": low, "action_high": high} if codec.rescaled else {}
