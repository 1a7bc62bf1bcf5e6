"""From segments of relations to the arrays that a decoder is trained on: all at once, since a segment has hardly more than one control step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode, Playbook, Segment
from lago_skills.decoder.steps import LabelledSteps
from lago_skills.words.geometry import subjects_of
from lago_skills.worlds.grounding import Grounding, RelatedGrounding, related


@dataclass(frozen=True)
class RelatedRows:
    """The control steps of segments of relations, one after another."""

    inputs: NDArray[np.float32]  # (T, I)
    following: NDArray[np.float32]  # (T, I) of the state after
    actions: NDArray[np.float32]  # (T, 1), as thing and place number them
    segments: NDArray[np.int64]  # (T,)


def subjects_in(segment: Segment, playbooks: Mapping[str, Playbook], names: tuple[str, ...]) -> tuple[int, int]:
    """Numbers of the anchors that a segment is about; -1 for no place."""
    if segment.about:
        return names.index(segment.about[0]), names.index(segment.about[1]) if len(segment.about) > 1 else -1
    return subjects_of(playbooks[segment.task_id].steps[segment.step], names)


def related_rows(
    episodes: Mapping[str, Sequence[Episode] | Mapping[int, Episode]],
    playbooks: Mapping[str, Playbook],
    segments: Sequence[Segment],
    grounding: Grounding,
) -> RelatedRows:
    """What a decoder sees at each control step of each segment, and what was done; episodes by task and number."""
    known, names = related(grounding), grounding.vocabulary.anchors
    lengths = [item.stop - item.start for item in segments]
    runs = [(episodes[item.task_id][item.episode], slice(item.start, item.stop)) for item in segments]
    subjects = np.repeat([subjects_in(item, playbooks, names) for item in segments], lengths, axis=0)
    before = np.concatenate([run.observations[span] for run, span in runs]).astype(np.float64)
    after = np.concatenate([run.observations[span.start + 1 : span.stop + 1] for run, span in runs]).astype(np.float64)
    done = np.concatenate([run.actions[span] for run, span in runs]).astype(np.int64)
    state = known.read(before)
    numbers = np.argsort(
        state.own_actions(subjects), axis=1
    )  # of each action in the environment, as thing and place have it
    return RelatedRows(
        inputs=_seen(known, before, subjects),
        following=_seen(known, after, subjects),
        actions=numbers[np.arange(len(done)), done][:, None].astype(np.float32),
        segments=np.repeat(np.arange(len(segments)), lengths),
    )


def _seen(
    grounding: RelatedGrounding, observations: NDArray[np.float64], subjects: NDArray[np.int64]
) -> NDArray[np.float32]:
    targets = np.zeros((len(subjects), grounding.vocabulary.target_size))
    return grounding.read(observations).subject_inputs(targets, subjects)


def related_steps(
    episodes: Mapping[str, Sequence[Episode]],
    playbooks: Mapping[str, Playbook],
    segments: Sequence[Segment],
    embeddings: Mapping[str, NDArray[np.float32]],
    grounding: Grounding,
    held_out: Mapping[str, set[int]],
) -> LabelledSteps:
    """All steps of all segments; every skill weighs the same, whatever came about how often."""
    rows = related_rows(episodes, playbooks, segments, grounding)
    known = {sentence: number for number, sentence in enumerate(dict.fromkeys(item.skill for item in segments))}
    skills = np.array([known[item.skill] for item in segments])[rows.segments]
    last = np.append(np.diff(rows.segments) > 0, True)
    kept = np.array([item.episode in held_out[item.task_id] for item in segments])
    return LabelledSteps(
        inputs=rows.inputs,
        variants=rows.inputs[:, None],
        next_variants=rows.following[:, None],
        variant_actions=rows.actions[:, None],
        skills=skills,
        embeddings=np.stack([embeddings[sentence] for sentence in known]),
        segments=rows.segments,
        actions=rows.actions,
        rewards=last.astype(np.float32),
        terminals=last,
        held_out=kept[rows.segments],
        weights=1.0 / np.bincount(skills)[skills],
        n_actions=grounding.action_space.size,
    )
