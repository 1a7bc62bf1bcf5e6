"""`lago serve` as a process of its own, and how tests ask it."""

# openpi's client and msgpack have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import ROOT


class Serving:
    """A service that runs."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process, self.address = process, address
        self.log: list[str] = []
        self.port = int(address.rpartition(":")[2]) if ":" in address and not address.startswith("unix") else 0

    def ask(self, body: bytes, path: str = "/v1/act", **headers: str) -> tuple[int, Any]:
        """Status and content of a POST."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        kind = headers.pop("kind", "application/json")
        connection.request("POST", path, body, {"Content-Type": kind, **headers})
        return self._read(connection)

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path, headers=headers)
        return self._read(connection)

    @staticmethod
    def _read(connection: http.client.HTTPConnection) -> tuple[int, Any]:
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if answer.headers.get_content_type() == "application/json":
            return answer.status, json.loads(data)
        return answer.status, data

    def act(self, **fields: Any) -> tuple[int, Any]:
        return self.ask(json.dumps(fields).encode())


@contextmanager
def serving(bundle: Path, *options: str, root: Path | None = None, **environment: str) -> Generator[Serving]:
    """`lago serve` at a free port, in a project folder where one is given."""
    before = () if root is None else ("--root", str(root))
    process = subprocess.Popen(
        [sys.executable, "-m", "lago_skills.flows.main", *before, "serve", str(bundle), "--port", "0", *options],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        assert said.startswith("serving "), said + process.stderr.read()
        running = Serving(process, said.split()[-1])
        reader = threading.Thread(target=lambda: running.log.extend(process.stderr or ()), daemon=True)
        reader.start()
        yield running
        process.terminate()
        process.wait(20)
        reader.join(20)
        assert not any("Traceback" in line for line in running.log), "".join(running.log)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
