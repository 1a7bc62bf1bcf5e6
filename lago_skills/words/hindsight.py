"""What else demonstrations did, seen afterwards: every relation that came about is a demonstration of bringing it about, whatever its task was.

In a world whose states tell which relations hold, the control steps before a relation came to hold are a segment of the skill that brings it about (hindsight,
Andrychowicz et al. 2017, arXiv 1707.01495, for skills in words), those in which it went on holding are segments of the skill that leaves it so, and those that ended it
of its opposite. By Bayes' rule the last two tell how likely an action leaves a relation as it is.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode, Playbook, Relation, Segment, Step
from lago_skills.words.relations_plan import RelationsPlan
from lago_skills.worlds.grounding import RelatedGrounding, RelatedState

Manner = Literal["bring about", "leave", "undo"]
MOST_STEPS = 3
"""Control steps before a relation came to hold that count as bringing it about, at most."""
_SAID: dict[Manner, str] = {
    "bring about": "see to it that {}",
    "leave": "leave it so that {}",
    "undo": "undo that {}",
}


def hindsight_step(relation: Relation, manner: Manner = "bring about") -> Step:
    """The step whose sentence names what was done with a relation."""
    skill = _SAID[manner].format(relation.sentence)
    return Step(skill, until=relation) if manner == "bring about" else Step(skill)


def hindsight_words(relations: Iterable[Relation]) -> tuple[str, ...]:
    """Skills that hindsight names, for whoever plans: those that bring a relation about."""
    return tuple(hindsight_step(relation).skill for relation in relations)


def relations_segments(
    episodes: Mapping[str, Sequence[Episode]],
    books: Mapping[str, Playbook],
    grounding: RelatedGrounding,
    most: int,
    seed: int = 0,
) -> list[Segment]:
    """What episodes were for, by their plans, and what else came about, lasted or was undone in them.

    Of each sentence there are at most so many segments in hindsight, drawn at random.
    """
    return planned_segments(episodes, books, grounding) + hindsight_segments(episodes, grounding, most, seed)


def planned_segments(
    episodes: Mapping[str, Sequence[Episode]], books: Mapping[str, Playbook], grounding: RelatedGrounding
) -> list[Segment]:
    """Episodes cut by their plans: runs of one step that is the first at work. They tile each episode."""
    found: list[Segment] = []
    for task, runs in episodes.items():
        plan = RelationsPlan(books[task], grounding)
        for number, episode in enumerate(runs):
            state = grounding.read(episode.observations[:-1].astype(np.float64))
            steps = plan.read(state, np.zeros((len(plan.relations), 0))).steps
            cuts = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)]
            for start, stop in itertools.pairwise(cuts):
                step = int(steps[start])
                sentence = books[task].steps[step].sentence
                found.append(Segment(task, number, start, stop, step, sentence, "relations"))
    return found


def hindsight_segments(
    episodes: Mapping[str, Sequence[Episode]], grounding: RelatedGrounding, most: int, seed: int = 0
) -> list[Segment]:
    """Segments of what else came about, lasted or was undone in demonstrations; of each sentence at most so many, drawn at random."""
    by_sentence: defaultdict[str, list[Segment]] = defaultdict(list)
    for task, runs in episodes.items():
        for number, episode in enumerate(runs):
            for segment in _of_episode(task, number, episode, grounding):
                by_sentence[segment.skill].append(segment)
    rng, kept = np.random.default_rng(seed), list[Segment]()
    for sentence in sorted(by_sentence):
        own = by_sentence[sentence]
        chosen: list[int] = sorted(rng.permutation(len(own))[:most].tolist())
        kept += [own[place] for place in chosen]
    return kept


def _of_episode(task: str, number: int, episode: Episode, grounding: RelatedGrounding) -> Iterable[Segment]:
    names = grounding.vocabulary.anchors
    observations = episode.observations.astype(np.float64)
    state = grounding.read(observations)
    before, after = grounding.read(observations[:-1]), grounding.read(observations[1:])
    for relation in grounding.vocabulary.relations:
        sentences = {manner: hindsight_step(relation, manner).sentence for manner in _SAID}
        for about in _subjects(relation, len(names)):
            subjects = np.repeat([about], len(observations), axis=0)
            came = after.came_about(relation, subjects[1:], before, episode.actions.astype(np.int64))
            told = tuple(names[each] for each in about if each >= 0)
            for stop in (np.flatnonzero(came) + 1).tolist():
                start = _began(state, relation, subjects, stop)
                yield Segment(task, number, start, stop, 0, sentences["bring about"], "relations", told)
            held = state.holds(relation, subjects)
            for step in np.flatnonzero(held[:-1]).tolist():
                manner: Manner = "leave" if held[step + 1] else "undo"
                yield Segment(task, number, step, step + 1, 0, sentences[manner], "relations", told)


def _subjects(relation: Relation, n_anchors: int) -> Iterable[tuple[int, int]]:
    if relation.needs_place:
        return itertools.permutations(range(n_anchors), 2)
    return ((thing, -1) for thing in range(n_anchors))


def _began(state: RelatedState, relation: Relation, subjects: NDArray[np.int64], stop: int) -> int:
    """Of a relation that lasts: up to so many steps before, while it did not hold; of a motion the step itself."""
    if not relation.needs_place:
        return stop - 1
    held, start = state.holds(relation, subjects), stop - 1
    while start > 0 and stop - start < MOST_STEPS and not held[start - 1]:
        start -= 1
    return start
