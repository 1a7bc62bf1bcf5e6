"""Kill a process that works on a library, again and again, and look what is left.

    python -m tests.library_kills --kills 300

Each round a child process adds, edits, merges, re-embeds, compacts and swaps indexes, writing down each acknowledged change
only after the library has acknowledged it. It is killed (SIGKILL) at a random moment; then everything that was
acknowledged must be there, nothing half, and the index must equal the store.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from lago_skills.library import NewSkill, SkillLibrary, follower, index
from lago_skills.library.storage import snapshot
from lago_skills.library.storage.verify import verify

Z = 8


def small_thresholds() -> None:
    """Let indexes be swapped, and kept on disk, every few changes."""
    follower.SMALL = snapshot.SMALL = 16
    follower.DELTA_MAX = snapshot.DELTA_MAX = 8
    index.EXACT_MAX = 400
    index.PROBES = (8, 64)


def latents(n: int, rng: np.random.Generator) -> np.ndarray:
    rows = rng.normal(size=(n, Z))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def digest(skill: Any) -> list[Any]:
    """What a change leaves of a skill, as it goes over the pipe."""
    return [skill.id, skill.version, skill.sentence, bool(skill.enabled), skill.merged_into, skill.support]


def work(folder: Path, seed: int, pipe: Connection) -> None:
    """Change the library until killed; says over the pipe what is about to be done, and what was acknowledged."""
    rng = np.random.default_rng(seed)
    small_thresholds()
    library = SkillLibrary.open(folder, mode="write")
    standing = [s.id for s in library.list() if s.merged_into is None]
    pipe.send(("ready", None))

    def add() -> list[Any]:
        n = int(rng.integers(1, 30))
        new = [
            NewSkill(f"skill {rng.integers(1 << 40)}", row, np.ones(4, np.float32), {"tasks": ["push"]}, {"steps": 1.0})
            for row in latents(n, rng)
        ]
        added = library.add_many(new)
        standing.extend(added)
        return [digest(library.get(added[0])), digest(library.get(added[-1]))]

    def edit() -> list[Any]:
        chosen = int(rng.choice(standing))
        return [
            digest(
                library.edit(
                    chosen, sentence=f"edited {rng.integers(1 << 40)}", latent=latents(1, rng)[0], embedding=np.ones(4)
                )
            )
        ]

    def switch() -> list[Any]:
        chosen = int(rng.choice(standing))
        (library.disable if rng.random() < 0.5 else library.enable)(chosen)
        return [digest(library.get(chosen))]

    def merge() -> list[Any]:
        into, *others = (int(i) for i in rng.choice(standing, 3, replace=False))
        library.merge(others, into)
        for other in others:
            standing.remove(other)
        return [digest(library.get(i)) for i in (into, *others)]

    def reembed() -> list[Any]:
        library.reembed(lambda sentences, e: latents(len(sentences), rng), f"decoder {rng.integers(1 << 40)}")
        return []

    def compact() -> list[Any]:
        library.compact()
        return []

    actions: list[Callable[[], list[Any]]] = [add, add, edit, edit, edit, switch, merge, compact, compact, reembed]
    while True:
        action = actions[int(rng.integers(len(actions)))]
        if action in (edit, switch, merge) and len(standing) < 4:
            action = add
        done = action()
        state = library.store.state()
        pipe.send((action.__name__, [state, done]))


@dataclass
class Tally:
    """What was seen over all rounds."""

    kills: int = 0
    acknowledged: int = 0
    unacknowledged_but_whole: int = 0
    lost: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])
    by_action: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def good(self) -> bool:
        """Whether nothing was lost and nothing was half done."""
        return not self.lost and not self.problems


def run(kills: int, seed: int, folder: Path, say: Callable[[str], None] = lambda text: None) -> Tally:
    """Kill a worker so many times; the library lives on from round to round."""
    rng = random.Random(seed)
    small_thresholds()
    SkillLibrary.create(folder, Z, "decoder").close()
    tally = Tally()
    known: dict[int, list[Any]] = {}
    context = multiprocessing.get_context("fork")  # one FAISS thread, so forking is safe, and fast
    for number in range(kills):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=work, args=(folder, seed * 100_000 + number, theirs), daemon=True)
        child.start()
        theirs.close()
        assert ours.recv()[0] == "ready"
        time.sleep(rng.random() ** 2 * 0.25)
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        last = (0, 0)
        try:
            while True:
                action, (state, done) = ours.recv()
                tally.acknowledged += 1
                tally.by_action[action] = tally.by_action.get(action, 0) + 1
                last = tuple(state)
                known |= {entry[0]: entry for entry in done}
        except EOFError:
            ours.close()
        tally.kills += 1
        look(folder, known, last, tally)
        if number % 50 == 49:
            say(
                f"{number + 1} kills, {tally.acknowledged} acknowledged changes, {len(tally.lost)} lost, {len(tally.problems)} problems"
            )
        if Path(folder / "library.sqlite").stat().st_size > 20_000_000:
            shutil.rmtree(folder)
            SkillLibrary.create(folder, Z, "decoder").close()
            known = {}
    return tally


def look(folder: Path, known: dict[int, list[Any]], last: tuple[int, ...], tally: Tally) -> None:
    """Everything acknowledged is there, nothing is half done, and the index equals the store."""
    tally.problems += [f"{p.kind}: {p.text}" for p in verify(folder)]
    with SkillLibrary.open(folder) as library:
        change, generation = library.store.state()
        if change < last[0] or generation < last[1]:
            tally.lost.append(f"change {last[0]}: the store ends at {change}")
        if change > last[0] > 0:
            tally.unacknowledged_but_whole += 1
        for skill_id, entry in list(known.items()):
            skill = library.get(skill_id)
            if skill.version < entry[1]:
                tally.lost.append(f"version {entry[1]} of skill {skill_id}: found {skill.version}")
            elif skill.version == entry[1] and digest(skill) != entry:
                tally.lost.append(f"skill {skill_id}: found {digest(skill)}, acknowledged {entry}")
        half_done(library, tally)
        active = [s for s in library.list(enabled=True) if s.merged_into is None]
        if library.n_active != len(active):
            tally.problems.append(f"index has {library.n_active} skills, store {len(active)}")
        for skill in active[:: max(len(active) // 50, 1)]:
            found = library.search(skill.latent[None], 1)
            if found.scores[0, 0] < 0.9999:
                tally.problems.append(f"the index does not find skill {skill.id}")


def half_done(library: SkillLibrary, tally: Tally) -> None:
    """A merge adds up steps: where one is missing, half of it was done. Latents of two spaces never mix."""
    steps: dict[int, float] = {}
    skills = library.list()
    for skill in skills:
        steps[skill.merged_into or skill.id] = steps.get(skill.merged_into or skill.id, 0.0)
    roots = {s.id: s.merged_into for s in skills}

    def root(skill_id: int) -> int:
        while roots[skill_id] is not None:
            skill_id = roots[skill_id] or 0
        return skill_id

    for skill in skills:
        steps[root(skill.id)] = steps.get(root(skill.id), 0.0) + 1.0
    for skill in skills:
        if skill.merged_into is None and skill.support["steps"] != steps[skill.id]:
            tally.problems.append(
                f"skill {skill.id} stands for {steps[skill.id]} skills, its support says {skill.support}"
            )
    generations = {row.generation for row in library.store.rows()}
    if len(generations) > 1:
        tally.problems.append(f"latents of generations {sorted(generations)} at once")


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lago-kills-") as scratch:
        tally = run(options.kills, options.seed, Path(scratch) / "library", lambda text: print(text, file=sys.stderr))
    print(json.dumps({**tally.__dict__, "good": tally.good}))
    return 0 if tally.good else 1


if __name__ == "__main__":
    sys.exit(main())
