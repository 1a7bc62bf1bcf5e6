"""Soft actor-critic learns where it takes seconds, with and without a guide, as fast as a public implementation."""

# torch leaves some argument types open, and numpy.interp some results.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lago_skills.experiments.benches import training_speed
from lago_skills.rl import train
from lago_skills.rl.config import SACConfig
from lago_skills.rl.methods import METHODS
from lago_skills.rl.problem import evaluate
from tests.fading import Nearby
from tests.small_envs import Echo, Pointing, problem

# Learning ---------------------------------------------------------------------------------------------------------------

LEARN = SACConfig(
    n_steps=3_000, random_steps=300, eval_every=500, eval_episodes=40, batch_size=64, hidden_size=64, learning_rate=1e-3
)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_plain_sac_learns_to_repeat_what_it_sees() -> None:
    config = LEARN.model_copy(update=METHODS["sac"].settings | {"n_step": 1, "gamma": 0.5, "actor_every": 1})
    curve = train(problem(Echo), config, 0).curve
    assert curve[-1]["eval/return"] > -0.5  # over 20 steps; uniform noise has about -21
    assert curve[0]["eval/return"] < 4 * curve[-1]["eval/return"]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_good_guide_beats_none_and_a_wrong_one_is_overcome() -> None:
    plain = LEARN.model_copy(update=METHODS["sac"].settings)
    longer = {"n_steps": 5_000}
    alone = train(problem(Nearby), plain.model_copy(update=longer), 0).curve
    good = train(problem(Nearby, Pointing(1.0)), LEARN, 0).curve
    wrong = train(problem(Nearby, Pointing(-1.0)), LEARN.model_copy(update=longer), 0).curve
    assert alone[0]["eval/success"] < 0.5
    assert min(row["eval/success"] for row in good) > 0.9
    assert alone[-1]["eval/success"] > 0.9
    assert wrong[-1]["eval/success"] > 0.9
    assert wrong[-1]["train/prior_share"] < 0.1
    assert wrong[-1]["train/fade"] < 0.1


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(importlib.util.find_spec("stable_baselines3") is None, reason="needs stable-baselines3")
@pytest.mark.filterwarnings("ignore:Converting a tensor:UserWarning")
def test_plain_sac_has_the_curve_of_stable_baselines() -> None:
    """Same settings, three seeds each: both learn as fast (the logarithm of what is missing, over the curve) and as well (at its end)."""
    alike = {"n_step": 1, "gamma": 0.5, "actor_every": 1, "layer_norm": False, "initial_alpha": 1.0}
    config = LEARN.model_copy(update=METHODS["sac"].settings | alike | {"eval_every": 250, "n_steps": 2_500})
    seeds = (0, 1, 2)
    ours = [[row["eval/return"] for row in train(problem(Echo, seed=seed), config, seed).curve] for seed in seeds]
    theirs = [
        peer_returns(training_speed.peer_sac(problem(Echo, seed=seed), config, seed), len(ours[0])) for seed in seeds
    ]
    mine, peers = np.log10(-np.mean(ours, axis=0)), np.log10(-np.mean(theirs, axis=0))
    assert mine[0] > 0.7  # nothing is learned before the first updates; uniform noise misses 21, which is 1.3
    assert abs(mine - peers).mean() < 0.2
    assert mine[-1] < peers[-1] + 0.15


def peer_returns(model: Any, n_rows: int) -> list[float]:
    """Mean return of greedy episodes on the evaluation seeds, after each 250 steps."""
    found: list[float] = []
    for _ in range(n_rows):
        model.learn(250, reset_num_timesteps=False)

        def act(observations: NDArray[Any], tasks: NDArray[np.int64]) -> NDArray[Any]:
            return model.predict(observations.astype(np.float32), deterministic=True)[0]

        found.append(float(np.mean([each.episode_return for each in evaluate(problem(Echo), act, 40)])))
    return found
