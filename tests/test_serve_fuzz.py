"""Questions that are spoiled at random, over websocket and HTTP: each is answered or refused in a sentence, none is an error of ours, and the service lives."""

from __future__ import annotations

import http.client
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from lago_skills.serve import messages
from tests.served import Serving, serving
from tests.test_bundles import states

N_QUESTIONS = 1500
QUESTIONS = (
    {"observations": states(1), "task": "push"},
    {"observation": states(2)[0].astype(np.float32), "prompt": "reach", "want": ["prior", "explanation"], "step_id": 3},
    {"observations": states(3), "task": "push", "world": "w", "sent_at": 1.0, "max_age_ms": 5.0},
)


@pytest.fixture(scope="module")
def served(bundle: Path) -> Iterator[Serving]:
    with serving(bundle, "--unfamiliar", "answer") as running:
        yield running


def spoiled(question: bytes, chance: random.Random) -> bytes:
    """Bytes changed, cut, put in, or all of them random."""
    data, kind = bytearray(question), chance.random()
    if kind < 0.6:
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
    elif kind < 0.75:
        del data[chance.randrange(len(data)) :]
    elif kind < 0.9:
        place = chance.randrange(len(data))
        data[place:place] = chance.randbytes(chance.randrange(20))
    else:
        data = bytearray(chance.randbytes(chance.randrange(300)))
    return bytes(data)


def test_spoiled_frames(served: Serving) -> None:
    chance, questions = random.Random(0), [messages.packed(each) for each in QUESTIONS]
    outcomes: Counter[str] = Counter()
    connection = None
    for _ in range(N_QUESTIONS):
        if connection is None:
            connection = connect(f"ws://127.0.0.1:{served.port}", compression=None)
            connection.recv(10)
        try:
            connection.send(spoiled(chance.choice(questions), chance))
            reply = connection.recv(10)
            outcomes["refused" if isinstance(reply, str) else "answered"] += 1
            assert isinstance(reply, bytes) or "expected" in reply, reply
            if isinstance(reply, str) and "found a client for world" in reply:
                connection = None
        except ConnectionClosed as closed:
            outcomes[f"closed {closed.rcvd.code if closed.rcvd else 0}"] += 1
            connection = None
    assert {*outcomes} <= {"refused", "answered", "closed 1008"}  # sent away, as a client of another world is
    assert outcomes["refused"] > N_QUESTIONS // 10
    assert outcomes["answered"] > N_QUESTIONS // 10
    assert served.get("/healthz")[0] == 200


def test_spoiled_bodies(served: Serving) -> None:
    chance = random.Random(1)
    plain = [
        json.dumps({name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in each.items()})
        for each in QUESTIONS
    ]
    bodies = [(text.encode(), "application/json") for text in plain]
    bodies += [(messages.packed(each), "application/msgpack") for each in QUESTIONS]
    statuses: Counter[int] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    for _ in range(N_QUESTIONS):
        body, kind = chance.choice(bodies)
        connection.request("POST", "/v1/act", spoiled(body, chance), {"Content-Type": kind})
        answer = connection.getresponse()
        data = answer.read()
        statuses[answer.status] += 1
        if answer.status != 200:
            assert "expected" in json.loads(data)["error"], data
    connection.close()
    assert {*statuses} <= {200, 404, 409, 422}, statuses
    assert statuses[422] > N_QUESTIONS // 10
    assert served.get("/healthz")[0] == 200
