"""Growth cut at any moment: SIGKILL at twenty moments of a step leaves the version before in use and whole, and the same command finishes it afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lago_skills.artifacts.folder import verify
from lago_skills.data.episodes import save_episodes
from lago_skills.grow.versions import Versions
from lago_skills.library.storage.verify import verify as verify_library
from lago_skills.stages.workspace import Workspace
from tests.conftest import ROOT, Lago
from tests.small_worlds import PlaneWorld
from tests.test_grow import built, bytes_of, shown
from tests.test_small_worlds import NUMBERS

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]
N_KILLS = 20


def growing(space: Workspace, data: Path) -> subprocess.Popen[str]:
    """`lago grow` in a process of its own, with the decoder trained anew."""
    arguments = ("grow", "plane", "--task", "visit", "--data", str(data), "--refresh", "always", "--episodes", "5")
    return subprocess.Popen(
        [sys.executable, "-m", "lago_skills.flows.main", "--root", str(space.root), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def whole(space: Workspace) -> int:
    """The number of the version in use, after a look at every version there is."""
    versions = Versions(space.artifact("grown"))
    for each in versions.all():
        verify(each.folder)
        assert not verify_library(each.folder / "library")
    assert versions.current is not None
    return versions.current.number


def test_killed_at_any_moment_and_two_at_once(lago: Lago, tmp_path: Path) -> None:
    space = built(lago, tmp_path, "numbers", NUMBERS)
    assert PlaneWorld().tasks["visit"] in space.study.seen
    save_episodes(tmp_path / "more.npz", shown("visit", 4))
    began = time.monotonic()
    first = growing(space, tmp_path / "more.npz")
    while not space.artifact(".lock").is_file():
        time.sleep(0.05)
    time.sleep(1.0)
    second = growing(space, tmp_path / "more.npz")
    said, _ = second.communicate(timeout=120)
    assert (second.returncode, "found another command at work" in said) == (2, True), said
    out, _ = first.communicate(timeout=300)
    assert first.returncode == 0, out
    took = time.monotonic() - began
    assert whole(space) == 1

    finished = 1
    library = bytes_of(space.library)
    for number in range(N_KILLS):
        process = growing(space, tmp_path / "more.npz")
        time.sleep(took * (number + 0.5) / N_KILLS)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        now = whole(space)
        assert now in (finished, finished + 1)
        finished = now
        assert bytes_of(space.library) == library
    last = growing(space, tmp_path / "more.npz")
    out, _ = last.communicate(timeout=300)
    assert last.returncode == 0, out
    assert whole(space) == finished + 1
    assert not [each for each in space.artifact("grown").iterdir() if each.name.startswith(".") and each.is_dir()]
