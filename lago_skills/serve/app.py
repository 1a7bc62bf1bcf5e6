"""The service's doors: HTTP with an OpenAPI description, and the websocket that clients of policy servers speak. The only door to FastAPI here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import numpy as np
from fastapi import FastAPI, Request, Response, WebSocket
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect

import lago_skills
from lago_skills.errors import LagoError, OtherWorld, ShapeError, StudyError, UnfamiliarState
from lago_skills.serve import messages
from lago_skills.serve.access import Access
from lago_skills.serve.requests import Question, Reply, question_of, sentence_of
from lago_skills.serve.service import LOOK_EVERY_S, Service
from lago_skills.serve.site import Site, SiteDoor

JSON, MSGPACK = "application/json", "application/msgpack"
MOST_BYTES = 16_000_000
"""Of one question."""
BODY_S = 20.0
"""How long a client may take to send one."""
AT_ONCE_STATES, AT_ONCE_BYTES = 1024, 256_000
"""Larger questions are answered in a thread of their own, so that smaller ones need not wait."""
REFUSED = 1008
"""With which a websocket is closed whose client may not ask."""
TEXT_FRAME = "message: found text; expected msgpack in a binary frame; pack a map with an observation and a task"


class Problem(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="what was found, what was expected, what to do")


class Refused(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def application(doors: Doors, site: Site | None = None) -> FastAPI:
    """The application of a service, for any ASGI server; with a site, its pages where no door of the service's own is."""
    service = doors.service

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncGenerator[None]:
        following = asyncio.create_task(_follow(service))
        yield
        following.cancel()
        service.close()

    app = FastAPI(
        title="lago-skills guidance",
        version=lago_skills.__version__,
        description="What a library of latent skills would do in states of a task. No language model.",
        lifespan=life,
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
    )
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_api_route("/healthz", doors.health, response_class=Response, responses=_plain("OK while it serves"))
    app.add_api_route(
        "/metrics", doors.metrics, response_class=Response, responses=_plain("for Prometheus") | _problems(401, 403)
    )
    app.add_api_route("/v1/bundle", doors.bundle, responses=_problems(401, 403))
    app.add_api_route(
        "/v1/act",
        doors.act,
        methods=["POST"],
        response_model=Reply,
        responses=_problems(400, 401, 403, 404, 408, 409, 413, 415, 422) | {200: {"content": {MSGPACK: {}}}},
        openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": question_schema(service)}}}},
    )
    app.add_api_websocket_route("/", doors.websocket)
    app.add_middleware(cast("Any", Timed), service=service)
    if site is not None:
        app.router.default = SiteDoor(site, doors.body, _read_error, app.router.default)
    return app


def question_schema(service: Service) -> dict[str, Any]:
    """The JSON schema of a question to the bundle that is served, with an example."""
    schema, size = Question.model_json_schema(), service.bundle.guide.grounding.observation_size
    state = {"type": "array", "items": {"type": "number"}, "minItems": size, "maxItems": size}
    observations = schema["properties"]["observations"]
    observations["anyOf"] = [{"type": "array", "items": state, "minItems": 1}, state]
    schema["examples"] = [
        {"observations": [[0.0] * size], "task": service.bundle.tasks[0], "want": ["prior", "explanation"]}
    ]
    return schema


async def _follow(service: Service) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        await asyncio.to_thread(service.follow)


class Doors:
    """The handlers."""

    def __init__(self, service: Service, access: Access, most_bytes: int = MOST_BYTES) -> None:
        self.service, self._access, self._most_bytes = service, access, most_bytes

    async def health(self) -> Response:
        """Whether it serves."""
        return Response("OK\n", media_type="text/plain")

    async def metrics(self, request: Request) -> Response:
        """Counters."""
        self._check(request)
        return Response(self.service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def bundle(self, request: Request) -> dict[str, Any]:
        """What is served: the bundle's hash, its world entry by entry, its tasks, and how it is asked."""
        self._check(request)
        return self.service.metadata()

    async def act(self, request: Request) -> Response:
        """What the library would do in some states: actions, the plan's step, how familiar the states are; on request the prior and an explanation."""
        came = time.time()
        self._check(request)
        kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        if kind not in (JSON, MSGPACK):
            raise Refused(415, f"found content of type {kind!r}; expected {JSON} or {MSGPACK}; say what is sent")
        body = await self.body(request)
        answer = partial(self._answered, body, kind, came)
        try:
            content = await asyncio.to_thread(answer) if len(body) > AT_ONCE_BYTES else answer()
        except LagoError as error:
            raise Refused(status_of(error), str(error)) from error
        return Response(content, media_type=kind)

    def _answered(self, body: bytes, kind: str, came: float) -> bytes:
        if kind == MSGPACK:
            question, rows = question_of(messages.read(body))
            return messages.packed(self.service.answer(question, rows, came))
        try:
            question = Question.model_validate_json(body)
        except ValidationError as error:
            raise ShapeError(sentence_of(error)) from error
        return to_json(self.service.answer(question, question.rows(), came), fallback=_plain_values)

    async def body(self, request: Request) -> bytes:
        """The whole of a request, in good time.

        Raises:
            Refused: it is too large, or does not come.
        """
        stated = request.headers.get("content-length", "0")
        if stated.isdigit() and int(stated) > self._most_bytes:
            raise Refused(413, self._too_large(int(stated)))
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_S):
                async for part in request.stream():
                    parts.append(part)
                    size += len(part)
                    if size > self._most_bytes:
                        raise Refused(413, self._too_large(size))
        except ClientDisconnect as error:
            raise Refused(
                400, f"found {size} bytes, and then nobody; expected the whole question; send it again"
            ) from error
        except TimeoutError as error:
            raise Refused(
                408,
                f"found {size} bytes after {BODY_S:.0f} s; expected the whole question by then; send it faster, or in parts",
            ) from error
        return b"".join(parts)

    def _too_large(self, size: int) -> str:
        return f"found a question of {size} bytes or more; expected at most {self._most_bytes}; send fewer states at a time"

    def _check(self, request: Request | WebSocket) -> None:
        problem = self._access.problem(request.headers)
        if problem is not None:
            raise Refused(*problem)

    # -- websocket -----------------------------------------------------------------------------------------------------

    async def websocket(self, socket: WebSocket) -> None:
        """Metadata first, then an answer to each question, until the client goes."""
        try:
            self._check(socket)
        except Refused as refused:
            await socket.send_denial_response(_response(refused))
            return
        await socket.accept()
        metrics = self.service.metrics
        metrics.connections(+1)
        try:
            await socket.send_bytes(messages.packed(self.service.metadata()))
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                await self._reply(socket, message.get("bytes"))
        except (WebSocketDisconnect, ConnectionError):
            return
        finally:
            metrics.connections(-1)

    async def _reply(self, socket: WebSocket, data: bytes | None) -> None:
        """Answer one frame. What is wrong with a frame is said in a text frame."""
        if data is None:
            reply, status = TEXT_FRAME, 422
        elif len(data) > AT_ONCE_BYTES:
            reply, status = await asyncio.to_thread(self.frame, data)
        else:
            reply, status = self.frame(data)
        if isinstance(reply, str):
            await socket.send_text(reply)
        else:
            await socket.send_bytes(reply)
        if status == 409:
            await socket.close(REFUSED, "another world")

    def frame(self, data: bytes) -> tuple[bytes | str, int]:
        """The reply to a binary frame, text where it is refused, and its status as HTTP has it."""
        came, began = time.time(), time.perf_counter()
        status = 200
        try:
            question, rows = question_of(messages.read(data))
            fields = self.service.answer(question, rows, came)
            fields["server_timing"] = {"infer_ms": 1e3 * (time.perf_counter() - began)}
            return messages.packed(fields), status
        except LagoError as error:
            status = status_of(error)
            return str(error), status
        finally:
            self.service.metrics.request("websocket", str(status), time.perf_counter() - began)

    def at_once(self, data: bytes) -> bytes | str | None:
        """The same for `lago_skills.serve.frames`; None where the connection is to be closed after it."""
        reply, status = self.frame(data)
        return None if status == 409 else reply


class Timed:
    """Counts HTTP requests by their status. A class of three lines where Starlette's own would wrap each body in a stream."""

    def __init__(self, app: Callable[..., Awaitable[None]], service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Pass on."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), ["500"]

        async def watched(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                status[0] = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._service.metrics.request("http", status[0], time.perf_counter() - began)


def status_of(error: LagoError) -> int:
    """The HTTP status of what is wrong with a question."""
    if isinstance(error, ShapeError | UnfamiliarState):
        return 422
    if isinstance(error, OtherWorld):
        return 409
    return 404 if isinstance(error, StudyError) else 503


async def _refused(request: Request, error: Exception) -> Response:
    return _response(cast("Refused", error))


def _read_error(error: Exception) -> Response:
    if not isinstance(error, Refused):
        raise error
    return _response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    problem = cast("HTTPException", error)
    status = problem.status_code
    said = {404: f"found no {request.url.path!r}", 405: f"found {request.method} {request.url.path!r}"}
    return _response(
        Refused(
            status, f"{said.get(status, 'found a bad request')}; expected one of the paths of /openapi.json; correct it"
        ),
        problem.headers,
    )


def _response(refused: Refused, headers: Mapping[str, str] | None = None) -> Response:
    """An error in a sentence; with the headers that HTTP wants beside it, such as which methods are allowed."""
    if refused.status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    return Response(to_json({"error": refused.sentence}), refused.status, headers, JSON)


def _plain_values(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        plain: Any = cast("Any", value).tolist()
        return plain
    raise TypeError(f"cannot be sent: {type(value).__name__}")


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem} for status in statuses}


def _plain(what: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": what, "content": {"text/plain": {"schema": {"type": "string"}}}}}
