"""A bundle, loaded: what a robot or a control loop holds. `lago_skills.load(path)`.

    guide = lago_skills.load("demo.zip")
    door = guide.task("open the door")
    action = door.act(observations)            # (B, S) -> (B, A) in [-1, 1]
    print(door.explain(observations)[0].why)

No torch, no language model, no network. Safe to call from several threads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import fingerprint, verify
from lago_skills.core import ActionSpace, check_finite
from lago_skills.decoder.prepared import PreparedWeights, can_prepare
from lago_skills.decoder.trained_decoder import DecoderWeights
from lago_skills.errors import ShapeError, StudyError, UnfamiliarState
from lago_skills.guide.any_words import task_meant
from lago_skills.guide.bundle import bundle_world, guide_in
from lago_skills.guide.bundle_file import discard, unpacked
from lago_skills.guide.description import Json, describe, read_description, task_named
from lago_skills.guide.explanation import Explanation, explain
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.learned_policy import LearnedPolicy, load_policies
from lago_skills.guide.prepared_plan import Decoded, Engine, PreparedPlan
from lago_skills.guide.unfamiliar import InUnfamiliar, check_policy
from lago_skills.library import SkillLibrary
from lago_skills.prior import ActionPrior, DiscretePrior, Prior
from lago_skills.worlds.grounding import Grounding, goals, identity
from lago_skills.worlds.world import World

LARGE = 1e12
"""Observations with larger numbers are unfamiliar whatever they are: their squares do not fit. No state is said to be more unfamiliar than this."""
MOST_STATES = 100_000
"""In one call: a batch that is larger is cut by its caller, not by the memory of this process."""


@dataclass(frozen=True)
class Answer:
    """What the library would do in B states of a task."""

    actions: NDArray[Any]
    """(B, A) in [-1, 1], or (B,) numbers of discrete actions."""
    prior: Prior
    """In unfamiliar states it knows nothing."""
    steps: NDArray[np.int64]
    """(B,) of the plan, from 0."""
    unfamiliarity: NDArray[np.float64]
    """(B,) how unlike the training's states these are."""
    leader: str
    """Who acts: `library`, or the training run whose policy does."""

    @property
    def unfamiliar(self) -> NDArray[np.bool_]:
        """(B,) whether nothing that the library knows says anything of them."""
        return self.unfamiliarity > 1.0


def load(
    path: Path | str,
    *,
    library: SkillLibrary | None = None,
    grounding: Grounding | None = None,
    unfamiliar: InUnfamiliar | None = None,
    engine: Engine = "numpy",
) -> BundleGuide:
    """The guide in a bundle: a folder, or the one file that `lago bundle make` writes.

    Args:
        path: of the bundle.
        library: one of the same decoder that is followed as it changes, instead of the bundle's frozen copy.
        grounding: for a bundle of an environment whose grounding is a class of one's own.
        unfamiliar: what is done in states unlike the training's, see `InUnfamiliar`; by default `hold`, and for discrete actions `answer`.
        engine: `onnx` answers batches by ONNX Runtime, where a task can be written as a graph; the rest as with `numpy`.

    Raises:
        ArtifactMissing: there is no bundle.
        ArtifactCorrupt: it is damaged.
        FormatTooNew: a later version of this package wrote it.
        StudyError: it is of another world than the grounding.
    """
    folder = unpacked(Path(path))
    manifest = verify(folder)
    world = None if grounding is not None else bundle_world(folder)
    guide = guide_in(folder, library, grounding or (world.grounding if world is not None else None))
    return BundleGuide(folder, manifest.digest, guide, world, unfamiliar, engine)


class BundleGuide:
    """All tasks of a bundle. A `Guide`, and more; see `load`."""

    def __init__(
        self,
        folder: Path,
        digest: str,
        guide: LibraryGuide,
        world: World | None,
        unfamiliar: InUnfamiliar | None,
        engine: Engine = "numpy",
    ) -> None:
        self.engine: Engine = engine
        self.folder, self.digest, self.guide, self.world = folder, digest, guide, world
        self.actions: ActionSpace = guide.grounding.action_space
        self._tasks: dict[tuple[str, bool], TaskGuide] = {}
        default = "answer" if self.actions.discrete else "hold"
        self.unfamiliar: InUnfamiliar = check_policy(unfamiliar or default, self.actions)

    @cached_property
    def description(self) -> Json:
        """What the bundle says of itself, see `lago_skills.guide.description`."""
        said = read_description(self.folder)
        if said is not None:
            return said
        if self.world is None:
            raise StudyError(
                f"bundle {str(self.folder)!r}: found no description, and a world of one's own; expected one; build it again (lago build STUDY)"
            )
        return describe(self.world, self.guide.books)

    def close(self) -> None:
        """Close its library, and remove what was unpacked for it."""
        self._tasks.clear()
        self.guide.library.close()
        discard(self.folder)

    @cached_property
    def world_id(self) -> str:
        """Fingerprint of what another environment must have in common with the bundle's: sizes, actions, features and anchors."""
        return fingerprint(identity(self.guide.grounding))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Ids of the tasks that it has plans of."""
        return tuple(sorted({book.task_id for book in self.guide.books.values()}))

    @cached_property
    def weights(self) -> PreparedWeights | None:
        """Of its decoder, for all tasks; None where nothing can be prepared."""
        decoder = self.guide.decoder
        return PreparedWeights(decoder) if isinstance(decoder, DecoderWeights) and can_prepare(decoder) else None

    @cached_property
    def policies(self) -> dict[str, LearnedPolicy]:
        """What was trained, by task: it leads there."""
        return load_policies(self.folder, self.guide.grounding.vocabulary)

    def task(self, words: str | None = None, *, library_alone: bool = False, any_words: bool = True) -> TaskGuide:
        """The guide of one task: by its id, its sentence or a recorded wording. Without words, of the only one.

        Where the bundle has a trained policy of the task, that leads, unless the `library_alone` is wanted. A sentence that
        nobody has recorded is matched by a sentence model (extra `text`, a third of a second), if `any_words` may be used.

        Raises:
            StudyError: no task is called so, or several are; or the sentence is near to none, or a package is missing.
        """
        if words is None:
            if len(self.tasks) == 1:
                return self.task(self.tasks[0], library_alone=library_alone)
            raise StudyError(f"found no task named; expected one of {list(self.tasks)}; name one")
        name = words if words in self.guide.books else self._named(words, any_words)
        policy = None if library_alone else self.policies.get(name)
        key = (name, policy is not None)
        if key not in self._tasks:
            self._tasks[key] = TaskGuide(self, name, policy)
        return self._tasks[key]

    def _named(self, words: str, any_words: bool) -> str:
        try:
            return task_named(self.description, words)
        except StudyError:
            task = task_meant(self.folder, words, self.tasks) if any_words else None
            if task is None:
                raise
            return task

    def prior(self, observations: NDArray[Any], task: str | None = None) -> Prior:
        """(B, S) observations of a task -> prior; as `TaskGuide.prior`."""
        return self.task(task).prior(observations)

    def act(self, observations: NDArray[Any], task: str | None = None) -> NDArray[Any]:
        """(B, S) or (S,) observations of a task -> actions; as `TaskGuide.act`."""
        return self.task(task).act(observations)

    def explain(self, observations: NDArray[Any], task: str | None = None) -> list[Explanation]:
        """(B, S) observations of a task -> an explanation each."""
        return self.task(task).explain(observations)


class TaskGuide:
    """What a bundle knows of one task."""

    def __init__(self, bundle: BundleGuide, task: str, policy: LearnedPolicy | None = None) -> None:
        self.bundle, self.name, self.policy = bundle, task, policy
        self._guide = bundle.guide if policy is None else bundle.guide.with_steps(policy.plan, policy.latents)
        self._plan = PreparedPlan(self._guide, task, bundle.engine, bundle.weights)
        self._size = bundle.guide.grounding.observation_size

    def prior(self, observations: NDArray[Any]) -> Prior:
        """(B, S) observations -> prior over (B, A) actions, or over (B,) discrete ones; see `answer`."""
        return self.answer(observations).prior

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """(B, S) observations -> (B, A) actions in [-1, 1], or (B,) discrete ones; of one observation (S,), one action; see `answer`."""
        rows = np.asarray(observations)
        if rows.ndim == 1:
            return self.answer(rows[None]).actions[0]
        return self.answer(rows).actions

    def explain(self, observations: NDArray[Any]) -> list[Explanation]:
        """(B, S) observations -> an explanation each.

        Raises:
            ShapeError: wrong observation size, or values that are not finite.
        """
        rows, too_large = self._checked(observations)
        retrieval, decoded = self._guide.retrieve(rows, self.name), self._decoded(rows, too_large)
        prior = self._guide.decode(retrieval)
        explained = explain(self._guide, retrieval, prior, self.name, decoded.unfamiliarity)
        if self.policy is None:
            return explained
        actions: list[Any] = self._acts(rows, prior).tolist()
        return [
            replace(each, action=action, leader=self.policy.name)
            for each, action in zip(explained, actions, strict=True)
        ]

    def answer(self, observations: NDArray[Any]) -> Answer:
        """(B, S) observations -> what the library would do, and how familiar the states are.

        Raises:
            ShapeError: wrong observation size, values that are not finite, or too many at once.
            UnfamiliarState: one is unlike the training's, and such states are to be refused.
        """
        rows, too_large = self._checked(observations)
        decoded = self._decoded(rows, too_large)
        prior, strangeness = decoded.prior, decoded.unfamiliarity
        strange = strangeness > 1.0
        leader = "library" if self.policy is None else self.policy.name
        if not strange.any():
            return Answer(self._acts(rows, prior), prior, decoded.steps, strangeness, leader)
        policy = self.bundle.unfamiliar
        if policy == "refuse":
            raise UnfamiliarState(self._refusal(rows, strangeness))
        actions, prior = self._acts(rows, prior), widened(prior, strange)
        if policy == "hold":
            actions = np.where(strange[:, None], np.zeros_like(actions), actions)
        return Answer(actions, prior, decoded.steps, strangeness, leader)

    def _acts(self, rows: NDArray[np.float64], prior: Prior) -> NDArray[Any]:
        if self.policy is None:
            return prior.greedy()
        state = self._guide.grounding.read(rows)
        return self.policy.act(state.inputs(goals(self._guide.grounding, state)), prior)

    def _decoded(self, rows: NDArray[np.float64], too_large: NDArray[np.bool_] | None) -> Decoded:
        decoded = self._plan.decode(rows)
        if too_large is None:
            return decoded
        return replace(decoded, unfamiliarity=np.where(too_large, LARGE, np.minimum(decoded.unfamiliarity, LARGE)))

    def _checked(self, observations: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
        """(B, S) finite numbers, cut off where they are too large to compute with; and (B,) which were, None for none."""
        rows, size = np.asarray(observations), self._size
        if rows.dtype.kind not in "fiu" or rows.ndim != 2 or rows.shape[1] != size:
            raise ShapeError(
                f"observations: found {rows.dtype} of shape {rows.shape}; expected numbers of shape (B, {size}); pass a batch of observations"
                + (
                    ", observation[None] of a single one"
                    if rows.shape == (size,)
                    else ", as the bundle's world has them"
                )
            )
        if not 1 <= len(rows) <= MOST_STATES:
            raise ShapeError(
                f"observations: found {len(rows)} of them; expected 1 to {MOST_STATES} in one call; pass them in parts"
            )
        rows = rows.astype(np.float64, copy=False)
        if np.vdot(rows, rows) < LARGE**2:
            return rows, None
        check_finite(rows, "observations")
        return np.clip(rows, -LARGE, LARGE), np.max(np.abs(rows), axis=1) > LARGE

    def _refusal(self, rows: NDArray[np.float64], strangeness: NDArray[np.float64]) -> str:
        row = int(np.argmax(strangeness))
        features = self._guide.grounding.vocabulary.features
        values = self._guide.grounding.read(rows[row : row + 1]).values[0]
        outside = [
            f"{each.name} = {value:.4g} (declared {each.low:g} to {each.high:g})"
            for each, value in zip(features, values.tolist(), strict=True)
            if not each.low <= value <= each.high
        ]
        return (
            f"observation {row}: found a state {strangeness[row]:.3g} times as unlike the training's as is still familiar"
            + (f", {', '.join(outside[:3])}" if outside else "")
            + "; expected one like those that the bundle was made from; see that its entries have the units and the order that lago bundle inspect shows"
        )


def widened(prior: Prior, rows: NDArray[np.bool_]) -> Prior:
    """The prior with some of its rows knowing nothing: components as wide as the range of the actions, or all discrete actions alike."""
    if isinstance(prior, DiscretePrior):
        even = np.full_like(prior.log_probs, -np.log(prior.log_probs.shape[2]))
        weights = np.where(rows[:, None], np.float32(1.0 / prior.weights.shape[1]), prior.weights)
        return replace(prior, weights=weights, log_probs=np.where(rows[:, None, None], even, prior.log_probs))
    wide = rows[:, None, None]
    return ActionPrior(
        np.where(rows[:, None], np.float32(1.0 / prior.weights.shape[1]), prior.weights),
        np.where(wide, np.float32(0.0), prior.means),
        np.where(wide, np.float32(1.0), prior.stds),
        prior.floor,
    )
