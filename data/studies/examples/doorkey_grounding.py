"""DoorKey's grid as numbers that plans can speak about: where things are as the agent sees them, ahead of it and to its right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lago_skills.core import ActionSpace, Feature, Vocabulary, check_observations
from lago_skills.worlds.grounding import Grounding, Nouns

WALL, DOOR, KEY, GOAL, AGENT = 2, 4, 5, 8, 10
WAYS = ((1, 0), (0, 1), (-1, 0), (0, -1))
THINGS = (("key", KEY), ("door", DOOR), ("square", GOAL))
NAMES = [f"{thing}_{side}" for thing, _ in THINGS for side in ("ahead", "right")]
SENTENCES = [f"how many cells {side} the {thing} is" for thing, _ in THINGS for side in ("ahead of the agent", "to the agent's right")]
FLAGS = {
    "has_key": "1 once the agent carries the key, 0 before; key_ahead and key_right are 0 then",
    "door_open": "1 once the door is open",
    "free_ahead": "1 where the agent can step forward",
    "free_left": "1 where the cell to its left is free",
    "free_right": "1 where the cell to its right is free",
}


@dataclass(frozen=True)
class GridState:
    """All features are entries of the observation."""

    values: np.ndarray

    @property
    def anchors(self):
        return np.zeros((len(self.values), 0, 0))

    def inputs(self, targets):
        signs = np.concatenate([np.sign(self.values[:, :6]), self.values[:, :6] == 1], axis=1)
        return np.concatenate([self.values / 4.0, signs], axis=1).astype(np.float32)


class DoorKeyGrounding(Grounding):
    vocabulary = Vocabulary(
        (*(Feature(n, "cells", s, -4, 4) for n, s in zip(NAMES, SENTENCES)), *(Feature(n, "1", s, 0, 1) for n, s in FLAGS.items())), ()
    )
    observation_size, action_space = len(vocabulary.features), ActionSpace(7, discrete=True)
    nouns = Nouns(agent="agent", effector="agent")
    world = (
        "An agent walks on a grid of cells. A wall with a locked door parts the room; the key lies on the agent's side, a green square on the other. Actions: 0 turns left, 1 turns "
        "right, 2 steps forward, 3 picks up the key where it is 1 cell ahead, 5 opens the door where it is 1 cell ahead and the agent has the key; 4 and 6 are of no use."
    )

    def read(self, observations):
        check_observations(observations, self.observation_size)
        return GridState(observations.astype(np.float64))

    def flatten(self, raw):
        """The full grid (FullyObsWrapper) -> (11,)."""
        kinds, states, facing = raw["image"][:, :, 0], raw["image"][:, :, 2], WAYS[int(raw["direction"])]
        here, right = np.argwhere(kinds == AGENT)[0], (-facing[1], facing[0])
        found = {name: (np.argwhere(kinds == kind) - here) for name, kind in THINGS}
        offsets = [f(side, cells[0]) if len(cells) else 0.0 for cells in found.values() for side in (facing, right) for f in (np.dot,)]
        door_open = not len(found["door"]) or states[tuple(found["door"][0] + here)] == 0

        def free(way):
            x, y = here + way
            return float(kinds[x, y] in (1, GOAL) or (kinds[x, y] == DOOR and door_open))

        flags = [not len(found["key"]), door_open, free(facing), free(-np.array(right)), free(right)]
        return np.array([*offsets, *flags], np.float32)
