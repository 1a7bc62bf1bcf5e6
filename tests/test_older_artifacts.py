"""What older versions of the package left on disk is read, or refused in one sentence that says which command makes it anew.

Libraries of format 1 are in test_library_faults.py, run checkpoints in test_sac_checkpoints.py, results in test_result_files.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from lago_skills.artifacts.executor import Runner
from lago_skills.artifacts.folder import MANIFEST, read_manifest, writing
from lago_skills.artifacts.tensors import load_arrays, save_arrays
from lago_skills.commands.cli import main
from lago_skills.core import Playbook
from lago_skills.data.episodes import load_episodes
from lago_skills.errors import ArtifactCorrupt
from lago_skills.guide.bundle import DECODER_FILE, GROUNDING_FILE, LIBRARY_DIR, PLAYBOOKS_FILE, load_bundle
from lago_skills.llm.transcripts import Request, TranscriptFile, answered
from lago_skills.stages.workspace import Workspace
from tests.conftest import ROOT

OBSERVATIONS = np.random.default_rng(3).normal(0.0, 0.3, (5, 39))


def signed(folder: Path) -> Path:
    """The same files with sound hashes, as the version that wrote them left them."""
    whole = folder.with_name(f"{folder.name}-signed")
    with writing(whole, "build", {}) as writer:
        shutil.copytree(folder, writer.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
    return whole


def test_manifests_of_before_summaries_and_times_are_read(tmp_path: Path) -> None:
    with writing(tmp_path / "a", "x", {"stage": "x"}) as writer:
        (writer.path / "a.txt").write_text("hello")
    path = tmp_path / "a" / MANIFEST
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({name: raw[name] for name in raw if name not in ("seconds", "summary")}))
    manifest = read_manifest(tmp_path / "a")
    assert manifest is not None
    assert manifest.summary == {}
    path.write_text(json.dumps({name: raw[name] for name in raw if name != "digest"}))
    with pytest.raises(ArtifactCorrupt, match=r"cannot be read .*'digest'.* run the stage again"):
        read_manifest(tmp_path / "a")


def test_bundles_of_before_they_said_their_environment_load_as_they_did(bundle: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(bundle, tmp_path / "old"))
    (old / GROUNDING_FILE).unlink()
    expected = load_bundle(bundle).prior(OBSERVATIONS, "push").greedy()
    np.testing.assert_array_equal(load_bundle(signed(old)).prior(OBSERVATIONS, "push").greedy(), expected)


def test_bundles_keep_a_library_of_format_1_beside_their_other_files(bundle: Path, tmp_path: Path) -> None:
    old, guide = Path(shutil.copytree(bundle, tmp_path / "old")), load_bundle(bundle)
    shutil.rmtree(old / LIBRARY_DIR)
    skills = guide.library.list()
    records = [
        {
            "id": number,
            "version": 1,
            "sentence": skill.sentence,
            "enabled": skill.enabled,
            "provenance": dict(skill.provenance),
            "support": dict(skill.support),
        }
        for number, skill in enumerate(skills)
    ]
    (old / "skills.json").write_text(json.dumps(records))
    save_arrays({"latents": np.stack([skill.latent for skill in skills])}, old / "latents.safetensors")
    found = load_bundle(signed(old))
    assert [skill.sentence for skill in found.library.list()] == [skill.sentence for skill in skills]
    np.testing.assert_allclose(
        found.prior(OBSERVATIONS, "push").greedy(), guide.prior(OBSERVATIONS, "push").greedy(), atol=1e-5
    )


@pytest.mark.parametrize("kind", ["decoder", "playbooks", "episodes"])
def test_what_is_read_no_more_is_one_sentence_and_exit_code_2(
    kind: str, bundle: Path, tmp_path: Path, playbooks: dict[str, Playbook], capsys: pytest.CaptureFixture[str]
) -> None:
    old = Path(shutil.copytree(bundle, tmp_path / "old"))
    if kind == "decoder":  # of before it was calibrated
        arrays = load_arrays(old / DECODER_FILE)
        kept = {name: array for name, array in arrays.items() if "calibration" not in name}
        save_arrays(kept, old / DECODER_FILE)
    elif kind == "playbooks":  # in a form of another version
        (old / PLAYBOOKS_FILE).write_text(json.dumps({name: {"steps": []} for name in playbooks}))
    np.savez(tmp_path / "episodes.npz", observations=np.zeros((4, 39)), actions=np.zeros((3, 4)))

    def read(space: Workspace, names: Sequence[str], runner: Runner) -> None:
        if kind == "episodes":
            load_episodes(tmp_path / "episodes.npz")
        load_bundle(signed(old))

    assert main(["--root", str(ROOT), "collect", "demo"], read) == 2
    said = capsys.readouterr().err
    assert said.startswith("lago: ")
    assert said.count("\n") == 1
    expected = {"decoder": "lago pretrain STUDY", "playbooks": "lago build STUDY", "episodes": "collect again"}
    assert expected[kind] in said


def test_transcripts_of_before_costs_and_edits_are_read(tmp_path: Path) -> None:
    request = Request("plan/push", "push it")
    raw = asdict(answered(request, "{}", "model", "by hand"))
    del raw["usage"], raw["parent"]
    path = tmp_path / "transcripts.jsonl"
    path.write_text(json.dumps(raw) + "\n")
    found = TranscriptFile(path).get(request)
    assert found is not None
    assert (found.response, found.tokens, found.parent) == ("{}", 0, None)
