"""`GET /v1/models/{name}/drift`: what stands around its numbers, windows, versions, refusals, page, documentation."""

import time

import drift_truth
import pytest
import toy
from drift_traffic import DRIFT, Sent, bodies, body, people, post, report, rows, send
from referenced import add_reference
from scraping import scrape

from service.monitor import slots

HTML = {"accept": "text/html"}


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
        "error": 0.005,
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
    """But for what a clock that was ahead counted in a slot that has not begun."""
    client = serve()
    for shift in (0, -7200, 0, 1200, -1200):
        with monkeypatch.context() as patch:
            now = time.time()
            patch.setattr("service.monitor.drift_counters.time.time", lambda now=now, shift=shift: now + shift)
            client.predict(body(rows(10)))
            scrape(client)
            assert client.get(DRIFT).status_code == 200
    assert report(client)["n"] == 40


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
