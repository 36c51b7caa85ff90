"""The HTTP server's life: uvicorn, and what SIGTERM means here (unready, drain, exit)."""

import asyncio
import shlex
import signal
import socket
import sys
from functools import partial
from types import FrameType

import orjson
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.openapi import example
from service.logs import is_console
from service.protocol import Protocol
from service.runtime.repository import Repository
from service.settings import Settings


def _entry(app: FastAPI) -> ASGIApp:
    """`app`, without two calls that pass a request on to what is called here at once."""

    async def entry(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or app.middleware_stack is None:
            await app(scope, receive, send)
            return
        scope["app"] = app
        await app.middleware_stack(scope, receive, send)

    return entry


def greeting(repository: Repository, address: str) -> str:
    """What a newcomer may do next: read the documentation, post a real row to the smallest model."""
    lines = [f"\nDocumentation: {address}/docs"]
    if reasons := repository.why_not_ready():
        lines.append("Not ready: " + "; ".join(reasons))
    if models := [model for model in map(repository.default, repository.models) if model is not None]:
        smallest = min(models, key=lambda model: len(model.manifest.features))
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
                _entry(app),
                host=settings.host,
                port=settings.port,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                http=partial(Protocol, receive_seconds=settings.request_timeout_seconds),  # type: ignore[arg-type]
                ws="none",
                timeout_graceful_shutdown=settings.shutdown_seconds,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then tell a person what to try."""
        if not self._greet and hasattr(signal, "SIGHUP"):  # to a console's process it says that the console has gone
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._service.reload)
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
