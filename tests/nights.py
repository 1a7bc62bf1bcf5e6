"""A small study every night, with kills in between: `python -m tests.nights 60` prints what grows and what does not.

Each night has another seed, so that every stage is made anew, on the project's own Prefect server. One night in three is killed (SIGKILL) at a random
time and run again. Every ten nights old runs are removed from Prefect's database, and its server forgets events of more than ten minutes ago, which are
some ten of these nights, in place of a week. One JSON object at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from lago_skills.commands.cli import main as lago_here
from lago_skills.flows.main import run_stages
from tests.conftest import ROOT
from tests.test_pipeline import processes_of
from tests.test_small_worlds import NUMBERS, answer, begin

CLEAN_EVERY, KILL_EVERY = 10, 3


def command(root: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lago_skills.flows.main", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "PT600S"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def size(folder: Path) -> int:
    """Bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def prepare(root: Path) -> Path:
    """A study of the small plane with recorded answers."""
    path = begin(
        root,
        "plane",
        "PlaneWorld",
        "numbers",
        seen="visit fetch",
        unseen="fetch-south",
        algorithms="guided-ppo",
        decoder="n_updates = 100",
    )

    def lago(*arguments: str) -> tuple[int, str, str]:
        return lago_here(["--root", str(root), *arguments], run_stages), "", ""

    assert lago("plan", "plane", "--scenes")[0] == 0
    answer(lago, root, "plane", NUMBERS)
    return path


def night(root: Path, study: Path, number: int, chance: random.Random) -> dict[str, Any]:
    """One night; how long the run that ended took, and whether one before it was killed."""
    text = re.sub(r"^seed = .*\n", "", study.read_text(encoding="utf-8"), flags=re.MULTILINE)
    study.write_text(text.replace("[world]", f"seed = {number % 100}\n[world]", 1), encoding="utf-8")
    killed = number % KILL_EVERY == 0
    if killed:
        run = command(root, "run", "plane", "--json")
        time.sleep(chance.uniform(1.0, 15.0))
        run.kill()
        run.communicate()
    began = time.monotonic()
    run = command(root, "run", "plane", "--json")
    out, err = run.communicate()
    seconds = time.monotonic() - began
    assert run.returncode == 0, err
    assert json.loads(out)["summary"]["state"] == "done"
    if number % CLEAN_EVERY == CLEAN_EVERY - 1:
        cleaning = command(root, "flows", "clean", "--keep-days", "0")
        _, err = cleaning.communicate()
        assert cleaning.returncode == 0, err
    deadline = time.monotonic() + 30
    while processes_of(root) and time.monotonic() < deadline:
        time.sleep(0.2)
    return {
        "night": number,
        "killed": killed,
        "seconds": round(seconds, 2),
        "artifacts_kb": (size(root / "checkpoints") + size(root / "data")) // 1024,
        "prefect_kb": size(root / ".prefect") // 1024,
        "left_over": [str(path.relative_to(root)) for path in root.rglob("*.tmp")],
        "processes": processes_of(root),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nights", type=int)
    n_nights = parser.parse_args().nights
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        study = prepare(root)
        rows: list[dict[str, Any]] = []
        for number in range(n_nights):
            rows.append(night(root, study, number, chance))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)  # noqa: T201
    quiet = [row["seconds"] for row in rows if not row["killed"]]
    third = max(len(quiet) // 3, 1)
    summary = {
        "first_s": float(np.median(quiet[:third])),
        "last_s": float(np.median(quiet[-third:])),
        "ratio": round(float(np.median(quiet[-third:]) / np.median(quiet[:third])), 3),
        "left_over": sum(len(row["left_over"]) for row in rows),
        "processes": sum(len(row["processes"]) for row in rows),
    }
    print(json.dumps({"rows": rows, "summary": summary}))  # noqa: T201


if __name__ == "__main__":
    main()
