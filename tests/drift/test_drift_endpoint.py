"""`GET /v1/models/{name}/drift`: numbers as scipy gives them for the rows that were sent, and what it answers else.

With suppression off; `test_drift_hides_small_counts` is about the other way.
"""

import time

import drift_truth
import numpy as np
import pytest
import toy
from drift_traffic import Sent, bodies, body, people, post, rows
from referenced import add_reference
from scraping import scrape
from statsmodels.stats.proportion import proportion_confint

from service.monitor import slots

DRIFT = "/v1/models/toy/drift"
HTML = {"accept": "text/html"}


def near(expected):
    return pytest.approx(expected, rel=1e-6, abs=1e-9)


def report(client, **query):
    response = client.get(DRIFT, params=query)
    assert response.status_code == 200, response.text
    return response.json()


def send(client, package, n=600, **fields):
    """n rows with ids, as they come."""
    sent = Sent(package)
    for number, request in enumerate(bodies(n, 50, 7, 1)):
        ids = [f"{number}-{row}" for row in range(len(request["instances"]))]
        post(client, sent, request | {"ids": ids} | fields)
    return sent


def assert_distribution(entry, counts, bins, comparisons):
    """n, bins and every statistic of one distribution."""
    n = int(counts.sum())
    assert (entry["n"], entry["reference_n"]) == (n, bins.m)
    assert [part["bin"] for part in entry["bins"]] == bins.words
    assert [part["kind"] for part in entry["bins"]] == bins.kinds
    assert [part["n"] for part in entry["bins"]] == counts.tolist()
    assert [part["share"] for part in entry["bins"]] == near((counts / n).tolist())
    assert [part["reference_n"] for part in entry["bins"]] == bins.reference.tolist()
    assert [part["reference_share"] for part in entry["bins"]] == near((bins.reference / bins.m).tolist())
    expected = bins.compare(counts, comparisons)
    for name, numbers in expected.items():
        assert entry[name] == near(numbers), name
    assert entry["state"] == drift_truth.psi_state(expected["psi"], n)


def test_features_are_compared_as_scipy_does(serve, package) -> None:
    """PSI, Jensen-Shannon distance, chi-squared, Kolmogorov-Smirnov and shares of every kind of feature."""
    client = serve()
    sent = send(client, package)
    found = report(client)["features"]
    declared = package.manifest["features"]
    assert [(entry["feature"], entry["kind"]) for entry in found] == [(f["name"], f["kind"]) for f in declared]
    assert [entry["unit"] for entry in found] == ["EUR", None, None, None, None]
    for number, (entry, bins) in enumerate(zip(found, package.features, strict=True)):
        counts = sent.of_feature(number)
        assert_distribution(entry, counts, bins, len(found))
        distance = bins.kolmogorov_smirnov(counts)
        assert entry["kolmogorov_smirnov"] == (None if distance is None else near({"statistic": distance}))
        shares = bins.shares(counts, len(found))
        assert entry["shares"].keys() == shares.keys()
        for name, share in shares.items():
            state = entry["shares"][name].pop("state")
            assert state == share.pop("state")
            assert entry["shares"][name] == near(share)
    states = {(entry["feature"], name): share for entry in found for name, share in entry["shares"].items()}
    assert states.keys() == {
        ("amount", "out_of_range"),
        ("hour", "out_of_range"),
        ("entry_mode", "unseen"),
        ("balance", "missing"),
        ("balance", "out_of_range"),
    }


def test_scores_are_compared_as_scipy_does(serve, package) -> None:
    """Of all rows, and of the groups that the reference knows."""
    client = serve()
    sent = send(client, package)
    found = report(client)
    [entry] = found["scores"]
    assert entry["class"] == "fraud"
    assert "shares" not in entry
    assert_distribution(entry, sent.of_scores(), package.scores["fraud"], 1)
    groups = {
        (part["sensitive_feature"], part["class"]): {group["group"]: group for group in part["groups"]}
        for part in found["group_scores"]
    }
    assert groups.keys() == {("sex", "fraud"), ("age_band", "fraud")}
    for (name, _), entries in groups.items():
        known = package.groups_with_scores(name)
        assert entries.keys() == known.keys()
        for group, bins in known.items():
            counts = sent.of_group_scores(name, group)
            psi = bins.compare(counts, len(known))["psi"]
            assert entries[group]["psi"] == near(psi)
            assert (entries[group]["n"], entries[group]["reference_n"]) == (counts.sum(), bins.m)
            assert entries[group]["state"] == drift_truth.psi_state(psi, counts.sum())


def test_explanations_are_compared_with_the_reference(serve, package) -> None:
    """Shares of |SHAP| by feature, in the order of the manifest."""
    client = serve()
    sent = send(client, package, 300, explain=True)
    found = report(client)["attribution"]
    assert (found["n"], found["reference_n"]) == (300, 400)
    expected = list(drift_truth.attribution(package, np.array(sent.values)))
    for entry, numbers in zip(found["features"], expected, strict=True):
        assert (entry.pop("feature"), entry.pop("state")) == (numbers.pop("feature"), numbers.pop("state"))
        assert entry == pytest.approx(numbers, rel=1e-5)
    assert found["state"] == "drift"
    assert sum(entry["share"] for entry in found["features"]) == pytest.approx(1)


def test_few_rows_are_insufficient(serve, package) -> None:
    """Numbers are shown, nothing is claimed."""
    client = serve()
    send(client, package, 199, explain=True)
    found = report(client)
    states = [entry["state"] for entry in (*found["features"], *found["scores"], found["attribution"])]
    states += [share["state"] for entry in found["features"] for share in entry["shares"].values()]
    states += [group["state"] for part in found["group_scores"] for group in part["groups"]]
    assert {*states, found["state"]} == {"insufficient"}
    assert found["features"][0]["psi"]["value"] > 0.1


def test_expected_performance_stands_beside_the_realised(serve, package) -> None:
    """CBPE from the calibrators of the group or of all, and what outcomes say so far with Wilson intervals."""
    client = serve()
    sent = send(client, package)
    chance = np.random.default_rng(3)
    actual = [("fraud" if chance.random() < score else "legitimate") for score in sent.scores]
    labelled = [i for i in range(len(actual)) if i % 3]
    outcomes = [{"id": sent.ids[i], "label": actual[i]} for i in labelled]
    assert client.request("POST", "/v1/models/toy:outcomes", json={"outcomes": outcomes}).status_code == 200
    found = {part["sensitive_feature"]: part["groups"] for part in report(client)["performance"]}
    declared = {feature["name"]: feature["groups"] for feature in package.manifest["sensitive_features"]}
    assert {name: [group["group"] for group in groups] for name, groups in found.items()} == declared
    for name, groups in found.items():
        for entry in groups:
            group = entry["group"]
            mine = sent.mine(name, group)
            assert entry["n"] == len(mine)
            assert entry["labelled"] == len(set(mine) & set(labelled))
            assert entry["calibrator"] == ("group" if group == "female" else "pooled")
            assert entry["state"] == "ok"
            expected = drift_truth.expected_rates(sent.calibrated(name, group), "fraud")
            pairs = [(sent.labels[i], actual[i]) for i in mine if i in labelled]
            for rate, numbers in expected.items():
                assert entry["rates"][rate]["expected"] == near(
                    dict(zip(("value", "low", "high"), numbers, strict=True))
                )
                assert_realised(entry["rates"][rate]["realised"], pairs, rate)


def assert_realised(found, pairs, rate):
    """A rate of (predicted, actual) pairs."""
    condition = {"true_positive_rate": 1, "false_positive_rate": 1, "positive_predictive_value": 0}[rate]
    wanted = "legitimate" if rate == "false_positive_rate" else "fraud"
    among = [pair for pair in pairs if pair[condition] == wanted]
    k = sum(pair[1 - condition] == "fraud" for pair in among)
    assert (found["numerator"], found["denominator"]) == (k, len(among))
    low, high = proportion_confint(k, len(among), 0.05, method="wilson")
    assert (found["value"], found["low"], found["high"]) == near((k / len(among), low, high))


def test_what_stands_around_the_numbers(serve, package) -> None:
    """Model, window, reference, suppression and limits."""
    client = serve()
    before = time.time()
    sent = send(client, package, 300)
    found = report(client)
    assert (found["model_name"], found["model_version"], found["n"]) == ("toy", "1", len(sent.scores))
    assert found["state"] == "drift"
    assert found["reference"] == {"id": package.id, "n": 400, "data_fingerprint": f"sha256:{'f' * 64}"}
    assert found["suppression"] == {"enabled": False, "smallest_shown": 11}
    assert found["limits"] == {
        "least_psi": 0.1,
        "least_observations": 200,
        "error": 0.01,
        "least_share_increase": 0.05,
        "least_attribution_change": 0.05,
    }
    start, end = (
        time.mktime(time.strptime(found["window"][name], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
        for name in ("start", "end")
    )
    assert found["window"]["name"] == "24h"
    assert before - 1 <= end <= time.time() + 1
    assert start % 600 == 0
    assert 86_400 <= end - start < 86_400 + 601


def test_nothing_was_sent_yet(serve, package) -> None:
    """A report of nobody, without a number that would have to be made up."""
    found = report(serve())
    assert (found["n"], found["state"]) == (0, "insufficient")
    for entry in (*found["features"], *found["scores"]):
        assert (entry["n"], entry["psi"], entry["jensen_shannon"], entry["chi_squared"]) == (0, None, None, None)
        assert {part["share"] for part in entry["bins"]} == {None}
    for groups in found["performance"]:
        assert {group["state"] for group in groups["groups"]} == {"insufficient"}


def test_a_package_without_the_later_parts_is_compared_in_what_it_has(serve, tmp_path) -> None:
    """Empty lists and null, not failures."""
    parts = dict.fromkeys(("scores", "groups", "calibrators", "attributions"))
    package = drift_truth.Package(add_reference(toy.write_toy(tmp_path / "models"), **parts))
    client = serve()
    for request in bodies(250, 50):
        client.predict(request)
    found = report(client)
    assert (found["scores"], found["group_scores"], found["performance"]) == ([], [], [])
    assert found["attribution"] is None
    assert len(found["features"]) == len(package.features)


def test_a_model_without_sensitive_features_has_a_drift_report(serve, tmp_path) -> None:
    """What is compared by group is not there."""
    models = tmp_path / "models"
    calibrators = {"pooled": {"method": "sigmoid", "n": 9, "scores": [0.5], "probabilities": [0.5]}}
    folder = toy.write_toy(models, sensitive_features=[])
    package = drift_truth.Package(add_reference(folder, groups=None, calibrators=calibrators))
    client = serve()
    sent = post(client, Sent(package), body(rows(250)))
    found = report(client)
    assert (found["n"], found["group_scores"], found["performance"]) == (250, [], [])
    assert_distribution(found["scores"][0], sent.of_scores(), package.scores["fraud"], 1)


def test_the_window_is_of_slots_of_ten_minutes(serve, package, monkeypatch) -> None:
    """What was counted in slots that begin before the window is not in it; series keep everything."""
    client = serve()
    now = time.time()
    sent = {}
    for hours in (30, 5, 0):
        with monkeypatch.context() as patch:
            if hours:
                patch.setattr("service.monitor.drift_counters.time.time", lambda hours=hours: now - hours * 3600)
            sent[hours] = post(client, Sent(package), *bodies(40 + hours, 40, seed=hours))
            scrape(client)  # counts it
    for window, expected in (("1h", [0]), ("4h", [0]), ("6h", [0, 5]), ("24h", [0, 5]), ("2d", [0, 5, 30])):
        found = report(client, window=window)
        n = sum(40 + hours for hours in expected)
        assert (found["n"], found["window"]["name"]) == (n, window)
        counts = sum(sent[hours].of_feature(0) for hours in expected)
        assert [part["n"] for part in found["features"][0]["bins"]] == counts.tolist()
    assert slots.SLOT_SECONDS == 600


def test_a_clock_that_is_put_back_loses_nothing(serve, package, monkeypatch) -> None:
    """Rows then count in the newest slot."""
    client = serve()
    for shift in (0, -7200, 0, 1200, -1200):
        with monkeypatch.context() as patch:
            now = time.time()
            patch.setattr("service.monitor.drift_counters.time.time", lambda now=now, shift=shift: now + shift)
            client.predict(body(rows(10)))
            scrape(client)
            assert client.get(DRIFT).status_code == 200
    assert report(client)["n"] == 50


def test_versions_are_reported_apart(serve, tmp_path) -> None:
    """The newest without a parameter, another with one, each by its own reference."""
    models = tmp_path / "models"
    for version in (1, 2):
        add_reference(toy.write_toy(models, version=version), n=400 + version)
    client = serve()
    client.predict(body(rows(12), people(12)), model="toy/versions/1")
    client.predict(body(rows(5), people(5)))
    for query, version, n in (({}, "2", 5), ({"version": "2"}, "2", 5), ({"version": "1"}, "1", 12)):
        found = report(client, **query)
        assert (found["model_version"], found["n"], found["reference"]["n"]) == (version, n, 400 + int(version))


BAD = ("", "24", "h", "0h", "-1h", "1m", "24H", "1.5h", "181d", "9999d", "10000d", "4321h", "1d ", "\uff11d", "24h\n")


@pytest.mark.parametrize("window", BAD)
def test_a_window_that_cannot_be_is_refused(serve, package, window) -> None:
    """Not a number of hours or days, or longer than records are kept."""
    response = serve().get(DRIFT, params={"window": window})
    assert response.status_code == 400
    assert response.json() == {"error": "window: hours or days up to 180d are expected, such as 24h or 7d"}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("windows=24h", 400),
        ("window=24h&window=24h", 400),
        ("version=1&version=1", 400),
        ("sensitive_feature=sex", 400),
        ("window=24h&x", 400),
        ("version=2", 404),
        ("version=", 404),
        ("version=one", 404),
        ("version=01", 404),
        ("version=1&window=180d", 200),
        ("", 200),
    ],
)
def test_parameters(serve, package, query, status) -> None:
    """Known ones once each; a version that is served."""
    response = serve().get(f"{DRIFT}?{query}")
    assert response.status_code == status, response.text
    assert "quetzal" not in response.text


def test_an_unknown_model_is_not_found(serve, package) -> None:
    """By name."""
    assert serve().get("/v1/models/nobody/drift").status_code == 404


def test_a_package_without_a_reference_offers_no_report(serve, tmp_path) -> None:
    """501 and the reason."""
    toy.write_toy(tmp_path / "models")
    response = serve().get(DRIFT)
    assert response.status_code == 501
    assert response.json() == {"error": "drift: this model package has no reference to compare with"}


def test_without_records_there_is_no_report(serve, package) -> None:
    """501: counts of one replica since its start are no report."""
    client = serve(audit="off")
    client.predict(toy.request())
    response = client.get(DRIFT)
    assert response.status_code == 501
    assert "PLUMBLINE_AUDIT" in response.json()["error"]


def test_people_get_a_page(serve, package) -> None:
    """HTML under a policy that lets nothing be loaded; HEAD answers the same without a body."""
    client = serve()
    client.predict(body(rows(20), people(20)))
    page = client.get(DRIFT, headers=HTML)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.text
    assert client.get(DRIFT).headers["content-type"] == "application/json"
    for headers in ({}, HTML):
        head = client.request("HEAD", DRIFT, headers=headers)
        assert (head.status_code, head.content) == (200, b"")
    assert client.request("POST", DRIFT).status_code == 405


def test_the_documentation_lists_the_report(serve, package) -> None:
    """With its parameters; only where the package has a reference."""
    document = serve().get("/openapi.json").json()
    operation = document["paths"][DRIFT]["get"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["window", "version"]
    assert operation["parameters"][0]["schema"]["default"] == "24h"
    assert operation["responses"].keys() >= {"200", "400", "501"}


def test_the_documentation_lists_no_report_without_a_reference(serve, tmp_path) -> None:
    """Nothing to ask for."""
    toy.write_toy(tmp_path / "models")
    assert DRIFT not in serve().get("/openapi.json").json()["paths"]


def test_the_route_has_one_name(serve, package) -> None:
    """In the metrics of requests, whatever was asked for."""
    client = serve()
    for path in (DRIFT, f"{DRIFT}?window=7d", "/v1/models/nobody/drift", f"{DRIFT}?quetzal=1"):
        client.get(path)
    counted = scrape(client).of("plumbline_http_requests_total", route="/v1/models/{name}/drift")
    assert {own["status"]: number for own, number in counted if number} == {"200": 2, "400": 1, "404": 1}
