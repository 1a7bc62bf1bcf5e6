"""Pages beside the service's own doors: whoever makes them knows nothing of HTTP libraries, and the service nothing of pages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response


@dataclass(frozen=True)
class Asked:
    """A request that none of the service's own doors takes."""

    method: str
    path: str
    """Without the leading slash."""
    headers: Mapping[str, str]
    """By names in small letters."""
    body: bytes = b""


@dataclass(frozen=True)
class Answered:
    """What is sent back."""

    content: bytes
    media_type: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


Site = Callable[[Asked], Answered | None]
"""Answers from a thread of its own; None where there is no such page."""
Read = Callable[[Request], Awaitable[bytes]]
"""The body of a request, within its limits."""
App = Callable[[Any, Any, Any], Awaitable[None]]


class SiteDoor:
    """What is asked when no other route fits, as ASGI has it.

    Args:
        site: makes the pages.
        read: reads bodies; raises what `refused` answers.
        refused: the response to an error of `read`; it raises what is none of its own.
        otherwise: what answers where the site has no page.
    """

    def __init__(self, site: Site, read: Read, refused: Callable[[Exception], Response], otherwise: App) -> None:
        self._site, self._read, self._refused, self._otherwise = site, read, refused, otherwise

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self._otherwise(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            body = await self._read(request) if request.method == "POST" else b""
        except Exception as error:
            await self._refused(error)(scope, receive, send)
            return
        asked = Asked(request.method, request.url.path.removeprefix("/"), dict(request.headers.items()), body)
        answered = await asyncio.to_thread(self._site, asked)
        if answered is None:
            await self._otherwise(scope, receive, send)
            return
        response = Response(
            answered.content, answered.status, dict(answered.headers), media_type=answered.media_type or None
        )
        await response(scope, receive, send)
