"""Nearest-neighbour indexes by size. The only door to FAISS.

Up to EXACT_MAX vectors the search is exact (IndexFlatIP); above, vectors are filed in cells (IVF,Flat) and as many cells
are looked into as a measured recall asks for. An index is never changed once it is searched (FAISS crashes if vectors
are added meanwhile): a changed one is made beside it and takes its place.
"""

# FAISS ships partial types; its values are typed here and nowhere else.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

EXACT_MAX = 20_000
"""Most vectors searched exactly: about 0.15 ms at 16 numbers a vector, one thread. Cells take a tenth of that from here on,
but a library this small is not worth an approximation."""
CELLS_PER_SQRT = 2.0
"""Cells = this times the square root of the number of vectors. Four times the square root, FAISS's usual advice, finds no
faster at the same recall on latents of 16 numbers, and takes three times as long to train."""
TRAINING_POINTS_PER_CELL = 40
"""FAISS warns below 39."""
TARGET_RECALL = 0.995
"""Share of the true eight nearest that calibration asks for on its own sample, so that .99 holds on others."""
PROBES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
RETRAIN_GROWTH = 2.0
"""Cells are trained anew when the library has grown by this factor since."""

Kind = Literal["exact", "cells"]


@cache
def _faiss() -> Any:  # its stubs describe the C++ side, not what Python may pass
    """The package, loaded when it is first needed: most commands look no skill up."""
    import faiss

    faiss.omp_set_num_threads(1)
    return faiss


class LatentIndex:
    """A FAISS index over skill ids, ready to search."""

    def __init__(self, faiss_index: Any, kind: Kind, n_trained: int) -> None:
        self.faiss_index = faiss_index
        self.kind: Kind = kind
        self.n_trained = n_trained
        self.search: Any = faiss_index.search
        """FAISS's own: (B, Z) float32, k -> scores (B, k) and ids (B, k)."""

    @property
    def size(self) -> int:
        """Number of vectors."""
        return int(self.faiss_index.ntotal)

    @property
    def probes(self) -> int:
        """Cells looked into per query; 0 for an exact index."""
        return int(self.faiss_index.nprobe) if self.kind == "cells" else 0

    def search_among(
        self, queries: NDArray[np.float32], k: int, allowed: Bitmap
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest among allowed ids; the filter is applied inside the search."""
        if self.kind == "exact":
            parameters = _faiss().SearchParameters(sel=allowed.selector)
        else:
            parameters = _faiss().SearchParametersIVF(sel=allowed.selector, nprobe=self.probes)
        return self.faiss_index.search(queries, k, params=parameters)

    def serialize(self) -> memoryview:
        """The index as bytes; equal indexes give equal bytes."""
        data: NDArray[np.uint8] = _faiss().serialize_index(self.faiss_index)
        return data.data


class Bitmap:
    """A set of ids in the form that FAISS filters by."""

    def __init__(self, ids: NDArray[np.int64], max_id: int) -> None:
        flags = np.zeros(max_id + 1, np.uint8)
        flags[ids] = 1
        self._bits = np.packbits(flags, bitorder="little")
        self.selector: Any = _faiss().IDSelectorBitmap(self._bits)


def build(ids: NDArray[np.int64], vectors: NDArray[np.float32], trained: LatentIndex | None = None) -> LatentIndex:
    """An index over (N,) ids and (N, Z) unit vectors; cells are taken over from `trained` while they still fit."""
    if len(ids) <= EXACT_MAX:
        return build_exact(ids, vectors)
    return _build_cells(ids, vectors, trained)


def build_exact(ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> LatentIndex:
    """An exact index, whatever the size."""
    index: Any = _faiss().IndexIDMap2(_faiss().IndexFlatIP(vectors.shape[1]))
    if len(ids):
        index.add_with_ids(np.ascontiguousarray(vectors, np.float32), ids)
    return LatentIndex(index, "exact", 0)


def _build_cells(ids: NDArray[np.int64], vectors: NDArray[np.float32], trained: LatentIndex | None) -> LatentIndex:
    n, size = vectors.shape
    vectors = np.ascontiguousarray(vectors, np.float32)
    if trained is not None and trained.kind == "cells" and n <= RETRAIN_GROWTH * trained.n_trained:
        # Not a clone: an index mapped from a file aborts the process when it is changed, and so does a clone of it.
        centroids = _faiss().downcast_index(trained.faiss_index.quantizer).reconstruct_n(0, trained.faiss_index.nlist)
        index, n_trained = _cells(centroids, size), trained.n_trained
    else:
        n_cells = int(CELLS_PER_SQRT * np.sqrt(n))
        sample = np.random.default_rng(0).permutation(n)[: TRAINING_POINTS_PER_CELL * n_cells]
        clustering = _faiss().Kmeans(size, n_cells, niter=8, spherical=True, seed=0, min_points_per_centroid=1)
        clustering.train(vectors[np.sort(sample)])
        index, n_trained = _cells(clustering.centroids, size), n
    index.add_with_ids(vectors, ids)
    index.nprobe = _calibrate(index, ids, vectors)
    return LatentIndex(index, "cells", n_trained)


def _cells(centroids: NDArray[np.float32], size: int) -> Any:
    """An empty index of cells around (C, Z) centroids."""
    quantizer: Any = _faiss().IndexFlatIP(size)
    quantizer.add(centroids)
    index: Any = _faiss().IndexIVFFlat(quantizer, size, len(centroids), _faiss().METRIC_INNER_PRODUCT)
    quantizer.this.disown()
    index.own_fields = True
    index.is_trained = True
    return index


def _calibrate(index: Any, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> int:
    """The least number of cells that finds TARGET_RECALL of the true eight nearest of queries near the data and away from it."""
    rng = np.random.default_rng(1)
    size = vectors.shape[1]
    near = vectors[rng.integers(0, len(vectors), 256)] + rng.normal(0.0, 0.5 / np.sqrt(size), (256, size))
    groups: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
    exact = build_exact(ids, vectors)
    for raw in (near, rng.normal(size=(256, size))):
        queries = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
        groups.append((queries, exact.search(queries, 8)[1]))
    for probes in PROBES:
        index.nprobe = probes
        if all(recall(index.search(queries, 8)[1], best) >= TARGET_RECALL for queries, best in groups):
            return probes
    return PROBES[-1]


def recall(ids: NDArray[np.int64], best: NDArray[np.int64]) -> float:
    """Share of the true nearest ids (B, K) that were found (B, K)."""
    return float((ids[:, :, None] == best[:, None, :]).any(axis=1).mean())


def deserialize(data: bytes, kind: Kind, n_trained: int) -> LatentIndex:
    """What `serialize` made.

    Raises:
        RuntimeError: it is not an index.
    """
    return LatentIndex(_faiss().deserialize_index(np.frombuffer(data, np.uint8)), kind, n_trained)


def map_file(path: str, kind: Kind, n_trained: int) -> LatentIndex:
    """An index file mapped into memory: opening reads nothing, pages come in as they are searched.

    Raises:
        RuntimeError: it is not an index.
    """
    return LatentIndex(_faiss().read_index(path, _faiss().IO_FLAG_MMAP_IFC), kind, n_trained)
