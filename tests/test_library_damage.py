"""Damage planted in a library: `verify` finds each kind, `repair` rebuilds what can be rebuilt and lists what cannot."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lago_skills.core import skill_name
from lago_skills.errors import LibraryDamaged, LibraryReadOnly
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.library import follower as module
from lago_skills.library.exchange import fingerprint
from lago_skills.library.storage.repair import Report, repair
from lago_skills.library.storage.verify import verify
from tests.library_skills import Z, unit

N = 300
EMBEDDINGS = unit(N + 1, seed=50, size=12)
HEAD = np.linalg.qr(np.random.default_rng(2).normal(size=(12, 12)))[0][:, :Z].astype(np.float32)


def encode(sentences: list[str], embeddings: np.ndarray) -> np.ndarray:
    raw = np.einsum(
        "ij,jk->ik", embeddings, HEAD
    )  # a product by BLAS may differ in the last bit with the number of rows
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library with history, an index on disk, and all merged into one file."""
    monkeypatch.setattr(module, "SMALL", 10)
    place = tmp_path / "library"
    latents = encode([], EMBEDDINGS)
    with SkillLibrary.create(place, Z, "decoder") as library:
        library.add_many(
            [
                NewSkill(
                    f"turn knob number {i}", latents[i], EMBEDDINGS[i], {"tasks": ["push"], "n": i}, {"steps": float(i)}
                )
                for i in range(N)
            ]
        )
        library.edit(5, support={"steps": 77.0})
        library.edit(6, sentence="turn the sixth knob", latent=latents[N], embedding=EMBEDDINGS[N])
        library.merge([8], into=9)
        library.disable(10)
        library.compact()
    return place


def content(folder: Path) -> str:
    with SkillLibrary.open(folder) as library:
        return fingerprint(library)


def sql(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "library.sqlite", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def flip(path: Path, at: int, n: int = 1) -> None:
    data = bytearray(path.read_bytes())
    for i in range(at, at + n):
        data[i] ^= 0x55
    path.write_bytes(data)


def mend(folder: Path, **options: object) -> Report:
    report = repair(folder, encode=options.get("encode"))  # pyright: ignore[reportArgumentType]
    assert verify(folder) == []
    return report


def test_a_sound_library_has_no_problems_and_is_left_alone(folder: Path) -> None:
    before = (folder / "library.sqlite").read_bytes()
    assert verify(folder) == []
    report = repair(folder)
    assert (report.problems, report.rebuilt, report.lost, report.damaged_dir) == ([], [], [], None)
    assert (folder / "library.sqlite").read_bytes() == before
    with pytest.raises(LibraryDamaged, match="no skill library"):
        verify(folder.parent)


ROW_DAMAGE = {
    "sentence": "UPDATE skill SET sentence = replace(sentence, 'knob', 'knop') WHERE id = 7",
    "latent": "UPDATE skill SET latent = (SELECT latent FROM skill WHERE id = 3) WHERE id = 7",
    "provenance": "UPDATE skill SET provenance = '{}' WHERE id = 7",
    "support": "UPDATE skill SET support = '{\"steps\":1}' WHERE id = 7",
    "enabled": "UPDATE skill SET enabled = 0 WHERE id = 7",
    "merged into": "UPDATE skill SET merged_into = 3 WHERE id = 7",
    "checksum": "UPDATE skill SET checksum = x'0000000000000000' WHERE id = 7",
    "wrong type": "UPDATE skill SET latent = 5 WHERE id = 7",
    "history": "UPDATE version SET sentence = 'x' WHERE id = 7",
    "missing from history": "DELETE FROM version WHERE id = 7",
    "missing skill": "DELETE FROM skill WHERE id = 7",
    "task list": "DELETE FROM task WHERE id = 7",
    "stale skill": "REPLACE INTO skill SELECT * FROM version WHERE id = 5 AND version = 1",
    "earlier version": "UPDATE version SET support = '{\"steps\":5.5}' WHERE id = 5 AND version = 2",
}


@pytest.mark.parametrize("kind", ROW_DAMAGE)
def test_a_damaged_row_is_found_and_given_back_from_its_other_copy(folder: Path, kind: str) -> None:
    before = content(folder)
    sql(folder, ROW_DAMAGE[kind])
    problems = verify(folder)
    assert problems
    assert any(p.skill_id in (5, 7) for p in problems)
    if kind in ("sentence", "latent", "provenance", "support", "enabled", "wrong type", "checksum", "merged into"):
        with (
            SkillLibrary.open(folder) as library,
            pytest.raises(LibraryDamaged, match=r"s0007, version 1, .*lago skills repair"),
        ):
            library.get(7)
    report = mend(folder)
    assert report.lost == []
    assert report.rebuilt or kind == "task list"
    assert content(folder) == before
    with SkillLibrary.open(folder) as library:
        assert library.changes(1)[0].action == "repair"
        assert [s.version for _, s in library.history(6)] == [2, 1]
        assert library.history(6)[1][1].sentence == "turn knob number 5"
        assert library.search(library.get(7).latent[None], 1, tasks=["push"]).ids[0, 0] == 7
    assert report.damaged_dir is not None
    assert (report.damaged_dir / "library.sqlite").is_file()
    with SkillLibrary.open(folder, mode="write") as library:
        assert library.add("new", unit(1)[0]) == N + 1


def test_latents_lost_in_both_tables_come_back_from_the_index_or_the_decoder(folder: Path) -> None:
    before = content(folder)
    wrong = "latent = (SELECT latent FROM skill WHERE id = 3)"
    both = (f"UPDATE skill SET {wrong} WHERE id IN (7, 10)", f"UPDATE version SET {wrong} WHERE id IN (7, 10)")
    sql(folder, *both)  # 10 is disabled: the index does not have it
    undamaged = shutil.copytree(folder, folder.parent / "second")
    report = mend(folder)
    assert any("s0007: latent of version 1" in line for line in report.rebuilt)
    assert any("s0010: no version of it is sound" in line for line in report.lost)
    with SkillLibrary.open(folder) as library:
        assert len(library) == N - 1
    report = mend(undamaged, encode=encode)
    assert report.lost == []
    assert content(undamaged) == before


def encode_anew(sentences: list[str], embeddings: np.ndarray) -> np.ndarray:
    return encode(sentences, embeddings[:, ::-1])


@pytest.mark.parametrize("everything", [False, True])
def test_skills_lost_after_a_change_of_the_latent_space_come_back_in_the_new_one(
    folder: Path, everything: bool
) -> None:
    with SkillLibrary.open(folder, mode="write") as library:
        library.reembed(encode_anew, "decoder 2")
        library.compact()
    before = content(folder)
    sql(folder, "DELETE FROM skill" if everything else "DELETE FROM skill WHERE id IN (7, 10)")
    twin = shutil.copytree(folder, folder.parent / "second")
    report = mend(folder)
    name = "s0010"  # disabled: the index does not have it, and its history is of the old latent space
    assert [line for line in report.lost if line.startswith(name)] == [
        f"{name}: its latent; it is disabled until the library is re-embedded (repair with --decoder)"
    ]
    with SkillLibrary.open(folder) as library:
        assert library.generation == 2
        assert library.search(library.get(7).latent[None], 1).ids[0, 0] == 7
    report = mend(twin, encode=encode_anew)
    assert report.lost == []
    assert content(twin) == before


def test_what_cannot_be_given_back_is_listed_and_an_earlier_version_stands_in(folder: Path) -> None:
    spoilt = "sentence = 'one', support = '{}'"
    sql(folder, f"UPDATE skill SET {spoilt} WHERE id = 6", f"UPDATE version SET {spoilt} WHERE id = 6 AND version = 2")
    twin = shutil.copytree(folder, folder.parent / "twin")
    sql(twin, "DELETE FROM version WHERE id = 6 AND version = 2")
    report = mend(folder)
    assert mend(twin).lost == report.lost
    assert any("s0006: version 2; version 1 stands in its place, as version 3" in line for line in report.lost)
    with SkillLibrary.open(folder) as library:
        assert library.get(6).sentence == "turn knob number 5"
        assert library.get(6).version == 3
        assert len(library) == N


def test_embeddings_and_records_of_changes_are_looked_at_too(folder: Path) -> None:
    sql(folder, "UPDATE embedding SET vector = zeroblob(48)", "DELETE FROM change WHERE id = 2")
    kinds = {p.kind for p in verify(folder)}
    assert kinds == {"embedding", "history"}
    report = mend(folder)
    assert sum("embedding of" in line for line in report.lost) == N + 1
    assert any("who made change 2" in line for line in report.lost)
    with SkillLibrary.open(folder) as library:
        assert len(library) == N
        assert library.get(5).support == {"steps": 77.0}


def test_pages_that_cannot_be_read_cost_only_what_has_no_second_copy(folder: Path) -> None:
    path = folder / "library.sqlite"
    before = content(folder)
    pages = path.stat().st_size // 4096
    connection = sqlite3.connect(path)
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'skill'").fetchone()[0]
    connection.close()
    flip(path, (root - 1) * 4096, 200)  # the root of the skill table: every skill has to come from the history
    assert any(p.kind == "file" for p in verify(folder))
    report = mend(folder)
    assert report.lost == []
    assert content(folder) == before
    rng = np.random.default_rng(0)
    for _ in range(4):  # a page anywhere
        broken = shutil.copytree(folder, folder.parent / f"broken-{rng.integers(1 << 30)}")
        flip(broken / "library.sqlite", int(rng.integers(2, pages)) * 4096, 4000)
        problems = verify(broken)
        if problems:
            report = mend(broken, encode=encode)
            with SkillLibrary.open(broken) as library:
                assert len(library) + sum("no version of it" in line for line in report.lost) >= N - 60


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 16), (0, 100), (0, 4096), (44, 48)])
def test_a_destroyed_head_of_the_file_is_made_anew(folder: Path, start: int, stop: int) -> None:
    before = content(folder)
    path = folder / "library.sqlite"
    head = path.read_bytes()
    path.write_bytes(head[:start] + b"\xff" * (stop - start) + head[stop:])
    assert next(p.kind for p in verify(folder)) == "file"
    with pytest.raises(LibraryDamaged, match="lago skills verify"):
        SkillLibrary.open(folder)
    report = mend(folder)
    assert report.lost == []
    assert content(folder) == before


def test_a_truncated_file_gives_back_what_is_left(folder: Path) -> None:
    path = folder / "library.sqlite"
    os.truncate(path, path.stat().st_size // 2)
    assert any(p.kind == "file" for p in verify(folder))
    report = mend(folder, encode=encode)
    with SkillLibrary.open(folder) as library:
        kept = len(library)
        assert kept > 0
        assert report.lost[0] == f"{skill_name(kept + 1)} to {skill_name(N)}: no row of it can be read"
        for skill in library.list(limit=20):
            assert skill.provenance["n"] == skill.id - 1
    path.write_bytes(b"")
    report = repair(folder)
    assert report.lost
    assert report.damaged_dir is not None


def test_damage_in_the_log_is_found_where_sqlite_says_nothing(folder: Path) -> None:
    latents = encode([], EMBEDDINGS)
    library = SkillLibrary.open(folder, mode="write")
    library.store.connection.execute("PRAGMA wal_autocheckpoint = 0")
    for i in range(20):
        library.add(f"logged {i}", latents[i], provenance={"tasks": ["reach"]})
    crashed = folder.parent / "crashed"
    shutil.copytree(folder, crashed, ignore=shutil.ignore_patterns("*-shm"))
    whole = fingerprint(library)
    library.close()
    torn = shutil.copytree(crashed, folder.parent / "torn")
    with SkillLibrary.open(shutil.copytree(crashed, folder.parent / "whole")) as again:
        assert fingerprint(again) == whole
    log = crashed / "library.sqlite-wal"
    flip(log, 32 + 24 + 4096 + 24 + 100)  # a page of the second frame; all that follows would be dropped in silence
    assert next(p.kind for p in verify(crashed)) == "log"
    report = mend(crashed, encode=encode)
    with SkillLibrary.open(crashed) as again:
        assert sum(s.sentence.startswith("logged") for s in again.list()) + len(report.lost) >= 19
    with (torn / "library.sqlite-wal").open("ab") as stream:  # a frame that was being written when the power went
        stream.write(b"\x00" * 1000)
    assert verify(torn) == []
    with SkillLibrary.open(torn) as again:
        assert fingerprint(again) == whole


def index_file(folder: Path, part: str) -> Path:
    return next((folder / "index").glob(f"{part}-*"))


def another_index(folder: Path) -> None:
    other = folder.parent / f"other-{len(list(folder.parent.glob('other-*')))}"
    with SkillLibrary.create(other, Z, "decoder") as library:
        library.add_many([NewSkill(f"other {i}", latent) for i, latent in enumerate(unit(40, seed=3))])
        library.compact()
    shutil.rmtree(folder / "index")
    shutil.copytree(other / "index", folder / "index")


INDEX_DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped index": lambda f: flip(index_file(f, "faiss"), 500),
    "flipped vectors": lambda f: flip(index_file(f, "vectors"), 500),
    "truncated ids": lambda f: os.truncate(index_file(f, "ids"), 200),
    "missing file": lambda f: index_file(f, "faiss").unlink(),
    "flipped manifest": lambda f: flip(f / "index/index.json", 0),
    "another library's": another_index,
    "ahead of the store": lambda f: (f / "index/index.json").write_text(
        (f / "index/index.json").read_text().replace('"change": ', '"change": 9')
    ),
    "another format": lambda f: (f / "index/index.json").write_text(
        (f / "index/index.json").read_text().replace('"format": 1', '"format": 7')
    ),
}


@pytest.mark.parametrize("kind", INDEX_DAMAGE)
def test_an_index_that_is_wrong_is_thrown_away_and_made_again(folder: Path, kind: str) -> None:
    INDEX_DAMAGE[kind](folder)
    assert [p.kind for p in verify(folder)] == ["index"]
    query = encode([], EMBEDDINGS)[20:21]
    with SkillLibrary.open(folder) as library:  # nobody has to do anything
        assert library.cache_problem is not None
        assert library.search(query, 1).ids[0, 0] == 21
    with SkillLibrary.open(folder, mode="write") as library:
        library.compact()
    assert verify(folder) == []
    INDEX_DAMAGE[kind](folder)
    report = mend(folder)
    assert any(line.startswith("the index") for line in report.rebuilt)
    assert report.lost == []


def test_an_index_that_disagrees_with_its_store_is_found(folder: Path) -> None:
    connection = sqlite3.connect(folder / "library.sqlite", isolation_level=None)
    rows = connection.execute("SELECT id, enabled FROM skill WHERE id = 12").fetchall()
    assert rows == [(12, 1)]
    connection.close()
    with SkillLibrary.open(folder, mode="write") as library:
        kept = shutil.copytree(folder / "index", folder.parent / "kept")
        library.disable(12)
        library.compact()
    manifest = (folder / "index/index.json").read_text()
    number = manifest.split('"change": ')[1].split(",")[0]
    shutil.rmtree(folder / "index")
    shutil.copytree(kept, folder / "index")
    old = (folder / "index/index.json").read_text()
    before = old.split('"change": ')[1].split(",")[0]
    (folder / "index/index.json").write_text(old.replace(f'"change": {before},', f'"change": {number},'))
    assert any("s0012: index and store disagree" in p.text for p in verify(folder))
    mend(folder)


def test_others_follow_a_repaired_file(folder: Path) -> None:
    with SkillLibrary.open(folder, mode="write") as library, SkillLibrary.open(folder) as reader:
        reader.search(unit(1), 1)
        library.store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sql(folder, ROW_DAMAGE["support"])
        mend(folder)
        added = library.add("after the repair", unit(1, seed=8)[0])  # into the new file, not the old one
        deadline = 20
        while reader.search(unit(1, seed=8), 1).ids[0, 0] != added and deadline:
            deadline -= 1
            module.time.sleep(0.1)
        assert reader.search(unit(1, seed=8), 1).ids[0, 0] == added
    assert verify(folder) == []


def test_a_library_whose_log_cannot_be_merged_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "library.sqlite-wal").write_bytes(b"x" * 100)

    def refuse(path: object, query: str, timeout_s: float) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:")
        connection.close()

        class Refusing:
            def execute(self, text: str) -> object:
                raise sqlite3.OperationalError("unable to open database file")

            def close(self) -> None:
                pass

        return Refusing()  # pyright: ignore[reportReturnType]

    monkeypatch.setattr("lago_skills.library.storage.sqlite_file.connect", refuse)
    with pytest.raises(LibraryReadOnly, match="its log has not been merged yet"):
        SkillLibrary.open(folder)
