"""Guidance, training and serving reach no network: every socket is watched, and where the system allows it there is no interface at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

NAMESPACE = ["unshare", "--map-root-user", "--net"]
"""In which even the loopback interface is down."""


def without_interfaces() -> bool:
    return (
        shutil.which("unshare") is not None
        and not subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode
    )


@pytest.mark.parametrize("what", ["guide", "train", "serve"])
def test_nothing_reaches_a_network(what: str, bundle: Path) -> None:
    namespace = NAMESPACE if without_interfaces() else []
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.offline", what, str(bundle)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_watch_sees_what_leaves_the_machine() -> None:
    code = (
        "import tests.offline, socket, urllib.request\n"
        "try: socket.create_connection(('192.0.2.1', 80), timeout=1)\n"
        "except OSError: pass\n"
        "try: urllib.request.urlopen('http://example.invalid')\n"
        "except OSError: pass\n"
        "assert len(tests.offline.seen) == 2, tests.offline.seen\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
