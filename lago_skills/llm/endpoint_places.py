"""How many requests are on their way to one endpoint, from all commands of one user on this machine together."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

from filelock import FileLock, Timeout

POLL_S = 0.05


class EndpointPlaces:
    """So many places at an endpoint, each a locked file: it is free again when its process has ended, however that was.

    Commands that allow different numbers share the places that both have, so that together they never have more than the larger number.
    """

    def __init__(self, address: str, n_places: int) -> None:
        """`address` is its host and port, `n_places` how many requests this command allows at a time."""
        name = hashlib.sha256(address.encode()).hexdigest()[:16]
        self._folder = Path(tempfile.gettempdir()) / f"lago-endpoints-{os.getuid()}" / name
        self._n_places = n_places

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncGenerator[None]:
        """Have a place for the duration of a block; waits for one.

        Raises:
            OSError: no file can be written among the temporary ones.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        while (lock := self._free()) is None:
            await asyncio.sleep(POLL_S)
        try:
            yield
        finally:
            lock.release()

    def _free(self) -> FileLock | None:
        for number in range(self._n_places):
            lock = FileLock(self._folder / f"{number}.lock")
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                return lock
        return None
