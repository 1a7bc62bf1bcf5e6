"""What a guide looks up: its settings, the skills that answer the steps of plans, and what was retrieved for a batch of states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Neighbors, Playbook
from lago_skills.guide.together import Lasting, Together
from lago_skills.worlds.grounding import AnchoredState, State

QueryMode = Literal["playbook", "learned", "blend"]


@dataclass(frozen=True)
class RetrievalConfig:
    """How neighbours become a mixture."""

    k: int = 4
    """Skills retrieved per state."""
    temperature: float = 0.5
    """Softmax temperature over inner products: lower trusts the nearest skill more."""
    floor: float = 0.02
    """Share of uniform in the prior."""
    query: QueryMode = "playbook"
    """What skills are looked up with: the latent of the playbook's active step, the learned query of state and task, or a blend
    of both. With a learned query alone, the playbook only says where to head: of its steps, the one whose words are most
    like the query counts."""
    blend: float = 0.5
    """Share of the learned query in the blend; 1 looks skills up by the learned query and heads where the active step does."""
    correct_plans: bool = True
    """Whether a plan in words is brought into the order that demonstrations show: steps that are missing, misplaced or about another thing."""
    support_weight: float = 0.0
    """Weights are multiplied by (demonstrated steps of the skill) ** this; 0 is off. A skill without any counts as one step."""


@dataclass(frozen=True)
class Retrieval:
    """What was looked up for a batch: to explain a prior, and to draw it."""

    state: State  # what the B observations say
    queries: NDArray[np.float32]  # (B, Z) what skills were looked up with
    steps: NDArray[np.int64]  # (B,) playbook step: the active one, or the one that a learned query is most like
    targets: NDArray[np.float64]  # (B, D) where the step heads
    neighbors: Neighbors
    weights: NDArray[np.float32]  # (B, K)
    latents: NDArray[np.float32]  # (B, K, Z) of the neighbours
    subjects: NDArray[np.int64] | None = None  # (B, 2) anchors that are thing and place, where the plan is in words
    paces: NDArray[np.float32] | None = None  # (B,) of the plans, where one is not 1
    together: Together | None = None  # of plans whose steps are judged by relations: all of their steps

    def inputs(self) -> NDArray[np.float32]:
        """(B, I) what the decoder sees: towards the target, and of a plan in words what its step is about."""
        if self.subjects is None:
            return self.state.inputs(self.targets)
        return cast("AnchoredState", self.state).subject_inputs(self.targets, self.subjects)


@dataclass(frozen=True)
class Answers:
    """The skills that answer some latents, best first."""

    neighbors: Neighbors
    weights: NDArray[np.float32]  # (N, K), rows sum to 1
    latents: NDArray[np.float32]  # (N, K, Z)

    def of(self, rows: NDArray[np.int64]) -> Answers:
        """Those of some rows, (B,)."""
        neighbors = Neighbors(self.neighbors.ids[rows], self.neighbors.scores[rows])
        return Answers(neighbors, self.weights[rows], self.latents[rows])


@dataclass(frozen=True)
class LookedUp:
    """What the library said of the steps of all plans, at one of its changes."""

    change: int
    answers: dict[str, Answers]
    """By plan, a row for each step."""
    meant: dict[str, NDArray[np.float64]]
    """By plan in words, (n_steps, n_skills): how much each demonstrated skill says of what a step's words mean."""
    lasting: Lasting = field(default_factory=dict[str, NDArray[np.float32]])
    """Skills that leave relations as they are, and that undo them."""


def paces(book: Playbook, n_states: int) -> NDArray[np.float32] | None:
    """(n_states,) the plan's pace; None where it is as shown."""
    return None if book.pace == 1.0 else np.full(n_states, book.pace, np.float32)


def without(neighbors: Neighbors, excluded: list[frozenset[int]], k: int) -> Neighbors:
    """The k best of each row that are not excluded; where all are, the k best."""
    ids, scores = np.full((len(neighbors.ids), k), -1, np.int64), np.full((len(neighbors.ids), k), -np.inf, np.float32)
    for row, known in enumerate(neighbors.ids):
        good = [place for place, skill in enumerate(known.tolist()) if skill >= 0 and skill not in excluded[row]]
        chosen = (good or list(range(len(known))))[:k]
        ids[row, : len(chosen)], scores[row, : len(chosen)] = known[chosen], neighbors.scores[row, chosen]
    return Neighbors(ids, scores)


def between(plans: NDArray[np.float32], learned: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """(B, Z) unit latents between two of them; the plan's where they cancel out."""
    mixed = (1.0 - share) * plans + share * learned
    norms = np.linalg.norm(mixed, axis=1, keepdims=True)
    return np.where(norms > 1e-6, mixed / np.maximum(norms, 1e-6), plans).astype(np.float32)
