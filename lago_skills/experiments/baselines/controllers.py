"""What a sceptic would write instead of the library: the same plans with a proportional controller, in a few lines.

Numbers: clip(gain * (target - effector)), the fingers closed where the sentence says "closing" or "closed". Words: the same towards the
anchors themselves, a step being over when its mover is within 3 cm of where it should come, and a grasp after 15 control steps; with
`METRES`, a person's guess at what each relation means stands in for what the library learned.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Playbook
from lago_skills.errors import StudyError
from lago_skills.playbook import CompiledPlaybook
from lago_skills.prior import ActionPrior
from lago_skills.words.geometry import locate, relation_of
from lago_skills.words.relations_plan import RelationsPlan
from lago_skills.worlds.grounding import Grounding, anchored
from lago_skills.worlds.world import World

CLOSED = re.compile(r"\b(close|closing|closed|gripped)\b")
GAINS = {"plan-controller-10": 10.0, "plan-controller-20": 20.0, "plan-controller-30": 30.0}
"""What the tables call a proportional controller that follows the recorded plans in numbers, and its gain."""
NEAR_M, GRASP_STEPS = 0.03, 15
GRIPPED = 0.75
"""Without a memory a thing is held where the effector is near it and less open than this."""
PRIOR_STD, PRIOR_FLOOR = 0.3, 0.02
"""A controller as a prior: a Gaussian around its action, and the library's share of the uniform."""
METRES: dict[str, tuple[float, float, float]] = {
    "above": (0.0, 0.0, 0.1),
    "below": (0.0, 0.0, -0.1),
    "behind": (-0.07, 0.0, 0.0),
    "before": (0.07, 0.0, 0.0),
    "raised": (0.0, 0.0, 0.25),
}
"""Along, across and up; what is not named is at its anchor."""


@dataclass(frozen=True)
class NumbersController:
    """Heads where a plan in numbers says."""

    playbook: Playbook
    grounding: Grounding
    gain: float

    def __call__(self, observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, S) observations -> (B, A) actions."""
        book, state = CompiledPlaybook(self.playbook, self.grounding.vocabulary), self.grounding.read(observations)
        steps = book.active(state.values)
        ways = book.targets(steps, state.anchors) - state.anchors[:, 0]
        closed = np.array([bool(re.search(r"closing|closed", step.skill)) for step in self.playbook.steps])
        return _actions(self.grounding, observations, self.gain * ways, closed[steps])


@dataclass
class WordsController:
    """Follows a plan in words step by step; remembers where each episode is."""

    playbook: Playbook
    grounding: Grounding
    gain: float
    metres: dict[str, tuple[float, float, float]] = field(default_factory=dict[str, tuple[float, float, float]])
    _at: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])

    def __call__(self, observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, S) observations and (B,) numbers of the episodes they are of -> (B, A) actions."""
        anchors, names = self.grounding.read(observations).anchors, self.grounding.vocabulary.anchors
        ways, closed = np.zeros((len(observations), 3)), list[bool]()
        for row, episode in enumerate(episodes.tolist()):
            step, since = self._at.get(episode, (0, 0))
            known = relation_of(self.playbook.steps[step])
            at = locate(self.playbook.steps[step], anchors[row : row + 1], names)
            way = at.way(np.array([self.metres.get(known.word, (0.0, 0.0, 0.0))]))[0]
            over = since >= GRASP_STEPS if known.word == "holding" else np.linalg.norm(way) < NEAR_M
            more = over and step + 1 < len(self.playbook.steps)
            self._at[episode] = (step + 1, 0) if more else (step, since + 1)
            ways[row] = way
            closed.append(bool(CLOSED.search(self.playbook.steps[step].skill)))
        return _actions(self.grounding, observations, self.gain * ways, np.array(closed))


class StepFollower:
    """Follows a plan in words by relations: the first step whose relation does not hold, by what the world's folder has for it in a few lines.

    Raises:
        StudyError: nobody has written that for this world.
    """

    def __init__(self, playbook: Playbook, world: World) -> None:
        self._plan = RelationsPlan(playbook, world.grounding)
        followers = [world.follower(step) for step in playbook.steps]
        self._followers = [each for each in followers if each is not None]
        if len(self._followers) < len(followers):
            raise StudyError(
                f"found method 'plan-controller' and no `follower` of world {world.name!r}; expected one for each step; leave that method out with --methods"
            )

    def __call__(self, observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[Any]:
        """(B, S) observations -> (B,) actions."""
        state = self._plan.grounding.read(observations)
        steps = self._plan.read(state, np.zeros((0, 0))).steps
        chosen = np.zeros(len(observations), np.int64)
        for row, step in enumerate(steps.tolist()):
            chosen[row] = self._followers[step](observations[row])
        return chosen


class ControllerGuide:
    """A controller of one task's plan as the prior of a learner; it remembers nothing, since a prior is asked for single states."""

    def __init__(self, playbook: Playbook, grounding: Grounding, gain: float) -> None:
        self.playbook, self.grounding, self.gain = playbook, grounding, gain

    def prior(self, observations: NDArray[Any], task: str) -> ActionPrior:
        """(B, S) observations -> prior over (B, A) actions."""
        numbers = np.zeros(len(observations), np.int64)
        if self.playbook.form == "numbers":
            actions = NumbersController(self.playbook, self.grounding, self.gain)(observations, numbers)
        else:
            actions = self._in_words(observations)
        weights = np.ones((len(actions), 1), np.float32)
        return ActionPrior(weights, actions[:, None], np.full_like(actions[:, None], PRIOR_STD), PRIOR_FLOOR)

    def _in_words(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """The step after the last one whose relation holds."""
        names, steps = self.grounding.vocabulary.anchors, self.playbook.steps
        state = anchored(self.grounding).read(observations)
        anchors, hand = state.anchors, state.hand
        ways = np.stack([at.way(np.zeros((len(anchors), 3))) for at in (locate(s, anchors, names) for s in steps)])
        over = np.linalg.norm(ways, axis=2) < NEAR_M  # (n_steps, B)
        for k, step in enumerate(steps):
            if relation_of(step).word == "holding":
                over[k] &= hand[:, 0] < GRIPPED
        after = np.array([[k + 1] for k in range(len(steps))]) * over
        active = np.minimum(after.max(axis=0), len(steps) - 1)
        closed = np.array([bool(CLOSED.search(step.skill)) for step in steps])
        moves = self.gain * ways[active, np.arange(len(anchors))]
        return _actions(self.grounding, observations, moves, closed[active])


def _actions(
    grounding: Grounding, observations: NDArray[Any], moves: NDArray[Any], closed: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """(B, 3) moves of the acting point and which hands are closed -> actions, by the body that the world has."""
    motion = getattr(grounding, "hand_motion", None)
    return act(moves, closed) if motion is None else motion(observations, moves, closed)


def act(moves: NDArray[Any], closed: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(B, 3) moves and which hands are closed -> (B, 4) actions."""
    fingers = np.where(closed, 1.0, -1.0)[:, None]
    return np.clip(np.concatenate([moves, fingers], axis=1), -1.0, 1.0).astype(np.float32)
