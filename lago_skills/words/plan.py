"""A plan in words at run time: which step is at work and where it heads, from the present state alone.

A step may begin when the state lies on the way from where the step before it ends to where it ends itself, within a learned tolerance; of a
step that moves a thing, the gripper must lie on the way from where it last came to, to where it touches the thing in the end. The last step
that may begin is at work, so that a thing that slips away hands over to an earlier step by itself. Nothing is remembered between calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Playbook
from lago_skills.envs.grounding import AnchoredGrounding
from lago_skills.words.ends import SLACK_M, TOLERANCE_M, Ends, Which
from lago_skills.words.geometry import Floats, Located, distance_to_way, from_frame, locate, meaning

ENGAGED_M = 0.08
"""While its thing is moving, a step that moves it goes on within this distance."""
HAND_SLACK = (0.1, 0.02)
"""How far the hand may be beyond the demonstrated range: its opening, and the change of it in a step."""


@dataclass(frozen=True)
class Reading:
    """What a plan makes of B states."""

    steps: NDArray[np.int64]  # (B,)
    targets: Floats  # (B, 3)
    distances: Floats  # (B, n_steps), of the way to each step, in units of its tolerance; at most 1 where it may begin


class WordsPlan:
    """A playbook in words with what its words mean: the skills that the library retrieved for each step say where and when."""

    def __init__(self, playbook: Playbook, grounding: AnchoredGrounding, ends: Ends) -> None:
        self.playbook, self.grounding, self.ends = playbook, grounding, ends
        names = grounding.vocabulary.anchors
        self._meanings = [meaning(step) for step in playbook.steps]
        self.subjects = np.array(
            [[names.index(s.about[0]), names.index(s.about[1]) if len(s.about) > 1 else -1] for s in playbook.steps]
        )  # (n_steps, 2), anchors of thing and place

    def read(self, observations: NDArray[np.floating], weights: Floats) -> Reading:
        """(B, S) observations and (n_steps, n_skills) weights of the retrieved skills -> active steps and their targets."""
        observations = np.asarray(observations, np.float64)
        located = self._locate(observations)
        distances = self._distances(observations, located, weights)
        steps = distances.shape[1] - 1 - np.argmax(distances[:, ::-1] <= 1.0, axis=1)
        targets = np.empty((len(observations), 3))
        for k in np.unique(steps).tolist():
            rows = steps == k
            targets[rows] = located[k].gripper_target(self._offsets("heads", k, located[k], weights))[rows]
        return Reading(steps, targets, distances)

    def _locate(self, observations: Floats) -> list[Located]:
        anchors, names = self.grounding.anchors(observations), self.grounding.vocabulary.anchors
        return [locate(step, anchors, names) for step in self.playbook.steps]

    def _offsets(self, which: Which, k: int, at: Located, weights: Floats) -> Floats:
        known = self._meanings[k]
        if known.word == "raised":
            return np.repeat([[0.0, 0.0, self.ends.raised]], len(at.key), axis=0)
        found = self.ends.offsets(which, known.word, at.key, weights[k], by_thing=known.mover == "thing")
        # Beside a place means at its height: what is learned of hands that come beside things tells how far.
        return found * (1.0, 0.0, 0.0) if known.of == "place" and known.word == "behind" else found

    def _distances(self, observations: Floats, located: list[Located], weights: Floats) -> Floats:
        found = np.zeros((len(observations), len(located)))
        moved, hand = self.grounding.moved(observations), self.grounding.hand(observations)
        for k in range(1, len(located)):
            away = self.distance(k, located, weights)
            tolerance = max(float(weights[k] @ self.ends.tolerance) / max(float(weights[k].sum()), 1e-9), TOLERANCE_M[0])
            apart = away / tolerance
            if self._meanings[k].mover == "thing":
                engaged = (moved[:, self.subjects[k, 0]] > 1e-3) & (away <= ENGAGED_M)
                apart = np.where(engaged, np.minimum(apart, 1.0), apart)
            found[:, k] = np.where(self._hand_ready(k, hand), apart, np.maximum(apart, 2.0))
        return found

    def distance(self, k: int, located: list[Located], weights: Floats, *, learning: bool = False) -> Floats:
        """(B,) metres from the way that leads from step k - 1 to step k."""
        at, before = located[k], located[k - 1]
        near: Which = "heads" if self._meanings[k - 1].word == "around" and not learning else "ended"
        found = np.zeros(len(at.key))
        if self._meanings[k].mover == "thing":
            touching = [j for j in range(k) if self._meanings[j].mover == "gripper"]
            if touching:
                j = touching[-1]
                first = located[j].gripper_target(self._offsets("ended", j, located[j], weights))
                found = distance_to_way(at.acting, first, self._contact(k, at, first, weights))
        if self._meanings[k].mover == self._meanings[k - 1].mover:
            first = before.moving + before.way(self._offsets(near, k - 1, before, weights))
            last = at.moving + at.way(self._offsets(near, k, at, weights))
            found = np.maximum(found, distance_to_way(at.moving, first, last))
        return found

    def _contact(self, k: int, at: Located, otherwise: Floats, weights: Floats) -> Floats:
        """(B, 3) where the gripper touches the thing at the end of a step that moves it."""
        known = self._meanings[k]
        if known.word != "at" or not self.ends.knows("at", by_thing=True):
            return otherwise
        return at.thing + from_frame(self.ends.offsets("contact", "at", at.key, weights[k], by_thing=True), at.along)

    def _hand_ready(self, k: int, hand: Floats) -> NDArray[np.bool_]:
        """(B,) whether the hand is as it was while things were held, where the plan has taken hold of something by now."""
        holding = [m.word == "holding" for m in self._meanings[:k]]
        ready = np.ones(len(hand), np.bool_)
        if not any(holding) or not hand.shape[1]:
            return ready
        ready &= hand[:, 0] <= self.ends.held[1, 0] + HAND_SLACK[0]
        if holding[-1] and hand.shape[1] > 1:
            ready &= np.abs(hand[:, 1]) <= HAND_SLACK[1]
        return ready


def tolerances(samples: dict[int, dict[str, Floats]], n_skills: int) -> Floats:
    """(n_skills,) metres: of each skill, the median over tasks of how far nearly all demonstrated states were from the way."""
    found = np.full(n_skills, TOLERANCE_M[0])
    for skill, by_task in samples.items():
        middle = np.median([np.quantile(values, 0.95) for values in by_task.values()])
        found[skill] = np.clip(middle + SLACK_M, *TOLERANCE_M)
    return found
