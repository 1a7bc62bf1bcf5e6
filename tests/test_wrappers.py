"""Wrappers for other people's loops, and the worked examples."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Playbook
from lago_skills.errors import ShapeError, StudyError
from lago_skills.guide.guides import NullGuide
from lago_skills.prior import ActionPrior
from lago_skills.rl.wrappers import PriorObservation, ResidualAction
from lago_skills.worlds.metaworld.env import MetaWorldEnv
from lago_skills.worlds.metaworld.tasks import find_task
from tests.test_guide import guide as random_guide

EXAMPLES = Path(__file__).parent.parent / "examples"
no_sb3 = pytest.mark.skipif(importlib.util.find_spec("stable_baselines3") is None, reason="needs stable-baselines3")
seldom_warns = pytest.mark.filterwarnings(
    "ignore:.*Box observation space", "ignore:.*different from the unwrapped version"
)
"""Gymnasium's checker warns of any unbounded observation, and of any wrapper."""


class Constant:
    """A guide that always says the same."""

    def __init__(self, mean: float = 0.5, size: int = 4, floor: float = 0.1) -> None:
        self.mean, self.size, self.floor = mean, size, floor

    def prior(self, observations: NDArray[Any], task: str) -> ActionPrior:
        means = np.full((len(observations), 1, self.size), self.mean, np.float32)
        return ActionPrior(np.ones((len(observations), 1), np.float32), means, np.full_like(means, 0.2), self.floor)


class Noted(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps the last action."""

    def step(self, action: Any) -> Any:
        self.last = action
        return self.env.step(action)


def push() -> MetaWorldEnv:
    return MetaWorldEnv(find_task("push"))


@seldom_warns
def test_gymnasiums_checker_is_content(playbooks: dict[str, Playbook]) -> None:
    guide = random_guide(playbooks)
    check_env(push(), skip_render_check=True)
    check_env(PriorObservation(push(), guide, "push"), skip_render_check=True)
    check_env(ResidualAction(push(), guide, "push"), skip_render_check=True)


def test_the_prior_is_in_the_observation(playbooks: dict[str, Playbook]) -> None:
    guide = random_guide(playbooks)
    plain, env = push(), PriorObservation(push(), guide, "push")
    observation, (seen, _) = plain.reset(seed=3)[0], env.reset(seed=3)
    for _ in range(3):
        prior = guide.prior(observation[None], "push")
        np.testing.assert_array_equal(seen[:39], observation)
        np.testing.assert_allclose(seen[39:43], np.clip(prior.mean()[0], -1, 1), rtol=1e-6)
        np.testing.assert_allclose(seen[43:], prior.std()[0], rtol=1e-6)
        assert seen in env.observation_space
        action = np.array([0.1, -0.2, 0.3, 1.0], np.float32)
        observation, seen = plain.step(action)[0], env.step(action)[0]
    silent, _ = PriorObservation(push(), NullGuide(ActionSpace(4)), "push").reset(seed=3)
    assert not silent[39:].any()


def test_the_action_corrects_the_prior() -> None:
    inner = Noted(push())
    env = ResidualAction(inner, Constant(0.5), "push", scale=0.3)
    env.reset(seed=0)
    for action, wanted in ((0.0, 0.5), (1.0, 0.8), (-1.0, 0.2)):
        *_, info = env.step(np.full(4, action, np.float32))
        np.testing.assert_allclose(inner.last, wanted, rtol=1e-6)
        np.testing.assert_array_equal(info["action"], inner.last)
    far = ResidualAction(inner, Constant(0.9), "push", scale=0.3)
    far.reset(seed=0)
    far.step(np.ones(4, np.float32))
    np.testing.assert_array_equal(inner.last, 1.0)
    silent = ResidualAction(inner, NullGuide(ActionSpace(4)), "push")
    silent.reset(seed=0)
    silent.step(np.full(4, 0.25, np.float32))
    np.testing.assert_array_equal(inner.last, 0.25)


def test_what_does_not_fit_is_refused_with_what_to_do() -> None:
    with pytest.raises(ShapeError, match="actions of size 2; expected 4"):
        PriorObservation(push(), Constant(size=2), "push").reset(seed=0)
    with pytest.raises(StudyError, match="before the first reset"):
        ResidualAction(push(), Constant(), "push").step(np.zeros(4, np.float32))
    with pytest.raises(StudyError, match="continuous actions"):
        ResidualAction(gymnasium.make("CartPole-v1"), Constant(), "push")
    with pytest.raises(StudyError, match="RescaleAction"):
        PriorObservation(gymnasium.make("Pendulum-v1"), Constant(), "push")


def run_example(name: str, bundle: Path, *options: str) -> str:
    command = [
        sys.executable,
        str(EXAMPLES / name),
        "--bundle",
        str(bundle),
        "--steps",
        "210",
        "--episodes",
        "1",
        *options,
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=bundle.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(180)
@no_sb3
@pytest.mark.parametrize("how", ["observation", "residual"])
def test_the_example_of_stable_baselines(how: str, bundle: Path) -> None:
    assert f"push-wall, {how}, 210 steps: success 0.00 of 1 episodes" in run_example("sb3_sac.py", bundle, "--how", how)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_example_of_d3rlpy(bundle: Path) -> None:
    assert "push-wall, 210 steps: success 0.00 of 1 episodes" in run_example("d3rlpy_online.py", bundle)
    assert not (bundle.parent / "d3rlpy_logs").exists()
