"""The studies of other people's environments (data/studies/examples), each the whole way in small; once in full they are tables in the documents."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from lago_skills.study import load_study
from tests.conftest import ROOT, Lago

EXAMPLES = ROOT / "data/studies/examples"
SMALL = {
    "episodes_per_task": 3,
    "n_steps": 400,
    "eval_every": 400,
}


def in_small(name: str, folder: Path) -> Path:
    """The study with few demonstrations, updates and steps; its recorded answers beside it."""
    for each in ("scenes", "transcripts"):
        (folder / "data" / each).mkdir(parents=True)
        for path in (ROOT / "data" / each).glob(f"{name}.*"):
            shutil.copy(path, folder / "data" / each)
    studies = Path(shutil.copytree(EXAMPLES, folder / "data/studies/examples"))
    text = (studies / f"{name}.toml").read_text(encoding="utf-8")
    for key, value in SMALL.items():
        text = re.sub(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
    text = re.sub(r"^seeds = .*$", "seeds = [0]\nfinal_episodes = 2", text, flags=re.MULTILINE)
    text = re.sub(r"^(eval_every = .*)$", "\\1\neval_episodes = 2\nhidden_size = 16", text, flags=re.MULTILINE)
    (studies / f"{name}.toml").write_text(text + "[decoder]\nn_updates = 60\n", encoding="utf-8")
    return studies / f"{name}.toml"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cartpole", "pendulum", "lunarlander", "fetch", "doorkey"])
def test_an_example_goes_the_whole_way(name: str, lago: Lago, tmp_path: Path) -> None:
    study = in_small(name, tmp_path)
    for stage in ("collect", "plan", "segment", "pretrain", "build", "train", "report"):
        code, _, err = lago(stage, name)
        assert code == 0, f"{stage}: {err}"
    rows: list[dict[str, Any]] = json.loads(lago("report", name, "--json")[1])["rows"]
    loaded = load_study(study)
    assert {(row["task"], row["method"]) for row in rows} == {
        (t, a) for t in loaded.train.tasks for a in loaded.train.algorithms
    }
    assert all(row["return"] is not None for row in rows)
    ((data, *_), _) = (json.loads(lago("data", "list", name, "--json")[1])[key] for key in ("rows", "summary"))
    assert data["success"] == 1.0


def test_the_grounding_of_doorkey_is_short() -> None:
    assert len((EXAMPLES / "doorkey_grounding.py").read_text(encoding="utf-8").splitlines()) <= 60


def test_the_wrong_algorithm_for_actions_is_refused_by_name(lago: Lago, tmp_path: Path) -> None:
    """Soft actor-critic on CartPole; with PPO, as it says, it trains (above)."""
    study = in_small("cartpole", tmp_path)
    study.write_text(
        study.read_text(encoding="utf-8").replace('"guided-ppo", "ppo"', '"sac"').replace("train.ppo", "train.sac"),
        encoding="utf-8",
    )
    for stage in ("collect", "plan", "segment", "pretrain", "build"):
        assert lago(stage, "cartpole")[0] == 0
    code, _, err = lago("train", "cartpole")
    assert code == 2
    assert "PPO" in err or "ppo" in err


def test_the_snippet_in_the_documents_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, with fewer steps; the advice of a bundle is in test_field_environments.py."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/guided-learning.md").read_text(encoding="utf-8")
    (code,) = [
        block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "from lago_skills import" in block
    ]
    code = code.partition("advised = ")[0].replace("20_000", "400, eval_every=400, eval_episodes=2, rollout_steps=200")
    names: dict[str, Any] = {"__name__": "documents", "Path": Path}
    exec(code, names)
    assert len(names["result"].curve) == 1
    assert (tmp_path / "runs/mine/curve.csv").is_file()
