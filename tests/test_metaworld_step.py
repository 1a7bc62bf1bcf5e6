"""Meta-World's step made quicker, beside the package's own: the same to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lago_skills.worlds.metaworld.env import MetaWorldEnv, scripted
from lago_skills.worlds.metaworld.step import RotationMatrix
from lago_skills.worlds.metaworld.tasks import METAWORLD_TASKS, find_task


def _inside(env: MetaWorldEnv) -> Any:
    return env._env  # pyright: ignore[reportPrivateUsage] the package's own environment


@pytest.mark.parametrize("name", ["pick-place", "push", "push-wall"])
def test_touch_is_what_the_package_says(name: str) -> None:
    """Our `touching_object` beside the package's own, from states in which the scripted policy grasps and pushes."""
    env = MetaWorldEnv(find_task(name))
    inner = _inside(env)
    package: Any = inner.__class__
    policy, found = scripted(env.task), list[bool]()
    observation, _ = env.reset(seed=3)
    things = [inner.data.geom(number).id for number in range(inner.model.ngeom)]
    for _ in range(80):
        observation, *_ = env.step(policy(observation).astype(np.float32))
        touched = [inner.touching_object(number) for number in things]
        assert touched == [package.touching_object(inner, number) for number in things]
        found.append(any(touched))
    assert any(found)
    assert not all(found)


@pytest.mark.parametrize("name", sorted(METAWORLD_TASKS))
def test_episodes_are_what_the_package_makes_of_them(name: str) -> None:
    """Observations, rewards and success of an episode, quickened and not."""
    ours, plain = MetaWorldEnv(find_task(name)), MetaWorldEnv(find_task(name))
    for method in ("touching_object", "_get_curr_obs_combined_no_goal", "_get_quat_objects"):
        _inside(plain).__dict__.pop(method, None)  # the class's own again
    assert "_get_curr_obs_combined_no_goal" in _inside(ours).__dict__
    policy, rng = scripted(ours.task), np.random.default_rng(0)
    observation, _ = ours.reset(seed=7)
    assert np.array_equal(observation, plain.reset(seed=7)[0])
    for _ in range(60):
        action = (policy(observation) + rng.normal(0.0, 0.3, 4)).astype(np.float32)
        observation, *rest = ours.step(action)
        expected, *others = plain.step(action)
        assert np.array_equal(observation, expected)
        assert rest == others
        if rest[1]:
            break


def test_quaternions_are_scipys() -> None:
    """Of rotations that make each of the four branches, and of one by 180 degrees."""
    turns = [*Rotation.random(400, rng=np.random.default_rng(0)).as_matrix(), np.diag([1.0, -1.0, -1.0])]
    branches = {int(np.argmax([*np.diag(turn), np.trace(turn)])) for turn in turns}
    assert branches == {0, 1, 2, 3}
    for turn in turns:
        assert np.array_equal(RotationMatrix.from_matrix(turn).as_quat(), Rotation.from_matrix(turn).as_quat())
