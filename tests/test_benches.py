"""`lago bench guide` and `lago bench serve`, in small: what they print and that its parts agree. Figures are not asked here: other tests run beside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lago_skills.commands.bundles import bench
from lago_skills.experiments.benches import guide_speed, serve_speed
from tests.conftest import ROOT, Lago
from tests.test_bundles import states
from tests.test_pipeline import STUDY


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guide_speed, "ROUNDS", 2)
    monkeypatch.setattr(guide_speed, "CALLS", {1: 20, 64: 8})
    monkeypatch.setattr(serve_speed, "ROUNDS", 2)
    monkeypatch.setattr(serve_speed, "CALLS", 20)
    monkeypatch.setattr(serve_speed, "CLIENTS", 2)
    monkeypatch.setattr(serve_speed, "LOAD_S", 0.3)
    monkeypatch.setattr(bench, "N_STATES", 128)


def test_one_prior_beside_torch_its_products_and_onnx(lago: Lago, bundle: Path) -> None:
    code, out, err = lago("bench", "guide", "--bundle", str(bundle), "--task", "push", "--sizes", "20,60", "--json")
    assert code == 0, err
    shown = json.loads(out)
    rows = shown["rows"]
    assert [(row["size"], row["batch"]) for row in rows] == [(20, 1), (20, 64), (60, 1), (60, 64)]
    for row in rows:
        assert 0.0 < row["p50_us"] <= row["p99_us"]
        assert row["per_s"] == pytest.approx(1e6 * row["batch"] / row["p50_us"], rel=0.05)
        assert row["ratio"] == pytest.approx(row["peer_p50_us"] / row["p50_us"], rel=0.05)
        assert row["products_p50_us"] > 0.0
        assert row["onnx_per_s"] > 0
    assert shown["summary"]["task"] == "push"
    code, out, err = lago("bench", "guide", "--bundle", str(bundle), "--task", "push", "--sizes", "20")
    assert code == 0, err
    assert "share_of_products" in out


def test_the_bill_counts_tokens_of_the_recorded_answer(bundle: Path) -> None:
    from lago_skills.guide.loaded import load

    key = load(bundle).guide.books["push"].transcript_key
    tokens = bench.tokens_of(ROOT, key)
    assert tokens is not None
    asked, answered = tokens
    assert asked > answered > 50.0
    bill = guide_speed.bill(50e-6, 200, asked, answered, guide_speed.Live(50.0, 2.0, 10.0))
    assert bill["guide_s"] == 0.01
    assert bill["live_s"] == pytest.approx(200 * answered / 50.0, abs=0.1)
    assert bill["live_usd"] == pytest.approx(200 * (2.0 * asked + 10.0 * answered) / 1e6, abs=0.01)
    assert bench.tokens_of(ROOT, "no such key") is None


def test_torch_and_the_guide_say_the_same(bundle: Path) -> None:
    """Else the peer would do other work."""
    from lago_skills.guide.loaded import load

    guide = load(bundle, unfamiliar="answer")
    rows = states(30)
    weights, _, _, _, action = guide_speed.TorchPeer(guide.guide, "push")(rows)
    np.testing.assert_allclose(action.numpy(), guide.act(rows, "push"), atol=1e-5)
    np.testing.assert_allclose(weights.numpy().sum(axis=(1, 2)), 1.0, rtol=1e-5)


@pytest.mark.slow
def test_the_service_beside_a_bare_server(lago: Lago, bundle: Path) -> None:
    code, out, err = lago("bench", "serve", "--bundle", str(bundle), "--task", "push", "--json")
    assert code == 0, err
    rows = {row["way"]: row for row in json.loads(out)["rows"]}
    assert set(rows) == {"websocket", "http", "bare websocket"}
    for row in rows.values():
        assert 0.0 < row["p50_us"] <= row["p99_us"]
        assert row["per_s"] > 0
        assert row["over_peer_us"] == pytest.approx(row["p50_us"] - row["peer_p50_us"], abs=0.2)


@pytest.mark.slow
def test_what_a_decoder_costs_as_demonstrations_grow(lago: Lago, tmp_path: Path) -> None:
    small = STUDY.replace("n_updates = 1200", "n_updates = 30").replace('seen = ["ten"]', 'seen = ["reach", "push"]')
    for name in ("transcripts", "scenes"):
        shutil.copytree(ROOT / "data" / name, tmp_path / "data" / name)
    (tmp_path / "data/studies").mkdir()
    (tmp_path / "data/studies/small.toml").write_text(small, encoding="utf-8")
    code, out, err = lago("bench", "decoder", "--study", "small", "--demos", "1,2", "--json")
    assert code == 0, err
    shown = json.loads(out)
    one, two = shown["rows"]
    assert (one["demos"], two["demos"]) == (1, 2)
    assert 0 < one["steps"] < two["steps"]
    assert one["total_s"] >= one["train_s"] > 0.0
    assert (shown["summary"]["study"], shown["summary"]["tasks"]) == ("small", 2)
