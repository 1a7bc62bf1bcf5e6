"""A server on loopback that speaks the OpenAI chat protocol and misbehaves on purpose."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PLAYBOOK: dict[str, Any] = {
    "steps": [
        {"skill": "push the cart under the pole", "when": [{"feature": "pole_angle", "op": ">", "value": 0.02}]},
        {"skill": "let the cart roll", "when": []},
    ]
}
USAGE = {"prompt_tokens": 70, "completion_tokens": 30, "total_tokens": 100}


@dataclass
class Reply:
    """What the server sends."""

    content: str | None = json.dumps(PLAYBOOK)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    raw: bytes | None = None
    """Sent instead of a chat completion."""
    reset: bool = False
    """Send half of the answer, then reset the connection."""
    short: bool = False
    """Promise two bytes more than are sent, and close the connection."""
    dribble_s: float = 0.0
    """Pause after every byte."""
    delay_s: float = 0.0
    usage: dict[str, int] | None = field(default_factory=lambda: dict(USAGE))


Behaviour = Callable[[int, dict[str, Any]], Reply]
"""`(how often this very request came before, body) -> Reply`"""


class Endpoint:
    """The server; `asked` counts requests by their messages, `answered` those that were answered in full."""

    def __init__(self, behave: Behaviour) -> None:
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    endpoint._answer(self, behave)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Endpoint:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler, behave: Behaviour) -> None:
        body: dict[str, Any] = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        question = json.dumps(body["messages"])
        with self._lock:
            before = self.asked[question]
            self.asked[question] += 1
            self.bodies.append(body)
            self.headers.append(dict(handler.headers.items()))
            self.paths.append(handler.path)
            self.times.append(time.monotonic())
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            self._send(handler, behave(before, body))
        finally:
            with self._lock:
                self._now -= 1

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        time.sleep(reply.delay_s)
        raw = reply.raw
        if raw is None and reply.status >= 300:
            raw = json.dumps({"error": {"message": reply.content, "type": "test"}}).encode()
        elif raw is None:
            message = {"role": "assistant", "content": reply.content}
            completion: dict[str, Any] = {"id": "x", "object": "chat.completion", "model": "served"}
            completion["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
            if reply.usage is not None:
                completion["usage"] = reply.usage
            raw = json.dumps(completion).encode()
        handler.send_response(reply.status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(raw) + 2 * reply.short))
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if reply.reset:
            handler.wfile.write(raw[: len(raw) // 2])
            handler.wfile.flush()
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
            handler.close_connection = True  # or the handler, which waits for more, holds it open
        elif reply.dribble_s:
            for byte in raw:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                time.sleep(reply.dribble_s)
        else:
            handler.wfile.write(raw)
            handler.close_connection |= reply.short


def study_toml(url: str, n_tasks: int, **live: Any) -> str:
    """A study of an environment of its own, with named entries of the observation."""
    settings = {"model": "test-model", "base_url": url, "concurrency": 4, "timeout_s": 20.0, **live}
    lines = ['name = "cart"', "[tasks]", 'seen = ["task-0"]']
    lines.append(f"unseen = {[f'task-{i}' for i in range(1, n_tasks)]}")
    for i in range(n_tasks):
        lines += ["[[tasks.own]]", f'id = "task-{i}"', f'sentence = "keep the pole upright, way {i}"']
        lines += ['env_id = "CartPole-v1"']
    lines += ["[environment]", 'world = "A cart on a rail carries a pole."', "observation_size = 4", "n_actions = 2"]
    for index, name in enumerate(("cart_position", "cart_speed", "pole_angle", "pole_speed")):
        lines += [f"[environment.features.{name}]", f"index = {index}", 'unit = "m"', "range = [-2.5, 2.5]"]
        lines += [f'sentence = "{name.replace("_", " ")}"']
    lines += ["[plan.live]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"
