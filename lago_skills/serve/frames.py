"""Small binary frames answered as soon as they are read, past ASGI's queues: they are computed in less time than those take.

Everything else (handshakes, access, text, large frames, pings, closing) goes the usual way, through uvicorn and the application.
"""

from __future__ import annotations

from collections.abc import Callable

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

Answer = Callable[[bytes], bytes | str | None]
"""The reply to a frame, text where it is refused; None where the application has to see to it."""


def answering(answer: Answer, most_bytes: int) -> type[WebSocketsSansIOProtocol]:
    """A protocol for uvicorn that answers frames of at most so many bytes by itself, in their order."""

    class DirectFrames(WebSocketsSansIOProtocol):
        def send_receive_event_to_app(self) -> None:
            data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
            idle = self.queue.empty() and not self.read_paused and self.writable.is_set()
            if (
                self.curr_msg_data_type == "text"
                or len(data) > most_bytes
                or not (idle and self.handshake_complete)
                or self.close_sent
            ):
                super().send_receive_event_to_app()
                return
            reply = answer(bytes(data))
            if reply is None:
                super().send_receive_event_to_app()
                return
            self.frames = []
            try:
                if isinstance(reply, str):
                    self.conn.send_text(reply.encode())
                else:
                    self.conn.send_binary(reply)
            except InvalidState:
                return  # the client has gone
            self.transport.write(b"".join(self.conn.data_to_send()))

    return DirectFrames
