"""From labelled episodes to the arrays that a query network is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode, Segment, check_finite
from lago_skills.data.config import WeightingConfig
from lago_skills.decoder.dataset import N_VARIANTS, episode_weights, held_out_episodes
from lago_skills.errors import ShapeError
from lago_skills.query.config import QueryConfig
from lago_skills.worlds.grounding import Grounding, goals


@dataclass(frozen=True)
class QuerySteps:
    """Offline steps, the task each was part of and the skill that was active; `held_out` marks whole episodes not trained on."""

    inputs: NDArray[np.float32]  # (T, I), decoder inputs towards the goal
    variants: NDArray[np.float32]  # (T, V, I), the same step in variants
    tasks: NDArray[np.int64]  # (T,), rows of `words`
    skills: NDArray[np.int64]  # (T,), rows of `latents`
    held_out: NDArray[np.bool_]  # (T,)
    weights: NDArray[np.float64]  # (T,), sampling weights
    words: NDArray[np.float32]  # (n_tasks, P, D), embeddings of ways to ask for each task, its own sentence first
    latents: NDArray[np.float32]  # (n_skills, Z), unit

    def __post_init__(self) -> None:
        """Check shapes and values.

        Raises:
            ShapeError: lengths or ranks that disagree, no step to train on, a number that is not finite, or a step of a task
                or skill that is not there.
        """
        n_steps = len(self.inputs)
        shapes = {name: getattr(self, name).shape for name in self.__dataclass_fields__}
        ranks = {"inputs": 2, "variants": 3, "words": 3, "latents": 2}
        wrong = {
            name: shape
            for name, shape in shapes.items()
            if len(shape) != ranks.get(name, 1) or (name not in ("words", "latents") and shape[0] != n_steps)
        }
        if wrong or self.inputs.shape[1] != self.variants.shape[2]:
            raise ShapeError(
                f"query steps: found {wrong or shapes}; expected {n_steps} rows of each and variants with the numbers of their "
                "steps; label the episodes again"
            )
        if n_steps == 0 or bool(self.held_out.all()):
            raise ShapeError(
                f"query steps: found {n_steps} steps, all held out; expected steps to train on; collect more episodes"
            )
        for name in ("inputs", "variants", "weights", "words", "latents"):
            check_finite(getattr(self, name), f"query steps, {name}")
        for name, rows, table in (("task", self.tasks, self.words), ("skill", self.skills, self.latents)):
            if rows.min() < 0 or rows.max() >= len(table):
                raise ShapeError(
                    f"query steps: found {name} {int(rows.max())}; expected one of {len(table)}; embed every sentence"
                )


def query_steps(
    episodes: dict[str, list[Episode]],
    segments: list[Segment],
    latents: dict[str, NDArray[np.float32]],
    words: dict[str, NDArray[np.float32]],
    grounding: Grounding,
    config: QueryConfig,
    held_out_share: float,
    weighting: WeightingConfig | None = None,
) -> QuerySteps:
    """All steps of all segments, with their skill's latent and their task's (P, D) wordings, own sentence first.

    Every task weighs the same, as for the decoder, and the same episodes are held out.
    """
    names = list(episodes)
    weights = {task: episode_weights(runs, weighting or WeightingConfig()) for task, runs in episodes.items()}
    held_out = {task: held_out_episodes(runs, held_out_share) for task, runs in episodes.items()}
    known = {sentence: number for number, sentence in enumerate(dict.fromkeys(item.skill for item in segments))}
    totals = dict.fromkeys(names, 0.0)
    for item in segments:
        totals[item.task_id] += weights[item.task_id][item.episode] * (item.stop - item.start)
    columns: dict[str, list[Any]] = {}
    rng = np.random.default_rng(0)
    for item in segments:
        n_steps = item.stop - item.start
        episode = episodes[item.task_id][item.episode]
        observations = episode.observations[item.start : item.stop].astype(np.float64)
        rows = {
            **_states(observations, grounding, config, rng),
            "tasks": np.full(n_steps, names.index(item.task_id)),
            "skills": np.full(n_steps, known[item.skill]),
            "held_out": np.full(n_steps, item.episode in held_out[item.task_id]),
            "weights": np.full(n_steps, weights[item.task_id][item.episode] / totals[item.task_id]),
        }
        for name, column in rows.items():
            columns.setdefault(name, []).append(column)
    n_words = max(len(words[name]) for name in names)
    return QuerySteps(
        words=np.stack([words[name][np.arange(n_words) % len(words[name])] for name in names]).astype(np.float32),
        latents=np.stack([latents[sentence] for sentence in known]),
        **{name: np.concatenate(parts) for name, parts in columns.items()},
    )


def _states(
    observations: NDArray[np.float64], grounding: Grounding, config: QueryConfig, rng: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """Decoder inputs towards the goal of each step, as they were and in variants."""
    state, n_steps = grounding.read(observations), len(observations)
    targets = goals(grounding, state)
    inputs, still = state.inputs(targets), np.zeros((n_steps, grounding.action_space.size), np.float32)
    variants: list[NDArray[np.float32]] = []
    variation = grounding.variation
    for _ in range(N_VARIANTS):
        if variation is None:
            break
        varied = rng.random(n_steps) < config.varied_share
        parameters = variation.draw(n_steps, rng) * varied
        seen, towards, _ = variation.apply(observations, targets, still, parameters)
        variants.append(grounding.read(seen).inputs(towards))
    return {"inputs": inputs, "variants": np.stack(variants or [inputs], axis=1)}
