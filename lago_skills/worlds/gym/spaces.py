"""An environment's own spaces, and the one form that everything inside works with: (S,) numbers, and actions in [-1, 1]^A or numbered from 0.

Nothing else converts: recorded data, demonstrations, training, evaluation, priors and exports all pass through these codecs.
"""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lago_skills.core import ActionSpace
from lago_skills.errors import DataError, StudyError

MOST_COMBINATIONS = 1_000
"""A MultiDiscrete of more combinations is not flattened into one Discrete."""
TOLERANCE = 1e-5
"""Actions may leave their range by this share of it: rounding, not meaning. They are then clipped."""
_PART = re.compile(r"(?:(?P<name>[A-Za-z_][\w-]*)\s*=\s*)?(?P<path>[^\[\]=]*?)(?:\[(?P<start>\d+):(?P<stop>\d+)\])?")


@dataclass(frozen=True)
class PartText:
    """Some entries of an observation as a study file names them: `goal = desired_goal`, `hand = observation[0:3]`, `state/pose`."""

    name: str
    path: tuple[str, ...]
    """Keys of nested dictionaries; empty where the observation is no dictionary."""
    start: int = 0
    stop: int | None = None
    """Past the last entry; None for all of them."""

    @property
    def key(self) -> str:
        """The keys, joined by a slash."""
        return "/".join(self.path)


def parse_part(text: str) -> PartText:
    """Read `NAME = KEY/KEY[START:STOP]`, of which all but the key may be left out.

    Raises:
        StudyError: it is not of this form.
    """
    match = _PART.fullmatch(text.strip())
    if match is None or not (match["path"] or match["start"]):
        raise StudyError(
            f"found observation part {text!r}; expected KEY, KEY/KEY, KEY[START:STOP] or NAME = one of these, such as 'hand = observation[0:3]'; correct it"
        )
    path = tuple(part for part in match["path"].strip().split("/") if part)
    start, stop = (int(match["start"]), int(match["stop"])) if match["start"] else (0, None)
    if stop is not None and stop <= start:
        raise StudyError(f"found observation part {text!r}, which is empty; expected START below STOP; correct it")
    return PartText(match["name"] or (path[-1] if path else "observation"), path, start, stop)


def joined_parts(entry: Callable[[tuple[str, ...]], NDArray[Any]], parts: Sequence[str]) -> NDArray[Any]:
    """(T, S) recorded observations from the (T, ...) entries of a dictionary, by its keys; `parts` are as `parse_part` reads them."""
    columns: list[NDArray[Any]] = []
    for text in parts:
        part = parse_part(text)
        rows = np.asarray(entry(part.path))
        columns.append(rows.reshape(len(rows), -1)[:, part.start : part.stop])
    return np.concatenate(columns, axis=1)


@dataclass(frozen=True)
class Part:
    """Entries of the observation under one name."""

    name: str
    path: tuple[str, ...]
    start: int
    stop: int
    kind: Literal["box", "discrete", "multi"] = "box"
    """A box's numbers as they are; one of n as n numbers of which one is 1, as Gymnasium flattens it, once or several times."""
    counts: tuple[int, ...] = ()
    """Of a discrete part: how many values each has."""
    first: tuple[int, ...] = ()
    """And which is the smallest."""

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return self.stop - self.start

    def of(self, observation: Any) -> NDArray[Any]:
        """Its numbers, from one observation of the environment.

        Raises:
            StudyError: the observation has no such entry.
        """
        leaf = observation
        for key in self.path:
            if not isinstance(leaf, Mapping) or key not in leaf:
                shown = sorted(map(str, cast("Mapping[Any, Any]", leaf))) if isinstance(leaf, Mapping) else type(leaf)
                raise StudyError(
                    f"observation: found {shown}; expected an entry {'/'.join(self.path)!r}, as the environment's space says; "
                    "correct the environment"
                )
            leaf = cast("Mapping[Any, Any]", leaf)[key]
        numbers = np.asarray(leaf).reshape(-1)
        if self.kind != "box":
            hot = np.zeros(sum(self.counts), np.float32)
            offsets = np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(int)
            hot[offsets + numbers.astype(int) - np.array(self.first, int)] = 1.0
            numbers = hot
        return numbers[self.start : self.stop]


@dataclass(frozen=True)
class ObservationCodec:
    """From an environment's observation to (S,) numbers: its parts, one after the other."""

    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """S."""
        return sum(part.size for part in self.parts)

    def flat(self, observation: Any) -> NDArray[Any]:
        """(S,) numbers of one observation, float64 where the environment's are and else float32.

        Raises:
            StudyError: it lacks an entry, or has another size than the environment's space says.
        """
        if len(self.parts) == 1:
            joined = self.parts[0].of(observation)
        else:
            joined = np.concatenate([part.of(observation) for part in self.parts])
        if joined.shape != (self.size,):
            raise StudyError(
                f"observation: found {len(joined)} numbers; expected {self.size}, as the environment's space says; correct the environment"
            )
        return joined if joined.dtype == np.float64 else joined.astype(np.float32)

    def entries(self, name: str) -> range | None:
        """Places of a part's numbers in the flat observation; None where no part has that name."""
        at = 0
        for part in self.parts:
            if part.name == name:
                return range(at, at + part.size)
            at += part.size
        return None

    def spec(self) -> list[dict[str, Any]]:
        """As JSON has it."""
        return [asdict(part) for part in self.parts]

    @staticmethod
    def of_spec(entries: Sequence[Mapping[str, Any]]) -> ObservationCodec:
        """What `spec` wrote."""
        return ObservationCodec(tuple(Part(**_with_tuples(entry)) for entry in entries))


def flat_observation(size: int) -> ObservationCodec:
    """Of an environment whose observations are a flat Box already."""
    return ObservationCodec((Part("observation", (), 0, size),))


@dataclass(frozen=True)
class ActionCodec:
    """From an environment's actions to those inside, and back. `space` is what is inside."""

    space: ActionSpace
    low: tuple[float, ...] = ()
    """(A,) smallest action of the environment; empty where it is -1 everywhere, as inside."""
    high: tuple[float, ...] = ()
    start: int = 0
    """Number of the first discrete action."""
    counts: tuple[int, ...] = ()
    """Of several discrete actions that are flattened into one: how many each has."""
    keys: tuple[tuple[str, int], ...] = ()
    """Of a dictionary of boxes that is flattened: names and sizes, in order."""
    shape: tuple[int, ...] = ()
    """Of an action with more than one axis."""
    dtype: str = "float32"

    @property
    def rescaled(self) -> bool:
        """Whether the range of the environment's actions is not [-1, 1]."""
        return bool(self.low)

    def __str__(self) -> str:
        """For messages: the environment's actions."""
        if self.counts:
            return f"MultiDiscrete({list(self.counts)})"
        if self.space.discrete:
            return f"Discrete({self.space.size}{f', start={self.start}' if self.start else ''})"
        low, high = self.bounds()
        ends = (
            (f"{low[0]:g}", f"{high[0]:g}")
            if np.ptp(low) == np.ptp(high) == 0
            else (str(low.tolist()), str(high.tolist()))
        )
        return f"Box({ends[0]}, {ends[1]}, ({self.space.size},))"

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(A,) smallest and largest action of the environment."""
        if self.low:
            return np.array(self.low), np.array(self.high)
        return -np.ones(self.space.size), np.ones(self.space.size)

    def decoded(self, action: Any) -> Any:
        """One action as the environment takes it."""
        if self.space.discrete:
            number = int(np.asarray(action).reshape(-1)[0])
            if self.counts:
                return np.array(np.unravel_index(number, self.counts), np.int64) + self.start
            return number + self.start
        numbers = np.asarray(action)
        if self.low:
            low, high = self.bounds()
            numbers = np.clip(low + (numbers.astype(np.float64) + 1.0) * (high - low) / 2.0, low, high)
        numbers = numbers.astype(self.dtype)
        if self.keys:
            ends = np.cumsum([size for _, size in self.keys])[:-1]
            return {name: part for (name, _), part in zip(self.keys, np.split(numbers, ends), strict=True)}
        return numbers.reshape(self.shape) if self.shape else numbers

    def encoded(self, action: Any) -> Any:
        """One action of the environment as it is inside: (A,) in [-1, 1], or a number from 0.

        Raises:
            DataError: the environment has no such action.
        """
        if self.keys and isinstance(action, Mapping):
            given = cast("Mapping[str, Any]", action)
            action = np.concatenate([np.asarray(given[name]).reshape(-1) for name, _ in self.keys])
        return self.encoded_rows(np.asarray(action).reshape(1, -1), "action")[0]

    def encoded_rows(self, actions: NDArray[Any], where: str) -> NDArray[Any]:
        """(T, A) or (T,) actions of the environment as they are inside: (T, A) in [-1, 1], or (T,) numbers from 0.

        Raises:
            DataError: the environment has no such action.
        """
        if self.space.discrete:
            return self._numbers(actions, where)
        rows = actions.reshape(len(actions), -1).astype(np.float64)
        low, high = self.bounds()
        return rescaled(rows, (low, high), where) if rows.shape[1] == self.space.size else rows

    def _numbers(self, actions: NDArray[Any], where: str) -> NDArray[np.int64]:
        rows = actions.reshape(len(actions), -1)
        if rows.dtype.kind not in "iubf" or (rows.dtype.kind == "f" and (rows != rows.round()).any()):
            raise DataError(
                f"{where}: found actions that are no whole numbers; expected those of {self}, as the environment has them; this is data of another environment"
            )
        whole = rows.astype(np.int64) - self.start
        if self.counts and rows.shape[1] == len(self.counts):
            low, high, sizes = whole.min(0, initial=0), whole.max(0, initial=0), np.array(self.counts)
            if (low < 0).any() or (high >= sizes).any():
                raise DataError(
                    f"{where}: found actions from {(low + self.start).tolist()} to {(high + self.start).tolist()}; expected those of {self}; "
                    "this is data of another environment"
                )
            return np.ravel_multi_index(tuple(whole.T), self.counts).astype(np.int64)
        if rows.shape[1] != 1:
            raise DataError(
                f"{where}: found actions of {rows.shape[1]} numbers; expected one whole number each, of {self}; this is data of another environment"
            )
        if len(whole) and not (whole.min() >= 0 and whole.max() < self.space.size):
            raise DataError(
                f"{where}: found whole numbers from {whole.min() + self.start} to {whole.max() + self.start} as actions; expected "
                f"{self.start} to {self.start + self.space.size - 1}, those of {self}; this is data of another environment, or of another version of it"
            )
        return whole[:, 0]

    def environment_space(self) -> gymnasium.Space[Any]:
        """The environment's action space; what was flattened stays so."""
        if self.counts:
            return spaces.MultiDiscrete(np.array(self.counts), start=np.full(len(self.counts), self.start))
        if self.space.discrete:
            return spaces.Discrete(self.space.size, start=self.start)
        low, high = self.bounds()
        return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)

    def inner_space(self) -> spaces.Box | spaces.Discrete:
        """What learners act in."""
        if self.space.discrete:
            return spaces.Discrete(self.space.size)
        return spaces.Box(-1.0, 1.0, (self.space.size,), np.float32)

    def spec(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @staticmethod
    def of_spec(entry: Mapping[str, Any]) -> ActionCodec:
        """What `spec` wrote."""
        values = _with_tuples(entry)
        values["space"] = ActionSpace(**entry["space"])
        values["keys"] = tuple((name, size) for name, size in entry["keys"])
        return ActionCodec(**values)


def _with_tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}


def rescaled(
    actions: NDArray[Any], bounds: tuple[NDArray[np.float64], NDArray[np.float64]], where: str
) -> NDArray[Any]:
    """(T, A) actions, from their range to [-1, 1]; within TOLERANCE they are clipped.

    Raises:
        DataError: an action is outside its range.
    """
    low, high = bounds
    slack = TOLERANCE * (high - low)
    outside = (actions < low - slack) | (actions > high + slack)
    if outside.any():
        row, column = (int(i) for i in np.argwhere(outside)[0])
        raise DataError(
            f"{where}: found {actions[row, column]:.4g} as number {column} of action {row}; expected values from "
            f"{low[column]:g} to {high[column]:g}; say their range with action_range = [LOW, HIGH], or clip them"
        )
    if (low == -1.0).all() and (high == 1.0).all():
        return np.clip(actions, -1.0, 1.0)
    return np.clip(2.0 * (actions - low) / (high - low) - 1.0, -1.0, 1.0)


# Reading spaces -----------------------------------------------------------------------------------------------------------


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
