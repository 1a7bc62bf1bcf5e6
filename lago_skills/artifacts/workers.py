"""Worker processes on this machine: one thread each, started fresh (spawn), gone when the parent is gone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnContext
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from lago_skills.artifacts.calls import Call, Listener, Progress, Turn, died, no_turn, took_too_long

R = TypeVar("R")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Two single-thread processes beat one process with two threads on these workloads, by far on a busy machine."""
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


def _work(name: str, work: Callable[[Progress], R]) -> R:
    import torch

    torch.set_num_threads(1)

    def progress(done: int, note: str) -> None:
        with contextlib.suppress(queue.Full):
            _events.put_nowait((name, done, note))

    return work(progress)


class WorkerProcess:
    """One process, started when it first gets work, and anew after it has died."""

    def __init__(self, context: SpawnContext, events: Any) -> None:
        """What calls in it say of their progress goes into the queue `events`, as `(name, done, note)`."""
        self._context, self._events = context, events
        self._executor: ProcessPoolExecutor | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, call: Call[R]) -> R:
        """What the call returns.

        Raises:
            BrokenProcessPool: the process died.
        """
        with self._lock:
            if self._stopped:
                raise BrokenProcessPool("stopped")
            if self._executor is None:
                self._executor = ProcessPoolExecutor(1, self._context, initializer=_start, initargs=(self._events,))
            future = self._executor.submit(_work, call.name, call.work)
        try:
            return future.result(call.limit_s)
        except TimeoutError as error:
            if future.done():  # it is the call's own
                raise
            self.end()
            raise took_too_long(call) from error
        except BrokenProcessPool:
            self.end()
            raise

    def end(self) -> None:
        """Kill the process; the next call has a new one."""
        with self._lock:
            if self._executor is not None:
                self._kill(self._executor)
                self._executor.shutdown(wait=False)
                self._executor = None

    @staticmethod
    def _kill(executor: ProcessPoolExecutor) -> None:
        for process in list((executor._processes or {}).values()):
            process.kill()

    def stop(self, *, kill: bool) -> None:
        """Let the process go, at once or when it is idle."""
        with self._lock:
            self._stopped = True
            if self._executor is None:
                return
            if kill:
                self._kill(self._executor)
            self._executor.shutdown(wait=False, cancel_futures=True)


class WorkerPool:
    """Workers that are processes of this machine. See `Workers`.

    Each has a pool of one process for itself, so that one that dies takes no other's work with it.
    """

    def __init__(self, n_workers: int, listener: Listener | None = None, turn: Turn = no_turn) -> None:
        os.environ.update(ONE_THREAD)
        context = multiprocessing.get_context("spawn")
        self._events: Any = context.Queue(maxsize=1000)
        self._workers = [WorkerProcess(context, self._events) for _ in range(n_workers)]
        self._idle: queue.SimpleQueue[WorkerProcess] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(n_workers, thread_name_prefix="worker")
        self._turn = turn
        self._stopping = False
        self._before: Any = None
        """What Ctrl-C did before."""
        self._listener = threading.Thread(target=self._listen, args=(listener,), daemon=True)
        self._listener.start()

    def _listen(self, listener: Listener | None) -> None:
        while not self._stopping:
            try:
                event = self._events.get(timeout=0.2)
            except queue.Empty:
                continue
            except (EOFError, OSError):
                return
            if listener is not None:
                listener(*event)

    def submit(self, call: Call[R]) -> Future[R]:
        """See `Workers`."""
        return self._threads.submit(self._run, call)

    def _run(self, call: Call[R]) -> R:
        worker = self._idle.get()
        try:
            with self._turn(lambda: self._stopping):
                try:
                    return worker.run(call)
                except BrokenProcessPool:
                    if self._stopping:
                        raise
                    return worker.run(call)
        except BrokenProcessPool as error:
            raise died(call) from error
        finally:
            self._idle.put(worker)

    def __enter__(self) -> Self:
        """See `Workers`."""
        if threading.current_thread() is threading.main_thread():  # elsewhere there are no signals
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `Workers`."""
        try:
            self.stop(kill=kind is not None)
        finally:
            if self._before is not None:
                signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.stop(kill=True)
        raise KeyboardInterrupt

    def stop(self, *, kill: bool) -> None:
        """Let the processes go. Killed ones leave unfinished artifacts, which the next run sweeps away."""
        self._stopping = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.stop(kill=kill)
