"""The fairness monitor's ASGI middleware: hands each finished inference on, after the response has left.

It never parses a body: the endpoint leaves what was decided in the request's scope.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.monitor.monitor import INFERENCE, FairnessMonitor


class FairnessMiddleware:
    """Pure ASGI middleware around whatever answers predictions."""

    def __init__(self, app: ASGIApp, monitor: FairnessMonitor) -> None:
        self._app = app
        self._monitor = monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer first. What was recorded counts also if the caller did not wait for it."""
        try:
            await self._app(scope, receive, send)
        finally:
            inference = scope.pop(INFERENCE, None)
            if inference is not None:
                self._monitor.take(inference)
