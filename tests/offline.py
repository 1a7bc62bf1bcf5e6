"""What a robot does, with every socket watched: `python -m tests.offline guide|train|serve BUNDLE`. Ends with an error at the first one that leaves the machine.

Sockets are watched by an audit hook from before the first import, so that whatever a package looks up when it is imported shows too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

LOCAL = ("127.0.0.1", "::1", "localhost", "")
seen: list[str] = []


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what leaves the machine, and remember it: a package may swallow the error."""
    if event in ("socket.connect", "socket.sendto", "socket.bind"):
        address = arguments[1]
        away = isinstance(address, tuple) and address[0] not in LOCAL
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        away, address = arguments[0] not in (*LOCAL, None), arguments[0]
    else:
        return
    if away:
        seen.append(f"{event} {address}")
        raise OSError(f"offline: {event} {address}")


sys.addaudithook(watch)

import numpy as np


def guide(bundle: Path) -> None:
    import lago_skills

    loaded = lago_skills.load(bundle)
    for task in loaded.tasks:
        assert loaded.act(np.zeros((3, 39)), task).shape == (3, 4)
        assert loaded.explain(np.zeros((1, 39)), task)
    heavy = {"torch", "prefect", "metaworld", "mujoco", "transformers", "sentence_transformers", "scipy", "gymnasium"}
    assert not heavy & {name.partition(".")[0] for name in sys.modules}


def train(bundle: Path) -> None:
    from lago_skills.guide.bundle import load_bundle
    from lago_skills.rl import SACConfig
    from lago_skills.rl import train as learn
    from lago_skills.rl.world_problem import world_problem
    from lago_skills.worlds.world import find_world

    world, loaded = find_world("metaworld"), load_bundle(bundle)
    problem = world_problem(world, world.find(["push"]), world.grounding, loaded, seed=0)
    config = SACConfig(n_steps=120, random_steps=50, eval_every=120, eval_episodes=1, hidden_size=16)
    assert learn(problem, config, seed=0).curve


def serve(bundle: Path) -> None:
    import os
    import signal
    import socket
    import tempfile
    import threading
    import time

    from lago_skills.serve.access import Access
    from lago_skills.serve.running import Where
    from lago_skills.serve.running import serve as run
    from lago_skills.serve.service import Service

    path = Path(tempfile.mkdtemp()) / "lago.sock"
    answers: list[bytes] = []

    def ask() -> None:
        while not path.exists():
            time.sleep(0.05)
        with socket.socket(socket.AF_UNIX) as plain:
            plain.connect(str(path))
            plain.sendall(b"GET /v1/bundle HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answers.append(plain.recv(100))
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask, daemon=True).start()
    run(Service(bundle), Where(unix_socket=path), Access())
    assert answers[0].startswith(b"HTTP/1.1 200")


if __name__ == "__main__":
    {"guide": guide, "train": train, "serve": serve}[sys.argv[1]](Path(sys.argv[2]))
    assert not seen, seen
