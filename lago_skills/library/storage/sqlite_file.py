"""The SQLite file of a library: made, opened, synced."""

from __future__ import annotations

import getpass
import os
import sqlite3
import uuid
from datetime import UTC, datetime
from pathlib import Path

from lago_skills.errors import LibraryConflict
from lago_skills.library.storage import schema

STORE_FILE = "library.sqlite"


def now() -> str:
    """The time as people read it. Nothing is ordered by it: clocks jump, change numbers do not."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def user() -> str:
    """Who is asking, where a caller does not say."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def connect(path: Path, query: str, timeout_s: float) -> sqlite3.Connection:
    """A connection to a file, opened as SQLite's URI query says."""
    uri = f"file:{path.resolve().as_posix().replace('%', '%25').replace('?', '%3f').replace('#', '%23')}?{query}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=timeout_s, check_same_thread=False)


def make_tables(
    connection: sqlite3.Connection, latent_size: int, decoder: str = "", library_id: str | None = None
) -> None:
    """The tables of an empty library."""
    connection.execute("BEGIN")
    for statement in schema.SCHEMA.split(";"):
        connection.execute(statement)
    settings = {
        "library_id": library_id or uuid.uuid4().hex,
        "latent_size": str(latent_size),
        "generation": "1",
        "decoder": decoder,
        "created_at": now(),
    }
    connection.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", list(settings.items()))
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {schema.FORMAT}")
    connection.execute("COMMIT")


def create(folder: Path, latent_size: int, decoder: str = "", library_id: str | None = None) -> None:
    """Make an empty library file: built under another name, synced, then renamed.

    Raises:
        LibraryConflict: there is a library already.
        OSError: the folder cannot be written.
    """
    path = folder / STORE_FILE
    if path.exists():
        raise LibraryConflict(
            f"found a skill library in {str(folder)!r}; expected none there yet; open it, or choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{STORE_FILE}.{os.getpid()}.new"
    temporary.unlink(missing_ok=True)
    connection = sqlite3.connect(temporary, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {schema.PAGE_SIZE}")
    connection.execute("PRAGMA journal_mode = WAL")
    make_tables(connection, latent_size, decoder, library_id)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    temporary.replace(path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
