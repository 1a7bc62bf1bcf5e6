"""The whole pipeline on a small study, as a user runs it: flows, server, resume, bad input, and whether skills carry over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lago_skills.guide.bundle import load_bundle
from lago_skills.guide.guides import LibraryGuide
from lago_skills.stages.workspace import exclusive, open_workspace
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.metaworld.world import MetaWorld
from lago_skills.worlds.rollouts import rollouts
from lago_skills.worlds.seeds import EVAL_SEED
from tests.conftest import ROOT, random_decoder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

STUDY = """
name = "small"
[tasks]
seen = ["ten"]
unseen = ["button-press-wall", "push-wall"]
[collect]
episodes_per_task = 3
[decoder]
n_updates = 1200
[zero_shot]
episodes = 6
[train]
tasks = ["push-wall"]
seeds = [0]
final_episodes = 3
[train.sac]
n_steps = 600
random_steps = 300
eval_every = 300
eval_episodes = 2
hidden_size = 32
batch_size = 32
"""


def lago(root: Path, *arguments: str, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*wrapper, sys.executable, "-m", "lago_skills.flows.main", *arguments]
    return subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, check=False)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def processes_of(root: Path) -> list[str]:
    """Command lines of living processes that work in or for this folder."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if str(root) in line or str(root) == str((entry / "cwd").resolve()):
                    found.append(line)
            except OSError:
                continue
    return found


def new_root(path: Path) -> Path:
    path.mkdir()
    for name in ("transcripts", "scenes"):
        shutil.copytree(ROOT / "data" / name, path / "data" / name)
    (path / "data/studies").mkdir()
    (path / "data/studies/small.toml").write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder in which the small study has been run once."""
    root = new_root(tmp_path_factory.mktemp("project") / "p")
    result = lago(root, "run", "small")
    assert result.returncode == 0, result.stderr
    assert "push-wall" in result.stdout
    return root


def artifacts(root: Path) -> list[Path]:
    return [p.parent for p in root.rglob("manifest.json") if ".tmp" not in str(p.parent)]


def kill_when_started(root: Path, folder: Path) -> bool:
    """Start the study and send SIGKILL as soon as the artifact in that folder, or one below it, is being made.

    Whether the signal came in time: a stage of a few milliseconds can be over before it is seen.
    """
    command = [sys.executable, "-m", "lago_skills.flows.main", "run", "small"]
    unmeasured = {name: value for name, value in environment().items() if not name.startswith("COVERAGE")}
    with subprocess.Popen(
        command, cwd=root, env=unmeasured, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline and child.poll() is None:
            started = list(folder.parent.glob(f".{folder.name}.*.tmp")) if folder.parent.exists() else []
            started += list(folder.glob(".*.tmp")) if folder.exists() else []
            if started:
                break
            time.sleep(0.002)
        else:
            if child.poll() is not None:  # the stage was over before the signal came: nothing to kill
                return False
        child.kill()
    return True


@pytest.mark.long
def test_a_run_killed_in_every_stage_completes_and_redoes_nothing(tmp_path: Path) -> None:
    root = new_root(tmp_path / "p")
    caught: dict[str, bool] = {}
    made: dict[Path, int] = {}
    for stage in ("episodes/small/push", "segments", "decoder", "zero-shot/push-wall", "runs", "report"):
        folder = root / ("data" if stage.startswith("episodes") else "checkpoints/small") / stage
        caught[stage] = kill_when_started(root, folder)
        made |= {path: (path / "manifest.json").stat().st_mtime_ns for path in artifacts(root) if path not in made}
    result = lago(root, "run", "small")
    assert result.returncode == 0, result.stderr
    assert "push-wall" in result.stdout
    for path, when in made.items():
        assert (path / "manifest.json").stat().st_mtime_ns == when, f"{path} was made twice"
    assert sum(caught.values()) >= 5, caught
    assert all(caught[stage] for stage in ("episodes/small/push", "segments", "decoder", "runs", "report"))
    assert_complete(root)


def assert_complete(root: Path) -> None:
    """Every artifact of the small study is there, and nothing is half done."""
    assert not list(root.rglob("*.tmp"))
    assert len(artifacts(root)) == 10 + 4 + 2 + 2 + 1


def test_a_run_makes_everything_and_leaves_nothing_running(finished: Path) -> None:
    assert_complete(finished)
    deadline = time.monotonic() + 20
    while processes_of(finished) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(finished) == []
    assert not (finished / ".prefect/server.json").exists()


def test_a_second_run_does_nothing_and_starts_no_server(finished: Path) -> None:
    result = lago(finished, "run", "small")
    assert result.returncode == 0
    assert "all stages are already done" in result.stderr
    assert "Prefect" not in result.stderr


def test_the_report_has_the_named_rows_and_a_page(finished: Path) -> None:
    result = lago(finished, "report", "small", "--json")
    table = json.loads(result.stdout)
    assert table["summary"].keys() >= {"zero_shot_mean", "guided_success", "plain_success"}
    for row in table["rows"]:
        assert row.keys() >= {"task", "method", "steps", "seed", "success", "episodes", "low", "high"}
        assert row["low"] <= row["success"] <= row["high"]
    assert {row["method"] for row in table["rows"]} == {"library", "guided-sac", "sac"}
    zero_shot = [row["success"] for row in table["rows"] if row["method"] == "library"]
    assert table["summary"]["zero_shot_mean"] == pytest.approx(np.mean(zero_shot), abs=1e-3)
    page = (finished / "checkpoints/small/report/report.html").read_text()
    assert page.count("data:image/gif;base64,") == 1
    assert page.count("data:image/png;base64,") == 2 + 4
    assert 'src="http' not in page
    assert "push-wall" in page


def test_skills_carry_over_to_tasks_without_demonstrations_and_random_ones_do_not(finished: Path) -> None:
    guide = load_bundle(finished / "checkpoints/small/bundle")
    latents = {name: guide.step_latents[name] for name in guide.playbooks}
    books = {name: book.playbook for name, book in guide.playbooks.items()}
    sizes = {"inputs": guide.decoder.input_size, "latent": guide.decoder.latent_size}
    untrained = LibraryGuide(guide.grounding, random_decoder(**sizes), guide.library, books, latents, guide.config)
    other = {name: np.roll(z, 1, axis=0) for name, z in latents.items()}  # each step asks for another step's skill
    shuffled = LibraryGuide(guide.grounding, guide.decoder, guide.library, books, other, guide.config)
    for name, least in (("push-wall", 0.7), ("button-press-wall", 0.7)):
        shares: list[float] = []
        for each in (guide, untrained, shuffled):
            results = rollouts(
                MetaWorld(),
                find_task(name),
                lambda obs, each=each, name=name: each.prior(obs, name).greedy(),
                [EVAL_SEED + i for i in range(10)],
                lambda n: None,
            )
            shares.append(float(np.mean([r.success for r in results])))
        assert shares[0] >= least, f"{name}: the library alone reaches {shares[0]}"
        assert shares[1] <= 0.2, f"{name}: an untrained decoder reaches {shares[1]}"
        if name == "push-wall":  # grasping needs the right skill at the right time; a button can be hit by any push
            assert shares[2] <= 0.3, f"{name}: shuffled skills reach {shares[2]}"


def test_a_damaged_artifact_is_one_sentence(finished: Path) -> None:
    path = finished / "checkpoints/small/decoder/decoder.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    try:
        result = lago(finished, "report", "small", "--json")
        assert result.returncode == 2
        assert result.stdout == ""
        assert "decoder.safetensors" in result.stderr
        assert "delete the folder" in result.stderr
        assert "Traceback" not in result.stderr
    finally:
        path.write_bytes(good)
    assert lago(finished, "run", "small").returncode == 0


@pytest.mark.long
def test_a_change_of_the_study_redoes_only_what_depends_on_it(finished: Path) -> None:
    study = finished / "data/studies/small.toml"
    made = (finished / "checkpoints/small/decoder/manifest.json").stat().st_mtime_ns
    study.write_text(STUDY.replace("final_episodes = 3", "final_episodes = 2"))
    result = lago(finished, "run", "small")
    study.write_text(STUDY)
    assert result.returncode == 0, result.stderr
    assert "train     done" in result.stderr
    assert (finished / "checkpoints/small/decoder/manifest.json").stat().st_mtime_ns == made


def test_a_stage_refuses_inputs_of_another_form_of_the_study(finished: Path) -> None:
    study = finished / "data/studies/small.toml"
    study.write_text(STUDY.replace("n_updates = 1200", "n_updates = 1100"))
    for command in (["evaluate", "small"], ["report", "small", "--json"]):
        result = lago(finished, *command)
        assert result.returncode == 2
        assert result.stdout == ""
        assert "'pretrain' is not done for the study as it stands" in result.stderr
    study.write_text(STUDY)
    assert lago(finished, "evaluate", "small").returncode == 0


@pytest.mark.long
def test_ctrl_c_is_one_sentence_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    root = new_root(tmp_path / "p")
    command = [sys.executable, "-m", "lago_skills.flows.main", "collect", "small"]
    with subprocess.Popen(
        command,
        cwd=root,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        deadline = time.monotonic() + 120
        while not list(root.glob("data/episodes/small/.*.tmp")) and time.monotonic() < deadline:
            time.sleep(0.005)
        os.killpg(child.pid, signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 2, errors
    assert "interrupted" in errors
    assert "lago collect small" in errors
    assert "Traceback" not in errors
    result = lago(root, "collect", "small")
    assert result.returncode == 0, result.stderr
    assert len(artifacts(root)) == 10
    assert not list(root.rglob("*.tmp"))


@pytest.mark.long
def test_without_any_network_stages_run_all_the_same(finished: Path, tmp_path: Path) -> None:
    """A network namespace without interfaces: not even loopback, so Prefect's server cannot be had."""
    wrapper = ("unshare", "-rn")
    if subprocess.run([*wrapper, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let us make a network namespace")
    root = new_root(tmp_path / "p")
    shutil.copytree(finished / "data/episodes", root / "data/episodes")
    assert lago(root, "plan", "small", wrapper=wrapper).returncode == 0
    result = lago(root, "segment", "small", wrapper=wrapper)
    assert result.returncode == 0, result.stderr
    assert "without Prefect's server" in result.stderr


def test_a_single_stage_that_is_done_starts_no_server(finished: Path) -> None:
    result = lago(finished, "collect", "small")
    assert result.returncode == 0
    assert "already done: 10 artifacts" in result.stderr
    assert "Prefect" not in result.stderr


def test_a_missing_answer_is_one_sentence(tmp_path: Path) -> None:
    root = new_root(tmp_path / "p")
    (root / "data/transcripts/metaworld.jsonl").unlink()
    result = lago(root, "plan", "small")
    assert result.returncode == 2
    assert "plan/reach" in result.stderr
    assert "lago plan small --export" in result.stderr
    assert lago(root, "plan", "small", "--export", "r.jsonl").returncode == 0
    assert json.loads((root / "r.jsonl").read_text())["custom_id"].startswith("plan/reach#")


def test_two_commands_on_one_study_are_one_too_many(tmp_path: Path) -> None:
    root = new_root(tmp_path / "p")
    with exclusive(open_workspace(root, root / "data/studies/small.toml")):
        result = lago(root, "collect", "small")
    assert result.returncode == 2
    assert "found another command at work on study 'small'" in result.stderr


def test_a_configured_server_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    root = new_root(tmp_path / "p")
    command = [sys.executable, "-m", "lago_skills.flows.main", "collect", "small"]
    env = {**environment(), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    result = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "no Prefect server answers at PREFECT_API_URL" in result.stderr


@pytest.mark.long
def test_lint_tries_a_playbook_with_several_decoders(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "p"
    shutil.copytree(finished, root, ignore=shutil.ignore_patterns(".prefect", "*.lock"))
    before = lago(root, "plan", "show", "push-wall", "--study", "small").stdout
    assert "score" not in before
    result = lago(root, "plan", "lint", "push-wall", "--study", "small", "--seeds", "0,1")
    assert result.returncode == 0, result.stderr
    assert "pretraining a decoder with seed 1" in result.stderr
    (line,) = (root / "data/lint/metaworld.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["rollouts"] == 10
    assert record["demonstrations"] == 0
    assert record["environment_steps"] > 10 * 30
    assert record["solved"] >= 5
    assert "score" in lago(root, "plan", "show", "push-wall", "--study", "small").stdout
    again = lago(root, "plan", "lint", "push-wall", "--study", "small", "--seeds", "0,1")
    assert "looking at" not in again.stderr, "what has been checked is not checked again"
    seen = lago(root, "plan", "lint", "push", "--study", "small", "--seeds", "0")
    assert seen.returncode == 0, seen.stderr
    assert json.loads((root / "data/lint/metaworld.jsonl").read_text().splitlines()[-1])["demonstrations"] == 3
