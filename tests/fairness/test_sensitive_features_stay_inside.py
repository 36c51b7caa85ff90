"""What is said about people reaches the monitor, as a declared group, and nothing else: a canary goes every way.

Its text, key and number are looked for in answers, headers, the log, `/metrics`, reports and every byte of the records.
"""

import itertools
import json

import canary
import explained
import group_canary
import pytest
import toy
from exposition import series
from referenced import add_reference
from scraping import scrape
from servers import eventually, running
from stub import post

ALL = {f"toys: {name}": case for name, case in canary.CASES.items()} | group_canary.CASES
REFUSED = {name for name, case in ALL.items() if case[-1] >= 400}
GROUP_LABELS = {"sex": {"female", "male"}, "age_band": {"18-29", "30-49", "50+"}}
RESERVED = {"unknown", "declined", "other"}


def write_told(root):
    """The toy with an explainer and a reference, under the name that `group_canary` gives it."""
    folder = toy.write_toy(root, name="told", intersections=[["sex", "age_band"]])
    explained.add_explainer(folder, explained.linear_explainer())
    add_reference(folder)
    return root


def assert_silent(text):
    assert not [needle for needle in canary.NEEDLES if needle in text.lower()]


def bytes_of(folder):
    """Everything in the database's files, with what SQLite keeps beside it, as text that can be searched."""
    files = sorted(folder.glob("*.db*"))
    assert any(file.name.endswith("-wal") for file in files)
    return b"".join(file.read_bytes() for file in files).decode("latin-1")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The toys and `told` on a real server that logs all it can and explains every row for the monitor too."""
    root = write_told(toy.write_all(tmp_path_factory.mktemp("canaries")))
    log_file = tmp_path_factory.mktemp("canary-server") / "server.log"
    settings = {"log_requests": "true", "log_level": "debug", "explain_sample_ratio": 1} | canary.LIMITS
    with running(log_file, root, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def answers(server):
    """{case: response}, each case asked for once and in order."""
    return {
        name: server.http.request(method, path, headers=headers, content=canary.content(body))
        for name, (method, path, headers, body, _) in ALL.items()
    }


@pytest.mark.parametrize("name", ALL)
def test_nothing_comes_back(answers, name) -> None:
    """Whatever is answered or refused, by the expected status, repeats nothing in its body or headers."""
    response = answers[name]
    assert response.status_code == ALL[name][-1], response.text
    assert_silent(response.text + str(response.headers))
    if name in REFUSED and response.request.method != "HEAD":
        assert response.json().keys() == {"error"}


def test_nothing_is_logged(answers, server) -> None:
    """Every request left its line, and none of them a value, a key, a group or an id."""
    assert eventually(
        lambda: server.log.count('"event": "request"') + server.log.count('"event":"request"') >= len(ALL)
    )
    assert_silent(server.log)
    assert "Traceback" not in server.log


def test_only_declared_groups_are_labels(answers, server) -> None:
    """Undeclared values count as `other`, and every label of every series comes from the manifests."""
    found = scrape(server.http)
    assert_silent(series(found.text))
    for name, allowed in GROUP_LABELS.items():
        groups = found.of("plumbline_predictions_total", model_name="told", sensitive_feature=name)
        assert {labels["group"] for labels, _ in groups} == allowed | RESERVED
    others = {"model_name": "told", "sensitive_feature": "age_band", "group": "other"}
    answered = 1 + 1 + 1 + 1 + 2 + 1 + 1 + 1  # the retry of `known` is not among them
    assert found.sum("plumbline_predictions_total", **others) == answered


def test_only_declared_groups_are_in_the_records(answers, server) -> None:
    """No byte of the database is the canary's, neither before nor after outcomes, samples and sums are written."""
    samples = "plumbline_explanation_samples_total"
    assert eventually(lambda: scrape(server.http).sum(samples, model_name="told", result="explained"), seconds=60)
    post(server.http, group_canary.PREDICT, toy.request(sensitive_features=[{"sex": "female"}]))
    for path in (group_canary.FAIRNESS, group_canary.DRIFT):  # saves what was added up
        assert server.http.get(path).status_code == 200
    stored = bytes_of(server.log_file.parent)
    assert '"sex":"female"' in stored
    assert '"age_band":"other"' in stored
    assert_silent(stored)


def test_reports_name_declared_groups_only(answers, server) -> None:
    """Neither the JSON report nor the page shows an undeclared value."""
    for path, headers in itertools.product((group_canary.FAIRNESS, group_canary.DRIFT), ({}, group_canary.HTML)):
        response = server.http.get(path, headers=headers)
        assert response.status_code == 200
        assert "age_band" in response.text
        assert_silent(response.text + str(response.headers))


def test_refused_outcomes_join_nothing(answers, server) -> None:
    """Of all those bodies the three good ones count, two of them about nobody."""
    found = scrape(server.http)
    results = {
        labels["result"]: number for labels, number in found.of("plumbline_outcomes_received_total", model_name="told")
    }
    assert results == {"joined": 1, "duplicate": 0, "conflict": 0, "unknown": 2, "expired": 0, "corrected": 0}


def test_callers_ids_come_back_in_the_answer_only(serve, tmp_path, capfd) -> None:
    """An id may name a person: it is in the answer and in the records, and in no log line, series or report."""
    folder = tmp_path / "records"
    folder.mkdir()
    client = serve(write_told(tmp_path / "models"), records_url=f"sqlite:///{folder}/r.db", log_requests=True)
    answer = client.predict(toy.request(ids=[canary.TEXT], explain=True), model="told")
    assert answer.json()["predictions"][0]["id"] == canary.TEXT
    outcome = post(client, group_canary.OUTCOMES, group_canary.item(id=canary.TEXT))
    assert outcome["joined"] == 1
    refused = client.predict(toy.request({"balance": 9}, ids=[canary.TEXT]), model="told")
    assert refused.status_code == 400
    report = client.get(group_canary.FAIRNESS)
    output = capfd.readouterr()
    assert_silent(json.dumps(outcome) + refused.text + report.text)
    assert_silent(series(scrape(client).text) + output.out + output.err)
    assert canary.TEXT in bytes_of(folder)


@pytest.mark.parametrize("kept", [False, True])
def test_features_are_recorded_only_where_that_is_asked_for(serve, tmp_path, kept) -> None:
    """Without PLUMBLINE_RECORD_FEATURES no value of an instance is; with it, still no undeclared group."""
    folder = tmp_path / "records"
    folder.mkdir()
    client = serve(write_told(tmp_path / "models"), records_url=f"sqlite:///{folder}/r.db", record_features=kept)
    groups = [{"sex": canary.TEXT, "age_band": "50+"}]
    body = toy.request({"balance": canary.NUMBER}, sensitive_features=groups, explain=True)
    assert client.predict(body, model="told").status_code == 200
    assert client.get(group_canary.FAIRNESS).status_code == 200
    stored = bytes_of(folder)
    assert (str(canary.NUMBER) in stored) == kept
    assert canary.TEXT not in stored
    assert '"sex":"other"' in stored


@pytest.mark.parametrize("path", [group_canary.PREDICT, group_canary.EXPLAIN])
def test_groups_change_no_byte_of_an_answer(serve, tmp_path, path) -> None:
    """Predictions and explanations are the same whoever they are about, and where nobody said."""
    client = serve(write_told(tmp_path), audit="off")
    rows = [{"amount": amount, "hour": amount % 24, "balance": None} for amount in range(3)]
    body = toy.request(*rows, ids=["a", "b", "c"], explain=True)

    def answer(groups):
        sent = body if groups is None else body | {"sensitive_features": groups}
        response = client.request("POST", path, json=sent)
        assert response.status_code == 200
        return response.content

    alone = answer(None)
    everyone = [
        {"sex": sex, "age_band": band}
        for sex in ("female", "male", "declined", canary.TEXT)
        for band in ("18-29", "50+", "declined", "", canary.TEXT)
    ]
    assert b'"values"' in alone
    assert {answer([groups] * 3) for groups in ({}, *everyone)} == {alone}
    assert answer([everyone[0], everyone[7], {}]) == alone
