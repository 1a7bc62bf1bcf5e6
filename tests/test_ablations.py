"""The table of ablations: cells that are measured once, what a variant changes, summaries, and the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.commands.cli import main
from lago_skills.decoder.config import DecoderConfig
from lago_skills.experiments import cells
from lago_skills.experiments.cells import ResultFile
from lago_skills.experiments.tables import ablations, opposites
from lago_skills.experiments.tables.ablations import VARIANTS, Cell, Row, Variant
from lago_skills.study import GuideConfig
from tests.conftest import ROOT
from tests.test_zero_shot_table import STUDY, never, study_in


def row(cell: Cell, seen: float = 1.0, unseen: float = 0.9, **changes: Any) -> Row:
    made = Row(
        "ablations", cell.study, cell.variant, cell.demos, cell.seed, seen, unseen, "push-wall", 0.4, "push-wall", 10,
        -2.0, 3.5, 2.1, 0.5, 0.8, 0.9, 0.95, 0.75, None, None, 6000, 31.2, 17.0, "abc1234", "f00d",
    )  # fmt: skip
    return replace(made, **changes)


def test_rows_come_back_with_what_is_missing_left_empty(tmp_path: Path) -> None:
    file = ResultFile(tmp_path / "ablations.csv", Row)
    one, two = Cell("small", "default", 5, 0), Cell("small", "learned query", 5, 0)
    file.add(row(one))
    file.add(row(two, told_apart=None, top_1=0.96, agrees=0.2, below_half=""))
    assert file.rows() == [row(one), row(two, told_apart=None, top_1=0.96, agrees=0.2, below_half="")]
    assert file.find(two) is not None
    assert cells.missing(file.rows(), [one, replace(one, seed=1)], None, 50) == [(replace(one, seed=1), 10)]


def test_an_interrupted_table_goes_on_where_it_stopped(tmp_path: Path) -> None:
    file, said, measured = ResultFile(tmp_path / "ablations.csv", Row), list[str](), list[Cell]()
    chosen = [(Cell("small", name, 5, seed), 10) for seed in (0, 1) for name in ("default", "k 1")]

    def bench(cell: Cell, n_episodes: int) -> Row:
        measured.append(cell)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return row(cell, episodes=n_episodes)

    with pytest.raises(KeyboardInterrupt):
        cells.measure(bench, file, chosen, said.append)
    cells.measure(bench, file, chosen, said.append)
    assert [r.cell for r in file.rows()] == [cell for cell, _ in chosen]
    assert [cell.seed for cell in measured] == [0, 0, 1, 1, 1]
    assert said[0] == "1/4 default/5/0: seen 1.00, unseen 0.90, push-wall 0.40, nll -2.00, 31 s"


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
        row(Cell("small", "k 8", 5, 0), 1.0, 0.5, weakest="door-lock", weakest_success=0.1),
        row(Cell("small", "k 8", 5, 1), 0.8, 0.7),
        row(Cell("small", "default", 5, 0), top_1=0.5, nll=-2.5),
        row(Cell("small", "of another version", 5, 0)),
        row(Cell("small", "default", 1, 0)),
    ]
    found = ablations.summary(rows)
    assert [(e["variant"], e["demos"]) for e in found] == [
        ("default", 5), ("k 8", 5), ("of another version", 5), ("default", 1)
    ]  # fmt: skip
    eight = found[1]
    assert (eight["seen"], eight["unseen"], eight["seeds"]) == (0.9, 0.6, 2)
    assert (eight["weakest"], eight["weakest_success"]) == ("door-lock", 0.1)
    assert (found[0]["top_1"], eight["top_1"]) == (0.5, None)
    assert [e["nll_default"] for e in found] == [-2.5, None, -2.5, -2.0]  # of the default there is no seed 1
    assert cells.mixed(rows) == []
    assert cells.mixed([*rows, row(Cell("small", "k 1", 5, 0), bundle="beef")]) == ["ablations, 5, seed 0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "magic"], "found variant 'magic'; expected one of default, not calibrated"),
        (["--tasks", "reach"], "found --tasks 'reach'; expected none"),
        (["--workers", "2"], "found number of workers 2; expected 1 for ablations"),
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


TEN = (
    STUDY.replace('"reach", "push"', '"ten"')
    .replace("per_task = 2", "per_task = 1")
    .replace("n_updates = 30", "n_updates = 30\nphrase_share = 0.0\ncontrast_every = 0")
)
"""The recorded playbooks of unseen tasks know skills of all ten. Other words take long to embed."""
CHOSEN = ["default", "learned query", "one-hot skills"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_measures_variants_and_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = study_in(tmp_path, TEN.replace("episodes = 2\n", "episodes = 1\n") + "[query]\nn_updates = 60\n")
    command = ["--root", str(tmp_path), "evaluate", str(space.study_file), "--table", "ablations", "--seeds", "0"]
    command += ["--methods", ",".join(CHOSEN)]
    shutil.copy(ROOT / opposites.PAIRS_FILE, tmp_path / opposites.PAIRS_FILE)
    assert main([*command, "--json"], never) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    rows = {entry["variant"]: entry for entry in found["rows"]}
    assert list(rows) == CHOSEN
    assert [asdict(r) for r in ResultFile(tmp_path / ablations.RESULTS, Row).rows()] == found["rows"]
    assert printed.err.count("pretrain") == 2  # the default's, and one that is trained otherwise
    assert len({entry["bundle"] for entry in found["rows"]}) == 1
    # Retrieval and acting change nothing about the decoder.
    assert rows["learned query"]["nll"] == rows["default"]["nll"]
    assert (rows["one-hot skills"]["told_apart"], rows["default"]["top_1"]) == (None, None)
    assert 0.0 <= rows["learned query"]["agrees"] <= 1.0
    assert 0.0 <= rows["learned query"]["top_1"] <= 1.0
    before = (tmp_path / ablations.RESULTS).read_bytes()
    assert main(command, never) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in CHOSEN)
    assert (tmp_path / ablations.RESULTS).read_bytes() == before
    assert main([*command, "--check", "learned query/1/0"], never) == 0, capsys.readouterr().out
    _opposites_are_told_of_the_same_decoder(tmp_path, str(space.study_file), capsys)


def _opposites_are_told_of_the_same_decoder(folder: Path, study: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--root", str(folder), "evaluate", study, "--table", "opposites", "--seeds", "0"]
    capsys.readouterr()
    assert main([*command, "--json"], never) == 0
    printed = capsys.readouterr()
    assert "pretrain" not in printed.err
    found = json.loads(printed.out)
    assert len(found["rows"]) == 20
    assert opposites.read(folder / opposites.RESULTS) == found["rows"]
    kept = next(r for r in ResultFile(folder / ablations.RESULTS, Row).rows() if r.variant == "default")
    assert found["summary"]["after"]["told"] == kept.told_apart
    assert found["summary"]["before"]["told"] == pytest.approx(0.15)  # the sentence model's own
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
    ground, other = (ablations.Ground(space, seed, 1, lambda text: None) for seed in (0, 1))
    config = ground.space.study.decoder
    from lago_skills.decoder.dataset import labelled_steps
    from lago_skills.decoder.runtime import DecoderWeights

    own, fresh = (
        labelled_steps(g.episodes, g.books, g.segments, g.embeddings, space.study.grounding, config)
        for g in (ground, other)
    )
    decoder, seconds = ground.decoder(VARIANTS["default"])
    assert isinstance(decoder, DecoderWeights)
    assert seconds > 0.0
    plain, no_seconds = ground.decoder(VARIANTS["not calibrated"])
    assert no_seconds == seconds  # trained once
    assert plain.network.novelty.slope[0] == 0.0
    raw = VARIANTS["raw observation"]
    unlike = ground.decoder(raw)[0]
    assert unlike.input_size == 42
    state = ground.episodes["push"][0].observations[:2]
    assert ground.guide(raw, unlike).prior(state, "reach-wall").mean().shape == (2, 4)
    found = ground.densities(VARIANTS["default"], decoder)
    assert ground.densities(VARIANTS["not calibrated"], plain)["nll"] != found["nll"]
    mean, std = own.actions.mean(axis=0), own.actions.std(axis=0) + 1e-3
    z = (fresh.actions - mean) / std
    by_hand = (0.5 * (z**2 + np.log(2 * np.pi)) + np.log(std)).sum(axis=1).mean()
    assert found["nll_one"] == pytest.approx(by_hand, abs=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_cost_of_a_decoder_is_measured_as_demonstrations_grow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study_in(tmp_path, TEN)
    command = ["--root", str(tmp_path), "bench", "decoder", "--study", "small", "--demos"]
    assert main([*command, "1,2", "--json"], never) == 0
    found = json.loads(capsys.readouterr().out)
    one, two = found["rows"]
    assert (one["demos"], two["demos"]) == (1, 2)
    assert 1.5 * one["steps"] < two["steps"] < 3 * one["steps"]
    assert two["segments"] > one["segments"] >= 10
    for measured in (one, two):
        parts = [measured[name] for name in ("label_s", "embed_s", "prepare_s", "train_s")]
        assert measured["total_s"] == pytest.approx(sum(parts), abs=0.03)
        assert 0.0 < measured["cpu_s"] <= measured["total_s"] + 0.5  # one thread
    assert (found["summary"]["updates"], found["summary"]["tasks"]) == (30, 10)
    with pytest.raises(SystemExit):
        main([*command, "0"], never)
