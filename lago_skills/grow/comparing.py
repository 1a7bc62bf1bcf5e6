"""What a new version changed, cheaply: what each skill does in probe states, which plans look up other skills, and on those tasks alone episodes of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
"""Of a step's skills, by how much weight has to go to others for its plan to count as touched."""


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


def touched(before: LibraryGuide, after: LibraryGuide, changed: set[str]) -> list[str]:
    """Ids of the old tasks that may be played otherwise: a plan of theirs looks up a skill that changed, or other skills than before."""
    tasks = dict[str, None]()
    for name, book in before.books.items():
        if name not in after.books or book != after.books[name] or _differs(before, after, name, changed):
            tasks.setdefault(book.task_id)
    return list(tasks)


def _differs(before: LibraryGuide, after: LibraryGuide, name: str, changed: set[str]) -> bool:
    for one, other in zip(_weights(before, name), _weights(after, name), strict=True):
        apart = 0.5 * sum(abs(one.get(s, 0.0) - other.get(s, 0.0)) for s in {*one, *other})
        of_changed = sum(weight for sentence, weight in other.items() if sentence in changed)
        if apart > CHANGED_WEIGHTS or of_changed > CHANGED_WEIGHTS:
            return True
    return False


def _weights(guide: LibraryGuide, name: str) -> list[dict[str, float]]:
    """Of each step of a plan, how much each skill says, by sentence."""
    neighbors, weights = guide.neighbors(name)
    sentences = {skill.id: skill.sentence for skill in guide.library.list()}
    return [
        {sentences[i]: weight for i, weight in zip(ids, row, strict=True) if i >= 0}
        for ids, row in zip(neighbors.ids.tolist(), weights.tolist(), strict=True)
    ]


def spot_checked(
    world: World,
    tasks: Sequence[Task],
    before: LibraryGuide,
    after: LibraryGuide,
    n_episodes: int,
    say: Callable[[str], None],
) -> list[Spot]:
    """Play tasks with both versions from the same start states, which nothing else is measured in."""
    spots: list[Spot] = []
    for number, task in enumerate(tasks, start=1):
        one, other = (played(world, task, guide, n_episodes) for guide in (before, after))
        spots.append(Spot(task.id, one, other, n_episodes))
        say(f"spot check {number} of {len(tasks)}: {task.id} {one:.2f} -> {other:.2f}")
    return spots


def played(world: World, task: Task, guide: LibraryGuide, n_episodes: int) -> float:
    """Success at any step of the library alone, from start states that nothing else is measured in."""
    seeds = [SPOT_SEED + i for i in range(n_episodes)]
    results = rollouts(world, task, lambda states: guide.prior(states, task.id).greedy(), seeds, lambda n: None)
    return round(float(np.mean([each.success for each in results])), 4)
