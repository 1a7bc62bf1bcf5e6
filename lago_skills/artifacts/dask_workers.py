"""Workers of a Dask cluster: one of its own on this machine, or one that runs somewhere. The only door to `distributed`."""

# Dask's interfaces have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false, reportPrivateImportUsage=false, reportArgumentType=false, reportUnknownLambdaType=false

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import lago_skills
from lago_skills.artifacts.calls import Call, Listener, Progress, died, took_too_long
from lago_skills.artifacts.workers import ONE_THREAD
from lago_skills.errors import LagoError

R = TypeVar("R")
TOPIC = "lago-progress"
CONNECT_TIMEOUT_S = 15.0
SAY_EVERY_S = 0.5


class Stopped(Exception):
    """Nobody waits for this work any more."""


def _work(topic: str, name: str, work: Callable[[Progress], R]) -> R:
    import torch
    from distributed import get_worker

    torch.set_num_threads(1)
    worker = get_worker()
    key = worker.get_current_task()
    said = 0.0

    def progress(done: int, note: str) -> None:
        nonlocal said
        state = worker.state.tasks.get(key)
        if state is None or state.state in ("cancelled", "released", "forgotten"):
            raise Stopped(name)  # the command that wanted it has ended
        if time.monotonic() - said >= SAY_EVERY_S:
            said = time.monotonic()
            worker.log_event(topic, {"name": name, "done": done, "note": note})

    return work(progress)


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
        try:
            self._client: Any = Client(self._cluster or address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
            self._at_once = self._checked(address) if address is not None else n_workers
        except (OSError, TimeoutError, ValueError) as error:
            raise LagoError(
                f"found no Dask scheduler at {address!r} ({type(error).__name__}); expected one that answers within {CONNECT_TIMEOUT_S:.0f} s; "
                "start it with: dask scheduler, and workers with: dask worker ADDRESS --nworkers N --nthreads 1"
            ) from error
        if listener is not None:
            self._client.subscribe_topic(self._topic, lambda event: _hear(listener, event))
        self._threads = ThreadPoolExecutor(self._at_once, thread_name_prefix="dask")
        self._pending: set[Any] = set()
        self._lock = threading.Lock()

    def _checked(self, address: str) -> int:
        """How many threads its workers have together."""
        versions: dict[str, str] = self._client.run(_version)
        if not versions:
            raise LagoError(
                f"found no worker at the Dask scheduler {address!r}; expected at least one; start them with: dask worker {address} --nworkers N --nthreads 1"
            )
        for worker, version in versions.items():
            if version != lago_skills.__version__:
                raise LagoError(
                    f"found lago-skills {version} on worker {worker!r}; expected {lago_skills.__version__} as here, so that results are the same; install "
                    "that version there"
                )
        return sum(self._client.nthreads().values())

    def submit(self, call: Call[R]) -> Future[R]:
        """See `Workers`."""
        return self._threads.submit(self._run, call)

    def _run(self, call: Call[R]) -> R:
        from distributed import KilledWorker

        key = f"{call.name}-{uuid.uuid4().hex[:8]}"
        future: Any = self._client.submit(_work, self._topic, call.name, call.work, key=key, pure=False)
        with self._lock:
            self._pending.add(future)
        try:
            return future.result(call.limit_s)
        except TimeoutError as error:
            if future.done():  # it is the call's own
                raise
            self._client.cancel([future], force=True)
            raise took_too_long(call) from error
        except KilledWorker as error:
            raise died(call) from error
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
        self._threads.shutdown(wait=False, cancel_futures=True)
        if kind is not None:
            with self._lock, contextlib.suppress(Exception):
                self._client.cancel(list(self._pending), force=True)
        self._client.close(timeout=5)
        if self._cluster is not None:
            self._cluster.close(timeout=5)


def _hear(listener: Listener, event: tuple[Any, dict[str, Any]]) -> None:
    _, said = event
    listener(str(said["name"]), int(said["done"]), str(said["note"]))
