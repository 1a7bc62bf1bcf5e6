"""Kinds of motion in data without a playbook: segments between change points, grouped by what they do, in numbers.

Segments of one task are grouped by mean action and by the change of the grounded features from start to end (both
standardised), with Ward's criterion; the number of groups is the one with the best silhouette (Rousseeuw 1987). On the
scripted demonstrations of ten Meta-World tasks these two agree best with the playbooks' steps (adjusted mutual information
.60; start and end values .42, mean actions alone .56). The only door to scikit-learn.
"""

# scikit-learn ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode, Segment
from lago_skills.data.change_points import action_rows, count_actions, cut, scaled, signals
from lago_skills.worlds.grounding import Grounding

MIN_SILHOUETTE = 0.1
"""Below it, groups are not worth telling apart."""


@dataclass(frozen=True)
class Motion:
    """One kind of motion in one task: what the planner is told, and what a segment is compared with."""

    number: int
    """From 1, in order of time."""
    n_segments: int
    n_episodes: int
    """In so many of the task's episodes it occurs."""
    n_steps: float
    """Mean length of a segment."""
    begins: float
    """Mean place of a segment's start in its episode, 0 to 1."""
    start: dict[str, float]
    """Mean value of each feature that varies in the task, at the first step."""
    end: dict[str, float]
    """The same after the last step."""
    action: tuple[float, ...]
    """Mean action; of discrete actions, how often each was taken."""
    centre: tuple[float, ...]
    """Mean of its segments' standardised numbers."""


@dataclass(frozen=True)
class Motions:
    """All kinds of motion of a task, and the scales of the numbers by which they are told apart."""

    task_id: str
    n_episodes: int
    motions: tuple[Motion, ...]
    feature_scale: tuple[float, ...]
    """1 / spread of each feature, 0 where it is constant."""
    action_mean: tuple[float, ...]
    action_scale: tuple[float, ...]

    def nearest(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """(n, P) numbers of segments -> (n,) number of the most similar motion."""
        centres = np.array([motion.centre for motion in self.motions])
        distance = ((points[:, None, :] - centres[None]) ** 2).sum(axis=2)
        return np.array([motion.number for motion in self.motions])[distance.argmin(axis=1)]


def boundaries(
    episodes: list[Episode], grounding: Grounding, penalty: float, min_steps: int
) -> list[list[tuple[int, int]]]:
    """For each episode of one task, its segments between change points: (start, stop)."""
    return [list(itertools.pairwise(cut(signal, penalty, min_steps))) for signal in signals(episodes, grounding)]


def find_motions(
    task_id: str,
    episodes: list[Episode],
    grounding: Grounding,
    penalty: float,
    min_steps: int,
    max_motions: int,
) -> Motions:
    """The kinds of motion in the episodes of one task."""
    values = [grounding.read(e.observations.astype(np.float64)).values for e in episodes]
    n_actions = count_actions(episodes)
    actions = [action_rows(e, n_actions) for e in episodes]
    _, feature_scale = scaled(values)
    action_mean, action_scale = scaled(actions)
    scales = (feature_scale, action_mean, action_scale)
    places = [
        (index, start, stop)
        for index, stretches in enumerate(boundaries(episodes, grounding, penalty, min_steps))
        for start, stop in stretches
    ]
    points = np.stack([_numbers(values[i], actions[i], start, stop, scales) for i, start, stop in places])
    groups = _group(points, max_motions)
    varies = (feature_scale > 0) & ~_of_absent(episodes, grounding)
    names = [feature.name for feature, shown in zip(grounding.vocabulary.features, varies, strict=True) if shown]
    motions: list[Motion] = []
    for group in range(int(groups.max()) + 1):
        members = [place for place, label in zip(places, groups, strict=True) if label == group]
        first = np.mean([values[i][start] for i, start, _ in members], axis=0)[varies]
        last = np.mean([values[i][stop] for i, _, stop in members], axis=0)[varies]
        motions.append(
            Motion(
                number=0,
                n_segments=len(members),
                n_episodes=len({i for i, _, _ in members}),
                n_steps=round(float(np.mean([stop - start for _, start, stop in members])), 1),
                begins=round(float(np.mean([start / len(actions[i]) for i, start, _ in members])), 2),
                start=_rounded(names, first),
                end=_rounded(names, last),
                action=_floats(np.mean([actions[i][start:stop].mean(axis=0) for i, start, stop in members], axis=0), 2),
                centre=_floats(points[groups == group].mean(axis=0), 4),
            )
        )
    motions.sort(key=lambda motion: (motion.begins, motion.centre))
    return Motions(
        task_id=task_id,
        n_episodes=len(episodes),
        motions=tuple(replace(motion, number=n) for n, motion in enumerate(motions, start=1)),
        feature_scale=_floats(feature_scale, 6),
        action_mean=_floats(action_mean, 6),
        action_scale=_floats(action_scale, 6),
    )


def _of_absent(episodes: list[Episode], grounding: Grounding) -> NDArray[np.bool_]:
    """(F,) which features speak of a thing that a task does not have: its point is 0 at all times."""
    points = np.concatenate([grounding.read(e.observations.astype(np.float64)).anchors for e in episodes])
    optional = grounding.vocabulary.optional
    absent = [n for i, n in enumerate(grounding.vocabulary.anchors) if n in optional and not points[:, i].any()]
    return np.array([any(name in feature.name for name in absent) for feature in grounding.vocabulary.features])


def motion_segments(
    known: Motions, episodes: list[Episode], grounding: Grounding, penalty: float, min_steps: int, names: dict[int, str]
) -> list[Segment]:
    """Segments of a task's episodes, each named by its kind of motion; neighbours of one name are one segment.

    Segments tile their episode: each step belongs to exactly one.
    """
    scales = tuple(np.array(scale) for scale in (known.feature_scale, known.action_mean, known.action_scale))
    n_actions = len(known.action_mean)
    segments: list[Segment] = []
    for index, places in enumerate(boundaries(episodes, grounding, penalty, min_steps)):
        values = grounding.read(episodes[index].observations.astype(np.float64)).values
        actions = action_rows(episodes[index], n_actions)
        points = np.stack([_numbers(values, actions, start, stop, scales) for start, stop in places])
        labels = known.nearest(points).tolist()
        for number, run in itertools.groupby(zip(labels, places, strict=True), key=lambda pair: names[pair[0]]):
            members = list(run)
            segments.append(
                Segment(
                    task_id=known.task_id,
                    episode=index,
                    start=members[0][1][0],
                    stop=members[-1][1][1],
                    step=members[0][0],
                    skill=number,
                    cut="change points",
                )
            )
    return segments


def _numbers(
    values: NDArray[Any], actions: NDArray[Any], start: int, stop: int, scales: tuple[NDArray[Any], ...]
) -> NDArray[np.float64]:
    """(P,) what a segment does: mean action, then change of each feature; both parts weigh the same."""
    feature_scale, action_mean, action_scale = scales
    mean_action = (actions[start:stop].mean(axis=0) - action_mean) * action_scale
    change = (values[stop] - values[start]) * feature_scale
    return np.concatenate(
        [
            mean_action / np.sqrt(max(int((action_scale > 0).sum()), 1)),
            change / np.sqrt(max(int((feature_scale > 0).sum()), 1)),
        ]
    )


def _group(points: NDArray[np.float64], max_groups: int) -> NDArray[np.int64]:
    """(n, P) -> (n,) group of each segment, from 0."""
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.metrics import silhouette_score

    best, chosen = MIN_SILHOUETTE, np.zeros(len(points), np.int64)
    if len(np.unique(points, axis=0)) < 2:
        return chosen
    for n_groups in range(2, min(max_groups, len(points) - 1) + 1):
        labels = AgglomerativeClustering(n_groups).fit_predict(points)
        score = float(silhouette_score(points, labels))
        if score > best:
            best, chosen = score, np.asarray(labels, np.int64)
    return chosen


def _rounded(names: list[str], values: NDArray[Any]) -> dict[str, float]:
    return {name: round(float(value), 2) + 0.0 for name, value in zip(names, values, strict=True)}


def _floats(values: NDArray[Any], digits: int) -> tuple[float, ...]:
    return tuple(round(float(value), digits) + 0.0 for value in values)
