"""The short way to the busiest endpoints, past the framework's router and its layers.

They stand in the framework's own routes too, which answer a wrong method; this only saves the walk there and back,
a third of the time of a small request.
"""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.http_errors import plumbline_error
from service.errors import PlumblineError


class Direct:
    """Pure ASGI middleware: calls the first of `routes` that matches path and method, else passes the request on."""

    def __init__(self, app: ASGIApp, *, routes: Sequence[Route]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Errors of ours become responses here, as the framework's layer that does so is skipped."""
        if scope["type"] == "http":
            for route in self._routes:
                match, child_scope = route.matches(scope)
                if match is Match.NONE:
                    continue
                scope["route"] = route
                if match is Match.PARTIAL:
                    break
                scope.update(child_scope)
                try:
                    await route.app(scope, receive, send)
                except PlumblineError as error:
                    response = await plumbline_error(Request(scope), error)
                    await response(scope, receive, send)
                return
        await self._app(scope, receive, send)
