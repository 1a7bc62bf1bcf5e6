"""A guide that is a service somewhere else: the same calls, over its websocket. The only door to the websocket client."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from lago_skills.core import ActionSpace, check_observations
from lago_skills.errors import OtherWorld, ServiceError
from lago_skills.guide.description import task_named
from lago_skills.prior import ActionPrior, DiscretePrior, Prior
from lago_skills.serve import messages

OPEN_S = 3.0
"""How long one attempt to open a connection may take; over TLS one was seen to stall now and then on a busy machine, and the next to work."""


class RemoteGuide:
    """A `Guide` behind `lago serve`. Safe to call from several threads, one question at a time.

    Args:
        address: of the service, `http://HOST:PORT`, `https://...`, `ws://...` or `wss://...`.
        token: where the service asks for one.
        timeout_s: how long an answer, or a service that is just being started again, is waited for.
        world_id: refuse a bundle of another world than this one.
        certificate: PEM file of who is trusted, of a service with a certificate of one's own.

    Raises:
        ServiceError: nobody answers there, or not to this token.
        OtherWorld: the bundle that is served there is of another world.
    """

    def __init__(
        self,
        address: str,
        token: str | None = None,
        timeout_s: float = 10.0,
        world_id: str | None = None,
        certificate: Path | None = None,
    ) -> None:
        self.address = address.replace("http", "ws", 1) if address.startswith("http") else address
        self._headers = {"Authorization": f"Bearer {token}"} if token else None
        self._timeout_s = timeout_s
        self._trusted = None
        if self.address.startswith("wss"):
            self._trusted = ssl.create_default_context(cafile=None if certificate is None else str(certificate))
        self._guard = threading.Lock()
        self._connection, self.metadata = self._connect()
        self._world_id = world_id or str(self.metadata["world_id"])
        self._check_world()
        action: dict[str, Any] = self.metadata["action"]
        self.action_space = ActionSpace(int(action["size"]), discrete=action["kind"] == "discrete")
        self.observation_size = sum(int(entry["size"]) for entry in self.metadata["observation"])

    def prior(self, observations: NDArray[Any], task: str) -> Prior:
        """(B, S) observations -> prior, as the bundle there gives it.

        Raises:
            StudyError: no task of the bundle is called so.
            ShapeError: wrong observation size, or values that are not finite.
            ServiceError: there is no answer, or the question is refused.
        """
        prior: dict[str, Any] = self.ask(observations, task, want=["prior"])["prior"]
        if prior["kind"] == "discrete":
            return DiscretePrior(prior["weights"], prior["log_probs"], float(prior["floor"]))
        return ActionPrior(prior["weights"], prior["means"], prior["stds"], float(prior["floor"]))

    def act(self, observations: NDArray[Any], task: str) -> NDArray[Any]:
        """(B, S) observations -> (B, A) actions, or (B,) discrete ones; see `prior`."""
        return self.ask(observations, task)["actions"]

    def ask(self, observations: NDArray[Any], task: str, **fields: Any) -> dict[str, Any]:
        """The whole reply to (B, S) observations, with arrays; further fields are those of `lago_skills.serve.requests.Question`."""
        rows = np.asarray(observations)
        check_observations(rows, self.observation_size)
        named = task_named(self.metadata, task)
        question = messages.packed({"observations": rows, "task": named, "world": self._world_id, **fields})
        with self._guard:
            try:
                reply = self._exchange(question)
            except (ConnectionClosed, OSError):  # a service that was started again: ask it once more
                self._connection, self.metadata = self._connect()
                self._check_world()
                reply = self._exchange(question)
        if isinstance(reply, str):
            raise ServiceError(f"the service at {self.address} refused: {reply}")
        return messages.read(reply)

    def _exchange(self, question: bytes) -> str | bytes:
        try:
            self._connection.send(question)
            return self._connection.recv(self._timeout_s)
        except TimeoutError as error:
            self._connection.close()  # else the answer would be taken for that of the next question
            raise ServiceError(
                f"the service at {self.address} gave no answer within {self._timeout_s:g} s; expected one; see whether it is overloaded, or wait longer (timeout_s)"
            ) from error

    def _connect(self) -> tuple[ClientConnection, dict[str, Any]]:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                connection = connect(
                    self.address,
                    compression=None,
                    max_size=None,
                    additional_headers=self._headers,
                    open_timeout=min(OPEN_S, self._timeout_s),
                    ssl=self._trusted,
                )
                return connection, messages.read(_bytes(connection.recv(self._timeout_s)))
            except (InvalidHandshake, InvalidURI) as error:
                raise ServiceError(
                    f"the service at {self.address} did not open a websocket ({error}); expected that of lago serve; see to the address and the token"
                ) from error
            except ssl.SSLError as error:
                raise ServiceError(
                    f"the service at {self.address} has a certificate that is not trusted ({error}); expected one of a known authority, or the file of one's own as "
                    "certificate=...; pass it"
                ) from error
            except (OSError, TimeoutError, ConnectionClosed) as error:
                if time.monotonic() > deadline:
                    raise ServiceError(
                        f"found no service at {self.address} ({error}); expected one; start it with: lago serve BUNDLE"
                    ) from error
                time.sleep(0.1)

    def _check_world(self) -> None:
        if self.metadata["world_id"] != self._world_id:
            self.close()
            raise OtherWorld(
                f"found a bundle of world {str(self.metadata['world_id'])[:12]} at {self.address}; expected {self._world_id[:12]}; serve the bundle that this "
                "client was written for"
            )

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame
