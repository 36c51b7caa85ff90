"""Values that are refused: which feature and why, counted once a request, and nothing else changes."""

import json

import pytest
import toy
from drift_traffic import body, rows
from scraping import scrape

NAME = "plumbline_refused_values_total"
PLAIN = toy.ROW


def without(name, **more):
    return {"instances": [{key: value for key, value in PLAIN.items() if key != name} | more]}


def literal(name, text):
    """A request in which a value is this piece of JSON, or of what some callers take for JSON."""
    return json.dumps(toy.request({name: "HERE"})).replace('"HERE"', text).encode()


CASES = {
    "an undeclared category": (toy.request({"entry_mode": "quetzalcoatl"}), "entry_mode", "category"),
    "a category in other letters": (toy.request({"entry_mode": "Chip"}), "entry_mode", "category"),
    "a number for a category": (toy.request({"entry_mode": 1}), "entry_mode", "type"),
    "null for a category": (toy.request({"entry_mode": None}), "entry_mode", "type"),
    "below the minimum": (toy.request({"amount": -0.01}), "amount", "range"),
    "above the maximum": (toy.request({"amount": 1000.5}), "amount", "range"),
    "beyond float32": (toy.request({"balance": 1e39}), "balance", "range"),
    "beyond float64": (literal("balance", "1e400"), "balance", "range"),
    "not a number": (literal("amount", "NaN"), "amount", "range"),
    "infinite": (literal("balance", "Infinity"), "balance", "range"),
    "infinite the other way": (literal("hour", "-Infinity"), "hour", "range"),
    "an hour too many": (toy.request({"hour": 24}), "hour", "range"),
    "half an hour": (toy.request({"hour": 1.5}), "hour", "type"),
    "text for a number": (toy.request({"amount": "12"}), "amount", "type"),
    "true for a number": (toy.request({"amount": True}), "amount", "type"),
    "a list for a number": (toy.request({"balance": [1]}), "balance", "type"),
    "null where none is allowed": (toy.request({"amount": None}), "amount", "type"),
    "null for an integer": (toy.request({"hour": None}), "hour", "type"),
    "null for a binary value": (toy.request({"cross_border": None}), "cross_border", "type"),
    "text for a binary value": (toy.request({"cross_border": "1"}), "cross_border", "type"),
    "two for a binary value": (toy.request({"cross_border": 2}), "cross_border", "range"),
    "less than a binary value": (toy.request({"cross_border": -1}), "cross_border", "range"),
    "not a number for a binary value": (literal("cross_border", "NaN"), "cross_border", "range"),
    "half a binary value": (toy.request({"cross_border": 0.5}), "cross_border", "type"),
    "absent": (without("hour"), "hour", "absent"),
    "absent where null is allowed": (without("balance"), "balance", "absent"),
    "misspelt": (without("amount", amuont=1), "amount", "absent"),
    "renamed": (without("entry_mode", channel="chip"), "entry_mode", "absent"),
    "the second instance": (body([*rows(1), PLAIN | {"hour": 99}, PLAIN | {"amount": -1}]), "hour", "range"),
    "the first of two values": (toy.request({"amount": "x", "hour": 99}), "amount", "type"),
}


def counts(client):
    return {(own["feature"], own["reason"]): n for own, n in scrape(client).of(NAME, model_name="toy") if n}


@pytest.mark.parametrize("case", CASES)
def test_a_refused_value_is_counted_under_its_feature_and_reason(serve, package, case) -> None:
    """One request, one count, by whichever endpoint; the rows of it are counted nowhere."""
    request, feature, reason = CASES[case]
    content = request if isinstance(request, bytes) else json.dumps(request).encode()
    client = serve()
    for verb in ("toy:predict", "toy:explain", "toy/versions/1:predict"):
        headers = {"content-type": "application/json"}
        refused = client.request("POST", f"/v1/models/{verb}", content=content, headers=headers)
        assert refused.status_code == 400
    assert counts(client) == {(feature, reason): 3}
    found = scrape(client)
    assert found.sum("plumbline_feature_observations_total") == 0
    assert found.sum("plumbline_predictions_total") == 0


ABOUT_NO_VALUE = {
    "not JSON": b"{",
    "no instances": {"instances": []},
    "an instance that is text": {"instances": ["quetzalcoatl"]},
    "one key too many": toy.request({"quetzal_key": 1}),
    "an id twice": toy.request({}, {}, ids=["a", "a"]),
    "a group that is a number": toy.request(sensitive_features=[{"sex": 1}]),
    "an undeclared sensitive feature": toy.request(sensitive_features=[{"quetzal_key": "a"}]),
    "a wish of another type": toy.request(explain="yes"),
    "misspelt instances": {"instance": [PLAIN]},
}


@pytest.mark.parametrize("case", ABOUT_NO_VALUE)
def test_what_is_about_no_value_is_not_counted(serve, package, case) -> None:
    """It is refused all the same."""
    client = serve()
    assert client.predict(ABOUT_NO_VALUE[case]).status_code == 400
    assert counts(client) == {}


def test_refused_values_are_counted_by_version(serve, tmp_path) -> None:
    """Under the one that was asked."""
    for version in (1, 2):
        toy.write_toy(tmp_path / "models", version=version)
    client = serve()
    client.predict(toy.request({"hour": 24}), model="toy/versions/1")
    client.predict(toy.request({"hour": 24}))
    client.predict(toy.request({"hour": 24}))
    found = scrape(client)
    labels = {"model_name": "toy", "feature": "hour", "reason": "range"}
    assert found.value(NAME, **labels, model_version="1") == 1
    assert found.value(NAME, **labels, model_version="2") == 2
