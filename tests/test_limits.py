"""Places among those that a server's limit allows: handed on, given back, and never kept from those who wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from lago_skills.flows import limits
from lago_skills.flows.limits import Places


class Server:
    """A limit of so many places, as a server keeps it."""

    def __init__(self, n_places: int) -> None:
        self._places = threading.Semaphore(n_places)
        self.n_taken = self.n_given_back = 0

    @contextmanager
    def concurrency(self, name: str, lease_duration: float, timeout_seconds: float) -> Generator[None]:
        if not self._places.acquire(timeout=timeout_seconds):
            raise TimeoutError
        self.n_taken += 1
        try:
            yield
        finally:
            self.n_given_back += 1
            self._places.release()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    own = Server(2)
    monkeypatch.setattr(limits, "concurrency", own.concurrency)
    monkeypatch.setattr(limits, "_ensure", str)
    monkeypatch.setattr(limits, "HOLD_S", 0.3)
    return own


def use(places: Places, seconds: float = 0.0) -> None:
    with places.turn():
        time.sleep(seconds)


def test_a_place_is_handed_from_one_piece_of_work_to_the_next(server: Server) -> None:
    with Places("cores") as places, ThreadPoolExecutor(2) as threads:
        list(threads.map(partial(use, places), [0.005] * 200))
        assert server.n_taken <= 2
    assert server.n_given_back == server.n_taken


def test_a_place_in_steady_use_is_not_given_back_and_an_idle_one_is(server: Server) -> None:
    with Places("cores") as places:
        for _ in range(30):
            use(places, 0.02)
        assert (server.n_taken, server.n_given_back) == (1, 0)
        time.sleep(0.6)
        assert server.n_given_back == 1
        use(places)
        assert server.n_taken == 2
    assert server.n_given_back == 2


def test_more_work_than_places_waits_and_is_all_done(server: Server) -> None:
    with Places("cores") as places, ThreadPoolExecutor(6) as threads:
        list(threads.map(partial(use, places), [0.02] * 30))
    assert server.n_given_back == server.n_taken


def test_two_commands_share_the_places(server: Server) -> None:
    with Places("cores") as one, Places("cores") as other, ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(use, (one, other)[n % 2], 0.05) for n in range(12)]
        for future in futures:
            future.result(timeout=30)
    assert server.n_given_back == server.n_taken


def test_a_command_that_waits_for_a_place_can_be_stopped(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOOK_EVERY_S", 0.05)
    stopped = threading.Event()
    with Places("cores") as busy, Places("cores") as waiting, ThreadPoolExecutor(3) as threads:
        for _ in range(2):
            threads.submit(use, busy, 1.0)
        time.sleep(0.2)

        def wait() -> None:
            with waiting.turn(stopped.is_set):
                raise AssertionError("there was no place")

        waits = threads.submit(wait)
        time.sleep(0.2)
        stopped.set()
        began = time.monotonic()
        assert isinstance(waits.exception(timeout=5), CancelledError)
        assert time.monotonic() - began < 0.5
    assert server.n_given_back == server.n_taken
