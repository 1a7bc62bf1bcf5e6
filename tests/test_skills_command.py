"""`lago skills` and `lago bench library` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lago_skills.artifacts.folder import file_hash
from lago_skills.artifacts.tensors import save_arrays
from lago_skills.commands.cli import main
from lago_skills.experiments.benches import library_speed
from lago_skills.flows.main import run_stages
from lago_skills.library import NewSkill, SkillLibrary
from lago_skills.text.embed import embed
from tests.conftest import random_decoder

SENTENCES = ("open the door", "close the door", "press the button", "lift the puck")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one library, its decoder and probe states beside it."""
    root = tmp_path_factory.mktemp("project")
    folder = root / "data/libraries/mine"
    decoder = random_decoder()
    vectors = embed(list(SENTENCES))
    folder.mkdir(parents=True)
    decoder.save(folder / "decoder.safetensors")
    save_arrays(
        {"inputs": np.random.default_rng(0).normal(size=(8, 28)).astype(np.float32)}, folder / "probes.safetensors"
    )
    with SkillLibrary.create(folder, decoder.latent_size, file_hash(folder / "decoder.safetensors")) as library:
        latents = decoder.latents(vectors)
        library.add_many(
            [
                NewSkill(sentence, latent, vector, {"tasks": [task]}, {"steps": 4.0})
                for sentence, latent, vector, task in zip(
                    SENTENCES, latents, vectors, ("door-open", "door-close", "push", "push"), strict=True
                )
            ]
        )
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(made, tmp_path / "project"))


class Lago:
    """Runs the command line on a project."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys

    def __call__(self, *arguments: object, code: int = 0) -> str:
        assert main(["--root", str(self.root), "skills", *map(str, arguments)], run_stages) == code
        captured = self.capsys.readouterr()
        return captured.out + captured.err

    def json(self, *arguments: object, code: int = 0) -> dict[str, Any]:
        assert main(["--root", str(self.root), "skills", *map(str, arguments), "--json"], run_stages) == code
        found = json.loads(self.capsys.readouterr().out)
        assert set(found) == {"rows", "summary"}
        return found


@pytest.fixture
def lago(root: Path, capsys: pytest.CaptureFixture[str]) -> Lago:
    return Lago(root, capsys)


def test_records_are_listed_and_shown(lago: Lago) -> None:
    assert [row["name"] for row in lago.json("list", "mine", "--task", "push")["rows"]] == ["s0003", "s0004"]
    text = lago("list", "mine", "--limit", 2)
    assert "s0001  v1  open the door  [door-open]" in text
    assert "more: --after s0002" in text
    assert "press the button" in lago("list", "mine", "--after", "s0002", "--contains", "button")
    row = lago.json("show", "mine", "s0002")["rows"][0]
    assert (row["sentence"], row["embedded"], len(row["latent"])) == ("close the door", True, 8)
    assert "v1  " in lago("show", "mine", 2)


def test_words_latents_and_states_are_searched_for(lago: Lago, tmp_path: Path) -> None:
    assert lago.json("search", "mine", "open the door", "-k", 1)["rows"][0]["score"] == pytest.approx(1.0, abs=1e-3)
    assert "s0003" in lago("search", "mine", "press the button")
    latent = lago.json("show", "mine", 4)["rows"][0]["latent"]
    (tmp_path / "latent.json").write_text(json.dumps(latent))
    np.save(tmp_path / "latent.npy", np.array(latent))
    for name in ("latent.json", "latent.npy"):
        assert lago.json("search", "mine", "--latent", tmp_path / name, "--task", "push")["rows"][0]["id"] == 4
    assert "no enabled skill found" in lago("search", "mine", "--latent", tmp_path / "latent.json", "--task", "juggle")
    assert "expected one: words, --latent or --obs" in lago("search", "mine", code=2)
    assert "found no --task-of" in lago("search", "mine", "--obs", tmp_path / "latent.json", code=2)
    assert "no bundle in" in lago("search", "mine", "--obs", tmp_path / "latent.json", "--task-of", "push", code=2)
    assert "expected a JSON list" in lago("search", "mine", "--latent", tmp_path / "nothing.json", code=2)


def test_skills_are_added_edited_merged_and_taken_back(lago: Lago) -> None:
    added = lago.json("add", "mine", "open the door", "--task", "door-open", "--who", "ann")
    assert added["rows"][0]["name"] == "s0005"
    alike = added["summary"]["duplicates"][0]
    assert (alike["id"], alike["near"]) == (1, True)
    assert alike["words"] == pytest.approx(1.0)
    assert alike["actions"] == pytest.approx(0.0, abs=1e-6)
    text = lago("duplicates", "mine", 5)
    assert "s0005 does the same as s0001" in text
    assert "lago skills merge mine s0005 --into s0001" in text
    assert lago.json("merge", "mine", "s0005", "--into", "s0001")["summary"] == {"merged": [5]}
    assert "merged into s0001" in lago("list", "mine")
    assert "undo the merge first" in lago("edit", "mine", 5, "new words", code=2)
    assert "s0005  v3" in lago("undo", "mine")
    assert "s0004  v2  raise the puck" in lago("edit", "mine", "s0004", "raise the puck")
    assert "(disabled)" in lago("disable", "mine", 4)
    assert "(disabled)" not in lago("enable", "mine", 4)
    assert [row["action"] for row in lago.json("history", "mine", 4)["rows"]] == ["enable", "disable", "edit", "add"]
    assert "ann  add" in lago("history", "mine")
    assert lago.json("history", "mine", "--limit", 1)["rows"][0]["action"] == "enable"
    assert "s0003" in lago("duplicates", "mine", 3)
    assert "s0004  v2" in lago("history", "mine", 4)


def test_damage_is_found_and_repaired(lago: Lago) -> None:
    import sqlite3

    assert "no problem found" in lago("verify", "mine")
    assert "nothing to do" in lago("repair", "mine")
    connection = sqlite3.connect(lago.root / "data/libraries/mine/library.sqlite")
    connection.execute("UPDATE skill SET latent = zeroblob(32) WHERE id = 2")
    connection.execute("UPDATE version SET latent = zeroblob(32) WHERE id = 2")
    connection.commit()
    connection.close()
    assert "lago skills repair" in lago("show", "mine", 2, code=2)
    assert lago.json("verify", "mine", code=1)["summary"]["problems"] == 3  # both rows, and no unit vector
    assert "run: lago skills repair mine" in lago("verify", "mine", code=1)
    report = lago.json("repair", "mine")["summary"]
    assert (report["lost"], report["rebuilt"]) == (0, 2)
    assert "close the door" in lago("show", "mine", 2)


def test_libraries_are_exported_imported_copied_and_compared(lago: Lago, tmp_path: Path) -> None:
    assert "4 records" in lago("export", "mine", tmp_path / "export")
    assert "4 records" in lago("copy", "mine", tmp_path / "copy")
    assert "no difference" in lago("diff", "mine", tmp_path / "copy")
    assert lago.json("import", "mine", tmp_path / "export")["summary"] == {"records": 4}
    lago("disable", "mine", 1)
    text = lago("diff", "mine", tmp_path / "copy")
    assert "s0001  open the door: differs in enabled" in text
    assert "s0008  lift the puck: only in mine" in text
    assert "8 skills" not in lago("compact", "mine")
    assert "4 records added" in lago("import", "mine", tmp_path / "export")
    assert "no decoder.safetensors beside it" in lago("add", tmp_path / "copy", "x", code=2).replace("found ", "")


def test_what_cannot_be_is_one_sentence(lago: Lago) -> None:
    assert "expected one of ['mine']" in lago("list", "yours", code=2)
    assert "expected an id such as s0042" in lago("show", "mine", "first", code=2)
    assert "has no skill s0099" in lago("disable", "mine", 99, code=2)
    random_decoder(seed=5).save(lago.root / "data/libraries/mine/decoder.safetensors")
    assert "a decoder beside it that its latents are not for" in lago("search", "mine", "open", code=2)


def test_the_library_is_benchmarked_beside_faiss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("N_QUERIES", 60), ("N_ADDS", 3), ("ROUNDS", 2), ("BULK", 300)):
        monkeypatch.setattr(library_speed, name, value)
    assert main(["bench", "library", "--sizes", "200,600", "--json"], run_stages) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["size"] for row in found["rows"]] == [200, 600]
    wanted = {
        "size",
        "p50_us",
        "p99_us",
        "peer_p50_us",
        "ratio",
        "recall",
        "add_ms",
        "bulk_adds_per_s",
        "open_s",
        "memory_mb",
    }
    assert wanted <= set(found["rows"][0])
    assert all(row["recall"] == 1.0 for row in found["rows"])
    assert main(["bench", "library", "--sizes", "200"], run_stages) == 0
    assert "ratio" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["bench", "library", "--sizes", "5"], run_stages)
