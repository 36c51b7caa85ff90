"""`GET /v1/models/{name}/fairness`: the exact report, from the records, as JSON or as a page for people."""

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import Response

from service.api.outcomes import NO_RECORDS
from service.api.page.fairness import render_fairness
from service.api.reports import SECONDS, ReportThread, read_query, utc, window_seconds
from service.errors import InvalidRequest, NotOffered, UnknownModel
from service.manifest import Manifest
from service.monitor.groups import group_sets
from service.monitor.report import fairness_report
from service.monitor.tally import tally
from service.records import counts
from service.records.records import Records

FAIRNESS_PATH = "/v1/models/{name:model}/fairness"
DEFAULT_WINDOW = "7d"
PARAMETERS = ("window", "sensitive_feature", "version")


class FairnessReports:
    """The endpoint."""

    def __init__(
        self,
        records: Records | None,
        manifest: Callable[[str, str | None], Manifest],
        thread: ReportThread,
        *,
        suppress: bool,
        retention_days: int,
    ) -> None:
        """`manifest(name, version)` is a loaded one, or raises UnknownModel."""
        self._records = records
        self._manifest = manifest
        self._thread = thread
        self._suppress = suppress
        self._retention_days = retention_days

    async def __call__(self, request: Request) -> Response:
        """Answer with the report; `Accept: text/html` gets the page."""
        newest = self._manifest(request.path_params["name"], None)
        query = read_query(request.scope["query_string"], PARAMETERS)
        window = query.get("window", DEFAULT_WINDOW)
        seconds = window_seconds(window, retention_days=self._retention_days)
        if self._records is None:
            raise NotOffered(NO_RECORDS)
        if not newest.sensitive_features:
            raise NotOffered("fairness: this model declares no sensitive features")

        def make() -> dict[str, Any]:
            return self._report(newest, query.get("version"), window, seconds, query.get("sensitive_feature"))

        return await self._thread.answer(request, make, render_fairness)

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
            "start": utc(until - seconds),
            "end": utc(until),
            "attribution_start": utc((until - seconds) // SECONDS["d"] * SECONDS["d"]),
        }
        return report


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
