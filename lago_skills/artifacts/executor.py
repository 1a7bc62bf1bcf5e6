"""Executors: who runs the jobs of a stage or the cells of a table, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lago_skills.artifacts.workers import Listener, Progress, WorkerPool

R = TypeVar("R")


@dataclass(frozen=True)
class Call(Generic[R]):
    """Work for a process of its own."""

    name: str
    """What progress calls it."""
    what: str
    """What errors call it."""
    work: Callable[[Progress], R]
    """Picklable."""


class Executor(Protocol):
    """Runs calls in worker processes. Stages and tables take one, and do not know which."""

    def run(
        self,
        calls: Sequence[Call[R]],
        n_workers: int,
        listener: Listener | None = None,
        finished: Callable[[Call[R], R], None] | None = None,
    ) -> list[R]:
        """What the calls returned, at most `n_workers` of them at a time; an error or Ctrl-C stops all at once.

        `listener` hears their progress, `finished` what each returned, both in this process, the latter in the order of calls.

        Raises:
            LagoError: what the first failing call raised, or that its process was killed.
        """
        ...


class Processes:
    """Plain worker processes, where no server is wanted."""

    def run(
        self,
        calls: Sequence[Call[R]],
        n_workers: int,
        listener: Listener | None = None,
        finished: Callable[[Call[R], R], None] | None = None,
    ) -> list[R]:
        """See `Executor`."""
        with WorkerPool(n_workers, listener) as pool:
            futures = [pool.submit(call.name, call.work) for call in calls]
            returned = (pool.wait(call.what, future) for call, future in zip(calls, futures, strict=True))
            return in_order(calls, returned, finished)


def in_order(calls: Iterable[Call[R]], returned: Iterable[R], finished: Callable[[Call[R], R], None] | None) -> list[R]:
    """All that calls returned, each handed to `finished` as soon as it and those before it are there."""
    values: list[R] = []
    for call, value in zip(calls, returned, strict=True):
        values.append(value)
        if finished is not None:
            finished(call, value)
    return values
