"""The skill library: operations, searches, readers and writers, bad input."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lago_skills.errors import (
    DiskFull,
    FormatTooNew,
    LibraryBusy,
    LibraryConflict,
    LibraryDamaged,
    LibraryReadOnly,
    ShapeError,
)
from lago_skills.library import NewSkill, SkillLibrary, index
from lago_skills.library.duplicates import near_duplicates
from lago_skills.library.exchange import copy, diff, export, fingerprint, import_, open_any
from lago_skills.library.storage import snapshot
from lago_skills.library.storage.lock import write_lock
from lago_skills.library.storage.store import SkillStore
from lago_skills.library.storage.verify import verify

Z = 8


def unit(n: int, seed: int = 0, size: int = Z) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def new_skills(n: int, seed: int = 0, size: int = Z) -> list[NewSkill]:
    tasks = ("push", "reach", "door-open")
    return [
        NewSkill(f"skill {i}", latent, provenance={"tasks": [tasks[i % 3]]}, support={"steps": 10.0, "segments": 2.0})
        for i, latent in enumerate(unit(n, seed, size))
    ]


@pytest.fixture
def library(tmp_path: Path) -> Iterator[SkillLibrary]:
    with SkillLibrary.create(tmp_path / "library", Z, decoder="first") as made:
        made.add_many(new_skills(20), who="ann")
        yield made


def ids_near(library: SkillLibrary, query: np.ndarray, k: int = 3) -> list[int]:
    return library.search(query[None], k).ids[0].tolist()


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


def half_an_add(library: SkillLibrary) -> None:
    with library.changing("add") as change:
        change.add("half", unit(1)[0].tobytes(), "{}", "{}", [])
        change.flush()
        raise RuntimeError


def test_a_bulk_add_is_all_or_nothing(library: SkillLibrary) -> None:
    bad = [*new_skills(5, seed=3), NewSkill("", unit(1)[0])]
    with pytest.raises(LibraryConflict):
        library.add_many(bad)
    assert len(library) == 20
    with pytest.raises(RuntimeError):
        half_an_add(library)
    assert len(library) == 20
    assert library.add("next", unit(1)[0]) == 21


def test_a_full_disk_is_one_sentence_and_nothing_is_lost(library: SkillLibrary) -> None:
    pages = library.store.connection.execute("PRAGMA page_count").fetchone()[0]
    library.store.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskFull, match=r"found the disk full .* nothing was changed; free some space"):
        library.add_many(new_skills(500, seed=2))
    assert len(library) == 20
    library.store.connection.execute("PRAGMA max_page_count = 1000000")
    library.add_many(new_skills(500, seed=2))
    assert library.folder is not None
    assert verify(library.folder) == []


def fill(library: SkillLibrary) -> None:
    """Add twenty skills at a time until it is refused."""
    for seed in range(1000):
        library.add_many(new_skills(20, seed))


def test_a_really_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on a real file system without room, where this machine can mount one; the index is what cannot be kept first."""
    monkeypatch.setattr("lago_skills.library.follower.SMALL", 10)
    mount = tmp_path / "small"
    mount.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "t", mount], check=False).returncode:
        pytest.skip("this machine does not let us mount a small file system")
    try:
        with SkillLibrary.create(mount / "library", Z) as library:
            with pytest.raises(DiskFull, match="nothing was changed; free some space"):
                fill(library)
            acknowledged = 20 * len(library.changes(-1))  # each change added twenty
            assert acknowledged > 100
            assert len(library) == acknowledged
            assert library.search(unit(20, acknowledged // 20 - 1)[:1], 1).ids[0, 0] == acknowledged - 19
            library.compact()
            assert library.cache_problem is not None
            assert "could not be kept on disk" in library.cache_problem
        assert verify(mount / "library") == []
        with SkillLibrary.open(mount / "library", mode="write") as library:
            assert len(library) == acknowledged
            subprocess.run(["mount", "-o", "remount,size=8m", mount], check=True)  # somebody made room
            library.add_many(new_skills(20))
            library.compact()
        assert verify(mount / "library") == []
    finally:
        subprocess.run(["umount", mount], check=True)


def as_nobody(code: str) -> subprocess.CompletedProcess[str]:
    """Run code as a user for whom permissions count."""
    drop = "import os; os.getuid() or (os.setgid(65534), os.setuid(65534))\n"
    return subprocess.run([sys.executable, "-c", PRELUDE + drop + code], capture_output=True, text=True, check=False)


PRELUDE = (
    "import numpy as np; from pathlib import Path; from lago_skills.library import SkillLibrary\n"
    "import lago_skills.library.exchange\n"
)


def test_a_read_only_folder_can_be_read_and_says_why_it_cannot_be_written(
    library: SkillLibrary, tmp_path: Path
) -> None:
    folder = library.folder
    assert folder is not None
    library.close()
    for path in (tmp_path, *tmp_path.parents):
        if path.owner() == tmp_path.owner() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
        if path.name.startswith("pytest-of"):
            break
    folder.chmod(0o555)
    for path in folder.iterdir():
        path.chmod(0o444)
    try:
        done = as_nobody(
            f"folder = Path({str(folder)!r})\nlibrary = SkillLibrary.open(folder)\n"
            f"print(library.search(np.eye({Z})[:1], 3).ids.shape, len(library))\n"
            "try:\n    SkillLibrary.open(folder, mode='write').disable(1)\nexcept Exception as error:\n    print(type(error).__name__, error)\n"
        )
    finally:
        folder.chmod(0o755)
    assert done.stdout.startswith("(1, 3) 20\n"), done.stderr
    assert "LibraryReadOnly" in done.stdout
    assert "work on a copy" in done.stdout
    with SkillLibrary.open(folder) as reader, pytest.raises(LibraryReadOnly, match="open for reading only"):
        reader.disable(1)


def test_a_clock_that_jumps_back_changes_no_order(library: SkillLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([f"{year}-01-01T00:00:00+00:00" for year in (2031, 1999, 2005, 2000)])
    monkeypatch.setattr("lago_skills.library.storage.sqlite_file.now", lambda: next(times))
    library.disable(1)
    library.enable(1)
    library.disable(1)
    assert [c.action for c, _ in library.history(1)] == ["disable", "enable", "disable", "add"]
    assert [c.at[:4] for c in library.changes(3)] == ["2005", "1999", "2031"]
    assert not library.get(1).enabled
    library.undo()
    assert ids_near(library, unit(20)[0], 1) == [1]


def test_newer_formats_are_refused_and_strangers_too(library: SkillLibrary, tmp_path: Path) -> None:
    folder = library.folder
    assert folder is not None
    library.store.connection.execute("PRAGMA user_version = 99")
    for attempt in (lambda: SkillLibrary.open(folder), lambda: verify(folder)):
        with pytest.raises(FormatTooNew, match="format 99; this version reads formats up to 2; upgrade"):
            attempt()
    library.store.connection.execute("PRAGMA user_version = 2")
    library.store.connection.execute("PRAGMA application_id = 1")
    with pytest.raises(LibraryDamaged, match="another program's"):
        SkillLibrary.open(folder)
    with pytest.raises(LibraryDamaged, match="no skill library in"):
        SkillLibrary.open(tmp_path)
    library.store.connection.execute("DELETE FROM meta WHERE key = 'latent_size'")
    library.store.connection.execute(f"PRAGMA application_id = {0x4C61476F}")
    with pytest.raises(LibraryDamaged, match="no 'latent_size'"):
        SkillLibrary.open(folder)


def test_exports_come_back_and_copies_go_their_own_way(library: SkillLibrary, tmp_path: Path) -> None:
    library.edit(3, embedding=np.ones(5, np.float32))
    library.merge([7], into=8)
    library.disable(9)
    assert export(library, tmp_path / "export") == 20
    with SkillLibrary.create(tmp_path / "second", Z, decoder="first") as second:
        assert import_(second, tmp_path / "export") == {i: i for i in range(1, 21)}
        assert fingerprint(second) == fingerprint(library)
        again = import_(second, tmp_path / "export", who="bob")
        assert list(again.values()) == list(range(21, 41))
        assert second.get(27).merged_into == 28
        assert second.get(23).embedding is not None
    with (
        SkillLibrary.create(tmp_path / "other", Z, decoder="second") as other,
        pytest.raises(LibraryConflict, match="latents of decoder 'first'"),
    ):
        import_(other, tmp_path / "export")
    copy(library, tmp_path / "copy")
    with SkillLibrary.open(tmp_path / "copy", mode="write") as copied:
        assert diff(library, copied) == []
        assert [c.action for c in copied.changes()] == [c.action for c in library.changes()]
        copied.edit(1, sentence="otherwise", latent=unit(1, seed=8)[0])
        copied.add("only here", unit(1, seed=9)[0])
        found = diff(library, copied)
        assert [(d.left, d.right, d.fields) for d in found] == [(1, 1, ("sentence", "latent")), (None, 21, ())]
        with SkillLibrary.open(tmp_path / "second") as second:  # no common origin: by sentence
            assert any(d.left is None and d.sentence == "otherwise" for d in diff(second, copied))
    with pytest.raises(LibraryConflict, match="expected none there yet"):
        copy(library, tmp_path / "copy")
    (tmp_path / "export/skills.jsonl").write_text("{}\n")
    with SkillLibrary.create(tmp_path / "third", Z, decoder="first") as third:
        with pytest.raises(Exception, match=r"skills\.jsonl"):
            import_(third, tmp_path / "export")
        assert len(third) == 0


def test_libraries_of_format_1_are_read(tmp_path: Path) -> None:
    from lago_skills.artifacts.tensors import save_arrays

    records = [
        {
            "id": i,
            "version": 1,
            "sentence": f"old {i}",
            "enabled": i != 1,
            "provenance": {"tasks": ["push"]},
            "support": {},
        }
        for i in range(3)
    ]
    import json

    (tmp_path / "skills.json").write_text(json.dumps(records))
    save_arrays({"latents": unit(3)}, tmp_path / "latents.safetensors")
    old = open_any(tmp_path)
    assert [s.sentence for s in old.list()] == ["old 0", "old 1", "old 2"]
    assert old.search(unit(3)[2:], 3).ids.tolist() == [[3, 1, -1]] or old.search(unit(3)[2:], 1).ids.tolist() == [[3]]
    copy(old, tmp_path / "new")
    assert fingerprint(open_any(tmp_path / "new")) == fingerprint(old)
    (tmp_path / "skills.json").write_text("[")
    with pytest.raises(Exception, match="of format 1 cannot be read"):
        open_any(tmp_path)


def test_near_duplicates_are_told_by_what_they_do(library: SkillLibrary) -> None:
    def acts(latents: np.ndarray) -> np.ndarray:  # two probe states; only the first half of a latent matters
        return np.stack([np.tanh(latents[:, :4]), np.tanh(2 * latents[:, :4])], axis=1)

    one = unit(20)[0]
    twin = np.concatenate([one[:4], one[[5, 4, 7, 6]]])
    found = near_duplicates(library, "skill 0", one, behaviour=acts)
    assert found[0].id == 1
    assert found[0].near
    assert found[0].actions == pytest.approx(0.0, abs=1e-6)
    assert [d.id for d in near_duplicates(library, "new words", twin, behaviour=acts) if d.near][:1] == [1]
    assert near_duplicates(library, "new words", -unit(20)[3]) == []
    library.edit(3, embedding=np.array([1.0, 0.0]))
    same = near_duplicates(library, "skill 2", unit(1, seed=77)[0], embedding=np.array([1.0, 0.1]))
    assert [(d.id, d.near) for d in same] == [(3, False)]
    assert same[0].words == pytest.approx(0.995, abs=1e-3)
    assert near_duplicates(SkillLibrary.in_memory(Z), "x", one) == []
    assert near_duplicates(library, "skill 0", one, exclude_id=1) == []


def test_every_commit_is_synced(library: SkillLibrary) -> None:
    assert (
        library.store.connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    )  # FULL: the log is synced at each commit
    assert library.store.connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert library.folder is not None
    script = PRELUDE + f"SkillLibrary.open(Path({str(library.folder)!r}), mode='write').disable(1)"
    log = library.folder / "trace"
    if subprocess.run(["strace", "-V"], capture_output=True, check=False).returncode == 0:
        subprocess.run(
            ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", str(log), sys.executable, "-c", script], check=True
        )
        assert "sync(" in log.read_text()


def test_the_store_is_usable_by_itself(library: SkillLibrary) -> None:
    assert library.folder is not None
    store = SkillStore(library.folder, "read")
    assert store.count() == 20
    assert store.task_ids(["push"]).tolist() == [1, 4, 7, 10, 13, 16, 19]
    with pytest.raises(LibraryReadOnly), store.writing("add"):
        pass
    store.close()
