"""Policies that the library is measured beside: the nearest demonstrated segment, cloned tasks, uniform noise.

All of them are `EpisodePolicy`s: what an episode does depends on its own history alone, not on which others run beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Episode, Playbook, Segment
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.playbook import CompiledPlaybook
from lago_skills.prior import Prior
from lago_skills.worlds.grounding import Grounding

LEAST_STD = 1e-2
"""Inputs that hardly vary over the starts of segments do not decide which is nearest."""


@dataclass(frozen=True)
class Forgetful:
    """Any policy that needs the present observations alone."""

    policy: Callable[[NDArray[np.float64]], NDArray[Any]]

    def __call__(self, observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[Any]:
        """(B, S) observations -> (B, A) actions."""
        return self.policy(observations)


@dataclass(frozen=True)
class ClonedTask:
    """The mean action of a network that knows the task, without playbook and without library."""

    grounding: Grounding
    decoder: Decoder
    latent: NDArray[np.float32]  # (Z,)
    anchor: str | None
    """What its inputs head for; None where there are no anchors."""

    def __call__(self, observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[Any]:
        """(B, S) observations -> actions."""
        return self.prior(observations).greedy()

    def prior(self, observations: NDArray[Any], floor: float = 0.0) -> Prior:
        """(B, S) observations -> the network's distribution over actions."""
        state = self.grounding.read(observations)
        targets = np.zeros((len(observations), 0))
        if self.anchor is not None:
            targets = state.anchors[:, self.grounding.vocabulary.anchors.index(self.anchor)]
        latents = np.broadcast_to(self.latent, (len(observations), 1, len(self.latent)))
        components = self.decoder.decode(state.inputs(targets), latents)
        return components.flat(np.ones((len(observations), 1)), floor)


class Uniform:
    """Uniform actions; an episode's are always the same for one seed."""

    def __init__(self, actions: ActionSpace, seed: int) -> None:
        self.actions, self.seed = actions, seed
        self._generators: dict[int, np.random.Generator] = {}

    def __call__(self, observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[Any]:
        """(B, S) observations -> actions."""
        generators = [self._generator(int(number)) for number in episodes]
        if self.actions.discrete:
            return np.array([each.integers(self.actions.size) for each in generators], np.int64)
        return np.stack([each.uniform(-1.0, 1.0, self.actions.size) for each in generators]).astype(np.float32)

    def _generator(self, episode: int) -> np.random.Generator:
        return self._generators.setdefault(episode, np.random.default_rng((self.seed, episode)))


class Demonstrated:
    """All demonstrated segments by sentence: the decoder's inputs where they start, and what was done."""

    def __init__(
        self,
        grounding: Grounding,
        episodes: dict[str, list[Episode]],
        segments: list[Segment],
        playbooks: dict[str, Playbook],
        embeddings: dict[str, NDArray[np.float32]],
    ) -> None:
        self.grounding, self.playbooks, self.embeddings = grounding, playbooks, embeddings
        self.segments = segments
        self.actions: list[NDArray[Any]] = []
        self.by_sentence: defaultdict[str, list[int]] = defaultdict(list)
        starts: list[NDArray[np.float32]] = []
        for number, item in enumerate(segments):
            episode = episodes[item.task_id][item.episode]
            observation = episode.observations[item.start : item.start + 1].astype(np.float64)
            book = CompiledPlaybook(playbooks[item.task_id], grounding.vocabulary)
            state = grounding.read(observation)
            target = book.targets(np.array([item.step]), state.anchors)
            starts.append(state.inputs(target)[0])
            self.actions.append(episode.actions[item.start : item.stop])
            self.by_sentence[item.skill].append(number)
        self.starts = np.stack(starts)  # (n_segments, I)
        self.std = np.maximum(self.starts.std(axis=0), LEAST_STD)

    def sentence(self, wanted: str) -> str:
        """The sentence itself if it was demonstrated, else the demonstrated one whose embedding is nearest."""
        if wanted in self.by_sentence:
            return wanted
        return max(self.by_sentence, key=lambda known: float(self.embeddings[known] @ self.embeddings[wanted]))

    def nearest(self, sentence: str, inputs: NDArray[np.float32]) -> int:
        """Which segment of a demonstrated sentence starts nearest to (I,) inputs, in units of the starts' spread."""
        numbers = self.by_sentence[sentence]
        apart = np.sum(((self.starts[numbers] - inputs) / self.std) ** 2, axis=1)
        return numbers[int(np.argmin(apart))]


@dataclass
class _Playing:
    step: int
    segment: int
    position: int = 0


class Replay:
    """No network: the actions of the nearest demonstrated segment of the active step, as they were.

    They are replayed until the playbook's active step changes or they run out; then the nearest segment is looked for again.
    """

    def __init__(self, demonstrated: Demonstrated, task: str) -> None:
        self.demonstrated = demonstrated
        playbook = demonstrated.playbooks[task]
        self._book = CompiledPlaybook(playbook, demonstrated.grounding.vocabulary)
        self._sentences = [demonstrated.sentence(step.skill) for step in playbook.steps]
        self._playing: dict[int, _Playing] = {}

    def segment(self, episode: int) -> Segment:
        """What an episode is replaying."""
        return self.demonstrated.segments[self._playing[episode].segment]

    def __call__(self, observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[Any]:
        """(B, S) observations -> actions, as they were demonstrated."""
        grounding = self.demonstrated.grounding
        state = grounding.read(observations)
        steps = self._book.active(state.values)
        inputs = state.inputs(self._book.targets(steps, state.anchors))
        rows = [self._next(*row) for row in zip(episodes.tolist(), steps.tolist(), inputs, strict=True)]
        return np.stack(rows)

    def _next(self, episode: int, step: int, inputs: NDArray[np.float32]) -> NDArray[Any]:
        now = self._playing.get(episode)
        actions = self.demonstrated.actions
        if now is None or now.step != step or now.position == len(actions[now.segment]):
            now = _Playing(step, self.demonstrated.nearest(self._sentences[step], inputs))
            self._playing[episode] = now
        now.position += 1
        return actions[now.segment][now.position - 1]
