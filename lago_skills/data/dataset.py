"""From labelled episodes to the arrays that the decoder is trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode, Playbook, Segment
from lago_skills.decoder.steps import LabelledSteps
from lago_skills.envs.grounding import Grounding
from lago_skills.playbook import CompiledPlaybook
from lago_skills.segment import label, segments

N_HINDSIGHT, HINDSIGHT_STEPS = 4, 25
"""Hindsight targets per step, and how many control steps ahead within the segment they look at most."""


def label_episodes(
    episodes: dict[str, list[Episode]], playbooks: dict[str, Playbook], grounding: Grounding
) -> list[Segment]:
    """Segments of all episodes, by the playbook of each episode's task."""
    found: list[Segment] = []
    for task, runs in episodes.items():
        book = CompiledPlaybook(playbooks[task], grounding.features)
        for index, episode in enumerate(runs):
            found.extend(segments(label(episode, book, grounding), index, book))
    return found


def labelled_steps(
    episodes: dict[str, list[Episode]],
    playbooks: dict[str, Playbook],
    found: list[Segment],
    embeddings: dict[str, NDArray[np.float32]],
    grounding: Grounding,
    held_out_share: float,
) -> LabelledSteps:
    """All steps of all segments. Every task weighs the same, whatever the length of its episodes.

    Hindsight targets of a step are points the gripper really came to later in the same segment.
    """
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in ("inputs", "hindsight", "embeddings", "actions")}
    held_out: list[NDArray[np.bool_]] = []
    weights: list[NDArray[np.float64]] = []
    rng = np.random.default_rng(0)
    n_steps = {task: sum(len(run.actions) for run in runs) for task, runs in episodes.items()}
    for segment in found:
        runs = episodes[segment.task_id]
        episode = runs[segment.episode]
        rows = np.arange(segment.start, segment.stop)
        observations = episode.observations[rows].astype(np.float64)
        book = CompiledPlaybook(playbooks[segment.task_id], grounding.features)
        planned = book.targets(np.full(len(rows), segment.step), grounding.anchors(observations))
        path = grounding.anchors(episode.observations.astype(np.float64))[:, 0]
        later = rng.integers(1, HINDSIGHT_STEPS + 1, (len(rows), N_HINDSIGHT))
        reached = path[np.minimum(rows[:, None] + later, segment.stop)]  # (T, N_HINDSIGHT, 3)
        parts["inputs"].append(grounding.inputs(observations, planned))
        parts["hindsight"].append(
            np.stack([grounding.inputs(observations, reached[:, i]) for i in range(N_HINDSIGHT)], axis=1)
        )
        parts["embeddings"].append(np.repeat(embeddings[segment.skill][None], len(rows), axis=0))
        parts["actions"].append(episode.actions[rows])
        n_held_out = int(np.ceil(held_out_share * len(runs))) if len(runs) > 1 else 0
        held_out.append(np.full(len(rows), segment.episode >= len(runs) - n_held_out))
        weights.append(np.full(len(rows), 1.0 / n_steps[segment.task_id]))
    return LabelledSteps(
        inputs=np.concatenate(parts["inputs"]),
        hindsight_inputs=np.concatenate(parts["hindsight"]),
        embeddings=np.concatenate(parts["embeddings"]),
        actions=np.concatenate(parts["actions"]),
        held_out=np.concatenate(held_out),
        weights=np.concatenate(weights),
    )
