"""The HTTP server's life: uvicorn, and what SIGTERM means here (unready, drain, exit)."""

import asyncio
import shlex
import signal
import socket
import sys
from types import FrameType
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.openapi import example
from service.logs import is_console
from service.runtime.repository import Repository
from service.settings import Settings


class JoinedWrites:
    """A transport that sends a response's head together with the start of its body.

    Uvicorn writes them apart, and uvloop makes a system call and a packet of each: a tenth of the time of a small
    request. Everything but `write` and `close` is the underlying transport's.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send `data`; a response's head waits for its body, at most until the end of this turn of the loop."""
        if not self._head and data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(self._head + data)
            self._head = b""

    def close(self) -> None:
        """Send what waits, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""


class JoinedWritesProtocol(HttpToolsProtocol):
    """Uvicorn's protocol over `JoinedWrites`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wrap the transport."""
        super().connection_made(JoinedWrites(transport, self.loop))  # type: ignore[arg-type]


def greeting(repository: Repository, address: str) -> str:
    """What a newcomer may do next: read the documentation, post a real row to the smallest model."""
    lines = [f"\nDocumentation: {address}/docs"]
    if reasons := repository.why_not_ready():
        lines.append("Not ready: " + "; ".join(reasons))
    if repository.models:
        smallest = min(map(repository.latest, repository.models), key=lambda model: len(model.manifest.features))
        body = shlex.quote(orjson.dumps(example(smallest)).decode())
        path = f"{address}/v1/models/{smallest.manifest.name}:predict"
        lines.append(f"Try:\n  curl {path} -H 'content-type: application/json' -d {body}\n")
    return "\n".join(lines)


class Server(uvicorn.Server):
    """Uvicorn that first turns unready and keeps answering while load balancers take notice."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._service = app.state.service
        self._drain_seconds = settings.drain_seconds
        self._greet = is_console(settings.log_format)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                http=JoinedWritesProtocol,
                timeout_graceful_shutdown=settings.shutdown_seconds,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then tell a person what to try."""
        await super().startup(sockets)
        if self._greet and self.started:
            port = next(s.getsockname()[1] for server in self.servers for s in server.sockets)
            print(greeting(self._service.repository, f"http://{self.config.host}:{port}"), file=sys.stderr, flush=True)  # noqa: T201 - for a person, not for the log

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First SIGTERM: not ready at once, the port closes after the drain time. Anything else: uvicorn's way."""
        drains = sig == signal.SIGTERM and self._drain_seconds > 0 and not self._service.draining
        self._service.draining = True
        if not drains:
            super().handle_exit(sig, frame)
            return
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, self._drain_seconds, super().handle_exit, sig, frame)
