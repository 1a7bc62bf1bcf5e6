"""Artifacts through a store: machines that share no folder, stores that are damaged, full, read-only, or show old listings."""

# fsspec has no types.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from flows.main import run_stages
from lago_skills.artifacts import store as store_module
from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.executor import Runner
from lago_skills.artifacts.folder import MANIFEST, read_manifest, writing
from lago_skills.artifacts.store import Store
from lago_skills.commands.cli import main as lago_here
from lago_skills.commands.stages import STAGES
from lago_skills.errors import ArtifactCorrupt, StoreError
from lago_skills.experiments.measuring import Work, measure
from lago_skills.experiments.tables.zero_shot import ZeroShot
from lago_skills.stages.elsewhere import COPIES, USED_FILE, Elsewhere, share
from lago_skills.stages.workspace import open_workspace
from tests.conftest import ROOT
from tests.tables import silent, study_in, zero_shot_cell
from tests.test_runners import scheduler as _scheduler
from tests.test_small_worlds import NUMBERS, answer, begin

scheduler = _scheduler
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


def key_of(folder: Path) -> str:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest.key


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


def lago(root: Path, *arguments: str) -> int:
    return lago_here(["--root", str(root), *arguments], run_stages)


def run(root: Path, *arguments: str) -> None:
    """`lago` as a command of its own, so that its modules are those of this project folder."""
    command = [sys.executable, "-m", "flows.main", "--root", str(root), *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=root.parent, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def project(root: Path) -> Path:
    """A study of one's own world, whose module lies in the project folder."""
    path = begin(
        root, "plane", "PlaneWorld", "numbers", seen="visit fetch", unseen="fetch-south", algorithms="guided-ppo"
    )
    text = path.read_text(encoding="utf-8")
    assert "tests.small_worlds:" in text
    path.write_text(text.replace("tests.small_worlds:", "own_worlds:"), encoding="utf-8")
    shutil.copy(ROOT / "tests/small_worlds.py", root / "own_worlds.py")
    assert lago(root, "plan", "plane", "--scenes") == 0
    answer(lambda *arguments: (lago(root, *arguments), "", ""), root, "plane", NUMBERS)
    return path


def digests(study: Path) -> dict[str, str]:
    """Of every artifact of a study, by its place."""
    root = study.parent.parent.parent
    found = {path: read_manifest(path.parent) for path in root.glob("*/**/" + MANIFEST)}
    return {str(path.parent.relative_to(root)): each.digest for path, each in found.items() if each is not None}


GUARD = """
import os, sys
def guard(event, args):
    if event in ("open", "os.listdir", "os.mkdir") and isinstance(args[0], str) and args[0].startswith({forbidden!r}):
        with os.fdopen(os.open({seen!r}, os.O_APPEND | os.O_CREAT | os.O_WRONLY), "a") as stream:
            stream.write(args[0] + "\\n")
        raise PermissionError(args[0])
sys.addaudithook(guard)
"""


@pytest.fixture
def strangers(scheduler: str, tmp_path: Path) -> Generator[tuple[str, Path]]:
    """The scheduler of two Dask workers that may not touch the folder `home`, and a file of what they tried to touch there."""
    seen = tmp_path / "touched.txt"
    guard = tmp_path / "guard.py"
    guard.write_text(GUARD.format(forbidden=str(tmp_path / "home"), seen=str(seen)))
    workers: list[subprocess.Popen[bytes]] = []
    for name in ("a", "b"):
        temporary = tmp_path / name
        temporary.mkdir()
        code = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--nthreads", "1", "--no-dashboard"]
        workers.append(
            subprocess.Popen(
                [*code, "--no-nanny", "--name", name, "--preload", str(guard), "--local-directory", str(temporary)],
                cwd=temporary,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
                stderr=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        )
    from distributed import Client

    with Client(scheduler, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    yield scheduler, seen
    for process in workers:
        process.kill()
        process.wait()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_machines_that_share_nothing_but_a_store_make_what_one_makes_alone(
    strangers: tuple[str, Path], tmp_path: Path
) -> None:
    address, touched = strangers
    alone, home, later = project(tmp_path / "alone"), project(tmp_path / "home"), project(tmp_path / "later")
    run(tmp_path / "alone", "run", "plane")
    url = f"file://{tmp_path}/store"
    run(tmp_path / "home", "run", "plane", "--runner", "dask", "--dask", address, "--store", url)
    assert not touched.exists(), touched.read_text()
    expected = digests(alone)
    assert {Path(place).parts[2] for place in expected} >= {"decoder", "bundle", "zero-shot", "runs"}
    assert digests(home) == expected
    for name in ("a", "b"):
        assert list((tmp_path / name / COPIES).glob("*/own_worlds.py")), "each had work to do"
    began = datetime.now(UTC)
    run(tmp_path / "later", "run", "plane", "--store", url)
    assert digests(later) == expected
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "later").glob("*/**/" + MANIFEST)]
    assert all(datetime.fromisoformat(each["created_at"]) < began for each in manifests), "all of it was fetched"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_workers_take_no_module_of_an_earlier_project_for_this_ones(
    strangers: tuple[str, Path], tmp_path: Path
) -> None:
    address, _ = strangers
    for name in ("first", "home", "alone"):
        project(tmp_path / name)
    for name in ("home", "alone"):
        module = tmp_path / name / "own_worlds.py"
        module.write_text(module.read_text().replace("rng.uniform(-0.3, 0.3, 2)", "rng.uniform(-0.5, 0.5, 2)"))
    cluster = ["--runner", "dask", "--dask", address, "--store", f"file://{tmp_path}/store"]
    run(tmp_path / "first", "collect", "plane", *cluster)
    run(tmp_path / "home", "collect", "plane", *cluster[:-1], f"file://{tmp_path}/other")
    run(tmp_path / "alone", "collect", "plane")
    assert digests(tmp_path / "home/data/studies/plane.toml") == digests(tmp_path / "alone/data/studies/plane.toml")
    assert digests(tmp_path / "home/data/studies/plane.toml") != digests(tmp_path / "first/data/studies/plane.toml")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_is_finished_goes_into_a_store_that_is_named_later(tmp_path: Path) -> None:
    study = project(tmp_path / "home")
    assert lago(tmp_path / "home", "collect", "plane") == 0
    url = f"file://{tmp_path}/store"
    assert lago(tmp_path / "home", "collect", "plane", "--store", url) == 0
    second = project(tmp_path / "second")
    space = open_workspace(tmp_path / "second", second)
    for job in STAGES["collect"](space):
        place = tmp_path / "second" / job.folder.relative_to(space.root)
        key = key_of(tmp_path / "home" / job.folder.relative_to(space.root))
        assert Store(url).pull(tmp_path / "second", place, key)
        assert job.done
    assert digests(second) == digests(study)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_cells_of_a_table_are_measured_where_only_the_store_is_shared(
    strangers: tuple[str, Path], tmp_path: Path
) -> None:
    address, touched = strangers
    space = study_in(tmp_path / "home")
    cells = [zero_shot_cell("random", task, 1, seed) for task in ("reach", "push") for seed in (0, 1)]
    works, url = [Work(cell, 2) for cell in cells], f"file://{tmp_path}/store"
    table = ZeroShot(space, silent)
    processes = measure(table, ZeroShot, works, Runner("dask", address=address, store=url))
    assert not touched.exists(), touched.read_text()
    assert os.getpid() not in processes
    alone = ZeroShot(study_in(tmp_path / "alone"), silent)
    measure(alone, ZeroShot, works)
    there, here = table.recorded(table.file.rows()), alone.recorded(alone.file.rows())
    assert set(there) == set(cells)
    timed = {"wall_s", "commit"}
    for cell in cells:
        a, b = ([{k: v for k, v in row.items() if k not in timed} for row in each[cell]] for each in (there, here))
        assert a == b
