"""Worker processes: one thread each, started fresh (spawn), gone when the parent is gone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import FrameType
from typing import Any, TypeVar

from lago_skills.errors import LagoError

R = TypeVar("R")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Two single-thread processes beat one process with two threads on these workloads, by far on a busy machine."""
Progress = Callable[[int, str], None]
"""`progress(units done, note)`."""
Listener = Callable[[str, int, str], None]
"""`listener(name of the work, units done, note)`."""
_events: Any = None


def become_worker() -> None:
    """Make this process a worker: it leaves interrupts to its parent, and is gone when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    warnings.filterwarnings("ignore")
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)  # the parent was killed: leave no process behind

    threading.Thread(target=watch, daemon=True).start()


def _start(events: Any) -> None:
    global _events
    _events = events
    become_worker()


def _work(name: str, call: Callable[[Progress], R]) -> R:
    import torch

    torch.set_num_threads(1)

    def progress(done: int, note: str) -> None:
        with contextlib.suppress(queue.Full):
            _events.put_nowait((name, done, note))

    return call(progress)


class WorkerPool:
    """At most `n_workers` calls at a time, each in its own process.

    Used as a context it stops idle workers at the end of the block; an error in it, or Ctrl-C, kills what is at work at once.
    """

    def __init__(self, n_workers: int, listener: Listener | None = None) -> None:
        os.environ.update(ONE_THREAD)
        context = multiprocessing.get_context("spawn")
        self._events: Any = context.Queue(maxsize=1000)
        self._executor = ProcessPoolExecutor(n_workers, context, initializer=_start, initargs=(self._events,))
        self._before: Any = None
        """What Ctrl-C did before."""
        self._listening = True
        self._thread = threading.Thread(target=self._listen, args=(listener,), daemon=True)
        self._thread.start()

    def _listen(self, listener: Listener | None) -> None:
        while self._listening:
            try:
                event = self._events.get(timeout=0.2)
            except queue.Empty:
                continue
            except (EOFError, OSError):
                return
            if listener is not None:
                listener(*event)

    def __enter__(self) -> WorkerPool:
        """The pool itself."""
        if threading.current_thread() is threading.main_thread():  # elsewhere there are no signals
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Stop the workers."""
        try:
            if kind is None:
                self.close()
            else:
                self.kill()
        finally:
            if self._before is not None:
                signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.kill()
        raise KeyboardInterrupt

    def submit(self, name: str, call: Callable[[Progress], R]) -> Future[R]:
        """Begin a call, which must be picklable, in a worker."""
        return self._executor.submit(_work, name, call)

    def wait(self, what: str, future: Future[R]) -> R:
        """What a call returned.

        Raises:
            LagoError: what the call raised, or that its process was killed.
        """
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise LagoError(
                f"the process of {what} was killed, by hand or for want of memory; expected it to finish; run the same command "
                "again (what is finished is kept)"
            ) from error

    def kill(self) -> None:
        """Stop all workers at once; their unfinished artifacts are swept away by the next run."""
        for process in list((self._executor._processes or {}).values()):
            process.kill()
        self.close()

    def close(self) -> None:
        """Stop idle workers."""
        self._listening = False
        self._executor.shutdown(wait=False, cancel_futures=True)
