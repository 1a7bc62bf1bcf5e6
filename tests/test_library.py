"""The skill library: operations, searches, readers and writers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lago_skills.errors import (
    LibraryBusy,
    LibraryConflict,
    ShapeError,
)
from lago_skills.library import NewSkill, SkillLibrary, index
from lago_skills.library.exchange import fingerprint
from lago_skills.library.storage import snapshot
from lago_skills.library.storage.lock import write_lock
from lago_skills.library.storage.verify import verify
from tests.library_skills import Z, ids_near, unit


def test_search_agrees_with_a_full_matrix_product(library: SkillLibrary) -> None:
    queries, matrix = unit(50, seed=5), unit(20)
    found = library.search(queries, 4)
    np.testing.assert_array_equal(found.ids, np.argsort(-(queries @ matrix.T), axis=1)[:, :4] + 1)
    np.testing.assert_allclose(found.scores, -np.sort(-(queries @ matrix.T), axis=1)[:, :4], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(library.latents(found.ids), matrix[found.ids - 1])
    np.testing.assert_allclose(library.search(3.0 * queries, 4).scores, found.scores, rtol=1e-5, atol=1e-6)


def test_fewer_skills_than_asked_for_are_padded(library: SkillLibrary) -> None:
    found = library.search(unit(2), 25)
    assert found.ids.shape == (2, 25)
    assert (found.ids[:, 20:] == -1).all()
    assert (found.scores[:, 20:] == -np.inf).all()
    assert (library.latents(found.ids)[:, 20:] == 0.0).all()
    assert SkillLibrary.in_memory(Z).search(unit(1), 3).ids.tolist() == [[-1, -1, -1]]


def test_every_change_is_a_version_and_can_be_undone(library: SkillLibrary) -> None:
    query = unit(20)[4]
    assert ids_near(library, query, 1) == [5]
    library.disable(5, who="bob")
    assert 5 not in ids_near(library, query, 20)
    assert np.array_equal(library.latents(np.array([5]))[0], query)
    assert library.undo() == [5]
    assert ids_near(library, query, 1) == [5]
    edited = library.edit(5, sentence="turn the knob", latent=-query, support={"steps": 3.0}, embedding=np.ones(6))
    assert (edited.version, edited.sentence, edited.provenance) == (4, "turn the knob", {"tasks": ["reach"]})
    assert edited.embedding is not None
    assert ids_near(library, -query, 1) == [5]
    actions = [(change.action, change.who, skill.version) for change, skill in library.history(5)]
    assert [(a, v) for a, _, v in actions] == [("edit", 4), ("undo", 3), ("disable", 2), ("add", 1)]
    assert actions[2][1] == "bob"
    added = library.add("one more", unit(1, seed=9)[0])
    assert added == 21
    library.undo()
    assert not library.get(added).enabled
    assert library.add("another", unit(1, seed=10)[0]) == 22  # ids are never used again
    assert [c.action for c in library.changes(3)] == ["add", "undo", "add"]


def test_a_merge_adds_up_and_its_undoing_takes_apart(library: SkillLibrary) -> None:
    library.edit(1, provenance={"tasks": ["push"], "who": "ann"}, support={"steps": 10.0, "success": 1.0})
    library.edit(2, support={"steps": 30.0, "success": 0.5})
    kept = library.merge([2, 3], into=1)
    assert kept.support == {"steps": 50.0, "segments": 2.0, "success": 0.625}
    assert kept.provenance == {"tasks": ["push", "reach", "door-open"], "who": "ann"}
    assert library.get(2).merged_into == 1
    assert 2 not in ids_near(library, unit(20)[1], 20)
    assert library.search(unit(20)[1][None], 20, tasks=["reach"]).ids[0].tolist().count(1) == 1
    for attempt in (
        lambda: library.edit(2, sentence="x"),
        lambda: library.enable(2),
        lambda: library.merge([2], into=4),
        lambda: library.merge([4], into=2),
    ):
        with pytest.raises(LibraryConflict, match=r"was merged into s0001; expected .* undo the merge first"):
            attempt()
    assert sorted(library.undo()) == [1, 2, 3]
    assert ids_near(library, unit(20)[1], 1) == [2]
    assert library.get(1).provenance["tasks"] == ["push"]
    assert library.merge([2, 2], into=3).id == 3


def test_what_has_changed_since_is_not_undone(library: SkillLibrary) -> None:
    library.disable(3)
    number = library.changes(1)[0].id
    library.enable(3)
    with pytest.raises(LibraryConflict, match="s0003 has changed since"):
        library.undo(number)
    with pytest.raises(LibraryConflict, match="no skill that change 999 touched"):
        library.undo(999)
    assert library.get(3).enabled


def test_filters_by_task_are_applied_inside_the_search(library: SkillLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, matrix = unit(30, seed=3), unit(20)
    for most in (snapshot.SUBSET_EXACT_MAX, 0):  # by an index of their own, and by a mask over the whole
        monkeypatch.setattr(snapshot, "SUBSET_EXACT_MAX", most)
        for tasks, chosen in ((["push"], range(0, 20, 3)), (["reach", "push"], [i for i in range(20) if i % 3 < 2])):
            scores = queries @ matrix[list(chosen)].T
            best = np.array(list(chosen))[np.argsort(-scores, axis=1)[:, :5]] + 1
            np.testing.assert_array_equal(library.search(queries, 5, tasks=tasks).ids, best)
        library.disable(1)
        assert 1 not in library.search(matrix[:1], 20, tasks=["push"]).ids
        library.enable(1)
    assert (library.search(queries, 2, tasks=["no such task"]).ids == -1).all()
    assert library.tasks() == {"door-open": 6, "push": 7, "reach": 7}


def test_lists_are_filtered_and_paged(library: SkillLibrary) -> None:
    library.disable(2)
    assert [s.id for s in library.list(enabled=False)] == [2]
    assert [s.id for s in library.list(task="push", limit=2, after=1)] == [4, 7]
    assert [s.name for s in library.list(contains="kill 1", limit=3)] == ["s0002", "s0011", "s0012"]
    assert library.list(contains="%") == []
    assert (len(library), library.n_active) == (20, 19)


@pytest.mark.clock
def test_another_process_sees_a_change_within_a_second_without_reopening(library: SkillLibrary) -> None:
    assert library.folder is not None
    code = (
        "import sys, time, numpy as np; from pathlib import Path; from lago_skills.library import SkillLibrary\n"
        f"library = SkillLibrary.open(Path({str(library.folder)!r}))\n"
        f"query = np.eye({Z}, dtype=np.float32)[:1]\n"
        "library.search(query, 1); print('ready', flush=True)\n"
        "while library.search(query, 1).ids[0, 0] != 21: time.sleep(0.005)\n"
        "print(time.time(), flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        assert library.add("new", np.eye(Z)[0]) == 21
        acknowledged = time.time()
        assert float(reader.stdout.readline()) - acknowledged < 1.0


def test_writers_queue_and_are_told_who_holds_them_up(library: SkillLibrary) -> None:
    assert library.folder is not None
    second = SkillLibrary.open(library.folder, mode="write", timeout_s=0.05)
    with write_lock(library.folder, 1.0), pytest.raises(LibraryBusy, match=rf"process {os.getpid()} .*--timeout"):
        second.disable(1)
    second.disable(1)
    assert not library.get(1).enabled
    second.store.timeout_s = 10.0
    held = threading.Event()

    def hold() -> None:
        with write_lock(library.folder or Path(), 1.0):
            held.set()
            time.sleep(0.2)

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    second.enable(1)  # waits for its turn
    other.join()
    second.close()


def test_searches_in_threads_while_another_adds(library: SkillLibrary) -> None:
    failed: list[BaseException] = []
    stop = threading.Event()

    def search() -> None:
        try:
            while not stop.is_set():
                found = library.search(unit(4, seed=2), 5)
                assert (found.ids > 0).all()
                assert (np.diff(found.scores, axis=1) <= 1e-6).all()
                time.sleep(0.001)  # without a rest, four threads keep the interpreter's lock from the writer
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i, latent in enumerate(unit(100, seed=7)):
        added = library.add(f"added {i}", latent)
        assert ids_near(library, latent, 1) == [added]  # a writer reads what it wrote
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed


def test_cells_take_over_from_exact_search_without_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (index, "EXACT_MAX", 2000),
        (snapshot, "SMALL", 100),
        (snapshot, "DELTA_MAX", 400),
        (index, "PROBES", (8, 32, 64)),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr("lago_skills.library.follower.SMALL", 100)
    monkeypatch.setattr("lago_skills.library.follower.DELTA_MAX", 400)
    matrix = unit(5000)
    queries = unit(100, seed=4)
    with SkillLibrary.create(tmp_path / "library", Z) as library:
        kinds: list[str] = []
        for start in range(0, 5000, 250):
            library.add_many([NewSkill(f"s{i}", matrix[i]) for i in range(start, start + 250)])
            stop = start + 250
            found = library.search(queries, 8)
            best = np.argsort(-(queries @ matrix[:stop].T), axis=1)[:, :8] + 1
            assert index.recall(found.ids, best) >= 0.98
            assert ids_near(library, matrix[stop - 1], 1) == [stop]
            kinds.append(library.index_kind)
        library.compact()
        assert kinds[0] == "exact"
        assert library.index_kind == "cells"
        for gone in range(1, 400):
            library.disable(gone)
        assert not set(library.search(matrix[:50], 8).ids.ravel().tolist()) & set(range(1, 400))
        expected = library.search(queries, 8).ids
        library.compact()
    with SkillLibrary.open(tmp_path / "library") as again:  # from the index on disk, mapped
        assert again.cache_problem is None
        assert again.index_kind == "cells"
        assert index.recall(again.search(queries, 8).ids, expected) >= 0.98
        subset = again.search(queries, 8, tasks=["none"])
        assert (subset.ids == -1).all()
    assert verify(tmp_path / "library") == []


def test_latents_of_a_new_decoder_replace_all_old_ones_at_once(library: SkillLibrary) -> None:
    assert library.folder is not None
    with pytest.raises(LibraryConflict, match="20 skills without an embedding"):
        library.reembed(lambda s, e: unit(len(s)), "second")
    for skill in library.list():
        library.edit(skill.id, embedding=np.eye(24, dtype=np.float32)[skill.id])
    library.edit(4, sentence="before", embedding=np.eye(24, dtype=np.float32)[0])
    library.edit(4, sentence="after", embedding=np.eye(24, dtype=np.float32)[21])
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 24)))[0][:, :5].astype(np.float32)

    def encode(sentences: list[str], embeddings: np.ndarray) -> np.ndarray:
        raw = embeddings @ turn
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)

    with SkillLibrary.open(library.folder) as reader:
        assert reader.latent_size == Z
        assert library.reembed(encode, "second") == 2
        assert (library.decoder, library.generation, library.latent_size) == ("second", 2, 5)
        time.sleep(0.3)
        query = encode([], np.eye(24, dtype=np.float32)[7:8])
        assert library.search(query, 1).ids[0, 0] == 7
        assert reader.change == library.change
        assert reader.search(query, 1).ids[0, 0] == 7
    assert library.get(7).version == 2
    last = library.history(4)[0][0].id
    with pytest.raises(LibraryConflict, match=r"from before the latent space changed.*pass encode"):
        library.undo(last)
    library.undo(last, encode=encode)
    assert library.get(4).sentence == "before"
    np.testing.assert_allclose(library.get(4).latent, encode([], np.eye(24, dtype=np.float32)[:1])[0], rtol=1e-5)
    with pytest.raises(ShapeError, match="expected one each"):
        library.reembed(lambda s, e: unit(1), "third")
    assert library.decoder == "second"
    assert verify(library.folder) == []


def test_what_a_library_cannot_hold_is_refused_and_changes_nothing(library: SkillLibrary) -> None:
    before = fingerprint(library)
    good = unit(1)[0]
    cases = [
        (lambda: library.add("x", good[:5]), ShapeError, r"latent of shape \(5,\); expected \(8,\)"),
        (lambda: library.add("x", np.zeros(Z)), ShapeError, "found a zero vector"),
        (lambda: library.add("x", 2 * good), ShapeError, "expected unit length"),
        (lambda: library.add("x", np.full(Z, np.nan)), ShapeError, "found nan"),
        (lambda: library.add("  ", good), LibraryConflict, "sentence of 2 characters"),
        (lambda: library.add("word " * 10_000, good), LibraryConflict, "sentence of 50000 characters"),
        (
            lambda: library.add("x", good, provenance={"a": object()}),
            LibraryConflict,
            "found provenance that cannot be kept",
        ),
        (lambda: library.add("x", good, support={"steps": float("nan")}), LibraryConflict, "found support that cannot"),
        (lambda: library.add("x", good, embedding=np.zeros((2, 2))), ShapeError, "expected \\(D,\\)"),
        (lambda: library.edit(3, latent=good[:2]), ShapeError, r"expected \(8,\)"),
        (lambda: library.edit(99, sentence="x"), LibraryConflict, "no skill s0099; expected one of its 20 ids"),
        (lambda: library.disable(0), LibraryConflict, "no skill s0000"),
        (lambda: library.merge([3], into=3), LibraryConflict, "expected at least one other skill"),
        (lambda: library.merge([], into=3), LibraryConflict, "expected at least one other skill"),
        (lambda: library.history(77), LibraryConflict, "no skill s0077"),
        (lambda: library.latents(np.array([44])), LibraryConflict, "no skill s0044"),
        (lambda: library.search(unit(1)[:, :3], 2), ShapeError, r"queries \(1, 3\)"),
        (lambda: library.search(unit(1), 0), ShapeError, "k of at least 1"),
        (lambda: library.search(np.zeros((1, Z)), 2), ShapeError, "zero vector"),
        (lambda: library.search(np.full((1, Z), np.inf), 2), ShapeError, "found inf"),
        (lambda: SkillLibrary.create(library.folder or Path(), Z), LibraryConflict, "expected none there yet"),
    ]
    for attempt, kind, message in cases:
        with pytest.raises(kind, match=message):
            attempt()
    assert fingerprint(library) == before
    assert [c.action for c in library.changes()] == ["add"]
    assert library.add_many([]) == []
