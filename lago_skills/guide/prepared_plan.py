"""A task's plan with everything done beforehand that does not depend on the state: what a loaded bundle answers with.

Its readable twin is `LibraryGuide.retrieve` and `decode`, which learners use and which are the rule in case of doubt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lago_skills.decoder.prepared import PreparedDecoder, PreparedWeights, can_prepare
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.retrieval import LookedUp
from lago_skills.guide.straight_line import Program, straight_line
from lago_skills.guide.unfamiliar import Ranges, unfamiliarity
from lago_skills.prior import ActionPrior, Prior

if TYPE_CHECKING:
    from lago_skills.guide.graph_runtime import GraphRuntime

Engine = Literal["numpy", "onnx"]
"""What computes: NumPy, or for batches ONNX Runtime (the extra `onnx`)."""
STATE_BY_STATE = 4
"""Batches of at most so many states are read by the straight-line program."""


@dataclass(frozen=True)
class Decoded:
    """Of B states."""

    prior: Prior
    steps: NDArray[np.int64]  # (B,)
    unfamiliarity: NDArray[np.float64]  # (B,)


@dataclass(frozen=True)
class _Prepared:
    """What is prepared for one state of the library."""

    looked_up: LookedUp
    decoder: PreparedDecoder
    weights: NDArray[np.float32]  # (n_steps, K)
    graph: GraphRuntime | None
    """What answers batches, where ONNX Runtime is wanted."""


class PreparedPlan:
    """The plan of one task of a guide. Follows the guide's library; safe to use from several threads."""

    def __init__(
        self, guide: LibraryGuide, task: str, engine: Engine = "numpy", weights: PreparedWeights | None = None
    ) -> None:
        self._guide, self._task, self._engine = guide, task, engine
        book = guide.books[task]
        self._pace, self._ranges = book.pace, Ranges(guide.grounding, book)
        fixed = guide.config.query == "playbook" and can_prepare(guide.decoder)
        if fixed and weights is None:
            weights = PreparedWeights(guide.decoder)  # pyright: ignore[reportArgumentType]  (can_prepare has seen to it)
        self._weights = weights
        self._program: Program | None = None
        if fixed and book.form == "numbers":
            self._program = straight_line(book, guide.grounding)
        self._prepared = self._prepare(guide.of_steps) if fixed else None

    def _prepare(self, looked_up: LookedUp) -> _Prepared:
        answers = looked_up.answers[self._task]
        assert self._weights is not None  # only of what can be prepared
        decoder = PreparedDecoder(self._weights, answers.latents)
        graph = None
        if self._engine == "onnx" and self._program is not None:  # else it cannot be followed
            from lago_skills.guide.graph_runtime import GraphRuntime

            graph = GraphRuntime(self._guide, self._task)
        return _Prepared(looked_up, decoder, answers.weights, graph)

    def decode(self, rows: NDArray[np.float64]) -> Decoded:
        """(B, S) finite observations -> their prior.

        Raises:
            ShapeError: wrong observation size, or values that are not finite.
        """
        if self._prepared is None:
            return self._by_guide(rows)
        looked_up = self._guide.of_steps
        prepared = self._prepared
        if prepared.looked_up is not looked_up:
            prepared = self._prepared = self._prepare(looked_up)
        if self._program is not None and len(rows) <= STATE_BY_STATE:
            return self._state_by_state(self._program, prepared, rows)
        if prepared.graph is not None:
            return Decoded(*prepared.graph.decode(rows))
        steps, inputs, outside = self._read(rows)
        components, distances = prepared.decoder.decode(inputs, steps)
        return Decoded(self._mixture(components, prepared.weights[steps]), steps, unfamiliarity(distances, outside))

    def _read(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]:
        """(B, S) -> active steps (B,), decoder inputs (B, I), by how many ranges compared features are outside (B,)."""
        plan = self._guide.playbooks.get(self._task)
        if plan is None:  # in words, which compare nothing
            retrieval = self._guide.retrieve(rows, self._task)
            return retrieval.steps, retrieval.inputs(), np.zeros(len(rows))
        state = self._guide.grounding.read(rows)
        values = state.values
        steps = plan.active(values)
        return steps, state.inputs(plan.targets(steps, state.anchors)), self._ranges.outside(values)

    def _state_by_state(self, program: Program, prepared: _Prepared, rows: NDArray[np.float64]) -> Decoded:
        decoded: list[Decoded] = []
        for row in rows.tolist():
            step, inputs, outside = program(row)
            components, distances = prepared.decoder.decode_one(inputs, step)
            strange = unfamiliarity(distances, outside)
            prior = self._mixture(components, prepared.weights[step : step + 1])
            if len(rows) == 1:
                return Decoded(prior, np.array([step]), strange)
            decoded.append(Decoded(prior, np.array([step]), strange))
        return joined(decoded)

    def _mixture(self, components: Any, weights: NDArray[np.float32]) -> ActionPrior:
        if self._pace != 1.0:
            components = components.paced(np.full(len(weights), self._pace, np.float32))
        return components.flat(weights, self._guide.config.floor)

    def _by_guide(self, rows: NDArray[np.float64]) -> Decoded:
        retrieval = self._guide.retrieve(rows, self._task)
        network = self._guide.decoder.network
        distances = network.novelty.distance(network.standardise(retrieval.inputs())) / np.maximum(
            network.novelty.near, 1e-9
        )
        outside = self._ranges.outside(retrieval.state.values)
        return Decoded(self._guide.decode(retrieval), retrieval.steps, unfamiliarity(distances, outside))


def joined(parts: list[Decoded]) -> Decoded:
    """Several of continuous actions, one after the other."""
    priors = [each.prior for each in parts if isinstance(each.prior, ActionPrior)]
    prior = ActionPrior(
        np.concatenate([each.weights for each in priors]),
        np.concatenate([each.means for each in priors]),
        np.concatenate([each.stds for each in priors]),
        priors[0].floor,
    )
    return Decoded(
        prior,
        np.concatenate([each.steps for each in parts]),
        np.concatenate([each.unfamiliarity for each in parts]),
    )
