"""What a library refuses, full disks and read-only folders, formats, and copies that come back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lago_skills.errors import (
    DiskFull,
    FormatTooNew,
    LibraryConflict,
    LibraryDamaged,
    LibraryReadOnly,
)
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.library.duplicates import near_duplicates
from lago_skills.library.exchange import copy, diff, export, fingerprint, import_, open_any
from lago_skills.library.storage.store import SkillStore
from lago_skills.library.storage.verify import verify
from tests.library_skills import Z, ids_near, new_skills, unit


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
    "import faiss, lago_skills.library.exchange\n"  # the package may not be readable for that user later
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
    assert old.search(unit(3)[2:], 1).ids.tolist() == [[3]]
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
