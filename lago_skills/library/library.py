"""The skill library: records that are never lost, found in microseconds while they change.

    with SkillLibrary.open(Path("data/libraries/demo"), mode="write") as library:
        skill = library.add("open the door by its handle", latent)
        library.search(queries, k=8)

The store (SQLite) is the truth; the index (FAISS) is a cache of it in memory and, for larger libraries, on disk. Every
change is durable when its method returns, and is one version more in the history of each skill it touches. Other processes
that have the library open find the change within a quarter of a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Neighbors, Skill, skill_name
from lago_skills.errors import ShapeError
from lago_skills.library import cache, edits, index, schema, store
from lago_skills.library.checks import NewSkill, check_embedding, check_latents, check_sentence
from lago_skills.library.edits import Encoder
from lago_skills.library.schema import provenance_tasks
from lago_skills.library.snapshot import DELTA_MAX, SMALL, Base, Snapshot, Subset, advance, from_base
from lago_skills.library.store import Change, Mode, SkillStore, Transaction

POLL_S = 0.2
"""How often a reader looks whether another process has changed the library."""


class SkillLibrary:
    """Skills with nearest-neighbour search over the enabled ones. Searches may run in several threads at once.

    Use `create`, `open` or `in_memory`.
    """

    def __init__(self, opened: SkillStore) -> None:
        self.store = opened
        self.folder = opened.folder
        self.cache_problem: str | None = None
        """Why the index on disk was thrown away when the library was opened, if it was."""
        self._refreshing = threading.Lock()
        self._folding: threading.Thread | None = None
        self._dirty = False
        self._due = 0.0
        self._data_version = -1
        self._snapshot = self._load()
        self._fold_if_due()

    @staticmethod
    def create(folder: Path, latent_size: int, decoder: str = "") -> SkillLibrary:
        """A new, empty library. `decoder` names whose latents it will hold.

        Raises:
            LibraryConflict: there is one already.
            LibraryReadOnly: the folder cannot be written.
        """
        store.create(folder, latent_size, decoder)
        return SkillLibrary.open(folder, mode="write")

    @staticmethod
    def open(folder: Path, mode: Mode = "read", timeout_s: float = 10.0) -> SkillLibrary:
        """A library for reading (the default), for writing too, or frozen (a file that nobody changes, such as a bundle's).

        `timeout_s` is how long a change waits for another writer.

        Raises:
            LibraryDamaged: it cannot be read; `lago skills verify` says what is wrong.
            FormatTooNew: a newer version of this package wrote it.
            LibraryReadOnly: it can only be opened where its folder can be written.
        """
        return SkillLibrary(SkillStore(folder, mode, timeout_s))

    @staticmethod
    def in_memory(latent_size: int, skills: Iterable[NewSkill] = (), decoder: str = "") -> SkillLibrary:
        """A library that lives as long as its process."""
        library = SkillLibrary(store.memory_store(latent_size, decoder))
        library.add_many(list(skills))
        return library

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; waits for an index that is just being made."""
        self.settle()
        self.store.close()

    def settle(self) -> None:
        """Wait for an index that is being made in the background, if one is."""
        if self._folding is not None:
            self._folding.join()

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def latent_size(self) -> int:
        """Z: numbers in a latent."""
        if time.monotonic() >= self._due:
            self._keep_up()
        return self._snapshot.base.vectors.shape[1]

    @property
    def change(self) -> int:
        """Number of the change that searches see; grows by one with every acknowledged change."""
        if time.monotonic() >= self._due:
            self._keep_up()
        return self._snapshot.change

    @property
    def n_active(self) -> int:
        """Skills that searches can find."""
        self._keep_up()
        return self._snapshot.size

    @property
    def index_kind(self) -> index.Kind:
        """How searches find neighbours at the library's present size."""
        return self._snapshot.base.index.kind

    @property
    def decoder(self) -> str:
        """Whose latents these are."""
        return self.store.value("decoder")

    @property
    def generation(self) -> int:
        """Number of the latent space: grows when all latents are replaced."""
        return self.store.state()[1]

    def __len__(self) -> int:
        """All records, disabled and merged ones included."""
        return self.store.count()

    def search(self, latents: NDArray[Any], k: int, tasks: Sequence[str] | None = None) -> Neighbors:
        """(B, Z) query latents -> the k nearest enabled skills by cosine, best first; -1 where there are fewer.

        With `tasks`, only skills that come from one of them are looked at.

        Raises:
            ShapeError: wrong latent size, values that are not finite, a zero vector, or k below 1.
        """
        if time.monotonic() >= self._due:
            self._keep_up()
        snapshot = self._snapshot
        size = snapshot.latent_size
        if latents.ndim != 2 or latents.shape[1] != size or k < 1:
            raise ShapeError(
                f"library search: found queries {latents.shape} and k = {k}; expected (B, {size}) and k of at "
                "least 1; query with latents of the decoder this library was made with"
            )
        queries = np.ascontiguousarray(latents, np.float32)
        squares = np.einsum("bz,bz->b", queries, queries)
        if not _all_near_one(squares):
            check_latents(latents, "query latents", unit=False)
            queries = queries / np.sqrt(squares)[:, None]
        if tasks is None:
            return snapshot.search(queries, k)
        return self._subset(snapshot, tuple(sorted(set(tasks)))).search(queries, k)

    def _subset(self, snapshot: Snapshot, tasks: tuple[str, ...]) -> Subset:
        found = snapshot.subsets.get(tasks)
        if found is None:
            ids = self.store.task_ids(tasks)
            with self._refreshing:
                found = snapshot.subset(ids)
            snapshot.subsets[tasks] = found
        return found

    def latents(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """(...,) skill ids -> (..., Z) latents; -1 gives zeros.

        Raises:
            LibraryConflict: an id that the library has never had.
        """
        flat = ids.reshape(-1)
        vectors, found = self._snapshot.vectors_of(flat)
        for i in np.flatnonzero(~found & (flat >= 0)):
            vectors[i] = schema.vector(self.store.row(int(flat[i])).latent)
        return vectors.reshape(*ids.shape, self.latent_size)

    def get(self, skill_id: int) -> Skill:
        """The record with that id.

        Raises:
            LibraryConflict: no such id.
            LibraryDamaged: its bytes do not match their checksum.
        """
        row = self.store.row(skill_id)
        return schema.skill(row, self.store.embeddings([row.sentence]).get(row.sentence))

    def list(
        self,
        *,
        contains: str = "",
        task: str | None = None,
        enabled: bool | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[Skill]:
        """Records by id: those whose sentence contains a text, that come from a task, that are enabled or not.

        `after` and `limit` page through large libraries.
        """
        clauses, values = ["skill.id > ?"], [after, *[f"%{_escape(contains)}%"][: bool(contains)]]
        if contains:
            clauses.append("sentence LIKE ? ESCAPE '\\'")
        if task is not None:
            clauses.append("id IN (SELECT id FROM task WHERE name = ?)")
            values.append(task)
        if enabled is not None:
            clauses.append("enabled = ?")
            values.append(int(enabled))
        values.append(-1 if limit is None else limit)
        found = self.store.rows(f"WHERE {' AND '.join(clauses)} ORDER BY id LIMIT ?", tuple(values))
        return [schema.skill(row) for row in found]

    def history(self, skill_id: int) -> list[tuple[Change, Skill]]:
        """All versions of a skill, latest first, each with the change that made it.

        Raises:
            LibraryConflict: no such id.
        """
        self.store.row(skill_id)
        changes = {change.id: change for change in self.store.changes()}
        rows = self.store.rows("WHERE id = ? ORDER BY version DESC", (skill_id,), table="version")
        return [(changes[row.change], schema.skill(row)) for row in rows]

    def changes(self, limit: int = 20) -> list[Change]:
        """The latest changes of the library, latest first."""
        return self.store.changes(limit)

    def tasks(self) -> dict[str, int]:
        """Number of skills by task."""
        return self.store.tasks()

    # -- changing ------------------------------------------------------------------------------------------------------

    def add(
        self,
        sentence: str,
        latent: NDArray[Any],
        *,
        embedding: NDArray[Any] | None = None,
        provenance: dict[str, Any] | None = None,
        support: dict[str, float] | None = None,
        who: str | None = None,
    ) -> int:
        """Add one skill; returns its id. See `edits` for near duplicates.

        Raises:
            ShapeError: a latent of the wrong size, not finite or not of unit length.
            LibraryConflict: an empty or endless sentence, or provenance that is not JSON.
            LibraryBusy: another writer was at work all the time.
            LibraryReadOnly: the library cannot be written.
            DiskFull: no room; nothing was changed.
        """
        return self.add_many([NewSkill(sentence, latent, embedding, provenance or {}, support or {})], who=who)[0]

    def add_many(self, skills: Sequence[NewSkill], who: str | None = None) -> list[int]:
        """Add skills as one change: all of them or none; returns their ids, in order.

        Raises:
            LagoError: as for `add`.
        """
        if not skills:
            return []
        for skill in skills:
            check_sentence(skill.sentence)
        texts = [skill.texts for skill in skills]
        latents = check_latents(_stacked(skills, int(self.store.value("latent_size"))), "latents of new skills")
        with self.changing("add", who, f"{len(skills)} skills") as change:
            ids = [
                change.add(s.sentence, latent.tobytes(), *details, provenance_tasks(s.provenance), enabled=s.enabled)
                for s, latent, details in zip(skills, latents, texts, strict=True)
            ]
            for skill in skills:
                if skill.embedding is not None:
                    change.embed(skill.sentence, check_embedding(skill.embedding))
        return ids

    def edit(
        self,
        skill_id: int,
        *,
        sentence: str | None = None,
        latent: NDArray[Any] | None = None,
        embedding: NDArray[Any] | None = None,
        provenance: dict[str, Any] | None = None,
        support: dict[str, float] | None = None,
        who: str | None = None,
    ) -> Skill:
        """Change what is given; returns the new version. Words do not move a skill: give the latent of the new sentence too.

        Raises:
            LibraryConflict: no such skill, it was merged into another, or the new content is not valid.
            ShapeError: a latent of the wrong size, not finite or not of unit length.
            LagoError: as for `add`.
        """
        given = edits.Edit(sentence, latent, embedding, provenance, support)
        size = int(self.store.value("latent_size"))
        with self.changing("edit", who, skill_name(skill_id)) as change:
            edits.edit(self.store, change, skill_id, given, size)
        return self.get(skill_id)

    def disable(self, skill_id: int, who: str | None = None) -> None:
        """Keep a skill, but let no search find it.

        Raises:
            LibraryConflict: no such skill, or it was merged into another.
            LagoError: as for `add`.
        """
        with self.changing("disable", who, skill_name(skill_id)) as change:
            edits.switch(self.store, change, skill_id, enabled=False)

    def enable(self, skill_id: int, who: str | None = None) -> None:
        """Let searches find a disabled skill again.

        Raises:
            LibraryConflict: no such skill, or it was merged into another.
            LagoError: as for `add`.
        """
        with self.changing("enable", who, skill_name(skill_id)) as change:
            edits.switch(self.store, change, skill_id, enabled=True)

    def merge(self, ids: Sequence[int], into: int, who: str | None = None) -> Skill:
        """Let one skill stand for others: support and provenance are added up, the others point to it. Returns it.

        Raises:
            LibraryConflict: no such skill, one that was merged before, or a skill into itself.
            LagoError: as for `add`.
        """
        with self.changing("merge", who, f"{', '.join(map(skill_name, ids))} into {skill_name(into)}") as change:
            edits.merge(self.store, change, list(dict.fromkeys(ids)), into)
        return self.get(into)

    def undo(self, change: int | None = None, who: str | None = None, encode: Encoder | None = None) -> list[int]:
        """Take a change back (the latest without a number): each skill it touched gets its earlier content as a new version.

        A skill that the change added is disabled. `encode` is needed to go back to words of before a change of the latent
        space. Returns the ids.

        Raises:
            LibraryConflict: there is no such change, or a skill that it touched has changed since.
            LagoError: as for `add`.
        """
        with self.changing("undo", who) as transaction:
            return edits.undo(self.store, transaction, change, encode)

    def reembed(self, encode: Encoder, decoder: str, who: str | None = None) -> int:
        """Give all skills latents of a new latent space, at once: readers see all old ones or all new ones.

        Returns the number of the new generation.

        Raises:
            LibraryConflict: a skill without an embedding.
            ShapeError: latents of the wrong size, not finite or not of unit length.
            LagoError: as for `add`.
        """
        with self.changing("reembed", who, decoder) as change:
            return change.replace_latents(lambda rows: edits.encoded(self.store, rows, encode), decoder)

    @contextlib.contextmanager
    def changing(self, action: str, who: str | None = None, note: str = "") -> Generator[Transaction]:
        """One change made of several steps: all of it is committed at the end of the block, or nothing is.

        Raises:
            LagoError: as for `add`.
        """
        with self.store.writing(action, who, note) as transaction:
            yield transaction
        self._dirty = True
        self._due = 0.0

    # -- the index -----------------------------------------------------------------------------------------------------

    def _load(self) -> Snapshot:
        with self.store.as_of_now():
            return self._loaded()

    def _loaded(self) -> Snapshot:
        self._data_version = self.store.data_version()
        change, generation = self.store.state()
        base = self._cached(change, generation)
        if base is not None:
            changed = self.store.connection.execute(
                "SELECT count(*) FROM skill INDEXED BY skill_change WHERE change > ?", (base.change,)
            )
            if changed.fetchone()[0] > DELTA_MAX:
                base = None
        if base is None:
            base = self._read_base(self.store, change, generation)
        self._due = float("inf") if self.store.mode == "frozen" else time.monotonic() + POLL_S
        return self._advanced(from_base(base))

    def _cached(self, change: int, generation: int) -> Base | None:
        if self.folder is None:
            return None
        for attempt in (1, 2):  # another process may just be putting a newer one in place
            try:
                return cache.load(self.folder, self.store.library_id, generation, change)
            except cache.CacheProblem as problem:
                if attempt == 2:
                    self.cache_problem = str(problem)
        return None

    @staticmethod
    def _read_base(opened: SkillStore, change: int, generation: int) -> Base:
        """All active skills as the store has them, with an exact index (cells are made in the background)."""
        size = int(opened.value("latent_size"))
        ids: list[int] = []
        latents: list[bytes] = []
        for row in opened.rows("WHERE enabled AND merged_into IS NULL ORDER BY id"):
            ids.append(row.id)
            latents.append(row.latent)
        vectors = np.frombuffer(b"".join(latents), "<f4").reshape(len(ids), size)
        return Base(
            np.array(ids, np.int64), vectors, index.build_exact(np.array(ids, np.int64), vectors), change, generation
        )

    def _keep_up(self) -> None:
        """Bring the snapshot up to date with the store, if something has changed.

        Locks are taken in one order everywhere: the store's, then the snapshot's.
        """
        guard, refreshing = self.store.guard, self._refreshing
        if not guard.acquire(blocking=self._dirty):
            return  # a long list is being read; look again at the next search
        try:
            if self.store.connection.in_transaction or not refreshing.acquire(blocking=self._dirty):
                return  # in the middle of a change of our own, or another thread is at it
            try:
                self._due = float("inf") if self.store.mode == "frozen" else time.monotonic() + POLL_S
                dirty, self._dirty = self._dirty or self.store.follow(), False
                version = self.store.data_version() if self.folder and self.store.mode != "frozen" else -1
                if dirty or version != self._data_version:
                    self._data_version = version
                    self._snapshot = self._caught_up(self._snapshot)
            finally:
                refreshing.release()
        finally:
            guard.release()
        self._fold_if_due()

    def _caught_up(self, snapshot: Snapshot) -> Snapshot:
        with self.store.as_of_now():
            return self._advanced(snapshot)

    def _advanced(self, snapshot: Snapshot) -> Snapshot:
        change, generation = self.store.state()
        if generation != snapshot.base.generation:
            if len(snapshot.base.ids) > index.EXACT_MAX and self.folder is not None:
                self._fold_if_due(new_generation=True)
                return snapshot  # the old latents until the new ones are indexed
            return from_base(self._read_base(self.store, change, generation))
        if change == snapshot.change:
            return snapshot
        # Not ordered: asked for an order by id, SQLite walks through all of them.
        rows = sorted(self.store.rows("INDEXED BY skill_change WHERE change > ?", (snapshot.change,)))
        snapshot = advance(snapshot, [(row.id, row.active, schema.vector(row.latent)) for row in rows], change)
        if snapshot.stale and snapshot.size <= SMALL:
            ids, vectors = snapshot.all()
            return from_base(Base(ids, vectors, index.build_exact(ids, vectors), change, generation))
        return snapshot

    def _fold_if_due(self, new_generation: bool = False) -> None:
        """Make a new base in the background when too much has changed beside the old one; searches go on meanwhile."""
        if self._folding is not None and self._folding.is_alive():
            return
        if new_generation or _due_for_fold(self._snapshot):
            self._folding = threading.Thread(target=self._fold, args=(new_generation,), name="lago-library-fold")
            self._folding.start()

    def _fold(self, new_generation: bool = False) -> None:
        if new_generation:
            assert self.folder is not None
            reader = SkillStore(self.folder, "read", self.store.timeout_s)
            try:
                with reader.as_of_now():
                    change, generation = reader.state()
                    read = self._read_base(reader, change, generation)
            finally:
                reader.close()
            base = Base(read.ids, read.vectors, index.build(read.ids, read.vectors), change, generation)
        else:
            with self._refreshing:  # rows beside the base are shared with the next snapshot
                snapshot = self._snapshot
                ids, vectors = snapshot.all()
            built = index.build(ids, vectors, snapshot.base.index)
            base = Base(ids, vectors, built, snapshot.change, snapshot.base.generation)
        with self.store.guard, self._refreshing:
            self._snapshot = self._caught_up(from_base(base))
        self._save(base)

    def compact(self) -> None:
        """Make the index anew from what is there, now, and keep it on disk. Searches never need it: it saves time at the next open.

        Raises:
            LibraryReadOnly: the library cannot be written.
        """
        self._keep_up()
        self.settle()
        self._keep_up()
        if self._snapshot.stale or _due_for_fold(self._snapshot):
            self._fold()
        else:
            self._save(self._snapshot.base)

    def keep_index(self) -> None:
        """Keep the present index on disk, for a copy that is opened frozen from then on."""
        self.settle()
        self._save(self._snapshot.base, always=True)

    def _save(self, base: Base, *, always: bool = False) -> None:
        """Keep an index on disk, unless the library is small, or another process is doing the same."""
        if self.folder is None or (self.store.mode != "write" and not always) or len(base.ids) <= SMALL:
            return
        descriptor = os.open(self.folder / "index.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(cache.CacheProblem):
                present = cache.read_manifest(self.folder)
                same = present and (present.library_id, present.change) == (self.store.library_id, base.change)
                if same and self.cache_problem is None:
                    return
            cache.save(self.folder, self.store.library_id, base)
            self.cache_problem = None
        except BlockingIOError:
            return
        except OSError as error:  # a cache that cannot be kept is no reason to fail
            self.cache_problem = f"the index could not be kept on disk ({error})"
        finally:
            os.close(descriptor)


def _due_for_fold(snapshot: Snapshot) -> bool:
    wrong_kind = snapshot.size > index.EXACT_MAX and snapshot.base.index.kind == "exact"
    return wrong_kind or snapshot.stale > DELTA_MAX


def _stacked(skills: Sequence[NewSkill], size: int) -> NDArray[np.float32]:
    for skill in skills:
        if np.shape(skill.latent) != (size,):
            raise ShapeError(
                f"new skill {skill.sentence[:60]!r}: found a latent of shape {np.shape(skill.latent)}; expected ({size},), as the "
                "library has them; encode the sentence with the decoder this library was made with"
            )
    return np.stack([skill.latent for skill in skills]).astype(np.float32)


def _all_near_one(squares: NDArray[np.float32]) -> bool:
    """Whether queries are of unit length already. For a single one, numbers are faster than arrays; NaN is not near."""
    if len(squares) == 1:
        return 0.998 < float(squares[0]) < 1.002
    return bool((np.abs(squares - 1.0) < 0.002).all())


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
