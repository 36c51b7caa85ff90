"""Predictions with explanations: the values, what certifies them, and what happens when they cannot be had."""

import json

import pytest
import toy
from explained import MEAN, WEIGHTS, linear_explainer
from inprocess import serving

ROW = {"amount": 100, "hour": 4, "cross_border": 1, "entry_mode": "online", "balance": None}
X = [100.0, 4.0, 1.0, 2.0, 2.0]
VALUES = [weight * (x - mean) for weight, x, mean in zip(WEIGHTS, X, MEAN, strict=True)]


def explain(client, explain=True, *rows):
    response = client.predict(toy.request(*(rows or (ROW,)), explain=explain))
    assert response.status_code == 200, response.text
    return response.json()


def test_values_are_those_of_the_linear_model(serve_explained) -> None:
    """weight * (x - mean) for each feature, beside the prediction that they explain."""
    answer = explain(serve_explained())
    (entry,) = answer["explanations"]
    assert [value for (value,) in entry["values"]] == pytest.approx(VALUES)
    assert entry["base_values"] == pytest.approx([sum(w * m for w, m in zip(WEIGHTS, MEAN, strict=True)) - 4])
    assert entry["fx"] == pytest.approx([55.0])
    assert entry["data"] == [100, 4, 1, "online", None]
    assert entry["feature_names"] == [feature["name"] for feature in toy.TOY_FEATURES]
    assert entry["output_names"] == ["fraud_margin"]
    assert entry["additivity_residual"] < 1e-5
    assert (entry["status"], entry["algorithm"], entry["output_space"]) == ("exact", "linear", "margin")
    assert entry["top_k"] == {
        "k": 4,
        "features": ["amount", "balance", "hour", "cross_border"],
        "certified": False,  # cross_border and entry_mode both move the margin by 1
    }
    assert answer["predictions"][0]["label"] == "fraud"


def test_reasons_push_toward_the_adverse_decision_only(serve_explained) -> None:
    """Features that speak for the favourable outcome are no reasons; templates of the manifest are filled in."""
    features = [
        feature | ({"reason": "the amount of {value}"} if feature["name"] == "amount" else {})
        for feature in toy.TOY_FEATURES
    ]
    (entry,) = explain(serve_explained(manifest={"features": features}))["explanations"]
    assert [reason["feature"] for reason in entry["reasons"]] == ["amount", "balance", "cross_border", "entry_mode"]
    assert entry["reasons"][0]["text"] == "the amount of 100.0 EUR"
    assert entry["reasons"][1]["text"] == "balance: missing"
    assert entry["reasons"][0]["certified"] is True


def test_explain_verb_is_predict_with_explanations(serve_explained) -> None:
    """`:explain` answers what `:predict` with `explain: true` answers."""
    client = serve_explained()
    body = json.dumps(toy.request(ROW, ids=["a"])).encode()
    headers = {"content-type": "application/json"}
    by_verb = client.request("POST", "/v1/models/toy:explain", content=body, headers=headers).json()
    versioned = client.request("POST", "/v1/models/toy/versions/1:explain", content=body, headers=headers).json()
    assert by_verb == versioned == client.predict(toy.request(ROW, ids=["a"], explain=True)).json()


def test_filter_explains_only_rows_with_that_label(serve_explained) -> None:
    """The others say that they were skipped, in their place."""
    client = serve_explained()
    statuses = {
        when: [entry["status"] for entry in explain(client, {"if": when}, ROW, {"balance": -5})["explanations"]]
        for when in ("always", "positive", "negative")
    }
    assert statuses == {
        "always": ["exact", "exact"],
        "positive": ["exact", "skipped"],
        "negative": ["skipped", "exact"],
    }


def test_values_that_do_not_add_up_are_withheld(serve_explained) -> None:
    """The explanation fails closed and is counted; the prediction is answered."""
    client = serve_explained(linear_explainer(base_error=0.01))
    answer = explain(client)
    assert answer["explanations"] == [{"status": "failed", "reason": "additivity"}]
    assert answer["predictions"][0]["label"] == "fraud"
    metrics = client.get("/metrics").text
    assert 'plumbline_explanations_total{model_name="toy",model_version="1",status="failed"} 1.0' in metrics
    assert 'plumbline_additivity_residual_bucket{le="0.001",model_name="toy",model_version="1"} 0.0' in metrics


def test_tolerance_escalates_to_the_doubled_plan(serve_explained) -> None:
    """Without a wish the default plan answers; with one that it misses, the doubled plan; else it is a tie."""
    rough, fine = linear_explainer(error_std=2.0), linear_explainer(error_std=0.5)
    client = serve_explained(rough, fine, algorithm="stratified_wls")

    def status_and_evals(wish):
        (entry,) = explain(client, wish)["explanations"]
        return entry["status"], entry["n_evals"]

    assert status_and_evals(True) == ("estimate", 100)
    assert status_and_evals({"tolerance": 0.1}) == ("estimate", 100)  # 1.96 * 2.0 / 45
    assert status_and_evals({"tolerance": 0.05}) == ("estimate", 200)
    assert status_and_evals({"tolerance": 0.01}) == ("tie", 200)
    assert status_and_evals({"top_k": 1}) == ("estimate", 100)
    assert status_and_evals({"top_k": 2}) == ("estimate", 200)  # 4.0 against 2.0: 2 * hypot(2, 2) is more, of 0.5 less
    assert status_and_evals({"top_k": 4}) == ("tie", 200)


def test_missed_deadline_still_returns_the_prediction(serve_explained) -> None:
    """Rows that were not reached say so."""
    client = serve_explained()
    answer = explain(client, {"deadline_ms": 1}, *[ROW] * 900)
    statuses = {(entry["status"], entry.get("reason")) for entry in answer["explanations"]}
    assert len(answer["predictions"]) == len(answer["explanations"]) == 900
    assert ("skipped", "deadline") in statuses
    assert statuses <= {("skipped", "deadline"), ("exact", None)}


def test_full_limiter_skips_the_explanation_and_not_the_prediction(serve_explained) -> None:
    """Explanations that do not fit are skipped as busy."""
    answer = explain(serve_explained(max_explain_rows=1), True, ROW, ROW)
    assert answer["explanations"] == [{"status": "skipped", "reason": "busy"}] * 2
    assert len(answer["predictions"]) == 2


def test_package_without_explainer_predicts_and_says_501(client_without_explainer) -> None:
    """What cannot be explained is said clearly; predictions work."""
    refused = client_without_explainer.predict(toy.request(ROW, explain=True))
    assert (refused.status_code, refused.json()) == (
        501,
        {"error": "explain: this model package has no explainer"},
    )
    assert client_without_explainer.predict(toy.request(ROW)).status_code == 200


@pytest.fixture
def client_without_explainer(toys):
    """The plain toys."""
    with serving(toys, device="cpu") as client:
        yield client


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"top_k": 0}, "explain.top_k"),
        ({"top_k": 6}, "explain.top_k"),
        ({"top_k": 1.5}, "explain.top_k"),
        ({"top_k": 2.9999999999999996}, "explain.top_k"),
        ({"tolerance": 0}, "explain.tolerance"),
        ({"tolerance": 1.1}, "explain.tolerance"),
        ({"tolerance": "0.1"}, "explain.tolerance"),
        ({"deadline_ms": 0}, "explain.deadline_ms"),
        ({"deadline_ms": None}, "explain.deadline_ms"),
        ({"if": "sometimes"}, "explain.if"),
        ({"topk": 3}, "explain"),
        ("yes", "explain"),
        ([], "explain"),
        (1, "explain"),
    ],
)
def test_malformed_option_is_a_400_that_names_the_field(serve_explained, options, where) -> None:
    """The message says where and what is expected."""
    response = serve_explained().predict(toy.request(ROW, explain=options))
    assert response.status_code == 400
    assert response.json()["error"].startswith(f"{where}: ")


def test_explainer_of_another_shape_is_refused(tmp_path, serve_explained) -> None:
    """An explainer that does not fit its model keeps the package from being served."""
    client = serve_explained(toy.toy_model())
    ready = client.get("/v2/health/ready")
    assert ready.status_code == 503
    assert "explainer" in ready.json()["error"]


def test_every_explanation_equals_its_serial_twin(serve_explained) -> None:
    """32 callers at once, mixed sizes and flags: each entry is what the same row gets alone."""
    client = serve_explained()
    rows = [ROW | {"amount": amount, "hour": amount % 24} for amount in range(32)]
    alone = [explain(client, True, row)["explanations"][0] for row in rows]
    bodies = [toy.request(*rows[index : index + 1 + index % 3], explain=index % 4 != 0) for index in range(32)]
    for index, response in enumerate(client.together(*bodies)):
        entries = response.json().get("explanations")
        assert entries == (alone[index : index + 1 + index % 3] if index % 4 else None)


@pytest.mark.parametrize(("accept", "start"), [("image/png", b"\x89PNG"), ("image/svg+xml", b"<?xml")])
def test_explain_draws_a_picture_where_one_is_asked_for(serve_explained, accept, start) -> None:
    """One instance, one waterfall; several are a 400."""
    pytest.importorskip("shap")
    client = serve_explained()

    def draw(*rows):
        headers = {"content-type": "application/json", "accept": accept}
        return client.request("POST", "/v1/models/toy:explain", json=toy.request(*rows), headers=headers)

    picture = draw(ROW)
    assert picture.headers["content-type"] == accept
    assert picture.content.startswith(start)
    assert draw(ROW, ROW).status_code == 400
