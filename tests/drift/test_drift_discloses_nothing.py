"""What the series and the report of drift say about people: groups by count, no value of a request, no small count."""

import canary
import drift_truth
import numpy as np
import pytest
import toy
from drift_traffic import Sent, bodies, body, people, post, rows
from explained import add_explainer, linear_explainer
from exposition import series
from referenced import add_reference
from scraping import scrape

DRIFT = "/v1/models/toy/drift"
# Whole numbers that count nobody.
NO_COUNTS = {"degrees_of_freedom", "log_base", "smallest_shown", "least_observations"}


def test_people_change_no_byte_and_only_series_by_group(serve, package) -> None:
    """The same rows with and without sensitive features: same answers, same counts of features and scores."""
    instances, ids = rows(60), [f"{number}" for number in range(60)]
    with_people, without = serve(), serve()
    request = body(instances, ids=ids, explain=True)
    answers = [with_people.predict(request | {"sensitive_features": people(60)}), without.predict(request)]
    assert answers[0].content == answers[1].content
    scrapes = [scrape(client).samples for client in (with_people, without)]
    times = ("seconds", "timestamp", "process_", "python_")
    different = {
        key for key, number in scrapes[0].items() if number != scrapes[1][key] and not any(t in key[0] for t in times)
    }
    assert {name for name, _ in different} >= {
        "plumbline_group_score_observations_total",
        "plumbline_predictions_total",
    }
    assert all("sensitive_feature" in dict(labels) for _, labels in different)


def test_nothing_of_a_request_is_in_series_or_reports(serve, tmp_path) -> None:
    """Every canary of the toys, answered and refused; afterwards none of it in `/metrics`, report or page."""
    models = toy.write_all(tmp_path / "models")
    add_explainer(models / "toy" / "10", linear_explainer())
    add_reference(models / "toy" / "10")
    client = serve(explain_sample_ratio=1, **canary.LIMITS)
    before = series(scrape(client).text)
    for method, path, headers, content, _ in canary.CASES.values():
        client.request(method, path, headers=headers, content=canary.content(content))
    client.predict(toy.request({"balance": canary.NUMBER}, sensitive_features=[{"sex": canary.TEXT}], explain=True))
    text = scrape(client).text
    answers = [client.get(DRIFT, headers=headers).text for headers in ({}, {"accept": "text/html"})]
    assert scrape(client).sum("plumbline_score_observations_total") > 0
    for said in (series(text), *answers):
        assert not [needle for needle in canary.NEEDLES if needle in said.lower()]
    about = [line for line in series(text).splitlines() if "feature=" in line]
    assert about == [line for line in before.splitlines() if "feature=" in line]


def small_counts(part, key=""):
    """Where a whole number of 1 to 10 stands in JSON, but for those that count nobody."""
    if isinstance(part, dict):
        return [found for name, inner in part.items() for found in small_counts(inner, name)]
    if isinstance(part, list):
        return [found for inner in part for found in small_counts(inner, key)]
    small = isinstance(part, int) and not isinstance(part, bool) and 1 <= part <= 10
    return [(key, part)] if small and key not in NO_COUNTS else []


@pytest.mark.parametrize("n", [0, 1, 10, 11, 25, 60, 150, 400])
def test_no_small_count_is_shown(serve, package, n) -> None:
    """Of rows that reach every bin, and of groups of every size."""
    client = serve(suppress_small_cells=True)
    sent = post(client, Sent(package), *(request | {"explain": True} for request in bodies(n, 20)))
    outcomes = [{"id": id_, "label": "fraud"} for id_ in sent.ids[: n // 2]]
    if outcomes:
        client.request("POST", "/v1/models/toy:outcomes", json={"outcomes": outcomes})
    found = client.get(DRIFT).json()
    del found["reference"]
    assert small_counts(found) == []
    assert found["suppression"] == {"enabled": True, "smallest_shown": 11}
    assert (found["n"] is None) == (1 <= n <= 10)
    for entry in (*found["features"], *found["scores"]):
        assert (entry["state"] == "suppressed") == (1 <= n <= 10)
        assert sum(part["n"] for part in entry["bins"]) == (0 if entry["state"] == "suppressed" else n)


def test_pooled_bins_are_compared_as_scipy_does(serve, package) -> None:
    """The numbers shown are those of the pooled counts, so that nothing more follows from them."""
    client = serve(suppress_small_cells=True)
    post(client, Sent(package), *bodies(150, 50))
    found = client.get(DRIFT).json()
    pooled = 0
    for entry, bins in zip(found["features"], package.features, strict=True):
        assert [word for part in entry["bins"] for word in part["bin"].split(" or ")] == bins.words
        cells = [(part["bin"], part["kind"], part["reference_n"]) for part in entry["bins"]]
        pooled += len(bins.words) - len(cells)
        expected = drift_truth.Bins(cells).compare(np.array([part["n"] for part in entry["bins"]]), 5)
        for name, numbers in expected.items():
            assert entry[name] == pytest.approx(numbers), (entry["feature"], name)
    assert pooled
