"""A plan in words in a world whose states tell which relations hold: every step whose relation does not hold is at work, and what holds is to last.

Nothing is learned of when a step is over, and nothing is remembered between calls: what was undone is taken up again by itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Playbook
from lago_skills.words.geometry import Floats, relation_of, subjects_of
from lago_skills.words.words_plan import Reading
from lago_skills.worlds.grounding import Grounding, RelatedState, related


class RelationsPlan:
    """A playbook in words about relations that states tell."""

    def __init__(self, playbook: Playbook, grounding: Grounding) -> None:
        self.playbook, self.grounding = playbook, related(grounding)
        names = grounding.vocabulary.anchors
        self.relations = [relation_of(step) for step in playbook.steps]
        self.subjects = np.array([subjects_of(step, names) for step in playbook.steps])  # (n_steps, 2)

    def holding(self, state: RelatedState) -> NDArray[np.bool_]:
        """B states -> (B, n_steps) whether the relation of each step holds."""
        n_states = len(state.values)
        columns = [
            state.holds(relation, np.repeat(subjects[None], n_states, axis=0))
            for relation, subjects in zip(self.relations, self.subjects, strict=True)
        ]
        return np.stack(columns, axis=1)

    def at_work(self, holding: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(B, n_steps) which relations hold -> which steps are at work: those whose relation does not, and all where all do."""
        return ~holding | holding.all(axis=1, keepdims=True)

    def read(self, state: RelatedState, weights: Floats) -> Reading:
        """B states -> the first step that is at work in each, of which there may be more; targets mean nothing. Weights of skills are not looked at."""
        steps = np.argmax(self.at_work(self.holding(state)), axis=1)
        return Reading(steps, np.zeros((len(steps), self.grounding.vocabulary.target_size)))

    def apart(self, state: RelatedState, weights: Floats) -> Floats:
        """B states -> (B, n_steps) 0 for each step that is at work and infinity for the others."""
        return np.where(self.at_work(self.holding(state)), 0.0, np.inf)
