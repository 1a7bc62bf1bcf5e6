"""Growth as a Prefect flow on a real server: versions as its rows, and a held version that waits for a person, who decides over the API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from lago_skills.flows.local_server.server import PrefectServer
from lago_skills.grow.versions import Versions
from tests.conftest import ROOT, Lago
from tests.test_grow import answered, built
from tests.test_small_worlds import NUMBERS

pytestmark = pytest.mark.slow


def resumed(api: str, run_input: dict[str, str]) -> None:
    """Resume the paused run of the flow, once there is one."""
    for _ in range(240):
        wanted = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
        paused = httpx.post(f"{api}/flow_runs/filter", json=wanted).json()
        if paused:
            httpx.post(f"{api}/flow_runs/{paused[0]['id']}/resume", json={"run_input": run_input})
            return
        time.sleep(0.5)


def test_a_held_version_waits_for_a_person(lago: Lago, tmp_path: Path) -> None:
    space = built(lago, tmp_path, "numbers", NUMBERS)
    answered(lago, tmp_path, "fetch", NUMBERS)
    versions = Versions(space.artifact("grown"))
    with PrefectServer(tmp_path) as server:
        api = server.wait()
        person = threading.Thread(target=resumed, args=(api, {"verdict": "use", "by": "somebody"}))
        person.start()
        # In a process of its own: Prefect's threads outlive their flow.
        done = subprocess.run(
            [sys.executable, "-m", "tests.grow_flow_run", str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, "PREFECT_API_URL": api, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        person.join()
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout.splitlines()[-1])
        flows = httpx.post(f"{api}/flow_runs/filter", json={}).json()
        tasks = httpx.post(f"{api}/task_runs/filter", json={}).json()
        tables = httpx.post(f"{api}/artifacts/filter", json={}).json()
    assert [(row["number"], row["task"], row["verdict"]) for row in rows] == [(1, "fetch", "used by somebody")]
    assert versions.current is not None
    assert versions.current.number == 1
    assert [run["name"] for run in flows] == ["plane: grow"]
    assert [run["name"] for run in tasks] == ["grow: fetch"]
    assert "plane-grow" in {each["key"] for each in tables}
