"""Rebuild a damaged library from everything in it that is still sound, and say what could not be saved.

The damaged files are kept. A new file is filled row by row: a version whose checksum fails is mended from the other table,
from its other versions, from the latents beside the index, or by encoding its sentence again, and counts as mended only
if the checksum then holds. Else the last sound version stands in its place. The new file replaces the old one in one rename.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
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
from lago_skills.library.storage.schema import COLUMNS, Row, sound, sound_but_for_latent
from lago_skills.library.storage.sqlite_file import STORE_FILE, sync_folder
from lago_skills.library.storage.verify import Problem, verify

Raw = tuple[Any, ...]
SPAN = 4096
"""Ids that are read at a time; halved around pages that cannot be read."""


@dataclass
class Report:
    """What a repair did."""

    problems: list[Problem]
    rebuilt: list[str] = field(default_factory=list[str])
    lost: list[str] = field(default_factory=list[str])
    kept_in: Path | None = None
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
    log = source.with_name(source.name + "-wal")
    number = len(list(folder.glob("damaged-*"))) + 1
    kept = folder / f"damaged-{number}"
    kept.mkdir()
    for path in (source, log):
        if path.exists():
            shutil.copyfile(path, kept / path.name)
    report.kept_in = kept
    with tempfile.TemporaryDirectory(prefix=".repair-", dir=folder) as temporary:
        work = Path(temporary)
        copy = work / STORE_FILE
        shutil.copyfile(source, copy)
        if log.exists():
            shutil.copyfile(log, work / log.name)
            log_file.apply(copy, work / log.name)
        wreck = _open_wreck(copy, work, report)
        try:
            _Rebuilder(folder, wreck, work, encode, report).run()
        finally:
            wreck.close()
        for path in (log, source.with_name(source.name + "-shm")):
            path.unlink(missing_ok=True)
        (work / "new" / STORE_FILE).replace(source)
        sync_folder(folder)


def _open_wreck(path: Path, work: Path, report: Report) -> sqlite3.Connection:
    """A connection to a damaged copy; a head that cannot be read is replaced by that of an empty library, which is alike."""
    for attempt in (1, 2):
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA writable_schema = ON")  # lets SQLite open a file that is shorter than it says
            names = {entry[0] for entry in connection.execute("SELECT name FROM sqlite_schema")}
            if {"meta", "skill", "version", "change"} <= names:
                return connection
        except sqlite3.DatabaseError:
            if attempt == 2:
                break
        connection.close()
        _new_head(path, work)
    report.lost.append("the file: none of its tables can be read")
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(schema.SCHEMA)
    return connection


def _new_head(path: Path, work: Path) -> None:
    """First page of a fresh library: tables are made in one order, so their roots are where they are in any library."""
    sqlite_file.create(work / "fresh", 1)
    head = bytearray((work / "fresh" / STORE_FILE).read_bytes()[: schema.PAGE_SIZE])
    head[32:40] = bytes(8)  # no list of free pages
    head[92:96] = bytes(b ^ 0xFF for b in head[24:28])  # "size in the head is not valid": SQLite takes the file's
    with path.open("r+b") as stream:
        stream.write(head)


class _Rebuilder:
    """Moves what is sound from a wreck into a new library file."""

    def __init__(
        self, folder: Path, wreck: sqlite3.Connection, work: Path, encode: Encoder | None, report: Report
    ) -> None:
        self.wreck, self.work, self.encode, self.report = wreck, work, encode, report
        self.meta = dict(_readable(wreck, "SELECT key, value FROM meta"))
        self.cached = self._cached_latents(folder)
        self.last_id = 0

    def _cached_latents(self, folder: Path) -> dict[int, bytes]:
        """Latents beside the index, a second copy of those in the store; used only where a checksum proves them right."""
        try:
            manifest = cache.read_manifest(folder)
            if manifest is None:
                return {}
            self.meta.setdefault("library_id", manifest.library_id)
            place = folder / cache.INDEX_DIR
            ids: NDArray[np.int64] = np.load(place / manifest.ids, allow_pickle=False)
            vectors: NDArray[np.float32] = np.load(place / manifest.vectors, allow_pickle=False)
            return {int(i): v.tobytes() for i, v in zip(ids, vectors, strict=True)}
        except (cache.CacheProblem, OSError, ValueError):
            return {}

    def run(self) -> None:
        spans = [list(rows) for rows in self._spans()]
        rows = [raw for skills, versions in spans for raw in (*skills, *versions)]
        size = next((len(raw[5]) // 4 for raw in rows if sound(raw)), int(self.meta.get("latent_size", "0")))
        generation = max((raw[3] for raw in rows if sound(raw)), default=int(self.meta.get("generation", "1")))
        decoder = self.meta.get("decoder", "")
        sqlite_file.create(self.work / "new", size, decoder, self.meta.get("library_id"))
        new = sqlite3.connect(self.work / "new" / STORE_FILE, isolation_level=None)
        new.execute("BEGIN IMMEDIATE")
        changes = self._changes(new, rows)
        for key, value in {**self.meta, "generation": str(generation), "latent_size": str(size)}.items():
            new.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))
        self.change = changes + 1
        new.execute(
            "INSERT INTO change (id, action, who, at, note) VALUES (?, 'repair', ?, ?, ?)",
            (self.change, sqlite_file.user(), sqlite_file.now(), f"{len(self.report.problems)} problems"),
        )
        for skills, versions in spans:
            self._move(new, skills, versions, generation)
        new.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'skill'", (self.last_id,))
        if not new.execute("SELECT 1 FROM sqlite_sequence WHERE name = 'skill'").fetchone() and self.last_id:
            new.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('skill', ?)", (self.last_id,))
        self._embeddings(new)
        if not new.execute("SELECT 1 FROM skill").fetchone():
            self.report.lost.append(
                "the skills: none can be read; put a copy of the library, or an export, in its place"
            )
        new.execute("COMMIT")
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        new.close()

    def _spans(self) -> Iterator[tuple[list[Raw], list[Raw]]]:
        """Rows of both tables, by ranges of ids."""
        tops = [
            entry[0]
            for query in (
                "SELECT seq FROM sqlite_sequence WHERE name = 'skill'",
                "SELECT max(id) FROM skill",
                "SELECT max(id) FROM version",
            )
            for entry in _readable(self.wreck, query)
            if isinstance(entry[0], int)
        ]
        self.last_id = min(max([*tops, *self.cached, 0]), 1 << 40)
        for start in range(1, self.last_id + 1, SPAN):
            stop = min(start + SPAN, self.last_id + 1)
            yield list(self._range("skill", start, stop)), list(self._range("version", start, stop))

    def _range(self, table: str, start: int, stop: int) -> Iterable[Raw]:
        query = f"SELECT {COLUMNS} FROM {table} WHERE id >= ? AND id < ?"
        try:
            return self.wreck.execute(query, (start, stop)).fetchall()
        except sqlite3.DatabaseError:
            if stop - start <= 1:
                return []
            middle = (start + stop) // 2
            return [*self._range(table, start, middle), *self._range(table, middle, stop)]

    def _changes(self, new: sqlite3.Connection, rows: list[Raw]) -> int:
        """Copy the record of changes; those that are lost are noted as such. Returns the highest number."""
        known: dict[int, Raw] = {
            entry[0]: entry
            for entry in _readable(self.wreck, "SELECT id, action, who, at, note FROM change ORDER BY id")
        }
        for entry in _readable(self.wreck, "SELECT id, action, who, at, note FROM change ORDER BY id DESC"):
            known.setdefault(entry[0], entry)
        used = {raw[2] for raw in rows if sound(raw)}
        for number in sorted(used - set(known)):
            known[number] = (number, "unknown", "unknown", "", "its record was lost")
            self.report.lost.append(f"who made change {number}, and when")
        new.executemany(
            "INSERT INTO change (id, action, who, at, note) VALUES (?, ?, ?, ?, ?)", [known[n] for n in sorted(known)]
        )
        return max(known, default=0)

    def _move(self, new: sqlite3.Connection, skills: list[Raw], versions: list[Raw], generation: int) -> None:
        present = {raw[0]: raw for raw in skills}
        history: dict[int, dict[int, Raw]] = {}
        for raw in versions:
            history.setdefault(raw[0], {})[raw[1]] = raw
        marks = "(" + ", ".join("?" * 11) + ")"
        for skill_id in sorted({*present, *history}):
            if not isinstance(skill_id, int):
                continue
            kept, past = self._one(skill_id, present.get(skill_id), history.get(skill_id, {}), generation)
            new.executemany(f"INSERT INTO version ({COLUMNS}) VALUES {marks}", [row.stored for row in past])
            if kept is None:
                self.report.lost.append(f"{skill_name(skill_id)}: no version of it is sound")
                continue
            new.execute(f"INSERT INTO skill ({COLUMNS}) VALUES {marks}", kept.stored)
            new.executemany("INSERT OR IGNORE INTO task (name, id) VALUES (?, ?)", [(t, skill_id) for t in kept.tasks])

    def _one(
        self, skill_id: int, present: Raw | None, history: dict[int, Raw], generation: int
    ) -> tuple[Row | None, list[Row]]:
        """The present row of a skill and its versions, mended where that can be proved."""
        raws = [*([present] if present else []), *history.values()]
        mended = {version: self._mend(raw, raws) for version, raw in history.items()}
        past = {version: row for version, row in mended.items() if row is not None}
        row = self._mend(present, raws) if present else None
        if row is not None and row.version not in past:
            past[row.version] = row
            self.report.rebuilt.append(
                f"{skill_name(skill_id)}: version {row.version} of its history, from the skill itself"
            )
        lost = sorted(set(range(1, max([*history, row.version if row else 1]) + 1)) - set(past))
        if row is None and past:
            row = self._from_history(skill_id, past, lost, generation)
            if row.version not in past:
                past[row.version] = row
        if row is not None:
            for version in lost:
                if version < row.version and version not in past:
                    self.report.lost.append(f"{skill_name(skill_id)}: version {version} of its history")
            past = _gapless(past, row)
        return row, [past[version] for version in sorted(past)]

    def _from_history(self, skill_id: int, past: dict[int, Row], lost: list[int], generation: int) -> Row:
        last = past[max(past)]
        row = last
        if lost and lost[-1] > last.version:
            row = last._replace(version=lost[-1] + 1, change=self.change)
            self.report.lost.append(
                f"{skill_name(skill_id)}: version {lost[-1]}; version {last.version} stands in its place, as version {row.version}"
            )
        else:
            self.report.rebuilt.append(f"{skill_name(skill_id)}: the skill itself, from its history")
        if row.generation == generation:
            return row
        latent = self.cached.get(skill_id) or self._encoded(row.sentence)
        if latent is None:
            self.report.lost.append(
                f"{skill_name(skill_id)}: its latent; it is disabled until the library is re-embedded (repair with --decoder)"
            )
            return row._replace(enabled=0, generation=generation, version=row.version + 1, change=self.change)
        return row._replace(latent=latent, generation=generation)

    def _mend(self, raw: Raw, alike: list[Raw]) -> Row | None:
        """The row, if its checksum holds, or holds with one of its parts taken from where there is another copy."""
        if sound(raw):
            return Row(*raw[:10])
        for column in range(10):
            for candidate in self._candidates(column, raw, alike):
                tried = (*raw[:column], candidate, *raw[column + 1 : 10])
                if sound((*tried, raw[10])):
                    self.report.rebuilt.append(
                        f"{skill_name(tried[0])}: {COLUMNS.split(', ')[column]} of version {tried[1]}"
                    )
                    return Row(*tried)
        if sound_but_for_latent(raw):
            latent = self._encoded(raw[4])
            if latent is not None:
                self.report.rebuilt.append(f"{skill_name(raw[0])}: latent of version {raw[1]}, from its words")
                return Row(*raw[:10])._replace(latent=latent)
        for other in alike:  # the checksum itself
            if other is not raw and tuple(other[:10]) == tuple(raw[:10]) and sound(other):
                self.report.rebuilt.append(f"{skill_name(other[0])}: checksum of version {other[1]}")
                return Row(*other[:10])
        return None

    def _candidates(self, column: int, raw: Raw, alike: list[Raw]) -> Iterator[Any]:
        for other in alike:
            if other is not raw:
                yield other[column]
        if column == 5:
            yield self.cached.get(raw[0], b"")
        elif column == 8:
            yield from (0, 1)
        elif column == 9:
            yield None

    def _encoded(self, sentence: Any) -> bytes | None:
        if self.encode is None or not isinstance(sentence, str):
            return None
        embedding = self._embedding(sentence)
        if embedding is None:
            return None
        try:
            return schema.blob(self.encode([sentence], embedding[None])[0])
        except LagoError:
            return None

    def _embedding(self, sentence: str) -> NDArray[np.float32] | None:
        query = "SELECT vector, checksum FROM embedding WHERE sentence_hash = ?"
        for data, checksum in _readable(self.wreck, query, (schema.sentence_hash(sentence),)):
            if schema.bytes_checksum(data) == checksum:
                return schema.vector(data)
        return None

    def _embeddings(self, new: sqlite3.Connection) -> None:
        for (sentence,) in new.execute("SELECT DISTINCT sentence FROM version").fetchall():
            key = schema.sentence_hash(sentence)
            found = list(
                _readable(self.wreck, "SELECT vector, checksum FROM embedding WHERE sentence_hash = ?", (key,))
            )
            for data, checksum in found:
                if schema.bytes_checksum(data) == checksum:
                    new.execute("INSERT OR REPLACE INTO embedding VALUES (?, ?, ?)", (key, data, checksum))
                else:
                    self.report.lost.append(
                        f"the embedding of {sentence[:60]!r}; embed it again with: lago skills edit"
                    )


def _gapless(past: dict[int, Row], present: Row) -> dict[int, Row]:
    """Versions from 1 to the present one; what is lost is stood in for by the next sound one, so that counting stays true."""
    filled = dict(past)
    for version in range(present.version, 0, -1):
        if version not in filled:
            filled[version] = filled[version + 1]._replace(version=version) if version + 1 in filled else present
    return {version: row for version, row in filled.items() if version <= present.version}


def _readable(connection: sqlite3.Connection, query: str, values: tuple[Any, ...] = ()) -> Iterator[Raw]:
    """Rows up to the first page that cannot be read."""
    try:
        yield from connection.execute(query, values)
    except sqlite3.DatabaseError:
        return
