"""What `pip install lago-skills` without extras gives: the run-time packages alone, in an interpreter that sees no other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lago_skills.extras import brought_by
from lago_skills.guide.bundle_file import packed
from tests.conftest import ROOT, Lago

CORE = (
    "numpy",
    "numpy.libs",
    "faiss",
    "faiss_cpu.libs",
    "filelock",
    "safetensors",
    "packaging",
    "typing_extensions.py",
)
"""The run-time dependencies and what these bring."""
MOST_MB = 160


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run-time packages and the package itself as its wheel has it."""
    folder = tmp_path_factory.mktemp("core")
    source = Path(next(path for path in sys.path if path.endswith("site-packages")))
    for name in CORE:
        if (source / name).exists():
            (folder / name).symlink_to(source / name)
    work = folder / ".build"
    shutil.copytree(ROOT / "lago_skills", work / "lago_skills", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "flows", work / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        ROOT / "data", work / "data", ignore=shutil.ignore_patterns("__pycache__", "episodes", "libraries", "results")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE", "prefect.yaml"):
        shutil.copy(ROOT / name, work / name)
    build = [sys.executable, "-c", "import setuptools.build_meta as b; print(b.build_wheel('..'))"]
    subprocess.run(build, cwd=work, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    shutil.rmtree(work)
    return folder


def python(installed: Path, code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Python with nothing but the standard library and that folder."""
    start = f"import sys; sys.path.append({str(installed)!r}); "
    command = [sys.executable, "-I", "-S", "-c", start + code]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def bare_lago(installed: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = f"sys.argv = ['lago', *{list(arguments)!r}]; from lago_skills.flows.main import main; main()"
    return python(installed, code, cwd)


def test_the_wheel_brings_one_name(installed: Path) -> None:
    (record,) = installed.glob("lago_skills-*.dist-info/top_level.txt")
    assert record.read_text(encoding="utf-8").split() == ["lago_skills"]


def test_the_run_time_part_is_small(installed: Path) -> None:
    """Bytes on disk, shared libraries among them."""
    total = sum(
        path.stat().st_size
        for name in installed.iterdir()
        for path in name.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    )
    assert total < MOST_MB * 1e6


def test_a_bundle_is_loaded_and_asked(installed: Path, bundle: Path, tmp_path: Path) -> None:
    file = packed(bundle, tmp_path / "robot.zip")
    code = (
        "import time; began = time.perf_counter(); import lago_skills, numpy as np, json, pathlib; "
        f"guide = lago_skills.load({str(file)!r}); task = guide.task('push'); "
        "prior = task.prior(np.zeros((2, 39))); seconds = time.perf_counter() - began; "
        "kilobytes = int(pathlib.Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]); "
        "print(json.dumps([prior.mean().shape, task.explain(np.zeros((1, 39)))[0].step, seconds, kilobytes / 1024]))"
    )
    done = python(installed, code, tmp_path)
    assert done.returncode == 0, done.stderr
    shape, step, seconds, megabytes = json.loads(done.stdout)
    assert shape == [2, 4]
    assert step >= 1
    assert seconds < 2.0  # .2 on an idle machine
    assert megabytes < 80.0


def test_commands_work_or_say_which_extra_they_need(installed: Path, bundle: Path, tmp_path: Path) -> None:
    for command in (("bundle", "inspect"), ("bundle", "verify"), ("skills", "list")):
        done = bare_lago(installed, *command, str(bundle), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    done = bare_lago(installed, "serve", str(bundle), cwd=tmp_path)
    assert done.returncode == 2
    assert "expected it for lago serve; install it with: pip install 'lago-skills[serve]'" in done.stderr
    for command in (("run", "demo"), ("demo",), ("bench", "guide", "--bundle", str(bundle))):
        done = bare_lago(installed, *command, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "install it with: pip install 'lago-skills[" in done.stderr
    done = python(installed, "from lago_skills import guided", tmp_path)
    assert "StudyError: found no package" in done.stderr


def test_every_package_of_an_extra_is_known_to_the_sentence() -> None:
    """By the metadata of the installation, so that nothing is listed twice."""
    known = brought_by()
    assert known["fastapi"] == "serve"
    assert known["prefect"] == "flows"
    assert known["torch"] == "train"
    assert known["PIL"] == "train"
    assert known["onnxruntime"] == "onnx"
    assert known["gymnasium"] == "gym"
    assert "numpy" not in known
    assert "pytest" not in known


def test_a_new_project_has_the_studies_that_come_with_the_package(installed: Path, lago: Lago, tmp_path: Path) -> None:
    """They are in the wheel, and `lago init` puts them where commands look, overwriting nothing."""
    (shipped_files,) = installed.glob("lago_skills-*.data/data/share/lago-skills")
    names = {path.relative_to(shipped_files).as_posix() for path in shipped_files.rglob("*") if path.is_file()}
    assert {
        "studies/demo.toml",
        "transcripts/metaworld.jsonl",
        "scenes/metaworld.json",
        "studies/examples/cartpole.toml",
    } <= names
    code, _, err = lago("run", "demo")
    assert code == 2
    assert "put those of the package here with: lago init" in err
    (tmp_path / "data/studies").mkdir(parents=True)
    (tmp_path / "data/studies/kitchen.toml").write_text("mine", encoding="utf-8")
    code, _, err = lago("init")
    assert code == 0
    assert "next: lago demo" in err
    made = {path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    assert names - {"prefect.yaml"} <= made
    assert "prefect.yaml" in names
    assert (tmp_path / "prefect.yaml").read_text(encoding="utf-8") == (ROOT / "prefect.yaml").read_text(
        encoding="utf-8"
    )
    assert (tmp_path / "data/studies/kitchen.toml").read_text(encoding="utf-8") == "mine"
    assert "already" in lago("init")[2]
    code, out, err = lago("plan", "demo", "--json")
    assert code == 0, err
    assert json.loads(out)["summary"]["playbooks"] == 19
