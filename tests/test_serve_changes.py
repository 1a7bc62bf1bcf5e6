"""A service while things change around it: bundles replaced, stops, crowds, large questions beside small ones."""

# openpi's client and msgpack have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lago_skills.artifacts.folder import writing
from lago_skills.core import Playbook
from lago_skills.guide.bundle import write_bundle
from lago_skills.guide.bundle_file import packed
from lago_skills.guide.loaded import load
from lago_skills.guide.retrieval import RetrievalConfig
from lago_skills.serve import messages
from lago_skills.serve.remote import RemoteGuide
from tests.conftest import random_decoder
from tests.random_guides import library, unit
from tests.served import Serving, serving
from tests.test_bundles import states


@pytest.fixture(scope="module")
def served(bundle: Path) -> Iterator[Serving]:
    with serving(bundle, "--unfamiliar", "answer") as running:
        yield running


def other_bundle(folder: Path, playbooks: dict[str, Playbook], seed: int) -> None:
    """A bundle of the same world with other weights, put where one may be already."""
    rng = np.random.default_rng(seed)
    book = {"push": playbooks["push"]}
    latents = {"push": unit(rng, len(playbooks["push"].steps))}
    with writing(folder, "build", {"seed": seed}) as writer:
        write_bundle(writer.path, random_decoder(seed), library(seed=seed), book, latents, RetrievalConfig())


def until(what: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_link_to_versions_is_followed_and_each_answer_is_of_one(
    tmp_path: Path, playbooks: dict[str, Playbook]
) -> None:
    """As `lago grow` keeps them: folders that are never changed, and a link that is turned."""
    versions = tmp_path / "grown"
    for number in (0, 1):
        other_bundle(versions / f"000{number}", playbooks, number)
    current = versions / "current"
    current.symlink_to("0000")
    guide = load(current, unfamiliar="answer")
    digests = [load(versions / f"000{number}").digest for number in (0, 1)]
    with serving(current, "--unfamiliar", "answer") as running, RemoteGuide(running.address) as remote:
        assert remote.ask(states(1), "push")["bundle"] == digests[0]
        for number in (1, 0, 1):
            turned = versions / ".turned"
            turned.symlink_to(f"000{number}")
            turned.replace(current)
            until(lambda wanted=digests[number]: remote.ask(states(1), "push")["bundle"] == wanted)
    assert guide.digest == digests[0]
    assert guide.folder == (versions / "0000").resolve()  # not the link, which points elsewhere now


def test_a_bundle_that_is_replaced_takes_over_whole(tmp_path: Path, playbooks: dict[str, Playbook]) -> None:
    """Clients that ask all the while get answers of one bundle or the other, by its name, and no error."""
    folder = tmp_path / "bundle"
    other_bundle(folder, playbooks, 0)
    rows = states(4)
    expected = {}
    with serving(folder, "--unfamiliar", "answer") as running:
        first = load(folder, unfamiliar="answer")
        expected[first.digest] = first.act(rows, "push")
        seen: list[tuple[str, np.ndarray]] = []
        problems: list[BaseException] = []
        stop = threading.Event()

        def ask() -> None:
            try:
                with RemoteGuide(running.address) as remote:
                    while not stop.is_set():
                        answer = remote.ask(rows, "push")
                        seen.append((answer["bundle"], answer["actions"]))
            except BaseException as problem:
                problems.append(problem)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for seed in (1, 2):
            other_bundle(folder, playbooks, seed)
            new = load(folder, unfamiliar="answer")
            expected[new.digest] = new.act(rows, "push")
            until(lambda digest=new.digest: running.get("/v1/bundle")[1]["bundle"] == digest)
        (folder / "retrieval.json").write_text("{}", encoding="utf-8")  # damaged: the one before is served on
        os.utime(folder / "manifest.json")
        until(lambda: b"lago_reloads_refused_total 1.0" in running.get("/metrics")[1])
        shutil.rmtree(folder)
        time.sleep(1.2)
        stop.set()
        for thread in threads:
            thread.join()
        assert not problems
        assert {digest for digest, _ in seen} == set(expected)
        assert len(expected) == 3
        for digest, actions in seen:
            np.testing.assert_allclose(actions, expected[digest], atol=1e-5)
        assert running.act(observations=rows.tolist(), task="push")[0] == 200


def test_a_file_that_is_replaced_by_one_of_another_world_is_refused(
    tmp_path: Path, playbooks: dict[str, Playbook], bundle: Path
) -> None:
    other_bundle(tmp_path / "bundle", playbooks, 0)
    file = packed(tmp_path / "bundle", tmp_path / "robot.zip")
    with serving(file) as running:
        before = running.get("/v1/bundle")[1]["bundle"]
        packed(bundle, tmp_path / "next.zip").replace(file)
        until(lambda: running.get("/v1/bundle")[1]["bundle"] != before)
        file.write_bytes(b"PK\x03\x04 cut")
        until(lambda: b"lago_reloads_refused_total 1.0" in running.get("/metrics")[1])
        assert running.get("/v1/bundle")[0] == 200


def test_a_stop_lets_answers_finish(bundle: Path) -> None:
    with serving(bundle) as running:
        rows = states(20_000)
        body = messages.packed({"observations": rows, "task": "push"})
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(running.ask(body, kind="application/msgpack")[0]))
        thread.start()
        time.sleep(0.1)
        running.process.send_signal(signal.SIGTERM)
        thread.join()
        assert answers == [200]
        assert running.process.wait(20) == 0


def test_slow_clients_and_a_thousand_connections_disturb_nobody(served: Serving) -> None:
    async def crowd() -> None:
        opened = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(1000)]
        for _, writer in opened[:20]:  # half a request each, and nothing more
            writer.write(b"POST /v1/act HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        began = time.monotonic()
        answer = await asyncio.to_thread(served.act, observations=states(2).tolist(), task="push")
        assert answer[0] == 200
        assert time.monotonic() - began < 5.0
        for _, writer in opened:
            writer.close()

    asyncio.run(crowd())


def test_a_large_batch_does_not_hold_up_a_small_one(served: Serving) -> None:
    large = messages.packed({"observations": states(40_000).astype(np.float32), "task": "push"})
    thread = threading.Thread(target=lambda: served.ask(large, kind="application/msgpack"))
    took: list[float] = []
    with RemoteGuide(served.address) as remote:
        thread.start()
        while thread.is_alive():
            began = time.perf_counter()
            remote.act(states(1), "push")
            took.append(time.perf_counter() - began)
        thread.join()
    assert len(took) > 3
    assert float(np.median(took)) < 0.25
