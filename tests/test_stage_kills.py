"""`lago run` is killed inside each stage and at the end of each, on each runner, and run again: nothing finished is made twice, and the hashes are those of a run that nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lago_skills.artifacts.calls import RunnerName
from lago_skills.artifacts.folder import MANIFEST
from tests.conftest import ROOT
from tests.test_pipeline import processes_of
from tests.test_store_machines import digests, project, run

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

PLACES = {
    "collect": "data/episodes/plane/fetch",
    "plan": "checkpoints/plane/playbooks",
    "segment": "checkpoints/plane/segments",
    "pretrain": "checkpoints/plane/decoder",
    "build": "checkpoints/plane/bundle",
    "evaluate": "checkpoints/plane/zero-shot/fetch-south",
    "train": "checkpoints/plane/runs/fetch-south__guided-ppo__s0",
    "report": "checkpoints/plane/report",
}
"""An artifact of each stage."""
DEADLINE_S = 120.0


def inside(root: Path, stage: str) -> bool:
    """Whether the stage is at work."""
    place = root / PLACES[stage]
    return any(place.parent.glob(f".{place.name}.*.tmp")) if place.parent.exists() else False


def over(root: Path, stage: str) -> bool:
    """Whether its artifact is there."""
    return (root / PLACES[stage] / MANIFEST).exists()


def made_at(root: Path) -> dict[str, str]:
    """When each finished artifact was begun, by place."""
    found = dict[str, str]()
    for path in root.glob("*/**/" + MANIFEST):
        if not any(part.startswith(".") for part in path.relative_to(root).parts):
            found[str(path.parent.relative_to(root))] = str(json.loads(path.read_text())["created_at"])
    return found


def begun(root: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lago_skills.flows.main", "--root", str(root), "run", "plane", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    silent = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=root, env=env, stdout=silent, stderr=silent, start_new_session=True)


def killed(process: subprocess.Popen[bytes], when: Callable[[], bool], delay_s: float, *, group: bool) -> bool:
    """Kill the command, or everything that it has started too, so long after that is the case; whether it came to it."""
    deadline = time.monotonic() + DEADLINE_S
    while not when():
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    time.sleep(delay_s)
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    return True


@pytest.mark.parametrize("runner", ["processes", "dask"])
def test_a_run_that_is_killed_in_each_stage_ends_as_if_it_were_not(runner: RunnerName, tmp_path: Path) -> None:
    alone, root = project(tmp_path / "alone"), tmp_path / "killed"
    disturbed = project(root)
    run(tmp_path / "alone", "run", "plane")
    chance, n_killed = random.Random(0), 0
    for number, stage in enumerate(PLACES):
        for name, when in (("inside", inside), ("over", over)):
            if over(root, stage) and name == "inside":
                continue  # it was over before the last command was dead
            before = made_at(root)
            process = begun(root, "--runner", runner)
            delay_s = chance.uniform(0.0, 0.3) if name == "inside" else 0.0
            n_killed += killed(process, lambda: when(root, stage), delay_s, group=number % 2 == 0)  # noqa: B023
            after = made_at(root)
            assert {place: after.get(place) for place in before} == before, f"{stage} ({name}): made twice"
    process = begun(root, "--runner", runner)
    assert process.wait(300) == 0
    assert n_killed >= 12, "the kills hit nothing"
    assert digests(disturbed) == digests(alone)
    left = [path for path in root.rglob("*") if path.name.endswith((".tmp", ".old"))]
    assert not left
    deadline = time.monotonic() + 30.0
    while (living := processes_of(root)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not living
