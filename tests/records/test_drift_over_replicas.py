"""The drift report is about all replicas and outlives each of them: what was counted is in the records, once."""

import time
from contextlib import ExitStack

import pytest
import toy
from drift_traffic import Sent, bodies, body, people, post, rows
from drift_truth import Package
from explained import add_explainer, linear_explainer
from inprocess import serving
from referenced import add_reference
from scraping import scrape
from servers import eventually
from sqlalchemy import select

from service import upkeep
from service.errors import RecordsUnavailable
from service.monitor.slots import SLOT_SECONDS
from service.records import database
from service.records.drift import SaveDriftCounts
from service.records.tables import drift_counts, predictions

DRIFT = "/v1/models/toy/drift"
CLOCK = "service.monitor.drift_counters.time.time"


@pytest.fixture
def folder(tmp_path):
    """A package with a reference and an explainer."""
    made = toy.write_toy(tmp_path / "models")
    add_explainer(made, linear_explainer())
    return add_reference(made)


@pytest.fixture
def package(folder):
    """What its files say."""
    return Package(folder)


@pytest.fixture
def replica(folder, url):
    """A replica in this process, to be entered; all of them use one database."""

    def make(**settings):
        chosen = {"device": "cpu", "explain_sample_ratio": 0, "suppress_small_cells": False, "records_url": url}
        return serving(folder.parent.parent, **chosen | settings)

    return make


@pytest.fixture
def serve(replica):
    """Start one that stays until the end."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(replica(**settings))


@pytest.fixture
def stored(url):
    """The rows of a table."""
    engine = database.make_engine(database.parse_url(url), sync="normal")

    def read(table):
        with engine.connect() as connection:
            return connection.execute(select(table)).all()

    yield read
    engine.dispose()


def report(client, **query):
    response = client.get(DRIFT, params=query)
    assert response.status_code == 200, response.text
    return response.json()


def assert_about(found, *parts):
    """Everything in a report adds up over what was sent."""
    package = parts[0].package
    assert found["n"] == sum(len(sent.scores) for sent in parts)
    for number, entry in enumerate(found["features"]):
        counts = sum(sent.of_feature(number) for sent in parts)
        assert [part["n"] for part in entry["bins"]] == counts.tolist(), entry["feature"]
    counts = sum(sent.of_scores() for sent in parts)
    assert [part["n"] for part in found["scores"][0]["bins"]] == counts.tolist()
    for part in found["group_scores"]:
        for group in part["groups"]:
            mine = sum(len(sent.mine(part["sensitive_feature"], group["group"])) for sent in parts)
            assert group["n"] == mine
    assert found["attribution"]["n"] == sum(len(sent.values) for sent in parts)
    assert found["reference"]["id"] == package.id


def test_either_replica_reports_the_sum(serve, package) -> None:
    """Whichever answered the rows; what the other has counted is there once it was saved."""
    first, second = serve(), serve()
    one = post(first, Sent(package), *bodies(40, 8, seed=1))
    assert_about(report(first), one)
    other = post(second, Sent(package), *bodies(25, 5, seed=2))
    assert_about(report(second), one, other)
    assert_about(report(first), one, other)
    post(first, one, body(rows(10, seed=3), people(10, seed=3), explain=True))
    assert_about(report(first), one, other)
    assert_about(report(second), one, other)
    assert [scrape(client).sum("plumbline_score_observations_total") for client in (first, second)] == [50, 25]


def test_a_report_survives_a_restart(replica, package) -> None:
    """What nobody asked a report of is saved at the end; a new replica counts on in its own row."""
    parts = []
    for seed in (1, 2, 3):
        with replica() as client:
            parts.append(post(client, Sent(package), *bodies(30, 10, seed=seed)))
    with replica() as client:
        assert_about(report(client), *parts)
        assert scrape(client).sum("plumbline_score_observations_total") == 0


def test_what_is_recorded_after_the_response_is_saved_at_the_end(replica, package, stored) -> None:
    """Rows whose records were still being written when the service was told to stop are in the report like others."""
    with replica(audit="after_response") as client:
        requests = [request | {"explain": True} for request in bodies(400, 20)]
        sent = Sent(package)
        for request, response in zip(requests, client.together(*requests), strict=True):
            sent.add(request, response)
    assert len(stored(predictions)) == 400
    with replica() as client:
        assert_about(report(client), sent)


def test_old_slots_leave_the_window(serve, package, monkeypatch) -> None:
    """Counted two days ago, yesterday and now, by two replicas."""
    replicas, sent, now = (serve(), serve()), {}, time.time()
    for days in (2, 1, 0):
        with monkeypatch.context() as patch:
            patch.setattr(CLOCK, lambda days=days: now - days * 86_400 - 3600 * bool(days))
            for number, client in enumerate(replicas):
                seed = 10 * days + number
                sent[days, number] = post(client, Sent(package), *bodies(20 + seed, 10, seed=seed))
                scrape(client)
    for client in replicas:
        report(client)  # saves what it has
    for client in replicas:
        for window, days in (("1h", 1), ("24h", 1), ("2d", 2), ("3d", 3)):
            assert_about(report(client, window=window), *(sent[day, one] for day in range(days) for one in (0, 1)))


def test_slots_that_ended_are_saved_although_nobody_asked(serve, package, stored, monkeypatch) -> None:
    """Each in a row of its own, by the upkeep."""
    monkeypatch.setattr(upkeep, "SAVE_SECONDS", 0.02)
    client, now, sent = serve(), (time.time() // SLOT_SECONDS - 2) * SLOT_SECONDS, Sent(package)
    for number in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(CLOCK, lambda number=number: now + number * SLOT_SECONDS + 1)
            post(client, sent, body(rows(10, seed=number), people(10, seed=number)))
            scrape(client)
    slots = [now + number * SLOT_SECONDS for number in range(3)]

    def saved():
        client.wait()
        return sorted(row.slot for row in stored(drift_counts)) == slots

    assert eventually(saved)
    assert_about(report(client, window="180d"), sent)


def test_counts_that_could_not_be_saved_are_saved_later(serve, package, stored, monkeypatch) -> None:
    """A report meanwhile shows what the records have; nothing is lost, nothing counts twice."""
    client, sent = serve(), Sent(package)
    post(client, sent, *bodies(20, 10))
    assert_about(report(client), sent)
    missing = Sent(package)
    with monkeypatch.context() as patch:

        def down(*_):
            raise RecordsUnavailable("records: the database does not answer")

        patch.setattr(SaveDriftCounts, "run", down)
        post(client, missing, *bodies(30, 10, seed=4))
        assert report(client)["n"] == 20

    def saved():
        client.wait()  # it looks every second whether the database is back
        return report(client)["n"] == 50

    assert eventually(saved)
    assert_about(report(client), sent, missing)
    assert len(stored(drift_counts)) <= 2  # a slot may have ended meanwhile


def test_reports_at_the_same_time_save_and_count_once(serve, package) -> None:
    """Five that ask at once while rows come in."""
    client = serve()
    sent = Sent(package)
    requests = bodies(60, 10)

    pairs = [(("POST", "/v1/models/toy:predict", request), ("GET", DRIFT, None)) for request in requests]
    answers = client.at_once(*(one for pair in pairs for one in pair))
    for request, response in zip(requests, answers[::2], strict=True):
        sent.add(request, response)
    assert {response.status_code for response in answers[1::2]} == {200}
    assert_about(report(client), sent)


def test_slots_past_their_retention_leave_the_records(serve, package, stored, monkeypatch) -> None:
    """When a replica starts, and then every hour."""
    now = time.time()
    old, young = serve(), Sent(package)
    with monkeypatch.context() as patch:
        patch.setattr(CLOCK, lambda: now - 5 * 86_400)
        post(old, Sent(package), *bodies(20, 10))
        scrape(old)
    post(old, young, *bodies(10, 10, seed=2))
    assert report(old, window="180d")["n"] == 30
    client = serve(retention_days=2)

    def pruned():
        client.wait()
        return all(row.slot > now - 2 * 86_400 for row in stored(drift_counts))

    assert eventually(pruned)
    assert_about(report(client, window="2d"), young)
    assert client.get(DRIFT, params={"window": "3d"}).status_code == 400


def test_real_servers_on_one_database(start, folder, package, url) -> None:
    """Two processes and a restart, with the settings that a service has."""
    models, settings = folder.parent.parent, {"suppress_small_cells": "false", "explain_sample_ratio": 0}
    first, second = start(url, models, **settings), start(url, models, **settings)
    sent = [
        post(server, Sent(package), *bodies(50, 10, seed=seed)) for seed, server in enumerate((first, second), start=1)
    ]
    for server in (first, second):
        assert server.http.get(DRIFT).status_code == 200
    first.stop()
    third = start(url, models, **settings)
    sent.append(post(third, Sent(package), *bodies(20, 20, seed=9)))
    for server in (third, second):
        assert eventually(lambda server=server: server.http.get(DRIFT).json()["n"] == 120)
        assert_about(server.http.get(DRIFT).json(), *sent)


@pytest.mark.parametrize("audit", ["before_response", "after_response"])
def test_rows_while_the_database_is_down(start, folder, package, postgresql, postgresql_server, audit) -> None:
    """What was answered is counted, now or later, in series and in the report; what was refused never is."""
    settings = {"suppress_small_cells": "false", "explain_sample_ratio": 0, "audit": audit}
    server, sent = start(postgresql, folder.parent.parent, **settings), Sent(package)
    post(server, sent, *bodies(30, 10, seed=1))
    with postgresql_server.stopped():
        for request in bodies(30, 10, seed=2):
            response = server.predict(request)
            if audit == "after_response":
                sent.add(request, response)
            assert response.status_code == (200 if audit == "after_response" else 503)
        assert server.http.get(DRIFT).status_code == 503
        assert scrape(server.http).sum("plumbline_score_observations_total") == 30
    assert eventually(lambda: server.http.get("/v2/health/ready").status_code == 200)
    post(server, sent, *bodies(10, 10, seed=3))
    assert eventually(lambda: server.http.get(DRIFT).json().get("n") == len(sent.scores))
    assert_about(server.http.get(DRIFT).json(), sent)
    assert scrape(server.http).sum("plumbline_score_observations_total") == len(sent.scores)
    server.stop()
    assert "Traceback" not in server.log
