"""Rows are counted in the bins that a recount of the posted values gives, each once, and only those that are answered.

Every number comes from a scrape after requests to the service; the recount knows the package's files alone.
"""

import sqlite3

import numpy as np
import pytest
import toy
from drift_traffic import Sent, bodies, body, people, post, rows
from scraping import scrape
from servers import eventually
from sqlalchemy.exc import OperationalError

from service.monitor.counters import Counters
from service.monitor.drift_counters import DriftCounters
from service.records.append import Appender
from service.records.records import Records


def by_bin(found, name, **labels):
    """{bin: n} of one distribution."""
    return {own["bin"]: number for own, number in found.of(name, **labels)}


def named(bins, counts):
    return dict(zip(bins.names, counts.tolist(), strict=True))


def wait_for(client, name, number, **labels):
    """The first scrape whose series add up to `number`; a scrape lets the event loop turn."""
    assert eventually(lambda: scrape(client).sum(name, **labels) == number)
    return scrape(client)


def assert_counted(found, sent):
    """Features, scores, scores by group and calibrated sums are those of what was sent."""
    package = sent.package
    for number, feature in enumerate(package.manifest["features"]):
        counts = by_bin(found, "plumbline_feature_observations_total", **package.own, feature=feature["name"])
        assert counts == named(package.features[number], sent.of_feature(number)), feature["name"]
    bins = package.scores[package.positive]
    assert by_bin(found, "plumbline_score_observations_total", **package.own) == named(bins, sent.of_scores())
    for name, groups in package.sensitive_features():
        for group in groups:
            where = {"sensitive_feature": name, "group": group}
            counts = by_bin(found, "plumbline_group_score_observations_total", **package.own, **where)
            assert counts == named(bins, sent.of_group_scores(name, group)), (name, group)
            for predicted, (_, total, variance) in sent.calibrated(name, group).items():
                labels = package.model | where | {"predicted": predicted}
                assert found.value("plumbline_calibrated_score_sum_total", **labels) == pytest.approx(total)
                assert found.value("plumbline_calibrated_score_variance_sum_total", **labels) == pytest.approx(variance)


@pytest.mark.parametrize("sizes", [(1,), (3, 1, 16), (120,)], ids=["single rows", "small batches", "one batch"])
def test_rows_are_counted_in_their_bins(serve, package, sizes) -> None:
    """Every kind of feature, every bin of them, whatever requests the rows came in."""
    client = serve()
    sent = post(client, Sent(package), *bodies(120, *sizes))
    assert all(sent.of_feature(number).all() for number in range(3))
    assert_counted(scrape(client), sent)


def test_rows_of_requests_at_the_same_time_are_counted_once(serve, package) -> None:
    """Fifty callers, whose rows the batcher runs together."""
    client = serve()
    requests = bodies(200, 1, 7)
    sent = Sent(package)
    for request, response in zip(requests, client.together(*requests), strict=True):
        sent.add(request, response)
    assert_counted(scrape(client), sent)


def test_rows_without_people_count_as_unknown(serve, package) -> None:
    """Requests without sensitive features, beside some with."""
    client = serve()
    sent = post(client, Sent(package), body(rows(40)), body(rows(9, seed=1), people(9)))
    assert_counted(scrape(client), sent)


def test_explained_rows_are_counted_like_others(serve, package) -> None:
    """By `:explain` and by `explain`, once each, and their SHAP values are added up without their sign."""
    client = serve()
    sent = Sent(package)
    for request in bodies(60, 20):
        sent.add(request, client.request("POST", "/v1/models/toy:explain", json=request))
    post(client, sent, body(rows(10, seed=2), explain=True))
    found = scrape(client)
    assert_counted(found, sent)
    assert_magnitudes(found, package, np.array(sent.values))


def assert_magnitudes(found, package, values):
    """The sums of |SHAP| are those of `values` `(n, d)`."""
    assert found.value("plumbline_attribution_magnitude_rows_total", **package.model) == len(values)
    sums = {own["feature"]: n for own, n in found.of("plumbline_attribution_magnitude_sum_total", **package.model)}
    names = [feature["name"] for feature in package.manifest["features"]]
    assert sums == pytest.approx(dict(zip(names, np.abs(values).sum(axis=0).tolist(), strict=True)), rel=1e-6)


def test_explanations_that_a_filter_chose_are_not_added_up(serve, package) -> None:
    """Those of positive rows alone are no sample; the rows themselves count."""
    client = serve()
    sent = post(client, Sent(package), body(rows(30), explain={"if": "positive"}))
    assert sent.values
    found = scrape(client)
    assert_counted(found, sent)
    assert_magnitudes(found, package, np.zeros((0, 5)))


def test_sampled_explanations_are_added_up(serve, package) -> None:
    """A row that is explained for the monitor alone adds what an explanation of it would say."""
    client = serve(explain_sample_ratio=1)
    instances = rows(12)
    asked = Sent(package).add(body(instances), client.predict(body(instances)))
    assert not asked.values
    found = wait_for(client, "plumbline_explanation_samples_total", 12, result="explained")
    said = serve().predict(body(instances, explain=True)).json()["explanations"]
    assert_magnitudes(found, package, np.array([np.ravel(entry["values"]) for entry in said]))


EDGES = [
    ("amount", 0, "00 below 0.5"),
    ("amount", 0.49999997, "00 below 0.5"),
    ("amount", 0.5, "01 0.5 to 10.17"),
    ("amount", 10.17, "02 10.17 to 100"),
    ("amount", 10.169999, "01 0.5 to 10.17"),
    ("amount", 499.99997, "03 100 to 500"),
    ("amount", 500, "04 from 500"),
    ("amount", 1000, "04 from 500"),
    ("hour", 5, "00 below 6"),
    ("hour", 22, "03 18 to 22"),
    ("hour", 23, "04 above 22"),
    ("cross_border", True, "01 1"),
    ("cross_border", 0.0, "00 0"),
    ("entry_mode", "chip", "00 chip"),
    ("entry_mode", "online", "02 online"),
    ("balance", None, "05 missing"),
    ("balance", -1e30, "00 below -50"),
    ("balance", 1e38, "04 from 40"),
    ("balance", -0.0, "02 0 to 1.5"),
]
KINDS = {
    "below": "underflow",
    "from": "overflow",
    "above": "overflow",
    "missing": "missing",
    "online": "unseen",
    "other": "other",
}


@pytest.mark.parametrize(("feature", "value", "expected"), EDGES)
def test_values_at_the_edges(serve, package, feature, value, expected) -> None:
    """A bin holds its lower edge and not its upper one; the last edge is out of range, and kinds say so."""
    client = serve()
    assert client.predict(toy.request({feature: value})).status_code == 200
    found = scrape(client)
    [(own, number)] = [
        pair for pair in found.of("plumbline_feature_observations_total", **package.own, feature=feature) if pair[1]
    ]
    assert (own["bin"], number) == (expected, 1)
    assert own["kind"] == KINDS.get(expected.split()[1], "bin")


def changed(before, after):
    """Series about the model whose numbers changed, without those of requests and runs."""
    ignored = ("plumbline_http", "plumbline_batch", "process_", "python_", "plumbline_audit")
    return {
        key: after.samples[key] - number
        for key, number in before.samples.items()
        if after.samples[key] != number and not key[0].startswith(ignored) and "timestamp" not in key[0]
    }


def test_retries_count_once(serve, package) -> None:
    """The same request again, alone or beside new rows, adds the new rows only."""
    client = serve()
    first = body(rows(8), people(8), ids=[f"a{number}" for number in range(8)])
    sent = post(client, Sent(package), first)
    again = client.together(first, first)
    assert [response.status_code for response in again] == [200, 200]
    more = body(first["instances"][:4] + rows(5, seed=3), first["sensitive_features"][:4] + people(5, seed=3))
    assert client.predict(more | {"ids": first["ids"][:4] + list("vwxyz")}).status_code == 200
    fresh = body(rows(5, seed=3), people(5, seed=3))
    sent.add(fresh, serve().predict(fresh))
    assert_counted(scrape(client), sent)


def test_an_id_of_another_instance_counts_nothing(serve, package) -> None:
    """It is refused, and no series changes."""
    client = serve()
    client.predict(toy.request(ids=["a"]))
    before = scrape(client)
    assert client.predict(toy.request({"balance": 9}, ids=["a"])).status_code == 400
    assert changed(before, scrape(client)) == {}


def test_rows_that_could_not_be_recorded_are_not_counted(serve, package, monkeypatch) -> None:
    """503 while the records fail; what is answered afterwards counts."""
    client = serve()
    before = scrape(client)

    def down(*_):
        raise OperationalError("INSERT", {}, sqlite3.OperationalError())

    with monkeypatch.context() as patch:
        patch.setattr(Appender, "commit_new", lambda *_: False)
        patch.setattr(Records, "_together", down)
        refused = client.predict(body(rows(20), people(20)))
        assert refused.status_code == 503
        assert changed(before, scrape(client)) == {}
    sent = post(client, Sent(package), *bodies(30, 10))
    assert_counted(scrape(client), sent)


def test_rows_are_counted_without_records(serve, package) -> None:
    """PLUMBLINE_AUDIT=off takes reports away, not series."""
    client = serve(audit="off")
    sent = post(client, Sent(package), *bodies(60, 20))
    assert_counted(scrape(client), sent)


def test_rows_recorded_after_the_response_are_counted(serve, package) -> None:
    """Once the record is committed."""
    client = serve(audit="after_response")
    sent = post(client, Sent(package), *bodies(60, 20))

    assert_counted(wait_for(client, "plumbline_score_observations_total", 60), sent)


def test_a_monitor_that_fails_fails_no_prediction(serve, package, monkeypatch) -> None:
    """It is counted as failing, what can be counted is; afterwards it counts again."""
    client = serve()
    with monkeypatch.context() as patch:

        def broken(*_):
            raise ValueError("quetzalcoatl")

        patch.setattr(DriftCounters, "add", broken)
        for request in bodies(20, 5):
            assert client.predict(request).status_code == 200
        found = scrape(client)
        assert found.value("plumbline_monitor_failures_total") == 4
        assert found.sum("plumbline_feature_observations_total") == 0
        assert found.sum("plumbline_predictions_total", sensitive_feature="sex") == 20
    sent = post(client, Sent(package), *bodies(30, 10))
    found = scrape(client)
    assert_counted(found, sent)
    assert found.sum("plumbline_predictions_total", sensitive_feature="sex") == 50
    assert found.value("plumbline_monitor_failures_total") == 4


def test_a_monitor_that_fails_on_explanations_goes_on_afterwards(serve, package, monkeypatch) -> None:
    """Explanations that were asked for and those for the monitor alone: answered, counted as failures, then as ever."""
    client = serve(explain_sample_ratio=1)
    with monkeypatch.context() as patch:

        def broken(*_):
            raise ValueError("quetzalcoatl")

        patch.setattr(DriftCounters, "add_explained", broken)
        asked = client.predict(body(rows(4), explain=True))
        assert asked.status_code == 200
        assert all("values" in entry for entry in asked.json()["explanations"])
        assert scrape(client).value("plumbline_monitor_failures_total") == 1  # what is counted together fails together
        assert client.predict(body(rows(3))).status_code == 200
        wait_for(client, "plumbline_explanation_samples_total", 3)
        found = scrape(client)
        assert found.value("plumbline_monitor_failures_total") == 1 + 3
        assert found.sum("plumbline_attribution_magnitude_rows_total") == 0
        assert found.sum("plumbline_predictions_total", sensitive_feature="sex") == 7
    assert client.predict(body(rows(5))).status_code == 200
    wait_for(client, "plumbline_attribution_magnitude_rows_total", 5)


def test_a_monitor_that_fails_on_outcomes_does_not_stop_the_records(serve, package, monkeypatch) -> None:
    """They are joined, the failure is counted, and what comes afterwards is recorded."""
    client = serve()
    assert client.predict(body(rows(4), ids=list("abcd"))).status_code == 200

    def join(*ids):
        outcomes = {"outcomes": [{"id": id_, "label": "fraud"} for id_ in ids]}
        return client.request("POST", "/v1/models/toy:outcomes", json=outcomes).json()

    with monkeypatch.context() as patch:

        def broken(*_):
            raise ValueError("quetzalcoatl")

        patch.setattr(Counters, "add_outcomes", broken)
        assert join("a", "b")["joined"] == 2
    assert join("a", "c") == dict.fromkeys(("conflict", "unknown", "expired", "corrected"), 0) | {
        "joined": 1,
        "duplicate": 1,
    }
    assert client.predict(body(rows(2))).status_code == 200
    found = scrape(client)
    assert found.value("plumbline_monitor_failures_total") == 1
    assert found.sum("plumbline_outcomes_total", sensitive_feature="sex") == 1
