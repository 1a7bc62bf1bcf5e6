"""Table T6 on a small world: a stage for each task, each going on from the one before, also after a cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lago_skills.experiments.tables import growth
from lago_skills.grow.versions import Versions
from lago_skills.stages.workspace import open_workspace
from tests.conftest import Lago
from tests.test_small_worlds import DIAL, answer, begin

pytestmark = pytest.mark.slow


def dial_with_plans(lago: Lago, folder: Path, decoder: str) -> Path:
    """A study of the dial with its recorded plans, one task shown and one not; returns its file."""
    path = begin(
        folder, "dial", "DialWorld", "numbers", seen="raise", unseen="set", algorithms="guided-sac", decoder=decoder
    )
    code, _, err = lago("plan", "dial", "--scenes")
    assert code == 0, err
    answer(lago, folder, "dial", DIAL)
    return path


def test_a_stream_is_measured_stage_by_stage_and_goes_on_after_a_cut(
    lago: Lago, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dial_with_plans(lago, tmp_path, "n_updates = 200")
    monkeypatch.setattr(growth, "N_STEPS", 400)
    arguments = ("table", "T6", "dial", "--seeds", "0", "--episodes", "5", "--json")
    code, out, err = lago(*arguments)
    assert code == 0, err
    found = json.loads(out)
    rows = found["rows"]
    assert [(row["stage"], row["task"], row["kind"]) for row in rows] == [
        (0, "raise", "built"),
        (0, "set", "future"),
        (1, "raise", "built"),
        (1, "set", "new"),
    ]
    new = rows[-1]
    assert new["verdict"] in ("accepted", "held", "refused", "nothing learned")
    assert new["learn_s"] > 0
    assert rows[0]["learn_s"] is None
    assert [row["trained"] for row in rows] == ["", "", "", new["trained"]]
    assert new["trained"] in ("onward", "anew", "no")
    (summary,) = found["summary"]
    assert (summary["method"], summary["order"], summary["stages"]) == ("grown", 0, 1)
    assert summary["next"] == rows[1]["success"]

    what_it_is_compared_with(lago, arguments, rows)
    code, _, err = lago("picture", "stream", "dial", "--to", str(tmp_path / "stream.svg"))
    assert code == 0, err
    assert "the same tasks, before anything has grown" in (tmp_path / "stream.svg").read_text(encoding="utf-8")
    table = growth.GrowthStream(open_workspace(tmp_path, path), lambda text: None)
    table.file.replace([row for row in table.file.rows() if row["stage"] == 0])  # cut after growth, before its row
    versions = Versions(table.replicate(0).space.artifact("grown"))
    grown = len(versions.all())
    code, out, err = lago(*arguments)
    assert code == 0, err
    again = json.loads(out)["rows"]
    assert [row["success"] for row in again] == [row["success"] for row in rows]
    assert len(versions.all()) == 2 * grown - 1  # from version 0 once more
    code, _, err = lago(*arguments[:-3], "--tasks", "set")
    assert code == 2
    assert "a stream has all tasks of its study" in err
    table.file.path.unlink()
    code, _, err = lago(*arguments[:-1], "--methods", "frozen")
    assert code == 2
    assert "found the grown stream of order 0 not measured to its end" in err
    last = table.cells(growth.Choice(seeds=[0]))[-1]
    with pytest.raises(growth.StudyError, match="found stage 0 not measured"):
        table.measure(last, 5)


def what_it_is_compared_with(lago: Lago, arguments: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """The rows that are made from the last version; the frozen library is that of stage 0."""
    compared = "frozen,frozen with found plans,rebuilt,replay-bc"
    code, out, err = lago(*arguments, "--methods", compared)
    assert code == 0, err
    found = json.loads(out)["rows"]
    assert {(row["method"], row["stage"], row["verdict"]) for row in found} == {
        (method, 1, "compared") for method in compared.split(",")
    }
    frozen = {row["task"]: row["success"] for row in found if row["method"] == "frozen"}
    assert frozen == {row["task"]: row["success"] for row in rows if row["stage"] == 0}
