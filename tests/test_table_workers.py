"""Tables whose cells are measured by worker processes: shared among them, and among commands."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lago_skills.artifacts.executor import Runner
from lago_skills.errors import LagoError
from lago_skills.experiments import measuring
from lago_skills.experiments.cells import Cell, Row, Say
from lago_skills.experiments.table import Choice
from lago_skills.experiments.tables import training_runs, zero_shot
from lago_skills.experiments.tables.specs import SPECS, TableSpec
from lago_skills.stages.workspace import Workspace, open_workspace
from tests.tables import TEN, silent, study_in, zero_shot_cell


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return study_in(tmp_path, TEN)


@dataclass(frozen=True)
class Meeting:
    """Opens a table whose cells wait, before they are measured, until two processes are at work."""

    spec: TableSpec
    folder: Path

    def __call__(self, space: Workspace, say: Say) -> training_runs.Training:
        return _Meeting(space, say, self)


class _Meeting(training_runs.Training):
    def __init__(self, space: Workspace, say: Say, meeting: Meeting) -> None:
        super().__init__(space, say, "T2", meeting.spec)
        self._folder = meeting.folder

    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        (self._folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 90.0
        while len(list(self._folder.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        return super().measure(cell, n_episodes)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_workers_share_the_runs(space: Workspace, tmp_path: Path) -> None:
    """Two processes at the same time, a run for each; what is on record is not measured again."""
    opener, messages = Meeting(replace(SPECS["T2"], final_episodes=3), tmp_path / "meeting"), list[str]()
    opener.folder.mkdir()
    table = opener(space, messages.append)
    chosen = table.cells(Choice(["scripted", "plan-controller-10"], ["reach-wall"], seeds=[0]))
    works = measuring.missing({}, chosen, None, table.episodes())
    processes = measuring.measure(table, opener, works, Runner(n_workers=2))
    assert len({*processes, os.getpid()}) == 3  # both worked, and this one did not
    assert {int(path.name) for path in opener.folder.iterdir()} == {*processes}
    counts, names = zip(*(text.split(":")[0].split(" ") for text in messages), strict=True)
    assert counts == ("1/2", "2/2")  # in the order in which they end, whichever of the two that is
    assert {*names} == {cell.name for cell in chosen}
    assert all(text.endswith(" s") for text in messages)
    assert {row["episodes"] for row in table.file.rows()} == {3}  # workers have the table's settings
    assert set(chosen) == table.recorded(table.file.rows()).keys()
    assert measuring.measure_one(table, works[0]) == "measured by another process"
    assert not list(space.artifact("unfinished", "T2").iterdir())  # no lock is left behind


def _claim(root: Path, study_file: Path, cell: Cell, has: Any, done: Any) -> None:
    with measuring.claim(training_runs.table(open_workspace(root, study_file), "T2"), cell) as mine:
        assert mine
        has.set()
        done.wait()


@pytest.mark.timeout(120)
def test_a_run_that_another_process_is_at_is_left_to_it(space: Workspace) -> None:
    table = training_runs.table(space, "T2")
    (cell,) = table.cells(Choice(["sac"], ["reach-wall"], seeds=[0]))
    context = multiprocessing.get_context("spawn")
    has, done = context.Event(), context.Event()
    other = context.Process(target=_claim, args=(space.root, space.study_file, cell, has, done))
    other.start()
    try:
        assert has.wait(60)
        assert measuring.measure_one(table, measuring.Work(cell, 3)) == "left to another process, which is at it"
        other.kill()  # a claim goes with its process
        other.join()
        with measuring.claim(table, cell) as mine:
            assert mine
    finally:
        other.kill()


class Killed(zero_shot.ZeroShot):
    """Its process is killed while it measures."""

    def measure(self, cell: Cell, n_episodes: int) -> list[Row]:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().measure(cell, n_episodes)


def test_a_killed_worker_is_an_error_that_says_so(space: Workspace) -> None:
    work = measuring.Work(zero_shot_cell("random", "reach", 0, 0), 1)
    with pytest.raises(LagoError, match=r"was killed.*what is finished is kept"):
        measuring.measure(Killed(space, silent), Killed, [work], Runner(n_workers=2))
