"""An environment's own spaces, and the one form that everything inside works with: (S,) numbers, and actions in [-1, 1]^A or numbered from 0.

Nothing else converts: recorded data, demonstrations, training, evaluation, priors and exports all pass through these codecs.
"""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

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

    @property
    def names(self) -> tuple[tuple[str, int], ...]:
        """Name and size of each part, in order."""
        return tuple((part.name, part.size) for part in self.parts)

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
