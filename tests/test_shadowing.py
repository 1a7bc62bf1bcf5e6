"""The shadowing table on a small world: what is added, what a plan finds among it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Lago
from tests.test_growth_table import dial_with_plans
from tests.test_small_worlds import DIAL

pytestmark = pytest.mark.slow


def test_a_right_skill_is_found_among_many(lago: Lago, tmp_path: Path) -> None:
    dial_with_plans(lago, tmp_path, "n_updates = 100")
    code, out, err = lago("table", "shadowing", "dial", "--episodes", "2", "--methods", "temperature 0.05", "--json")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    sizes = {(row["kind"], row["times"]): row["skills"] for row in rows}
    n = sizes["none", 0]
    assert sizes == {
        ("none", 0): n,
        ("made up", 10): 11 * n,
        ("made up", 100): 101 * n,
        ("recorded plans", 10): n + len(recorded(tmp_path, n)),
        ("recorded plans", 100): n + len(recorded(tmp_path, n)),
        ("near duplicates", 10): 11 * n,
        ("near duplicates", 100): 101 * n,
    }
    assert all(row["recall"] == 1.0 for row in rows)
    assert all(row["prior_us"] > 0.0 for row in rows)
    code, _, err = lago("picture", "shadowing", "dial", "--to", str(tmp_path / "crowd.svg"))
    assert code == 0, err
    text = (tmp_path / "crowd.svg").read_text(encoding="utf-8")
    assert {"made up", "recorded plans", "near duplicates"} <= {kind for kind, _ in sizes if kind in text}
    code, _, err = lago("picture", "stream", "dial")
    assert code == 2
    assert "found no rows of table T6; expected some to draw; run: lago table T6 dial" in err
    for arguments, message in [
        (("--demos", "3"), "the library is the study's"),
        (("--methods", "hot"), "found method 'hot'"),
        (("--tasks", "fly"), "found task 'fly'"),
    ]:
        code, _, err = lago("table", "shadowing", "dial", *arguments)
        assert (code, message in err) == (2, True), err


def recorded(folder: Path, n_own: int) -> list[str]:
    """Sentences of the study's own plans that its library does not have."""
    sentences = {step["skill"] for book in DIAL.values() for step in book}
    return sorted(sentences)[n_own:]
