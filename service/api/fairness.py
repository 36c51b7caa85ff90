"""`GET /v1/models/{name}/fairness`: the exact report, from the records, as JSON or as a page for people.

Made in a thread, one at a time and with a time limit: predictions go on meanwhile.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.api.http_errors import JSONResponse
from service.api.outcomes import NO_RECORDS
from service.api.page.render import CONTENT_SECURITY_POLICY, render
from service.errors import DeadlineExceeded, InferenceError, InvalidRequest, NotOffered, QueueFull, UnknownModel
from service.manifest import Manifest
from service.monitor.groups import group_sets
from service.monitor.report import fairness_report
from service.monitor.tally import tally
from service.records import counts
from service.records.records import Records

FAIRNESS_PATH = "/v1/models/{name:model}/fairness"
DEFAULT_WINDOW = "7d"
WINDOW = re.compile(r"([1-9][0-9]{0,3})([hd])")
SECONDS = {"h": 3600, "d": 86_400}
PARAMETERS = ("window", "sensitive_feature", "version")
MOST_WAITING = 8
# Of the time for a report, what saving the newest sums may take.
BEFORE_SHARE = 0.3


class FairnessReports:
    """The endpoint and its thread."""

    def __init__(
        self,
        records: Records | None,
        manifest: Callable[[str, str | None], Manifest],
        before: Callable[[], Awaitable[None]],
        *,
        suppress: bool,
        retention_days: int,
        timeout_seconds: float,
    ) -> None:
        """`manifest(name, version)` is a loaded one, or raises UnknownModel; `before` is done before each report."""
        self._records = records
        self._manifest = manifest
        self._before = before
        self._suppress = suppress
        self._retention_seconds = retention_days * SECONDS["d"]
        self._timeout_seconds = timeout_seconds
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="plumbline-report")
        self._waiting = 0

    async def __call__(self, request: Request) -> Response:
        """Answer with the report; `Accept: text/html` gets the page."""
        name = request.path_params["name"]
        newest = self._manifest(name, None)
        query = _query(request.scope["query_string"])
        window = query.get("window", DEFAULT_WINDOW)
        seconds = self._window_seconds(window)
        if self._records is None:
            raise NotOffered(NO_RECORDS)
        if not newest.sensitive_features:
            raise NotOffered("fairness: this model declares no sensitive features")
        if self._waiting >= MOST_WAITING:
            raise QueueFull(f"{MOST_WAITING} reports are being made already", retry_after_seconds=1.0)
        html = _wants_html(request)

        def make() -> Response:
            report = self._report(newest, query.get("version"), window, seconds, query.get("sensitive_feature"))
            if html:
                return HTMLResponse(render(report), headers={"content-security-policy": CONTENT_SECURITY_POLICY})
            return JSONResponse(report)

        return await self._run(make)

    async def _run(self, make: Callable[[], Response]) -> Response:
        self._waiting += 1
        deadline = time.monotonic() + self._timeout_seconds
        # A report without what was explained just now is a report.
        try:
            with contextlib.suppress(InferenceError, TimeoutError):
                await asyncio.wait_for(self._before(), BEFORE_SHARE * self._timeout_seconds)
        except BaseException:
            self._done()
            raise
        running = asyncio.get_running_loop().run_in_executor(self._executor, make)
        running.add_done_callback(lambda _: self._done())
        try:
            return await asyncio.wait_for(asyncio.shield(running), max(0.0, deadline - time.monotonic()))
        except TimeoutError as error:
            raise DeadlineExceeded("the report was not made in time; ask for a shorter window") from error

    def _done(self) -> None:
        self._waiting -= 1

    def _report(
        self, newest: Manifest, version: str | None, window: str, seconds: float, feature: str | None
    ) -> dict[str, Any]:
        """In the thread: read, count, compute."""
        assert self._records is not None
        engine = self._records.engine
        manifest, packages = _package(engine, newest, version)
        declared = [made.name for made in group_sets(manifest)]
        if feature is not None and feature not in declared:
            raise InvalidRequest("sensitive_feature", f"one of {', '.join(declared) or 'none'} is expected")
        until = time.time()
        found = counts.cell_counts(engine, manifest.name, packages, since=until - seconds, until=until)
        sums = counts.attribution_sums(engine, packages, since=until - seconds)
        report = fairness_report(manifest, tally(manifest, found, sums), suppress=self._suppress)
        if feature is not None:
            report["sensitive_features"] = [f for f in report["sensitive_features"] if f["name"] == feature]
            report["state"] = report["sensitive_features"][0]["state"]
        report["window"] = {
            "name": window,
            "start": _utc(until - seconds),
            "end": _utc(until),
            "attribution_start": _utc((until - seconds) // SECONDS["d"] * SECONDS["d"]),
        }
        return report

    def _window_seconds(self, window: str) -> float:
        match = WINDOW.fullmatch(window)
        seconds = int(match[1]) * SECONDS[match[2]] if match else 0
        if not 0 < seconds <= self._retention_seconds:
            days = self._retention_seconds // SECONDS["d"]
            raise InvalidRequest("window", f"hours or days up to {days}d are expected, such as 24h or 7d")
        return float(seconds)

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _package(engine: Engine, newest: Manifest, version: str | None) -> tuple[Manifest, list[str]]:
    """The manifest of this version, the newest without one, and the keys of the packages that ran under it.

    A version that is not served any more is known from the records. Raises UnknownModel.
    """
    found = counts.versions(engine, newest.name)
    wanted = newest.version if version is None else version
    packages = found.get(wanted, [])
    if wanted == newest.version:
        return newest, [package for package, _ in packages]
    if not packages:
        raise UnknownModel(f"version: no prediction of such a version of {newest.name!r} is recorded")
    return Manifest.model_validate_json(packages[-1][1]), [package for package, _ in packages]


def _query(query_string: bytes) -> dict[str, str]:
    """The known parameters, each at most once."""
    pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)
    made = dict(pairs)
    if len(made) < len(pairs) or not made.keys() <= set(PARAMETERS):
        raise InvalidRequest("query", f"each of {', '.join(PARAMETERS)} at most once is expected")
    return made


def _wants_html(request: Request) -> bool:
    """Whether the caller names HTML before JSON, as browsers do."""
    accepted = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")]
    for media_type in accepted:
        if media_type in ("text/html", "application/xhtml+xml"):
            return True
        if media_type in ("application/json", "*/*"):
            return False
    return False


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
