"""`POST .../{name}:score`: a stream of rows in, a stream of answers out, at the same time and in bounded memory.

A plain ASGI endpoint. The body is fed to a thread that reads and checks; another runs and encodes, and what it makes is
sent. Each waits for the others. What is scored is neither recorded nor counted by the monitor.
"""

import asyncio
import contextlib
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from service.api.http_errors import STATUS, error_response
from service.bulk.pipe import Inflow, Outflow
from service.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NotOffered,
    QueueFull,
    UnsupportedMediaType,
)
from service.manifest import Manifest
from service.runtime.repository import Repository

if TYPE_CHECKING:
    from service.bulk.stream import Task

SCORE_PATH = "/v1/models/{name:model}:score"
SCORE_VERSION_PATH = "/v1/models/{name:model}/versions/{version:model}:score"
ARROW = "application/vnd.apache.arrow.stream"
FORMS = {ARROW: "arrow", "text/csv": "csv", "application/vnd.apache.parquet": "parquet"}
CHARSETS = ("utf-8", "utf8", "us-ascii")
WORK = "service.bulk.stream"
LATE = "body: it did not arrive in time"


# A tenth of the weight of other threads. Those of explanations run only where nobody else wants the core; a file has to
# be done some time, also where other processes want all cores.
NICE = 10


def _step_aside() -> None:
    """Let this thread yield to others: on Linux each thread has a nice value of its own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


class Connection(Protocol):
    """What the server's protocol leaves in the scope as `plumbline.connection`."""

    def take_time(self, body: Inflow) -> None:
        """Have the body arrive without a limit of time, in `body` or through `receive`; the caller watches it."""

    def release(self) -> None:
        """Have the rest of the body read and forgotten."""

    def drop(self) -> None:
        """Close at once, whatever waits to be sent."""


class Score:
    """The endpoint. At most `max_scorings` requests at a time have their threads; others are told to come back."""

    def __init__(
        self,
        repository: Callable[[], Repository],
        *,
        max_scorings: int,
        max_batch_bytes: int,
        max_spool_bytes: int,
        timeout_seconds: float,
        count: Callable[[Manifest, int], None],
    ) -> None:
        """`timeout_seconds` is how long a caller may neither send nor read; `count` is told of answered rows."""
        self._repository = repository
        self._max_scorings = max_scorings
        self._max_batch_bytes = max_batch_bytes
        self._max_spool_bytes = max_spool_bytes
        self._timeout_seconds = timeout_seconds
        self._count = count
        self._running = 0
        # Threads that stay: what each of them has taken of memory serves the next file.
        self._executor = ThreadPoolExecutor(max_scorings, thread_name_prefix="plumbline-score", initializer=_step_aside)
        self._readers = ThreadPoolExecutor(max_scorings, thread_name_prefix="plumbline-read", initializer=_step_aside)

    def close(self) -> None:
        """Start nothing more; what runs ends by itself, as its callers have gone."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a refusal before the first answer is an exception for `http_errors`."""
        await _load()
        task = self._task(scope)
        if self._running >= self._max_scorings:
            raise QueueFull(f"{self._max_scorings} files are being scored already", retry_after_seconds=5.0)
        connection: Connection | None = scope.get("plumbline.connection")
        exchange = _Exchange(receive, send, connection, timeout_seconds=self._timeout_seconds)
        if connection is not None:
            connection.take_time(exchange.inflow)
        self._running += 1
        working = self._start(task, exchange)
        working.add_done_callback(self._finished)
        try:
            await exchange.run()
        finally:
            exchange.abandon()
            if connection is not None:
                connection.release()

    def _start(self, task: "Task", exchange: "_Exchange") -> "asyncio.Future[None]":
        from service.bulk.stream import work

        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._executor, work, task, exchange.inflow, exchange.outflow)

    def _finished(self, working: "asyncio.Future[None]") -> None:
        self._running -= 1
        if not working.cancelled():
            working.exception()

    def _task(self, scope: Scope) -> "Task":
        from service.bulk.stream import Task

        repository, names = self._repository(), scope["path_params"]
        version = names.get("version")
        model = repository.latest(names["name"]) if version is None else repository.version(names["name"], version)
        explain, passed_over = _options(scope["query_string"])
        if explain and model.explainer is None:
            raise NotOffered("explain: this model package has no explainer")
        return Task(
            model=model,
            form=_form(scope),
            explain=explain,
            passed_over=passed_over,
            max_batch_bytes=self._max_batch_bytes,
            max_spool_bytes=self._max_spool_bytes,
            count=lambda rows: self._count(model.manifest, rows),
            reader=self._readers,
        )


async def _load() -> None:
    """Import pyarrow, which takes half a second and 60 MB, when it is first needed, beside the event loop."""
    if WORK in sys.modules:
        return
    if importlib.util.find_spec("pyarrow") is None:
        raise NotOffered("scoring files needs the extra plumbline[bulk], not installed here")
    await asyncio.to_thread(importlib.import_module, WORK)


class _Exchange:
    """One request's two directions."""

    def __init__(self, receive: Receive, send: Send, connection: Connection | None, *, timeout_seconds: float) -> None:
        self.inflow, self.outflow = Inflow(), Outflow()
        self._receive = receive
        self._send = send
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        self._left = False
        self._body_is_over = asyncio.Event()

    async def run(self) -> None:
        """Feed and send until the answer is complete. Raises ClientDisconnect."""
        feeding = asyncio.create_task(self._feed())
        try:
            await self._answer()
        finally:
            feeding.cancel()

    def abandon(self) -> None:
        """Let the thread go."""
        self.inflow.abandon()
        self.outflow.abandon()

    async def _feed(self) -> None:
        """Hand on the body, as far as it comes this way; then wait for the caller to leave."""
        more = True
        while more:
            message = await self._next()
            if message is None:
                self.inflow.end(DeadlineExceeded(LATE))
                self._body_is_over.set()
                return
            if message["type"] != "http.request":
                self._leave()
                return
            await self.inflow.feed(message.get("body", b""))
            more = message.get("more_body", False)
        self.inflow.end()
        self._body_is_over.set()
        await self._receive()
        self._leave()

    async def _next(self) -> Message | None:
        """What comes next, None if the caller sends nothing for too long while there is room for it."""
        before = self.inflow.received_bytes
        while True:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    return await self._receive()
            except TimeoutError:
                if before == self.inflow.received_bytes and not self.inflow.full:
                    return None
                before = self.inflow.received_bytes

    def _leave(self) -> None:
        self._left = True
        self._body_is_over.set()
        self.abandon()

    async def _answer(self) -> None:
        try:
            part = await self.outflow.get()
        except Exception as error:
            if self._left:
                raise ClientDisconnect from error
            await self._refuse(error)
            return
        headers = [(b"content-type", ARROW.encode())]
        await self._send_soon({"type": "http.response.start", "status": 200, "headers": headers})
        while part is not None:
            await self._send_soon({"type": "http.response.body", "body": part, "more_body": True})
            part = await self.outflow.get()
        await self._finish()

    async def _refuse(self, error: Exception) -> None:
        from service.bulk.stream import told

        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        response = error_response(status, told(error))
        await self._send_soon({"type": "http.response.start", "status": status, "headers": response.raw_headers})
        await self._send_soon({"type": "http.response.body", "body": response.body, "more_body": True})
        await self._finish()

    async def _finish(self) -> None:
        """End the response after the body, which is read and forgotten where the answer did not need it.

        A connection that is closed while the other side sends would be reset, and the answer lost.
        """
        self.inflow.abandon()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_seconds):
                await self._body_is_over.wait()
        await self._send_soon({"type": "http.response.body", "body": b""})

    async def _send_soon(self, message: dict[str, object]) -> None:
        """Send, unless the caller does not read for too long: then nobody waits for it any more."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._send(message)
        except TimeoutError as error:
            if self._connection is not None:
                self._connection.drop()
                await asyncio.sleep(0)
            raise ClientDisconnect from error
        if self._left:
            raise ClientDisconnect


def _form(scope: Scope) -> str:
    form = None
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type, *parameters = (part.strip().lower() for part in value.decode("latin-1").split(";"))
            form = FORMS.get(media_type)
            for parameter in parameters:
                if parameter.startswith("charset=") and parameter[8:].strip('"') not in CHARSETS:
                    raise UnsupportedMediaType("content-type: text in UTF-8 is expected")
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedMediaType("content-encoding: an unencoded body is expected")
    if form is None:
        raise UnsupportedMediaType(f"content-type: one of {', '.join(FORMS)} is expected")
    return form


def _options(query: bytes) -> tuple[bool, frozenset[str]]:
    """`?explain=true&ignore=name,other` -> whether to explain, and the columns to pass over."""
    explain = False
    passed_over: set[str] = set()
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name == "explain":
            if value not in ("true", "false"):
                raise InvalidRequest("explain", "true or false is expected")
            explain = value == "true"
        elif name == "ignore":
            passed_over.update(part for part in value.split(",") if part)
        else:
            raise InvalidRequest("query", "only explain and ignore are known here")
    return explain, frozenset(passed_over)
