"""From labelled episodes to the arrays that the decoder is trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode, Playbook, Segment
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.steps import LabelledSteps
from lago_skills.envs.grounding import Grounding
from lago_skills.playbook import CompiledPlaybook
from lago_skills.segment import label, segments

N_VARIANTS, HINDSIGHT_STEPS = 8, 25
"""Variants of each step for training, and how many control steps ahead within the segment hindsight looks at most."""


def label_episodes(
    episodes: dict[str, list[Episode]], playbooks: dict[str, Playbook], grounding: Grounding
) -> list[Segment]:
    """Segments of all episodes, by the playbook of each episode's task."""
    found: list[Segment] = []
    for task, runs in episodes.items():
        book = CompiledPlaybook(playbooks[task], grounding.vocabulary)
        for index, episode in enumerate(runs):
            found.extend(segments(label(episode, book, grounding), index, book))
    return found


def labelled_steps(
    episodes: dict[str, list[Episode]],
    playbooks: dict[str, Playbook],
    found: list[Segment],
    embeddings: dict[str, NDArray[np.float32]],
    grounding: Grounding,
    config: DecoderConfig,
) -> LabelledSteps:
    """All steps of all segments. Every task weighs the same, whatever the length of its episodes.

    Each step comes in variants: seen from a frame turned about the vertical, and heading for the playbook's target or for
    a point the gripper really came to later in the same segment (hindsight).
    """
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in ("inputs", "actions", "variants", "variant_actions")}
    moves: list[tuple[NDArray[Any], ...]] = []
    known = {sentence: number for number, sentence in enumerate(dict.fromkeys(item.skill for item in found))}
    held_out: list[NDArray[np.bool_]] = []
    weights: list[NDArray[np.float64]] = []
    rng = np.random.default_rng(0)
    n_steps = {task: sum(len(run.actions) for run in runs) for task, runs in episodes.items()}
    for number, segment in enumerate(found):
        runs = episodes[segment.task_id]
        episode = runs[segment.episode]
        rows = np.arange(segment.start, segment.stop)
        observations = episode.observations[rows].astype(np.float64)
        book = CompiledPlaybook(playbooks[segment.task_id], grounding.vocabulary)
        planned = book.targets(np.full(len(rows), segment.step), grounding.anchors(observations))
        path = grounding.anchors(episode.observations.astype(np.float64))[:, 0]
        parts["inputs"].append(grounding.inputs(observations, planned))
        parts["actions"].append(episode.actions[rows])
        after = episode.observations[rows + 1].astype(np.float64)
        variants = list[NDArray[np.float32]](), list[NDArray[np.float32]](), list[NDArray[np.float32]]()
        for _ in range(N_VARIANTS):
            later = np.minimum(rows + rng.integers(1, HINDSIGHT_STEPS + 1, len(rows)), segment.stop)
            hindsight = rng.random(len(rows)) < config.hindsight_share
            angles = rng.uniform(-np.pi, np.pi, len(rows)) * (rng.random(len(rows)) < config.turned_share)
            aims = np.where(hindsight[:, None], path[later], planned)
            turned, targets, actions = grounding.turn(observations, aims, episode.actions[rows], angles)
            following, _, _ = grounding.turn(after, aims, episode.actions[rows], angles)
            variants[0].append(grounding.inputs(turned, targets))
            variants[1].append(actions)
            variants[2].append(grounding.inputs(following, targets))
        parts["variants"].append(np.stack(variants[0], axis=1))
        parts["variant_actions"].append(np.stack(variants[1], axis=1))
        reached = rows == segment.stop - 1 if segment.stop < len(episode.actions) or episode.success else rows < 0
        numbers = np.full(len(rows), known[segment.skill]), np.full(len(rows), number)
        moves.append((np.stack(variants[2], axis=1), *numbers, reached))
        n_held_out = min(int(np.ceil(config.held_out_share * len(runs))), len(runs) - 1)
        held_out.append(np.full(len(rows), segment.episode >= len(runs) - n_held_out))
        weights.append(np.full(len(rows), 1.0 / n_steps[segment.task_id]))
    return LabelledSteps(
        inputs=np.concatenate(parts["inputs"]),
        variants=np.concatenate(parts["variants"]),
        variant_actions=np.concatenate(parts["variant_actions"]),
        next_variants=np.concatenate([move[0] for move in moves]),
        skills=np.concatenate([move[1] for move in moves]),
        embeddings=np.stack([embeddings[sentence] for sentence in known]),
        segments=np.concatenate([move[2] for move in moves]),
        actions=np.concatenate(parts["actions"]),
        rewards=np.concatenate([move[3] for move in moves]).astype(np.float32),
        terminals=np.concatenate([move[3] for move in moves]),
        held_out=np.concatenate(held_out),
        weights=np.concatenate(weights),
    )
