"""Playbooks at run time: which step is active and where it heads, for a batch, without a Python loop over rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Condition, Playbook, Step, Target, Vocabulary

SAME_WORDS = 1e-5
"""Cosines that differ by less are of the same sentence."""


class CompiledPlaybook:
    """A playbook turned into index and threshold arrays, ready for batches."""

    def __init__(self, playbook: Playbook, vocabulary: Vocabulary) -> None:
        index = {feature.name: i for i, feature in enumerate(vocabulary.features)}
        self.playbook = playbook
        conditions = [(number, c) for number, step in enumerate(playbook.steps) for c in step.when]
        self._features = np.array([index[c.feature] for _, c in conditions], dtype=np.int64)  # (n_conditions,)
        self._signs = np.array([1.0 if c.op == "<" else -1.0 for _, c in conditions])
        self._bounds = np.array([c.value for _, c in conditions])
        self._counts = np.zeros((len(conditions), len(playbook.steps)))  # 1 where a condition is of a step
        self._counts[np.arange(len(conditions)), [number for number, _ in conditions]] = 1.0
        targets = [step.target for step in playbook.steps]
        self._anchor = np.array([vocabulary.anchors.index(t.anchor) if t else -1 for t in targets])
        self._offset = np.array([t.offset if t else (0.0, 0.0, 0.0) for t in targets])

    def held(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """(B, F) feature values -> (B, n_steps) whether all conditions of each step hold; the last has none."""
        failed = ~(self._signs * (values[:, self._features] - self._bounds) < 0.0)  # (B, n_conditions)
        held: NDArray[np.bool_] = failed @ self._counts == 0.0  # (B, n_steps)
        held[:, -1] = True
        return held

    def active(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """(B, F) feature values -> (B,) index of the first step whose conditions all hold."""
        return np.argmax(self.held(values), axis=1)

    def answering(self, values: NDArray[Any], similar: NDArray[Any]) -> NDArray[np.int64]:
        """(B, F) feature values and (B, n_steps) how well each step answers what is wanted -> (B,) the step that answers best.

        Steps that share their words answer alike; of those, the first whose conditions hold, and the last if none of theirs do.
        """
        best: NDArray[np.bool_] = similar >= similar.max(axis=1, keepdims=True) - SAME_WORDS
        ready: NDArray[np.bool_] = best & self.held(values)
        first: NDArray[np.int64] = np.argmax(ready, axis=1)
        last: NDArray[np.int64] = best.shape[1] - 1 - np.argmax(best[:, ::-1], axis=1)
        found: NDArray[np.int64] = np.where(ready[np.arange(len(ready)), first], first, last)
        return found

    def targets(self, steps: NDArray[np.int64], anchors: NDArray[Any]) -> NDArray[np.float64]:
        """(B,) active steps and (B, n_anchors, 3) anchor points -> (B, 3) target points; 0 where there are no anchors."""
        if not anchors.shape[1]:
            return np.zeros((len(steps), 3))
        return anchors[np.arange(len(steps)), self._anchor[steps]] + self._offset[steps]


def playbook_from(raw: dict[str, Any]) -> Playbook:
    """A playbook from its JSON form."""
    steps = tuple(
        Step(
            skill=step["skill"],
            target=Target(step["target"]["anchor"], tuple(step["target"]["offset"])) if step.get("target") else None,
            when=tuple(Condition(**condition) for condition in step.get("when", ())),
            about=tuple(step.get("about", ())),
            until=step.get("until"),
        )
        for step in raw["steps"]
    )
    return Playbook(raw["task_id"], steps, raw["transcript_key"], raw["model"], raw.get("form", "numbers"))


def playbook_to(book: Playbook) -> dict[str, Any]:
    """The JSON form of a playbook; of one in numbers, as it was before there were others, so that its hash stays."""
    raw = asdict(book)
    form = raw.pop("form")
    for step in raw["steps"]:
        unused = ("about", "until") if form == "numbers" else ("target", "when")
        for name in unused:
            del step[name]
    return raw if form == "numbers" else {**raw, "form": form}
