"""Machines that share nothing but a store make what one makes alone: real Dask workers, and projects of one's own."""


# fsspec has no types.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lago_skills.artifacts.executor import Runner
from lago_skills.artifacts.folder import MANIFEST, read_manifest
from lago_skills.artifacts.store import Store
from lago_skills.commands.cli import main as lago_here
from lago_skills.commands.stages import STAGES
from lago_skills.experiments.measuring import Work, measure
from lago_skills.experiments.tables.zero_shot import ZeroShot
from lago_skills.flows.main import run_stages
from lago_skills.stages.elsewhere import COPIES
from lago_skills.stages.workspace import open_workspace
from tests.conftest import ROOT
from tests.tables import silent, study_in, zero_shot_cell
from tests.test_runners import scheduler as _scheduler
from tests.test_small_worlds import NUMBERS, answer, begin

scheduler = _scheduler


def key_of(folder: Path) -> str:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest.key


def lago(root: Path, *arguments: str) -> int:
    return lago_here(["--root", str(root), *arguments], run_stages)


def run(root: Path, *arguments: str) -> None:
    """`lago` as a command of its own, so that its modules are those of this project folder."""
    command = [sys.executable, "-m", "lago_skills.flows.main", "--root", str(root), *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=root.parent, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def project(root: Path) -> Path:
    """A study of one's own world, whose module lies in the project folder."""
    path = begin(
        root, "plane", "PlaneWorld", "numbers", seen="visit fetch", unseen="fetch-south", algorithms="guided-ppo"
    )
    text = path.read_text(encoding="utf-8")
    assert "tests.small_worlds:" in text
    path.write_text(text.replace("tests.small_worlds:", "own_worlds:"), encoding="utf-8")
    shutil.copy(ROOT / "tests/small_worlds.py", root / "own_worlds.py")
    assert lago(root, "plan", "plane", "--scenes") == 0
    answer(lambda *arguments: (lago(root, *arguments), "", ""), root, "plane", NUMBERS)
    return path


def digests(study: Path) -> dict[str, str]:
    """Of every artifact of a study, by its place."""
    root = study.parent.parent.parent
    found = {path: read_manifest(path.parent) for path in root.glob("*/**/" + MANIFEST)}
    return {str(path.parent.relative_to(root)): each.digest for path, each in found.items() if each is not None}


GUARD = """
import os, sys
def guard(event, args):
    if event in ("open", "os.listdir", "os.mkdir") and isinstance(args[0], str) and args[0].startswith({forbidden!r}):
        with os.fdopen(os.open({seen!r}, os.O_APPEND | os.O_CREAT | os.O_WRONLY), "a") as stream:
            stream.write(args[0] + "\\n")
        raise PermissionError(args[0])
sys.addaudithook(guard)
"""


@pytest.fixture
def strangers(scheduler: str, tmp_path: Path) -> Generator[tuple[str, Path]]:
    """The scheduler of two Dask workers that may not touch the folder `home`, and a file of what they tried to touch there."""
    seen = tmp_path / "touched.txt"
    guard = tmp_path / "guard.py"
    guard.write_text(GUARD.format(forbidden=str(tmp_path / "home"), seen=str(seen)))
    workers: list[subprocess.Popen[bytes]] = []
    for name in ("a", "b"):
        temporary = tmp_path / name
        temporary.mkdir()
        code = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--nthreads", "1", "--no-dashboard"]
        workers.append(
            subprocess.Popen(
                [*code, "--no-nanny", "--name", name, "--preload", str(guard), "--local-directory", str(temporary)],
                cwd=temporary,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
                stderr=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        )
    from distributed import Client

    with Client(scheduler, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    yield scheduler, seen
    for process in workers:
        process.kill()
        process.wait()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_machines_that_share_nothing_but_a_store_make_what_one_makes_alone(
    strangers: tuple[str, Path], tmp_path: Path
) -> None:
    address, touched = strangers
    alone, home, later = project(tmp_path / "alone"), project(tmp_path / "home"), project(tmp_path / "later")
    run(tmp_path / "alone", "run", "plane")
    url = f"file://{tmp_path}/store"
    run(tmp_path / "home", "run", "plane", "--runner", "dask", "--dask", address, "--store", url)
    assert not touched.exists(), touched.read_text()
    expected = digests(alone)
    assert {Path(place).parts[2] for place in expected} >= {"decoder", "bundle", "zero-shot", "runs"}
    assert digests(home) == expected
    for name in ("a", "b"):
        assert list((tmp_path / name / COPIES).glob("*/own_worlds.py")), "each had work to do"
    began = datetime.now(UTC)
    run(tmp_path / "later", "run", "plane", "--store", url)
    assert digests(later) == expected
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "later").glob("*/**/" + MANIFEST)]
    assert all(datetime.fromisoformat(each["created_at"]) < began for each in manifests), "all of it was fetched"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_workers_take_no_module_of_an_earlier_project_for_this_ones(
    strangers: tuple[str, Path], tmp_path: Path
) -> None:
    address, _ = strangers
    for name in ("first", "home", "alone"):
        project(tmp_path / name)
    for name in ("home", "alone"):
        module = tmp_path / name / "own_worlds.py"
        module.write_text(module.read_text().replace("rng.uniform(-0.3, 0.3, 2)", "rng.uniform(-0.5, 0.5, 2)"))
    cluster = ["--runner", "dask", "--dask", address, "--store", f"file://{tmp_path}/store"]
    run(tmp_path / "first", "collect", "plane", *cluster)
    run(tmp_path / "home", "collect", "plane", *cluster[:-1], f"file://{tmp_path}/other")
    run(tmp_path / "alone", "collect", "plane")
    assert digests(tmp_path / "home/data/studies/plane.toml") == digests(tmp_path / "alone/data/studies/plane.toml")
    assert digests(tmp_path / "home/data/studies/plane.toml") != digests(tmp_path / "first/data/studies/plane.toml")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_is_finished_goes_into_a_store_that_is_named_later(tmp_path: Path) -> None:
    study = project(tmp_path / "home")
    assert lago(tmp_path / "home", "collect", "plane") == 0
    url = f"file://{tmp_path}/store"
    assert lago(tmp_path / "home", "collect", "plane", "--store", url) == 0
    second = project(tmp_path / "second")
    space = open_workspace(tmp_path / "second", second)
    for job in STAGES["collect"](space):
        place = tmp_path / "second" / job.folder.relative_to(space.root)
        key = key_of(tmp_path / "home" / job.folder.relative_to(space.root))
        assert Store(url).pull(tmp_path / "second", place, key)
        assert job.done
    assert digests(second) == digests(study)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_cells_of_a_table_are_measured_where_only_the_store_is_shared(
    strangers: tuple[str, Path], tmp_path: Path
) -> None:
    address, touched = strangers
    space = study_in(tmp_path / "home")
    cells = [zero_shot_cell("random", task, 1, seed) for task in ("reach", "push") for seed in (0, 1)]
    works, url = [Work(cell, 2) for cell in cells], f"file://{tmp_path}/store"
    table = ZeroShot(space, silent)
    processes = measure(table, ZeroShot, works, Runner("dask", address=address, store=url))
    assert not touched.exists(), touched.read_text()
    assert os.getpid() not in processes
    alone = ZeroShot(study_in(tmp_path / "alone"), silent)
    measure(alone, ZeroShot, works)
    there, here = table.recorded(table.file.rows()), alone.recorded(alone.file.rows())
    assert set(there) == set(cells)
    timed = {"wall_s", "commit"}
    for cell in cells:
        a, b = ([{k: v for k, v in row.items() if k not in timed} for row in each[cell]] for each in (there, here))
        assert a == b
