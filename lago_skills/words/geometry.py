"""Where a step in words moves what: relations between the acting point, a thing and a place, in a frame that turns with them.

A relation says who has to come where: the effector to the thing, or the thing to the place. Offsets between them are given in a frame whose
first axis points from the thing to the place (horizontally), so that "behind" is the same number on every side of the table; the
third axis is up. Anchors in the plane get a height of 0 here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Relation, Step

Floats = NDArray[np.float64]
SAME_POINT_M = 1e-3
"""Anchors nearer to each other than this have no direction."""


def relation_of(step: Step) -> Relation:
    """How things lie when a step about anchors is over."""
    assert step.until is not None  # the parser refuses steps about anchors without one
    return step.until


def subjects_of(step: Step, names: tuple[str, ...]) -> tuple[int, int]:
    """Numbers of the anchors that are a step's thing and place; -1 for no place."""
    return names.index(step.about[0]), names.index(step.about[1]) if len(step.about) > 1 else -1


@dataclass(frozen=True)
class Located:
    """One step's points in B states, metres."""

    acting: Floats  # (B, 3)
    thing: Floats  # (B, 3)
    moving: Floats  # (B, 3), who has to come somewhere
    anchor: Floats  # (B, 3), where to, but for the learned offset
    along: Floats  # (B, 2), unit vector from the thing to the place; zeros where there is no place
    key: Floats  # (B, 4), how the anchors lie, whichever way they are turned: height, distance, difference in height, whether there is a place

    def effector_target(self, offsets: Floats) -> Floats:
        """(B, 3) offsets in the turning frame -> (B, 3) where the acting point must go so that the mover comes to its anchor."""
        return self.acting + self.way(offsets)

    def way(self, offsets: Floats) -> Floats:
        """(B, 3) offsets -> (B, 3) how far the mover still has to go."""
        return self.anchor + from_frame(offsets, self.along) - self.moving


def in_space(anchors: NDArray[np.float64]) -> Floats:
    """(B, n_anchors, D) -> (B, n_anchors, 3): points in the plane lie on the ground."""
    missing = 3 - anchors.shape[2]
    return np.pad(anchors, ((0, 0), (0, 0), (0, missing))) if missing else anchors


def locate(step: Step, anchors: Floats, names: tuple[str, ...], *, turning: bool = True) -> Located:
    """(B, n_anchors, 3) anchors -> the step's points; where the frame does not turn, offsets are along the world's axes."""
    acting, thing = anchors[:, 0], anchors[:, names.index(step.about[0])]
    place = anchors[:, names.index(step.about[1])] if len(step.about) > 1 else None
    far = np.zeros_like(thing) if place is None else place - thing
    length = np.linalg.norm(far[:, :2], axis=1, keepdims=True)
    along = np.where(turning & (length > SAME_POINT_M), far[:, :2] / np.maximum(length, SAME_POINT_M), 0.0)
    until = relation_of(step)
    moving = acting if until.mover == "effector" else thing
    anchor = {"thing": thing, "place": thing + far, "ground": moving * (1.0, 1.0, 0.0)}[until.of]
    key = np.concatenate([thing[:, 2:], length, far[:, 2:], np.full((len(thing), 1), float(place is not None))], axis=1)
    return Located(acting, thing, moving, anchor, along, key)


def to_frame(vectors: Floats, along: Floats) -> Floats:
    """(B, 3) world vectors -> (B, 3) along, across and up; as they are where there is no direction."""
    cos, sin = _direction(along)
    x, y = vectors[:, 0], vectors[:, 1]
    return np.stack([cos * x + sin * y, cos * y - sin * x, vectors[:, 2]], axis=1)


def from_frame(vectors: Floats, along: Floats) -> Floats:
    """The inverse of `to_frame`."""
    cos, sin = _direction(along)
    x, y = vectors[:, 0], vectors[:, 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y, vectors[:, 2]], axis=1)


def _direction(along: Floats) -> tuple[Any, Any]:
    return np.where(along.any(axis=1), along[:, 0], 1.0), along[:, 1]


def distance_to_way(points: Floats, first: Floats, last: Floats) -> Floats:
    """(B,) distance of points to the straight way between two others, (B, 3) each."""
    way = last - first
    share = ((points - first) * way).sum(axis=1) / np.maximum((way**2).sum(axis=1), 1e-12)
    return np.linalg.norm(points - first - np.clip(share, 0.0, 1.0)[:, None] * way, axis=1)
