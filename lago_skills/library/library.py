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
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Neighbors, Skill, skill_name
from lago_skills.errors import ShapeError
from lago_skills.library import edits, index
from lago_skills.library.edits import Encoder
from lago_skills.library.follower import Follower
from lago_skills.library.storage import schema, sqlite_file, store
from lago_skills.library.storage.checks import NewSkill, check_embedding, check_latents, check_sentence
from lago_skills.library.storage.schema import provenance_tasks
from lago_skills.library.storage.store import Change, Mode, SkillStore
from lago_skills.library.storage.transaction import Transaction


class SkillLibrary:
    """Skills with nearest-neighbour search over the enabled ones. Searches may run in several threads at once.

    Use `create`, `open` or `in_memory`.
    """

    def __init__(self, opened: SkillStore) -> None:
        self.store = opened
        self.folder = opened.folder
        self.follower = Follower(opened)

    @staticmethod
    def create(folder: Path, latent_size: int, decoder: str = "") -> SkillLibrary:
        """A new, empty library. `decoder` names whose latents it will hold.

        Raises:
            LibraryConflict: there is one already.
            LibraryReadOnly: the folder cannot be written.
        """
        sqlite_file.create(folder, latent_size, decoder)
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
        self.follower.settle()
        self.store.close()

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def latent_size(self) -> int:
        """Z: numbers in a latent."""
        return self.follower.snapshot().latent_size

    @property
    def change(self) -> int:
        """Number of the change that searches see; grows by one with every acknowledged change."""
        return self.follower.snapshot().change

    @property
    def n_active(self) -> int:
        """Skills that searches can find."""
        return self.follower.snapshot().size

    @property
    def index_kind(self) -> index.Kind:
        """How searches find neighbours at the library's present size."""
        return self.follower.snapshot().base.index.kind

    @property
    def cache_problem(self) -> str | None:
        """Why the index on disk was thrown away when the library was opened, if it was; nobody has to do anything."""
        return self.follower.cache_problem

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
        snapshot = self.follower.snapshot()
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
        return self.follower.subset(snapshot, tuple(sorted(set(tasks)))).search(queries, k)

    def latents(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """(...,) skill ids -> (..., Z) latents; -1 gives zeros.

        Raises:
            LibraryConflict: an id that the library has never had.
        """
        flat = ids.reshape(-1)
        vectors, known = self.follower.snapshot().vectors_of(flat)
        for i in np.flatnonzero(~known & (flat >= 0)):
            vectors[i] = schema.vector(self.store.row(int(flat[i])).latent)
        return vectors.reshape(*ids.shape, vectors.shape[1])

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
        clauses = ["id > ?"]
        values: Any = [after]
        if contains:
            values.append(f"%{_escape(contains)}%")
            clauses.append("sentence LIKE ? ESCAPE '\\'")
        if task is not None:
            clauses.append("id IN (SELECT id FROM task WHERE name = ?)")
            values.append(task)
        if enabled is not None:
            clauses.append("enabled = ?")
            values.append(int(enabled))
        values.append(-1 if limit is None else limit)
        rows = self.store.rows(f"WHERE {' AND '.join(clauses)} ORDER BY id LIMIT ?", tuple(values))
        return [schema.skill(row) for row in rows]

    def history(self, skill_id: int) -> list[tuple[Change, Skill]]:
        """All versions of a skill, latest first, each with the change that made it.

        Raises:
            LibraryConflict: no such id.
        """
        self.store.row(skill_id)
        rows = self.store.rows("WHERE id = ? ORDER BY version DESC", (skill_id,), table="version")
        return [(self.store.change(row.change), schema.skill(row)) for row in rows]

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
        self.follower.changed()

    def compact(self) -> None:
        """Make the index anew from what is there, now, and keep it on disk. Searches never need it: it saves time at the next open."""
        self.follower.compact()


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
