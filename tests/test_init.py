"""`lago init`, and environments that want something special: options at reset, or Gym as it was before Gymnasium."""

# Gym and Gymnasium leave types of spaces partially unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from lago_skills.commands.cli import main
from lago_skills.errors import StudyError
from lago_skills.study import load_study
from lago_skills.worlds.gym.old_gym import as_gymnasium, as_space
from tests.tables import never


def test_init_writes_a_study_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is overwritten; what only the user knows is a TODO."""
    path = tmp_path / "mine.toml"
    arguments = ["--root", str(tmp_path), "init", "--env", "CartPole-v1", "--episodes", "2", "--to", str(path)]
    assert main(arguments, never) == 0
    text = path.read_text(encoding="utf-8")
    study = load_study(path)
    assert study.gym is not None
    assert study.gym.horizon_steps == 500
    assert "# TODO when is a task solved?" in text
    assert study.grounding.read(np.zeros((1, 4))).values.shape == (1, 4)
    assert main(arguments, never) == 2
    assert "expected a new file, since nothing is overwritten" in capsys.readouterr().err
    goal = ["--root", str(tmp_path), "init", "--env", "tests.test_gym_world:Arm", "--to", str(tmp_path / "arm.toml")]
    assert main(goal, never) == 0
    arm_study = load_study(tmp_path / "arm.toml")
    assert arm_study.gym is not None
    assert arm_study.gym.success == "info.is_success"
    assert arm_study.grounding.observation_size == 7
    assert main([*goal[:4], "No-v0", "--to", str(tmp_path / "no.toml")], never) == 2
    assert "name the module that registers it with --import" in capsys.readouterr().err


# Options at reset -----------------------------------------------------------------------------------------------------


class Hall(gymnasium.Env[Any, Any]):
    """A walk to the end of a hall, whose length each reset has to say."""

    observation_space = gymnasium.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if options is None or "length" not in options:
            raise KeyError("length")
        self.left = int(options["length"]) - int(options.get("ahead", 0))
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        self.left -= 1 if action else -1
        return self._seen(), 0.0, self.left <= 0, False, {"success": self.left <= 0}

    def _seen(self) -> Any:
        return np.array([self.left], np.float32)


def test_options_of_a_reset_are_written_down_and_given_at_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hall.toml"
    command = ["--root", str(tmp_path), "init", "--env", "tests.test_init:Hall", "--episodes", "2", "--to", str(path)]
    assert main(command, never) == 2
    assert "fails in random episodes (KeyError: 'length')" in capsys.readouterr().err
    assert main([*command, "--reset-options", "[5]"], never) == 2
    assert "found --reset-options '[5]'; expected an object" in capsys.readouterr().err
    assert main([*command, "--reset-options", '{"length": 5, "doors": [1, {"open": true}]}'], never) == 0  # the remedy
    study = load_study(path)
    assert study.gym is not None
    assert study.gym.reset_options == {"length": 5, "doors": [1, {"open": True}]}
    text = path.read_text().replace('id = "task"', 'id = "task"\nreset_options = { ahead = 2 }')
    path.write_text(text)
    study = load_study(path)
    env = study.load_world().make("task")
    assert [env.reset(seed=seed)[0].tolist() for seed in range(2)] == [[3.0], [3.0]]
    assert env.reset(options={"length": 9})[0].tolist() == [7.0]
    assert "reset_options" in str(study.world_recipe())


# Gym ------------------------------------------------------------------------------------------------------------------


class OldSpace:
    """As Gym's, of no class of Gymnasium."""


class Box(OldSpace):
    low, high, shape, dtype = np.array([-1.0, -1.0]), np.array([1.0, 2.0]), (2,), np.dtype(np.float32)


class Discrete(OldSpace):
    n = 3


class OldArm:
    """Seeds by `seed()`, returns an observation from `reset` and four values from `step`."""

    observation_space, action_space = Box(), Discrete()

    def seed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def reset(self) -> Any:
        self.place = self.rng.uniform(-1, 1, 2)
        return self.place

    def step(self, action: int) -> Any:
        self.place = self.place + action / 10
        done = bool(self.place[0] > 1)
        return self.place, -1.0, done, {"success": done}


def test_an_environment_of_gym_goes_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    command = ["--root", str(tmp_path), "init", "--env", "tests.test_init:OldArm", "--episodes", "2", "--to", str(path)]
    assert main(command, never) == 0
    env = load_study(path).load_world().make("task")
    assert env.action_space == gymnasium.spaces.Discrete(3)
    first, _ = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    assert first.tolist() == again.tolist()
    observation, reward, terminated, truncated, _ = env.step(2)
    assert np.allclose(observation - first, 0.2)
    assert (reward, terminated, truncated) == (-1.0, False, False)
    env.close()


def test_gym_itself() -> None:
    """The package, which d3rlpy brings along."""
    gym = pytest.importorskip("gym")
    old = gym.make("CartPole-v1").unwrapped
    env = as_gymnasium(old)
    assert env.action_space == gymnasium.spaces.Discrete(2)
    assert isinstance(env.observation_space, gymnasium.spaces.Box)
    assert env.observation_space.shape == (4,)
    (observation, _) = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert len(env.step(1)) == 5


def test_what_is_no_environment_is_refused() -> None:
    with pytest.raises(
        StudyError, match="without observation_space, action_space, reset, step; expected an environment"
    ):
        as_gymnasium(object())
    with pytest.raises(StudyError, match="expected one of Box, Discrete"):
        as_space(object())
    with pytest.raises(StudyError, match=r"a reset of .* that takes none; .* leave reset_options out"):
        as_gymnasium(OldArm()).reset(options={"length": 1})
