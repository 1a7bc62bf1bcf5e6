"""A plan in words at run time: which step is at work and where it heads, from the present state alone.

A step may begin when the state lies on the way from where the step before it ends to where it ends itself, within a learned tolerance; of a
step that moves a thing, the effector must lie on the way from where it last came to, to where it touches the thing in the end. The last step
that may begin is at work, so that a thing that slips away hands over to an earlier step by itself. Nothing is remembered between calls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Playbook
from lago_skills.words.ends import HAND_SLACK, SLACK_M, TOLERANCE_M, Averages, Ends, Which
from lago_skills.words.geometry import (
    Floats,
    Located,
    distance_to_way,
    from_frame,
    in_space,
    locate,
    relation_of,
    subjects_of,
)
from lago_skills.words.several_things import SeveralThings
from lago_skills.worlds.grounding import AnchoredGrounding, AnchoredState

MOVING_M, ENGAGED_M = 1e-3, 0.08
"""While its thing moves faster than the first (metres a step), a step that moves it goes on within the second distance."""
CONTACT_SHARE = 0.5


@dataclass(frozen=True)
class Reading:
    """What a plan makes of B states."""

    steps: NDArray[np.int64]  # (B,)
    targets: Floats  # (B, D)


class WordsPlan:
    """A playbook in words with what its words mean: the skills that the library retrieved for each step say where and when."""

    def __init__(
        self, playbook: Playbook, grounding: AnchoredGrounding, ends: Ends, *, of_one_thing: bool = False
    ) -> None:
        self.playbook, self.grounding, self.ends = playbook, grounding, ends
        names = grounding.vocabulary.anchors
        self._relations = [relation_of(step) for step in playbook.steps]
        self.subjects = np.array([subjects_of(step, names) for step in playbook.steps])  # (n_steps, 2)
        self._named = grounding.vocabulary.named_things
        self._several = SeveralThings(playbook.steps, ends)
        self._averages = Averages(ends)
        self._parts: list[WordsPlan] = []
        self._of_parts: tuple[Floats | None, list[Floats]] = (None, [])
        if self._several.applies and not of_one_thing:
            for number in range(len(self._several.parts)):
                own = replace(playbook, steps=playbook.steps[self._several.own_steps(number)])
                self._parts.append(WordsPlan(own, grounding, ends, of_one_thing=True))

    def read(self, state: AnchoredState, weights: Floats) -> Reading:
        """B states and (n_steps, n_skills) weights of the retrieved skills -> active steps and their targets."""
        return self._read(state, self.locate(state), weights)

    def _read(self, state: AnchoredState, located: list[Located], weights: Floats) -> Reading:
        if self._parts:
            return self._read_parts(state, located, weights)
        distances = self._distances(state, located, weights)
        steps = distances.shape[1] - 1 - np.argmax(distances[:, ::-1] <= 1.0, axis=1)
        targets = np.empty((len(steps), 3))
        active: list[int] = np.unique(steps).tolist()
        for k in active:
            rows = steps == k
            targets[rows] = self._target(k, located[k], weights)[rows]
        return Reading(steps, targets[:, : self.grounding.vocabulary.target_size])

    def apart(self, state: AnchoredState, weights: Floats) -> Floats:
        """(B, n_steps) how far each state is from where each step may begin, in the step's tolerance: at most 1 where it may.

        Infinite for steps that are about another thing than the part of the plan that is at work.
        """
        located = self.locate(state)
        if not self._parts:
            return self._distances(state, located, weights)
        apart = np.full((len(state.anchors), len(located)), np.inf)
        at_work, let_go = self._several.at_work(located, weights, self.subjects, state.hand, _drift(state))
        for number, part in enumerate(self._parts):
            rows, own = (at_work == number) & (let_go < 0), self._several.own_steps(number)
            if rows.any():
                apart[rows, own] = part.apart(state, self._of_part(number, weights))[rows]
        apart[np.flatnonzero(let_go >= 0), let_go[let_go >= 0]] = 0.0
        return apart

    def _read_parts(self, state: AnchoredState, located: list[Located], weights: Floats) -> Reading:
        """Each state by the part that is at work in it."""
        at_work, let_go = self._several.at_work(located, weights, self.subjects, state.hand, _drift(state))
        steps, targets = np.maximum(let_go, 0), np.empty((len(let_go), self.grounding.vocabulary.target_size))
        for number, part in enumerate(self._parts):
            rows, own = (at_work == number) & (let_go < 0), self._several.own_steps(number)
            if rows.any():
                reading = part._read(state, located[own], self._of_part(number, weights))
                steps[rows], targets[rows] = own.start + reading.steps[rows], reading.targets[rows]
        released: list[int] = np.unique(let_go[let_go >= 0]).tolist()
        for k in released:
            rows = let_go == k
            targets[rows] = self._target(k, located[k], weights)[rows, : targets.shape[1]]
        return Reading(steps, targets)

    def _of_part(self, number: int, weights: Floats) -> Floats:
        """The weights of a part's own steps, the same array for the same weights."""
        of, known = self._of_parts
        if of is not weights:
            known = [weights[self._several.own_steps(each)] for each in range(len(self._parts))]
            self._of_parts = weights, known
        return known[number]

    def _target(self, k: int, at: Located, weights: Floats) -> Floats:
        """(B, 3) where the acting point heads: so that the mover comes to the learned offset.

        In a step that brings a thing to a place it heads also half-way back to where the thing was touched in demonstrations.
        """
        target = at.effector_target(self._offsets("heads", k, at, weights))
        if self._relations[k].mover == "thing":
            target = target + CONTACT_SHARE * (self._contact(k, at, at.acting, weights) - at.acting)
        return target

    def locate(self, state: AnchoredState) -> list[Located]:
        """The points of each step."""
        anchors, names = in_space(state.anchors), self.grounding.vocabulary.anchors
        return [locate(step, anchors, names, turning=not self._named) for step in self.playbook.steps]

    def _offsets(self, which: Which, k: int, at: Located, weights: Floats) -> Floats:
        known = self._relations[k]
        if known.word == "raised":
            return np.repeat([[0.0, 0.0, self.ends.raised]], len(at.key), axis=0)
        thing = int(self.subjects[k, 0])
        offsets = self._averages(which, known.word, k, weights, by_thing=known.mover == "thing", thing=thing)(at.key)
        # Beside a place means at its height: what is learned of hands that come beside things tells how far.
        beside = known.of == "place" and known.word == "behind" and not self._named
        return offsets * (1.0, 0.0, 0.0) if beside else offsets

    def _distances(self, state: AnchoredState, located: list[Located], weights: Floats) -> Floats:
        moved, hand = state.moved, state.hand
        apart_by_step = np.zeros((len(moved), len(located)))
        for k in range(1, len(located)):
            touching, between = self.distances(k, located, weights)
            # While its thing is moving, a step that moves it goes on within a wider distance.
            engaged = (moved[:, self.subjects[k, 0]] > MOVING_M) & (touching <= ENGAGED_M)
            tolerance = max(
                float(weights[k] @ self.ends.tolerance) / max(float(weights[k].sum()), 1e-9), TOLERANCE_M[0]
            )
            apart = np.maximum(np.where(engaged, 0.0, touching), between) / tolerance
            apart_by_step[:, k] = np.where(self._hand_ready(k, hand), apart, np.maximum(apart, 2.0))
        return apart_by_step

    def distances(
        self, k: int, located: list[Located], weights: Floats, *, learning: bool = False
    ) -> tuple[Floats, Floats]:
        """How far the state is from where step k may begin, metres, (B,) each.

        First of the effector from the way to where it touches the thing (0 for steps that move no thing), then of the mover from the way
        between the ends of steps k - 1 and k (0 where their movers differ).
        """
        at, before = located[k], located[k - 1]
        touching, between = np.zeros(len(at.key)), np.zeros(len(at.key))
        reaching = [j for j in range(k) if self._relations[j].mover == "effector"]
        if self._relations[k].mover == "thing" and reaching:
            j = reaching[-1]
            first = located[j].effector_target(self._offsets(self._end(j, learning=learning), j, located[j], weights))
            touching = distance_to_way(at.acting, first, self._contact(k, at, first, weights))
        if self._relations[k].mover == self._relations[k - 1].mover:
            which = self._end(k - 1, learning=learning)
            first = before.moving + before.way(self._offsets(which, k - 1, before, weights))
            last = at.moving + at.way(self._offsets(which, k, at, weights))
            between = distance_to_way(at.moving, first, last)
            if not learning:  # whoever has come to where the step before heads goes on from there
                headed = before.moving + before.way(self._offsets("heads", k - 1, before, weights))
                between = np.minimum(between, distance_to_way(at.moving, headed, last))
        return touching, between

    def _end(self, k: int, *, learning: bool) -> Which:
        """A hand that comes around a thing is there when it is where it headed for: demonstrators close it on the way."""
        return "heads" if self._relations[k].word == "around" and not learning else "ended"

    def _contact(self, k: int, at: Located, otherwise: Floats, weights: Floats) -> Floats:
        """(B, 3) where the effector touches the thing at the end of a step that moves it."""
        known = self._relations[k]
        if known.word != "at" or not self.ends.knows("at", by_thing=True):
            return otherwise
        thing = int(self.subjects[k, 0])
        offsets = self._averages("contact", "at", k, weights, by_thing=True, thing=thing)(at.key)
        return at.thing + from_frame(offsets, at.along)

    def _hand_ready(self, k: int, hand: Floats) -> NDArray[np.bool_]:
        """(B,) whether the hand is as it was while things were held, where the plan has taken hold of something by now."""
        holding = [m.word == "holding" for m in self._relations[:k]]
        ready = np.ones(len(hand), np.bool_)
        if not any(holding) or not hand.shape[1]:
            return ready
        held = self.ends.hand_holding(int(self.subjects[k, 0]))
        ready &= hand[:, 0] <= held[1, 0] + HAND_SLACK[0]
        if holding[-1] and hand.shape[1] > 1:
            ready &= np.abs(hand[:, 1]) <= HAND_SLACK[1]
        return ready


def _drift(state: AnchoredState) -> Floats:
    """(B, 3) how far the effector moved in the last control step; zeros where the world does not say."""
    drift = getattr(state, "drift", None)
    return np.zeros((len(state.anchors), 3)) if drift is None else np.asarray(drift, np.float64)


def tolerances(samples: dict[int, dict[str, Floats]], n_skills: int) -> Floats:
    """(n_skills,) metres: of each skill, the median over tasks of how far nearly all demonstrated states were from the way."""
    by_skill = np.full(n_skills, TOLERANCE_M[0])
    for skill, by_task in samples.items():
        middle = np.median([np.quantile(values, 0.95) for values in by_task.values()])
        by_skill[skill] = np.clip(middle + SLACK_M, *TOLERANCE_M)
    return by_skill
