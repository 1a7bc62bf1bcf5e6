"""What may be done within one change of a library. Rows are gathered and written together at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from lago_skills.core import skill_name
from lago_skills.errors import LibraryConflict
from lago_skills.library.storage import schema, sqlite_file
from lago_skills.library.storage.schema import COLUMNS, MARKS, Row

if TYPE_CHECKING:
    from lago_skills.library.storage.store import SkillStore


class Transaction:
    """What may be done within one change. Rows are gathered and written at the end."""

    def __init__(self, store: SkillStore, action: str, who: str, note: str) -> None:
        self.store = store
        self.connection = store.connection
        cursor = self.connection.execute(
            "INSERT INTO change (action, who, at, note) VALUES (?, ?, ?, ?)", (action, who, sqlite_file.now(), note)
        )
        self.change = int(cursor.lastrowid or 0)
        self.generation = int(store.value("generation"))
        self._added: list[Row] = []
        self._replaced: list[Row] = []
        self._moved: list[int] = []  # replaced, and of other tasks than before
        self._tasks: list[tuple[str, int]] = []
        self.next_id = self._last_id() + 1
        """Id of the next new skill."""

    def _last_id(self) -> int:
        last = self.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'skill'").fetchone()
        return int(last[0]) if last else 0

    def add(
        self, sentence: str, latent: bytes, provenance: str, support: str, tasks: Sequence[str], enabled: bool = True
    ) -> int:
        """A new skill; returns its id. `tasks` are those of the provenance."""
        row = Row(
            self.next_id, 1, self.change, self.generation, sentence, latent, provenance, support, int(enabled), None
        )
        self.next_id += 1
        self._added.append(row)
        self._tasks += [(task, row.id) for task in tasks]
        return row.id

    def insert(self, row: Row) -> None:
        """A new skill with an id of one's own (imports that keep ids).

        Raises:
            LibraryConflict: the id is or was in use.
        """
        if row.id < self.next_id:
            raise LibraryConflict(
                f"library {self.store.where!r}: found id {skill_name(row.id)} for a new skill; expected one that was never used "
                f"({skill_name(self.next_id)} or above); add it without its id"
            )
        self.next_id = row.id + 1
        self._added.append(row._replace(version=1, change=self.change, generation=self.generation))
        self._tasks += [(task, row.id) for task in row.tasks]

    def put(self, row: Row, before: Row) -> None:
        """A new version of a skill. The caller has changed what it wants of the present row."""
        after = row._replace(version=before.version + 1, change=self.change)
        self._replaced.append(after)
        if after.provenance != before.provenance and after.tasks != before.tasks:
            self._moved.append(after.id)
            self._tasks += [(task, after.id) for task in after.tasks]

    def embed(self, sentence: str, vector: NDArray[Any]) -> None:
        """Keep the embedding of a sentence."""
        data = schema.blob(vector)
        self.connection.execute(
            "INSERT OR REPLACE INTO embedding (sentence_hash, vector, checksum) VALUES (?, ?, ?)",
            (schema.sentence_hash(sentence), data, schema.bytes_checksum(data)),
        )

    def replace_latents(self, latents: Callable[[list[Row]], list[bytes]], decoder: str) -> int:
        """Move every skill into a new latent space, and note which decoder's it is; returns the new generation."""
        generation = self.generation + 1
        last = 0
        while rows := list(self.store.rows("WHERE id > ? ORDER BY id LIMIT 10000", (last,))):
            moved = [
                row._replace(latent=latent, generation=generation)
                for row, latent in zip(rows, latents(rows), strict=True)
            ]
            self.connection.executemany(
                "UPDATE skill SET latent = ?, generation = ?, checksum = ? WHERE id = ?",
                [(row.latent, row.generation, row.checksum, row.id) for row in moved],
            )
            last = rows[-1].id
            self.set("latent_size", str(len(moved[-1].latent) // 4))
        self.set("generation", str(generation))
        self.set("decoder", decoder)
        return generation

    def set(self, key: str, value: str) -> None:
        """Change a setting."""
        self.connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def flush(self) -> None:
        """Write the gathered rows."""
        rows = [row.stored for row in (*self._added, *self._replaced)]
        self.connection.executemany(f"INSERT OR REPLACE INTO skill ({COLUMNS}) VALUES {MARKS}", rows)
        self.connection.executemany(f"INSERT INTO version ({COLUMNS}) VALUES {MARKS}", rows)
        self.connection.executemany("DELETE FROM task WHERE id = ?", [(number,) for number in self._moved])
        self.connection.executemany(
            "INSERT OR IGNORE INTO task (name, id) VALUES (?, ?)",
            self._tasks,
        )
        self._added, self._replaced, self._moved, self._tasks = [], [], [], []
