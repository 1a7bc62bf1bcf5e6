"""What is searched: an immutable base index, and beside it the few skills that changed since it was made.

A reader holds one `Snapshot`; a newer one takes its place in a single assignment, so searches need no lock and never see half a
change. Small changes cost the same whatever the size of the library; a base is made anew when too much has changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Neighbors
from lago_skills.library import index
from lago_skills.library.index import Bitmap, LatentIndex

SMALL = 4096
"""Libraries up to this size get a new base with every change: it takes a tenth of a millisecond."""
DELTA_MAX = 20_000
"""Most changed skills beside a base. Above, a new base is due."""
SUBSET_EXACT_MAX = 20_000
"""A filter that leaves at most this many skills is searched exactly, whatever the index of the library."""


@dataclass(frozen=True)
class Base:
    """Active skills as of one change, indexed."""

    ids: NDArray[np.int64]  # (N,), ascending
    vectors: NDArray[np.float32]  # (N, Z), unit
    index: LatentIndex
    change: int
    generation: int

    @property
    def last_id(self) -> int:
        """Highest id; 0 without any."""
        return int(self.ids[-1]) if len(self.ids) else 0

    def positions(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """(M,) ids -> their rows; -1 where the base does not have them."""
        if not len(self.ids):
            return np.full(len(ids), -1, np.int64)
        rows = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[rows] == ids, rows, -1)


@dataclass
class Delta:
    """Skills that changed since the base. Rows are only ever appended, or struck out; room doubles when it is used up."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    alive: NDArray[np.bool_]
    n: int = 0
    row_of: dict[int, int] = field(default_factory=dict[int, int])

    @staticmethod
    def empty(latent_size: int) -> Delta:
        """Nothing changed yet."""
        return Delta(np.zeros(64, np.int64), np.zeros((64, latent_size), np.float32), np.zeros(64, np.bool_))

    def drop(self, skill_id: int) -> None:
        """Strike a skill out, if it is here."""
        row = self.row_of.pop(skill_id, None)
        if row is not None:
            self.alive[row] = False

    def append(self, skill_id: int, latent: NDArray[np.float32]) -> None:
        """Add a skill, in place of its earlier form."""
        self.drop(skill_id)
        if self.n == len(self.ids):
            self.ids = np.concatenate([self.ids, np.zeros_like(self.ids)])
            self.alive = np.concatenate([self.alive, np.zeros_like(self.alive)])
            self.vectors = np.concatenate([self.vectors, np.zeros_like(self.vectors)])
        self.ids[self.n], self.vectors[self.n], self.alive[self.n] = skill_id, latent, True
        self.row_of[skill_id] = self.n
        self.n += 1


@dataclass(frozen=True)
class Snapshot:
    """One state of a library, as searches see it."""

    base: Base
    change: int
    dead: frozenset[int]
    """Ids of the base that are no longer what they were."""
    live: Bitmap | None
    """Ids of the base that still are; None while all are."""
    delta: Delta
    n_delta: int
    subsets: dict[tuple[str, ...], Subset] = field(default_factory=dict["tuple[str, ...]", "Subset"])

    @property
    def latent_size(self) -> int:
        """Z."""
        return self.base.vectors.shape[1]

    @property
    def size(self) -> int:
        """Active skills."""
        return len(self.base.ids) - len(self.dead) + len(self.delta.row_of)

    @property
    def stale(self) -> int:
        """Rows that a search has to look at beside the base, or to pass over in it."""
        return self.n_delta + len(self.dead)

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbors:
        """(B, Z) unit queries -> the k nearest active skills."""
        if self.live is None:
            scores, ids = self.base.index.search(queries, k)
        else:
            scores, ids = self.base.index.search_among(queries, k, self.live)
        if self.n_delta:
            scores, ids = self._with_delta(queries, k, scores, ids)
        return _neighbors(scores, ids)

    def _with_delta(
        self, queries: NDArray[np.float32], k: int, scores: NDArray[np.float32], ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        delta, n = self.delta, self.n_delta
        more = np.where(delta.alive[:n], queries @ delta.vectors[:n].T, -np.inf)  # (B, n)
        if n > k:
            best = np.argpartition(-more, k - 1, axis=1)[:, :k]
            more = np.take_along_axis(more, best, axis=1)
            more_ids = delta.ids[best]
        else:
            more_ids = np.broadcast_to(delta.ids[:n], more.shape)
        scores = np.concatenate([scores, more], axis=1)
        ids = np.concatenate([ids, np.where(np.isfinite(more), more_ids, -1)], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)

    def vectors_of(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(M,) ids -> (M, Z) latents, and which of them were found here."""
        rows = self.base.positions(ids)
        known = rows >= 0
        vectors = np.zeros((len(ids), self.base.vectors.shape[1]), np.float32)
        vectors[known] = self.base.vectors[rows[known]]
        if self.delta.row_of or self.dead:
            for i, skill_id in enumerate(ids.tolist()):
                row = self.delta.row_of.get(skill_id)
                if row is not None:
                    vectors[i], known[i] = self.delta.vectors[row], True
                elif skill_id in self.dead:
                    known[i] = False
        return vectors, known

    def all(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids and latents of all active skills, by id."""
        if not self.stale:
            return self.base.ids, self.base.vectors
        keep = np.ones(len(self.base.ids), np.bool_)
        keep[self.base.positions(np.array(sorted(self.dead), np.int64))] = False
        rows = np.array(sorted(self.delta.row_of.values()), np.int64)
        ids = np.concatenate([self.base.ids[keep], self.delta.ids[rows]])
        vectors = np.concatenate([self.base.vectors[keep], self.delta.vectors[rows]])
        order = np.argsort(ids)
        return ids[order], vectors[order]

    def subset(self, ids: NDArray[np.int64]) -> Subset:
        """What a search among some ids needs."""
        if len(ids) <= SUBSET_EXACT_MAX:
            vectors, known = self.vectors_of(ids)
            return Subset(index.build_exact(ids[known], vectors[known]), None)
        if self.stale:  # rare: a large filter on a library that has just changed
            every, vectors = self.all()
            keep = np.isin(every, ids)
            return Subset(index.build_exact(every[keep], vectors[keep]), None)
        return Subset(self.base.index, Bitmap(np.intersect1d(ids, self.base.ids), self.base.last_id))


@dataclass(frozen=True)
class Subset:
    """Skills that a filter leaves: an index of their own, or a mask over the whole."""

    index: LatentIndex
    allowed: Bitmap | None

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbors:
        """(B, Z) unit queries -> the k nearest of them."""
        if self.allowed is None:
            return _neighbors(*self.index.search(queries, k))
        return _neighbors(*self.index.search_among(queries, k, self.allowed))


def _neighbors(scores: NDArray[np.float32], ids: NDArray[np.int64]) -> Neighbors:
    if (len(ids) == 1 and ids[0, -1] < 0) or (len(ids) > 1 and (ids[:, -1] < 0).any()):
        scores = np.where(ids >= 0, scores, np.float32(-np.inf))
    return Neighbors(ids, scores)


def advance(before: Snapshot, changed: list[tuple[int, bool, NDArray[np.float32]]], change: int) -> Snapshot:
    """The snapshot after some skills changed: (id, whether it is active, its latent)."""
    base, delta = before.base, before.delta
    dead = set(before.dead)
    rows = base.positions(np.array([skill_id for skill_id, _, _ in changed], np.int64))
    for (skill_id, active, latent), row in zip(changed, rows.tolist(), strict=True):
        delta.drop(skill_id)
        if active and row >= 0 and np.array_equal(base.vectors[row], latent):
            dead.discard(skill_id)  # as the base has it
            continue
        if row >= 0:
            dead.add(skill_id)
        if active:
            delta.append(skill_id, latent)
    frozen = frozenset(dead)
    live = before.live
    if frozen != before.dead:
        live = None
        if frozen:
            keep = np.setdiff1d(base.ids, np.fromiter(frozen, np.int64), assume_unique=True)
            live = Bitmap(keep, base.last_id)
    return Snapshot(base, change, frozen, live, delta, delta.n)


def from_base(base: Base) -> Snapshot:
    """A snapshot in which nothing has changed since its base was made."""
    return Snapshot(base, base.change, frozenset(), None, Delta.empty(base.vectors.shape[1]), 0)
