"""Workers of a Dask cluster: one of its own on this machine, or one that runs somewhere. The only door to `distributed`."""

# Dask's interfaces have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false, reportPrivateImportUsage=false, reportArgumentType=false, reportUnknownLambdaType=false

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.process
import socket
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, Self, TypeVar

import lago_skills
from lago_skills.artifacts.calls import Call, Listener, died
from lago_skills.artifacts.workers import ONE_THREAD, WorkerProcess
from lago_skills.errors import LagoError

R = TypeVar("R")
TOPIC = "lago-progress"
CONNECT_TIMEOUT_S = 15.0
SAY_EVERY_S, WATCH_EVERY_S = 0.5, 0.5
IDLE_S = 30.0
"""Processes of a command that nothing was given to for so long are let go when another command comes."""


class Stopped(Exception):
    """Nobody waits for this work any more."""


class Children:
    """Processes that a Dask worker has for one command: fresh ones, so that no module, table or study of an earlier command is taken for this one's.

    They are killed when the command no longer wants what they do, or when it takes too long, which a thread of the worker itself could not be.
    """

    def __init__(self, topic: str) -> None:
        from distributed import get_worker

        current: Any = multiprocessing.process.current_process()
        current._config["daemon"] = False  # a Dask worker is one, and else could have no processes of its own
        self._context = multiprocessing.get_context("spawn")
        self._events: Any = self._context.Queue(maxsize=1000)
        self._topic, self._worker = topic, get_worker()
        self._idle: list[WorkerProcess] = []
        self._lock = threading.Lock()
        self.n_at_work = 0
        self.last_used = time.monotonic()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        said: dict[str, float] = {}
        while True:
            event = self._events.get()
            if event is None:
                return
            name, done, note = event
            if time.monotonic() - said.get(name, 0.0) >= SAY_EVERY_S:
                said[name] = time.monotonic()
                self._worker.log_event(self._topic, {"name": name, "done": done, "note": note})

    def run(self, call: Call[R]) -> R:
        """What the call returns; run once more where its process dies."""
        key = self._worker.get_current_task()
        with self._lock:
            process = self._idle.pop() if self._idle else WorkerProcess(self._context, self._events)
            self.n_at_work += 1
        over, stopped = threading.Event(), threading.Event()

        def watch() -> None:
            while not over.wait(WATCH_EVERY_S):
                state = self._worker.state.tasks.get(key)
                if state is None or state.state in ("cancelled", "released", "forgotten"):
                    with self._lock:
                        if not over.is_set():  # else the process may be at another call by now
                            stopped.set()
                            process.end()
                    return

        threading.Thread(target=watch, daemon=True).start()
        try:
            try:
                return process.run(call)
            except BrokenProcessPool:
                if stopped.is_set():
                    raise
                return process.run(call)
        except BrokenProcessPool as error:
            raise Stopped(call.name) if stopped.is_set() else died(call) from error
        finally:
            with self._lock:
                over.set()
                self.n_at_work -= 1
                self.last_used = time.monotonic()
                self._idle.append(process)

    def stop(self) -> None:
        """Let the processes go, at once."""
        with self._lock:
            for process in self._idle:
                process.stop(kill=True)
        self._events.put(None)


_children: dict[str, Children] = {}
"""Of this Dask worker, by command."""
_guard = threading.Lock()


def _work(topic: str, version: str, call: Call[R]) -> R:
    if version != lago_skills.__version__:
        raise _other_version(socket.gethostname(), lago_skills.__version__, version)
    with _guard:
        for name, children in list(_children.items()):  # those of a command that was killed
            if name != topic and not children.n_at_work and time.monotonic() - children.last_used > IDLE_S:
                _children.pop(name).stop()
        if topic not in _children:
            _children[topic] = Children(topic)
        children = _children[topic]
    return children.run(call)


def _let_go(topic: str) -> None:
    """The end of a command."""
    with _guard:
        children = _children.pop(topic, None)
    if children is not None:
        children.stop()


def _other_version(where: str, there: str, here: str) -> LagoError:
    return LagoError(
        f"found lago-skills {there} on worker {where!r}; expected {here} as here, so that results are the same; install "
        "that version there"
    )


def _version() -> str:
    return lago_skills.__version__


class DaskWorkers:
    """Workers that are those of a Dask cluster. See `Workers`.

    Nothing but this process speaks to Prefect, so that the cluster's machines need neither it nor a way to its server.
    """

    def __init__(self, n_workers: int, listener: Listener | None = None, address: str | None = None) -> None:
        """`n_workers` is the size of a cluster of its own; of another one, how much it is given at a time (at least all its threads).

        Raises:
            LagoError: there is no cluster at the address, it has no workers, or they have another version of this package.
        """
        try:
            import dask
            from distributed import Client, LocalCluster
        except ImportError as error:
            raise LagoError(
                "found no Dask; expected it for --runner dask; install it with: pip install 'lago-skills[dask]'"
            ) from error
        self._cluster: Any = None
        self._topic = f"{TOPIC}-{uuid.uuid4().hex[:8]}"
        if address is None:
            with dask.config.set(
                {"distributed.scheduler.allowed-failures": 1, "distributed.nanny.environ": ONE_THREAD}
            ):
                self._cluster = LocalCluster(
                    n_workers=n_workers, threads_per_worker=1, dashboard_address=None, host="127.0.0.1", silence_logs=50
                )
        self._client: Any = None
        try:
            self._client = Client(self._cluster or address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
            self._at_once = self._checked(address) if address is not None else n_workers
        except LagoError:
            self._client.close(timeout=5)
            raise
        except (OSError, TimeoutError, ValueError) as error:
            raise LagoError(
                f"found no Dask scheduler at {address!r} ({type(error).__name__}); expected one that answers within {CONNECT_TIMEOUT_S:.0f} s; "
                "start it with: dask scheduler, and workers with: dask worker ADDRESS --nworkers N --nthreads 1"
            ) from error
        if listener is not None:
            self._client.subscribe_topic(self._topic, lambda event: _hear(listener, event))
        self._threads = ThreadPoolExecutor(self._at_once, thread_name_prefix="dask")
        self._pending: set[Any] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def _checked(self, address: str) -> int:
        """How many threads its workers have together."""
        try:
            versions: dict[str, str] = self._client.run(_version)
        except (ImportError, AttributeError) as error:
            raise LagoError(
                f"found a worker at the Dask scheduler {address!r} that cannot import this package ({error}); expected lago-skills {lago_skills.__version__} "
                "on each; install that version there"
            ) from error
        if not versions:
            raise LagoError(
                f"found no worker at the Dask scheduler {address!r}; expected at least one; start them with: dask worker {address} --nworkers N --nthreads 1"
            )
        for worker, version in versions.items():
            if version != lago_skills.__version__:
                raise _other_version(worker, version, lago_skills.__version__)
        return sum(self._client.nthreads().values())

    def submit(self, call: Call[R]) -> Future[R]:
        """See `Workers`."""
        return self._threads.submit(self._run, call)

    def _run(self, call: Call[R]) -> R:
        from distributed import CancelledError, KilledWorker

        key = f"{call.name}-{uuid.uuid4().hex[:8]}"
        future: Any = self._client.submit(_work, self._topic, lago_skills.__version__, call, key=key, pure=False)
        with self._lock:
            self._pending.add(future)
        try:
            return future.result()
        except KilledWorker as error:
            raise died(call) from error
        except CancelledError as error:
            if self._stopped:
                raise
            raise LagoError(
                f"the Dask scheduler lost {call.what}; expected it to stay up; see to the scheduler, and run the same command again (what is finished is kept)"
            ) from error
        finally:
            with self._lock:
                self._pending.discard(future)

    def __enter__(self) -> Self:
        """See `Workers`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `Workers`."""
        self._stopped = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        if kind is not None:
            with self._lock, contextlib.suppress(Exception):
                self._client.cancel(list(self._pending), force=True)
        with contextlib.suppress(Exception):  # else a worker that is to end waits for its processes until it is killed
            self._client.run(_let_go, self._topic)
        self._client.close(timeout=5)
        if self._cluster is not None:
            self._cluster.close(timeout=5)


def _hear(listener: Listener, event: tuple[Any, dict[str, Any]]) -> None:
    _, said = event
    listener(str(said["name"]), int(said["done"]), str(said["note"]))
