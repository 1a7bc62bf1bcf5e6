"""docs/tutorial.md as it stands, with fewer updates and steps: its files are those of examples/courier."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lago_skills.commands.stages import require_earlier
from lago_skills.errors import ArtifactMissing
from lago_skills.stages.workspace import open_workspace
from tests.conftest import ROOT, Lago

pytestmark = pytest.mark.slow
HERE = ROOT / "examples/courier"
TASK = "deliver-through-gap"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The tutorial's folder, as one copies it."""
    shutil.copytree(HERE, tmp_path, dirs_exist_ok=True)
    study = tmp_path / "courier.toml"
    text = study.read_text(encoding="utf-8").replace("n_steps = 10_000", "n_steps = 400")
    study.write_text(
        text.replace("eval_every = 2_000", "eval_every = 400") + "eval_episodes = 4\n[decoder]\nn_updates = 2_000\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # pyright: ignore[reportUnknownMemberType]  # pytest does not say its type
    yield tmp_path
    sys.modules.pop("courier", None)


def test_the_tutorial_is_followed(lago: Lago, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Demonstrations, both rounds of plans, every stage, the sceptic's rows and the bundle at work."""
    shown = runpy.run_path("record.py", run_name="__main__")
    assert f"{shown['N_EPISODES']} of {shown['N_EPISODES']} episodes succeeded" in capsys.readouterr().out
    for answers in ("answers-1.jsonl", "answers-2.jsonl"):
        assert lago("plan", "courier.toml", "--export", "requests.jsonl")[0] == 0
        code, _, err = lago("plan", "courier.toml", "--import", answers, "--model", "claude")
        assert code == 0, err
    for stage in ("collect", "plan", "segment", "pretrain", "build", "evaluate", "train"):
        code, _, err = lago(stage, "courier.toml")
        assert code == 0, err
    runpy.run_path("sceptic.py")
    said = _shares(capsys.readouterr().out)
    assert said["the library alone"] >= 0.8
    assert said["plan + controller that knows the motors"] == 1.0
    assert said["plan + controller, motors along x and y"] == 0.0
    assert said["cloning of the demonstrations"] < said["the library alone"]
    assert lago("bundle", "make", "courier.toml", "--trained", "--to", "courier.zip")[0] == 0
    runpy.run_path("use.py")
    assert re.match(r"delivered: True, after \d+ steps; torch was imported", capsys.readouterr().out)


def _shares(printed: str) -> dict[str, float]:
    lines: list[Any] = re.findall(r"^ *(.+?) +([01]\.[0-9]{2})$", printed, re.MULTILINE)
    return {name: float(share) for name, share in lines}


def test_a_request_of_the_tutorial_is_answered_by_its_files(lago: Lago, folder: Path) -> None:
    """Changed words of the study are other requests, and answers to the old ones are refused, as the page's reader would see."""
    study = folder / "courier.toml"
    study.write_text(
        study.read_text(encoding="utf-8").replace("fetch the parcel and leave", "bring the parcel and leave")
    )
    assert lago("plan", "courier.toml", "--export", "requests.jsonl")[0] == 0
    code, _, err = lago("plan", "courier.toml", "--import", "answers-1.jsonl", "--model", "claude")
    assert code == 2
    assert "that is not open" in err


def test_a_stage_that_comes_too_early_names_the_command_that_helps(lago: Lago, folder: Path) -> None:
    """Of a study that lies elsewhere than in data/studies, by its file."""
    runpy.run_path("record.py", run_name="__main__")
    with pytest.raises(ArtifactMissing) as caught:
        require_earlier(open_workspace(folder, folder / "courier.toml"), "segment")
    named = re.search(r"run: lago (\S+) (\S+), or", str(caught.value))
    assert named is not None
    assert lago(*named.groups())[0] == 0
