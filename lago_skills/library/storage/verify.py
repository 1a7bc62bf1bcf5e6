"""Look a library over without changing it: file, log, rows, history, tasks, embeddings, index."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lago_skills.core import skill_name
from lago_skills.errors import FormatTooNew, LibraryDamaged
from lago_skills.library import cache
from lago_skills.library.storage import log_file, schema
from lago_skills.library.storage.schema import COLUMNS, Row, sound
from lago_skills.library.storage.sqlite_file import STORE_FILE
from lago_skills.library.storage.store import SkillStore

MAX_LISTED = 50
"""Problems of one kind that are listed; the rest are counted."""


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it was written."""

    kind: str
    """`file`, `log`, `row`, `history`, `task`, `embedding` or `index`."""
    text: str
    skill_id: int | None = None


def verify(folder: Path) -> list[Problem]:
    """Everything that is wrong with a library; empty if nothing is.

    Raises:
        FormatTooNew: a newer version of this package wrote it.
        LibraryDamaged: there is no library in that folder.
    """
    path = folder / STORE_FILE
    if not path.exists():
        raise LibraryDamaged(f"no skill library in {str(folder)!r}; expected a folder with {STORE_FILE}; name another")
    problems: list[Problem] = []
    log = path.with_name(path.name + "-wal")
    if n_damaged := log_file.damage(log):
        problems.append(Problem("log", f"{n_damaged} pages of the log {log.name} do not match their checksums"))
    problems += _store_problems(folder)
    if not any(problem.kind == "file" for problem in problems):
        problems += list(_limited(_index_problems(folder)))
    return problems


def _store_problems(folder: Path) -> list[Problem]:
    try:
        opened = SkillStore(folder, "read")
    except FormatTooNew:
        raise
    except LibraryDamaged as error:
        return [Problem("file", str(error))]
    try:
        with opened.guard:
            messages = [str(entry[0]) for entry in opened.connection.execute("PRAGMA integrity_check(20)")]
            if messages != ["ok"]:
                return [Problem("file", f"SQLite finds: {line}") for line in messages]
            checks = (_row_problems, _history_problems, _task_problems, _embedding_problems)
            return [problem for check in checks for problem in _limited(check(opened))]
    except sqlite3.DatabaseError as error:
        return [Problem("file", f"SQLite cannot read it: {error}")]
    finally:
        opened.close()


def _limited(problems: Iterator[Problem]) -> Iterator[Problem]:
    n = 0
    last: Problem | None = None
    for problem in problems:
        n += 1
        last = problem
        if n <= MAX_LISTED:
            yield problem
    if last is not None and n > MAX_LISTED:
        yield Problem(last.kind, f"and {n - MAX_LISTED} more")


def _row_problems(opened: SkillStore) -> Iterator[Problem]:
    for table, order in (("skill", "id"), ("version", "id, version")):
        for raw in opened.connection.execute(f"SELECT {COLUMNS} FROM {table} ORDER BY {order}"):
            if not sound(raw):
                where = "" if table == "skill" else ", in its history"
                yield Problem("row", f"{_name(raw[0])}: version {raw[1]}{where} does not match its checksum", raw[0])
                continue
            row = Row(*raw[:10])
            if table == "version":
                continue  # may be of an earlier latent space
            latent = schema.vector(row.latent) if len(row.latent) == 4 * opened.latent_size else None
            if latent is None or not np.isfinite(latent).all() or abs(float(np.linalg.norm(latent)) - 1.0) > 1e-2:
                yield Problem(
                    "row", f"{row_name(row)}: its latent is not a unit vector of {opened.latent_size} numbers", row.id
                )


def row_name(row: Row) -> str:
    """`s0042, version 3`."""
    return f"{skill_name(row.id)}, version {row.version}"


def _name(skill_id: Any) -> str:
    return skill_name(skill_id) if isinstance(skill_id, int) else repr(skill_id)


def _history_problems(opened: SkillStore) -> Iterator[Problem]:
    execute = opened.connection.execute
    query = (
        "SELECT s.id, s.version, v.version FROM skill s LEFT JOIN version v ON v.id = s.id AND v.version = s.version "
        "AND v.sentence = s.sentence AND v.provenance = s.provenance AND v.support = s.support AND v.enabled = s.enabled "
        "AND v.merged_into IS s.merged_into AND v.change = s.change WHERE v.version IS NULL"
    )
    for skill_id, version, _ in execute(query):
        yield Problem("history", f"{_name(skill_id)}: its history does not have version {version} as it is", skill_id)
    query = (
        "SELECT id, count(*), max(version) FROM version GROUP BY id "
        "HAVING count(*) != max(version) OR max(version) IS NOT (SELECT version FROM skill WHERE skill.id = version.id)"
    )
    for skill_id, n, last in execute(query):
        yield Problem(
            "history",
            f"{_name(skill_id)}: {n} of {last} versions are there, or the skill itself is not the last of them",
            skill_id,
        )
    for (skill_id,) in execute("SELECT id FROM version WHERE change NOT IN (SELECT id FROM change) GROUP BY id"):
        yield Problem("history", f"{_name(skill_id)}: it was changed by a change that is not on record", skill_id)
    query = "SELECT id FROM skill WHERE merged_into IS NOT NULL AND merged_into NOT IN (SELECT id FROM skill)"
    for (skill_id,) in execute(query):
        yield Problem("history", f"{_name(skill_id)}: it was merged into a skill that is not there", skill_id)


def _task_problems(opened: SkillStore) -> Iterator[Problem]:
    expected: set[tuple[str, int]] = set()
    for raw in opened.connection.execute(f"SELECT {COLUMNS} FROM skill"):
        if sound(raw):
            expected |= {(task, raw[0]) for task in Row(*raw[:10]).tasks}
    listed = set(opened.connection.execute("SELECT name, id FROM task"))
    for task, skill_id in sorted(expected ^ listed, key=lambda entry: (entry[1], entry[0])):
        yield Problem("task", f"{_name(skill_id)}: the list of task {task!r} and its provenance disagree", skill_id)


def _embedding_problems(opened: SkillStore) -> Iterator[Problem]:
    for key, data, checksum in opened.connection.execute("SELECT sentence_hash, vector, checksum FROM embedding"):
        if schema.bytes_checksum(data) != checksum:
            yield Problem(
                "embedding", f"the embedding of the sentence with hash {key.hex()[:12]} does not match its checksum"
            )


def _index_problems(folder: Path) -> Iterator[Problem]:
    opened = SkillStore(folder, "read")
    try:
        change, generation = opened.state()
        try:
            base = cache.load(folder, opened.library_id, generation, change)
        except cache.CacheProblem as problem:
            yield Problem("index", f"the index on disk cannot be used: {problem}")
            return
        if base is None:
            return
        if base.index.size != len(base.ids):
            yield Problem("index", f"the index on disk holds {base.index.size} vectors for {len(base.ids)} ids")
        cached = dict(zip(base.ids.tolist(), range(len(base.ids)), strict=True))
        for row in opened.rows():
            position = cached.pop(row.id, None)
            if row.change > base.change:
                continue  # changed since: searches take it from the store
            in_index = position is not None and base.vectors[position].tobytes() == row.latent
            if in_index != row.active:
                yield Problem("index", f"{skill_name(row.id)}: index and store disagree", row.id)
        for skill_id in cached:
            yield Problem("index", f"{skill_name(skill_id)}: the index has it, the store does not", skill_id)
    except LibraryDamaged:
        return  # told as damage of the store
    finally:
        opened.close()
