"""What a new version changed, cheaply: what each skill does in probe states, which plans look up other skills, and on those tasks alone episodes of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Task
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.guide.guides import LibraryGuide
from lago_skills.worlds.rollouts import rollouts
from lago_skills.worlds.seeds import SPOT_SEED
from lago_skills.worlds.world import World

CHANGED_ACTIONS = 0.02
"""Root mean square difference of mean actions in the probe states, in half ranges, from which on a skill counts as changed."""
CHANGED_WEIGHTS = 0.02
"""Of a step's skills, by how much weight has to go to others, or to changed ones, for its plan to count as touched."""
Outcomes = Mapping[str, str]
"""By task id, whether each of the first spot-check start states succeeds: a 1 or a 0 for each."""


@dataclass(frozen=True)
class Spot:
    """An old task in episodes with both versions, from the same start states."""

    task: str
    before: float
    after: float
    """Success at any step, shares."""
    episodes: int

    @property
    def fall(self) -> float:
        """By how much the new version does worse."""
        return self.before - self.after


def changes(
    before: Decoder, after: Decoder, embeddings: dict[str, NDArray[np.float32]], probes: NDArray[np.float32]
) -> dict[str, float]:
    """By sentence, how much what a skill does in the (P, I) probe states has changed: root mean square, in half ranges."""
    return {
        sentence: float(np.sqrt(((_behaviour(before, row, probes) - _behaviour(after, row, probes)) ** 2).mean()))
        for sentence, row in embeddings.items()
    }


def _behaviour(decoder: Decoder, embedding: NDArray[np.float32], probes: NDArray[np.float32]) -> NDArray[np.float32]:
    latents = np.repeat(decoder.latents(embedding[None])[None], len(probes), axis=0)
    return decoder.decode(probes, latents).behaviour()


def touched(before: LibraryGuide, after: LibraryGuide, by_skill: Mapping[str, float]) -> dict[str, float]:
    """The old tasks that may be played otherwise, those first of which most has changed.

    Args:
        before: the version in use.
        after: the new one.
        by_skill: by sentence, how much what a skill does has changed; nothing where the decoder is the same.

    Returns:
        By task id, of its plan's steps the greatest change: weight that goes to other skills, and change of the skills by their weight. 1 where the plan itself
        is another one.
    """
    changed = {sentence: value for sentence, value in by_skill.items() if value > CHANGED_ACTIONS}
    amounts: dict[str, float] = {}
    for name, book in before.books.items():
        if name not in after.books or book != after.books[name]:
            amounts[book.task_id] = 1.0
        elif (amount := _amount(before, after, name, changed)) is not None:
            amounts[book.task_id] = max(amount, amounts.get(book.task_id, 0.0))
    return dict(sorted(amounts.items(), key=lambda item: -item[1]))


def _amount(before: LibraryGuide, after: LibraryGuide, name: str, changed: Mapping[str, float]) -> float | None:
    """How much a plan's steps are done otherwise; None where they are not."""
    amounts: list[float] = []
    for one, other in zip(_weights(before, name), _weights(after, name), strict=True):
        apart = 0.5 * sum(abs(one.get(s, 0.0) - other.get(s, 0.0)) for s in {*one, *other})
        of_changed = sum(weight for sentence, weight in other.items() if sentence in changed)
        if apart > CHANGED_WEIGHTS or of_changed > CHANGED_WEIGHTS:
            amounts.append(apart + sum(weight * changed.get(sentence, 0.0) for sentence, weight in other.items()))
    return max(amounts, default=None)


def _weights(guide: LibraryGuide, name: str) -> list[dict[str, float]]:
    """Of each step of a plan, how much each skill says, by sentence."""
    neighbors, weights = guide.neighbors(name)
    sentences = {skill.id: skill.sentence for skill in guide.library.list()}
    return [
        {sentences[i]: weight for i, weight in zip(ids, row, strict=True) if i >= 0}
        for ids, row in zip(neighbors.ids.tolist(), weights.tolist(), strict=True)
    ]


class Spots:
    """Spot checks of old tasks: both versions from the same start states, which nothing else is measured in; nothing is played twice.

    Args:
        world: of the tasks.
        before: the version in use.
        after: the new one.
        known: outcomes of the version in use that are on record.
        say: hears how it goes.
    """

    def __init__(
        self, world: World, before: LibraryGuide, after: LibraryGuide, known: Outcomes, say: Callable[[str], None]
    ) -> None:
        self._world, self._say = world, say
        self._guides, self._known = (before, after), (dict(known), dict[str, str]())

    @property
    def outcomes(self) -> tuple[dict[str, str], dict[str, str]]:
        """Of the version in use and of the new one, what is known by now."""
        return self._known

    def check(self, tasks: Sequence[Task], margin: float, n_episodes: Sequence[int]) -> list[Spot]:
        """Play tasks in so many episodes; those that seem to fall by more than the margin again in as many as come next.

        Args:
            tasks: old ones.
            margin: of success, shares.
            n_episodes: of each, in rising order; the last verdict counts.
        """
        spots: dict[str, Spot] = {}
        for round_number, n in enumerate(n_episodes):
            unsure = [task for task in tasks if round_number == 0 or spots[task.id].fall > margin + 1e-9]
            for number, task in enumerate(unsure, start=1):
                spots[task.id] = spot = self._spot(task, n)
                self._say(
                    f"spot check {number} of {len(unsure)}: {task.id} {spot.before:.2f} -> {spot.after:.2f} of {n}"
                )
        return [spots[task.id] for task in tasks]

    def success(self, task: Task, n_episodes: int) -> float:
        """Of the new version alone, success at any step."""
        return _share(self._play(1, task, n_episodes), n_episodes)

    def _spot(self, task: Task, n: int) -> Spot:
        before, after = (_share(self._play(which, task, n), n) for which in (0, 1))
        return Spot(task.id, before, after, n)

    def _play(self, which: int, task: Task, n: int) -> str:
        known = self._known[which].get(task.id, "")
        if len(known) < n:
            guide, seeds = self._guides[which], [SPOT_SEED + i for i in range(len(known), n)]
            results = rollouts(
                self._world, task, lambda states: guide.prior(states, task.id).greedy(), seeds, lambda _: None
            )
            known += "".join(str(int(each.success)) for each in results)
            self._known[which][task.id] = known
        return known


def _share(outcomes: str, n: int) -> float:
    return round(outcomes[:n].count("1") / n, 4)
