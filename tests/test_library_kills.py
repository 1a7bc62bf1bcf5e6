"""Short forms of the two harnesses; their long forms are `python -m tests.library_kills` and `python -m tests.library_crowd`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def run(*arguments: str) -> dict[str, object]:
    """In a process of its own: the harness forks, and a test process has threads."""
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kills", [8, pytest.param(60, marks=pytest.mark.long)])
def test_nothing_acknowledged_is_lost_however_often_the_process_is_killed(kills: int) -> None:
    tally = run("tests.library_kills", "--kills", str(kills))
    assert tally["kills"] == kills
    assert tally["acknowledged"] != 0
    assert tally["lost"] == tally["problems"] == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_writers_and_four_readers_get_along() -> None:
    found = run("tests.library_crowd", "--seconds", "3")
    assert found["expected"] == found["counted"]
    assert found["errors"] == 0
