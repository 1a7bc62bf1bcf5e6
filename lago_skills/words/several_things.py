"""A plan for several things, one after another: which of its parts is at work, from the present state alone.

A part is done when its thing has come nearly as far to its place as demonstrations brought it; the first part that is not done is at work. A step that
lets go of a thing is at work after its part is done, until the effector is clear of the thing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Step
from lago_skills.words.ends import HAND_SLACK, Averages, Ends
from lago_skills.words.geometry import Floats, Located, relation_of
from lago_skills.words.order import parts

DONE_SHARE, STILL_DONE_SHARE = 0.85, 0.7
"""A thing is at its place when it has gone so much of the way that demonstrations brought it; the second, once it is left alone."""
NEAR_SHARE, CLEAR_SHARE, DRAWING_BACK_M = 0.4, 0.85, 0.003
"""Nearer to a thing than so much of the distance at which demonstrations of letting go ended, the effector lets go; and goes on with it up to the
second share while it draws back as they did, by so much in a control step. The way to the next thing may lead past the one before."""


class SeveralThings:
    """The parts of a plan in words."""

    def __init__(self, steps: Sequence[Step], ends: Ends) -> None:
        self._ends, self._averages = ends, Averages(ends)
        self._relations = [relation_of(step) for step in steps]
        self.parts = parts(steps, ends.order)
        self._moves = [self._last(part, "at") for part in self.parts]
        releases = [self._last(part, "clear") for part in self.parts]
        # Who lets go before the thing is moved goes on with it afterwards.
        self.releases = [r if r > move else -1 for r, move in zip(releases, self._moves, strict=True)]

    def _last(self, part: slice[int, int, None], word: str) -> int:
        """The last step of a part with this word, of things that move to places or of an effector that lets go; -1 for none."""
        known = (number for number in range(part.start, part.stop) if self._relations[number].word == word)
        if word == "at":
            known = (number for number in known if self._relations[number].of == "place")
        return max(known, default=-1)

    @property
    def applies(self) -> bool:
        """Whether there is more than one part, or something to let go of, and what is done can be seen."""
        return min(self._moves) >= 0 and (len(self.parts) > 1 or max(self.releases) >= 0)

    def own_steps(self, number: int) -> slice[int, int, None]:
        """The steps of a part, without the one that lets go."""
        part, release = self.parts[number], self.releases[number]
        return slice(part.start, part.stop if release < 0 else release)

    def at_work(
        self, located: list[Located], weights: Floats, subjects: NDArray[np.int64], hand: Floats, drift: Floats
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which part is at work, (B,), the last one where all are done; and the step that lets go where the effector is still near, -1 elsewhere.

        The (B, 3) drift is how far the effector moved in the last control step.
        """
        n_done = self._done(located, weights, subjects, hand).argmin(axis=1)  # the last column is never done
        let_go = np.full(len(n_done), -1)
        for number, release in enumerate(self.releases):
            if release < 0:
                continue
            rows = n_done == number + 1
            if number + 1 < len(self.parts):
                rows = rows & self._letting_go(release, located, weights, subjects, drift)
            let_go[rows] = release
        return np.minimum(n_done, len(self.parts) - 1), let_go

    def _done(
        self, located: list[Located], weights: Floats, subjects: NDArray[np.int64], hand: Floats
    ) -> NDArray[np.bool_]:
        """(B, n_parts + 1) which parts are done; the last column says no."""
        columns: list[NDArray[np.bool_]] = []
        for move, release in zip(self._moves, self.releases, strict=True):
            open_wide = np.zeros(len(hand), np.bool_)
            if hand.shape[1]:
                open_wide = hand[:, 0] > self._ends.hand_holding(int(subjects[move, 0]))[1, 0] + HAND_SLACK[0]
            left_alone = open_wide if release < 0 else open_wide | ~self._near(release, located, weights, subjects)
            share = np.where(left_alone, STILL_DONE_SHARE, DONE_SHARE)
            began, ended = self._ends.way("at", weights[move], int(subjects[move, 0]))
            left = np.linalg.norm(located[move].anchor - located[move].moving, axis=1)
            columns.append(left <= ended + (1.0 - share) * (began - ended))
        return np.stack([*columns, np.zeros(len(columns[0]), np.bool_)], axis=1)

    def _clear(self, release: int, at: Located, weights: Floats, subjects: NDArray[np.int64]) -> Floats:
        """(B, 3) where the effector was from a thing when demonstrations of letting go ended."""
        thing = int(subjects[release, 0])
        return self._averages("ended", "clear", release, weights, by_thing=False, thing=thing)(at.key)

    def _near(
        self, release: int, located: list[Located], weights: Floats, subjects: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """(B,) whether the effector is still near a thing that is to be let go of."""
        at = located[release]
        shown = np.linalg.norm(self._clear(release, at, weights, subjects), axis=1)
        return np.linalg.norm(at.acting - at.thing, axis=1) < NEAR_SHARE * shown

    def _letting_go(
        self, release: int, located: list[Located], weights: Floats, subjects: NDArray[np.int64], drift: Floats
    ) -> NDArray[np.bool_]:
        """(B,) whether the effector has to let go of a thing, or is drawing back from it."""
        at = located[release]
        clear = self._clear(release, at, weights, subjects)
        shown = np.linalg.norm(clear, axis=1)
        apart = np.linalg.norm(at.acting - at.thing, axis=1)
        back = (drift * clear).sum(axis=1) / np.maximum(shown, 1e-9)
        return (apart < NEAR_SHARE * shown) | ((apart < CLEAR_SHARE * shown) & (back > DRAWING_BACK_M))
