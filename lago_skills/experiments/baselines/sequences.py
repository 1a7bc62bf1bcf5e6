"""What a sceptic would try on tasks that ask for several things: cloned policies of the single things, one after another; the nearest demonstrated segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.decoder.dataset import segment_inputs
from lago_skills.experiments.baselines.cloning_policies import LEAST_STD, ClonedTask
from lago_skills.guide.guides import LibraryGuide
from lago_skills.prior import ActionPrior, Prior
from lago_skills.stages.segment import Labelled
from lago_skills.worlds.world import World


class ClonedInSequence:
    """The cloned policy of the first thing that is not done; the sequence, and what is done, are given to it. No language, no library."""

    def __init__(self, world: World, clones: dict[str, ClonedTask], floor: float = 0.0) -> None:
        self.world, self.clones, self.floor = world, clones, floor

    def __call__(self, observations: NDArray[np.float64], task: str) -> NDArray[Any]:
        """(B, S) observations -> (B, A) mean actions."""
        return self.prior(observations, task).greedy()

    def prior(self, observations: NDArray[Any], task: str) -> Prior:
        """(B, S) observations -> prior over (B, A) actions."""
        parts = np.array(self.world.next_part(task, observations))
        names: list[str] = np.unique(parts).tolist()
        priors = {
            name: cast("ActionPrior", self.clones[name].prior(observations[parts == name], self.floor))
            for name in names
        }
        first = next(iter(priors.values()))
        shape = (len(observations), *first.means.shape[1:])
        weights = np.zeros(shape[:2], np.float32)
        means, stds = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        for name, prior in priors.items():
            rows = parts == name
            weights[rows], means[rows], stds[rows] = prior.weights, prior.means, prior.stds
        return ActionPrior(weights, means, stds, self.floor)


@dataclass
class _Playing:
    step: int
    segment: int
    position: int = 0


class NearestSegment:
    """No network: the library's plan and step, and the actions of the demonstrated segment of the step's skill that began most like now.

    They are replayed until the step changes or they run out; then the nearest segment is looked for again.
    """

    def __init__(self, guide: LibraryGuide, shown: Labelled, task: str) -> None:
        self._guide, self._task = guide, task
        assert shown.ends is not None
        inputs = [
            segment_inputs(
                item,
                shown.episodes[item.task_id][item.episode],
                shown.books,
                shown.grounding,
                shown.ends.fitted[number],
            )[0]
            for number, item in enumerate(shown.segments)
        ]
        self._starts = np.stack(inputs)  # (n_segments, I)
        self._std = np.maximum(self._starts.std(axis=0), LEAST_STD)
        self._skills = np.array([item.skill for item in shown.segments])
        self._actions = [
            shown.episodes[item.task_id][item.episode].actions[item.start : item.stop] for item in shown.segments
        ]
        self._playing: dict[int, _Playing] = {}

    def __call__(self, observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[Any]:
        """(B, S) observations and (B,) numbers of the episodes they are of -> (B, A) actions, as they were demonstrated."""
        retrieval = self._guide.retrieve(observations, self._task)
        inputs = retrieval.inputs()
        rows: list[NDArray[Any]] = []
        for row, (episode, step) in enumerate(zip(episodes.tolist(), retrieval.steps.tolist(), strict=True)):
            now = self._playing.get(episode)
            if now is None or now.step != step or now.position == len(self._actions[now.segment]):
                skill = self._guide.label(int(retrieval.neighbors.ids[row, 0]))
                now = _Playing(step, self._nearest(skill, inputs[row]))
                self._playing[episode] = now
            now.position += 1
            rows.append(self._actions[now.segment][now.position - 1])
        return np.stack(rows)

    def _nearest(self, skill: str, inputs: NDArray[np.float32]) -> int:
        numbers = np.flatnonzero(self._skills == skill)
        apart = np.sum(((self._starts[numbers] - inputs) / self._std) ** 2, axis=1)
        return int(numbers[np.argmin(apart)])
