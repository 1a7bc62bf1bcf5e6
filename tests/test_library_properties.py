"""The library against a plain dictionary with exact search: random programs of operations, reopened and killed between them.

A kill is what a killed process leaves: the files as they are at that moment, with nothing closed. `LAGO_PROGRAMS=3000 pytest
tests/test_library_properties.py` runs thousands of programs; CI runs fewer.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lago_skills.errors import LibraryConflict
from lago_skills.library import NewSkill, SkillLibrary, index
from lago_skills.library import follower as module
from lago_skills.library.storage import snapshot
from lago_skills.library.storage.verify import verify

Z = 4
PROGRAMS = int(os.environ.get("LAGO_PROGRAMS", "120"))
TASKS = ("push", "reach")
seeds = st.integers(0, 2**32 - 1)
SCRATCH = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None


def latent_of(seed: int) -> np.ndarray:
    raw = np.random.default_rng(seed).normal(size=Z)
    return (raw / np.linalg.norm(raw)).astype(np.float32)


class Library(RuleBasedStateMachine):
    """Each rule does the same to the library and to `self.model`: id -> (sentence, latent, tasks, enabled, merged_into)."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = Path(tempfile.mkdtemp(prefix="lago-programs-", dir=SCRATCH))
        self.n_folders = self.n_words = 0
        self.model: dict[int, tuple[str, np.ndarray, tuple[str, ...], bool, int | None]] = {}
        self.past: list[dict[int, Any]] = []
        self.old: list[tuple[int, np.ndarray]] = []

    @initialize(small=st.booleans())
    def start(self, small: bool) -> None:
        # Tiny thresholds make a few skills cross every border that a million would.
        module.SMALL = snapshot.SMALL = 2 if small else 4096
        module.DELTA_MAX = snapshot.DELTA_MAX = 5 if small else 20_000
        snapshot.SUBSET_EXACT_MAX = 3 if small else 20_000
        self.folder = self.scratch / "0"
        self.library = SkillLibrary.create(self.folder, Z, "decoder 1")

    def teardown(self) -> None:
        if hasattr(self, "library"):
            self.library.close()
            assert verify(self.folder) == []
        shutil.rmtree(self.scratch, ignore_errors=True)

    def word(self) -> int:
        """Sentences are all different: skills with the same words would have the same latent in a new latent space."""
        self.n_words += 1
        return self.n_words

    def ids(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.model)))

    def standing(self, skill_id: int) -> bool:
        return self.model[skill_id][4] is None

    def acknowledge(self, before: dict[int, Any]) -> None:
        self.past.append(before)

    def attempt(self, allowed: bool, change: Callable[[], Any], after: dict[int, Any]) -> None:
        before = dict(self.model)
        if allowed:
            change()
            self.model = after
            self.acknowledge(before)
        else:
            with pytest.raises(LibraryConflict):
                change()

    @rule(seed=seeds, task=st.sampled_from(TASKS), n=st.integers(1, 6))
    def add(self, seed: int, task: str, n: int) -> None:
        skills = [
            NewSkill(
                f"skill {self.word()}",
                latent_of(seed + i),
                np.full(3, i + 1.0, np.float32),
                {"tasks": [task]},
                {"steps": 1.0},
            )
            for i in range(n)
        ]
        before = dict(self.model)
        for skill_id, skill in zip(self.library.add_many(skills), skills, strict=True):
            assert skill_id not in self.model
            assert all(skill_id > other for other in self.model)
            self.model[skill_id] = (skill.sentence, skill.latent, (task,), True, None)
        self.acknowledge(before)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), seed=seeds, move=st.booleans())
    def edit(self, data: st.DataObject, seed: int, move: bool) -> None:
        skill_id = self.ids(data)
        _, latent, tasks, enabled, merged = self.model[skill_id]
        new = latent_of(seed) if move else latent
        words = f"edited {self.word()}"
        self.attempt(
            self.standing(skill_id),
            lambda: self.library.edit(
                skill_id, sentence=words, latent=new if move else None, embedding=np.full(3, 0.5 + seed % 7, np.float32)
            ),
            {**self.model, skill_id: (words, new, tasks, enabled, merged)},
        )

    @precondition(lambda self: self.model)
    @rule(data=st.data(), on=st.booleans())
    def switch(self, data: st.DataObject, on: bool) -> None:
        skill_id = self.ids(data)
        entry = self.model[skill_id]
        self.attempt(
            self.standing(skill_id),
            lambda: (self.library.enable if on else self.library.disable)(skill_id),
            {**self.model, skill_id: (*entry[:3], on, None)},
        )

    @precondition(lambda self: len(self.model) > 1)
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        into, *others = data.draw(st.permutations(sorted(self.model)))[:3]
        after = dict(self.model)
        tasks = self.model[into][2]
        for other in others:
            after[other] = (*self.model[other][:4], into)
            tasks = (*tasks, *[t for t in self.model[other][2] if t not in tasks])
        after[into] = (*self.model[into][:2], tasks, *self.model[into][3:])
        self.attempt(all(map(self.standing, (into, *others))), lambda: self.library.merge(others, into), after)

    @precondition(lambda self: self.past)
    @rule()
    def undo(self) -> None:
        before = self.past[-1]
        after = {i: before.get(i, (*entry[:3], False, None)) for i, entry in self.model.items()}
        previous = dict(self.model)
        latents = {
            entry[0]: entry[1] for entry in before.values()
        }  # words of before another latent space are placed anew
        self.library.undo(encode=lambda sentences, e: np.stack([latents[sentence] for sentence in sentences]))
        self.model = after
        self.past = [previous]

    @precondition(lambda self: self.model)
    @rule(seed=seeds)
    def reembed(self, seed: int) -> None:
        rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(Z, Z)))[0].astype(np.float32)
        moved = {s.id: (rotation @ s.latent) / np.linalg.norm(rotation @ s.latent) for s in self.library.list()}
        by_row = iter(moved.values())
        self.library.reembed(
            lambda sentences, e: np.stack([next(by_row) for _ in sentences]).astype(np.float32), f"decoder {seed}"
        )
        self.model = {i: (entry[0], moved[i], *entry[2:]) for i, entry in self.model.items()}
        self.past = []

    @rule()
    def compact(self) -> None:
        self.library.compact()

    @rule()
    def reopen(self) -> None:
        self.library.close()
        self.library = SkillLibrary.open(self.folder, mode="write")

    @rule()
    def kill(self) -> None:
        self.library.follower.settle()  # files that a thread is just writing cannot be copied as of one moment; see test_library_kills
        self.n_folders += 1
        after = self.scratch / str(self.n_folders)
        shutil.copytree(self.folder, after, ignore=shutil.ignore_patterns("*-shm"))
        self.library.close()
        shutil.rmtree(self.folder)
        self.folder = after
        self.library = SkillLibrary.open(after, mode="write")

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "library"):
            return
        records = {
            s.id: (s.sentence, s.latent, tuple(s.provenance["tasks"]), s.enabled, s.merged_into)
            for s in self.library.list()
        }
        assert set(records) == set(self.model)
        for skill_id, entry in self.model.items():
            assert records[skill_id][0] == entry[0]
            np.testing.assert_array_equal(records[skill_id][1], entry[1])
            assert records[skill_id][2:] == entry[2:]
        for tasks in (None, ["push"], ["push", "reach"]):
            self.check_search(tasks)

    def check_search(self, tasks: list[str] | None) -> None:
        active = [
            (i, latent)
            for i, (_, latent, of, enabled, merged) in sorted(self.model.items())
            if enabled and merged is None and (tasks is None or set(of) & set(tasks))
        ]
        queries = np.stack([latent_of(7), *[latent for _, latent in active[-3:]]])
        found = self.library.search(queries, 3, tasks=tasks)
        assert self.library.n_active == sum(e[3] and e[4] is None for e in self.model.values())
        ids = np.array([i for i, _ in active] + [-1] * 3)
        scores = np.concatenate(
            [
                queries @ np.stack([v for _, v in active]).T if active else np.zeros((len(queries), 0)),
                np.full((len(queries), 3), -np.inf),
            ],
            axis=1,
        )
        best = -np.sort(-scores, axis=1)[:, :3]
        np.testing.assert_allclose(found.scores, best, rtol=1e-5, atol=1e-6)
        for row in range(len(queries)):
            for got, score in zip(found.ids[row], found.scores[row], strict=True):
                if got >= 0:  # equal scores may come in any order
                    assert abs(scores[row][ids.tolist().index(got)] - score) < 1e-5
            assert len({i for i in found.ids[row] if i >= 0}) == (found.ids[row] >= 0).sum()


@pytest.mark.slow
@pytest.mark.timeout(60 + PROGRAMS)
def test_random_programs_agree_with_a_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in (
        (module, "SMALL"),
        (module, "DELTA_MAX"),
        (snapshot, "SMALL"),
        (snapshot, "DELTA_MAX"),
        (snapshot, "SUBSET_EXACT_MAX"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back afterwards
    monkeypatch.setattr(index, "EXACT_MAX", 20_000)
    run_state_machine_as_test(
        Library,
        settings=settings(
            max_examples=PROGRAMS,
            stateful_step_count=25,
            deadline=None,
            derandomize="LAGO_PROGRAMS" not in os.environ,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
            print_blob=True,
        ),
    )
