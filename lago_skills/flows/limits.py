"""Global concurrency limits: what all flows of one Prefect server share, however many commands they are."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists

from lago_skills.commands.stage_run import say

AT_FIRST = os.cpu_count() or 1
"""Jobs at work on this machine where nobody has set the limit; `prefect gcl update lago-cores --limit N`, or Prefect's page, changes it for all."""
LEASE_S = 60.0
"""After so long others get the places of a command that was killed."""
SAY_AFTER_S = 10.0
LOOK_EVERY_S = 2.0
"""How often somebody who waits looks whether he is to stop."""
HOLD_S = 2.0
"""A place that nobody of its command waits for is kept so long for the command's next piece of work: to get one from the server was
measured to take .4 s."""


@dataclass(eq=False)
class _Spare:
    """A place that nobody uses at the moment; another one each time that it is put aside."""

    place: AbstractContextManager[None]


class Places:
    """Places among those that a limit allows, for the pieces of work of one command. As a context it gives all of them back at its end."""

    def __init__(self, limit: str) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._spare: list[_Spare] = []
        self._waiting = 0
        self._known = self._over = False

    @contextmanager
    def turn(self, stopped: Callable[[], bool] = lambda: False) -> Generator[None]:
        """A place for the duration of a block; waits for one.

        Raises:
            CancelledError: it was stopped while it waited.
        """
        with self._lock:
            if not self._known:
                _ensure(self._limit)
                self._known = True
            spare = self._spare.pop() if self._spare else None
            place = spare.place if spare else None
            self._waiting += place is None
        if place is None:
            patience = threading.Timer(SAY_AFTER_S, say, [f"waiting for a place among those of {self._limit}"])
            patience.daemon = True
            patience.start()
            try:
                place = self._acquired(stopped)
            finally:
                patience.cancel()
                with self._lock:
                    self._waiting -= 1
        try:
            yield
        finally:
            with self._lock:
                spare = None
                if not self._waiting and not self._over:  # else one of those who wait at the server gets it
                    spare = _Spare(place)
                    self._spare.append(spare)
            if spare is None:
                place.__exit__(None, None, None)
            else:
                later = threading.Timer(HOLD_S, self._give_back, [spare])
                later.daemon = True
                later.start()

    def _acquired(self, stopped: Callable[[], bool]) -> AbstractContextManager[None]:
        while not stopped() and not self._over:
            place = concurrency(self._limit, lease_duration=LEASE_S, timeout_seconds=LOOK_EVERY_S)
            with suppress(TimeoutError):
                place.__enter__()
                return place
        raise CancelledError

    def _give_back(self, spare: _Spare) -> None:
        with self._lock:
            if spare not in self._spare:  # its place is at work again, or was since
                return
            self._spare.remove(spare)
        spare.place.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back what is not at work; what still is gives itself back, or its lease ends."""
        with self._lock:
            self._over = True
            spare, self._spare = self._spare, []
        for each in spare:
            each.place.__exit__(None, None, None)


def _ensure(name: str) -> None:
    """Make the limit on a server that has none of this name."""
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=AT_FIRST))
