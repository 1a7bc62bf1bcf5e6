"""A study as a deployment on a real Prefect server on PostgreSQL: started through the API, approved through the API, its artifacts read back."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
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
def database() -> Generator[str]:
    """The address of a PostgreSQL of its own. Not below pytest's folder, whose next session closes it to other users, such as PostgreSQL's."""
    if not BINARIES:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder, port = Path(tempfile.mkdtemp(prefix="lago-postgres-")), free_port()
    as_user: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(folder, "postgres")
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
        stop = [*as_user, str(BINARIES[-1] / "pg_ctl"), "stop", "-m", "immediate", "-D", str(folder / "data")]
        subprocess.run(stop, check=False, capture_output=True, cwd="/")
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


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
            [sys.executable, "-m", "lago_skills.flows.main", "flows", "serve", "small", "--cron", "0 2 * * *"],
            cwd=root,
            env=env,
            stdout=log,
            stderr=log,
        )
    try:
        deployment = until("the deployment", lambda: ask(f"{api}/deployments/filter", {}))[0]
        assert deployment["schedules"][0]["schedule"]["cron"] == "0 2 * * *"
        check_form(deployment["parameter_openapi_schema"]["properties"])
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
        (kept,) = (json.loads(line) for line in (root / "data/approvals/small/decisions.jsonl").open())
        assert (kept["verdict"], kept["by"], kept["comment"]) == ("approved", "someone", "looks right")
        shown = {each["key"]: each for each in ask(f"{api}/artifacts/filter", {})}
        assert shown.keys() >= {"small-collect", "small-build", "small-results", "small-playbooks-approval"}
        assert "push-wall" in shown["small-results"]["data"]
        assert "tokens" in shown["small-answers"]["data"]
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


def check_form(form: dict[str, Any]) -> None:
    """Parameters have types, and say what is wanted."""
    assert form["runner"]["enum"] == ["processes", "dask"]
    assert form["study"]["type"] == "string"
    assert "project folder" in form["root"]["description"].lower()


@pytest.fixture
def heard() -> Generator[tuple[str, list[dict[str, Any]]]]:
    """An address that hears of failures, and what it heard."""
    notes: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            notes.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/heard", notes
    server.shutdown()
    server.server_close()


def test_a_worker_runs_what_was_deployed_and_the_server_tells_of_failures_and_tries_crashes_once_more(
    api: str, heard: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    root, (webhook, notes) = tmp_path / "p", heard
    small_project(root)
    shutil.copy(ROOT / "prefect.yaml", root)
    text = (root / "prefect.yaml").read_text().replace("study: demo", "study: small")
    (root / "prefect.yaml").write_text(text)
    study = root / "data/studies/small.toml"
    study.write_text(study.read_text().replace('approve = "playbooks"\n', ""))
    env = {**environment(), "PREFECT_API_URL": api, "PREFECT_HOME": str(tmp_path / "prefect")}

    def prefect(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "prefect", *arguments], cwd=root, env=env, check=True, timeout=120)

    prefect("work-pool", "create", "lago", "--type", "process")
    prefect("--no-prompt", "deploy", "--all")
    watch = [sys.executable, "-m", "lago_skills.flows.main", "flows", "watch", "--webhook", webhook]
    for _ in range(2):
        subprocess.run(watch, cwd=root, env=env, check=True, timeout=120)
    assert len(ask(f"{api}/automations/filter", {})) == 2
    by_name = {each["name"]: each["id"] for each in ask(f"{api}/deployments/filter", {})}
    assert by_name.keys() == {"nightly", "on-demand"}
    worker = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "lago"],
        cwd=root,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wrong = ask(f"{api}/deployments/{by_name['on-demand']}/create_flow_run", {"parameters": {"study": "nowhere"}})
        until("a failure", lambda: state(api, wrong["id"]) == "FAILED")
        until("somebody to be told", lambda: notes, 60)
        assert "nowhere: pipeline ended as Failed" in notes[0]["text"]
        assert "expected" in notes[0]["text"], "what to do is in it"
        crash_twice(api, by_name["nightly"])
        assert sum("ended as Crashed" in each["text"] for each in notes) == 2
        last = ask(f"{api}/deployments/{by_name['on-demand']}/create_flow_run", {})["id"]
        until("the end", lambda: state(api, last) in ("COMPLETED", "FAILED", "CRASHED"), 600)
        assert state(api, last) == "COMPLETED"
    finally:
        worker.send_signal(signal.SIGINT)
        worker.wait(60)


def test_a_study_is_served_on_the_projects_own_server(tmp_path: Path) -> None:
    root = tmp_path / "p"
    small_project(root)
    log = tmp_path / "serve.log"
    with log.open("w") as stream:
        serving = subprocess.Popen(
            [sys.executable, "-m", "lago_skills.flows.main", "flows", "serve", "small", "--cron", "0 2 * * *"],
            cwd=root,
            env=environment(),
            stdout=stream,
            stderr=stream,
        )
    try:
        url = until("the server", lambda: re.search(r"Prefect: (http\S+)", log.read_text()))[1]
        (deployment,) = until("the deployment", lambda: ask(f"{url}/api/deployments/filter", {}))
        assert deployment["name"] == "small"
        soon = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        until("its schedule", lambda: ask(f"{url}/api/flow_runs/filter", soon), 120)
        assert "ephemeral" not in log.read_text(), "on a server of Prefect's own nothing is scheduled"
    finally:
        serving.send_signal(signal.SIGINT)
        serving.wait(60)


def crash_twice(api: str, deployment: str) -> None:
    """Kill the process of a run, and that of the run that the server starts in its place; then the server starts none."""
    first = str(ask(f"{api}/deployments/{deployment}/create_flow_run", {})["id"])
    kill(api, first)
    kill(api, str(until("the second try", lambda: later_run(api, deployment, first))))
    time.sleep(20)
    started = ask(f"{api}/flow_runs/filter", {"deployments": {"id": {"any_": [deployment]}}})
    began = [each for each in started if each["state"]["type"] != "SCHEDULED"]
    assert len(began) == 2, "what crashes twice wants a person"


def kill(api: str, run: str) -> None:
    process = until("the run's process", lambda: processes_of_run(run))
    until("its work", lambda: state(api, run) == "RUNNING")
    os.kill(process, signal.SIGKILL)
    until("a crash", lambda: state(api, run) == "CRASHED")


def later_run(api: str, deployment: str, first: str) -> str | None:
    """A run of the deployment after the first one that has begun."""
    runs = ask(f"{api}/flow_runs/filter", {"deployments": {"id": {"any_": [deployment]}}})
    found = [each["id"] for each in runs if each["id"] != first and each["state"]["type"] in ("PENDING", "RUNNING")]
    return found[0] if found else None


def processes_of_run(run: str) -> int | None:
    """The process in which Prefect runs it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes().split(b"\0")
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"PREFECT__FLOW_RUN_ID={run}".encode() in environ and b"multiprocessing" not in line:
                return int(entry.name)
    return None
