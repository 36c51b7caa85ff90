"""Many callers, a scraper and a reader of reports at the same time, on a real server: every row once, nothing falls."""

from concurrent.futures import ThreadPoolExecutor

import httpx
from drift_traffic import Sent, bodies
from scraping import scrape
from servers import running

DRIFT = "/v1/models/toy/drift"
CALLERS, ROWS = 6, 300
# Explanations take what predictions leave: on a machine that is busy otherwise, that is little. None may be skipped.
REQUEST_SECONDS, CLIENT_SECONDS = 100, 120


def test_every_row_counts_once_whoever_looks_meanwhile(folder, package, tmp_path) -> None:
    """Each request is sent twice with the same ids; scrapes are monotonic, reports too, and the last ones complete."""
    settings = {"suppress_small_cells": "false", "explain_sample_ratio": 0, "request_timeout_seconds": REQUEST_SECONDS}
    with running(tmp_path / "server.log", folder.parent.parent, **settings) as server:

        def call(number):
            sent = Sent(package)
            with httpx.Client(base_url=server.url, trust_env=False, timeout=CLIENT_SECONDS) as http:
                for place, request in enumerate(bodies(ROWS, 1, 9, 20, seed=number)):
                    ids = [f"{number}-{place}-{row}" for row in range(len(request["instances"]))]
                    first, again = (
                        http.post("/v1/models/toy:predict", json=request | {"ids": ids, "explain": place % 2 == 0})
                        for _ in range(2)
                    )
                    assert again.content == first.content
                    sent.add(request, first)
            return sent

        def look(read):
            seen = []
            with httpx.Client(base_url=server.url, trust_env=False, timeout=CLIENT_SECONDS) as http:
                while not all(caller.done() for caller in callers):
                    seen.append(read(http))
            return seen

        def counters(http):
            found = scrape(http).samples
            return {key: n for key, n in found.items() if key[0].endswith("_total") and "process" not in key[0]}

        with ThreadPoolExecutor(CALLERS + 2) as executor:
            callers = [executor.submit(call, number) for number in range(CALLERS)]
            scrapes = executor.submit(look, counters)
            reports = executor.submit(look, lambda http: http.get(DRIFT).json())
            everything = Sent(package)
            for caller in callers:
                for name in ("instances", "groups", "scores", "labels", "values"):
                    getattr(everything, name).extend(getattr(caller.result(), name))
        last = scrape(server.http)
        report = server.http.get(DRIFT).json()
        for before, after in zip(scrapes.result(), [*scrapes.result()[1:], last.samples], strict=True):
            assert not [key for key, number in before.items() if after[key] < number]
        totals = [found["n"] for found in (*reports.result(), report)]
        assert totals == sorted(totals)
        assert report["n"] == CALLERS * ROWS
        for number, entry in enumerate(report["features"]):
            counts = everything.of_feature(number)
            assert [part["n"] for part in entry["bins"]] == counts.tolist()
            series = last.of("plumbline_feature_observations_total", **package.own, feature=entry["feature"])
            assert [count for _, count in series] == counts.tolist()
        explained = last.value("plumbline_attribution_magnitude_rows_total", **package.model)
        assert len(everything.values) == explained == report["attribution"]["n"]
        assert last.value("plumbline_monitor_failures_total") == 0
        assert "Traceback" not in server.log
