"""The table of ablations: cells that are measured once, what a variant changes, summaries, and the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.commands.cli import main
from lago_skills.decoder.config import DecoderConfig
from lago_skills.experiments import measuring
from lago_skills.experiments.cells import Cell, Row, by_cell, mixed
from lago_skills.experiments.result_file import ResultFile
from lago_skills.experiments.table import Choice
from lago_skills.experiments.tables import ablations, opposites
from lago_skills.experiments.tables.variants import VARIANTS, Variant
from lago_skills.study import GuideConfig
from tests.conftest import ROOT
from tests.tables import TEN, never, silent, study_in


def cell(variant: str, demos: int, seed: int) -> Cell:
    return ablations.SCHEMA.cell(study="small", variant=variant, demos=demos, seed=seed)


def row(cell: Cell, seen: float = 1.0, unseen: float = 0.9, **changes: Any) -> Row:
    values: dict[str, Any] = {
        "seen": seen, "unseen": unseen, "weakest": "push-wall", "weakest_success": 0.4, "below_half": "push-wall",
        "episodes": 10, "nll": -2.0, "nll_one": 3.5, "nll_per_skill": 2.1, "coverage_50": 0.5, "coverage_80": 0.8,
        "coverage_90": 0.9, "coverage_95": 0.95, "told_apart": 0.75, "top_1": None, "agrees": None, "updates": 6000,
        "train_s": 31.2, "wall_s": 17.0, "commit": "abc1234", "bundle": "f00d",
    }  # fmt: skip
    return ablations.SCHEMA.row(**{**cell, **values, **changes})


def test_rows_come_back_with_what_is_missing_left_empty(tmp_path: Path) -> None:
    file = ResultFile.of(ablations.SCHEMA, tmp_path)
    one, two = cell("default", 5, 0), cell("learned query", 5, 0)
    file.add(row(one))
    file.add(row(two, told_apart=None, top_1=0.96, agrees=0.2, below_half=""))
    assert file.rows() == [row(one), row(two, told_apart=None, top_1=0.96, agrees=0.2, below_half="")]
    later = cell("default", 5, 1)
    assert measuring.missing(by_cell(file.rows()), [one, later], None, 50) == [measuring.Work(later, 10)]


def test_an_interrupted_table_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space, messages, measured = study_in(tmp_path), list[str](), list[Cell]()
    table = ablations.Ablations(space, messages.append)
    chosen = table.cells(Choice(["default", "k 1"], seeds=[0, 1], demos=[5]))

    def measure(cell: Cell, n_episodes: int) -> list[Row]:
        measured.append(cell)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return [row(cell, episodes=n_episodes)]

    monkeypatch.setattr(table, "measure", measure)

    def go_on() -> None:
        works = measuring.missing(table.recorded(table.file.rows()), chosen, 10, table.episodes())
        measuring.measure(table, ablations.Ablations, works)

    with pytest.raises(KeyboardInterrupt):
        go_on()
    go_on()
    assert [each.cell for each in table.file.rows()] == chosen
    assert [each["seed"] for each in measured] == [0, 0, 1, 1, 1]
    assert messages[0] == "1/4 default/5/0: seen 1.00, unseen 0.90, push-wall 0.40, nll -2.00, 31 s"


def test_every_variant_is_a_possible_study_that_differs_from_the_default_in_something() -> None:
    assert VARIANTS["default"] == Variant(VARIANTS["default"].about)
    settings = [replace(variant, about="") for variant in VARIANTS.values()]
    assert all(settings.count(one) == 1 for one in settings)
    for name, variant in VARIANTS.items():
        assert "," not in name  # --methods A,B
        DecoderConfig(**variant.decoder)
        GuideConfig(**variant.guide)
        for config, changes in ((DecoderConfig(), variant.decoder), (GuideConfig(), variant.guide)):
            assert all(getattr(config, key) != value for key, value in changes.items()), name


def test_summaries_are_means_over_seeds_in_the_order_of_variants() -> None:
    rows = [
        row(cell("k 8", 5, 0), 1.0, 0.5, weakest="door-lock", weakest_success=0.1),
        row(cell("k 8", 5, 1), 0.8, 0.7),
        row(cell("default", 5, 0), top_1=0.5, nll=-2.5),
        row(cell("of another version", 5, 0)),
        row(cell("default", 1, 0)),
    ]
    entries = ablations.summary(rows)
    assert [(e["variant"], e["demos"]) for e in entries] == [
        ("default", 5), ("k 8", 5), ("of another version", 5), ("default", 1)
    ]  # fmt: skip
    eight = entries[1]
    assert (eight["seen"], eight["unseen"], eight["seeds"]) == (0.9, 0.6, 2)
    assert (eight["weakest"], eight["weakest_success"]) == ("door-lock", 0.1)
    assert (entries[0]["top_1"], eight["top_1"]) == (0.5, None)
    assert [e["nll_default"] for e in entries] == [-2.5, None, -2.5, -2.0]  # of the default there is no seed 1
    assert mixed(rows, ("table", "demos")) == []
    assert mixed([*rows, row(cell("k 1", 5, 0), bundle="beef")], ("table", "demos")) == ["ablations, 5, seed 0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "magic"], "found variant 'magic'; expected one of default, not calibrated"),
        (["--tasks", "reach"], "found --tasks 'reach'; expected none"),
        (["--workers", "0"], "found number of workers 0; expected 1 to 64"),
        (["--seeds", "-1"], "found seed -1"),
        (["--check"], "found no stored row of the chosen cells"),
    ],
)
def test_mistakes_are_refused_with_a_sentence(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    space = study_in(tmp_path)
    command = ["--root", str(tmp_path), "evaluate", str(space.study_file), "--table", "ablations"]
    assert main([*command, *arguments], never) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


CHOSEN = ["default", "learned query", "one-hot skills"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_measures_variants_and_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = study_in(tmp_path, TEN.replace("episodes = 2\n", "episodes = 1\n") + "[query]\nn_updates = 60\n")
    file = ResultFile.of(ablations.SCHEMA, tmp_path)
    command = ["--root", str(tmp_path), "evaluate", str(space.study_file), "--table", "ablations", "--seeds", "0"]
    command += ["--methods", ",".join(CHOSEN)]
    shutil.copy(ROOT / opposites.PAIRS_FILE, tmp_path / opposites.PAIRS_FILE)
    assert main([*command, "--json"], never) == 0
    printed = capsys.readouterr()
    results = json.loads(printed.out)
    rows = {entry["variant"]: entry for entry in results["rows"]}
    assert list(rows) == CHOSEN
    assert [dict(each) for each in file.rows()] == results["rows"]
    assert printed.err.count("pretrain") == 2  # the default's, and one that is trained otherwise
    assert len({entry["bundle"] for entry in results["rows"]}) == 1
    # Retrieval and acting change nothing about the decoder.
    assert rows["learned query"]["nll"] == rows["default"]["nll"]
    assert (rows["one-hot skills"]["told_apart"], rows["default"]["top_1"]) == (None, None)
    assert 0.0 <= rows["learned query"]["agrees"] <= 1.0
    assert 0.0 <= rows["learned query"]["top_1"] <= 1.0
    before = file.path.read_bytes()
    assert main(command, never) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in CHOSEN)
    assert file.path.read_bytes() == before
    assert main([*command, "--check", "learned query/1/0"], never) == 0, capsys.readouterr().out
    _opposites_are_of_the_same_decoder(tmp_path, str(space.study_file), capsys)


def _opposites_are_of_the_same_decoder(folder: Path, study: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--root", str(folder), "evaluate", study, "--table", "opposites", "--seeds", "0"]
    capsys.readouterr()
    assert main([*command, "--json"], never) == 0
    printed = capsys.readouterr()
    assert "pretrain" not in printed.err
    results = json.loads(printed.out)
    assert len(results["rows"]) == 20
    assert [dict(each) for each in ResultFile.of(opposites.SCHEMA, folder).rows()] == results["rows"]
    rows = ResultFile.of(ablations.SCHEMA, folder).rows()
    assert results["summary"]["after"]["told"] == next(r["told_apart"] for r in rows if r["variant"] == "default")
    assert results["summary"]["before"]["told"] == pytest.approx(0.15)  # the sentence model's own
    assert main(command, never) == 0
    table = capsys.readouterr().out
    assert "close the drawer" in table
    assert "before g: cosine 0.90 to the opposite, 0.83 to the paraphrase, told apart 0.15" in table
    assert main([*command, "--methods", "library"], never) == 2
    assert (
        "found --table opposites with '--methods'; expected --seeds, --demos and --json alone"
        in capsys.readouterr().err
    )


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_likelihoods_are_of_other_demonstrations_and_simple_densities_of_those_trained_on(tmp_path: Path) -> None:
    """A Gaussian of the demonstrations that were trained on, scored on the next seed's: computed here by hand."""
    space = study_in(tmp_path, TEN)
    table = ablations.Ablations(space, silent)
    ablated, other = (table.ablated(seed, 1) for seed in (0, 1))
    config = ablated.space.study.decoder
    from lago_skills.decoder.trained_decoder import DecoderWeights

    own, fresh = (each.labelled.steps(config) for each in (ablated, other))
    decoder, seconds = ablated.decoder(VARIANTS["default"])
    assert isinstance(decoder, DecoderWeights)
    assert seconds > 0.0
    plain, no_seconds = ablated.decoder(VARIANTS["not calibrated"])
    assert no_seconds == seconds  # trained once
    assert plain.network.novelty.slope[0] == 0.0
    raw = VARIANTS["raw observation"]
    unlike = ablated.decoder(raw)[0]
    assert unlike.input_size == 42
    state = ablated.labelled.episodes["push"][0].observations[:2]
    assert ablated.guide(raw, unlike).prior(state, "reach-wall").greedy().shape == (2, 4)
    figures = ablated.densities(VARIANTS["default"], decoder)
    assert ablated.densities(VARIANTS["not calibrated"], plain)["nll"] != figures["nll"]
    mean, std = own.actions.mean(axis=0), own.actions.std(axis=0) + 1e-3
    z = (fresh.actions - mean) / std
    by_hand = (0.5 * (z**2 + np.log(2 * np.pi)) + np.log(std)).sum(axis=1).mean()
    assert figures["nll_one"] == pytest.approx(by_hand, abs=1e-4)


@pytest.mark.long
@pytest.mark.timeout(240)
def test_the_cost_of_a_decoder_is_measured_as_demonstrations_grow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study_in(tmp_path, TEN)
    command = ["--root", str(tmp_path), "bench", "decoder", "--study", "small", "--demos"]
    assert main([*command, "1,2", "--json"], never) == 0
    costs = json.loads(capsys.readouterr().out)
    one, two = costs["rows"]
    assert (one["demos"], two["demos"]) == (1, 2)
    assert 1.5 * one["steps"] < two["steps"] < 3 * one["steps"]
    assert two["segments"] > one["segments"] >= 10
    for measured in (one, two):
        parts = [measured[name] for name in ("label_s", "embed_s", "prepare_s", "train_s")]
        assert measured["total_s"] == pytest.approx(sum(parts), abs=0.03)
        assert 0.0 < measured["cpu_s"] <= measured["total_s"] + 0.5  # one thread
    assert (costs["summary"]["updates"], costs["summary"]["tasks"]) == (30, 10)
    with pytest.raises(SystemExit):
        main([*command, "0"], never)
