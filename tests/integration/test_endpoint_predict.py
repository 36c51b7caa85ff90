"""What `:predict` answers to good requests: numbers that a person can check against the toys' formulas."""

import math

import pytest
from toy import ROW, request, write_toy


def sigmoid(margin):
    return 1 / (1 + math.exp(-margin))


def first(response):
    assert response.status_code == 200, response.text
    return response.json()["predictions"][0]


def probability(response):
    return first(response)["probability"]


def test_the_response_has_the_shape_of_the_contract(client):
    """Model, version and one prediction, and nothing else."""
    response = client.predict(request(ids=["order-8812"]))
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "model_name": "toy",
        "model_version": "10",
        "predictions": [{"id": "order-8812", "label": "fraud", "probability": 0.5, "threshold": 0.5}],
    }


@pytest.mark.parametrize(
    ("change", "margin"),
    [
        ({"amount": 2}, 1.0),
        ({"amount": 2.5}, 1.25),
        ({"hour": 8}, 2.0),
        ({"hour": 8.0}, 2.0),
        ({"cross_border": 1}, 2.0),
        ({"cross_border": 1.0}, 2.0),
        ({"cross_border": True}, 2.0),
        ({"cross_border": False}, 0.0),
        ({"entry_mode": "contactless"}, 1.0),
        ({"entry_mode": "online"}, 2.0),
        ({"balance": 0}, -4.0),
        ({"balance": None}, 0.0),
        ({"balance": -1.5}, -7.0),
    ],
    ids=str,
)
def test_each_kind_of_value_reaches_the_graph(client, change, margin):
    """Numbers as they are, booleans as 0 and 1, categories as indices, null as NaN (which the toy replaces by 2)."""
    assert probability(client.predict(request(change))) == pytest.approx(sigmoid(margin), abs=1e-6)


def test_features_may_come_in_any_order(client):
    """The manifest decides the columns, not the caller."""
    shuffled = dict(reversed((ROW | {"amount": 2, "hour": 8}).items()))
    assert probability(client.predict({"instances": [shuffled]})) == pytest.approx(sigmoid(3), abs=1e-6)


def test_predictions_come_in_the_order_of_the_instances(client):
    """Row i of the answer is row i of the request."""
    amounts = [5, 0, 3, 1, 4, 2]
    response = client.predict(request(*({"amount": amount, "balance": 1} for amount in amounts)))
    found = [prediction["probability"] for prediction in response.json()["predictions"]]
    assert found == pytest.approx([sigmoid(amount / 2 - 2) for amount in amounts], abs=1e-6)


def test_the_label_is_positive_from_the_threshold_on(client):
    """Equality is positive; `probability` is that of the positive class on both sides."""
    response = client.predict(request({"balance": 1.999}, {"balance": 2}, {"balance": 2.001}))
    predictions = response.json()["predictions"]
    assert [prediction["label"] for prediction in predictions] == ["legitimate", "fraud", "fraud"]
    assert predictions[0]["probability"] < 0.5 == predictions[1]["probability"] < predictions[2]["probability"]


def test_a_positive_class_in_the_first_column_is_answered_with_its_own_probability(serve, tmp_path):
    """The column is found by name, and the stored threshold decides."""
    write_toy(tmp_path, positive_class="legitimate", threshold=0.75)
    answer = first(serve(tmp_path).predict(request({"balance": 1.5}, ids=["a"])))
    assert answer == {
        "id": "a",
        "label": "fraud",
        "probability": pytest.approx(sigmoid(1), abs=1e-6),
        "threshold": 0.75,
    }


def test_several_classes_are_answered_with_all_probabilities(client):
    """Label by argmax in the type of the data, one probability per class, no threshold."""
    body = {"instances": [{"x": 0, "y": math.log(2)}, {"x": 5, "y": -5}, {"x": -50, "y": -50}], "ids": ["a", "b", "c"]}
    response = client.predict(body, model="trio")
    assert response.json() == {
        "model_name": "trio",
        "model_version": "1",
        "predictions": [
            {"id": "a", "label": 20, "probabilities": pytest.approx({"10": 0.25, "20": 0.5, "30": 0.25}, abs=1e-6)},
            {
                "id": "b",
                "label": 10,
                "probabilities": pytest.approx({"10": 0.99326, "20": 5e-5, "30": 0.00669}, abs=1e-5),
            },
            {"id": "c", "label": 30, "probabilities": pytest.approx({"10": 0, "20": 0, "30": 1}, abs=1e-6)},
        ],
    }


def test_the_highest_version_answers_and_each_can_be_named(client):
    """10 is higher than 9; version 9 has a bias that is lower by one."""
    assert client.predict(request()).json()["model_version"] == "10"
    for version, margin in (("9", -1), ("10", 0)):
        response = client.predict(request(), model=f"toy/versions/{version}")
        assert response.json()["model_version"] == version
        assert probability(response) == pytest.approx(sigmoid(margin), abs=1e-6)


def test_callers_ids_come_back_in_order(client):
    """Ids are opaque: any text of 1 to 64 characters but NUL, which no text in PostgreSQL has."""
    ids = ["z", "a", "Zürich 😀", "x" * 64, "\u0001\n\"'%s"]
    response = client.predict(request(*[{}] * len(ids), ids=ids))
    assert [prediction["id"] for prediction in response.json()["predictions"]] == ids


def test_generated_ids_are_ulids_unique_and_ascending(client):
    """26 characters of Crockford's alphabet; within a request they sort, over requests none repeats."""
    seen = []
    for _ in range(20):
        ids = [prediction["id"] for prediction in client.predict(request(*[{}] * 50)).json()["predictions"]]
        assert ids == sorted(ids)
        seen += ids
    assert len(set(seen)) == 1000
    assert all(len(id_) == 26 and set(id_) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for id_ in seen)
    times = [id_[:10] for id_ in seen]
    assert times == sorted(times)


def test_sensitive_features_do_not_change_the_answer(client):
    """They are for the monitor: declared, unlisted, declined and absent groups all get the same prediction."""
    groups = [
        {"sex": "female", "age_band": "50+"},
        {"sex": "an unlisted one"},
        {"sex": "declined"},
        {"age_band": ""},
        {},
    ]
    response = client.predict(request(*[{"amount": 2}] * 5, sensitive_features=groups))
    found = [prediction["probability"] for prediction in response.json()["predictions"]]
    assert found == pytest.approx([sigmoid(1)] * 5, abs=1e-6)


def test_as_many_instances_as_allowed_are_answered(serve):
    """The limit itself is still fine, and may exceed what fits in one batch."""
    client = serve(max_instances=600, max_batch_rows=256)
    response = client.predict(request(*({"balance": number / 300} for number in range(600))))
    found = [prediction["probability"] for prediction in response.json()["predictions"]]
    assert found == pytest.approx([sigmoid(2 * number / 300 - 4) for number in range(600)], abs=1e-6)


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", "text/json"])
def test_json_media_types_are_accepted(client, content_type):
    """Media types are case-insensitive and may have parameters."""
    assert client.predict(request(), headers={"content-type": content_type}).status_code == 200


def test_not_asking_for_an_explanation_is_fine_without_an_explainer(client):
    """`explain: false` is what leaving it out means."""
    assert client.predict(request(explain=False)).json().keys() == {"model_name", "model_version", "predictions"}


def test_asking_for_an_explanation_without_an_explainer_is_not_offered(client):
    """501: the request is fine, the package lacks the part."""
    response = client.predict(request(explain=True))
    assert response.status_code == 501
    assert response.json() == {"error": "explain: this model package has no explainer"}


def test_a_repeated_key_counts_with_its_last_value(client):
    """As in Python's own parser: JSON leaves it open."""
    body = b'{"instances": [], "instances": [{"amount": 5000, "amount": 2, "hour": 0, "cross_border": 0, "entry_mode": "chip", "balance": 2}]}'  # noqa: E501
    assert probability(client.predict(body)) == pytest.approx(sigmoid(1), abs=1e-6)
