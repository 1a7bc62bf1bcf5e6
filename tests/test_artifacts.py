from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lago_skills.artifacts.calls import Progress
from lago_skills.artifacts.folder import (
    ArtifactWriter,
    fingerprint,
    is_current,
    read_manifest,
    remove_abandoned,
    sweep,
    verify,
    writing,
)
from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.core import Episode
from lago_skills.data.episodes import load_episodes, save_episodes
from lago_skills.errors import ArtifactCorrupt, ArtifactMissing, DiskFull, FormatTooNew, ShapeError
from lago_skills.stages.job import Job

RECIPE: dict[str, object] = {"stage": "x", "version": 1}


def make(folder: Path, text: str = "hello", recipe: dict[str, object] = RECIPE) -> None:
    with writing(folder, "x", recipe) as writer:
        (writer.path / "a.txt").write_text(text)
        writer.summary = {"n": 1}


def test_a_stage_is_done_when_its_manifest_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "art"
    assert not is_current(folder, fingerprint(RECIPE))
    make(folder)
    assert is_current(folder, fingerprint(RECIPE))
    assert not is_current(folder, fingerprint({**RECIPE, "version": 2}))
    manifest = verify(folder)
    assert manifest.summary == {"n": 1}
    assert manifest.recipe == RECIPE
    make(tmp_path / "twin")
    assert verify(tmp_path / "twin").digest == manifest.digest
    make(folder, "other")
    assert verify(folder).digest != manifest.digest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["art", "twin"]


def test_damage_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "art"
    make(folder)
    (folder / "a.txt").write_text("hellO")
    with pytest.raises(ArtifactCorrupt, match=r"has hash .* its manifest says .* delete the folder"):
        is_current(folder, fingerprint(RECIPE))
    (folder / "a.txt").unlink()
    with pytest.raises(ArtifactCorrupt, match="no such file"):
        verify(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        read_manifest(folder)
    with pytest.raises(ArtifactMissing, match="run the stage that makes it"):
        verify(tmp_path / "none")


def test_newer_formats_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "art")
    path = tmp_path / "art" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(FormatTooNew, match="written in format 99; this version reads formats up to 1"):
        verify(tmp_path / "art")


def test_an_interruption_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "art"
    make(folder)
    before = verify(folder).digest

    def interrupted() -> None:
        with writing(folder, "x", RECIPE) as writer:
            (writer.path / "a.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert verify(folder).digest == before
    assert [p.name for p in tmp_path.iterdir()] == ["art"]


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "art"
    make(folder)
    with pytest.raises(DiskFull, match="free some space and run the same command again"), writing(folder, "x", {}):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert is_current(folder, fingerprint(RECIPE))


def test_a_really_full_disk(tmp_path: Path) -> None:
    """The same on a real file system without room, where this machine can mount one."""
    mount = tmp_path / "small"
    mount.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "t", mount], check=False).returncode:
        pytest.skip("this machine does not let us mount a small file system")
    try:
        make(mount / "art")
        with pytest.raises(DiskFull), writing(mount / "big", "x", RECIPE) as writer:
            (writer.path / "b").write_bytes(os.urandom(200_000))
        with pytest.raises(DiskFull), writing(mount / "arrays", "x", RECIPE) as writer:
            save_arrays({"a": np.random.default_rng(0).normal(size=50_000)}, writer.path / "a")
        assert is_current(mount / "art", fingerprint(RECIPE))
    finally:
        subprocess.run(["umount", mount], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.long)])
def test_sigkill_at_any_moment_leaves_the_old_artifact_or_the_new_one(kills: int, tmp_path: Path) -> None:
    folder = tmp_path / "art"
    code = (
        "import sys; from pathlib import Path; from tests.test_artifacts import make\n"
        "i = 0\n"
        "while True:\n"
        "    make(Path(sys.argv[1]), 'x' * (i % 5000)); i += 1\n"
        "    print(i, flush=True)\n"
    )
    rng = np.random.default_rng(0)
    for _ in range(kills):
        with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()  # it is at work
            time.sleep(0.2 * rng.random())
            child.kill()
        make(tmp_path / "other")  # sweeping happens per artifact
        sweep(
            folder
        )  # as whoever makes it does first: a kill between the two renames leaves the old one beside its place
        verify(folder)
    make(folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["art", "other"]
    verify(folder)


def test_what_a_dead_writer_leaves_is_removed_and_what_a_living_one_does_is_not(tmp_path: Path) -> None:
    """Also of one that is dead but still has its number, as for ever in containers whose first process waits for nobody."""
    folder = tmp_path / "art"
    host = socket.gethostname().replace(".", "_")
    with subprocess.Popen(["sleep", "600"]) as living, subprocess.Popen(["true"]) as dead:
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)  # ended, and nobody has asked how
        left = {
            (pid, kind): tmp_path / f".art.{host}-{pid}.{kind}"
            for pid in (living.pid, dead.pid)
            for kind in ("old", "tmp")
        }
        for path in left.values():
            path.mkdir()
        remove_abandoned(folder)  # a swap may be under way: nobody but a writer may end it
        assert {key for key, path in left.items() if path.exists()} == {
            (living.pid, "tmp"),
            (living.pid, "old"),
            (dead.pid, "old"),
        }
        make(folder)
        assert [path.name for path in sorted(tmp_path.iterdir())] == [left[living.pid, "tmp"].name, "art"]
        living.kill()
        living.wait()
        remove_abandoned(folder)
        assert [path.name for path in tmp_path.iterdir()] == ["art"]


def test_episodes_round_trip_and_damage_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            "push",
            i,
            rng.normal(size=(n + 1, 39)).astype(np.float32),
            rng.uniform(-1, 1, (n, 4)).astype(np.float32),
            np.zeros(n, np.float32),
            i % 2 == 0,
        )
        for i, n in enumerate([3, 1, 7])
    ]
    path = tmp_path / "e.npz"
    save_episodes(path, episodes)
    for found, expected in zip(load_episodes(path), episodes, strict=True):
        np.testing.assert_array_equal(found.observations, expected.observations)
        np.testing.assert_array_equal(found.actions, expected.actions)
        assert (found.seed, found.success, found.task_id) == (expected.seed, expected.success, "push")
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["observations"][2, 2] = np.nan
    np.savez(path, **arrays)
    with pytest.raises(ShapeError, match="found nan"):
        load_episodes(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(ArtifactCorrupt, match="collect again"):
        load_episodes(path)


def test_arrays_round_trip(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.zeros(0, np.float32)}
    save_arrays(arrays, tmp_path / "x")
    found = load_arrays(tmp_path / "x")
    np.testing.assert_array_equal(found["a"], arrays["a"])
    (tmp_path / "x").write_bytes(b"123")
    with pytest.raises(ArtifactCorrupt):
        load_arrays(tmp_path / "x")


def test_two_that_make_one_artifact_make_it_once(tmp_path: Path) -> None:
    """As a job that a cluster gives to a second worker while the first is still at it."""
    n_made: list[str] = []

    def make(writer: ArtifactWriter, progress: Progress) -> None:
        n_made.append("made")
        time.sleep(0.3)
        (writer.path / "said.txt").write_text("once")

    job = Job("test", "thing", tmp_path / "thing", {"of": 1}, 1, "things", make)
    with ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(job.run, lambda done, note: None) for _ in range(3)]
    manifests = [future.result() for future in futures]
    assert n_made == ["made"]
    assert len({each.digest for each in manifests}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]
