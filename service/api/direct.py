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

# Paths whose route is remembered; more than a service has models and versions, and callers may invent others.
MOST_KNOWN_PATHS = 256


class Direct:
    """Pure ASGI middleware: calls the first of `routes`, all POST, that matches the path, else passes it on."""

    def __init__(self, app: ASGIApp, *, routes: Sequence[Route]) -> None:
        self._app = app
        self._routes = routes
        self._known: dict[str, tuple[Route, Scope]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Errors of ours become responses here, as the framework's layer that does so is skipped."""
        found = self._find(scope) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        route, child_scope = found
        scope["route"] = route
        scope.update(child_scope)
        try:
            await route.app(scope, receive, send)
        except PlumblineError as error:
            response = await plumbline_error(Request(scope), error)
            await response(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[Route, Scope] | None:
        if scope["method"] != "POST":
            return None
        path = scope["path"]
        if path not in self._known:
            for route in self._routes:
                match, child_scope = route.matches(scope)
                if match is Match.FULL:
                    if len(self._known) >= MOST_KNOWN_PATHS:
                        self._known.clear()
                    self._known[path] = route, child_scope
                    break
            else:
                return None
        return self._known[path]
