"""What each table of training runs asks: its methods, steps and settings (`lago evaluate STUDY --table T2`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lago_skills.experiments.baselines.controllers import GAINS
from lago_skills.rl import methods

UNTRAINED: dict[str, methods.Adviser] = {
    "random": "none",
    "scripted": "none",
    "library": "library",
    "bc": "cloned",
    "nearest skill": "one skill",
    "fixed text": "fixed text",
    "nearest step": "nearest step",
    "brief prompt": "brief prompt",
    "shuffled library": "shuffled",
    **dict.fromkeys(GAINS, "none"),
}
"""Methods that need no training step, and whose prior's mean they are, if any; their one row has steps = 0."""


@dataclass(frozen=True)
class TableSpec:
    """One table of the protocol."""

    question: str
    methods: tuple[str, ...]
    n_steps: int
    demos: int
    """Demonstrations of the task itself that methods which use any are given."""
    at: tuple[int, ...]
    """Steps that the summary shows."""
    settings: dict[str, Any]
    """What differs from the study's `[train.sac]` or `[train.ppo]`, for all methods alike."""
    together: bool = False
    """One policy for all seen tasks; else one for each unseen task."""
    final_episodes: int = 50
    """Of each task, in the last evaluation of a run."""
    by_algorithm: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """What differs further, by algorithm."""
    shared: dict[str, str] = field(default_factory=dict[str, str])
    """Methods whose runs are those of another table, by name: the same cells, not run twice."""
    pictures: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """What is drawn together, where all methods in one picture would be too many: title, methods."""


COMMON: dict[str, Any] = {"n_steps": 20_000, "eval_every": 2_500, "eval_episodes": 20}
ALONE: dict[str, dict[str, Any]] = {"sac": {"eval_early": (250, 1_000)}, "ppo": {"rollout_steps": 500}}
"""Of runs on one task in one environment; a good library needs no thousands of steps, hence the early evaluations."""
TOGETHER = "ten"
"""What cells of a table of one policy name their task."""
SPECS: dict[str, TableSpec] = {
    "T1": TableSpec(
        "one policy for the ten demonstrated tasks: does the prior help PPO?",
        ("random", "scripted", *GAINS, "library", "bc", "guided-ppo", "ppo", "bc-ppo", "ppo-kl-bc", "ppo-kl-shuffled"),
        300_000,
        0,
        (50_000, 100_000, 200_000, 300_000),
        {"n_steps": 300_000, "eval_every": 25_000, "eval_episodes": 5},
        together=True,
        final_episodes=20,
    ),
    "T2": TableSpec(
        "a new task without a demonstration: does the library carry over?",
        (
            *("random", "scripted", *GAINS, "library", "guided-sac", "guided-sac-kl"),
            *("sac", "ppo", "sac-shuffled", "sac-learned-query"),
        ),
        20_000,
        0,
        (2_500, 5_000, 10_000, 20_000),
        COMMON,
        by_algorithm=ALONE,
    ),
    "T3": TableSpec(
        "a new task with three demonstrations: against the strongest few-shot learners",
        (
            "random",
            "scripted",
            *GAINS,
            "bc",
            "guided-sac",
            "rlpd",
            "rlpd-4-updates",
            "ibrl",
            "ibrl-4-updates",
            "sac-cloned",
        ),
        20_000,
        3,
        (5_000, 10_000, 20_000),
        COMMON,
        by_algorithm=ALONE,
        shared=dict.fromkeys(("random", "scripted", *GAINS), "T2"),
    ),
    "T5": TableSpec(
        "what matters: guided SAC on new tasks with one part taken away, with the right library and with one that is asked for the wrong skills; and plain "
        "SAC with one way of guiding alone",
        (
            *(
                "random",
                "scripted",
                "library",
                "nearest skill",
                "fixed text",
                "nearest step",
                "brief prompt",
                "shuffled library",
            ),
            *("guided-sac", "no-retrieval", "no-text-head", "no-decay", "no-decoder", "no-long-prompt"),
            *("sac-shuffled", "shuffled-no-decay", "shuffled-no-proposals", "shuffled-no-harvest"),
            *("shuffled-no-observed-prior", "shuffled-no-plan-noise"),
            *("guided-sac-kl", "only-proposals", "only-density", "only-warm-start", "only-residual"),
        ),
        20_000,
        0,
        (2_500, 5_000, 10_000, 20_000),
        COMMON,
        by_algorithm=ALONE,
        shared=dict.fromkeys(("random", "scripted", "library", "guided-sac", "sac-shuffled", "guided-sac-kl"), "T2"),
        pictures={
            "The right library, one part taken away": (
                *("library", "guided-sac", "no-retrieval", "no-text-head", "no-decay", "no-decoder", "no-long-prompt"),
            ),
            "A library that is asked for the wrong skills, one part taken away": (
                *("shuffled library", "sac-shuffled", "shuffled-no-decay", "shuffled-no-proposals"),
                *("shuffled-no-harvest", "shuffled-no-observed-prior", "shuffled-no-plan-noise"),
            ),
            "The right library, one way of guiding alone": (
                *("random", "library", "guided-sac", "guided-sac-kl"),
                *("only-proposals", "only-density", "only-warm-start", "only-residual"),
            ),
        },
    ),
    "tuning": TableSpec(
        "are the baselines' settings fair? RLPD and IBRL with three demonstrations as T3 has them, and with one setting changed",
        (
            "rlpd",
            "rlpd-4-updates",
            "rlpd-1-step",
            "rlpd-alpha",
            "rlpd-batch-256",
            "ibrl",
            "ibrl-4-updates",
            "ibrl-imitation",
        ),
        10_000,
        3,
        (2_500, 5_000, 10_000),
        COMMON | {"n_steps": 10_000},
        by_algorithm=ALONE,
    ),
}
