"""Cells, rows and the files that keep them: what is measured once stays, whatever interrupts, and comes back as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lago_skills.errors import ArtifactCorrupt, StudyError
from lago_skills.experiments import curves
from lago_skills.experiments.cells import Row, Schema, by_cell, mixed
from lago_skills.experiments.measuring import Work, missing
from lago_skills.experiments.registry import TABLES, TRAINING_TABLES, find_table
from lago_skills.experiments.result_file import ResultFile
from lago_skills.experiments.tables import (
    ablations,
    frontier_rows,
    growth,
    latent,
    levels,
    opposites,
    sequences,
    shadowing,
    skill_changes,
    zero_shot,
)
from tests.conftest import ROOT
from tests.tables import curve_rows
from tests.tables import zero_shot_cell as at
from tests.tables import zero_shot_row as row

SCHEMAS: dict[str, Schema] = {
    **{
        schema.table: schema
        for schema in (
            *(zero_shot.SCHEMA, latent.SCHEMA, skill_changes.SCHEMA),
            *(ablations.SCHEMA, opposites.SCHEMA, sequences.SCHEMA, frontier_rows.SCHEMA, levels.SCHEMA),
            *(growth.SCHEMA, shadowing.SCHEMA),
        )
    },
    **{name: curves.schema(name) for name in TRAINING_TABLES},
}


def test_every_table_is_registered_with_its_columns() -> None:
    assert SCHEMAS.keys() == TABLES.keys()
    for name in TABLES:
        assert callable(find_table(name))
        assert set(SCHEMAS[name].keys) <= set(SCHEMAS[name].names)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=list(SCHEMAS))
def test_every_row_on_record_is_read_and_written_byte_for_byte(schema: Schema, tmp_path: Path) -> None:
    committed, copy = ResultFile.of(schema, ROOT), ResultFile(tmp_path / "copy.csv", schema)
    rows = committed.rows()
    assert rows
    copy.replace(rows)
    assert copy.path.read_bytes() == committed.path.read_bytes()
    named = {(dict(one.cell).get("study"), one.cell.name) for one in rows}
    assert len(named) == len(by_cell(rows))  # in a study, a name says which cell is meant


def test_a_cell_is_what_its_key_columns_say() -> None:
    one = at("library", "push", 5, 0)
    assert dict(one) == {
        "table": "zero-shot",
        "study": "small",
        "method": "library",
        "task": "push",
        "demos": 5,
        "seed": 0,
    }
    assert one.name == "library/push/5/0"
    assert {one: 1}[at("library", "push", 5, 0)] == 1
    assert one != at("library", "push", 5, 1)
    assert one != at("library", "push", 5, 0, study="other")
    assert row(one).cell == one
    assert list(row(one)) == list(zero_shot.SCHEMA.names)
    with pytest.raises(TypeError, match="success"):
        zero_shot.SCHEMA.row(**one)
    with pytest.raises(TypeError, match="colour"):
        row(one, colour="red")


def test_rows_come_back_as_they_were_and_a_measured_cell_stays(tmp_path: Path) -> None:
    file = ResultFile.of(zero_shot.SCHEMA, tmp_path)
    assert file.rows() == []
    one, two = at("library", "push", 5, 0), at("random", "push", 0, 0)
    file.add(row(one))
    file.add(row(two, bundle=""))
    file.add(row(one, 0.9))  # measured by two processes: the first counts
    assert file.rows() == [row(one), row(two, bundle="")]
    assert file.path.read_text().startswith("table,study,task,level,method,demos,seed,success,success_last,episodes")


def test_an_interruption_while_a_row_is_written_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ResultFile.of(zero_shot.SCHEMA, tmp_path)
    file.add(row(at("library", "push", 5, 0)))
    before = file.path.read_bytes()

    def cut(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", cut)
        with pytest.raises(KeyboardInterrupt):
            file.add(row(at("library", "push", 5, 1)))
    assert file.path.read_bytes() == before
    file.add(row(at("library", "push", 5, 1)))
    assert len(file.rows()) == 2


HEADER = ",".join(zero_shot.SCHEMA.names)


@pytest.mark.parametrize(
    "text",
    [
        "task,seed\npush,0\n",
        HEADER + "\n" + "x," * 14 + "x\n",  # no numbers
        HEADER + "\n" + "zero-shot,small\n",
        HEADER + ",colour\nzero-shot,small,push,seen,library,5,0,1.0,1.0,20,50.0,4000,3.0,abc,f00d,red\n",
        HEADER + "\nzero-shot,small,push,seen,library,5,0,1.0,1.0,20,50.0,4000,3.0,abc,f00d,red\n",
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "zero-shot.csv"
    path.write_text(text)
    with pytest.raises(ArtifactCorrupt, match="restore the file"):
        ResultFile(path, zero_shot.SCHEMA).rows()


def test_points_of_a_curve_are_rows_of_one_cell(tmp_path: Path) -> None:
    file = ResultFile(tmp_path / "T2.csv", curves.schema("T2"))
    first, second = curve_rows("sac", "push", 0, {1: 0.1, 2: 0.2}), curve_rows("sac", "push", 1, {1: 0.3})
    file.add(*first)
    file.add(*second)
    file.add(*curve_rows("sac", "push", 0, {1: 0.9}))
    assert file.rows() == [*first, *second]
    assert by_cell(file.rows()) == {first[0].cell: first, second[0].cell: second}
    file.path.write_text("task,seed\npush,0\n")
    with pytest.raises(ArtifactCorrupt, match="expected the columns table, study, task, method"):
        file.rows()


def test_only_what_is_missing_is_measured() -> None:
    wanted = [at("library", "push", 5, seed) for seed in (0, 1)]
    other = row(at("library", "push", 5, 0, study="other"), episodes=7)

    def works(rows: list[Row], n_episodes: int | None) -> list[Work]:
        return missing(by_cell(rows), wanted, n_episodes, 50)

    assert works([other], None) == [Work(wanted[0], 50), Work(wanted[1], 50)]
    assert works([other, row(wanted[0])], None) == [Work(wanted[1], 20)]  # as many as the others have
    assert works([row(wanted[0])], 20) == [Work(wanted[1], 20)]
    assert works([row(cell) for cell in wanted], None) == []
    with pytest.raises(StudyError, match="library/push/5/0: found it measured with 20 episodes; expected 10"):
        works([row(wanted[0])], 10)


def test_rows_of_different_bundles_are_noticed() -> None:
    def of(method: str, task: str, bundle: str) -> Row:
        return row(at(method, task, 5, 0), bundle=bundle)

    rows = [of("library", "push", "a"), of("library", "reach", "a"), of("bc-text", "push", "b")]
    assert mixed(rows, ("method", "demos")) == []
    rows.append(of("library", "door-open", "c"))
    assert mixed(rows, ("method", "demos")) == ["library, 5, seed 0"]
    assert mixed(rows, ("method",)) == ["library, seed 0"]
    assert mixed(rows, ("table",)) == ["zero-shot, seed 0"]
