"""The decoder that a new version has: as it was, or trained on all that was shown so far, from the one before or from nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, get_args

import numpy as np

from lago_skills.core import Task
from lago_skills.decoder.trained_decoder import Decoder
from lago_skills.stages.segment import Labelled
from lago_skills.stages.workspace import Workspace

Refresh = Literal["onward", "anew"]
WAYS: tuple[Refresh, ...] = get_args(Refresh)
AS_IT_WAS = "as it was"
"""Of a decoder that was not trained."""
ONWARD_SHARE = 0.5
"""Of a training's updates, where it goes on from the decoder before."""


def refreshed(
    space: Workspace,
    task: Task,
    shown: Labelled,
    new: Collection[int],
    old: Decoder,
    how: Refresh,
    say: Callable[[str], None],
) -> Decoder:
    """A decoder trained on labelled demonstrations, old and new together.

    Args:
        space: the study.
        task: that the library grows by.
        shown: all that was taken in so far.
        new: which of its segments are new.
        old: of the version in use.
        how: `onward` from the old one, with half of the updates: of old segments it goes on learning its own answers, so that what old skills do stays nearly
            as it was; `anew` from random weights, on everything as it was shown.
        say: hears what is done.
    """
    from lago_skills.decoder.algorithms import GOES_ON
    from lago_skills.decoder.pretrain import Start, pretrain
    from lago_skills.stages.planning.phrases import phrases

    study = space.study
    config = study.decoder.of_actions(study.grounding.action_space)
    words = None
    if config.uses_phrases:
        tasks = (*study.all_tasks, *(() if task in study.all_tasks else (task,)))
        words = phrases(shown.skills, space.transcripts, tasks, study.grounding.synonyms)
    onward = how == "onward" and config.algorithm in GOES_ON
    if onward:
        config = config.model_copy(update={"n_updates": max(round(ONWARD_SHARE * config.n_updates), 1)})
    n_episodes = sum(map(len, shown.episodes.values()))
    say(f"the decoder is trained {'onward' if onward else 'anew'} on {n_episodes} episodes, {config.n_updates} updates")
    steps = shown.steps(config, study.weighting)
    start = Start(old, ~np.isin(steps.segments, list(new))) if onward else None
    decoder, _ = pretrain(steps, config, study.seed, lambda update, m: None, words, start=start)
    return decoder
