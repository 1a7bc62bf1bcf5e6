"""What a skill looks like where it was demonstrated: the ways that things went, and in which states it was at work."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lago_skills.core import Segment
from lago_skills.explorer.source import Json, Source, page_name, rounded

N_CLIPS, N_POINTS, N_RANGES = 6, 60, 24


def motion(source: Source, skill_id: int) -> Json:
    """`clips` of demonstrations of a skill and the ranges of features `where` it was at work; empty where no demonstrations are on record.

    Raises:
        LibraryConflict: no such skill.
    """
    words = source.guide.grounding.vocabulary
    label = source.guide.label(skill_id)
    segments = [] if source.records is None else [each for each in source.records.segments if each.skill == label]
    return {
        "anchors": list(words.anchors),
        "unit": words.unit,
        "segments": len(segments),
        "clips": [_clip(source, each) for each in _spread(segments)],
        "where": _where(source, segments),
    }


def _spread(segments: Sequence[Segment]) -> list[Segment]:
    """A few of them, of as many tasks as there are."""
    by_task: dict[str, list[Segment]] = {}
    for each in sorted(segments, key=lambda one: one.start - one.stop):
        by_task.setdefault(each.task_id, []).append(each)
    rounds = max((len(own) for own in by_task.values()), default=0)
    return [own[turn] for turn in range(rounds) for own in by_task.values() if turn < len(own)][:N_CLIPS]


def _clip(source: Source, item: Segment) -> Json:
    assert source.records is not None  # segments come from there
    episode = source.records.demonstrations[item.task_id][item.episode]
    rows = np.unique(np.linspace(item.start, item.stop, min(item.stop - item.start + 1, N_POINTS)).astype(int))
    anchors = source.guide.grounding.read(episode.observations[rows].astype(np.float64)).anchors
    return {
        "task": item.task_id,
        "episode": page_name("demo", item.task_id, str(item.episode)),
        "start": item.start,
        "stop": item.stop,
        "points": rounded(anchors),
    }


def _where(source: Source, segments: Sequence[Segment]) -> list[Json]:
    """Features in the states in which a skill was at work: those that it keeps to a part of their range first."""
    if source.records is None or not segments:
        return []
    grounding, shown = source.guide.grounding, source.records.demonstrations
    chosen = segments[:: max(len(segments) // 200, 1)]
    rows = np.concatenate([shown[each.task_id][each.episode].observations[each.start : each.stop] for each in chosen])
    values = grounding.read(rows.astype(np.float64)).values
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95), axis=0)
    whole = np.concatenate([one.observations for runs in shown.values() for one in runs[:2]]).astype(np.float64)
    least, most = np.quantile(grounding.read(whole).values, (0.0, 1.0), axis=0)
    ranges: list[Json] = [
        {
            "feature": feature.name,
            "unit": feature.unit,
            "meaning": feature.sentence,
            "low": round(float(low[i]), 4),
            "middle": round(float(middle[i]), 4),
            "high": round(float(high[i]), 4),
            "least": round(float(min(least[i], low[i])), 4),
            "most": round(float(max(most[i], high[i])), 4),
        }
        for i, feature in enumerate(grounding.vocabulary.features)
    ]
    telling = [each for each in ranges if each["most"] > each["least"]]
    return sorted(telling, key=lambda each: (each["high"] - each["low"]) / (each["most"] - each["least"]))[:N_RANGES]
