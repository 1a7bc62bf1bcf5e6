"""`lago plan` as a person uses it, on a study of an environment of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lago_skills.artifacts.executor import Runner
from lago_skills.commands.cli import main
from lago_skills.llm.transcripts import Request, TranscriptFile, answered
from lago_skills.stages import plan
from lago_skills.stages.workspace import Workspace
from lago_skills.study import load_study
from tests.endpoint import PLAYBOOK, study_toml

Lago = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lago(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lago:
    """Run `lago` in a folder with the study `cart` of three tasks."""
    path = tmp_path / "data" / "studies" / "cart.toml"
    path.parent.mkdir(parents=True)
    path.write_text(study_toml("http://127.0.0.1:9/v1", 3))

    def run(*arguments: str) -> tuple[int, str, str]:
        def stages(space: Workspace, names: Sequence[str], runner: Runner) -> None:
            for name in names:
                assert name == "plan"
                for job in plan.jobs(space):
                    job.run(lambda done, note: None)

        code = main(["--root", str(tmp_path), *arguments], stages)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def space_of(folder: Path) -> Workspace:
    path = folder / "data" / "studies" / "cart.toml"
    return Workspace(folder, path, load_study(path))


def answer_all(lago: Lago, folder: Path, text: str = json.dumps(PLAYBOOK)) -> None:
    """Export, answer, import, until nothing is open."""
    for _ in range(10):
        lago("plan", "cart", "--export", str(folder / "requests.jsonl"))
        lines: list[str] = []
        for line in (folder / "requests.jsonl").read_text().splitlines():
            request = json.loads(line)
            assert request["method"] == "POST"
            assert request["url"] == "/v1/chat/completions"
            body: dict[str, Any] = {"choices": [{"message": {"content": text}}], "model": "test-model"}
            lines.append(json.dumps({"custom_id": request["custom_id"], "response": {"body": body}}))
        if not lines:
            return
        (folder / "responses.jsonl").write_text("\n".join(lines))
        code, _, err = lago("plan", "cart", "--import", str(folder / "responses.jsonl"), "--source", "a chat window")
        assert code == 0, err
    raise AssertionError("requests stay open")


def test_replay_without_answers_says_what_to_do(lago: Lago) -> None:
    code, _, err = lago("plan", "cart")
    assert code == 2
    assert "no answer is recorded for request 'plan/task-0'" in err
    assert "lago plan cart --live" in err


def test_a_study_of_ones_own_environment_is_planned_and_tabled(lago: Lago, tmp_path: Path) -> None:
    answer_all(lago, tmp_path)
    code, out, err = lago("plan", "cart", "--json")
    assert code == 0, err
    table = json.loads(out)
    assert set(table) == {"rows", "summary"}
    assert [row["task"] for row in table["rows"]] == ["task-0", "task-1", "task-2"]
    first, second, _ = table["rows"]
    assert {k: first[k] for k in ("model", "n_steps", "n_findings", "repaired", "n_reused")} == {
        "model": "test-model",
        "n_steps": 2,
        "n_findings": 0,
        "repaired": False,
        "n_reused": 0,
    }
    assert first["tokens"] > 100
    assert first["tokens_estimated"]
    assert second["n_reused"] == 2
    assert table["summary"]["models"]["test-model"]["answered"] == 3
    code, out, _ = lago("plan", "cart")
    assert code == 0
    assert "3 playbooks" in out
    kept = json.loads((tmp_path / "checkpoints/cart/playbooks/lint.json").read_text())
    assert kept["task-0"]["authors"] == ["test-model (1)", "test-model (1)"]


def test_the_prompt_of_ones_own_environment_can_be_read(lago: Lago) -> None:
    code, out, _ = lago("plan", "cart", "--prompt", "task-0")
    assert code == 0
    assert "A cart on a rail carries a pole." in out
    assert "pole_angle | m | -2.5..2.5 | pole angle" in out
    assert "keep the pole upright, way 0" in out
    code, _, err = lago("plan", "cart", "--prompt", "task-1")
    assert code == 2
    assert "once the earlier ones have been answered" in err


def test_ranges_at_the_start_are_measured_in_the_environment_itself(lago: Lago, tmp_path: Path) -> None:
    code, _, err = lago("plan", "cart", "--scenes")
    assert code == 0, err
    code, out, _ = lago("plan", "cart", "--prompt", "task-0")
    assert re.search(r"pole_angle \| m \| -0\.0\d\.\.0\.0\d \| pole angle", out)
    toml = tmp_path / "data" / "studies" / "cart.toml"
    toml.write_text(toml.read_text().replace("CartPole-v1", "NoSuchThing-v1"))
    code, _, err = lago("plan", "cart", "--scenes")
    assert code == 2
    assert "cannot be made" in err
    toml.write_text(toml.read_text().replace("NoSuchThing-v1", "Acrobot-v1"))
    code, _, err = lago("plan", "cart", "--scenes")
    assert code == 2
    assert "found observations of 6 numbers" in err
    assert "expected 4, as environment.observation_size says" in err


def test_a_playbook_is_shown_edited_and_its_authors_are_known(
    lago: Lago, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_all(lago, tmp_path)
    code, out, _ = lago("plan", "show", "task-1", "--study", "cart")
    assert code == 0
    assert "1. push the cart under the pole  [test-model (1)]\n   when pole_angle > 0.02" in out
    monkeypatch.setenv("EDITOR", "sed -i s/0.02/0.03/")
    monkeypatch.delenv("VISUAL", raising=False)
    code, out, _ = lago("plan", "edit", "task-1", "--study", "cart")
    assert code == 0
    assert "version 2: human, edit of" in out
    assert "1. push the cart under the pole  [human (2)]\n   when pole_angle > 0.03" in out
    assert "2. let the cart roll  [test-model (1)]" in out
    before = len(TranscriptFile(space_of(tmp_path).transcripts))
    monkeypatch.setenv("EDITOR", "true")
    code, _, err = lago("plan", "edit", "task-1", "--study", "cart")
    assert code == 0
    assert "nothing was changed" in err
    assert len(TranscriptFile(space_of(tmp_path).transcripts)) == before
    rows = json.loads(lago("plan", "cart", "--json")[1])["rows"]
    assert [(row["model"], row["version"]) for row in rows] == [("test-model", 1), ("human", 2), ("test-model", 1)]


def test_a_bad_edit_is_refused_and_its_text_kept(lago: Lago, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_all(lago, tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(PLAYBOOK).replace("pole_angle", "pole_angel"))
    code, _, err = lago("plan", "edit", "task-1", "--study", "cart", "--file", str(mine))
    assert code == 2
    assert "did you mean 'pole_angle'" in err
    assert (tmp_path / "task-1.playbook.json").read_text() == mine.read_text()
    assert "version 2" not in lago("plan", "show", "task-1", "--study", "cart")[1]
    monkeypatch.setenv("EDITOR", "false")
    code, _, err = lago("plan", "edit", "task-1", "--study", "cart")
    assert code == 2
    assert "the editor 'false' failed" in err


def test_findings_of_logic_open_a_repair_and_are_shown(lago: Lago, tmp_path: Path) -> None:
    impossible = json.dumps(PLAYBOOK).replace("0.02", "99")
    lago("plan", "cart", "--export", str(tmp_path / "requests.jsonl"))
    request = json.loads((tmp_path / "requests.jsonl").read_text())
    body = {"choices": [{"message": {"content": impossible}}]}
    (tmp_path / "r.jsonl").write_text(json.dumps({"custom_id": request["custom_id"], "response": {"body": body}}))
    code, _, err = lago("plan", "cart", "--import", str(tmp_path / "r.jsonl"))
    assert code == 2
    assert "import it with --model NAME" in err
    code, _, err = lago("plan", "cart", "--import", str(tmp_path / "r.jsonl"), "--model", "m")
    assert code == 0
    assert "task-0: a repair is open: step 1: condition pole_angle > 99 can never hold" in err
    code, out, _ = lago("plan", "lint", "task-0", "--study", "cart")
    assert code == 0
    assert "impossible: step 1" in out
    answer_all(lago, tmp_path)
    assert "version 2: test-model" in lago("plan", "show", "task-0", "--study", "cart")[1]
    rows = json.loads(lago("plan", "cart", "--json")[1])["rows"]
    assert [row["repaired"] for row in rows] == [True, False, False]


def test_sentences_find_their_task_and_are_scored(lago: Lago, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lago_skills.stages.planning.wording_search.N_UPDATES", 20)
    answer_all(lago, tmp_path)
    transcripts = TranscriptFile(space_of(tmp_path).transcripts)
    texts = {
        "task-0": ["push the cart to the left", "leftwards please", "go left"],
        "task-1": ["push the cart to the right", "rightwards please", "go right"],
        "task-2": ["stop the cart", "do not move", "stand still"],
        "none": ["make tea", "what time is it", "sing a song"],
    }
    said = {"wordings": [{"task": task, "texts": found} for task, found in texts.items()]}
    transcripts.append(answered(Request("wordings/all", "words"), json.dumps(said), "m", "test"))
    code, out, err = lago("plan", "find", "please go left", "--study", "cart")
    assert code == 0, err
    assert "runner-up" in out
    assert "wordings" in err
    code, out, _ = lago("plan", "find", "please go left", "--study", "cart", "--json")
    row = json.loads(out)["rows"][0]
    assert row["nearest"] in texts
    assert 0.0 <= row["runner_up_score"] <= row["score"] <= 1.0
    (tmp_path / "s.json").write_text(json.dumps({"task-0": ["to the left"], "none": ["bake a cake"]}))
    code, out, _ = lago("plan", "find", "--file", str(tmp_path / "s.json"), "--study", "cart")
    assert code == 0
    assert "sentences 1" in out
    code, out, _ = lago("plan", "find", "--file", str(tmp_path / "s.json"), "--study", "cart", "--json")
    assert json.loads(out)["summary"]["unrelated"] == 1
    code, _, err = lago("plan", "find", "--file", str(tmp_path / "none.json"), "--study", "cart")
    assert code == 2
    assert "cannot be read" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan", "show", "nothing", "--study", "cart"), "found no recorded playbook for task 'nothing'"),
        (("plan", "show", "--study", "cart"), "without a task"),
        (("plan", "cart", "task-0"), "expected a study, or one of show, edit, lint, find, adopt"),
        (("plan", "find", "balance it", "--study", "cart"), "no recorded wordings for task-0"),
        (("plan", "nowhere"), "no study 'nowhere'"),
    ],
)
def test_wrong_commands_are_one_sentence(lago: Lago, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = lago(*arguments)
    assert code == 2
    assert message in err
