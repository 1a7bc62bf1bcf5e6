"""A service under mixed load for a while: `python -m tests.soak BUNDLE MINUTES` prints its memory each half minute, and what went wrong.

Clients ask one state, batches, explanations and nonsense over websocket and HTTP; the bundle is replaced every ten seconds, and the skill library that is
served beside it is edited every three.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from lago_skills.artifacts.folder import writing
from lago_skills.guide.loaded import load
from lago_skills.library import SkillLibrary
from lago_skills.library.exchange import copy
from lago_skills.serve.remote import RemoteGuide
from tests.served import Serving, serving

SAY_EVERY_S, REPLACE_EVERY_S, EDIT_EVERY_S = 30.0, 10.0, 3.0


def resident_mb(pid: int) -> float:
    """Of a process."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def replaced(bundle: Path, folder: Path, number: int) -> None:
    """The same bundle again under another manifest, as a new build is."""
    with writing(folder, "build", {"soak": number}) as writer:
        shutil.copytree(bundle, writer.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))


def load_service(
    running: Serving, size: int, tasks: list[str], stop: threading.Event, counts: list[int], problems: list[str]
) -> None:
    """Ask until it is time to stop."""
    rng = np.random.default_rng(threading.get_ident() % 2**32)
    with RemoteGuide(running.address) as guide:
        while not stop.is_set():
            task, kind = str(rng.choice(tasks)), rng.random()
            states = rng.normal(0.0, 0.3, (64 if kind < 0.2 else 1, size))
            try:
                if kind < 0.7:
                    guide.act(states, task)
                elif kind < 0.8:
                    guide.ask(states, task, want=["prior", "explanation"])
                elif kind < 0.9:
                    status, _ = running.act(observations=states.tolist(), task=task)
                    assert status == 200, status
                else:
                    status, _ = running.ask(rng.bytes(100))
                    assert status == 422, status
                counts[0] += len(states)
            except Exception as problem:
                problems.append(repr(problem))


def edit(library: SkillLibrary, stop: threading.Event, counts: list[int]) -> None:
    """One skill after the other is disabled and enabled, until it is time to stop."""
    skills = library.list()
    while not stop.wait(EDIT_EVERY_S):
        skill = skills[counts[1] // 2 % len(skills)]
        (library.enable if counts[1] % 2 else library.disable)(skill.id)
        counts[1] += 1


def main(bundle: Path, minutes: float) -> None:
    known = load(bundle)
    size, tasks = known.guide.grounding.observation_size, list(known.tasks)
    counts, problems, stop = [0, 0], list[str](), threading.Event()  # states, edits
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        replaced(bundle, folder, 0)
        copy(known.guide.library, Path(scratch) / "library")
        library = SkillLibrary.open(Path(scratch) / "library", "write")
        followed = ("--library", str(Path(scratch) / "library"))
        with library, serving(folder, "--unfamiliar", "answer", *followed) as running:
            clients = [threading.Thread(target=edit, args=(library, stop, counts))]
            clients += [
                threading.Thread(target=load_service, args=(running, size, tasks, stop, counts, problems))
                for _ in range(3)
            ]
            for client in clients:
                client.start()
            began, said, number = time.monotonic(), 0.0, 0
            memory: list[float] = []
            while (passed := time.monotonic() - began) < 60.0 * minutes:
                time.sleep(REPLACE_EVERY_S)
                number += 1
                replaced(bundle, folder, number)
                if passed - said >= SAY_EVERY_S:
                    said = passed
                    memory.append(round(resident_mb(running.process.pid), 1))
                    print(
                        f"{passed:6.0f} s  {memory[-1]:6.1f} MB  {counts[0]:,} states  {number} bundles  {counts[1]} edits  {len(problems)} problems",
                        flush=True,
                    )
            stop.set()
            for client in clients:
                client.join()
    print(
        json.dumps(
            {
                "states": counts[0],
                "bundles": number,
                "edits": counts[1],
                "memory_mb": memory,
                "problems": problems[:5],
                "n_problems": len(problems),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
