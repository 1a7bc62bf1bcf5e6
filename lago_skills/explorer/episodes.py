"""Recorded episodes as documents: at every moment which step and skills were at work, what was done, what the prior would have done."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode, Playbook
from lago_skills.explorer.frames import frames_of
from lago_skills.explorer.source import Json, Recorded, Records, Source, recorded_episode, rounded
from lago_skills.guide.loaded import BundleGuide, TaskGuide
from lago_skills.guide.retrieval import Retrieval
from lago_skills.prior import ActionPrior

N_LIKE = 3
"""Moments like one: so many, each of another episode."""
Floats = NDArray[np.float64]


def listed(source: Source) -> Json:
    """All recorded episodes, a row each."""
    return {"episodes": [_row(source, each) for each in source.episodes]}


def _row(source: Source, recorded: Recorded) -> Json:
    episode = recorded.episode
    return {
        "name": recorded.name,
        "task": episode.task_id,
        "kind": recorded.kind,
        "about": recorded.about,
        "seed": episode.seed,
        "steps": len(episode.actions),
        "success": episode.success,
        "seconds_per_step": source.seconds_per_step,
    }


def timeline(source: Source, name: str) -> Json:
    """An episode moment by moment.

    Raises:
        StudyError: no episode is called so, or the bundle has no plan of its task.
    """
    recorded = recorded_episode(source.records, name)
    episode = recorded.episode
    guide = source.bundle.task(episode.task_id, library_alone=True, any_words=False)
    rows = episode.observations[:-1].astype(np.float64)
    retrieval = source.guide.retrieve(rows, guide.name)
    book = source.guide.books[guide.name]
    return {
        **_row(source, recorded),
        "sentence": source.bundle.world.tasks[episode.task_id].sentence
        if source.bundle.world is not None and episode.task_id in source.bundle.world.tasks
        else episode.task_id,
        "plan": [step.sentence for step in book.steps],
        "step": retrieval.steps.tolist(),
        **_skills(source, retrieval),
        "conditions": _conditions(source, book, retrieval.state.values),
        **_actions(guide, rows, episode),
        "anchors": list(source.guide.grounding.vocabulary.anchors),
        "points": rounded(source.guide.grounding.read(episode.observations.astype(np.float64)).anchors),
        "targets": rounded(retrieval.targets),
        "rewards": rounded(episode.rewards, 3),
        "like": _like(source, recorded),
        "frames": frames_of(recorded.folder),
    }


def _skills(source: Source, retrieval: Retrieval) -> Json:
    """`skills` that answered at any time, and at each moment `ranked`, places in that list, with their `weights` in hundredths."""
    order = np.argsort(-retrieval.weights, axis=1, kind="stable")
    ids = np.take_along_axis(retrieval.neighbors.ids, order, axis=1)
    weights = np.take_along_axis(retrieval.weights, order, axis=1)
    known: list[int] = np.unique(ids[ids >= 0]).tolist()
    places = {number: place for place, number in enumerate(known)}
    return {
        "skills": [{"id": number, "sentence": source.library.get(number).sentence} for number in known],
        "ranked": [[places.get(number, -1) for number in row] for row in ids.tolist()],
        "weights": np.rint(100 * weights).astype(int).tolist(),
    }


def _conditions(source: Source, book: Playbook, values: Floats) -> list[list[Json]]:
    """Of each step its conditions, each with a character for every moment: 1 where it held."""
    features = source.guide.grounding.vocabulary.features
    places = {each.name: place for place, each in enumerate(features)}
    rows: list[list[Json]] = []
    for step in book.steps:
        own: list[Json] = []
        for each in step.when:
            column = values[:, places[each.feature]]
            held = column < each.value if each.op == "<" else column > each.value
            own.append(
                {
                    "text": f"{each.feature} {each.op} {each.value:g} {features[places[each.feature]].unit}".rstrip(),
                    "meaning": features[places[each.feature]].sentence,
                    "held": "".join("1" if one else "0" for one in held.tolist()),
                    "values": rounded(column),
                }
            )
        rows.append(own)
    return rows


def _actions(guide: TaskGuide, rows: Floats, episode: Episode) -> Json:
    """What was done, and the prior's mean and spread, or probabilities."""
    answer = guide.answer(rows)
    prior = answer.prior
    said: Json = {"unfamiliar": rounded(answer.unfamiliarity, 2), "action": rounded(episode.actions, 3)}
    if isinstance(prior, ActionPrior):
        mean, spread = prior.moments()
        return said | {"prior": rounded(mean, 3), "spread": rounded(spread, 3)}
    return said | {"probabilities": rounded(prior.probabilities(), 3)}


def _like(source: Source, recorded: Recorded) -> Json:
    """The moments of other episodes that are most like each moment: (T, n) places in `episodes`, and moments there."""
    assert source.records is not None  # the episode comes from there
    names, owners, moments, features = _all_moments(source.records, source.bundle)
    if recorded.name not in names or len(names) < 2:
        return {"episodes": [], "of": [], "at": [], "apart": []}
    own = names.index(recorded.name)
    mine, others = np.flatnonzero(owners == own), np.flatnonzero(owners != own)
    squares = (features[others] ** 2).sum(axis=1)
    of: list[list[int]] = []
    at: list[list[int]] = []
    apart: list[list[float]] = []
    for row in mine:
        gaps = np.maximum(squares - 2.0 * features[others] @ features[row] + features[row] @ features[row], 0.0)
        nearest = others[np.argsort(gaps, kind="stable")[: 40 * N_LIKE]]
        _, first = np.unique(owners[nearest], return_index=True)
        chosen = nearest[np.sort(first)[:N_LIKE]]
        of.append(owners[chosen].tolist())
        at.append(moments[chosen].tolist())
        apart.append(rounded(np.sqrt(((features[chosen] - features[row]) ** 2).mean(axis=1)), 2))
    return {"episodes": names, "of": of, "at": at, "apart": apart}


@lru_cache(maxsize=2)
def _all_moments(records: Records, bundle: BundleGuide) -> tuple[list[str], Any, Any, Any]:
    """Names of the episodes; and of each moment the number of its episode, its own number there, and its features in standard deviations."""
    names = [each.name for each in records.recorded]
    values = [
        bundle.guide.grounding.read(each.episode.observations[:-1].astype(np.float64)).values
        for each in records.recorded
    ]
    owners = np.repeat(np.arange(len(values)), [len(each) for each in values])
    moments = np.concatenate([np.arange(len(each)) for each in values])
    rows = np.concatenate(values)
    spread = rows.std(axis=0)
    return (
        names,
        owners,
        moments,
        ((rows - rows.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)).astype(np.float32),
    )
