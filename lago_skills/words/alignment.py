"""Which step of a plan in words is at work when in its demonstrations: ordered steps are laid over the episodes, without any label.

A step is modelled as what a demonstrator does while it lasts: the mover heads for one point relative to the step's anchor, slowing
down near it, v = clip(gain * (target - mover), -1, 1) plus noise, with a steady command for whatever else the action sets (the fingers); the
thing moves in steps that move it and rests in the others; the command of the hand is turned where a step begins in which it takes hold or lets go
(where a grounding says which numbers are that command); and a step ends at the same place in every episode. Target, gain and commands of
each step and the ends of steps are found by expectation-maximisation with hard assignments (Viterbi training; Juang and Rabiner 1990,
IEEE Transactions on ASSP 38(9)) from several starts: steps are fitted to the present ends (robust least squares), then the most likely ends are found
by dynamic programming, for all episodes of a task together.
"""

# SciPy's annotations leave some types partially unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from lago_skills.core import Episode, Playbook, Step
from lago_skills.errors import DataError
from lago_skills.words.geometry import Floats, Located, in_space, locate, relation_of, to_frame
from lago_skills.worlds.grounding import AnchoredGrounding, hand_actions_of

LEAST_STEPS = 3
"""A step lasts at least so many control steps."""
N_STARTS, N_ROUNDS = 4, 12
GAIN, GAIN_STD = 10.0, 0.2
"""Expected gain, per metre, and how much its logarithm varies."""
SPEED_STD, COMMAND_STD = 0.18, 0.25
TARGET_STD_M, END_STD_M, END_WEIGHT = 0.06, 0.02, 6.0
"""How far a target may be from where its step ended, and how much ends vary between episodes."""
NEAR_STD_M = {"at": 0.06, "around": 0.05, "holding": 0.05}
"""Words that mean nearness: their targets are about so near to the anchor."""
EFFECTIVE_STEPS = 20.0
"""Control steps of one step count as at most so many independent ones, since they follow one another."""
MOVING_M, MOVES, RESTS, MOTION_WEIGHT = 1e-3, 0.8, 0.08, 1.5
"""A thing that moves faster (metres a step) is moving; how often it is in steps that move it, and in others."""
TURNED, TURNS, HAND_WEIGHT = 0.5, (0.9, 0.02), 2.0
"""Where the command of the hand changes by more than the first, it is turned; how often a step of the hand begins so, and how often it does not."""
OF_THE_HAND = ("holding", "clear")
"""How steps end in which the hand takes hold of a thing, and lets go of it."""


@dataclass(frozen=True)
class Alignment:
    """Where the steps of one plan begin and end in the episodes of its task."""

    ends: tuple[tuple[int, ...], ...]
    """Per episode: 0, then where each step ends, exclusive."""
    targets: Floats  # (n_steps, 3), what each step heads for: an offset from its anchor in the turning frame
    scores: tuple[float, ...]
    """Per episode: mean log-likelihood of a control step, up to a constant."""


def align(
    episodes: list[Episode], book: Playbook, grounding: AnchoredGrounding, seed: int = 0, n_starts: int = N_STARTS
) -> Alignment:
    """Lay a plan's steps over the episodes of its task, from so many first guesses.

    Raises:
        DataError: an episode is too short to hold all steps.
    """
    for number, episode in enumerate(episodes):
        if len(episode.actions) < LEAST_STEPS * len(book.steps):
            raise DataError(
                f"task {book.task_id!r}: found episode {number + 1} (seed {episode.seed}) with {len(episode.actions)} control steps; expected at least "
                f"{LEAST_STEPS * len(book.steps)}, {LEAST_STEPS} for each of the plan's {len(book.steps)} steps; drop that episode, or give the plan fewer steps"
            )
    data = [_Course(episode, book.steps, grounding) for episode in episodes]
    fastest = max(float(np.quantile(np.abs(np.concatenate([course.speeds for course in data])), 0.98)), 1e-9)
    data = [course.scaled(fastest) for course in data]
    hand = hand_actions_of(grounding)
    commands = _steady_part(data) if hand is None else [course.actions[:, list(hand)] for course in data]
    rng = np.random.default_rng(seed)
    lengths = [len(course.speeds) for course in data]
    starts = [_by_shares(lengths, np.arange(1, len(book.steps)) / len(book.steps))]
    starts += [_by_shares(lengths, np.sort(rng.random(len(book.steps) - 1))) for _ in range(n_starts - 1)]
    alignments = [_converge(data, commands, book.steps, start) for start in starts]
    return max(alignments, key=lambda one: sum(one.scores))


class _Course:
    """What one episode shows of each step of a plan."""

    def __init__(self, episode: Episode, steps: tuple[Step, ...], grounding: AnchoredGrounding) -> None:
        observations = episode.observations.astype(np.float64)
        anchors = in_space(grounding.read(observations).anchors)
        names, turning = grounding.vocabulary.anchors, not grounding.vocabulary.named_things
        self.actions = np.asarray(episode.actions, np.float64)
        self.speeds = np.diff(anchors[:, 0], axis=0)  # (T, 3)
        located = [locate(step, anchors, names, turning=turning) for step in steps]
        self.ways = [(at.anchor - at.moving, at.along) for at in located]  # per step: (T+1, 3) and (T+1, 2)
        self.motion = np.stack([_motion(step, at) for step, at in zip(steps, located, strict=True)], axis=1)  # (T, n)
        hand = hand_actions_of(grounding)
        turns = np.zeros(len(self.actions) + 1) if hand is None else _turns(self.actions[:, list(hand)])
        following = [relation_of(step).word in OF_THE_HAND for step in steps[1:]]
        self.stops = np.stack([turns * each for each in (*following, False)], axis=1)  # (T+1, n)

    def scaled(self, fastest: float) -> _Course:
        """The same with speeds in units of the fastest."""
        self.speeds = np.clip(self.speeds / fastest, -1.2, 1.2)
        return self


def _motion(step: Step, at: Located) -> Floats:
    """(T,) log-likelihood of whether the thing moves."""
    moving = np.linalg.norm(np.diff(at.thing, axis=0), axis=1) > MOVING_M
    share = MOVES if relation_of(step).mover == "thing" else RESTS
    return MOTION_WEIGHT * np.where(moving, np.log(share), np.log(1.0 - share))


def _turns(commands: Floats) -> Floats:
    """(T+1,) log-likelihood of a step of the hand that begins with each control step: its command is turned there."""
    turned = np.zeros(len(commands) + 1, bool)
    turned[1:-1] = np.abs(np.diff(commands, axis=0)).max(axis=1) > TURNED
    return HAND_WEIGHT * np.where(turned, np.log(TURNS[0]), np.log(TURNS[1]))


def _steady_part(data: list[_Course]) -> list[Floats]:
    """(T, A) per episode: what actions set beside the speed of the acting point, in units of its own spread where it has one."""
    speeds, actions = np.concatenate([c.speeds for c in data]), np.concatenate([c.actions for c in data])
    design = np.concatenate([speeds, np.ones((len(speeds), 1))], axis=1)
    ridge = np.diag([1.0, 1.0, 1.0, 1e-6])
    weights = np.linalg.solve(design.T @ design + ridge, design.T @ actions)
    explained = 1.0 - ((actions - design @ weights) ** 2).mean(axis=0) / np.maximum(actions.var(axis=0), 1e-9)
    free = explained < 0.5  # numbers of the action that are not the motion itself
    return [course.actions[:, free] for course in data]


def _by_shares(lengths: list[int], shares: Floats) -> list[list[int]]:
    """Ends at these shares of every episode, each step having its least length."""
    ends_of_all: list[list[int]] = []
    for length in lengths:
        ends = [0, *(round(float(share) * length) for share in shares), length]
        for k in range(1, len(ends) - 1):
            ends[k] = max(ends[k], ends[k - 1] + LEAST_STEPS)
        for k in range(len(ends) - 2, 0, -1):
            ends[k] = min(ends[k], ends[k + 1] - LEAST_STEPS)
        ends_of_all.append(ends)
    return ends_of_all


def _converge(data: list[_Course], commands: list[Floats], steps: tuple[Step, ...], ends: list[list[int]]) -> Alignment:
    models: list[_Model] = []
    scores: list[float] = []
    for _ in range(N_ROUNDS):
        models = [_Model.fit(data, commands, ends, k, step) for k, step in enumerate(steps)]
        following, scores = list[list[int]](), []
        for course, command in zip(data, commands, strict=True):
            likely = np.stack([m.likelihood(course, command, k) for k, m in enumerate(models)], axis=1)
            stops = np.stack([m.end_likelihood(course, k) for k, m in enumerate(models)], axis=1)
            stops += course.stops
            stops[:, -1] = 0.0  # an episode ends when it is solved, wherever that is
            best, score = most_likely(likely, stops)
            following.append(best)
            scores.append(score / len(likely))
        if following == ends:
            break
        ends = following
    return Alignment(tuple(tuple(each) for each in ends), np.stack([m.target for m in models]), tuple(scores))


@dataclass(frozen=True)
class _Model:
    """One step: where it heads, how hard, with which steady command, and where it ends."""

    target: Floats  # (3,)
    gain: float
    command: Floats  # (C,)
    end: Floats  # (3,), median offset of the mover from its anchor at the end

    @staticmethod
    def fit(data: list[_Course], commands: list[Floats], ends: list[list[int]], k: int, step: Step) -> _Model:
        spans = [slice(each[k], each[k + 1]) for each in ends]
        ways = np.concatenate([course.ways[k][0][span] for course, span in zip(data, spans, strict=True)])
        along = np.concatenate([course.ways[k][1][span] for course, span in zip(data, spans, strict=True)])
        speeds = np.concatenate([course.speeds[span] for course, span in zip(data, spans, strict=True)])
        command = np.concatenate([each[span] for each, span in zip(commands, spans, strict=True)]).mean(axis=0)
        at_end = np.concatenate(
            [to_frame(-c.ways[k][0][[s.stop]], c.ways[k][1][[s.start]]) for c, s in zip(data, spans, strict=True)]
        )
        start = at_end.mean(axis=0)
        scale = np.sqrt(min(1.0, EFFECTIVE_STEPS / len(ways)))
        near = NEAR_STD_M.get(relation_of(step).word)

        def errors(parameters: Floats) -> Floats:
            parts = [
                (_speed(parameters[:3], np.exp(parameters[3]), ways, along) - speeds).ravel() * (scale / SPEED_STD),
                (parameters[:3] - start) / TARGET_STD_M,
                (parameters[3:] - np.log(GAIN)) / GAIN_STD,
            ]
            if near is not None:
                parts.append(parameters[:3] / near)
            return np.concatenate(parts)

        solution = least_squares(errors, [*start, np.log(GAIN)], loss="soft_l1", max_nfev=20).x
        return _Model(np.asarray(solution[:3]), float(np.exp(solution[3])), command, np.median(at_end, axis=0))

    def likelihood(self, course: _Course, commands: Floats, k: int) -> Floats:
        """(T,) of every control step, if it were of this step."""
        ways, along = course.ways[k][0][:-1], course.ways[k][1][:-1]
        errors = (_speed(self.target, self.gain, ways, along) - course.speeds) / SPEED_STD
        of_motion = -2.0 * (np.sqrt(1.0 + 0.5 * errors**2) - 1.0).sum(axis=1)
        return of_motion - 0.5 * (((commands - self.command) / COMMAND_STD) ** 2).sum(axis=1) + course.motion[:, k]

    def end_likelihood(self, course: _Course, k: int) -> Floats:
        """(T+1,) of ending before each control step."""
        errors = (to_frame(-course.ways[k][0], course.ways[k][1]) - self.end) / END_STD_M
        return -END_WEIGHT * (np.sqrt(1.0 + (errors**2).sum(axis=1)) - 1.0)


def _speed(target: Floats, gain: float, ways: Floats, along: Floats) -> Floats:
    """(T, 3) how fast the acting point should move, in units of the fastest."""
    cos, sin = np.where(along.any(axis=1), along[:, 0], 1.0), along[:, 1]
    offset = np.stack(
        [cos * target[0] - sin * target[1], sin * target[0] + cos * target[1], np.full(len(ways), target[2])], 1
    )
    return np.clip(gain * (ways + offset), -1.0, 1.0)


def most_likely(likely: Floats, stops: Floats) -> tuple[list[int], float]:
    """Ends of ordered steps, each of at least `LEAST_STEPS`, that make (T, n) and (T+1, n) log-likelihoods largest; and their sum."""
    length, n = likely.shape
    total = np.concatenate([np.zeros((1, n)), np.cumsum(likely, axis=0)])
    best = np.full(length + 1, -np.inf)
    best[0] = 0.0
    came = np.zeros((n + 1, length + 1), np.int64)
    for k in range(1, n + 1):
        # A step that stops somewhere began where this is largest, of all places early enough: a running maximum.
        before = best - total[:, k - 1]
        largest = np.maximum.accumulate(before)
        first = np.maximum.accumulate(np.where(before > np.append(-np.inf, largest[:-1]), np.arange(length + 1), 0))
        best = np.full(length + 1, -np.inf)
        best[LEAST_STEPS:] = largest[:-LEAST_STEPS] + total[LEAST_STEPS:, k - 1] + stops[LEAST_STEPS:, k - 1]
        came[k, LEAST_STEPS:] = first[:-LEAST_STEPS]
    ends = [length]
    for k in range(n, 0, -1):
        ends.append(int(came[k, ends[-1]]))
    return ends[::-1], float(best[length])


def spans(ends: tuple[int, ...]) -> list[tuple[int, int]]:
    """Start and stop of each step."""
    return list(itertools.pairwise(ends))
