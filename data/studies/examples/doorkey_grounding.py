"""DoorKey's grid as numbers that plans can speak about: where things are as the agent sees them, ahead of it and to its right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lago_skills.core import ActionSpace, Feature, Vocabulary, check_observations
from lago_skills.worlds.grounding import Grounding

EMPTY, AGENT, GOAL, DOOR, KEY = 1, 10, 8, 4, 5
WAYS = ((1, 0), (0, 1), (-1, 0), (0, -1))
THINGS = {"key": KEY, "door": DOOR, "square": GOAL}
SIDES = {"ahead": "ahead of the agent", "right": "to the agent's right"}
PLACES = {f"{what}_{side}": f"how many cells {way} the {what} is" for what in THINGS for side, way in SIDES.items()}
FLAGS = {
    "has_key": "1 once the agent carries the key, 0 before; key_ahead and key_right are 0 then",
    "door_open": "1 once the door is open",
    "free_ahead": "1 where the agent can step forward",
    "free_left": "1 where the cell to its left is free",
    "free_right": "1 where the cell to its right is free",
}


@dataclass(frozen=True)
class GridState:
    values: np.ndarray
    anchors: np.ndarray

    def inputs(self, targets):
        places = self.values[:, : len(PLACES)]
        return np.concatenate([self.values / 4.0, np.sign(places), places == 1], axis=1).astype(np.float32)


class DoorKeyGrounding(Grounding):
    features = tuple(Feature(name, "cells", text, -4, 4) for name, text in PLACES.items())
    features += tuple(Feature(name, "1", text, 0, 1) for name, text in FLAGS.items())
    vocabulary, observation_size = Vocabulary(features, ()), len(features)
    action_space = ActionSpace(7, discrete=True)
    world = """\
An agent walks on a grid of cells. A wall with a locked door parts the room; the key lies on the agent's side, a green square on the other. Actions: 0 turns left, 1 turns \
right, 2 steps forward, 3 picks up the key where it is 1 cell ahead, 5 opens the door where it is 1 cell ahead and the agent has the key; 4 and 6 are of no use."""

    def read(self, observations):
        check_observations(observations, self.observation_size)
        return GridState(observations.astype(np.float64), np.zeros((len(observations), 0, 0)))

    def flatten(self, raw):
        """The whole grid, as FullyObsWrapper gives it -> (11,)."""
        kinds, states, facing = raw["image"][:, :, 0], raw["image"][:, :, 2], np.array(WAYS[int(raw["direction"])])
        (here,), right = np.argwhere(kinds == AGENT), np.array([-facing[1], facing[0]])
        cells = {name: np.argwhere(kinds == kind)[:1] for name, kind in THINGS.items()}
        ways = [cells[name][0] - here if len(cells[name]) else 0 * here for name in THINGS]
        places = [float(way @ side) for way in ways for side in (facing, right)]
        door_open = not len(cells["door"]) or states[tuple(cells["door"][0])] == 0
        near = [(kinds[tuple(here + way)], way) for way in (facing, -right, right)]
        free = [kind in (EMPTY, GOAL) or (kind == DOOR and door_open) for kind, _ in near]
        return np.array([*places, not len(cells["key"]), door_open, *free], np.float32)
