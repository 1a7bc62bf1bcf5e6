"""Groundings: the named features that plans speak about, and what the decoder sees.

A grounding reads a batch of observations once. What it read, the `State`, has the named features (B, F), the anchor points that a plan
may head for (B, n_anchors, D) and the decoder's inputs towards targets (B, I). Nothing is remembered between calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Relation, Vocabulary
from lago_skills.errors import OtherWorld, StudyError

GOAL = "goal"
"""The anchor of that name is where a task wants things: what learners see is told towards it."""


class State(Protocol):
    """What a batch of observations says."""

    @property
    def values(self) -> NDArray[np.float64]:
        """(B, F) features, in the order of the vocabulary."""
        ...

    @property
    def anchors(self) -> NDArray[np.float64]:
        """(B, n_anchors, D) points, in the order of the vocabulary; (B, 0, 0) where there are none."""
        ...

    def inputs(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """(B, D) target points -> (B, I) decoder inputs, of which the first `heading_size` are the heading to the target."""
        ...


class AnchoredState(State, Protocol):
    """What plans in words need beside: what moved, what the hand does, and a decoder's view of any two anchors."""

    @property
    def moved(self) -> NDArray[np.float64]:
        """(B, n_anchors) how far each anchor moved in the last control step, in the anchors' unit."""
        ...

    @property
    def hand(self) -> NDArray[np.float64]:
        """(B, 2) how far the hand is open and by how much that changed in the last control step; (B, 0) where there is none."""
        ...

    def subject_inputs(self, targets: NDArray[Any], subjects: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, D) target points and (B, 2) numbers of the anchors that are thing and place (-1: none) -> (B, I).

        The first `subject_heading_size` numbers are the heading to the target.
        """
        ...


class RelatedState(State, Protocol):
    """What plans in words need beside where nothing acts from one place: which relations hold, and a decoder's view of any two anchors."""

    def holds(self, relation: Relation, subjects: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(B, 2) numbers of the anchors that are thing and place (-1: none) -> (B,) whether they lie so."""
        ...

    def came_about(
        self, relation: Relation, subjects: NDArray[np.int64], before: Any, actions: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """(B,) whether a relation came to hold by (B,) actions in the states before, which are of the same kind and one control step ago.

        Of a relation about motion, which no single state shows: whether the thing was moved so.
        """
        ...

    def own_actions(self, subjects: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, 2) numbers of the anchors that are thing and place (-1: none) -> (B, A): the number of each action in the environment.

        A decoder numbers actions as thing and place see them, so that what is learned of some things holds for others.
        """
        ...

    def subject_inputs(self, targets: NDArray[Any], subjects: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, D) targets, which mean nothing, and (B, 2) numbers of the anchors that are thing and place (-1: none) -> (B, I)."""
        ...


class Variation(Protocol):
    """A symmetry of a world: the same moments seen otherwise, with actions to match, are demonstrations as good."""

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """(n,) random parameters; 0 stands for the moment as it was."""
        ...

    def apply(
        self, observations: NDArray[Any], targets: NDArray[Any], actions: NDArray[Any], parameters: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """(B, S) observations, (B, D) targets and (B, A) actions, each as its (B,) parameter says."""
        ...


@dataclass(frozen=True)
class Nouns:
    """What acts in a world, as prompts call it."""

    agent: str = "agent"
    """Who acts: "robot"."""
    effector: str = "agent"
    """The acting point, which anchors are seen from: "gripper"."""
    grasp: str = ""
    """What it takes hold with, which skill sentences must speak of: "fingers". Empty where it holds nothing."""
    grasp_states: str = ""
    """What that may do: "open, closing, closed"."""
    grasp_commands: str = ""
    """What of an action moves it: "finger commands"."""
    remark: str = ""
    """A sentence about its size: "A closed finger tip is about 2 cm wide."."""
    accuracy: str = ""
    """How exactly a controller comes to a target: "to about 1 to 2 cm"."""

    @property
    def article(self) -> str:
        """`a` or `an`, as it is said before the agent."""
        return "an" if self.agent[:1].lower() in "aeiou" else "a"


class Grounding(Protocol):
    """What a world must bring so that plans and skills can be written about it. A class that inherits from it has the defaults."""

    observation_size: int
    """S."""
    action_space: ActionSpace
    vocabulary: Vocabulary
    """The features and anchors of its states, in their order."""
    world: str
    """Sentences for the planner: frame, units, what an action does."""
    heading_size: int = 0
    """How many of a state's `inputs` are the heading to the target; the rest is the context that a skill should not lean on. 0 where targets
    mean nothing."""
    variation: Variation | None = None
    """How training data may be varied; None where no symmetry is known."""
    synonyms: tuple[tuple[str, ...], ...] = ()
    """Groups of interchangeable words of skill sentences, beside those of the English verbs."""
    nouns: Nouns = Nouns()

    def read(self, observations: NDArray[Any]) -> State:
        """(B, S) observations -> what they say.

        Raises:
            ShapeError: wrong observation size, or values that are not finite.
        """
        ...


class AnchoredGrounding(Grounding, Protocol):
    """A grounding in which plans in words can be followed by anchors."""

    subject_heading_size: int
    """How many of the `subject_inputs` are the heading."""
    hand_actions: tuple[int, ...] | None = None
    """Which numbers of an action open and close the hand; None where that shows in their not being its motion."""

    def read(self, observations: NDArray[Any]) -> AnchoredState:
        """(B, S) observations -> what they say."""
        ...

    def motion(self, observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[np.float64]:
        """(B, S) observations, (B, A) actions -> (B, 3) how they move the hand, full speed along an axis being 1: the first three numbers."""
        return np.asarray(actions, np.float64)[:, :3]


class RelatedGrounding(Grounding, Protocol):
    """A grounding in which plans in words can be followed by relations that states tell: nothing acts from one place."""

    def read(self, observations: NDArray[Any]) -> RelatedState:
        """(B, S) observations -> what they say."""
        ...


def related(grounding: Grounding) -> RelatedGrounding:
    """The grounding, if plans in words can be followed in it by relations.

    Raises:
        StudyError: it lacks what that needs.
    """
    words = grounding.vocabulary
    if words.acting or not words.relations or not grounding.action_space.discrete:
        raise StudyError(
            f"found a grounding ({type(grounding).__name__}) with {'an acting anchor' if words.acting else 'no acting anchor'}, {len(words.relations)} relations and "
            f"{grounding.action_space}; expected lago_skills.worlds.grounding.RelatedGrounding: no acting anchor, some relations and discrete actions; "
            'add what is missing, or set plan.form = "numbers"'
        )
    return cast("RelatedGrounding", grounding)


def anchored(grounding: Grounding) -> AnchoredGrounding:
    """The grounding, if plans in words can be followed in it.

    Raises:
        StudyError: it has no anchors or relations, or lacks what plans in words need.
    """
    words = grounding.vocabulary
    if len(words.anchors) < 2 or not words.relations or not hasattr(grounding, "subject_heading_size"):
        raise StudyError(
            f'found plan.form = "words" and a grounding ({type(grounding).__name__}) with {len(words.anchors)} anchors, {len(words.relations)} '
            f"relations and {'a' if hasattr(grounding, 'subject_heading_size') else 'no'} subject_heading_size; expected "
            "lago_skills.worlds.grounding.AnchoredGrounding, since steps in words are about anchors; add what is missing, or set "
            'plan.form = "numbers"'
        )
    return cast("AnchoredGrounding", grounding)


def motion_of(grounding: AnchoredGrounding, observations: NDArray[Any], actions: NDArray[Any]) -> NDArray[np.float64]:
    """As `AnchoredGrounding.motion`, of a grounding that need not say it: the first three numbers of its actions."""
    own = getattr(grounding, "motion", None)
    return np.asarray(actions, np.float64)[:, :3] if own is None else own(observations, actions)


def hand_actions_of(grounding: AnchoredGrounding) -> tuple[int, ...] | None:
    """Which numbers of an action open and close the hand, where a grounding says so; it need not inherit the protocol."""
    return getattr(grounding, "hand_actions", None)


def relations(effector: str, grasp: str = "", *, vertical: bool = True, release: bool = False) -> tuple[Relation, ...]:
    """How steps in words may end where one acting point moves things to places.

    Args:
        effector: what acts, as sentences call it: "gripper".
        grasp: what it takes hold with, in the plural: "fingers"; without, nothing can be held or lifted.
        vertical: whether anchors have a height.
        release: whether a step may be to let go of a thing and draw back from it, as where one task asks for several things.
    """
    high = ("above", "below", "raised")
    every = (
        Relation("at thing", f"the {effector} has come to the thing", "effector", "at", "thing"),
        Relation("above thing", f"the {effector} is above the thing", "effector", "above", "thing"),
        Relation("below thing", f"the {effector} is below the thing", "effector", "below", "thing"),
        Relation(
            "behind thing",
            f"the {effector} is beside the thing, on the side that faces away from the place",
            "effector",
            "behind",
            "thing",
        ),
        Relation(
            "before thing",
            f"the {effector} is beside the thing, on the side that faces the place",
            "effector",
            "before",
            "thing",
        ),
        Relation("around thing", f"the {grasp} are around the thing", "effector", "around", "thing"),
        Relation("holding thing", f"the {grasp} grip the thing", "effector", "holding", "thing"),
        Relation(
            "clear of thing",
            f"the {effector} touches the thing no longer and has drawn back from it",
            "effector",
            "clear",
            "thing",
        ),
        Relation(
            f"{effector} raised",
            f"the {effector} is high up, straight above where it was",
            "effector",
            "raised",
            "ground",
        ),
        Relation("thing lifted", "the thing is held high up, straight above where it was", "thing", "raised", "ground"),
        Relation("thing at place", "the thing has come to the place", "thing", "at", "place"),
        Relation("thing above place", "the thing is above the place", "thing", "above", "place"),
        Relation(
            "thing behind place",
            "the thing is beside the place, on the side from which it comes",
            "thing",
            "behind",
            "place",
        ),
    )
    return tuple(
        each
        for each in every
        if (vertical or each.word not in high)
        and (release or each.word != "clear")
        and (grasp or (each.word not in ("around", "holding") and each.name != "thing lifted"))
    )


def check_actions(what: str, actual: ActionSpace, grounding: Grounding) -> None:
    """Refuse actions of another kind or number than the grounding declares.

    Raises:
        StudyError: they differ.
    """
    if actual != grounding.action_space:
        raise StudyError(
            f"{what}: found {actual}; expected {grounding.action_space}, as the grounding of the world says; correct one of them"
        )


def identity(grounding: Grounding) -> dict[str, Any]:
    """What two environments have in common where a bundle of one can advise in the other: sizes, actions, features and anchors."""
    names: dict[str, Any] = {
        "observation_size": grounding.observation_size,
        "action_size": grounding.action_space.size,
        "features": [feature.name for feature in grounding.vocabulary.features],
        "anchors": list(grounding.vocabulary.anchors),
    }
    return {**names, "discrete": True} if grounding.action_space.discrete else names


def check_identity(what: str, made_for: dict[str, Any], grounding: Grounding) -> None:
    """Refuse what was made for another environment; `found` is the `identity` of the one it was made for.

    Raises:
        OtherWorld: it differs.
    """
    expected = {"discrete": False, **identity(grounding)}
    for name, value in expected.items():
        given = made_for.get(name, False if name == "discrete" else None)
        if given != value:
            raise OtherWorld(
                f"{what} was made for another environment: found {name} {given!r}; expected {value!r}; take a bundle that was "
                "made for this environment"
            )


def goals(grounding: Grounding, state: State) -> NDArray[np.float64]:
    """(B, D) where the task wants things; zeros where the world has no goal among its anchors."""
    names, points = grounding.vocabulary.anchors, state.anchors
    if GOAL not in names:
        return np.zeros((len(points), grounding.vocabulary.target_size))
    return points[:, names.index(GOAL)]
