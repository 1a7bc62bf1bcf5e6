"""Which start states are for what, in every world: the ranges are disjoint."""

from __future__ import annotations

DEMO_SEED, EVAL_SEED, TRAIN_SEED, SCENE_SEED, LINT_SEED, SPOT_SEED = (n * 1_000_000 for n in range(1, 7))
"""First start-state seed of demonstrations, evaluation, online training, scene summaries, lint, and growth's spot checks."""
DEMOS_PER_SEED = 10_000
"""Start states of demonstrations kept for each seed of a study."""
