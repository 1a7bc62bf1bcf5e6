"""What is printed on a narrow terminal, and in a pipe."""

from __future__ import annotations

import re
import sys

import pytest

from lago_skills.commands import terminal

LINE = "s0001  v1  hold the gripper still around the object and close the fingers to grasp it, fingers closing  [pick-place, push]"


def test_a_long_line_goes_on_under_its_text_and_loses_nothing() -> None:
    first, *others = terminal.wrapped(LINE, 80).split("\n")
    assert first.startswith("s0001  v1  hold")
    assert all(len(line) <= 80 for line in (first, *others))
    assert all(line.startswith(" " * 11) for line in others)
    assert " ".join([first, *(line.strip() for line in others)]).split() == LINE.split()
    assert terminal.wrapped("short", 80) == "short"
    assert len(terminal.wrapped("one " * 30, 40).split("\n")[1]) <= 40


@pytest.mark.parametrize("on_a_terminal", [False, True])
def test_no_name_is_cut_and_empty_columns_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], on_a_terminal: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: on_a_terminal)
    monkeypatch.setenv("COLUMNS", "60")
    names = [f"a-long-name-of-a-task-{number}" for number in range(3)]
    terminal.print_table(
        ("task", "model", "repaired", "tokens"), [(name, "claude " * 8, "", "~1,672") for name in names]
    )
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert all(name in out for name in names)
    assert "repaired" not in out
    assert ("claude " * 8).strip() in out if not on_a_terminal else max(map(len, out.splitlines())) <= 60
    terminal.print_lines([LINE])
    printed = capsys.readouterr().out.rstrip("\n")
    assert printed == (terminal.wrapped(LINE, 60) if on_a_terminal else LINE)
