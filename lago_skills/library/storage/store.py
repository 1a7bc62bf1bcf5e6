"""The truth of a skill library: one SQLite file in WAL mode, every commit synced. No index, no vectors, no FAISS.

Readers never block. Writers queue on a lock with a time limit. A change is one transaction: all of it or nothing, and once
a method returns it survives a killed process and a power cut (synchronous=FULL syncs the log at each commit).
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import skill_name
from lago_skills.errors import DiskFull, FormatTooNew, LibraryConflict, LibraryDamaged, LibraryReadOnly
from lago_skills.library.storage import schema, sqlite_file
from lago_skills.library.storage.lock import write_lock
from lago_skills.library.storage.schema import COLUMNS, Row, checked
from lago_skills.library.storage.sqlite_file import STORE_FILE
from lago_skills.library.storage.transaction import Transaction

Mode = Literal["write", "read", "frozen", "memory"]
"""`write`: readers and writers come and go. `read`: never writes. `frozen`: the file does not change at all (a bundle's).
`memory`: no file."""


class Change(NamedTuple):
    """One acknowledged change: who did what, when, to how many skills."""

    id: int
    action: str
    who: str
    at: str
    note: str


class SkillStore:
    """A connection to a library's file. Usable from several threads, one at a time.

    Raises:
        LibraryDamaged: the file is missing, is not a library, or cannot be read.
        FormatTooNew: a newer version of this package wrote it.
        LibraryReadOnly: it can only be opened where its folder can be written.
    """

    def __init__(self, folder: Path | None, mode: Mode, timeout_s: float = 10.0) -> None:
        self.folder, self.timeout_s = folder, timeout_s
        self.mode: Mode = mode
        self.guard = threading.RLock()
        self._file_id = 0
        self.connection = self._connect()
        try:
            with self.reading():
                self._check_format()
                self.meta = dict(self.connection.execute("SELECT key, value FROM meta").fetchall())
                self.latent_size = int(self.meta["latent_size"])
                self.library_id = self.meta["library_id"]
        except KeyError as error:
            self.connection.close()
            raise self._damaged(f"no {error} among its settings") from error
        except BaseException:
            self.connection.close()
            raise

    @property
    def where(self) -> str:
        """The library's folder, for messages."""
        return str(self.folder) if self.folder else ":memory:"

    def _connect(self) -> sqlite3.Connection:
        if self.folder is None:
            connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA foreign_keys = OFF")
            sqlite_file.make_tables(connection, 0)
            return connection
        path = self.folder / STORE_FILE
        if not path.is_file():
            raise LibraryDamaged(
                f"no skill library in {str(self.folder)!r}; expected a folder with {STORE_FILE}; build one with: lago build STUDY"
            )
        try:
            self._file_id = path.stat().st_ino
            return self._open_file(path)
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error

    def follow(self) -> bool:
        """Open the file again if another has taken its place (a repair, a copy put there); returns whether it has."""
        if self.folder is None or self.mode == "frozen":
            return False
        try:
            if (self.folder / STORE_FILE).stat().st_ino == self._file_id:
                return False
        except FileNotFoundError:
            return False
        with self.guard:
            self.connection.close()
            self.connection = self._connect()
            self._check_format()
        return True

    def _open_file(self, path: Path) -> sqlite3.Connection:
        query = {"write": "mode=rw", "read": "mode=ro", "frozen": "mode=ro&immutable=1"}[self.mode]
        connection = sqlite_file.connect(path, query, self.timeout_s)
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            if any(text in str(error) for text in ("malformed", "not a database", "unsupported file format")):
                raise
            return self._open_read_only(path, error)
        if self.mode == "write":
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -65536")
        return connection

    def _open_read_only(self, path: Path, error: sqlite3.OperationalError) -> sqlite3.Connection:
        """A folder that cannot be written: SQLite has nowhere to keep its shared memory, which it does not need if nobody writes."""
        log = path.with_name(path.name + "-wal")
        if os.access(path.parent, os.W_OK) or (log.exists() and log.stat().st_size):
            raise LibraryReadOnly(
                f"library {self.where!r} cannot be opened ({error}); expected a folder that can be written, since its log has not "
                "been merged yet; open it once where it can be written, or make a copy: lago skills copy"
            ) from error
        self.mode = "frozen"
        return sqlite_file.connect(path, "mode=ro&immutable=1", self.timeout_s)

    def _check_format(self) -> None:
        version = int(self.connection.execute("PRAGMA user_version").fetchone()[0])
        application = int(self.connection.execute("PRAGMA application_id").fetchone()[0])
        if application != schema.APPLICATION_ID:
            raise self._damaged("it is another program's SQLite file, or its head is damaged")
        if version > schema.FORMAT:
            raise FormatTooNew(
                f"library {self.where!r} was written in format {version}; this version reads formats up to {schema.FORMAT}; "
                "upgrade lago-skills"
            )

    def _damaged(self, why: str) -> LibraryDamaged:
        return LibraryDamaged(
            f"library {self.where!r} cannot be read ({why}); expected the file that lago-skills wrote; "
            f"run: lago skills verify {self.where}, then lago skills repair {self.where}"
        )

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """The connection, for one thread at a time; SQLite's complaints become ours.

        Raises:
            LibraryDamaged: the file is malformed.
            DiskFull: no room left.
            LibraryReadOnly: the file or its folder cannot be written.
        """
        with self.guard:
            try:
                yield self.connection
            except sqlite3.DatabaseError as error:
                raise self._explain(error) from error

    def _explain(self, error: sqlite3.DatabaseError) -> Exception:
        text = str(error)
        if "full" in text or ("disk I/O" in text and self.folder and shutil.disk_usage(self.folder).free < 1 << 20):
            return DiskFull(
                f"library {self.where!r}: found the disk full ({text}); expected room for the change; nothing was changed; "
                "free some space and do it again"
            )
        if "readonly" in text or "unable to open" in text:
            return LibraryReadOnly(
                f"library {self.where!r} cannot be written ({text}); expected a folder and a file that can be; "
                "change their permissions, or work on a copy: lago skills copy"
            )
        return self._damaged(text)

    @contextmanager
    def writing(self, action: str, who: str | None = None, note: str = "") -> Generator[Transaction]:
        """One change: everything done through the transaction is committed and synced at the end, or nothing is.

        Raises:
            LibraryBusy: another writer was at work all the time.
            LibraryReadOnly: opened for reading, or the folder cannot be written.
            DiskFull: no room left.
        """
        if self.mode in ("read", "frozen"):
            raise LibraryReadOnly(
                f"library {self.where!r} is open for reading only; expected one that may be changed; a bundle's library is "
                "frozen: change the study's own and build again, or work on a copy: lago skills copy"
            )
        try:
            with self.guard, self._lock(), self._followed() as connection:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    transaction = Transaction(self, action, who or sqlite_file.user(), note)
                    yield transaction
                    transaction.flush()
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
        except OSError as error:
            raise self._explain_os(error) from error

    @contextmanager
    def _followed(self) -> Generator[sqlite3.Connection]:
        self.follow()
        with self.reading() as connection:
            yield connection

    @contextmanager
    def _lock(self) -> Generator[None]:
        if self.folder is None:
            yield
            return
        with write_lock(self.folder, self.timeout_s):
            yield

    def _explain_os(self, error: OSError) -> Exception:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return self._explain(sqlite3.DatabaseError("disk is full"))
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return self._explain(sqlite3.DatabaseError(f"readonly: {error.strerror}"))
        return error

    def data_version(self) -> int:
        """A number that changes when another connection has committed; always 0 where nobody else can."""
        if self.folder is None or self.mode == "frozen":
            return 0
        with self.reading() as connection:
            return int(connection.execute("PRAGMA data_version").fetchone()[0])

    @contextmanager
    def as_of_now(self) -> Generator[None]:
        """All that is read in the block is of one moment, whatever others commit meanwhile."""
        with self.reading() as connection:
            if connection.in_transaction:
                yield
                return
            connection.execute("BEGIN")
            try:
                yield
            finally:
                connection.execute("COMMIT")

    def state(self) -> tuple[int, int]:
        """(latest change, latent generation)."""
        with self.reading() as connection:
            change, generation = connection.execute(
                "SELECT (SELECT coalesce(max(id), 0) FROM change), (SELECT value FROM meta WHERE key = 'generation')"
            ).fetchone()
        return int(change), int(generation)

    def value(self, key: str) -> str:
        """A setting as it is now."""
        with self.reading() as connection:
            return str(connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0])

    def row(self, skill_id: int) -> Row:
        """The present version of a skill.

        Raises:
            LibraryConflict: no such id.
            LibraryDamaged: its bytes do not match their checksum.
        """
        with self.reading() as connection:
            stored = connection.execute(f"SELECT {COLUMNS} FROM skill WHERE id = ?", (skill_id,)).fetchone()
        if stored is None:
            raise LibraryConflict(
                f"library {self.where!r} has no skill {skill_name(skill_id)}; expected one of its {self.count()} ids; "
                f"list them with: lago skills list {self.where}"
            )
        return checked(stored, self.where)

    def rows(self, where: str = "", values: tuple[Any, ...] = (), table: str = "skill") -> Iterator[Row]:
        """Checked rows, in the order that the clause asks for; read in portions, so that writers and readers go on meanwhile.

        Raises:
            LibraryDamaged: a row's bytes do not match its checksum.
        """
        with self.reading() as connection:
            cursor = connection.execute(f"SELECT {COLUMNS} FROM {table} {where}", values)
            while portion := cursor.fetchmany(10_000):
                for stored in portion:
                    yield checked(stored, self.where)

    def changed_since(self, change: int) -> list[Row]:
        """Present rows of skills that changed after a change, by id.

        Raises:
            LibraryDamaged: a row's bytes do not match its checksum.
        """
        # Sorted here: asked for an order by id, SQLite walks through all rows.
        return sorted(self.rows("INDEXED BY skill_change WHERE change > ?", (change,)))

    def count_changed(self, change: int) -> int:
        """Number of skills that changed after a change."""
        with self.reading() as connection:
            query = "SELECT count(*) FROM skill INDEXED BY skill_change WHERE change > ?"
            return int(connection.execute(query, (change,)).fetchone()[0])

    def count(self, where: str = "") -> int:
        """Number of skills."""
        with self.reading() as connection:
            return int(connection.execute(f"SELECT count(*) FROM skill {where}").fetchone()[0])

    def embeddings(self, sentences: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Embeddings of the sentences that have one."""
        vectors: dict[str, NDArray[np.float32]] = {}
        with self.reading() as connection:
            for sentence in sentences:
                entry = connection.execute(
                    "SELECT vector, checksum FROM embedding WHERE sentence_hash = ?", (schema.sentence_hash(sentence),)
                ).fetchone()
                if entry is not None:
                    if schema.bytes_checksum(entry[0]) != entry[1]:
                        raise self._damaged(f"the embedding of {sentence[:60]!r} does not match its checksum")
                    vectors[sentence] = schema.vector(entry[0])
        return vectors

    def tasks(self) -> dict[str, int]:
        """Number of skills by task."""
        with self.reading() as connection:
            return dict(connection.execute("SELECT name, count(*) FROM task GROUP BY name ORDER BY name").fetchall())

    def task_ids(self, tasks: Iterable[str]) -> NDArray[np.int64]:
        """Ids of all skills of some tasks, ascending."""
        with self.reading() as connection:
            ids = {
                int(row[0])
                for task in tasks
                for row in connection.execute("SELECT id FROM task WHERE name = ?", (task,))
            }
        return np.array(sorted(ids), dtype=np.int64)

    def change(self, number: int) -> Change:
        """The record of a change; one that was lost is `unknown`."""
        with self.reading() as connection:
            stored = connection.execute(
                "SELECT id, action, who, at, note FROM change WHERE id = ?", (number,)
            ).fetchone()
        return Change(*stored) if stored else Change(number, "unknown", "unknown", "", "its record was lost")

    def changes(self, limit: int = -1) -> list[Change]:
        """Acknowledged changes, latest first."""
        with self.reading() as connection:
            stored = connection.execute(
                "SELECT id, action, who, at, note FROM change ORDER BY id DESC LIMIT ?", (limit,)
            ).fetchall()
        return [Change(*entry) for entry in stored]

    def __del__(self) -> None:
        """Whoever lets a library go without closing it leaves no open file; from Python 3.13 on SQLite's connection would warn of that."""
        connection = getattr(self, "connection", None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the connection; the last one out merges the log."""
        with self.guard:
            self.connection.close()


def memory_store(latent_size: int, decoder: str = "") -> SkillStore:
    """A store without a file, for libraries that live as long as their process."""
    store = SkillStore(None, "memory")
    store.connection.executemany(
        "UPDATE meta SET value = ? WHERE key = ?", [(str(latent_size), "latent_size"), (decoder, "decoder")]
    )
    store.latent_size = latent_size
    return store
