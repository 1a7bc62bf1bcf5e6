"""How an environment's spaces become codecs: what has to be guessed is refused, and the setting that decides is named."""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lago_skills.core import ActionSpace
from lago_skills.errors import StudyError
from lago_skills.worlds.gym.spaces import ActionCodec, ObservationCodec, Part, parse_part

MOST_COMBINATIONS = 1_000
"""A MultiDiscrete of more combinations is not flattened into one Discrete."""


def leaves(space: gymnasium.Space[Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], gymnasium.Space[Any]]:
    """The spaces in a dictionary space, by their keys; a space that is no dictionary is its own only leaf."""
    if isinstance(space, spaces.Dict):
        return {p: leaf for key, inner in space.spaces.items() for p, leaf in leaves(inner, (*path, str(key))).items()}
    return {path: space}


def unusable(space: gymnasium.Space[Any]) -> str | None:
    """Why a leaf has no numbers that features could name; None where it has."""
    if isinstance(space, spaces.Box):
        return (
            f"an image, {space.dtype} of shape {space.shape}"
            if (len(space.shape) >= 2 and space.dtype == np.uint8) or len(space.shape) >= 3
            else None
        )
    if isinstance(space, spaces.Text):
        return "a text"
    usable = isinstance(space, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary))
    return None if usable else f"a space of kind {type(space).__name__}"


def _leaf_part(name: str, path: tuple[str, ...], space: gymnasium.Space[Any]) -> Part:
    if isinstance(space, spaces.Discrete):
        return Part(name, path, 0, int(space.n), "discrete", (int(space.n),), (int(space.start),))
    if isinstance(space, spaces.MultiDiscrete):
        counts, first = space.nvec.reshape(-1), space.start.reshape(-1)
        return Part(name, path, 0, int(counts.sum()), "multi", tuple(map(int, counts)), tuple(map(int, first)))
    return Part(name, path, 0, int(math.prod(space.shape or (1,))))


def read_observations(space: gymnasium.Space[Any], parts: Sequence[str], setting: str) -> ObservationCodec:
    """How a space's observations are flattened; `parts` are as `parse_part` reads them, and `setting` is where they are said.

    Raises:
        StudyError: it is a dictionary and nobody says which parts count, it has no such part, or one that is an image or a text.
    """
    known = leaves(space)
    listing = ", ".join(f"{'/'.join(p) or 'observation'} ({unusable(s) or _sized(s)})" for p, s in known.items())
    usable = [p for p, leaf in known.items() if unusable(leaf) is None]
    if not parts:
        if () not in known:
            lines = ", ".join(f'"{"/".join(path)}"' for path in usable)
            raise StudyError(
                f"observation space: found a dictionary of {listing}; expected to be told which entries make the observation, and in which order; "
                f"say {setting} = [{lines}]"
                if usable
                else f"observation space: found a dictionary of {listing}; expected numbers among them; "
                "wrap the environment in one that computes features, or name a class with a method flatten in grounding = 'MODULE:CLASS'"
            )
        parts = ["observation"]
        known[("observation",)] = known[()]
    chosen: list[Part] = []
    for text in parts:
        asked = parse_part(text)
        path = () if () in known and asked.path in ((), ("observation",)) else asked.path
        if path not in known:
            raise StudyError(
                f"found {setting} with {text!r} and an observation space of {listing}; expected one of these; correct it"
            )
        if (why := unusable(known[path])) is not None:
            raise StudyError(
                f"observation space: found {why} as {asked.key or 'observation'!r}; expected numbers that features can name; leave it out of {setting}, wrap the "
                "environment in one that computes features, or name a class with a method flatten in grounding = 'MODULE:CLASS'"
            )
        whole = _leaf_part(asked.name, path, known[path])
        stop = whole.stop if asked.stop is None else asked.stop
        if stop > whole.stop:
            raise StudyError(
                f"found {setting} with {text!r}, and {whole.stop} numbers there; expected STOP up to {whole.stop}; correct it"
            )
        chosen.append(Part(asked.name, path, asked.start, stop, whole.kind, whole.counts, whole.first))
    names = [part.name for part in chosen]
    if twice := [name for name in names if names.count(name) > 1]:
        raise StudyError(
            f"found {setting} with two parts called {twice[0]!r}; expected a name of its own for each, such as 'hand = observation[0:3]'; correct it"
        )
    return ObservationCodec(tuple(chosen))


def _sized(space: gymnasium.Space[Any]) -> str:
    return f"{_leaf_part('', (), space).size} numbers"


def read_actions(
    space: gymnasium.Space[Any],
    action_range: tuple[float | Sequence[float], float | Sequence[float]] | None = None,
    *,
    flatten: bool = False,
    settings: str = "action_range and flatten_actions of [world]",
) -> ActionCodec:
    """How a space's actions are rescaled, numbered from 0 or flattened.

    Raises:
        StudyError: its bounds are not finite and no range is given, or it has to be flattened and nobody asked for that, or cannot be.
    """
    if isinstance(space, spaces.Discrete):
        return ActionCodec(ActionSpace(int(space.n), discrete=True), start=int(space.start))
    if isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)):
        return _several(space, flatten=flatten, settings=settings)
    if isinstance(space, spaces.Dict):
        return _joined(space, action_range, flatten=flatten, settings=settings)
    if not isinstance(space, spaces.Box):
        raise StudyError(
            f"action space: found {space}; expected a Box, Discrete, MultiDiscrete or a Dict of Boxes; wrap the environment in one that takes such actions"
        )
    if space.dtype.kind not in "f":
        raise StudyError(
            f"action space: found {space} of whole numbers; expected a Box of floating-point numbers, or MultiDiscrete; wrap the environment"
        )
    size = int(math.prod(space.shape)) if space.shape else 1
    low, high = np.float64(space.low).reshape(-1), np.float64(space.high).reshape(-1)
    if action_range is not None:
        low, high = (np.broadcast_to(np.asarray(end, np.float64), (size,)) for end in _sides(action_range, size))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise StudyError(
            f"action space: found {space}, without finite bounds; expected to be told which actions make sense, since they are explored and rescaled to [-1, 1]; "
            f"say so with action_range = [LOW, HIGH] ({settings})"
        )
    if not (low < high).all():
        raise StudyError(
            f"action space: found the range {low.tolist()} to {high.tolist()}; expected LOW below HIGH; correct it"
        )
    inner = bool((low == -1.0).all() and (high == 1.0).all())
    return ActionCodec(
        ActionSpace(size),
        () if inner else tuple(map(float, low)),
        () if inner else tuple(map(float, high)),
        shape=tuple(space.shape) if len(space.shape) != 1 else (),
        dtype=str(space.dtype),
    )


def _sides(
    given: tuple[float | Sequence[float], float | Sequence[float]], size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = (np.atleast_1d(np.asarray(end, np.float64)) for end in given)
    if len(low) not in (1, size) or len(high) not in (1, size):
        raise StudyError(
            f"found action_range of {max(len(low), len(high))} numbers and actions of {size}; expected two numbers, or two lists of {size}; correct it"
        )
    return low, high


def _several(space: spaces.MultiDiscrete | spaces.MultiBinary, *, flatten: bool, settings: str) -> ActionCodec:
    counts = (
        (2,) * int(math.prod(space.shape))
        if isinstance(space, spaces.MultiBinary)
        else tuple(map(int, space.nvec.reshape(-1)))
    )
    starts = np.zeros(1, int) if isinstance(space, spaces.MultiBinary) else space.start.reshape(-1)
    n = math.prod(counts)
    if not flatten:
        raise StudyError(
            f"action space: found {space}, {len(counts)} choices at once; expected one, or a Box; say flatten_actions = true to have its {n} combinations "
            f"numbered as one Discrete ({settings})"
        )
    if n > MOST_COMBINATIONS or np.ptp(starts):
        raise StudyError(
            f"action space: found {space}, of {n} combinations{' that start at several numbers' if np.ptp(starts) else ''}; expected at most {MOST_COMBINATIONS} that start "
            "at one; wrap the environment in one with fewer actions"
        )
    return ActionCodec(ActionSpace(n, discrete=True), counts=counts, start=int(starts[0]))


def _joined(space: spaces.Dict, action_range: Any, *, flatten: bool, settings: str) -> ActionCodec:
    inner = {
        name: leaf for name, leaf in space.spaces.items() if isinstance(leaf, spaces.Box) and leaf.dtype.kind == "f"
    }
    if len(inner) != len(space.spaces) or any(len(leaf.shape) > 1 for leaf in inner.values()):
        raise StudyError(
            f"action space: found {space}; expected a Box, Discrete, or a Dict of Boxes of floating-point numbers, which can be joined; wrap the environment in "
            "one that takes such actions"
        )
    sizes = {name: int(math.prod(leaf.shape)) for name, leaf in inner.items()}
    if not flatten:
        raise StudyError(
            f"action space: found {space}, a dictionary; expected a Box; say flatten_actions = true to have {' and '.join(map(str, sizes))} joined in this order "
            f"({settings})"
        )
    low = np.concatenate([leaf.low.reshape(-1) for leaf in inner.values()])
    high = np.concatenate([leaf.high.reshape(-1) for leaf in inner.values()])
    whole = read_actions(spaces.Box(low, high, dtype=np.float32), action_range, settings=settings)
    return ActionCodec(
        whole.space, whole.low, whole.high, keys=tuple((str(name), size) for name, size in sizes.items())
    )
