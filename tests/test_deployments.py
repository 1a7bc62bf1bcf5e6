"""A study as a deployment on a real Prefect server on PostgreSQL: started through the API, approved through the API, its artifacts read back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from tests.test_pipeline import STUDY, environment, new_root

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").exists() else []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def until(what: str, look: Callable[[], Any], timeout_s: float = 240) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if found := look():
                return found
        except OSError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"waited in vain for {what}")


@pytest.fixture
def database(tmp_path: Path) -> Generator[str]:
    """The address of a PostgreSQL of its own."""
    if not BINARIES:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder, port = tmp_path / "postgres", free_port()
    as_user: list[str] = []
    folder.mkdir()
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(folder, "postgres")
        for parent in (tmp_path, *tmp_path.parents):
            if parent.name.startswith("pytest") or parent == tmp_path:
                parent.chmod(0o755)
        as_user = ["runuser", "-u", "postgres", "--"]
    subprocess.run(
        [*as_user, str(BINARIES[-1] / "initdb"), "-D", str(folder / "data"), "-U", "lago", "--auth=trust"],
        check=True,
        capture_output=True,
        cwd="/",
    )
    server = subprocess.Popen(
        [*as_user, str(BINARIES[-1] / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-k", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        until("PostgreSQL", lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close() or True, 60)
        yield f"postgresql+asyncpg://lago@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run(
            [*as_user, str(BINARIES[-1] / "pg_ctl"), "stop", "-m", "immediate", "-D", str(folder / "data")],
            check=True,
            capture_output=True,
            cwd="/",
        )
        server.wait(30)


@pytest.fixture
def api(database: str, tmp_path: Path) -> Generator[str]:
    """The address of a Prefect server's API on that database."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    env = {
        **environment(),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_API_URL": url,
        "DO_NOT_TRACK": "1",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until("Prefect's server", lambda: ask(f"{url}/health"))
        yield url
    finally:
        server.terminate()
        server.wait(30)


def state(api: str, run: str) -> str:
    return ask(f"{api}/flow_runs/{run}")["state"]["type"]


def paused_below(api: str, run: str) -> dict[str, Any] | None:
    """The run of a stage that waits, of this run of the pipeline."""
    assert state(api, run) in ("SCHEDULED", "PENDING", "RUNNING"), ask(f"{api}/flow_runs/{run}")["state"]["message"]
    waiting = ask(f"{api}/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}})
    return waiting[0] if waiting else None


def small_project(root: Path) -> None:
    """The small study of the pipeline's tests, smaller, with playbooks that wait for approval."""
    new_root(root)
    small = STUDY.replace("n_updates = 1200", "n_updates = 60").replace('tasks = ["push-wall"]', "tasks = []")
    small = small.replace('unseen = ["button-press-wall", "push-wall"]', 'unseen = ["push-wall"]').replace(
        "episodes = 6", "episodes = 1"
    )
    (root / "data/studies/small.toml").write_text(small.replace("[tasks]", 'approve = "playbooks"\n[tasks]', 1))


def test_a_deployed_study_waits_for_approval_and_shows_what_it_made(api: str, tmp_path: Path) -> None:
    root = tmp_path / "p"
    small_project(root)
    env = {**environment(), "PREFECT_API_URL": api, "PREFECT_HOME": str(tmp_path / "prefect")}
    with (tmp_path / "serve.log").open("w") as log:
        serving = subprocess.Popen(
            [sys.executable, "-m", "flows.main", "flows", "serve", "small", "--cron", "0 2 * * *"],
            cwd=root,
            env=env,
            stdout=log,
            stderr=log,
        )
    try:
        deployment = until("the deployment", lambda: ask(f"{api}/deployments/filter", {}))[0]
        assert deployment["schedules"][0]["schedule"]["cron"] == "0 2 * * *"
        form = deployment["parameter_openapi_schema"]["properties"]
        assert form["runner"]["enum"] == ["processes", "dask"]
        assert form["study"]["type"] == "string"
        run = ask(f"{api}/deployments/{deployment['id']}/create_flow_run", {})["id"]
        waiting = until("a stage that waits for approval", lambda: paused_below(api, run))
        assert waiting["name"] == "small: segment"
        wrong = {"run_input": {"verdict": "approved", "by": "", "comment": ""}}
        refused = ask(f"{api}/flow_runs/{waiting['id']}/resume", wrong)
        assert refused["status"] == "REJECT"  # nobody is no one
        answer = {"run_input": {"verdict": "approved", "by": "someone", "comment": "looks right"}}
        assert ask(f"{api}/flow_runs/{waiting['id']}/resume", answer)["status"] == "ACCEPT"
        until("the end", lambda: state(api, run) in ("COMPLETED", "FAILED", "CRASHED"), 600)
        assert state(api, run) == "COMPLETED", (tmp_path / "serve.log").read_text()
        kept = [json.loads(line) for line in (root / "data/approvals/small/decisions.jsonl").read_text().splitlines()]
        assert [(each["verdict"], each["by"], each["comment"]) for each in kept] == [
            ("approved", "someone", "looks right")
        ]
        shown = {each["key"]: each for each in ask(f"{api}/artifacts/filter", {})}
        assert shown.keys() >= {"small-collect", "small-build", "small-results", "small-playbooks-approval"}
        assert "push-wall" in shown["small-results"]["data"]
        tasks = ask(f"{api}/task_runs/filter", {"limit": 200})
        assert {each["name"] for each in tasks} >= {"collect: push", "pretrain: decoder", "evaluate: push-wall"}
        limits = {each["name"]: each for each in ask(f"{api}/v2/concurrency_limits/filter", {})}
        assert limits["lago-cores"]["limit"] == os.cpu_count()
        assert limits["lago-cores"]["active_slots"] == 0
        again = ask(f"{api}/deployments/{deployment['id']}/create_flow_run", {})["id"]
        until("the second night", lambda: state(api, again) == "COMPLETED")
        names = {each["name"] for each in ask(f"{api}/flow_runs/filter", {})}
        assert names >= {"small: pipeline", "small: collect", "small: report"}
    finally:
        serving.send_signal(signal.SIGINT)
        serving.wait(60)
