"""Calls, and the workers that run them: what stages, tables and runners say to each other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

from lago_skills.errors import LagoError

R = TypeVar("R")
RunnerName = Literal["processes", "dask"]
"""Kinds of workers."""
Progress = Callable[[int, str], None]
"""`progress(units done, note)`."""
Listener = Callable[[str, int, str], None]
"""`listener(name of the work, units done, note)`."""


@dataclass(frozen=True)
class Call(Generic[R]):
    """Work for another process."""

    name: str
    """What progress calls it."""
    what: str
    """What errors call it."""
    work: Callable[[Progress], R]
    """Picklable."""
    limit_s: float | None = None
    """How long it may take; None: as long as it does."""


Turn = Callable[[Callable[[], bool]], AbstractContextManager[object]]
"""`turn(stopped)`: what a call waits for before it is run, and gives back afterwards, where several commands share the cores. Whoever waits raises
`CancelledError` once it is stopped."""


def no_turn(stopped: Callable[[], bool]) -> AbstractContextManager[object]:
    """No waiting."""
    return nullcontext()


class Workers(Protocol):
    """Processes that run calls, so many at a time.

    Used as a context they are let go at its end; an error in it, or Ctrl-C, stops what is at work at once. A call whose process
    dies is run once more in another one.
    """

    def submit(self, call: Call[R]) -> Future[R]:
        """Begin a call as soon as a worker is free. Its future raises what the call raised, or a `LagoError` where its process died twice."""
        ...

    def __enter__(self) -> Self:
        """The workers themselves."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the workers go."""
        ...


def died(call: Call[Any]) -> LagoError:
    """What is said of a call whose process died, and died again when it was run once more."""
    return LagoError(
        f"the process of {call.what} was killed twice, by hand or for want of memory; expected it to finish; see that there is "
        "memory for it, perhaps with fewer workers, and run the same command again (what is finished is kept)"
    )


def took_too_long(call: Call[Any]) -> LagoError:
    """What is said of a call that was stopped at its time limit."""
    return LagoError(
        f"{call.what} was stopped after {call.limit_s:g} s; expected it to finish within that time limit; raise the limit, or see what it "
        "hangs on (what is finished is kept)"
    )
