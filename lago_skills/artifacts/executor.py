"""Runners: who runs the jobs of a stage or the cells of a table, and on which workers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from dataclasses import dataclass, replace
from typing import TypeVar

from lago_skills.artifacts.calls import Call, Listener, RunnerName, Turn, Workers, no_turn
from lago_skills.artifacts.store import Store
from lago_skills.artifacts.workers import WorkerPool
from lago_skills.errors import LagoError

R = TypeVar("R")


@dataclass(frozen=True)
class Runner:
    """Where calls are run, as a command or the parameters of a flow say it."""

    name: RunnerName = "processes"
    n_workers: int | None = None
    """At a time; None: as many as the study says."""
    address: str | None = None
    """Of a Dask scheduler; None: a cluster of its own on this machine."""
    limit_s: float | None = None
    """How long one call may take."""
    store: str | None = None
    """URL of a store that machines share; None: they share the project folder, or there is one."""

    def __post_init__(self) -> None:
        """Refuse an address for workers that have none.

        Raises:
            LagoError: there is one.
        """
        if self.address is not None and self.name != "dask":
            raise LagoError(
                f"found the address {self.address!r} for runner {self.name!r}; expected one of a Dask scheduler only; "
                "add --runner dask, or leave the address out"
            )

    def opened_store(self) -> Store | None:
        """The store that machines share, where there is one.

        Raises:
            StoreError: it cannot be read and written.
        """
        if self.store is None:
            return None
        store = Store(self.store)
        store.check()
        return store

    def hire(self, n_workers: int, listener: Listener | None = None, turn: Turn = no_turn) -> Workers:
        """Workers of this kind; `n_workers` is what the study says. On this machine each call waits for its turn.

        Raises:
            LagoError: there is no cluster at that address, or it cannot do this work.
        """
        if self.name == "dask":
            from lago_skills.artifacts.dask_workers import DaskWorkers

            return DaskWorkers(self.n_workers or n_workers, listener, self.address)
        return WorkerPool(self.n_workers or n_workers, listener, turn)


@dataclass(frozen=True)
class Direct:
    """Runs calls on workers and waits for them in this process, without a server."""

    runner: Runner = Runner()

    def run(
        self,
        calls: Sequence[Call[R]],
        n_workers: int,
        listener: Listener | None = None,
        finished: Callable[[Call[R], R], None] | None = None,
    ) -> list[R]:
        """What the calls returned, at most `n_workers` of them at a time; an error or Ctrl-C stops all at once.

        `listener` hears their progress, `finished` what each returned as soon as it is there, both in this process.

        Raises:
            LagoError: what the first failing call raised, or that its process was killed.
        """
        with self.runner.hire(n_workers, listener) as workers:
            by_future = {workers.submit(replace(call, limit_s=self.runner.limit_s)): call for call in calls}
            failed = None
            for future in as_completed(by_future):
                if (error := future.exception()) is not None:
                    failed = error
                    break
                if finished is not None:
                    finished(by_future[future], future.result())
            if failed is not None:
                raise failed
            return [future.result() for future in by_future]


def returned(futures: Sequence[Future[R]]) -> Generator[R]:
    """What calls returned, in their order; raises as soon as one of them has failed, be it a later one."""
    pending = set(futures)
    for future in futures:
        while future in pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for each in done:
                each.result()
        yield future.result()


def in_order(calls: Iterable[Call[R]], returned: Iterable[R], finished: Callable[[Call[R], R], None] | None) -> list[R]:
    """All that calls returned, each handed to `finished` as soon as it and those before it are there."""
    values: list[R] = []
    for call, value in zip(calls, returned, strict=True):
        values.append(value)
        if finished is not None:
            finished(call, value)
    return values
