"""Prefect servers in trouble: of another version, with a locked or broken database; and runs that are cancelled on the server."""

from __future__ import annotations

import http.server
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from lago_skills.errors import ServerError
from lago_skills.flows.local_server.server import PrefectServer, healthy
from tests.conftest import ROOT
from tests.test_deployments import ask
from tests.test_pipeline import processes_of
from tests.test_store_machines import digests, project, run

HERE = metadata.version("prefect")
MAJOR, MINOR = HERE.split(".")[:2]


@pytest.fixture
def said() -> Generator[dict[str, Any]]:
    """What a server says that is none of Prefect's, by path; `url` is its address."""
    answers: dict[str, Any] = {"/api/health": True}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path in answers
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answers.get(self.path)).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answers["url"] = f"http://127.0.0.1:{server.server_port}/api"
    yield answers
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "there", [f"{int(MAJOR) - 1}.20.1", f"{int(MAJOR) + 1}.0.0", f"{MAJOR}.{int(MINOR) - 1}.9", None]
)
def test_a_server_of_another_version_is_refused(
    there: str | None, said: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", said["url"])
    if there:
        said["/api/admin/version"] = there
    with pytest.raises(ServerError, match=r"found version .*expected .*upgrade the server, or unset the variable"):
        PrefectServer(tmp_path).__enter__()


def test_what_answers_at_a_port_and_is_no_http_server_is_no_prefect_server() -> None:
    """As a Dask scheduler, which may have got the very port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x82\xabcompression\xc0\xa6python\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        assert not healthy(f"http://127.0.0.1:{other.getsockname()[1]}/api")


@pytest.mark.parametrize("there", [HERE, f"{MAJOR}.{int(MINOR) + 1}.0"])
def test_a_server_of_this_version_or_a_later_one_will_do(
    there: str, said: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", said["url"])
    said["/api/admin/version"] = there
    with PrefectServer(tmp_path) as server:
        assert server.wait() == said["url"]


def begun(root: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lago_skills.flows.main", "--root", str(root), "run", "plane", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("trouble", ["locked", "broken"])
def test_a_run_does_not_need_the_projects_own_server(trouble: str, tmp_path: Path) -> None:
    study = project(tmp_path / "p")
    home = tmp_path / "p/.prefect"
    home.mkdir(exist_ok=True)
    for old in home.glob("prefect.db*"):
        old.unlink()
    held = None
    if trouble == "locked":
        held = sqlite3.connect(home / "prefect.db")
        held.execute("CREATE TABLE held (n)")
        held.execute("BEGIN EXCLUSIVE")
    else:
        (home / "prefect.db").write_bytes(b"this is no database at all" * 400)
    process = begun(tmp_path / "p")
    _, err = process.communicate(timeout=300)
    if held is not None:
        held.close()
    assert process.returncode == 0, err
    if trouble == "broken":
        assert re.search(r"running the stages without Prefect's server: .*server.log", err), err
    assert any("report" in place for place in digests(study))


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("runner", ["processes", "dask"])
def test_a_run_that_is_cancelled_on_the_server_stops_within_seconds(runner: str, tmp_path: Path) -> None:
    study = project(tmp_path / "p")
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("n_updates = 600", "n_updates = 900000"), encoding="utf-8")
    process = begun(tmp_path / "p", "--runner", runner)
    assert process.stderr is not None
    url, lines = "", list[str]()
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"Prefect: (http\S+)", line):
            url = found[1]
        if url and line.startswith("pretrain"):
            break
    runs = ask(f"{url}/api/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}})
    (pipeline,) = [each["id"] for each in runs if each["parent_task_run_id"] is None]
    began = time.monotonic()
    try:
        ask(f"{url}/api/flow_runs/{pipeline}/set_state", {"state": {"type": "CANCELLING"}})
        rest = process.stderr.read()
        assert process.wait(60) == 2
        assert time.monotonic() - began < 20
    finally:
        process.kill()
    assert "cancelled on Prefect's side" in rest, rest
    assert "what was finished is kept" in rest, rest
    finished = digests(study)
    assert any("segments" in place for place in finished)
    deadline = time.monotonic() + 20
    while (living := processes_of(tmp_path / "p")) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not living
    study.write_text(text, encoding="utf-8")
    run(tmp_path / "p", "run", "plane")
    assert finished.items() <= digests(study).items()
