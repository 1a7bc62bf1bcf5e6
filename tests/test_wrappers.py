"""Wrappers for other people's loops, and the worked examples."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import importlib.util
import re
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
from tests.conftest import continuous
from tests.random_guides import random_guide

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
        prior = continuous(guide.prior(observation[None], "push"))
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
    swung = ResidualAction(gymnasium.make("Pendulum-v1"), Constant(size=1), "push")  # from -2 to 2: rescaled
    assert swung.action_space == gymnasium.spaces.Box(-1.0, 1.0, (1,))
    with pytest.raises(StudyError, match="found an image"):
        PriorObservation(Pictures(), Constant(), "push")


class Pictures(gymnasium.Env[Any, Any]):
    """Shows pictures alone."""

    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)


class Reach(gymnasium.Env[NDArray[np.float64], NDArray[np.float32]]):
    """One step: success if the action is near a place that the observation shows; the reward is less the farther away it is."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-0.8, 0.8, 2)
        return self.place, {}

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        apart = float(np.linalg.norm(action - self.place))
        success = apart < 0.4
        return self.place, -10.0 * apart, success, not success, {}


class Shown:
    """A guide that knows the place."""

    def prior(self, observations: NDArray[Any], task: str) -> ActionPrior:
        means = observations[:, None].astype(np.float32)
        return ActionPrior(np.ones((len(means), 1), np.float32), means, np.full_like(means, 0.2), 0.1)


def success_of_example(
    name: str, steps: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str
) -> float:
    """What an example prints at its end, on `Reach` with `Shown` for a bundle."""
    spec = importlib.util.spec_from_file_location("example", EXAMPLES / name)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)

    def reach(task: object) -> Reach:
        return Reach()

    def shown(folder: Path) -> Shown:
        return Shown()

    monkeypatch.setattr(example, "MetaWorldEnv", reach)
    monkeypatch.setattr(example, "load_bundle", shown)
    monkeypatch.setattr(sys, "argv", [name, "--steps", str(steps), "--episodes", "40", *options])
    example.main()
    printed = re.search(r"success ([01]\.\d\d) of 40 episodes", capsys.readouterr().out)
    assert printed is not None
    return float(printed[1])


@pytest.mark.slow
@pytest.mark.timeout(180)
@no_sb3
def test_the_example_of_stable_baselines_succeeds_with_the_guide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, residual, observation = (
        success_of_example("sb3_sac.py", steps, monkeypatch, capsys, "--how", how)
        for how, steps in (("plain", 100), ("residual", 100), ("observation", 1_500))
    )
    assert residual >= 0.9  # what is hardly trained corrects the prior by a little
    assert plain < 0.6
    assert observation >= 0.8  # learned


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_example_of_d3rlpy_learns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert success_of_example("d3rlpy_online.py", 1_500, monkeypatch, capsys) >= 0.8
    assert not (tmp_path / "d3rlpy_logs").exists()
