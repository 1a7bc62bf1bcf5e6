"""`lago bench serve`: a question and its answer over websocket and HTTP on this machine, beside a bare websocket server that answers zeros.

Services run in processes of their own, on one core where the system lets us say so; the client, which takes its time too, on another.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.sync.client import connect
from websockets.sync.server import Server, ServerConnection
from websockets.sync.server import serve as serve_bare

from lago_skills.guide.loaded import load
from lago_skills.serve import messages
from lago_skills.serve.access import Access
from lago_skills.serve.running import Where, serve
from lago_skills.serve.service import Service

ROUNDS, CALLS, CLIENTS, LOAD_S = 5, 1_000, 8, 3.0
START_S = 30.0
Row = dict[str, Any]
Ask = Callable[[], Any]


def bench(
    path: Path, states: NDArray[np.float64], task: str | None, say: Callable[[str], None]
) -> tuple[list[Row], Row]:
    """A row for each way of asking about one state."""
    guide = load(path, unfamiliar="answer")
    known = guide.task(task)
    own = _median([_timed(lambda: known.answer(states[:1])) for _ in range(CALLS)])
    n_actions = guide.actions.size
    with _running(partial(_serve, path)) as service, _running(partial(_serve_zeros, n_actions)) as bare:
        ways = {
            "websocket": partial(_websocket, service, states[:1], known.name),
            "http": partial(_http, service, states[:1], known.name),
            "bare websocket": partial(_websocket, bare, states[:1], known.name),
        }
        times: dict[str, list[list[float]]] = {name: [] for name in ways}
        for number in range(ROUNDS):
            say(f"round {number + 1} of {ROUNDS}")
            for name, way in ways.items():
                with way() as ask:
                    times[name].append([_timed(ask) for _ in range(CALLS)])
        say(f"{CLIENTS} clients at once")
        per_s = {name: _load(way) for name, way in ways.items()}
    p50 = {name: _median([_median(each) for each in rounds]) for name, rounds in times.items()}
    rows = [
        {
            "way": name,
            "batch": 1,
            "p50_us": round(1e6 * p50[name], 1),
            "p99_us": round(1e6 * _median([float(np.quantile(each, 0.99)) for each in rounds]), 1),
            "per_s": round(per_s[name]),
            "peer_p50_us": round(1e6 * p50["bare websocket"], 1),
            "ratio": round(p50[name] / p50["bare websocket"], 2),
            "over_peer_us": round(1e6 * (p50[name] - p50["bare websocket"]), 1),
        }
        for name, rounds in times.items()
    ]
    return rows, {
        "bundle": str(path),
        "task": known.name,
        "prior_p50_us": round(1e6 * own, 1),
        "clients": CLIENTS,
        "cores": os.cpu_count(),
    }


def _timed(call: Ask) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _median(values: list[float]) -> float:
    return float(statistics.median(values))


@contextmanager
def _running(target: Callable[[int], None]) -> Generator[int]:
    """The port of a server in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    process = multiprocessing.get_context("spawn").Process(target=_on_one_core, args=(target, port), daemon=True)
    process.start()
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
                break
            except OSError:
                if time.monotonic() > deadline or not process.is_alive():
                    raise
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.join(10)


def _on_one_core(target: Callable[[int], None], port: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    target(port)


def _serve(path: Path, port: int) -> None:
    serve(Service(path, unfamiliar="answer"), Where(port=port), Access())


def _serve_zeros(n_actions: int, port: int) -> None:
    """The peer: msgpack over a websocket and nothing else."""
    reply = messages.packed({"actions": np.zeros((1, n_actions), np.float32)})

    def answer(connection: ServerConnection) -> None:
        connection.send(messages.packed({}))
        for frame in connection:
            messages.read(frame if isinstance(frame, bytes) else frame.encode())
            connection.send(reply)

    server: Server = serve_bare(answer, "127.0.0.1", port, compression=None)
    server.serve_forever()


@contextmanager
def _websocket(port: int, states: NDArray[np.float64], task: str) -> Generator[Ask]:
    question = messages.packed({"observations": states, "task": task})
    with connect(f"ws://127.0.0.1:{port}", compression=None) as connection:
        connection.recv()

        def ask() -> Any:
            connection.send(question)
            return messages.read(connection.recv())  # pyright: ignore[reportArgumentType]  (answers are bytes)

        yield ask


@contextmanager
def _http(port: int, states: NDArray[np.float64], task: str) -> Generator[Ask]:
    """HTTP/1.1 over a plain socket: a client library would take longer than the server does."""
    body = b'{"observations": ' + str(states.tolist()).encode() + b', "task": "' + task.encode() + b'"}'
    head = f"POST /v1/act HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask() -> bytes:
            connection.sendall(request)
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65_536)
            start, _, rest = data.partition(b"\r\n\r\n")
            assert start.startswith(b"HTTP/1.1 200"), data
            length = int(start.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            while len(rest) < length:
                rest += connection.recv(65_536)
            return rest

        yield ask


def _load(way: Callable[[], Any]) -> float:
    """Answers a second with several clients at once, each asking as soon as it has its answer."""
    counts = [0] * CLIENTS
    stop = threading.Event()

    def client(number: int) -> None:
        with contextlib.suppress(OSError), way() as ask:
            while not stop.is_set():
                ask()
                counts[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    stop.wait(LOAD_S)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)
