"""Growth as a Prefect flow on a real server: versions as its rows, and a held version that waits for a person, who decides over the API."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from lago_skills.core import Task
from lago_skills.flows.local_server.server import PrefectServer
from lago_skills.grow.versions import Versions
from tests.conftest import Lago
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


def test_a_held_version_waits_for_a_person(lago: Lago, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = built(lago, tmp_path, "numbers", NUMBERS)
    answered(lago, tmp_path, "fetch", NUMBERS)
    versions = Versions(space.artifact("grown"))
    from lago_skills.grow import growth as module

    real = module.judged

    def held(
        world: Any, before: Any, guides: Any, by_skill: Any, task: Task, settings: Any, say: Any
    ) -> dict[str, Any]:
        return real(world, before, guides, by_skill, task, settings, say) | {"verdict": "held", "reason": "visit falls"}

    monkeypatch.setattr(module, "judged", held)
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from lago_skills.flows.growing import grow

    with PrefectServer(tmp_path) as server:
        api = server.wait()
        person = threading.Thread(target=resumed, args=(api, {"verdict": "use", "by": "somebody"}))
        person.start()
        with temporary_settings({PREFECT_API_URL: api}):
            rows = grow("plane", ["fetch"], root=tmp_path, wait_s=120)
        person.join()
        flows = httpx.post(f"{api}/flow_runs/filter", json={}).json()
        tasks = httpx.post(f"{api}/task_runs/filter", json={}).json()
        tables = httpx.post(f"{api}/artifacts/filter", json={}).json()
    assert [(row["number"], row["task"], row["verdict"]) for row in rows] == [(1, "fetch", "used by somebody")]
    assert versions.current is not None
    assert versions.current.number == 1
    assert [run["name"] for run in flows] == ["plane: grow"]
    assert [run["name"] for run in tasks] == ["grow: fetch"]
    assert "plane-grow" in {each["key"] for each in tables}
