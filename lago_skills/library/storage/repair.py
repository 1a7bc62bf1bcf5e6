"""Rebuild a damaged library from everything in it that is still sound, and say what could not be saved.

The damaged files are kept. A new file is filled row by row: a version whose checksum fails is mended from the other table,
from its other versions, from the latents beside the index, or by encoding its sentence again, and counts as mended only
if the checksum then holds. Else the last sound version stands in its place. The new file replaces the old one in one rename.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import skill_name
from lago_skills.errors import LagoError
from lago_skills.library import cache
from lago_skills.library.edits import Encoder
from lago_skills.library.storage import log_file, schema, sqlite_file
from lago_skills.library.storage.lock import write_lock
from lago_skills.library.storage.schema import COLUMNS, MARKS, Row, sound, sound_but_for_latent
from lago_skills.library.storage.sqlite_file import STORE_FILE, sync_folder
from lago_skills.library.storage.verify import Problem, verify

Raw = tuple[Any, ...]
"""The eleven columns of a stored row, sound or not."""
NAMES = COLUMNS.split(", ")
LATENT, ENABLED, MERGED_INTO = NAMES.index("latent"), NAMES.index("enabled"), NAMES.index("merged_into")
LAST_ID_MAX = 1 << 32
"""A higher id is damage: nobody has added so many skills."""


@dataclass
class Report:
    """What a repair did."""

    problems: list[Problem]
    rebuilt: list[str] = field(default_factory=list[str])
    lost: list[str] = field(default_factory=list[str])
    damaged_dir: Path | None = None
    """Where the damaged files are."""


def repair(folder: Path, encode: Encoder | None = None, timeout_s: float = 10.0) -> Report:
    """Rebuild what can be rebuilt. A sound library is left as it is. `encode` places sentences whose latents are lost.

    Raises:
        LibraryBusy: a writer is at work.
        FormatTooNew: a newer version of this package wrote it.
        LibraryDamaged: there is no library in that folder.
    """
    problems = verify(folder)
    report = Report(problems)
    if not problems:
        return report
    with write_lock(folder, timeout_s):
        if any(problem.kind != "index" for problem in problems):
            _rebuild(folder, encode, report)
        if (folder / cache.INDEX_DIR / cache.MANIFEST_FILE).exists():
            cache.drop(folder)
            report.rebuilt.append("the index: it is made again from the store when the library is opened")
    return report


def _rebuild(folder: Path, encode: Encoder | None, report: Report) -> None:
    source = folder / STORE_FILE
    log, shared_memory = (source.with_name(source.name + suffix) for suffix in ("-wal", "-shm"))
    places = (folder / f"damaged-{number}" for number in itertools.count(1))
    report.damaged_dir = next(place for place in places if not place.exists())
    report.damaged_dir.mkdir()
    for path in (source, log):
        if path.exists():
            shutil.copyfile(path, report.damaged_dir / path.name)
    with tempfile.TemporaryDirectory(prefix=".repair-", dir=folder) as temporary:
        work = Path(temporary)
        shutil.copyfile(source, work / STORE_FILE)
        log_file.apply(log, work / STORE_FILE)
        with contextlib.closing(_open_wreck(work)) as wreck:
            _Rebuilder(folder, wreck, encode, report).write(work / "new")
        for path in (log, shared_memory):
            path.unlink(missing_ok=True)
        (work / "new" / STORE_FILE).replace(source)
        sync_folder(folder)


def _open_wreck(work: Path) -> sqlite3.Connection:
    """A connection to the damaged copy in a folder.

    Where SQLite cannot make sense of the first page, which lists the tables, that of an empty library takes its place: the
    tables of every library are made in one order, so they begin at the same pages.
    """
    path = work / STORE_FILE
    wreck = sqlite3.connect(path, isolation_level=None)
    with contextlib.suppress(sqlite3.DatabaseError):
        wreck.execute("PRAGMA writable_schema = ON")  # lets SQLite open a file that is shorter than it says
        if {"meta", "skill", "version", "change"} <= {
            name for (name,) in wreck.execute("SELECT name FROM sqlite_schema")
        }:
            return wreck
    wreck.close()
    sqlite_file.create(work / "empty", 1)
    page = bytearray((work / "empty" / STORE_FILE).read_bytes()[: schema.PAGE_SIZE])
    page[28:32] = bytes(4)  # the number of pages: SQLite takes the size of the file instead
    with path.open("r+b") as stream:
        stream.write(page)
    wreck = sqlite3.connect(path, isolation_level=None)
    wreck.execute("PRAGMA writable_schema = ON")
    return wreck


class _Rebuilder:
    """Moves what is sound from a wreck into a new library file."""

    def __init__(self, folder: Path, wreck: sqlite3.Connection, encode: Encoder | None, report: Report) -> None:
        self.wreck, self.encode, self.report = wreck, encode, report
        self.settings = dict(_readable(wreck, "SELECT key, value FROM meta"))
        self.indexed = self._indexed_latents(folder)
        self.generation = 1
        self.change = 0

    def _indexed_latents(self, folder: Path) -> dict[int, bytes]:
        """Latents beside the index, a second copy of those in the store; used only where a checksum proves them right."""
        try:
            manifest = cache.read_manifest(folder)
            if manifest is None:
                return {}
            self.settings.setdefault("library_id", manifest.library_id)
            place = folder / cache.INDEX_DIR
            ids: NDArray[np.int64] = np.load(place / manifest.ids, allow_pickle=False)
            vectors: NDArray[np.float32] = np.load(place / manifest.vectors, allow_pickle=False)
            return {int(i): v.tobytes() for i, v in zip(ids, vectors, strict=True)}
        except (cache.CacheProblem, OSError, ValueError):
            return {}

    def write(self, folder: Path) -> None:
        """Fill a new library in a folder of its own."""
        last_id = self._last_id()
        skills = {raw[0]: raw for raw in self._rows("skill", 1, last_id)}
        history: dict[int, dict[int, Raw]] = {}
        for raw in self._rows("version", 1, last_id):
            history.setdefault(raw[0], {})[raw[1]] = raw
        versions = [raw for by_version in history.values() for raw in by_version.values()]
        self.generation, latent_size = self._latent_space([*skills.values()], versions)
        sqlite_file.create(folder, latent_size, "", self.settings.get("library_id"))
        new = sqlite3.connect(folder / STORE_FILE, isolation_level=None)
        new.execute("BEGIN IMMEDIATE")
        settings = {**self.settings, "generation": str(self.generation), "latent_size": str(latent_size)}
        new.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", list(settings.items()))
        self._copy_changes(new, {raw[2] for raw in (*skills.values(), *versions) if sound(raw)})
        self._report_missing({*skills, *history}, last_id)
        for skill_id in sorted({*skills, *history}):
            row, past = self._skill(skill_id, skills.get(skill_id), history.get(skill_id, {}))
            new.executemany(f"INSERT INTO version ({COLUMNS}) VALUES {MARKS}", [row.stored for row in past])
            if row is None:
                self.report.lost.append(f"{skill_name(skill_id)}: no version of it is sound")
                continue
            new.execute(f"INSERT INTO skill ({COLUMNS}) VALUES {MARKS}", row.stored)
            new.executemany("INSERT OR IGNORE INTO task (name, id) VALUES (?, ?)", [(t, skill_id) for t in row.tasks])
        new.execute("DELETE FROM sqlite_sequence WHERE name = 'skill'")  # ids of lost skills are not given again
        new.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('skill', ?)", (last_id,))
        self._copy_embeddings(new)
        if not new.execute("SELECT 1 FROM skill").fetchone():
            self.report.lost.append(
                "the skills: none can be read; put a copy of the library, or an export, in its place"
            )
        new.execute("COMMIT")
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        new.close()

    def _report_missing(self, there: set[int], last_id: int) -> None:
        """Skills are never deleted, so an id without a row is a loss; a run of ids is one line."""
        for before, after in itertools.pairwise(sorted({0, *there, last_id + 1})):
            if after - before > 1:
                first, last = skill_name(before + 1), skill_name(after - 1)
                self.report.lost.append(f"{first if first == last else f'{first} to {last}'}: no row of it can be read")

    def _last_id(self) -> int:
        """The highest id that was ever given, as far as anything tells."""
        queries = (
            "SELECT seq FROM sqlite_sequence WHERE name = 'skill'",
            "SELECT max(id) FROM skill",
            "SELECT max(id) FROM version",
        )
        numbers = [raw[0] for query in queries for raw in _readable(self.wreck, query)]
        return max([0, *self.indexed, *(n for n in numbers if isinstance(n, int) and n < LAST_ID_MAX)])

    def _rows(self, table: str, first: int, last: int) -> list[Raw]:
        """Rows that can be read: a range of ids is halved until what cannot be read is left alone."""
        try:
            rows = self.wreck.execute(
                f"SELECT {COLUMNS} FROM {table} WHERE id BETWEEN ? AND ?", (first, last)
            ).fetchall()
            return [raw for raw in rows if isinstance(raw[0], int) and isinstance(raw[1], int)]
        except sqlite3.DatabaseError:
            if first >= last:
                return []
            middle = (first + last) // 2
            return [*self._rows(table, first, middle), *self._rows(table, middle + 1, last)]

    def _latent_space(self, skills: list[Raw], versions: list[Raw]) -> tuple[int, int]:
        """Generation and size of the latents: as the skills have them, else as the settings say, else as the history."""
        for rows in (skills, versions):
            newest = max(filter(sound, rows), key=lambda raw: raw[3], default=None)
            if newest is not None:
                return newest[3], len(newest[LATENT]) // 4
            with contextlib.suppress(KeyError, ValueError):
                return int(self.settings["generation"]), int(self.settings["latent_size"])
        return 1, 0

    def _copy_changes(self, new: sqlite3.Connection, used: set[int]) -> None:
        """Copy the record of changes, note those that are lost as such, and add this repair."""
        known: dict[int, Raw] = {}
        for order in ("ASC", "DESC"):  # from both ends, up to a page that cannot be read
            for raw in _readable(self.wreck, f"SELECT id, action, who, at, note FROM change ORDER BY id {order}"):
                known.setdefault(raw[0], raw)
        for number in sorted(used - set(known)):
            known[number] = (number, "unknown", "unknown", "", "its record was lost")
            self.report.lost.append(f"who made change {number}, and when")
        self.change = max(known, default=0) + 1
        note = f"{len(self.report.problems)} problems"
        known[self.change] = (self.change, "repair", sqlite_file.user(), sqlite_file.now(), note)
        query = "INSERT INTO change (id, action, who, at, note) VALUES (?, ?, ?, ?, ?)"
        new.executemany(query, [known[number] for number in sorted(known)])

    def _skill(self, skill_id: int, present: Raw | None, history: dict[int, Raw]) -> tuple[Row | None, list[Row]]:
        """The present row of a skill and its versions without a gap, mended where that can be proved."""
        copies = [*([present] if present else []), *history.values()]
        row = self._mended(present, copies) if present else None
        past = {mended.version: mended for raw in history.values() if (mended := self._mended(raw, copies)) is not None}
        last = max(past, default=0)
        newest = max((raw[1] for raw in copies if raw[1] <= last + len(copies)), default=0)  # sound or not
        if row is not None and row.version >= last:
            newest = row.version
            if row.version not in past:
                past[row.version] = row
                self.report.rebuilt.append(
                    f"{skill_name(skill_id)}: version {row.version} of its history, from the skill itself"
                )
        elif past:
            row = self._stand_in(past[last], newest)
            past.setdefault(row.version, row)
        else:
            return None, []
        for version in range(row.version - 1, 0, -1):
            if version not in past:
                past[version] = past[version + 1]._replace(version=version)
                if version <= newest:
                    self.report.lost.append(f"{skill_name(skill_id)}: version {version} of its history")
        return row, [past[version] for version in sorted(past)]

    def _stand_in(self, row: Row, last: int) -> Row:
        """The last sound version as the present one; as a new version after the last, if that is not sound."""
        name = skill_name(row.id)
        if row.version < last:
            self.report.lost.append(
                f"{name}: version {last}; version {row.version} stands in its place, as version {last + 1}"
            )
            row = row._replace(version=last + 1, change=self.change)
        else:
            self.report.rebuilt.append(f"{name}: the skill itself, from its history")
        if row.generation == self.generation:
            return row
        latent = self.indexed.get(row.id) or self._encoded(row.sentence)
        if latent is not None:
            return row._replace(latent=latent, generation=self.generation)
        self.report.lost.append(
            f"{name}: its latent; it is disabled until the library is re-embedded (repair with --decoder)"
        )
        return row._replace(enabled=0, generation=self.generation, version=row.version + 1, change=self.change)

    def _mended(self, raw: Raw, copies: list[Raw]) -> Row | None:
        """The row, if its checksum holds, or holds with one of its parts taken from where there is another copy."""
        if sound(raw):
            return Row(*raw[:10])
        others = [other for other in copies if other is not raw]
        beside: dict[int, list[Any]] = {
            LATENT: [self.indexed.get(raw[0], b"")],
            ENABLED: [0, 1],
            MERGED_INTO: [None],
        }
        for column, name in enumerate(NAMES):
            for value in (*(other[column] for other in others), *beside.get(column, [])):
                tried = (*raw[:column], value, *raw[column + 1 :])
                if sound(tried):
                    self.report.rebuilt.append(f"{skill_name(tried[0])}: {name} of version {tried[1]}")
                    return Row(*tried[:10])
        latent = self._encoded(raw[4]) if sound_but_for_latent(raw) else None
        if latent is None:
            return None
        self.report.rebuilt.append(f"{skill_name(raw[0])}: latent of version {raw[1]}, from its words")
        return Row(*raw[:10])._replace(latent=latent)

    def _encoded(self, sentence: str) -> bytes | None:
        """The latent of a sentence by the decoder's text head; None without a decoder or an embedding."""
        if self.encode is None:
            return None
        for _, data, checksum in self._embeddings(sentence):
            if schema.bytes_checksum(data) == checksum:
                with contextlib.suppress(LagoError):
                    return schema.blob(self.encode([sentence], schema.vector(data)[None])[0])
        return None

    def _embeddings(self, sentence: str) -> list[Raw]:
        """What is stored as the embedding of a sentence, sound or not: hash, vector and checksum, or nothing."""
        query = "SELECT sentence_hash, vector, checksum FROM embedding WHERE sentence_hash = ?"
        return list(_readable(self.wreck, query, (schema.sentence_hash(sentence),)))

    def _copy_embeddings(self, new: sqlite3.Connection) -> None:
        for (sentence,) in new.execute("SELECT DISTINCT sentence FROM version").fetchall():
            for key, data, checksum in self._embeddings(sentence):
                if schema.bytes_checksum(data) == checksum:
                    new.execute("INSERT INTO embedding VALUES (?, ?, ?)", (key, data, checksum))
                else:
                    self.report.lost.append(
                        f"the embedding of {sentence[:60]!r}; embed it again with: lago skills edit"
                    )


def _readable(connection: sqlite3.Connection, query: str, values: tuple[Any, ...] = ()) -> Iterator[Raw]:
    """Rows up to the first page that cannot be read."""
    with contextlib.suppress(sqlite3.DatabaseError):
        yield from connection.execute(query, values)
