"""Libraries as files for others: export and import (JSONL and safetensors), copies, differences, a fingerprint of the content."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lago_skills.artifacts.folder import verify, writing
from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.core import skill_name
from lago_skills.errors import ArtifactCorrupt, LibraryConflict
from lago_skills.library.library import SkillLibrary
from lago_skills.library.storage import schema
from lago_skills.library.storage.checks import NewSkill, check_embedding, check_latents, check_sentence
from lago_skills.library.storage.schema import Row, compact_json
from lago_skills.library.storage.sqlite_file import STORE_FILE, sync_folder

RECORDS_FILE, VECTORS_FILE = "skills.jsonl", "vectors.safetensors"
OLD_RECORDS_FILE, OLD_LATENTS_FILE = "skills.json", "latents.safetensors"


def export(library: SkillLibrary, folder: Path) -> int:
    """Write all records as JSONL with their latents and embeddings as safetensors, and a manifest with hashes; returns their number.

    Raises:
        DiskFull: no room; what was in the folder before stays.
    """
    rows = list(library.store.rows("ORDER BY id"))
    embeddings = library.store.embeddings(dict.fromkeys(row.sentence for row in rows))
    with writing(folder, "skills", {"library": fingerprint(library)}) as writer:
        with (writer.path / RECORDS_FILE).open("w", encoding="utf-8") as stream:
            for row in rows:
                stream.write(compact_json(_record(row)) + "\n")
        latents = b"".join(row.latent for row in rows)
        arrays = {"latents": np.frombuffer(latents, "<f4").reshape(len(rows), library.latent_size)}
        with_embedding = [i for i, row in enumerate(rows) if row.sentence in embeddings]
        if with_embedding:
            arrays["embedded_rows"] = np.array(with_embedding, np.int64)
            arrays["embeddings"] = np.stack([embeddings[rows[i].sentence] for i in with_embedding])
        save_arrays(arrays, writer.path / VECTORS_FILE)
        writer.summary = {"skills": len(rows), "decoder": library.decoder, "latent_size": library.latent_size}
    return len(rows)


def _record(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "version": row.version,
        "sentence": row.sentence,
        "enabled": bool(row.enabled),
        "merged_into": row.merged_into,
        "provenance": json.loads(row.provenance),
        "support": json.loads(row.support),
    }


def read_export(folder: Path) -> tuple[list[dict[str, Any]], list[NewSkill]]:
    """Records and skills of an export.

    Raises:
        ArtifactMissing: there is no export in that folder.
        ArtifactCorrupt: a file is damaged or not of this form.
        LibraryConflict: a record that cannot be kept.
    """
    verify(folder)
    arrays = load_arrays(folder / VECTORS_FILE)
    try:
        lines = (folder / RECORDS_FILE).read_text(encoding="utf-8").splitlines()
        records: list[dict[str, Any]] = [json.loads(line) for line in lines]
        embeddings = dict(
            zip(arrays.get("embedded_rows", np.zeros(0)).tolist(), arrays.get("embeddings", []), strict=True)
        )
        skills = [
            NewSkill(r["sentence"], latent, embeddings.get(i), r["provenance"], r["support"], bool(r["enabled"]))
            for i, (r, latent) in enumerate(zip(records, arrays["latents"], strict=True))
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactCorrupt(
            f"export {str(folder)!r} cannot be read ({error}); expected what lago skills export writes; export again"
        ) from error
    return records, skills


def import_(library: SkillLibrary, folder: Path, *, who: str | None = None) -> dict[int, int]:
    """Add the skills of an export, as one change; returns old id -> id here. An empty library keeps the ids as they were.

    Raises:
        ArtifactMissing: there is no export in that folder.
        ArtifactCorrupt: it is damaged.
        LibraryConflict: latents of another decoder, or a record that cannot be kept.
        LagoError: as for `SkillLibrary.add`.
    """
    manifest = verify(folder)
    records, skills = read_export(folder)
    theirs, ours = str(manifest.summary.get("decoder", "")), library.decoder
    if theirs != ours:
        raise LibraryConflict(
            f"import: found latents of decoder {theirs[:12]!r}; expected {ours[:12]!r}, this library's; re-embed one of the two "
            "first (lago skills reembed)"
        )
    for skill in skills:
        check_sentence(skill.sentence)
    if not skills:
        return {}
    latents = check_latents(np.stack([s.latent for s in skills]), "latents of the import")
    if latents.shape[1] != library.latent_size:
        raise LibraryConflict(
            f"import: found latents of {latents.shape[1]} numbers; expected {library.latent_size}; import into a library of that size"
        )
    keep_ids = len(library) == 0
    new_ids: dict[int, int] = {}
    with library.changing("import", who, str(folder)) as change:
        for record in records:
            new_ids[record["id"]] = record["id"] if keep_ids else change.next_id + len(new_ids)
        for record, skill, latent in zip(records, skills, latents, strict=True):
            into = record["merged_into"]
            if into is not None and into not in new_ids:
                raise LibraryConflict(
                    f"import: found {skill_name(record['id'])} merged into {skill_name(into)}, which is not in the export; expected "
                    "both; export the whole library"
                )
            content = (skill.sentence, latent.tobytes(), *skill.texts, int(skill.enabled))
            change.insert(Row(new_ids[record["id"]], 1, 0, 0, *content, None if into is None else new_ids[into]))
            if skill.embedding is not None:
                change.embed(skill.sentence, check_embedding(skill.embedding))
    return new_ids


def copy(library: SkillLibrary, folder: Path, *, frozen: bool = False) -> None:
    """A library of its own with the same records, history and ids, as of now; page by page, while others read and write.

    With `frozen`, as a single file that nobody is going to change.

    Raises:
        LibraryConflict: there is a library already.
    """
    path = folder / STORE_FILE
    if path.exists():
        raise LibraryConflict(
            f"found a skill library in {str(folder)!r}; expected none there yet; remove it, or choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{STORE_FILE}.{os.getpid()}.new"
    target = sqlite3.connect(temporary, isolation_level=None)
    try:
        with library.store.reading() as connection:
            connection.backup(target, pages=-1)
        target.execute("PRAGMA journal_mode = DELETE")
        # A copy goes its own way from here on: indexes of the original are not its own. Its name follows from what it is a copy of.
        origin = f"{library.store.library_id}:{library.store.state()[0]}:{'frozen' if frozen else os.urandom(8).hex()}"
        own = hashlib.sha256(origin.encode()).hexdigest()[:32]
        target.execute("UPDATE meta SET value = ? WHERE key = 'library_id'", (own,))
        target.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('origin', ?)", (lineage(library),))
        if not frozen:
            target.execute("PRAGMA journal_mode = WAL")
            target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        target.close()
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_folder(folder)
    with SkillLibrary.open(folder, mode="write" if not frozen else "frozen") as copied:
        copied.follower.save(always=True)


def lineage(library: SkillLibrary) -> str:
    """Which library this one goes back to through copies."""
    settings = library.store.meta
    return settings.get("origin", settings["library_id"])


@dataclass(frozen=True)
class Difference:
    """How one skill differs between two libraries."""

    left: int | None
    right: int | None
    sentence: str
    fields: tuple[str, ...]
    """What differs; empty where only one of them has it."""


def diff(left: SkillLibrary, right: SkillLibrary) -> list[Difference]:
    """What differs between two libraries: by id for a library and its copies, else by sentence."""
    same_lineage = lineage(left) == lineage(right)
    rows = [{_key(row, same_lineage): row for row in library.store.rows("ORDER BY id")} for library in (left, right)]
    return list(_differences(rows[0], rows[1], same_latents=left.decoder == right.decoder))


def _key(row: Row, same_lineage: bool) -> int | str:
    return row.id if same_lineage else row.sentence


def _differences(left: dict[Any, Row], right: dict[Any, Row], *, same_latents: bool) -> Iterator[Difference]:
    for key in sorted({*left, *right}):
        a, b = left.get(key), right.get(key)
        if a is None or b is None:
            for row in (a, b):
                if row is not None:
                    yield Difference(a.id if a else None, b.id if b else None, row.sentence, ())
            continue
        names = ("sentence", "provenance", "support", "enabled", "merged_into", *(("latent",) if same_latents else ()))
        fields = tuple(name for name in names if getattr(a, name) != getattr(b, name))
        if fields:
            yield Difference(a.id, b.id, b.sentence, fields)


def fingerprint(library: SkillLibrary) -> str:
    """SHA-256 over what the skills are now: ids, sentences, latents, provenance, support; not when or by whom."""
    digest = hashlib.sha256()
    for row in library.store.rows("ORDER BY id"):
        digest.update(compact_json(_record(row._replace(version=0))).encode())
        digest.update(row.latent)
    return digest.hexdigest()


def open_any(folder: Path, mode: Any = "read", timeout_s: float = 10.0) -> SkillLibrary:
    """A library of any format that this version reads; format 1 (JSON and safetensors) opens as a copy in memory.

    Raises:
        ArtifactCorrupt: it cannot be read.
        FormatTooNew: a newer version of this package wrote it.
        LibraryReadOnly: format 1 for writing.
    """
    if not (folder / OLD_RECORDS_FILE).is_file() or (folder / STORE_FILE).exists():
        return SkillLibrary.open(folder, mode, timeout_s)
    latents = load_arrays(folder / OLD_LATENTS_FILE).get("latents")
    try:
        records: list[dict[str, Any]] = json.loads((folder / OLD_RECORDS_FILE).read_text(encoding="utf-8"))
        assert latents is not None
        library = SkillLibrary.in_memory(latents.shape[1])
        with library.changing("import", None, "format 1") as change:
            for record, latent in zip(records, check_latents(latents, "latents"), strict=True):
                details = (compact_json(record["provenance"]), compact_json(record["support"]))
                content = (record["sentence"], schema.blob(latent), *details, int(record["enabled"]))
                change.insert(Row(record["id"] + 1, 1, 0, 0, *content, None))  # format 1 counted ids from 0
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise ArtifactCorrupt(
            f"library {str(folder)!r} of format 1 cannot be read ({error}); expected {OLD_RECORDS_FILE} and {OLD_LATENTS_FILE}; "
            "build it again"
        ) from error
    return library
