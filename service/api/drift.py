"""`GET /v1/models/{name}/drift`: the exact report, from the records, as JSON or as a page for people."""

import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.api.outcomes import NO_RECORDS
from service.api.page.drift import render_drift
from service.api.recording import Recorder
from service.api.reports import ReportThread, read_query, utc, window_seconds
from service.errors import NotOffered
from service.monitor.drift_counters import DriftLayout
from service.monitor.drift_report import drift_report
from service.monitor.report import fairness_report
from service.monitor.slots import SLOT_SECONDS
from service.monitor.tally import tally
from service.records import counts
from service.records.drift import drift_sums
from service.records.records import Records
from service.runtime.repository import Model

DRIFT_PATH = "/v1/models/{name:model}/drift"
DEFAULT_WINDOW = "24h"
PARAMETERS = ("window", "version")


class DriftReports:
    """The endpoint: of a version that is served, for the bins stand in its package."""

    def __init__(
        self,
        records: Records | None,
        recorder: Recorder,
        model: Callable[[str, str | None], Model],
        thread: ReportThread,
        *,
        suppress: bool,
        retention_days: int,
    ) -> None:
        """`model(name, version)` is a loaded one, or raises UnknownModel."""
        self._records = records
        self._recorder = recorder
        self._model = model
        self._thread = thread
        self._suppress = suppress
        self._retention_days = retention_days

    async def __call__(self, request: Request) -> Response:
        """Answer with the report; `Accept: text/html` gets the page."""
        query = read_query(request.scope["query_string"], PARAMETERS)
        model = self._model(request.path_params["name"], query.get("version"))
        window = query.get("window", DEFAULT_WINDOW)
        seconds = window_seconds(window, retention_days=self._retention_days)
        if self._records is None:
            raise NotOffered(NO_RECORDS)
        watched = self._recorder.watched(model)
        if watched.counters.drift is None:
            raise NotOffered("drift: this model package has no reference to compare with")
        layout, package = watched.counters.drift.layout, watched.package

        def make() -> dict[str, Any]:
            return self._report(layout, package, window, seconds)

        return await self._thread.answer(request, make, render_drift)

    def _report(self, layout: DriftLayout, package: str, window: str, seconds: float) -> dict[str, Any]:
        """In the thread: read, compute. The window begins with a whole slot, for outcomes too."""
        assert self._records is not None
        engine, manifest = self._records.engine, layout.manifest
        until = time.time()
        since = (until - seconds) // SLOT_SECONDS * SLOT_SECONDS
        ends = (until // SLOT_SECONDS + 1) * SLOT_SECONDS  # what lies beyond was counted by a clock that was ahead
        sums = drift_sums(engine, package, size=layout.size, since=since, until=ends)
        found = counts.cell_counts(engine, manifest.name, [package], since=since, until=until)
        fairness = fairness_report(manifest, tally(manifest, found), suppress=self._suppress)
        report = drift_report(layout, sums, fairness, suppress=self._suppress)
        report["window"] = {"name": window, "start": utc(since), "end": utc(until)}
        return report
