"""From labelled episodes to the arrays that the decoder is trained on."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Episode, Playbook, Segment
from lago_skills.data.config import WeightingConfig
from lago_skills.data.labels import label, segments_by_label
from lago_skills.decoder.config import DecoderConfig
from lago_skills.decoder.related_steps import related_rows, related_steps
from lago_skills.decoder.steps import LabelledSteps
from lago_skills.errors import DataError
from lago_skills.playbook import CompiledPlaybook
from lago_skills.words.ends import Ends, targets_in
from lago_skills.words.geometry import subjects_of
from lago_skills.worlds.grounding import AnchoredState, Grounding, State, anchored

N_VARIANTS, HINDSIGHT_STEPS = 8, 25
"""Variants of each step for training, and how many control steps ahead within the segment hindsight looks at most."""


def label_episodes(
    episodes: dict[str, list[Episode]], playbooks: dict[str, Playbook], grounding: Grounding
) -> list[Segment]:
    """Segments of all episodes, by the playbook of each episode's task."""
    labelled: list[Segment] = []
    for task, runs in episodes.items():
        book = CompiledPlaybook(playbooks[task], grounding.vocabulary)
        for index, episode in enumerate(runs):
            labelled.extend(segments_by_label(label(episode, book, grounding), index, book))
    return labelled


def episode_weights(episodes: list[Episode], config: WeightingConfig) -> NDArray[np.float64]:
    """(n,) how much each episode of one task counts in imitation: exp((s - 1) / temperature), at most 1.

    The score s is 1 for a success and 0 for a failure where there are both; where all fail it is the return, scaled to 0..1
    over the episodes; where all succeed it is 1. A temperature of 0 keeps the best alone.

    Source: reward-weighted regression (Peters and Schaal 2007, "Reinforcement learning by reward-weighted regression for
    operational space control", eq. 10), with a whole episode's score for the reward, as filtered and return-weighted
    behaviour cloning have it; AWR (Peng et al. 2019, arXiv 1910.00177, eq. 9) puts an advantage in its place.
    """
    scores = np.array([float(episode.success) for episode in episodes])
    if not scores.any():
        returns = np.array([float(episode.rewards.sum()) for episode in episodes])
        spread = float(np.ptp(returns))
        scores = (returns - returns.min()) / spread if spread > 0 else np.ones(len(episodes))
    if config.temperature == 0:
        return (scores == scores.max()).astype(np.float64)
    return np.exp((scores - scores.max()) / config.temperature)


def held_out_episodes(episodes: list[Episode], share: float) -> set[int]:
    """Which episodes of one task are kept for calibration: the last successful ones; at least one of two, never all.

    Where fewer than two succeed, the last of those that do not.
    """
    good = [i for i, episode in enumerate(episodes) if episode.success]
    bad = [i for i, episode in enumerate(episodes) if not episode.success]
    pool = good if len(good) > 1 else bad
    spare = len(pool) - 1 if len(pool) == len(episodes) or pool is good else len(pool)
    n_held_out = min(int(np.ceil(share * len(pool))), spare)
    return set(pool[len(pool) - n_held_out :])


def labelled_steps(
    episodes: dict[str, list[Episode]],
    playbooks: dict[str, Playbook],
    segments: list[Segment],
    embeddings: dict[str, NDArray[np.float32]],
    grounding: Grounding,
    config: DecoderConfig,
    weighting: WeightingConfig | None = None,
    ends: Ends | None = None,
) -> LabelledSteps:
    """All steps of all segments. Every task weighs the same, whatever the length of its episodes.

    Each step comes in variants: seen otherwise, where the grounding knows a symmetry, and heading for its target or for a point the
    effector really came to later in the same segment (hindsight). The target is the playbook's; of a segment between change
    points it is where the effector really went, at the segment's end.

    Raises:
        DataError: actions are of another kind than the grounding declares.
    """
    held_out = {task: held_out_episodes(runs, config.held_out_share) for task, runs in episodes.items()}
    if segments and segments[0].cut == "relations":
        return related_steps(episodes, playbooks, segments, embeddings, grounding, held_out)
    weights = {task: episode_weights(runs, weighting or WeightingConfig()) for task, runs in episodes.items()}
    totals = {
        task: sum(weight * len(run.actions) for weight, run in zip(weights[task], runs, strict=True))
        for task, runs in episodes.items()
    }
    known = {sentence: number for number, sentence in enumerate(dict.fromkeys(item.skill for item in segments))}
    columns: dict[str, list[Any]] = {}
    rng = np.random.default_rng(0)
    for number, segment in enumerate(segments):
        episode = episodes[segment.task_id][segment.episode]
        n_steps = segment.stop - segment.start
        # A skill has done its part at the end of its segment, unless the episode just ran out of time.
        ended = np.zeros(n_steps, np.bool_)
        ended[-1] = segment.stop < len(episode.actions) or episode.success
        aims = _Aims(segment, episode, playbooks, grounding, ends.fitted[number] if ends is not None else None)
        rows = _segment_rows(segment, episode, aims, grounding, config, rng)
        rows |= {
            "skills": np.full(n_steps, known[segment.skill]),
            "segments": np.full(n_steps, number),
            "rewards": ended.astype(np.float32),
            "terminals": ended,
            "held_out": np.full(n_steps, segment.episode in held_out[segment.task_id]),
            "weights": np.full(n_steps, weights[segment.task_id][segment.episode] / totals[segment.task_id]),
        }
        for name, column in rows.items():
            columns.setdefault(name, []).append(column)
    arrays: dict[str, Any] = {name: np.concatenate(parts) for name, parts in columns.items()}
    return LabelledSteps(
        embeddings=np.stack([embeddings[sentence] for sentence in known]),
        heading_size=grounding.heading_size if ends is None else anchored(grounding).subject_heading_size,
        n_actions=grounding.action_space.size if grounding.action_space.discrete else None,
        **arrays,
    )


def segment_inputs(
    segment: Segment,
    episode: Episode,
    playbooks: dict[str, Playbook],
    grounding: Grounding,
    heads: NDArray[np.float64] | None,
) -> NDArray[np.float32]:
    """(T, I) what the decoder sees at each step of a segment; `heads` is the offset that a step in words headed for."""
    if segment.cut == "relations":
        return related_rows({segment.task_id: {segment.episode: episode}}, playbooks, [segment], grounding).inputs
    observations = episode.observations[segment.start : segment.stop].astype(np.float64)
    aims = _Aims(segment, episode, playbooks, grounding, heads)
    return aims.inputs(grounding.read(observations), aims.planned)


class _Aims:
    """Where a segment headed, and how the decoder sees it: by its plan in numbers, by a plan in words, or by where the effector went."""

    def __init__(
        self,
        segment: Segment,
        episode: Episode,
        playbooks: dict[str, Playbook],
        grounding: Grounding,
        heads: NDArray[np.float64] | None,
    ) -> None:
        self.grounding, self.subjects = grounding, None
        rows = np.arange(segment.start, segment.stop)
        self.path = _path(episode, grounding)
        if segment.cut == "alignment" and heads is not None:
            step, names = playbooks[segment.task_id].steps[segment.step], grounding.vocabulary.anchors
            self.subjects = np.repeat([subjects_of(step, names)], len(rows), axis=0)
            self.planned = targets_in(episode, segment, playbooks[segment.task_id], heads, anchored(grounding))
        elif segment.cut == "playbook":
            book = CompiledPlaybook(playbooks[segment.task_id], grounding.vocabulary)
            state = grounding.read(episode.observations[rows].astype(np.float64))
            self.planned = book.targets(np.full(len(rows), segment.step), state.anchors)
        else:
            self.planned = np.repeat(self.path[segment.stop][None], len(rows), axis=0)

    def inputs(self, state: State, targets: NDArray[Any]) -> NDArray[np.float32]:
        """T states and (T, D) targets -> (T, I)."""
        if self.subjects is None:
            return state.inputs(targets)
        return cast("AnchoredState", state).subject_inputs(targets, self.subjects)


def _segment_rows(
    segment: Segment,
    episode: Episode,
    aims: _Aims,
    grounding: Grounding,
    config: DecoderConfig,
    rng: np.random.Generator,
) -> dict[str, NDArray[Any]]:
    """Inputs and actions of each step of a segment, as they were and in variants."""
    rows = np.arange(segment.start, segment.stop)
    observations = episode.observations[rows].astype(np.float64)
    after = episode.observations[rows + 1].astype(np.float64)
    actions = _declared(episode, grounding)[rows]
    read, variation = grounding.read, grounding.variation
    path, planned = aims.path, aims.planned
    variants: dict[str, list[NDArray[np.float32]]] = {"variants": [], "variant_actions": [], "next_variants": []}
    for _ in range(N_VARIANTS):
        later = np.minimum(rows + rng.integers(1, HINDSIGHT_STEPS + 1, len(rows)), segment.stop)
        hindsight = rng.random(len(rows)) < config.hindsight_share
        heading = np.where(hindsight[:, None], path[later], planned)
        seen, targets, varied_actions, following = observations, heading, actions, after
        if variation is not None:
            parameters = variation.draw(len(rows), rng) * (rng.random(len(rows)) < config.varied_share)
            seen, targets, varied_actions = variation.apply(observations, heading, actions, parameters)
            following, _, _ = variation.apply(after, heading, actions, parameters)
        variants["variants"].append(aims.inputs(read(seen), targets))
        variants["variant_actions"].append(varied_actions)
        variants["next_variants"].append(aims.inputs(read(following), targets))
    return {
        "inputs": aims.inputs(read(observations), planned),
        "actions": actions,
        **{name: np.stack(columns, axis=1) for name, columns in variants.items()},
    }


def _path(episode: Episode, grounding: Grounding) -> NDArray[np.float64]:
    """(T+1, D) where the effector was."""
    anchors = grounding.read(episode.observations.astype(np.float64)).anchors
    return anchors[:, 0] if anchors.shape[1] else np.zeros((len(anchors), grounding.vocabulary.target_size))


def _declared(episode: Episode, grounding: Grounding) -> NDArray[np.float32]:
    """(T, A) actions, or (T, 1) numbers of discrete ones, if they are what the grounding declares."""
    space = grounding.action_space
    shown = ActionSpace(1 + int(episode.actions.max(initial=0)), discrete=True) if episode.discrete else None
    if shown is None:
        shown = ActionSpace(episode.actions.shape[1])
    if shown.discrete != space.discrete or (shown.size > space.size if space.discrete else shown.size != space.size):
        raise DataError(
            f"task {episode.task_id!r}, episode with seed {episode.seed}: found {shown}; expected {space}, as the environment declares; "
            "use data of this environment, or correct the environment's action space"
        )
    return np.asarray(episode.actions, np.float32).reshape(len(episode.actions), -1)
