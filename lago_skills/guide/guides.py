"""The whole run-time contract: `prior(observations, task) -> ActionPrior`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Neighbors, Playbook
from lago_skills.decoder.runtime import DecoderWeights
from lago_skills.envs.grounding import Grounding
from lago_skills.errors import LibraryConflict, StudyError
from lago_skills.library import SkillLibrary
from lago_skills.playbook import CompiledPlaybook
from lago_skills.prior import ActionPrior, uniform_prior


class Guide(Protocol):
    """Anything that gives an action prior for a batch of observations of one task."""

    def prior(self, observations: NDArray[Any], task: str) -> ActionPrior:
        """(B, S) observations -> prior over (B, A) actions."""
        ...


class NullGuide:
    """No guidance: the prior is uniform with full floor, so rho is exactly 0 everywhere."""

    def __init__(self, action_size: int) -> None:
        self.action_size = action_size

    def prior(self, observations: NDArray[Any], task: str) -> ActionPrior:
        """A prior that knows nothing."""
        return uniform_prior(len(observations), self.action_size)


@dataclass(frozen=True)
class RetrievalConfig:
    """How neighbours become a mixture."""

    k: int = 4
    """Skills retrieved per state."""
    temperature: float = 0.5
    """Softmax temperature over inner products: lower trusts the nearest skill more."""
    floor: float = 0.02
    """Share of uniform in the prior."""


@dataclass(frozen=True)
class Retrieval:
    """What was looked up for a batch: to explain a prior, and to draw it."""

    steps: NDArray[np.int64]  # (B,) active playbook step
    targets: NDArray[np.float64]  # (B, 3) where the step heads
    neighbors: Neighbors
    weights: NDArray[np.float32]  # (B, K)


class LibraryGuide:
    """Playbook step -> latent -> k nearest library skills -> decoder -> mixture."""

    def __init__(
        self,
        grounding: Grounding,
        decoder: DecoderWeights,
        library: SkillLibrary,
        playbooks: dict[str, Playbook],
        step_latents: dict[str, NDArray[np.float32]],
        config: RetrievalConfig | None = None,
    ) -> None:
        self.grounding = grounding
        self.decoder = decoder
        self.library = library
        self.config = config or RetrievalConfig()
        self.playbooks = {name: CompiledPlaybook(book, grounding.vocabulary) for name, book in playbooks.items()}
        self.step_latents = step_latents  # per task: (n_steps, Z)
        self._looked_up_at = -1
        self._found: dict[str, tuple[Neighbors, NDArray[np.float32]]] = {}
        self._follow()

    def _follow(self) -> None:
        """Look the steps' neighbours up again when the library has changed: an edit shows within a quarter of a second."""
        change = self.library.change
        if change != self._looked_up_at:
            self._found = {name: self._lookup(latents) for name, latents in self.step_latents.items()}
            self._looked_up_at = change

    def _lookup(self, latents: NDArray[np.float32]) -> tuple[Neighbors, NDArray[np.float32]]:
        """Neighbours and mixture weights of each step of a playbook: they do not depend on the state."""
        found = self.library.search(latents, max(min(self.config.k, self.library.n_active), 1))
        if (found.ids[:, 0] < 0).any():
            raise LibraryConflict(
                "found no enabled skill in the library; expected at least one; enable one (lago skills enable), or build again"
            )
        logits = np.where(found.ids >= 0, found.scores / self.config.temperature, -np.inf)
        logits -= logits.max(axis=1, keepdims=True)
        weights = np.exp(logits)
        return found, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)

    def neighbors(self, task: str) -> tuple[Neighbors, NDArray[np.float32]]:
        """Neighbours of each step of a task's playbook, and their (n_steps, K) weights."""
        self._follow()
        return self._found[task]

    def retrieve(self, observations: NDArray[Any], task: str) -> Retrieval:
        """Which step is active in each state, where it heads, and which skills answer it.

        Raises:
            StudyError: the task has no playbook in this bundle.
            ShapeError: wrong observation size, or values that are not finite.
        """
        if task not in self.playbooks:
            raise StudyError(
                f"no playbook for task {task!r} in this bundle; expected one of {sorted(self.playbooks)}; "
                "plan the task and build the bundle again"
            )
        book = self.playbooks[task]
        steps = book.active(self.grounding.values(observations))
        found, weights = self.neighbors(task)
        return Retrieval(
            steps=steps,
            targets=book.targets(steps, self.grounding.anchors(observations)),
            neighbors=Neighbors(found.ids[steps], found.scores[steps]),
            weights=weights[steps],
        )

    def prior(self, observations: NDArray[Any], task: str) -> ActionPrior:
        """(B, S) observations -> mixture over the retrieved skills.

        Raises:
            StudyError: the task has no playbook in this bundle.
            ShapeError: wrong observation size, or values that are not finite.
        """
        return self.decode(observations, self.retrieve(observations, task))

    def decode(self, observations: NDArray[Any], retrieval: Retrieval) -> ActionPrior:
        """The mixture of what was retrieved."""
        latents = self.library.latents(retrieval.neighbors.ids)
        components = self.decoder.decode(self.grounding.inputs(observations, retrieval.targets), latents)
        return components.flat(retrieval.weights, self.config.floor)
