"""What the reports have in common: their query, their window, and the thread that they are made in.

One at a time and with a time limit: predictions go on meanwhile.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.api.http_errors import JSONResponse
from service.api.page.document import CONTENT_SECURITY_POLICY
from service.errors import DeadlineExceeded, InferenceError, InvalidRequest, QueueFull

WINDOW = re.compile(r"([1-9][0-9]{0,3})([hd])")
SECONDS = {"h": 3600, "d": 86_400}
MOST_WAITING = 8
# Of the time for a report, what saving the newest sums may take.
BEFORE_SHARE = 0.3


class ReportThread:
    """Makes reports one after the other."""

    def __init__(self, before: Callable[[], Awaitable[None]], *, timeout_seconds: float) -> None:
        """`before` is done before each report."""
        self._before = before
        self._timeout_seconds = timeout_seconds
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="plumbline-report")
        self._waiting = 0

    async def answer(
        self, request: Request, make: Callable[[], dict[str, Any]], render: Callable[[dict[str, Any]], str]
    ) -> Response:
        """The report as JSON, or as the page that `render` makes of it where the caller wants HTML."""
        if self._waiting >= MOST_WAITING:
            raise QueueFull(f"{MOST_WAITING} reports are being made already", retry_after_seconds=1.0)
        html = _wants_html(request)

        def respond() -> Response:
            report = make()
            if html:
                return HTMLResponse(render(report), headers={"content-security-policy": CONTENT_SECURITY_POLICY})
            return JSONResponse(report)

        return await self._run(respond)

    async def _run(self, respond: Callable[[], Response]) -> Response:
        self._waiting += 1
        deadline = time.monotonic() + self._timeout_seconds
        # A report without what was counted just now is a report.
        try:
            with contextlib.suppress(InferenceError, TimeoutError):
                await asyncio.wait_for(self._before(), BEFORE_SHARE * self._timeout_seconds)
        except BaseException:
            self._done()
            raise
        running = asyncio.get_running_loop().run_in_executor(self._executor, respond)
        running.add_done_callback(lambda _: self._done())
        try:
            return await asyncio.wait_for(asyncio.shield(running), max(0.0, deadline - time.monotonic()))
        except TimeoutError as error:
            raise DeadlineExceeded("the report was not made in time; ask for a shorter window") from error

    def _done(self) -> None:
        self._waiting -= 1

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def read_query(query_string: bytes, parameters: Sequence[str]) -> dict[str, str]:
    """The known parameters, each at most once."""
    pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)
    made = dict(pairs)
    if len(made) < len(pairs) or not made.keys() <= set(parameters):
        raise InvalidRequest("query", f"each of {', '.join(parameters)} at most once is expected")
    return made


def window_seconds(window: str, *, retention_days: int) -> float:
    """How long a window such as 24h or 7d is. Raises InvalidRequest beyond what the records keep."""
    match = WINDOW.fullmatch(window)
    seconds = int(match[1]) * SECONDS[match[2]] if match else 0
    if not 0 < seconds <= retention_days * SECONDS["d"]:
        raise InvalidRequest("window", f"hours or days up to {retention_days}d are expected, such as 24h or 7d")
    return float(seconds)


def utc(seconds: float) -> str:
    """A moment as reports write it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _wants_html(request: Request) -> bool:
    """Whether the caller names HTML before JSON, as browsers do."""
    accepted = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")]
    for media_type in accepted:
        if media_type in ("text/html", "application/xhtml+xml"):
            return True
        if media_type in ("application/json", "*/*"):
            return False
    return False
