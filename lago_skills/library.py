"""The skill library: records as the truth, a FAISS index as a cache of them. The only door to FAISS.

This first form keeps the records in one JSON file and their latents in safetensors, written together as an artifact;
the index is made when the library is opened. Ids are never reused and are also the index's ids.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import faiss
import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Neighbors, Skill, check_finite
from lago_skills.errors import ArtifactCorrupt, LibraryConflict, ShapeError
from lago_skills.tensors import load_arrays, save_arrays

RECORDS_FILE, LATENTS_FILE = "skills.json", "latents.safetensors"
faiss.omp_set_num_threads(1)


@dataclass(frozen=True)
class SkillLibrary:
    """Skills in order of id, with exact nearest-neighbour search over the enabled ones."""

    skills: tuple[Skill, ...]

    def __post_init__(self) -> None:
        """Check ids and latents and build the index.

        Raises:
            LibraryConflict: an id occurs twice.
            ShapeError: latents of different sizes, not finite, or not of unit length.
        """
        ids = [skill.id for skill in self.skills]
        if len(set(ids)) != len(ids):
            raise LibraryConflict(f"library: found ids {sorted(ids)}; expected each once; rebuild the library")
        sizes = {skill.latent.shape for skill in self.skills}
        if len(sizes) > 1 or any(len(size) != 1 for size in sizes):
            raise ShapeError(
                f"library: found latents of shapes {sorted(sizes)}; expected one (Z,); rebuild the library"
            )
        for skill in self.skills:
            check_finite(skill.latent, f"latent of skill s{skill.id:04d}")
            if abs(float(np.linalg.norm(skill.latent)) - 1.0) > 1e-3:
                raise ShapeError(f"latent of skill s{skill.id:04d}: expected unit length; rebuild the library")
        enabled = [skill for skill in self.skills if skill.enabled]
        size = self.skills[0].latent.shape[0] if self.skills else 1
        index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(size))
        if enabled:
            index.add_with_ids(
                np.stack([skill.latent for skill in enabled]).astype(np.float32),
                np.array([skill.id for skill in enabled], dtype=np.int64),
            )
        object.__setattr__(self, "_index", index)
        table = np.zeros((max(ids, default=-1) + 1, size), np.float32)
        for skill in self.skills:
            table[skill.id] = skill.latent
        object.__setattr__(self, "_table", table)

    def __len__(self) -> int:
        return len(self.skills)

    def get(self, skill_id: int) -> Skill:
        """The record with that id.

        Raises:
            LibraryConflict: no such id.
        """
        for skill in self.skills:
            if skill.id == skill_id:
                return skill
        raise LibraryConflict(
            f"library has no skill s{skill_id:04d}; expected one of its {len(self)} ids; list them first"
        )

    def search(self, latents: NDArray[Any], k: int) -> Neighbors:
        """(B, Z) query latents -> the k nearest enabled skills by inner product, best first.

        Raises:
            ShapeError: wrong latent size or values that are not finite.
        """
        table = cast("NDArray[np.float32]", object.__getattribute__(self, "_table"))
        if latents.ndim != 2 or latents.shape[1] != table.shape[1]:
            raise ShapeError(
                f"library search: found queries {latents.shape}; expected (B, {table.shape[1]}); "
                "query with latents of the decoder this library was made with"
            )
        check_finite(latents, "query latents")
        index: Any = object.__getattribute__(self, "_index")
        scores, ids = index.search(np.ascontiguousarray(latents, dtype=np.float32), k)
        return Neighbors(ids=np.asarray(ids, np.int64), scores=np.asarray(scores, np.float32))

    def latents(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """(...,) skill ids -> (..., Z) latents; -1 gives zeros."""
        table = cast("NDArray[np.float32]", object.__getattribute__(self, "_table"))
        return np.where((ids >= 0)[..., None], table[np.maximum(ids, 0)], np.float32(0))

    def with_enabled(self, skill_id: int, enabled: bool) -> SkillLibrary:
        """A library in which one skill is enabled or disabled, as a new version of its record."""
        skill = self.get(skill_id)
        changed = replace(skill, enabled=enabled, version=skill.version + 1)
        return SkillLibrary(tuple(changed if s.id == skill_id else s for s in self.skills))

    def save(self, folder: Path) -> None:
        """Write records and latents into a folder."""
        records = [
            {
                "id": skill.id,
                "version": skill.version,
                "sentence": skill.sentence,
                "enabled": skill.enabled,
                "provenance": skill.provenance,
                "support": skill.support,
            }
            for skill in self.skills
        ]
        (folder / RECORDS_FILE).write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        save_arrays({"latents": np.stack([skill.latent for skill in self.skills])}, folder / LATENTS_FILE)

    @staticmethod
    def load(folder: Path) -> SkillLibrary:
        """Read a folder.

        Raises:
            ArtifactCorrupt: a file is missing, not of this form, or the two do not belong together.
        """
        try:
            records: list[dict[str, Any]] = json.loads((folder / RECORDS_FILE).read_text(encoding="utf-8"))
            latents = load_arrays(folder / LATENTS_FILE)["latents"]
            return SkillLibrary(
                tuple(Skill(latent=latent, **record) for record, latent in zip(records, latents, strict=True))
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactCorrupt(
                f"library {str(folder)!r} cannot be read ({error}); expected {RECORDS_FILE} and {LATENTS_FILE}; build it again"
            ) from error
