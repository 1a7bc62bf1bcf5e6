"""A library whose decoder is replaced by a memory: what the nearest demonstrated step of a skill did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lago_skills.decoder.steps import LabelledSteps
from lago_skills.experiments.baselines.cloning_policies import LEAST_STD
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.retrieval import Retrieval
from lago_skills.prior import ActionPrior

LEAST_SPREAD = 0.05
"""A skill whose steps repeat their neighbours' actions closer than this is not trusted more."""


@dataclass(frozen=True)
class _Shown:
    """The demonstrated steps of one skill, in each of their variants."""

    inputs: NDArray[np.float32]  # (n, I), in units of the spread over all skills
    actions: NDArray[np.float32]  # (n, A)
    spread: NDArray[
        np.float32
    ]  # (A,), root mean square between an action and that of the nearest step of another segment

    def nearest(self, inputs: NDArray[np.float32]) -> NDArray[np.int64]:
        """(B, I) -> which step is nearest to each."""
        # |a - b|^2 without the part that is the same for all b
        apart = np.square(self.inputs).sum(axis=1) - 2.0 * inputs @ self.inputs.T
        return np.argmin(apart, axis=1)


class NearestStepGuide(LibraryGuide):
    """The same playbooks, latents and retrieval; each retrieved skill says what the nearest of its demonstrated steps did.

    The steps come in the variants that the decoder is trained on: turned frames, and targets in hindsight.
    """

    def __init__(self, guide: LibraryGuide, steps: LabelledSteps, sentences: list[str]) -> None:
        parts = (guide.grounding, guide.decoder, guide.library, guide.books, guide.step_latents, guide.config)
        super().__init__(*parts, ends=guide.ends)
        self._std = np.maximum(steps.inputs.std(axis=0), LEAST_STD).astype(np.float32)
        numbers = {sentence: number for number, sentence in enumerate(sentences)}
        skills = self.library.list()
        self._shown = {skill.id: self._of_skill(steps, numbers[skill.sentence]) for skill in skills}

    def _of_skill(self, steps: LabelledSteps, number: int) -> _Shown:
        rows = np.flatnonzero(steps.skills == number)
        own = (steps.inputs[rows] / self._std).astype(np.float32)
        actions, segments = steps.actions[rows], steps.segments[rows]
        apart = np.square(own[:, None, :] - own[None, :, :]).sum(axis=2)
        apart[segments[:, None] == segments[None, :]] = np.inf
        others = np.isfinite(apart).any(axis=1)
        spread = np.full(actions.shape[1], LEAST_SPREAD, np.float32)
        if others.any():
            error = actions[others] - actions[np.argmin(apart[others], axis=1)]
            spread = np.maximum(np.sqrt(np.square(error).mean(axis=0)), LEAST_SPREAD)
        variants = steps.variants[rows].reshape(-1, own.shape[1]) / self._std
        varied = steps.variant_actions[rows].reshape(-1, actions.shape[1])
        return _Shown(
            np.concatenate([own, variants]).astype(np.float32),
            np.concatenate([actions, varied]).astype(np.float32),
            spread.astype(np.float32),
        )

    def decode(self, retrieval: Retrieval) -> ActionPrior:
        """One component for each retrieved skill."""
        inputs = retrieval.inputs() / self._std
        ids = retrieval.neighbors.ids
        size = self.decoder.action_size
        means, stds = np.zeros((*ids.shape, size), np.float32), np.ones((*ids.shape, size), np.float32)
        for skill in np.unique(ids[ids >= 0]).tolist():
            shown = self._shown[skill]
            rows, places = np.nonzero(ids == skill)
            means[rows, places] = shown.actions[shown.nearest(inputs[rows])]
            stds[rows, places] = shown.spread
        return ActionPrior(retrieval.weights, means, stds, self.config.floor)
