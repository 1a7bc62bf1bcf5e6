"""Several libraries behind the interface of one: a shard for each environment, in one folder.

Ids of the whole are `shard number * 2^40 + id in the shard`, so they are never reused and still fit FAISS's 64 bits. Skills of
different environments have different decoders, so a search always names its environment; what is gained is that each
shard is opened, indexed, repaired and moved to another disk or machine by itself. See SCALE.md for 1e8 skills.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lago_skills.artifacts.folder import write_text
from lago_skills.core import Neighbors, Skill
from lago_skills.errors import ArtifactCorrupt, LibraryConflict
from lago_skills.library.library import SkillLibrary
from lago_skills.library.storage.lock import write_lock
from lago_skills.library.storage.store import Mode

SHARDS_FILE = "shards.json"
SHARD_BITS = 40


class ShardedLibrary:
    """Libraries by environment. Shards are opened when they are first used."""

    def __init__(self, folder: Path, mode: Mode = "read", timeout_s: float = 10.0) -> None:
        self.folder, self.timeout_s = folder, timeout_s
        self.mode: Mode = mode
        self._open: dict[str, SkillLibrary] = {}
        self.environments = self._read()

    def _read(self) -> list[str]:
        path = self.folder / SHARDS_FILE
        try:
            names: list[str] = json.loads(path.read_text(encoding="utf-8"))["environments"]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactCorrupt(
                f"{str(path)!r} cannot be read ({error}); expected the list of environments, in the order of their shard numbers; "
                "restore it: the folders beside it have the names"
            ) from error
        return names

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the shards that are open."""
        for shard in self._open.values():
            shard.close()
        self._open.clear()

    def create(self, environment: str, latent_size: int, decoder: str = "") -> SkillLibrary:
        """A new shard.

        Raises:
            LibraryConflict: the environment has one, or its name cannot be a folder's.
            LibraryBusy: another process is making one.
        """
        if not environment or not all(c.isalnum() or c in "-_." for c in environment) or environment.startswith("."):
            raise LibraryConflict(
                f"found environment name {environment!r}; expected letters, digits, '-', '_' and '.'; choose another name"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with write_lock(self.folder, self.timeout_s):
            self.environments = self._read()
            if environment in self.environments:
                raise LibraryConflict(
                    f"found a shard for environment {environment!r} already; expected a new one; open it with shard({environment!r})"
                )
            SkillLibrary.create(self.folder / environment, latent_size, decoder).close()
            self.environments = [*self.environments, environment]
            write_text(self.folder / SHARDS_FILE, json.dumps({"environments": self.environments}) + "\n")
        return self.shard(environment)

    def shard(self, environment: str) -> SkillLibrary:
        """The library of an environment.

        Raises:
            LibraryConflict: it has none.
        """
        if environment not in self._open:
            if environment not in self.environments:
                self.environments = self._read()
            if environment not in self.environments:
                raise LibraryConflict(
                    f"found no shard for environment {environment!r}; expected one of {self.environments}; create it first"
                )
            self._open[environment] = SkillLibrary.open(self.folder / environment, self.mode, self.timeout_s)
        return self._open[environment]

    def __len__(self) -> int:
        return sum(len(self.shard(name)) for name in self.environments)

    def search(self, environment: str, latents: NDArray[Any], k: int, tasks: Sequence[str] | None = None) -> Neighbors:
        """(B, Z) query latents of an environment -> its k nearest enabled skills, with ids of the whole.

        Raises:
            LibraryConflict: no such environment.
            ShapeError: as for `SkillLibrary.search`.
        """
        found = self.shard(environment).search(latents, k, tasks)
        number = self.environments.index(environment)
        return Neighbors(np.where(found.ids >= 0, found.ids + (number << SHARD_BITS), -1), found.scores)

    def locate(self, skill_id: int) -> tuple[SkillLibrary, int]:
        """An id of the whole -> its shard and its id there.

        Raises:
            LibraryConflict: there is no such shard.
        """
        number = skill_id >> SHARD_BITS
        if not 0 <= number < len(self.environments):
            raise LibraryConflict(
                f"found id {skill_id} of shard {number}; expected a shard below {len(self.environments)}; use ids that a search gave"
            )
        return self.shard(self.environments[number]), skill_id & ((1 << SHARD_BITS) - 1)

    def get(self, skill_id: int) -> Skill:
        """The record with an id of the whole (its own `id` is that in its shard).

        Raises:
            LibraryConflict: no such shard or id.
        """
        shard, own = self.locate(skill_id)
        return shard.get(own)

    def latents(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """(...,) ids of the whole, all of one environment -> (..., Z) latents; -1 gives zeros.

        Raises:
            LibraryConflict: no such shard or id, or ids of several shards.
        """
        numbers = np.unique(ids[ids >= 0] >> SHARD_BITS)
        if len(numbers) != 1:
            raise LibraryConflict(
                f"found ids of {len(numbers)} shards; expected ids of one environment, since each has latents of its own; ask by shard"
            )
        shard, _ = self.locate(int(numbers[0]) << SHARD_BITS)
        return shard.latents(np.where(ids >= 0, ids & ((1 << SHARD_BITS) - 1), -1))
