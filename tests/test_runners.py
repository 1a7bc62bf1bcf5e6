"""Who runs calls: processes of this machine and a Dask cluster, with workers that die, hang and fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lago_skills.artifacts.calls import Call, Progress, RunnerName
from lago_skills.artifacts.executor import Direct, Runner
from lago_skills.errors import LagoError, StudyError
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
RUNNERS: tuple[RunnerName, ...] = ("processes", "dask")
EITHER = pytest.mark.parametrize("runner", ["processes", pytest.param("dask", marks=pytest.mark.long)])


def count(n: int, progress: Progress) -> tuple[int, int]:
    for i in range(n):
        progress(i, "counted")
        time.sleep(0.05)
    return n, os.getpid()


def die_once(marker: Path, progress: Progress) -> int:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def die(progress: Progress) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(progress: Progress) -> None:
    time.sleep(600)


def refuse(progress: Progress) -> None:
    raise StudyError("found this; expected that; correct it")


def write_and_wait(marker: Path, progress: Progress) -> None:
    """Go on until it is stopped."""
    for i in range(600):
        marker.write_text(str(i), encoding="utf-8")
        progress(i, "")
        time.sleep(0.1)


def call(name: str, work: Callable[[Progress], Any]) -> Call[Any]:
    return Call(name, f"job {name!r}", work)


@pytest.mark.parametrize("runner", RUNNERS)
def test_calls_return_in_order_from_several_processes_and_say_how_far_they_are(runner: RunnerName) -> None:
    heard: list[tuple[str, int, str]] = []
    finished: list[str] = []
    calls = [call(f"c{n}", partial(count, n)) for n in (12, 2, 12, 3)]
    returned = Direct(Runner(runner)).run(
        calls, 2, lambda name, done, note: heard.append((name, done, note)), lambda done, _: finished.append(done.name)
    )
    assert [n for n, _ in returned] == [12, 2, 12, 3]
    assert len({pid for _, pid in returned} - {os.getpid()}) == 2
    assert sorted(finished) == ["c12", "c12", "c2", "c3"]
    assert finished.index("c2") < len(finished) - 1, "it did not wait for those before it"
    assert {name for name, _, _ in heard} >= {"c12", "c2"}


@EITHER
def test_a_worker_that_dies_is_replaced_once_and_takes_no_others_work_with_it(
    runner: RunnerName, tmp_path: Path
) -> None:
    calls = [call("dies", partial(die_once, tmp_path / "died")), call("counts", partial(count, 20))]
    assert Direct(Runner(runner)).run(calls, 2)[1][0] == 20
    with pytest.raises(LagoError, match=r"the process of job 'dies' was killed twice.*run the same command again"):
        Direct(Runner(runner)).run([call("dies", die)], 1)


@EITHER
def test_what_a_call_raises_stops_the_others_at_once(runner: RunnerName, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    began = time.monotonic()
    with pytest.raises(StudyError, match="found this; expected that"):
        Direct(Runner(runner)).run([call("waits", partial(write_and_wait, marker)), call("refuses", refuse)], 2)
    assert time.monotonic() - began < 60
    time.sleep(2.0)
    stopped = marker.read_text() if marker.exists() else ""
    time.sleep(1.0)
    assert (marker.read_text() if marker.exists() else "") == stopped


@EITHER
def test_a_call_that_hangs_is_stopped_at_its_limit(runner: RunnerName) -> None:
    with pytest.raises(
        LagoError, match=r"job 'hangs' was stopped after 3 s; expected it to finish within that time limit"
    ):
        Direct(Runner(runner, limit_s=3.0)).run([call("hangs", hang)], 1)


def test_an_address_is_for_dask_only() -> None:
    with pytest.raises(LagoError, match=r"add --runner dask, or leave the address out"):
        Runner("processes", address="tcp://127.0.0.1:8786")


def test_a_cluster_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(LagoError, match=r"found no Dask scheduler at 'tcp://127.0.0.1:9'.*dask scheduler"):
        Direct(Runner("dask", address="tcp://127.0.0.1:9")).run([call("counts", partial(count, 1))], 1)


@pytest.fixture
def scheduler(tmp_path: Path) -> Generator[str]:
    """The address of a Dask scheduler without workers."""
    file = tmp_path / "scheduler.json"
    code = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(
        [*code, "--no-dashboard", "--scheduler-file", str(file)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"]
        process.terminate()


def worker(address: str, folder: Path) -> subprocess.Popen[bytes]:
    code = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*code, "--local-directory", str(folder)],
        cwd=folder,
        env=env,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def test_a_cluster_that_runs_somewhere_does_the_work(scheduler: str, tmp_path: Path) -> None:
    with pytest.raises(LagoError, match=r"found no worker at the Dask scheduler.*dask worker"):
        Direct(Runner("dask", address=scheduler)).run([call("counts", partial(count, 1))], 1)
    workers = [worker(scheduler, tmp_path) for _ in range(2)]
    try:
        deadline = time.monotonic() + 60
        returned: list[tuple[int, int]] = []
        while not returned and time.monotonic() < deadline:
            try:
                returned = Direct(Runner("dask", address=scheduler)).run(
                    [call(f"c{n}", partial(count, 10)) for n in range(4)], 1
                )
            except LagoError:
                time.sleep(1)  # the workers are on their way
        assert [n for n, _ in returned] == [10] * 4
    finally:
        for process in workers:
            process.kill()
            process.wait()
