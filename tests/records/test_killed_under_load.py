"""`kill -9` under load: every prediction and every outcome that was acknowledged is in the database, and once."""

import asyncio
import signal
import time

import pytest
import toy
from auditlog import AuditLog
from callers import Callers, open_loop

REQUESTS_PER_SECOND = 500
ACKNOWLEDGED_BEFORE_KILLS = (40, 400, 1100)
# Bounds of one run, whatever the machine.
MOST_REQUESTS = 4000
MOST_SECONDS = 15


class Ledger:
    """What the callers of one server know: what they sent, and what was acknowledged."""

    def __init__(self):
        self.sent = set()
        self.predicted = set()
        self.labelled = set()


async def load(server, ledger, *, kill, kill_after):
    """Callers who post a prediction each and every other one its outcome; the server is killed under them."""
    deadline = time.monotonic() + MOST_SECONDS
    killed = False

    async with Callers(server.port) as callers:

        async def call(number):
            nonlocal killed
            id_ = f"{kill}-{number}"
            ledger.sent.add(id_)
            answer = await callers.predict(toy.request({"balance": number % 7}, ids=[id_]))
            if answer is None or answer[0] != 200:
                return
            ledger.predicted.add(answer[1]["predictions"][0]["id"])
            if len(ledger.predicted) >= kill_after and not killed:
                killed = True
                server.process.kill()
            if number % 2 == 0:
                answer = await callers.outcomes([{"id": id_, "label": "fraud"}])
                if answer is not None and answer[0] == 200:
                    assert answer[1]["joined"] == 1
                    ledger.labelled.add(id_)

        await open_loop(
            call, rate=REQUESTS_PER_SECOND, most=MOST_REQUESTS, until=lambda: killed or time.monotonic() > deadline
        )


@pytest.fixture
def note_rate(request, record_testsuite_property):
    """Note the rate in the report of the test run (`--junitxml`)."""
    name = request.node.name
    return lambda kill, rate: record_testsuite_property(f"{name}, kill {kill}, acknowledged per second", rate)


def test_what_was_acknowledged_survives(start, url, manifests, note_rate):
    """At three moments, each in a process that follows one that was killed. Sent again to a last one, everything is
    there, and once."""
    ledger = Ledger()
    for kill, kill_after in enumerate(ACKNOWLEDGED_BEFORE_KILLS):
        server, before, began = start(url), len(ledger.predicted), time.monotonic()
        asyncio.run(load(server, ledger, kill=kill, kill_after=before + kill_after))
        note_rate(kill, round((len(ledger.predicted) - before) / (time.monotonic() - began)))
        assert server.process.wait() == -signal.SIGKILL
        with AuditLog.opened(url, manifests) as log:
            stored = log.stored()
        assert ledger.predicted <= stored.keys() <= ledger.sent
        assert ledger.labelled <= {id_ for id_, row in stored.items() if row.actual == "fraud"}

    server, ids = start(url), sorted(ledger.sent)
    for first in range(0, len(ids), 1000):
        part = ids[first : first + 1000]
        rows = [{"balance": int(id_.partition("-")[2]) % 7} for id_ in part]
        assert server.predict(toy.request(*rows, ids=part)).status_code == 200
        outcomes = [{"id": id_, "label": "fraud"} for id_ in part]
        counts = server.http.post("/v1/models/toy:outcomes", json={"outcomes": outcomes}).json()
        assert counts["joined"] + counts["duplicate"] == len(part)
        assert counts["duplicate"] >= len(ledger.labelled & set(part))
    with AuditLog.opened(url, manifests) as log:
        stored = log.stored()
    assert stored.keys() == ledger.sent
    assert {row.actual for row in stored.values()} == {"fraud"}
