"""Label every step of the offline episodes with the playbook step that is active there; runs of one label are segments."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode, Segment
from lago_skills.playbook import CompiledPlaybook
from lago_skills.worlds.grounding import Grounding


def label(episode: Episode, playbook: CompiledPlaybook, grounding: Grounding) -> NDArray[np.int64]:
    """(T,) index of the active playbook step at every action of the episode."""
    return playbook.active(grounding.read(episode.observations[:-1]).values)


def segments_by_label(labels: NDArray[np.int64], episode_index: int, playbook: CompiledPlaybook) -> list[Segment]:
    """Runs of one label. Segments tile the episode: each step belongs to exactly one."""
    cuts = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    plan = playbook.playbook
    return [
        Segment(
            task_id=plan.task_id,
            episode=episode_index,
            start=start,
            stop=stop,
            step=int(labels[start]),
            skill=plan.steps[int(labels[start])].skill,
        )
        for start, stop in itertools.pairwise(cuts)
        if stop > start
    ]
