"""Two writers and four readers on one library at the same time, in processes of their own.

python -m tests.library_crowd --seconds 60
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.library.storage.verify import verify
from tests.library_kills import Z, latents, small_thresholds


def write(folder: Path, seed: int, seconds: float, results: Any) -> None:
    """Add and change skills until the time is up; reports how many of each were acknowledged."""
    small_thresholds()
    rng = np.random.default_rng(seed)
    added: list[int] = []
    counts = {"writer": seed, "added": 0, "disabled": 0, "edits": 0, "errors": 0}
    with SkillLibrary.open(folder, mode="write", timeout_s=30.0) as library:
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            try:
                n = int(rng.integers(1, 4))
                added += library.add_many([NewSkill(f"w{seed} {i}", row) for i, row in enumerate(latents(n, rng))])
                counts["added"] += n
                if rng.random() < 0.3:
                    library.edit(int(rng.choice(added)), latent=latents(1, rng)[0])
                    counts["edits"] += 1
                if rng.random() < 0.1:
                    library.disable(added.pop(int(rng.integers(len(added)))))
                    counts["disabled"] += 1
                if rng.random() < 0.02:
                    library.compact()
                time.sleep(0.002)
            except Exception as error:
                counts["errors"] += 1
                counts["error"] = repr(error)  # pyright: ignore[reportArgumentType]
                break
    results.put(counts)


def read(folder: Path, seed: int, seconds: float, results: Any) -> None:
    """Search until the time is up; every answer must make sense, and the library must only ever grow."""
    small_thresholds()
    rng = np.random.default_rng(1000 + seed)
    counts = {"reader": seed, "searches": 0, "changes_seen": 0, "errors": 0}
    last = 0
    with SkillLibrary.open(folder) as library:
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            try:
                found = library.search(latents(1, rng), 8)
                scores = found.scores[0][found.ids[0] >= 0]
                assert len(set(found.ids[0].tolist())) == 8, found
                assert (np.diff(scores) <= 1e-6).all(), found
                np.testing.assert_allclose(np.linalg.norm(library.latents(found.ids)[0], axis=1), 1.0, rtol=1e-3)
                assert library.change >= last
                counts["changes_seen"] += library.change > last
                last = library.change
                counts["searches"] += 1
            except Exception as error:
                counts["errors"] += 1
                counts["error"] = repr(error)  # pyright: ignore[reportArgumentType]
                break
    results.put(counts)


def run(seconds: float, folder: Path) -> dict[str, Any]:
    """Let the crowd in; returns the sums and whether they add up."""
    small_thresholds()
    with SkillLibrary.create(folder, Z) as library:
        library.add_many([NewSkill(f"first {i}", row) for i, row in enumerate(latents(50, np.random.default_rng(0)))])
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()
    jobs: list[tuple[Callable[..., None], int]] = [*[(write, i) for i in range(2)], *[(read, i) for i in range(4)]]
    processes = [context.Process(target=job, args=(folder, i, seconds, results)) for job, i in jobs]
    for process in processes:
        process.start()
    reports: list[dict[str, Any]] = [results.get(timeout=seconds + 60) for _ in processes]
    for process in processes:
        process.join()
    added = 50 + sum(r.get("added", 0) for r in reports)
    active = added - sum(r.get("disabled", 0) for r in reports)
    with SkillLibrary.open(folder) as library:
        counted = {"records": len(library), "active": library.n_active}
    return {
        "reports": sorted(reports, key=str),
        "expected": {"records": added, "active": active},
        "counted": counted,
        "errors": sum(r["errors"] for r in reports),
        "problems": [p.text for p in verify(folder)],
    }


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lago-crowd-") as scratch:
        found = run(options.seconds, Path(scratch) / "library")
    print(json.dumps(found))
    return 0 if found["expected"] == found["counted"] and not found["errors"] and not found["problems"] else 1


if __name__ == "__main__":
    sys.exit(main())
