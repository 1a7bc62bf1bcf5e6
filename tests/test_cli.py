from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lago_skills.artifacts.executor import Runner
from lago_skills.artifacts.progress import StageProgress
from lago_skills.commands.cli import STAGE_NAMES, main, parser
from lago_skills.errors import DiskFull, LagoError
from lago_skills.experiments.intervals import bootstrap_mean, wilson
from lago_skills.report.plots import Frame, animation, learning_curves, skill_map
from lago_skills.stages.workspace import Workspace
from tests.conftest import ROOT


def never(space: Workspace, stages: Sequence[str], runner: Runner) -> None:
    raise AssertionError("nothing should run")


@pytest.mark.clock
def test_help_and_import_are_quick() -> None:
    """Half a second each; the best of three, since test machines are noisy."""
    for code in (
        "import lago_skills",
        "from lago_skills.flows.main import main; import sys; sys.argv = ['lago', '--help']; main()",
    ):
        times: list[float] = []
        for _ in range(3):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
            times.append(time.perf_counter() - started)
        assert min(times) < 0.5, (code, times)


def test_every_stage_is_a_command() -> None:
    text = parser().format_help()
    for name in (*STAGE_NAMES, "demo", "run", "report"):
        assert f"    {name} " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere"], "no study 'nowhere'"),
        (["plan", "show", "juggle", "--study", "demo"], "no recorded playbook for task 'juggle'"),
        (["plan", "demo", "--import", "none.jsonl", "--model", "m"], "cannot be read"),
    ],
)
def test_mistakes_exit_2_with_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(ROOT), *arguments], never) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.startswith("lago: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (LagoError("found this; expected that; do so"), 2, "found this"),
        (DiskFull("the disk is full"), 2, "the disk is full"),
        (KeyboardInterrupt(), 2, "go on with: lago collect demo"),
        (OSError(28, "No space left on device"), 2, "found the disk full"),
    ],
)
def test_what_stages_raise_becomes_an_exit_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(space: Workspace, stages: Sequence[str], runner: Runner) -> None:
        assert stages == ["collect"]
        raise error

    monkeypatch.chdir(ROOT)
    assert main(["collect", "demo"], fail) == code
    assert message in capsys.readouterr().err


def test_tables_have_a_command_of_their_own_and_a_usual_study(capsys: pytest.CaptureFixture[str]) -> None:
    shown: dict[tuple[str, ...], str] = {}
    for words in (("frontier",), ("frontier", "frontier-five"), ("zero-shot",)):
        chosen = ["--tasks", "push-wall", "--seeds", "0", "--methods", "no such thing"]
        assert main(["--root", str(ROOT), "table", *words, *chosen], never) == 2
        shown[words] = capsys.readouterr().err
    assert all("found method 'no such thing'" in text for text in shown.values())
    assert main(["--root", str(ROOT), "table", "frontier", "elsewhere"], never) == 2
    assert "no study 'elsewhere'" in capsys.readouterr().err


def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(space: Workspace, stages: Sequence[str], runner: Runner) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.chdir(ROOT)
    with pytest.raises(OSError, match="Input/output error"):
        main(["collect", "demo"], fail)


def test_plan_shows_a_playbook_and_exports_nothing_when_all_is_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(ROOT), "plan", "show", "push-wall", "--study", "demo"], never) == 0
    shown = capsys.readouterr().out
    assert "push-wall: bypass a wall and push a puck to a goal\nversion 1: claude, recorded by hand" in shown
    assert "heads for goal" in shown
    assert "nothing above holds" in shown
    assert main(["--root", str(ROOT), "plan", "demo", "--export", str(tmp_path / "r.jsonl")], never) == 0
    assert (tmp_path / "r.jsonl").read_text() == ""
    assert "0 open requests" in capsys.readouterr().err


def test_wilson_intervals_against_known_values() -> None:
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(10, 20) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert wilson(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
    low, high = bootstrap_mean(np.array([0.0, 1.0] * 50))
    assert 0.38 < low < 0.45 < 0.55 < high < 0.62


def test_pictures_are_pictures() -> None:
    rng = np.random.default_rng(0)
    curve = np.stack([np.arange(3.0) * 1000, [0.0, 0.5, 1.0]], 1)
    assert learning_curves({"sac": [curve], "guided-sac": [curve, curve]}, 0.5, "push")[:4] == b"\x89PNG"
    for n, z in ((1, 8), (1, 1), (4, 1)):
        assert skill_map(rng.normal(size=(n, z)).astype(np.float32), ["s"] * n, ["push"] * n)[:4] == b"\x89PNG"
    assert skill_map(rng.normal(size=(5, 8)).astype(np.float32), ["s"] * 5, ["push"] * 5)[:4] == b"\x89PNG"
    picture = rng.integers(0, 255, (240, 320, 3)).astype(np.uint8)
    for size in (3, 2, 0):  # in space, in the plane, and where there is nothing to head for
        points = {name: rng.normal(size=size) for name in ("hand", "thing", "target")}
        frames = [Frame(each, points, "a skill " * 20, "step 1") for each in (picture, None)]
        assert animation(frames)[:6] == b"GIF89a"


def test_progress_says_speed_and_time_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("lago_skills.artifacts.progress.time.monotonic", lambda: now[0])
    with StageProgress("train", 1000, "steps") as progress:
        now[0] += 20.0
        progress.update("a", 100, "first")
        progress.update("b", 100, "too soon for a line")
        progress.finish("a", 500)
    errors = capsys.readouterr().err
    assert "train     100/1,000  5.0 steps/s, 3:00 left  first" in errors
    assert "too soon" not in errors
    assert "train     done: 1,000 steps in 20.0 s" in errors
