"""Keeps what is searched in step with the store: loads or makes the index, takes in changes, makes new bases in the background.

A reader asks for `snapshot()` and searches that. The snapshot is looked at again after POLL_S, or at once after a change of
this process's own.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from lago_skills.library import cache, index
from lago_skills.library.storage import schema
from lago_skills.library.storage.snapshot import DELTA_MAX, SMALL, Base, Snapshot, Subset, advance, from_base
from lago_skills.library.storage.store import SkillStore

POLL_S = 0.2
"""How often a reader looks whether another process has changed the library."""


class Follower:
    """The present snapshot of a store. Its locks are taken in one order everywhere: the store's, then its own."""

    def __init__(self, store: SkillStore) -> None:
        self.store = store
        self.cache_problem: str | None = None
        """Why the index on disk was thrown away when the library was opened, if it was."""
        self._refreshing = threading.Lock()
        self._folding: threading.Thread | None = None
        self._numbers = itertools.count(1)  # one for each change of this process
        self._latest = 0  # number of the latest change
        self._seen = 0  # number of the latest that the snapshot has
        self._behind = False  # the store has latents of a newer generation, and there are too many to read them at once
        self._due = 0.0
        self._data_version: int = -1
        with store.as_of_now():
            self._snapshot = self._load()
        self._fold_if_due()

    def snapshot(self) -> Snapshot:
        """What to search: as of the last POLL_S at most, and never older than this process's own last change."""
        if self._seen != self._latest or time.monotonic() >= self._due:
            self._keep_up()
        return self._snapshot

    def changed(self) -> None:
        """This process has changed the store: its next search, in whatever thread, has to see it."""
        self._latest = next(self._numbers)

    def subset(self, snapshot: Snapshot, tasks: tuple[str, ...]) -> Subset:
        """What a search among the skills of some tasks needs; made once for each snapshot."""
        subset = snapshot.subsets.get(tasks)
        if subset is None:
            ids = self.store.task_ids(tasks)
            with self._refreshing:
                subset = snapshot.subset(ids)
            snapshot.subsets[tasks] = subset
        return subset

    def settle(self) -> None:
        """Wait for an index that is being made in the background, if one is."""
        if self._folding is not None:
            self._folding.join()

    def compact(self) -> None:
        """Make the index anew from what is there, now, and keep it on disk."""
        self._keep_up()
        self.settle()
        self._keep_up()
        if self._snapshot.stale or self._fold_is_due():
            self._fold()
        else:
            self.save()

    # Loading and catching up ------------------------------------------------------------------------------------------

    def _load(self) -> Snapshot:
        self._data_version = self.store.data_version()
        change, generation = self.store.state()
        base = self._cached(change, generation)
        if base is None or self.store.count_changed(base.change) > DELTA_MAX:
            base = _read_base(self.store, change, generation)
        self._due = self._next_check()
        return self._advanced(from_base(base))

    def _cached(self, change: int, generation: int) -> Base | None:
        if self.store.folder is None:
            return None
        for attempt in (1, 2):  # another process may just be putting a newer one in place
            try:
                return cache.load(self.store.folder, self.store.library_id, generation, change)
            except cache.CacheProblem as problem:
                if attempt == 2:
                    self.cache_problem = str(problem)
        return None

    def _next_check(self) -> float:
        return float("inf") if self.store.mode == "frozen" else time.monotonic() + POLL_S

    def _keep_up(self) -> None:
        """Bring the snapshot up to date with the store, if something has changed; never waits for a reader of long lists."""
        guard, refreshing = self.store.guard, self._refreshing
        behind = self._seen != self._latest
        if not guard.acquire(blocking=behind):
            return  # a long list is being read; look again at the next search
        try:
            if self.store.connection.in_transaction or not refreshing.acquire(blocking=behind):
                return  # in the middle of a change of our own, or another thread is at it
            try:
                latest = self._latest
                moved = self.store.follow() or self._seen != latest
                version = self.store.data_version()
                if moved or version != self._data_version:
                    with self.store.as_of_now():
                        self._snapshot = self._advanced(self._snapshot)
                # Last, so that no other thread takes the old snapshot for the new one.
                self._data_version, self._seen, self._due = version, latest, self._next_check()
            finally:
                refreshing.release()
        finally:
            guard.release()
        self._fold_if_due()

    def _advanced(self, snapshot: Snapshot) -> Snapshot:
        change, generation = self.store.state()
        if generation != snapshot.base.generation:
            if len(snapshot.base.ids) > index.EXACT_MAX and self.store.folder is not None:
                self._behind = True
                return snapshot  # the old latents until the new ones are indexed
            return from_base(_read_base(self.store, change, generation))
        if change == snapshot.change:
            return snapshot
        changed = [(row.id, row.active, schema.vector(row.latent)) for row in self.store.changed_since(snapshot.change)]
        snapshot = advance(snapshot, changed, change)
        if snapshot.stale and snapshot.size <= SMALL:
            ids, vectors = snapshot.all()
            return from_base(Base(ids, vectors, index.build_exact(ids, vectors), change, generation))
        return snapshot

    # New bases --------------------------------------------------------------------------------------------------------

    def _fold_is_due(self) -> bool:
        snapshot = self._snapshot
        wrong_kind = snapshot.size > index.EXACT_MAX and snapshot.base.index.kind == "exact"
        return self._behind or wrong_kind or snapshot.stale > DELTA_MAX

    def _fold_if_due(self) -> None:
        """Make a new base in the background when too much has changed beside the old one; searches go on meanwhile."""
        if self._fold_is_due() and not (self._folding is not None and self._folding.is_alive()):
            self._folding = threading.Thread(target=self._fold, name="lago-library-fold")
            self._folding.start()

    def _fold(self) -> None:
        base = self._reread() if self._behind else self._folded()
        with self.store.guard, self._refreshing, self.store.as_of_now():
            self._snapshot = self._advanced(from_base(base))
        self.save(base)

    def _folded(self) -> Base:
        with self._refreshing:  # rows beside the base are shared with the next snapshot
            snapshot = self._snapshot
            ids, vectors = snapshot.all()
        built = index.build(ids, vectors, snapshot.base.index)
        return Base(ids, vectors, built, snapshot.change, snapshot.base.generation)

    def _reread(self) -> Base:
        """A base of a newer generation, read over a connection of its own, so that nobody waits."""
        assert self.store.folder is not None
        self._behind = False
        reader = SkillStore(self.store.folder, "read", self.store.timeout_s)
        try:
            with reader.as_of_now():
                read = _read_base(reader, *reader.state())
        finally:
            reader.close()
        return Base(read.ids, read.vectors, index.build(read.ids, read.vectors), read.change, read.generation)

    def save(self, base: Base | None = None, *, always: bool = False) -> None:
        """Keep an index on disk, unless the library is small, cannot be written, or another process is doing the same.

        `always` keeps it for a copy that was just made and is opened frozen.
        """
        folder, base = self.store.folder, base or self._snapshot.base
        if folder is None or (self.store.mode != "write" and not always) or len(base.ids) <= SMALL:
            return
        try:
            with FileLock(folder / "index.lock", blocking=False):
                if self.cache_problem is not None or not self._is_on_disk(base):
                    cache.save(folder, self.store.library_id, base)
                    self.cache_problem = None
        except Timeout:
            return
        except OSError as error:  # a cache that cannot be kept is no reason to fail
            self.cache_problem = f"the index could not be kept on disk ({error})"

    def _is_on_disk(self, base: Base) -> bool:
        assert self.store.folder is not None
        with contextlib.suppress(cache.CacheProblem):
            manifest = cache.read_manifest(self.store.folder)
            return manifest is not None and (manifest.library_id, manifest.change) == (
                self.store.library_id,
                base.change,
            )
        return False


def _read_base(store: SkillStore, change: int, generation: int) -> Base:
    """All active skills as the store has them, with an exact index (cells are made in the background)."""
    size = int(store.value("latent_size"))
    ids: list[int] = []
    latents: list[bytes] = []
    for row in store.rows("WHERE enabled AND merged_into IS NULL ORDER BY id"):
        ids.append(row.id)
        latents.append(row.latent)
    vectors: NDArray[np.float32] = np.frombuffer(b"".join(latents), "<f4").reshape(len(ids), size)
    numbers = np.array(ids, np.int64)
    return Base(numbers, vectors, index.build_exact(numbers, vectors), change, generation)
