"""The outermost layer: every request is counted, timed and logged once, and no exception leaves it.

Log lines carry names from the code and the manifests, sizes and times; never a path, a key or a value that a caller
sent.
"""

import asyncio
import logging
import time
import traceback
from collections.abc import Sequence

import structlog
from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.http_errors import INTERNAL_ERROR, STATUS, error_response
from service.monitor.metrics import Metrics

log = structlog.get_logger("service.requests")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"
LEVELS = {4: logging.WARNING, 5: logging.ERROR}
# What proxies write down for a caller who went away before the answer.
CLIENT_CLOSED_REQUEST = 499


class Observe:
    """Pure ASGI middleware around everything else."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        log_requests: bool,
        routes: Sequence[BaseRoute],
        busiest: Sequence[Route],
    ) -> None:
        """`routes` name what was asked for; the series of the `busiest`, all POST, exist from the start."""
        self._app = app
        self._metrics = metrics
        self._routes = routes
        self._log_requests = log_requests
        self._counters: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._in_flight = 0
        metrics.in_flight.set_function(lambda: self._in_flight)
        for route in busiest:
            for status in (200, *sorted({*STATUS.values()})):
                self._series(route.path_format, "POST", status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass `scope` on; count what came of it, whatever came of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0
        method = scope["method"]
        if method == "HEAD":  # whatever answers GET answers HEAD, without the body
            scope = {**scope, "method": "GET"}

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        if self._log_requests:
            scope["plumbline.log"] = {}
        self._in_flight += 1
        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
        except asyncio.CancelledError:  # at the shutdown, when the time to finish is over
            if status == 0:
                await error_response(503, "the service is shutting down", {"retry-after": "1"})(scope, receive, watch)
            else:
                status = CLIENT_CLOSED_REQUEST
            raise
        except Exception as error:  # noqa: BLE001 - the last resort; nothing may reach the server, which would log the values
            log.error("request failed", error=type(error).__name__, where=_frames(error))
            if status == 0:
                await error_response(500, INTERNAL_ERROR)(scope, receive, watch)
        finally:
            self._in_flight -= 1
            self._finish(scope, method if method in METHODS else "other", status or 500, time.perf_counter() - start)

    def _series(self, path: str, method: str, status: int) -> tuple[Counter, Histogram]:
        key = (path, method, status)
        if key not in self._counters:
            self._counters[key] = (
                self._metrics.requests.labels(path, method, str(status)),
                self._metrics.latency.labels(path),
            )
        return self._counters[key]

    def _path(self, scope: Scope) -> str:
        """The route's template, never the path that was sent."""
        route = scope.get("route")
        if route is None:  # the framework names its own routes only; a mounted one has moved the root
            asked = {**scope, "root_path": scope.get("app_root_path", "")}
            matching = (route for route in self._routes if route.matches(asked)[0] is not Match.NONE)
            route = next(matching, None)
        return getattr(route, "path_format", getattr(route, "path", UNMATCHED))

    def _finish(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        path = self._path(scope)
        counter, histogram = self._series(path, method, status)
        counter.inc()
        histogram.observe(seconds)
        if self._log_requests or status >= 400:
            log.log(
                LEVELS.get(status // 100, logging.INFO),
                "request",
                route=path,
                method=method,
                status=status,
                seconds=round(seconds, 6),
                **scope.get("plumbline.log", {}),
            )


def _frames(error: BaseException) -> list[str]:
    """Where `error` was raised: file, line and function, without its message, which may quote a value."""
    return [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)][-5:]
