"""What a skill library looks like inside its SQLite file, and the form of one row.

Two tables hold the same truth twice. `skill` has the present version of each skill, `version` has every version ever written,
the present one included. Each row carries a checksum of its content, so that damage is found row by row and the other
table, the latents kept beside the index, or the decoder can give back what was lost, provably: a candidate is right if
it restores the checksum.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Skill, skill_name
from lago_skills.errors import LibraryDamaged

FORMAT = 2
"""Format of the file (SQLite's user_version). Format 1 was a JSON file with safetensors, which is still read."""
APPLICATION_ID = 0x4C61476F
PAGE_SIZE = 4096

COLUMNS = "id, version, change, generation, sentence, latent, provenance, support, enabled, merged_into, checksum"
MARKS = "(" + ", ".join("?" * 11) + ")"
"""Room for the values of one row."""
_ROW = """
    version INTEGER NOT NULL, change INTEGER NOT NULL, generation INTEGER NOT NULL, sentence TEXT NOT NULL,
    latent BLOB NOT NULL, provenance TEXT NOT NULL, support TEXT NOT NULL, enabled INTEGER NOT NULL,
    merged_into INTEGER, checksum BLOB NOT NULL"""

SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE change (id INTEGER PRIMARY KEY AUTOINCREMENT, action TEXT NOT NULL, who TEXT NOT NULL, at TEXT NOT NULL,
    note TEXT NOT NULL);
CREATE TABLE skill (id INTEGER PRIMARY KEY AUTOINCREMENT, {_ROW});
CREATE TABLE version (id INTEGER NOT NULL, {_ROW}, PRIMARY KEY (id, version)) WITHOUT ROWID;
CREATE TABLE task (name TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (name, id)) WITHOUT ROWID;
CREATE TABLE embedding (sentence_hash BLOB PRIMARY KEY, vector BLOB NOT NULL, checksum BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX task_id ON task (id);
CREATE INDEX skill_change ON skill (change);
CREATE INDEX version_change ON version (change);
CREATE INDEX skill_sentence ON skill (sentence);
"""


class Row(NamedTuple):
    """One version of one skill as it is stored, without its checksum."""

    id: int
    version: int
    change: int
    generation: int
    sentence: str
    latent: bytes
    provenance: str
    support: str
    enabled: int
    merged_into: int | None

    @property
    def checksum(self) -> bytes:
        """Sixteen bytes over everything in the row."""
        return row_checksum(self)

    @property
    def active(self) -> bool:
        """Whether searches find it."""
        return bool(self.enabled) and self.merged_into is None

    @property
    def stored(self) -> tuple[Any, ...]:
        """The row as the table has it."""
        return (*self, row_checksum(self))

    @property
    def tasks(self) -> list[str]:
        """Tasks that the skill comes from."""
        return provenance_tasks(json.loads(self.provenance))

    @property
    def content(self) -> tuple[Any, ...]:
        """What a person can change: everything but change number, latent space and latent."""
        return (self.id, self.version, self.sentence, self.provenance, self.support, self.enabled, self.merged_into)


def row_checksum(row: tuple[Any, ...]) -> bytes:
    """Checksum of the first ten columns of a row: eight bytes for what it says, eight for its latent, which can be made anew."""
    head = f"{row[0]}|{row[1]}|{row[2]}|{row[3]}|{row[8]}|{row[9]}|{len(row[4])}|{len(row[6])}|"
    text = f"{head}{row[4]}{row[6]}{row[7]}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8).digest() + hashlib.blake2b(row[5], digest_size=8).digest()


def sound(stored: tuple[Any, ...]) -> bool:
    """Whether a row as the table has it matches its checksum."""
    try:
        return row_checksum(stored) == stored[10]
    except (TypeError, ValueError, AttributeError):  # a value of another type than was written
        return False


def sound_but_for_latent(stored: tuple[Any, ...]) -> bool:
    """Whether all of a row matches its checksum, or all but its latent."""
    try:
        return row_checksum((*stored[:5], b"", *stored[6:]))[:8] == stored[10][:8]
    except (TypeError, ValueError, AttributeError):
        return False


def bytes_checksum(data: bytes) -> bytes:
    """Checksum of a vector."""
    return hashlib.blake2b(data, digest_size=8).digest()


def sentence_hash(sentence: str) -> bytes:
    """What the embedding of a sentence is kept under."""
    return hashlib.sha256(sentence.encode()).digest()[:16]


def checked(stored: tuple[Any, ...], where: str) -> Row:
    """A row as the table has it -> the row, if its checksum holds.

    Raises:
        LibraryDamaged: it does not.
    """
    if not sound(stored):
        raise LibraryDamaged(
            f"library {where!r}: found skill {skill_name(stored[0])}, version {stored[1]}, with bytes that do not match its "
            f"checksum; expected what was written; run: lago skills repair {where}"
        )
    return Row(*stored[:10])


def provenance_tasks(provenance: dict[str, Any]) -> list[str]:
    """Task names in a provenance."""
    tasks: Any = provenance.get("tasks", [])
    return [str(task) for task in cast("list[Any]", tasks)] if isinstance(tasks, list) else [str(tasks)]


def compact_json(value: dict[str, Any]) -> str:
    """JSON in one form only, so that equal values are equal texts."""
    return _ENCODER.encode(value)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def blob(vector: NDArray[Any]) -> bytes:
    """A vector as little-endian float32."""
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def vector(data: bytes) -> NDArray[np.float32]:
    """What `blob` made."""
    return np.frombuffer(data, dtype="<f4")


def skill(row: Row, embedding: NDArray[np.float32] | None = None) -> Skill:
    """The record of a row."""
    return Skill(
        id=row.id,
        version=row.version,
        sentence=row.sentence,
        latent=vector(row.latent),
        enabled=bool(row.enabled),
        provenance=json.loads(row.provenance),
        support=json.loads(row.support),
        embedding=embedding,
        merged_into=row.merged_into,
    )
