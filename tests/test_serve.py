"""`lago serve`, as a process of its own, asked over real connections: openpi's client, plain HTTP, our own guide; and what may go wrong."""

# openpi's client and msgpack have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from lago_skills.errors import OtherWorld, ServiceError, ShapeError, StudyError
from lago_skills.guide.loaded import load
from lago_skills.prior import ActionPrior
from lago_skills.serve import messages
from lago_skills.serve.remote import RemoteGuide
from tests.conftest import ROOT
from tests.served import Serving, serving
from tests.test_bundles import states

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def served(bundle: Path) -> Iterator[Serving]:
    with serving(bundle, "--unfamiliar", "answer") as running:
        yield running


def test_the_client_of_openpi_is_served_unchanged(served: Serving, bundle: Path) -> None:
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    client = WebsocketClientPolicy("127.0.0.1", served.port)
    said: dict[str, Any] = client.get_server_metadata()
    guide = load(bundle, unfamiliar="answer")
    assert said["bundle"] == guide.digest
    assert said["control_hz"] == 80.0
    assert [entry["name"] for entry in said["observation"]][:3] == ["hand", "opening", "object"]
    rows = states(3)
    answer: dict[str, Any] = client.infer({"observation": rows[0].astype(np.float32), "prompt": "push"})
    np.testing.assert_allclose(answer["actions"], guide.act(rows[:1], "push"), atol=1e-5)
    assert answer["server_timing"]["infer_ms"] > 0.0
    answer = client.infer({"observations": rows, "task": "push", "step_id": 7, "sent_at": time.time() - 1.0})
    np.testing.assert_allclose(answer["actions"], guide.act(rows, "push"), atol=1e-5)
    assert answer["step_id"] == 7
    assert 1000.0 <= answer["age_ms"] < 5000.0
    with pytest.raises(RuntimeError, match=r"found float32 of shape \(1, 5\); expected numbers of shape \(B, 39\)"):
        client.infer({"observation": np.zeros(5, np.float32), "task": "push"})
    assert client.infer({"observation": rows[0], "task": "push"})["late"] is False  # it goes on after an error


def test_http_answers_as_the_guide_does(served: Serving, bundle: Path) -> None:
    guide, rows = load(bundle, unfamiliar="answer"), states(5)
    status, said = served.get("/v1/bundle")
    assert status == 200
    assert said["world_id"] == guide.world_id
    status, answer = served.act(observations=rows.tolist(), task="push", want=["prior", "explanation"], step_id="a")
    assert status == 200
    np.testing.assert_allclose(answer["actions"], guide.act(rows, "push"), atol=1e-5)
    prior = guide.prior(rows, "push")
    assert isinstance(prior, ActionPrior)
    np.testing.assert_allclose(answer["prior"]["means"], prior.means, atol=1e-5)
    assert answer["step_id"] == "a"
    assert len(answer["explanation"]) == 5
    assert [each["step"] for each in answer["explanation"]] == answer["steps"]
    binary = messages.packed({"observations": rows, "task": "push"})
    status, data = served.ask(binary, kind="application/msgpack")
    assert status == 200
    np.testing.assert_allclose(messages.read(data)["actions"], answer["actions"], atol=1e-6)
    assert served.get("/healthz") == (200, b"OK\n")
    text = served.get("/metrics")[1].decode()
    assert 'lago_requests_total{status="200",way="http"}' in text
    assert "lago_states_total" in text


def test_a_late_answer_is_not_computed(served: Serving) -> None:
    status, answer = served.act(
        observations=states(2).tolist(), task="push", sent_at=time.time() - 1.0, max_age_ms=100.0, step_id=3
    )
    assert status == 200
    assert (answer["late"], answer["actions"], answer["step_id"]) == (True, None, 3)
    status, answer = served.act(observations=states(2).tolist(), task="push", sent_at=time.time(), max_age_ms=5000.0)
    assert status == 200
    assert answer["late"] is False
    assert len(answer["actions"]) == 2


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"observations": [[0.0] * 38], "task": "push"}, 422, "expected numbers of shape (B, 39)"),
        ({"observations": [[0.0] * 39, [0.0] * 38], "task": "push"}, 422, "rows of different lengths"),
        ({"observations": [], "task": "push"}, 422, "found observations that cannot be used"),
        ({"observations": [["a"] * 39], "task": "push"}, 422, "found observations"),
        ({"observations": [[float("nan")] * 39], "task": "push"}, 422, "found"),
        ({"observations": [[0.0] * 39], "task": "sing"}, 404, "which no task of the bundle is called"),
        ({"observations": [[0.0] * 39]}, 404, "found no task named"),
        ({"observations": [[0.0] * 39], "task": "push", "world": "mars"}, 409, "found a client for world mars"),
        ({"observations": [[0.0] * 39], "task": "push", "wishes": []}, 422, "found wishes that cannot be used"),
        ({"observations": [[0.0] * 39], "task": "push", "want": ["money"]}, 422, "found want.0"),
        ({"observations": [[0.0] * 39], "task": "push", "step_id": [1]}, 422, "found step_id"),
        ({}, 422, "found observations"),
    ],
)
def test_bad_questions_are_refused_in_a_sentence(
    served: Serving, fields: dict[str, Any], status: int, said: str
) -> None:
    given, answer = served.act(**fields)
    assert given == status, answer
    assert said in answer["error"]
    assert "expected" in answer["error"]


def test_bad_bodies_are_refused_in_a_sentence(served: Serving) -> None:
    for body in (b"", b"{", b"[1]", b"null", b'"push"', b"\xff\xfe", b'{"observations": 1e999}'):
        status, answer = served.ask(body)
        assert (status, "expected" in answer["error"]) == (422, True), (body, answer)
    for body in (
        b"",
        b"\xc1",
        messages.packed([1]),
        messages.packed({"task": "push"}),
        messages.packed({"observations": "x"}),
    ):
        status, answer = served.ask(body, kind="application/msgpack")
        assert (status, "expected" in answer["error"]) == (422, True), (body, answer)
    assert served.ask(b"{}", kind="application/x-pickle")[0] == 415
    assert served.ask(b"{}", path="/v1/../etc/passwd")[0] == 404
    assert served.get("/v1/act")[0] == 405
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port)) as connection:
        connection.request("GET", "/v1/act")
        assert connection.getresponse().headers["Allow"] == "POST"
    assert served.get("/%2e%2e/%2e%2e/etc/passwd")[0] == 404
    status, answer = served.ask(b" " * 17_000_000)
    assert status == 413
    assert "expected at most 16000000" in answer["error"]
    assert served.get("/healthz") == (200, b"OK\n")


def array(dtype: str, data: bytes, shape: Any) -> bytes:
    import msgpack

    entry = {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}
    message: Any = msgpack.packb({"observations": entry, "task": "push"})
    return message


@pytest.mark.parametrize(
    "frame",
    [
        array("|O", b"cos\nsystem\n", [1]),
        array("<f8", b"12345", [1, 39]),
        array("<f8", b"", [-1, 39]),
        array("<f8", b"", [10**12, 39]),
        array("<f8", b"\0" * 8, [1, 1, 1, 1, 1]),
        array("<M8[s]", b"\0" * 8, [1]),
        array("no dtype", b"\0" * 8, [1]),
        array("<f8", b"\0" * 312, [39, 1]),
        b"\xc1\xc1",
        b"",
    ],
)
def test_bad_frames_are_refused_and_the_connection_stays(served: Serving, frame: bytes) -> None:
    with connect(f"ws://127.0.0.1:{served.port}", compression=None) as socket_:
        socket_.recv()
        socket_.send(frame)
        said = socket_.recv(10)
        assert isinstance(said, str)
        assert "expected" in said
        socket_.send("text")
        assert "binary frame" in str(socket_.recv(10))
        socket_.send(messages.packed({"observations": states(1), "task": "push"}))
        assert isinstance(socket_.recv(10), bytes)


def test_a_client_of_another_world_is_sent_away(served: Serving) -> None:
    with connect(f"ws://127.0.0.1:{served.port}", compression=None) as socket_:
        socket_.recv()
        socket_.send(messages.packed({"observations": states(1), "task": "push", "world": "mars"}))
        assert "found a client for world mars" in str(socket_.recv(10))
        with pytest.raises(ConnectionClosed) as closed:
            socket_.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_pages_of_other_sites_and_other_names_are_refused(served: Serving) -> None:
    body = json.dumps({"observations": states(1).tolist(), "task": "push"}).encode()
    assert served.ask(body, Origin="https://evil.example")[0] == 403
    assert served.ask(body, Origin="null")[0] == 403
    assert served.ask(body, Host="rebound.example")[0] == 403
    assert served.ask(body, Host="[::1")[0] in (400, 403)
    assert served.ask(body, Origin="http://localhost:3000")[0] == 200
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://127.0.0.1:{served.port}", origin="https://evil.example")  # pyright: ignore[reportArgumentType]


def test_a_token_is_asked_for(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n", encoding="utf-8")
    with serving(bundle, "--token-file", str(tmp_path / "token"), "--host", "0.0.0.0") as running:
        body = json.dumps({"observations": states(1).tolist(), "task": "push"}).encode()
        assert running.ask(body)[0] == 401
        assert running.ask(body, Authorization="Bearer wrong")[0] == 401
        assert running.ask(body, Authorization=f"Bearer {TOKEN}", Host="robot.lab")[0] == 200
        assert running.get("/metrics")[0] == 401
        assert running.get("/healthz")[0] == 200
        with pytest.raises(InvalidStatus, match="401"):
            connect(f"ws://127.0.0.1:{running.port}")
        with RemoteGuide(f"http://127.0.0.1:{running.port}", token=TOKEN) as guide:
            assert guide.act(states(2), "push").shape == (2, 4)
        from openpi_client.websocket_client_policy import WebsocketClientPolicy

        client = WebsocketClientPolicy("127.0.0.1", running.port, api_key=TOKEN)
        assert client.infer({"observation": states(1)[0], "task": "push"})["actions"].shape == (1, 4)


def refused(*arguments: str, **environment: str) -> str:
    """What `lago serve` says where it does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "lago_skills.flows.main", "serve", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_what_does_not_start_says_why(bundle: Path, served: Serving, tmp_path: Path) -> None:
    assert "found --host 0.0.0.0 without a token" in refused(str(bundle), "--host", "0.0.0.0")
    assert "found a token of 5 characters" in refused(str(bundle), LAGO_TOKEN="short")
    assert f"cannot listen at 127.0.0.1:{served.port}" in refused(str(bundle), "--port", str(served.port))
    assert "found no bundle at" in refused(str(tmp_path / "nowhere"))
    assert "expected both, PEM files" in refused(str(bundle), "--tls-key", str(bundle / "manifest.json"))


def test_a_unix_socket(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "lago.sock"
    with serving(bundle, "--unix-socket", str(path)) as running:
        assert running.address == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as plain:
            plain.connect(str(path))
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert plain.recv(1000).startswith(b"HTTP/1.1 200")
    assert not path.exists()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL is not installed")
def test_over_tls_with_a_certificate_of_ones_own(bundle: Path, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run([*command, *names], check=True, capture_output=True)
    with serving(bundle, "--tls-certificate", str(certificate), "--tls-key", str(key)) as running:
        assert running.address.startswith("https://127.0.0.1:")
        with RemoteGuide(running.address, certificate=certificate) as guide:
            assert guide.act(states(2), "push").shape == (2, 4)
        trusted = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", running.port, timeout=30, context=trusted)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
        with pytest.raises(ServiceError, match=r"has a certificate that is not trusted .*CERTIFICATE_VERIFY_FAILED"):
            RemoteGuide(running.address)


def test_the_remote_guide_is_a_guide(served: Serving, bundle: Path) -> None:
    guide, rows = load(bundle, unfamiliar="answer"), states(6)
    with RemoteGuide(served.address) as remote:
        assert remote.action_space == guide.guide.grounding.action_space
        for task in ("push", "reach", "reach a goal position"):
            prior, expected = remote.prior(rows, task), guide.prior(rows, task)
            assert isinstance(prior, ActionPrior)
            assert isinstance(expected, ActionPrior)
            np.testing.assert_allclose(prior.log_ratio(prior.mean()), expected.log_ratio(expected.mean()), atol=1e-4)
            assert prior.floor == expected.floor
        with pytest.raises(ShapeError, match=r"expected \(B, 39\)"):
            remote.prior(np.zeros((2, 3)), "push")
        with pytest.raises(ShapeError, match="finite"):
            remote.prior(np.full((2, 39), np.inf), "push")
        with pytest.raises(StudyError, match="no task of the bundle is called"):
            remote.prior(rows, "sing")
    with pytest.raises(OtherWorld, match="found a bundle of world"):
        RemoteGuide(served.address, world_id="mars")
    with pytest.raises(ServiceError, match="found no service at ws://127"):
        RemoteGuide("http://127.0.0.1:9", timeout_s=0.3)


def example(*command: str) -> str:
    """What an example prints."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_of_clients(served: Serving, bundle: Path) -> None:
    said = example(sys.executable, "examples/ask_as_openpi.py", "127.0.0.1", str(served.port), "push")
    assert said.startswith(f"bundle {load(bundle).digest[:12]}, 80.0 Hz, observations of 39 numbers\naction [")
    said = example(sys.executable, "examples/control_loop.py", str(bundle), "reach")
    assert said.splitlines()[-1].startswith(("reach: not solved after 200 steps", "reach: solved after "))


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed (Debian: apt-get install nodejs)")
def test_the_example_in_javascript(served: Serving) -> None:
    said = example("node", "examples/guide.mjs", served.address, "push")
    assert said.startswith("action [")
    assert "familiar" in said
