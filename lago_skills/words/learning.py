"""Learn what the words of plans mean, from aligned demonstrations: ends of steps, and how near to the way is near enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lago_skills.core import Episode, Playbook, Segment
from lago_skills.words.alignment import Alignment
from lago_skills.words.ends import Ends, learn_ends
from lago_skills.words.geometry import Floats
from lago_skills.words.words_plan import WordsPlan, tolerances
from lago_skills.worlds.grounding import AnchoredGrounding


def learn(
    episodes: dict[str, list[Episode]],
    books: dict[str, Playbook],
    alignments: dict[str, Alignment],
    grounding: AnchoredGrounding,
) -> tuple[list[Segment], Ends]:
    """Segments of the aligned episodes, and the meaning of their words; entry i of the ends is of segment i."""
    segments, ends = learn_ends(episodes, books, alignments, grounding)
    samples: dict[int, dict[str, list[Floats]]] = {}
    for task in alignments:
        plan, sentences = WordsPlan(books[task], grounding, ends), [step.sentence for step in books[task].steps]
        weights = np.eye(len(ends.skills))[[ends.skills.index(sentence) for sentence in sentences]]
        for item in (item for item in segments if item.task_id == task and item.step):
            states = episodes[task][item.episode].observations[item.start : item.stop].astype(np.float64)
            located = plan.locate(grounding.read(states))
            away = np.maximum(*plan.distances(item.step, located, weights, learning=True))
            samples.setdefault(ends.skills.index(item.skill), {}).setdefault(task, []).append(away)
    joined = {skill: {task: np.concatenate(parts) for task, parts in by.items()} for skill, by in samples.items()}
    return segments, replace(ends, tolerance=tolerances(joined, len(ends.skills)))
