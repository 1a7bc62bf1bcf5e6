"""Features and anchors of an environment that a study file names: entries of the observation, differences, distances, points."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Feature, Vocabulary, check_observations
from lago_skills.errors import StudyError
from lago_skills.worlds.grounding import Grounding, Nouns
from lago_skills.worlds.gym.spaces import ObservationCodec
from lago_skills.worlds.interface import Entry

if TYPE_CHECKING:
    from lago_skills.worlds.gym.config import FeatureConfig

Reference = int | str
"""An entry of the flat observation by number; or entries of a part: `goal`, `goal[0]`, `goal[0:2]`."""
_NAMED = re.compile(r"(?P<name>[\w/-]+)(?:\[(?P<start>\d+)(?::(?P<stop>\d+))?\])?")
REACH = 10.0
"""Offsets of plans are at most so many times as large as anchors are usually apart."""
LARGEST_INPUT = 10.0
"""What the decoder sees of an entry that no feature names: symmetric logarithm, at most this."""


def places(reference: Reference, observations: ObservationCodec, where: str) -> NDArray[np.int64]:
    """(n,) entries of the flat observation that a reference means.

    Raises:
        StudyError: it has no such entries.
    """
    size = observations.size
    if isinstance(reference, int):
        if not 0 <= reference < size:
            raise StudyError(
                f"found {where} = {reference}; expected 0 to {size - 1}, the entries of the observation; correct it"
            )
        return np.array([reference], np.int64)
    match = _NAMED.fullmatch(reference.strip())
    inside = observations.entries(match["name"].rpartition("/")[2]) if match else None
    names = [f"{part.name} ({part.size} numbers)" for part in observations.parts]
    if match is None or inside is None:
        raise StudyError(
            f"found {where} = {reference!r}; expected the number of an entry, or NAME, NAME[I] or NAME[I:J] of {', '.join(names)}; correct it"
        )
    start = int(match["start"] or 0)
    stop = int(match["stop"]) if match["stop"] else (start + 1 if match["start"] else len(inside))
    if not 0 <= start < stop <= len(inside):
        raise StudyError(
            f"found {where} = {reference!r}, and {len(inside)} numbers there; expected entries from 0 to {len(inside) - 1}; correct it"
        )
    return np.array(inside[start:stop], np.int64)


def named_entries(observations: ObservationCodec, features: Mapping[str, FeatureConfig]) -> tuple[Entry, ...]:
    """What each number of the observation is: by the feature that is this number, where there is one, else by its part."""
    by_place: dict[int, tuple[str, FeatureConfig]] = {}
    for name, feature in features.items():
        if feature.index is not None or feature.key is not None:
            reference = feature.index if feature.key is None else feature.key
            if feature.key is not None and feature.index is not None:
                reference = f"{feature.key}[{feature.index}]"
            assert reference is not None
            (place, *_) = places(reference, observations, name).tolist()
            by_place.setdefault(place, (name, feature))
    entries: list[Entry] = []
    start = 0
    for part in observations.parts:
        run = 0
        for place in range(start, start + part.size):
            known = by_place.get(place)
            if known is None:
                run += 1
                continue
            if run:
                entries.append(Entry(part.name, run))
            name, feature = known
            entries.append(Entry(name, 1, feature.unit, *feature.range, feature.sentence))
            run = 0
        if run:
            entries.append(Entry(part.name, run))
        start += part.size
    return tuple(entries)


@dataclass(frozen=True)
class _Reading:
    """How one feature is computed: from `first`, or between `first` and `second`."""

    first: NDArray[np.int64]
    second: NDArray[np.int64] | None = None
    distance: bool = False

    def of(self, observations: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B, S) -> (B,)."""
        values = observations[:, self.first]
        if self.second is not None:
            values = values - observations[:, self.second]
        return np.linalg.norm(values, axis=1) if self.distance else values[:, 0]


def _reading(
    where: str, config: FeatureConfig, observations: ObservationCodec, anchors: Mapping[str, NDArray[np.int64]]
) -> _Reading:

    def entries(reference: Reference, what: str) -> NDArray[np.int64]:
        if isinstance(reference, str) and reference in anchors:
            return anchors[reference]
        return places(reference, observations, f"{where}.{what}")

    if config.index is not None:
        if config.key is not None:
            return _Reading(entries(f"{config.key}[{config.index}]", "index"))
        return _Reading(entries(config.index, "index"))
    if config.key is not None:
        found = entries(config.key, "key")
        if len(found) != 1:
            raise StudyError(
                f"found {where}.key = {config.key!r}, of {len(found)} numbers; expected one; add index = 0 to {len(found) - 1}"
            )
        return _Reading(found)
    what = "difference" if config.difference is not None else "distance"
    pair = config.difference or config.distance
    assert pair is not None  # the configuration has one of them
    first, second = (entries(reference, what) for reference in pair)
    if len(first) != len(second) or (what == "difference" and len(first) != 1):
        raise StudyError(
            f"found {where}.{what} = {list(pair)}, of {len(first)} and {len(second)} numbers; expected "
            f"{'one number each' if what == 'difference' else 'as many of each'}; correct it"
        )
    return _Reading(first, second, distance=what == "distance")


class NamedFeatures(Grounding):
    """What a study file names of a flat observation. With anchors, steps have targets, and the decoder sees the heading to them.

    Raises:
        StudyError: no feature, entries that the observation does not have, or two names for the same.
    """

    def __init__(
        self,
        features: Mapping[str, FeatureConfig],
        anchors: Mapping[str, Reference | Sequence[Reference]],
        world: str,
        observations: ObservationCodec,
        action_space: ActionSpace,
        *,
        section: str = "world",
        anchor_unit: str = "m",
        anchor_range: float = 1.0,
        nouns: Nouns | None = None,
    ) -> None:
        if not features:
            raise StudyError(
                f"found [{section}] without features; expected names for entries of the observation, since plans speak about them; add "
                f"[{section}.features.NAME], or name a class with {section}.grounding"
            )
        self.observation_size, self.action_space, self.world = observations.size, action_space, world
        self.observation_parts = observations.names
        """Name and size of each part of the observation, in order."""
        self._points = {name: _point(f"{section}.anchors.{name}", each, observations) for name, each in anchors.items()}
        if len({len(point) for point in self._points.values()}) > 1:
            sizes = {name: len(point) for name, point in self._points.items()}
            raise StudyError(
                f"found anchors of different sizes, {sizes}; expected all in the plane (2) or all in space (3); correct them"
            )
        self._readings = {
            name: _reading(f"{section}.features.{name}", each, observations, self._points)
            for name, each in features.items()
        }
        for name, each in features.items():
            if not each.range[0] < each.range[1]:
                raise StudyError(
                    f"found {section}.features.{name}.range = [{each.range[0]:g}, {each.range[1]:g}]; expected the smallest value first; correct it"
                )
        _check_names(section, self._readings)
        size = len(next(iter(self._points.values()))) if self._points else 0
        self.vocabulary = Vocabulary(
            tuple(Feature(name, f.unit, f.sentence, *f.range) for name, f in features.items()),
            tuple(self._points),
            size,
            anchor_unit,
            largest_offset=max(1.0, REACH * anchor_range),
        )
        self.heading_size = 2 * size
        self.nouns = nouns or Nouns()
        self._anchor_range = anchor_range
        self._middle = np.array([sum(f.range) / 2 for f in features.values()])
        self._half = np.array([(f.range[1] - f.range[0]) / 2 for f in features.values()])
        named = {int(r.first[0]) for r in self._readings.values() if r.second is None}
        self._rest = np.array([i for i in range(observations.size) if i not in named], np.int64)

    def read(self, observations: NDArray[Any]) -> NamedState:
        """(B, S) observations -> what they say.

        Raises:
            ShapeError: wrong observation size, or values that are not finite.
        """
        check_observations(observations, self.observation_size)
        rows = observations.astype(np.float64)
        values = np.stack([reading.of(rows) for reading in self._readings.values()], axis=1)
        scaled = np.clip((values - self._middle) / self._half, -LARGEST_INPUT, LARGEST_INPUT)
        rest = rows[:, self._rest]
        rest = np.clip(np.sign(rest) * np.log1p(np.abs(rest)), -LARGEST_INPUT, LARGEST_INPUT)
        points = [rows[:, point] for point in self._points.values()]
        anchors = np.stack(points, axis=1) if points else np.zeros((len(rows), 0, 0))
        return NamedState(
            values, anchors, np.concatenate([scaled, rest], axis=1).astype(np.float32), self._anchor_range
        )


def _point(
    where: str, references: Reference | Sequence[Reference], observations: ObservationCodec
) -> NDArray[np.int64]:
    listed = [references] if isinstance(references, (int, str)) else list(references)
    point = np.concatenate([places(each, observations, where) for each in listed])
    if len(point) not in (2, 3):
        raise StudyError(
            f"found {where} = {references!r}, of {len(point)} numbers; expected 2, in the plane, or 3, in space; correct it"
        )
    return point


def _check_names(section: str, readings: Mapping[str, _Reading]) -> None:
    known: dict[tuple[Any, ...], str] = {}
    for name, reading in readings.items():
        key = (tuple(reading.first), None if reading.second is None else tuple(reading.second), reading.distance)
        if key in known:
            what = f"index {reading.first[0]}" if reading.second is None else "the same two entries"
            raise StudyError(
                f"found {section}.features.{name} and .{known[key]} both with {what}; expected one name each; remove one"
            )
        known[key] = name


@dataclass(frozen=True)
class NamedState:
    """Features and anchors of a batch of observations."""

    values: NDArray[np.float64]  # (B, F)
    anchors: NDArray[np.float64]  # (B, n_anchors, D)
    context: NDArray[np.float32]  # (B, C), all features by their ranges to -1..1, then entries that none names
    anchor_range: float

    def inputs(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """(B, D) targets -> (B, I): the heading, far and near, of anchors the acting point's way to each, then the context."""
        if not self.anchors.shape[1]:
            return self.context
        acting = self.anchors[:, 0]
        ways = [targets - acting, *(self.anchors[:, i] - acting for i in range(1, self.anchors.shape[1]))]
        seen = [each for way in ways for each in (way / self.anchor_range, np.tanh(20.0 * way / self.anchor_range))]
        return np.concatenate([*seen, self.context], axis=1).astype(np.float32)
