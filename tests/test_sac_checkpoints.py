"""Runs of soft actor-critic that are killed, run out of disk or find damage, and go on."""

# torch leaves some argument types open, and numpy.interp some results.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import csv
import errno
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lago_skills.core import Episode, Playbook
from lago_skills.errors import ArtifactCorrupt, DiskFull, FormatTooNew, StudyError
from lago_skills.rl import checkpoint, runlog, train
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.problem import Problem
from lago_skills.rl.runlog import RunLog
from lago_skills.rl.world_problem import world_problem
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.metaworld.world import MetaWorld
from tests.random_guides import random_guide
from tests.small_envs import SMALL, Pointing, Walk, demonstrations, problem, same

GO = """
import sys
from pathlib import Path
from lago_skills.rl.loop import Loop, train
from tests.small_envs import SMALL, Pointing, Walk, problem
train(problem(Walk, Pointing(1.0), n_envs=2), SMALL.model_copy(update={"n_steps": 900}), 0, folder=Path(sys.argv[1]),
      report=lambda step, row: print(step, flush=True))
"""


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", GO, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 700:  # after the second checkpoint, before the end
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert Checkpoint.load(tmp_path / "checkpoint", {"other": 1}) is None
    config, made = SMALL.model_copy(update={"n_steps": 900}), problem(Walk, Pointing(1.0), n_envs=2)
    steps: list[int] = []
    went_on = train(made, config, 0, folder=tmp_path, report=lambda step, row: steps.append(step))
    assert steps[0] > 600
    whole = train(made, config, 0)
    assert same(went_on, whole)
    assert len(went_on.harvested) == len(whole.harvested) > 0
    ends = [[(each.terminated, each.truncated) for each in run.harvested] for run in (went_on, whole)]
    assert ends[0] == ends[1]
    assert all(one or other for one, other in ends[0])
    with (tmp_path / "curve.csv").open() as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == ["300", "600", "900"]


def test_a_run_on_the_simulator_goes_on_exactly(tmp_path: Path, playbooks: dict[str, Playbook]) -> None:
    config = SMALL.model_copy(update={"n_steps": 500, "eval_every": 250, "plan_noise_m": 0.05})
    made = world_problem(MetaWorld(), [find_task("door-lock")], MetaWorldGrounding(), random_guide(playbooks), 0)
    recipe = {"same": True}
    train(made, config.model_copy(update={"n_steps": 250}), 0, folder=tmp_path, recipe=recipe)
    went_on, whole = train(made, config, 0, folder=tmp_path, recipe=recipe), train(made, config, 0)
    # a shorter run has a smaller buffer, but neither is full
    assert same(went_on, whole)


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SMALL.model_copy(update={"n_steps": 300})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 1)
        train(problem(Walk), config, 0, folder=tmp_path)
    with pytest.raises(
        ArtifactCorrupt, match=r"found format 1 of an unfinished run; expected format 2.*delete the folder"
    ):
        train(problem(Walk), config, 0, folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 3)
        train(problem(Walk), config, 0, folder=tmp_path / "later")
    with pytest.raises(FormatTooNew, match="found format 3"):
        train(problem(Walk), config, 0, folder=tmp_path / "later")


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    train(problem(Walk), SMALL, 0, folder=tmp_path)
    path = tmp_path / "checkpoint" / checkpoint.ARRAYS_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArtifactCorrupt, match="damaged"):
        train(problem(Walk), SMALL, 0, folder=tmp_path)


def test_a_full_disk_keeps_the_checkpoint_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SMALL.model_copy(update={"n_steps": 300})
    recipe = {"same": True}
    train(problem(Walk), config, 0, folder=tmp_path, recipe=recipe)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    result = train(problem(Walk), SMALL, 0, folder=tmp_path, recipe=recipe)
    assert [row["step"] for row in result.curve] == [300, 600]
    assert "full while writing checkpoint" in capsys.readouterr().err
    kept = Checkpoint.load(tmp_path / "checkpoint", recipe)
    assert kept is not None
    assert kept.values["step"] == 300
    with pytest.raises(DiskFull):
        kept.save(tmp_path / "checkpoint", recipe)


FULL = """
import os, sys
from pathlib import Path
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.loop import Loop, train
from tests.small_envs import SMALL, Walk, problem
folder, recipe = Path(sys.argv[1]), {"same": True}
config = SMALL.model_copy(update={"n_steps": 1200})
def report(step, row):
    filler = folder / "filler"
    if step == 400:
        with filler.open("wb", buffering=0) as stream:
            try:
                while stream.write(bytes(4096)): pass
            except OSError as error:
                print(error)
    if step == 1000:
        filler.unlink()
curve = train(problem(Walk), config, 0, folder=folder, recipe=recipe, report=report).curve
print([row["step"] for row in curve], (folder / "curve.csv").read_text().count("\\n"))
print(Checkpoint.load(folder / "checkpoint", recipe).values["step"])
"""


def test_a_disk_that_really_is_full_stops_nothing(tmp_path: Path) -> None:
    mounted = f"mount -t tmpfs -o size=2m tmpfs {tmp_path}"
    apart = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*apart, mounted], check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    script = f'{mounted} && exec "$0" -c "$1" "$2"'
    done = subprocess.run(
        [*apart, script, sys.executable, FULL, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[Errno 28] No space left on device", "[300, 600, 900, 1200] 5", "1200"]
    assert "is full; expected room for the log" in done.stderr
    assert "is full while writing" in done.stderr


def test_a_full_disk_only_delays_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RunLog(tmp_path, ["a/b"])
    log.add({"step": 1, "a/b": 0.5})

    def full(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(runlog, "write_text", full)
        log.add({"step": 2, "a/b": 0.25})
        assert (tmp_path / "curve.csv").read_text() == "step,a/b\n1,0.5\n"
        patch.setattr(runlog, "write_text", broken)
        with pytest.raises(OSError, match="broken"):
            log.add({"step": 3, "a/b": 0.1})
    log.add({"step": 4, "a/b": 1.0})
    log.close()
    assert (tmp_path / "curve.csv").read_text() == "step,a/b\n1,0.5\n2,0.25\n3,0.1\n4,1.0\n"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path)).Reload()
    shown = [(each.step, each.value) for each in board.Scalars("a/b")]
    np.testing.assert_allclose(shown, [(1, 0.5), (2, 0.25), (3, 0.1), (4, 1.0)], rtol=1e-6)


def test_a_kill_between_the_two_renames_of_a_checkpoint_loses_nothing(tmp_path: Path) -> None:
    train(problem(Walk), SMALL, 0, folder=tmp_path, recipe={"same": True})
    (tmp_path / "checkpoint").rename(tmp_path / ".checkpoint.1.old")
    kept = Checkpoint.load(tmp_path / "checkpoint", {"same": True})
    assert kept is not None
    assert kept.values["step"] == 600


def test_a_run_goes_on_only_with_the_guide_and_the_demonstrations_it_was_begun_with(tmp_path: Path) -> None:
    made = problem(Walk, Pointing(1.0))
    shown = demonstrations(3, made)

    def reported(other: Problem, demos: list[Episode]) -> list[int]:
        steps: list[int] = []
        train(other, SMALL, 0, demonstrations=demos, folder=tmp_path, report=lambda step, row: steps.append(step))
        return steps

    assert reported(made, shown)[0] == 100
    assert reported(made, shown) == []  # it has ended
    assert reported(problem(Walk, Pointing(-1.0)), shown)[0] == 100
    assert reported(problem(Walk, Pointing(-1.0)), shown[:2])[0] == 100


def test_an_environment_that_does_not_repeat_itself_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [0]

    class Restless(Walk):
        def __init__(self) -> None:
            super().__init__()
            made[0] += 1
            self.shift = 0.001 * made[0]

        def _seen(self) -> NDArray[np.float64]:
            return super()._seen() + self.shift

    recipe = {"same": True}
    config = SMALL.model_copy(update={"n_steps": 300})
    train(problem(Restless, Pointing(1.0)), config, 0, folder=tmp_path, recipe=recipe)
    assert "found another observation" not in capsys.readouterr().err
    result = train(problem(Restless, Pointing(1.0)), SMALL, 0, folder=tmp_path, recipe=recipe)
    assert "environment 0: found another observation than before" in capsys.readouterr().err
    assert [row["step"] for row in result.curve] == [300, 600]


def test_a_log_row_with_other_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="declare new keys"):
        RunLog(None, ["a/b"]).add({"step": 1, "a/c": 2.0})
