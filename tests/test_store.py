"""Artifacts through a store: machines that share no folder, stores that are damaged, full, read-only, or show old listings."""

# fsspec has no types.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from lago_skills.artifacts import store as store_module
from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import MANIFEST, writing
from lago_skills.artifacts.store import Store
from lago_skills.errors import ArtifactCorrupt, StoreError
from lago_skills.stages.elsewhere import COPIES, USED_FILE, Elsewhere, share
from lago_skills.stages.workspace import open_workspace
from tests.test_store_machines import key_of, project

RECIPE = {"stage": "test", "of": 1}


def made(root: Path, text: str = "what it says") -> Path:
    """A finished artifact of two files."""
    folder = root / "checkpoints/demo/thing"
    with writing(folder, "thing", RECIPE) as writer:
        (writer.path / "deep").mkdir()
        (writer.path / "deep/said.txt").write_text(text)
        (writer.path / "empty.txt").touch()
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PAUSES_S", (0.0, 0.0, 0.0))


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    yield f"file://{tmp_path}/store" if request.param == "file" else "memory://store"
    MemoryFileSystem.store.clear()


def test_what_one_machine_made_another_has(url: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    folder, store = made(here), Store(url)
    store.check()
    place, key = there / folder.relative_to(here), key_of(folder)
    assert not store.pull(there, place, key)
    for _ in range(2):
        store.push(here, folder)
    assert not store.pull(there, place, "another recipe")
    made(there, "something older")
    assert Store(url).pull(there, place, key)
    assert (place / "deep/said.txt").read_text() == "what it says"
    assert (place / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()
    assert [path.name for path in place.parent.iterdir()] == ["thing"], "nothing is left beside it"


def test_a_cut_while_writing_is_mended_and_never_read(tmp_path: Path) -> None:
    folder, store = made(tmp_path / "here"), Store(f"file://{tmp_path}/store")
    store.push(tmp_path / "here", folder)
    (manifest,) = (tmp_path / "store/artifacts").rglob("*.json")
    data = next(path for path in (tmp_path / "store/files").rglob("*") if path.is_file() and path.stat().st_size)
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:40])
    there = tmp_path / "there"
    assert not store.pull(there, there / "checkpoints/demo/thing", key_of(folder)), "half a manifest is none"
    data.write_bytes(b"wh")
    store.push(tmp_path / "here", folder)
    assert store.pull(there, there / "checkpoints/demo/thing", key_of(folder))


def test_damage_in_a_store_is_named_and_its_remedy_works(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    folder, store = made(here), Store(f"file://{tmp_path}/store")
    store.push(here, folder)
    place, key = there / "checkpoints/demo/thing", key_of(folder)
    data = next(path for path in (tmp_path / "store/files").rglob("*") if path.is_file() and path.stat().st_size)
    data.write_bytes(b"WHAT it says")
    with pytest.raises(ArtifactCorrupt, match=f"{data.name}.*delete that file in the store and run the same command"):
        store.pull(there, place, key)
    assert not place.exists()
    data.unlink()
    assert not store.pull(there, place, key), "without all of its files it is not there, and is made again"
    with pytest.raises(StoreError, match=r"lacks the file .* empty the store, or make that again"):
        store.pull_file(data.name, tmp_path / "file")
    store.push(here, folder)
    assert store.pull(there, place, key)


def test_names_that_lead_out_of_an_artifact_are_refused(tmp_path: Path) -> None:
    folder, store = made(tmp_path / "here"), Store(f"file://{tmp_path}/store")
    store.push(tmp_path / "here", folder)
    (manifest,) = (tmp_path / "store/artifacts").rglob("*.json")
    values = json.loads(manifest.read_text())
    values["files"] = {"../../../owned.txt": values["files"]["deep/said.txt"]}
    manifest.write_text(json.dumps(values))
    with pytest.raises(ArtifactCorrupt, match=r"expected names inside its folder"):
        store.pull(tmp_path / "there", tmp_path / "there/checkpoints/demo/thing", key_of(folder))
    assert not list(tmp_path.rglob("owned.txt"))


Fails = Callable[[str], Exception | None]
"""What goes wrong with a "read" or a "write"."""


def nothing(done: str) -> Exception | None:
    return None


class Troubled(LocalFileSystem):
    """Local files behind a store in trouble. It never answers a listing, since listings may be old."""

    protocol = "troubled"
    fails: Fails = staticmethod(nothing)

    def ls(self, path: str, detail: bool = False, **kwargs: Any) -> Any:
        raise AssertionError("nothing in a store is listed")

    def _open(self, path: str, mode: str = "rb", *arguments: Any, **kwargs: Any) -> Any:
        error = type(self).fails("write" if "w" in mode else "read")
        if error is not None:
            raise error
        return super()._open(path, mode, *arguments, **kwargs)


@contextmanager
def trouble(fails: Fails) -> Generator[None]:
    fsspec.register_implementation("troubled", Troubled, clobber=True)
    Troubled.fails = staticmethod(fails)
    try:
        yield
    finally:
        Troubled.fails = staticmethod(nothing)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), r"could not be written \(it is full\)"),
        (PermissionError(errno.EACCES, "Permission denied"), r"could not be written \(PermissionError"),
        (OSError(errno.EROFS, "Read-only file system"), r"could not be written \(OSError.*Read-only"),
        (RuntimeError("HTTP 503"), r"could not be written \(RuntimeError: HTTP 503"),
    ],
)
def test_a_store_that_cannot_be_written_is_one_sentence_and_loses_nothing(
    error: Exception, said: str, tmp_path: Path
) -> None:
    folder = made(tmp_path / "here")
    with trouble(lambda done: error if done == "write" else None):
        store = Store(f"troubled://{tmp_path}/store")
        with pytest.raises(StoreError, match=said + r".*run the same command again.*kept in the project folder"):
            store.check()
        with pytest.raises(StoreError, match=said):
            store.push(tmp_path / "here", folder)
    assert (folder / "deep/said.txt").read_text() == "what it says"
    Store(f"troubled://{tmp_path}/store").push(tmp_path / "here", folder)


def test_what_fails_for_a_moment_is_tried_again(tmp_path: Path) -> None:
    left = [ConnectionResetError("reset by peer"), TimeoutError("slow"), ConnectionResetError("reset by peer")]
    folder = made(tmp_path / "here")
    with trouble(lambda done: left.pop() if left else None):
        Store(f"troubled://{tmp_path}/store").push(tmp_path / "here", folder)
    assert not left
    there = tmp_path / "there"
    assert Store(f"troubled://{tmp_path}/store").pull(there, there / "checkpoints/demo/thing", key_of(folder))


@pytest.mark.parametrize("wrong", ["nonsense://place", "abfs://place/folder"])
def test_a_kind_of_store_that_cannot_be_opened_is_one_sentence(wrong: str) -> None:
    with pytest.raises(StoreError, match=r"which cannot be opened .*expected a URL that fsspec knows"):
        Store(wrong)


class Looked:
    """Work that says which copies of projects there are."""

    def at(self, root: Path) -> Callable[[Progress], list[str]]:
        return lambda progress: sorted(each.name for each in root.parent.iterdir() if each.is_dir())


def test_old_copies_of_projects_go_unless_somebody_is_at_work_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    store, now = Store(f"file://{tmp_path}/store"), time.time()
    snapshots = [store.push_text(json.dumps({"a": store.push_text(text)})) for text in ("one", "two", "three")]
    works = [Elsewhere(store.url, snapshot, (), (), Looked()) for snapshot in snapshots]
    (first,) = works[0](lambda done, note: None)
    assert len(works[1](lambda done, note: None)) == 2
    copies = tmp_path / "temporary" / COPIES
    for copy in copies.iterdir():
        if copy.is_dir():
            os.utime(copy / USED_FILE, (now, now - 30 * 86_400))
    with (copies / first / USED_FILE).open("r") as used:
        fcntl.flock(used, fcntl.LOCK_SH)
        assert len(left := works[2](lambda done, note: None)) == 2
        assert first in left, "somebody is at work in it, whatever a clock says"
    assert first not in works[2](lambda done, note: None)


def test_own_modules_and_what_they_read_are_shared_and_environments_are_not(tmp_path: Path) -> None:
    study = project(tmp_path)
    for name in (
        "models/arm.xml",
        "venv/pyvenv.cfg",
        "venv/lib/big.py",
        ".secret",
        "checkpoints/x",
        "data/studies/beside.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    store = Store(f"file://{tmp_path / '.store'}")
    snapshot, places = share(store, open_workspace(tmp_path, study), [])
    assert places == ()
    store.pull_file(snapshot, tmp_path / "list.json")
    names = json.loads((tmp_path / "list.json").read_text()).keys()
    assert names >= {
        "own_worlds.py",
        "models/arm.xml",
        "data/studies/plane.toml",
        "data/studies/beside.py",
        "data/transcripts/plane.jsonl",
    }
    assert not {name for name in names if name.startswith(("venv", ".", "checkpoints"))}


def test_the_clock_of_this_machine_deletes_nobodys_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".thing.another-1.tmp").mkdir()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with writing(tmp_path / "thing", "thing", RECIPE):
        pass
    assert (tmp_path / ".thing.another-1.tmp").exists()
    os.utime(tmp_path / ".thing.another-1.tmp", (0, 0))
    with writing(tmp_path / "thing", "thing", RECIPE):
        pass
    assert not (tmp_path / ".thing.another-1.tmp").exists()
