"""Worker processes for jobs: one thread each, started fresh (spawn), gone when the parent is gone."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lago_skills.errors import LagoError, StudyError
from lago_skills.stages.job import Job, Workspace
from lago_skills.store import Manifest
from lago_skills.study import load_study

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Two single-thread processes beat one process with two threads on these workloads, by far on a busy machine."""

Listener = Callable[[str, int, str], None]
"""`listener(job name, units done, note)`."""


@dataclass(frozen=True)
class JobAddress:
    """Names a job so that another process can build and run it."""

    root: str
    study_file: str
    stage: str
    name: str


def open_workspace(root: Path, study_file: Path) -> Workspace:
    """The workspace of a study file.

    Raises:
        StudyError: the file is missing or wrong.
    """
    return Workspace(root, study_file, load_study(study_file))


def find_job(address: JobAddress) -> Job:
    """The job of that name.

    Raises:
        StudyError: the study has no such job.
    """
    from lago_skills.stages.order import STAGES

    space = open_workspace(Path(address.root), Path(address.study_file))
    for job in STAGES[address.stage](space):
        if job.name == address.name:
            return job
    raise StudyError(
        f"stage {address.stage!r} has no job {address.name!r}; expected one of the study's; check the study"
    )


_events: Any = None


def _start_worker(events: Any) -> None:
    global _events
    _events = events
    become_worker()


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


def _run(address: JobAddress) -> Manifest:
    import torch

    torch.set_num_threads(1)
    job = find_job(address)

    def progress(done: int, note: str) -> None:
        with contextlib.suppress(queue.Full):
            _events.put_nowait((job.name, done, note))

    return job.run(progress)


class WorkerPool:
    """At most `n_workers` jobs at a time, each in its own process."""

    def __init__(self, n_workers: int, listener: Listener) -> None:
        os.environ.update(ONE_THREAD)
        context = multiprocessing.get_context("spawn")
        self._events: Any = context.Queue(maxsize=1000)
        self._executor = ProcessPoolExecutor(n_workers, context, initializer=_start_worker, initargs=(self._events,))
        self._listening = True
        self._thread = threading.Thread(target=self._listen, args=(listener,), daemon=True)
        self._thread.start()

    def _listen(self, listener: Listener) -> None:
        while self._listening:
            try:
                listener(*self._events.get(timeout=0.2))
            except queue.Empty:
                continue
            except (EOFError, OSError):
                return

    def run(self, address: JobAddress) -> Manifest:
        """Run one job and wait for it.

        Raises:
            LagoError: what the job raised, or that its process was killed.
        """
        future: Future[Manifest] = self._executor.submit(_run, address)
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise LagoError(
                f"the process of job {address.name!r} (stage {address.stage!r}) was killed, by hand or for want of memory; "
                "expected it to finish; run the same command again (finished jobs are kept)"
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
