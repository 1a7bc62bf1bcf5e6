"""The index on disk: a cache of the store, with the library and the change it was made from, thrown away when wrong.

Files are written under new names, synced, and named by `index.json`, which is replaced in one rename. FAISS's own files have
no checksum, so each file's SHA-256 is in `index.json` and is checked when it is opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lago_skills.artifacts.folder import file_hash, write_text
from lago_skills.library import index
from lago_skills.library.storage.snapshot import Base
from lago_skills.library.storage.sqlite_file import sync_folder

INDEX_DIR, MANIFEST_FILE = "index", "index.json"
CACHE_FORMAT = 1


@dataclass(frozen=True)
class CacheManifest:
    """What a cached index was made from, and its files with their hashes."""

    library_id: str
    generation: int
    change: int
    """The last change that it holds."""
    n_skills: int
    kind: index.Kind
    n_trained: int
    ids: str
    vectors: str
    faiss: str
    hashes: dict[str, str]
    format: int = CACHE_FORMAT


class CacheProblem(Exception):
    """Why a cached index cannot be used; it is rebuilt from the store, so nobody has to do anything."""


def read_manifest(folder: Path) -> CacheManifest | None:
    """The manifest, or None where there is no cache.

    Raises:
        CacheProblem: it cannot be read.
    """
    path = folder / INDEX_DIR / MANIFEST_FILE
    try:
        manifest = CacheManifest(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CacheProblem(f"{path.name} cannot be read ({error})") from error
    if manifest.format != CACHE_FORMAT:
        raise CacheProblem(f"{path.name} is of format {manifest.format}, this version uses {CACHE_FORMAT}")
    return manifest


def load(folder: Path, library_id: str, generation: int, change: int) -> Base | None:
    """The cached index, mapped into memory; None where there is none, or one of other latents.

    Raises:
        CacheProblem: it is damaged, of another library, or ahead of the store.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    if manifest.library_id != library_id:
        raise CacheProblem(
            f"it was made from another library ({manifest.library_id[:8]}, this one is {library_id[:8]})"
        )
    if manifest.change > change or manifest.generation > generation:
        raise CacheProblem(f"it holds change {manifest.change}, the store ends at {change}")
    if manifest.generation < generation:
        return None
    place = folder / INDEX_DIR
    for name, expected in manifest.hashes.items():
        path = place / name
        actual = file_hash(path) if path.is_file() else "no such file"
        if actual != expected:
            raise CacheProblem(f"{name} has hash {actual[:12]}, expected {expected[:12]}")
    ids = np.load(place / manifest.ids, mmap_mode="r", allow_pickle=False)
    vectors = np.load(place / manifest.vectors, mmap_mode="r", allow_pickle=False)
    latent_index = index.map_file(str(place / manifest.faiss), manifest.kind, manifest.n_trained)
    return Base(np.asarray(ids), np.asarray(vectors), latent_index, manifest.change, manifest.generation)


def save(folder: Path, library_id: str, base: Base) -> None:
    """Put an index in place of the cached one. Readers that have the old one mapped keep it.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the old cache is then still in place.
    """
    place = folder / INDEX_DIR
    place.mkdir(exist_ok=True)
    parts: dict[str, bytes | memoryview] = {
        "ids": _npy(base.ids),
        "vectors": _npy(base.vectors),
        "faiss": base.index.serialize(),
    }
    names: dict[str, str] = {}
    hashes: dict[str, str] = {}
    try:
        for part, data in parts.items():
            digest = hashlib.sha256(data).hexdigest()
            names[part] = f"{part}-{digest[:16]}"
            hashes[names[part]] = digest
            _write(place / names[part], data)
    except OSError:
        sweep(folder)
        raise
    manifest = CacheManifest(
        library_id,
        base.generation,
        base.change,
        len(base.ids),
        base.index.kind,
        base.index.n_trained,
        ids=names["ids"],
        vectors=names["vectors"],
        faiss=names["faiss"],
        hashes=hashes,
    )
    write_text(place / MANIFEST_FILE, json.dumps(asdict(manifest), indent=1) + "\n")
    sync_folder(place)
    sweep(folder)


def _npy(array: np.ndarray) -> memoryview:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getbuffer()


def _write(path: Path, data: bytes | memoryview) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def sweep(folder: Path) -> None:
    """Remove files that the manifest does not name: those of interrupted writers and of the index before."""
    place = folder / INDEX_DIR
    try:
        manifest = read_manifest(folder)
    except CacheProblem:
        manifest = None
    named = set(manifest.hashes) if manifest else set[str]()
    for path in place.glob("*"):
        if path.name not in named and path.name != MANIFEST_FILE:
            with contextlib.suppress(OSError):
                path.unlink()
    for path in place.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def drop(folder: Path) -> None:
    """Throw the cache away."""
    with contextlib.suppress(OSError):
        (folder / INDEX_DIR / MANIFEST_FILE).unlink()
    sweep(folder)
