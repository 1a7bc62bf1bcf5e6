"""Small episodes, and files of every format that hold them."""

# h5py and Minari leave types partially unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Episode
from lago_skills.data.config import SourceConfig
from lago_skills.data.episodes import save_episodes
from lago_skills.data.files.hdf5 import write_hdf5
from lago_skills.data.files.minari import About, write_minari
from lago_skills.data.read_source import read
from lago_skills.data.sources import Sizes, episodes_of

SIZES = Sizes(observation=3, actions=ActionSpace(2))
DISCRETE = Sizes(observation=3, actions=ActionSpace(3, discrete=True))


def episode(
    n: int = 6,
    *,
    seed: int = 0,
    success: bool = True,
    task: str = "go",
    discrete: bool = False,
    truncated: bool | None = None,
) -> Episode:
    """Success ends an episode; failure does where `truncated` is False, and else the limit of steps."""
    rng = np.random.default_rng(seed)
    rewards = np.zeros(n, np.float32)
    rewards[-1] = float(success)
    cut = not success if truncated is None else truncated
    actions = rng.integers(0, 3, n) if discrete else rng.uniform(-1, 1, (n, 2)).astype(np.float32)
    return Episode(
        task,
        seed,
        rng.normal(size=(n + 1, 3)).astype(np.float32),
        actions,
        rewards,
        success,
        terminated=not cut,
        truncated=cut,
        success_step=n - 1 if success else None,
    )


def some(*, discrete: bool = False) -> list[Episode]:
    return [episode(4 + i, seed=10 + i, success=i != 1, discrete=discrete) for i in range(3)]


def same(one: list[Episode], two: list[Episode]) -> bool:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        for name in ("task_id", "seed", "success", "terminated", "truncated", "success_step"):
            assert getattr(a, name) == getattr(b, name), name
        for name in ("observations", "actions", "rewards"):
            assert getattr(a, name).dtype == getattr(b, name).dtype
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    return True


def written(kind: str, folder: Path, episodes: list[Episode]) -> SourceConfig:
    if kind == "minari":
        name, new = write_minari("lago/x", episodes, "d", About("me", "test", []), folder)
        assert new
        return SourceConfig(path=str(folder / name))
    path = folder / f"x.{kind}"
    (save_episodes if kind == "npz" else write_hdf5)(path, episodes)
    return SourceConfig(path=str(path))


def loaded(config: SourceConfig, task: str = "go", sizes: Sizes | None = SIZES) -> list[Episode]:
    return episodes_of(read(config, Path()), config, task, sizes)


def npz(folder: Path, **arrays: NDArray[Any]) -> SourceConfig:
    np.savez(folder / "x.npz", **arrays)  # pyright: ignore[reportArgumentType]  (an array may not be called allow_pickle)
    return SourceConfig(path=str(folder / "x.npz"), task="go", success="all")


def flat(n: int = 4, **other: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """One episode with T observations, as D4RL has it."""
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {
        "observations": rng.normal(size=(n, 3)),
        "actions": rng.uniform(-1, 1, (n, 2)),
        "rewards": np.arange(n, dtype=np.float64),
        "terminals": np.arange(n) == n - 1,
    }
    return {**arrays, **other}


# Bad input -----------------------------------------------------------------------------------------------------------


def bad(name: str, value: Any, index: Any) -> dict[str, NDArray[Any]]:
    arrays = flat()
    arrays[name][index] = value
    return arrays
