from __future__ import annotations

import numpy as np
import pytest

from lago_skills.core import Episode, check_finite, check_observations
from lago_skills.errors import ShapeError


def episode(steps: int = 3, **change: object) -> Episode:
    values: dict[str, object] = {
        "task_id": "reach",
        "seed": 7,
        "observations": np.zeros((steps + 1, 39), np.float32),
        "actions": np.zeros((steps, 4), np.float32),
        "rewards": np.zeros(steps, np.float32),
        "success": True,
    }
    return Episode(**{**values, **change})  # pyright: ignore[reportArgumentType]


def test_an_episode_has_one_observation_more_than_actions() -> None:
    assert len(episode().observations) == 4
    with pytest.raises(ShapeError, match=r"task 'reach', seed 7: found 3 observations, 3 actions"):
        episode(observations=np.zeros((3, 39), np.float32))


def test_nan_and_oversized_actions_are_refused_with_their_place() -> None:
    bad = np.zeros((4, 39), np.float32)
    bad[2, 5] = np.nan
    with pytest.raises(ShapeError, match=r"observations of task 'reach', seed 7: found nan at index \(2, 5\)"):
        episode(observations=bad)
    with pytest.raises(ShapeError, match=r"found an action of size 1\.5; expected values in \[-1, 1\]"):
        episode(actions=np.full((3, 4), 1.5, np.float32))


@pytest.mark.parametrize("shape", [(39,), (2, 38), (1, 2, 39)])
def test_wrong_observation_sizes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="expected \\(B, 39\\)"):
        check_observations(np.zeros(shape), 39)


def test_infinity_is_not_finite() -> None:
    with pytest.raises(ShapeError, match="found inf at index"):
        check_finite(np.array([0.0, np.inf]), "x")
