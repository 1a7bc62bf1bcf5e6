"""`lago bench library`: speed and size of the skill library, beside plain FAISS on the same vectors in the same run."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.library import NewSkill, SkillLibrary, index
from lago_skills.library.cache import INDEX_DIR, read_manifest

LATENT_SIZE = 16
"""The product's: `decoder.latent_size`."""
SIZES = (1_000, 10_000, 100_000, 1_000_000)
K = 8
N_QUERIES, N_ADDS, BULK, ROUNDS = 2_000, 50, 20_000, 5
Row = dict[str, Any]


def latents(n: int, seed: int) -> NDArray[np.float32]:
    """(N, Z) unit vectors in bunches of about twenty, as skills that are variants of each other are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(max(n // 20, 8), LATENT_SIZE))
    rows = centres[rng.integers(0, len(centres), n)] + 0.3 * rng.normal(size=(n, LATENT_SIZE))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def skills(vectors: NDArray[np.float32], first: int) -> list[NewSkill]:
    """Skills with words, tasks and support as the product's have them."""
    return [
        NewSkill(
            f"move the open fingers above the handle, variant {first + i}",
            row,
            provenance={"by": "bench", "tasks": [f"task {i % 50}"]},
            support={"segments": 5.0, "steps": 120.0},
        )
        for i, row in enumerate(vectors)
    ]


def bench(sizes: tuple[int, ...] = SIZES, say: Callable[[str], None] = lambda text: None) -> tuple[list[Row], Row]:
    """A row for each size of one growing library, and what was measured on."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="lago-bench-") as scratch:
        folder = Path(scratch) / "library"
        library = SkillLibrary.create(folder, LATENT_SIZE)
        vectors = np.zeros((0, LATENT_SIZE), np.float32)
        for size in sizes:
            say(f"growing to {size:,} skills")
            bulk, added = 0.0, 0
            while len(vectors) < size:
                more = latents(min(BULK, size - len(vectors)), len(vectors) + 1)
                portion = skills(more, len(vectors))
                start = time.perf_counter()
                library.add_many(portion)
                bulk += time.perf_counter() - start
                added += len(portion)
                vectors = np.concatenate([vectors, more])
            start = time.perf_counter()
            library.compact()
            compacted = time.perf_counter() - start
            rows.append(_one(folder, vectors, say))
            rows[-1] |= {"bulk_adds_per_s": round(added / bulk), "compact_s": round(compacted, 2)}
            extra = latents(N_ADDS, 10_000_000 + size)
            rows[-1]["add_ms"] = round(_adds(library, extra, size), 3)
            vectors = np.concatenate([vectors, extra])
        library.close()
    summary: Row = {"latent_size": LATENT_SIZE, "k": K, "threads": 1, "queries": N_QUERIES, "rounds": ROUNDS}
    return rows, summary


def _adds(library: SkillLibrary, extra: NDArray[np.float32], size: int) -> float:
    """Median milliseconds of one durable add."""
    times: list[float] = []
    for skill in skills(extra, size):
        start = time.perf_counter()
        library.add(skill.sentence, skill.latent, provenance=skill.provenance, support=skill.support)
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def _one(folder: Path, vectors: NDArray[np.float32], say: Callable[[str], None]) -> Row:
    """Search speed of a library opened anew, in turns with the peer; recall against exact search; memory."""
    before = _memory()
    start = time.perf_counter()
    library = SkillLibrary.open(folder)
    opened = time.perf_counter() - start
    queries = latents(N_QUERIES, 77)
    library.search(queries[:64], K)
    for query in queries[:500]:
        library.search(query[None], K)
    memory = _memory() - before
    library.follower.settle()
    ids = np.arange(1, len(vectors) + 1, dtype=np.int64)
    peer = index.build(ids, vectors)
    exact = index.build_exact(ids, vectors)
    say(f"searching {len(vectors):,} skills, {library.index_kind} index")
    ours: list[NDArray[np.float64]] = []
    theirs: list[NDArray[np.float64]] = []
    for _ in range(ROUNDS):
        theirs.append(_times(peer.search, queries))
        ours.append(_times(library.search, queries))
    far = np.random.default_rng(3).normal(size=(500, LATENT_SIZE)).astype(np.float32)
    far /= np.linalg.norm(far, axis=1, keepdims=True)
    p50, peer_p50 = (float(np.median([np.median(r) for r in rounds])) for rounds in (ours, theirs))
    row: Row = {
        "size": len(vectors),
        "index": library.index_kind,
        "p50_us": round(1e6 * p50, 1),
        "p99_us": round(1e6 * float(np.median([np.quantile(r, 0.99) for r in ours])), 1),
        "peer_p50_us": round(1e6 * peer_p50, 1),
        "peer_p99_us": round(1e6 * float(np.median([np.quantile(r, 0.99) for r in theirs])), 1),
        "exact_p50_us": round(1e6 * float(np.median(_times(exact.search, queries[:200]))), 1),
        "ratio": round(p50 / peer_p50, 2),
        "recall": _recall(library, exact, queries[:500]),
        "recall_far": _recall(library, exact, far),
        "open_s": round(opened, 3),
        "memory_mb": round(memory / 1e6, 1),
        **_parts(folder, vectors, memory),
    }
    library.close()
    del library, peer, exact
    gc.collect()
    return row


def _recall(library: SkillLibrary, exact: index.LatentIndex, queries: NDArray[np.float32]) -> float:
    """Share of the true nearest that the library finds."""
    best = np.concatenate([exact.search(part, K)[1] for part in np.array_split(queries, 10)])
    return round(index.recall(library.search(queries, K).ids, best), 4)


def _parts(folder: Path, vectors: NDArray[np.float32], memory: int) -> Row:
    """What memory is compared with: vectors, index and text."""
    manifest = read_manifest(folder)
    on_disk = (
        sum((folder / INDEX_DIR / name).stat().st_size for name in manifest.hashes) if manifest else vectors.nbytes
    )
    text = sum(len(s.sentence) + sum(map(len, s.texts)) for s in skills(vectors[:1000], 0)) * len(vectors) // 1000
    parts = vectors.nbytes + on_disk + text
    return {"parts_mb": round(parts / 1e6, 1), "memory_ratio": round(memory / parts, 2)}


def _times(search: Callable[..., Any], queries: NDArray[np.float32]) -> NDArray[np.float64]:
    """Seconds of each single search."""
    times = np.empty(len(queries))
    for i in range(len(queries)):
        query = queries[i : i + 1]
        start = time.perf_counter()
        search(query, K)
        times[i] = time.perf_counter() - start
    return times


def _memory() -> int:
    """Resident bytes of this process."""
    gc.collect()
    with Path("/proc/self/statm").open(encoding="ascii") as stream:
        return int(stream.read().split()[1]) * 4096
