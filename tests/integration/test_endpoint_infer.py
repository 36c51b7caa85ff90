"""`/v2/models/{name}/infer`: what comes in as tensors is answered as `:predict` answers it, and counted alike."""

import gzip
import json
import zlib

import numpy as np
import pytest
from exposition import samples
from tensors import FEATURES, INSTANCES, MARGINS, ROWS, body, infer, named, outputs, tensor
from toy import request, toy_model, write

TOY = {"model_name": "toy", "model_version": "10"}


def deflate_raw(content):
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(content) + encoder.flush()


ENCODERS = {"gzip": gzip.compress, "deflate": zlib.compress, "raw": deflate_raw}


@pytest.mark.parametrize("binary", [False, True])
def test_the_matrix_is_answered_as_instances_are(client, binary):
    found = outputs(infer(client, tensor(binary=binary), parameters={"binary_data_output": binary}))
    predictions = client.predict({"instances": INSTANCES}).json()["predictions"]
    assert found["margin"].tolist() == [[margin] for margin in MARGINS]
    assert found["probability"][:, 1].tolist() == [row["probability"] for row in predictions]
    assert found["probability"].sum(axis=1) == pytest.approx([1, 1])
    assert found["label"] == [row["label"] for row in predictions]
    assert found.keys() == {"margin", "probability", "label"}


@pytest.mark.parametrize("inputs", ["matrix", "flat", "named", "named binary", "mixed", "columns of one"])
def test_every_way_of_sending_rows_is_the_same(client, inputs):
    tensors = {
        "matrix": [tensor()],
        "flat": [tensor(values=[value for row in ROWS for value in row], shape=[2, 5])],
        "named": named(),
        "named binary": named(binary=True),
        "mixed": [*named(binary=True)[:2], *named()[2:]],
        "columns of one": [(given | {"shape": [2, 1]}, data) for given, data in named(binary=True)],
    }[inputs]
    assert outputs(infer(client, *tensors))["margin"].tolist() == [[margin] for margin in MARGINS]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("datatype", ["INT8", "INT64", "UINT16", "UINT64", "FP16", "FP64", "BOOL"])
def test_other_datatypes_are_cast(client, datatype, binary):
    row = [1, 1, 1, 1, 1] if datatype != "BOOL" else [True] * 5
    found = outputs(infer(client, tensor(values=[row], datatype=datatype, binary=binary)))
    assert found["margin"].tolist() == [[1.75]]


def test_a_bound_is_taken_as_float32_has_it(serve, tmp_path):
    """0.1 as float32 lies above 0.1, and is the float32 that `:predict` makes of it; as FP64 it is beyond."""
    features = [{"name": name, "kind": "numeric", "maximum": 0.1} for name in FEATURES]
    write(tmp_path / "toy" / "1", toy_model(), [[0.0] * 5] * 2, features=features)
    client = serve(tmp_path)
    row = [[0.1, 0, 0, 0, 0]]
    for binary in (False, True):
        assert infer(client, tensor(values=row, binary=binary)).status_code == 200
        beyond = [[float(np.float32(0.1)), 0, 0, 0, 0]]
        assert infer(client, tensor(values=beyond, datatype="FP64", binary=binary)).status_code == 400
        above = [[float(np.nextafter(np.float32(0.1), np.float32(1))), 0, 0, 0, 0]]
        assert infer(client, tensor(values=above, binary=binary)).status_code == 400


def test_categories_of_a_matrix_are_indices(client):
    message = infer(client, tensor(values=[[0, 0, 0, 3, 2]])).json()["error"]
    assert message == "inputs[0]: row 0, entry_mode: an index into its categories, 0 to 2, is expected"


def test_outputs_are_those_asked_for_in_that_order_each_in_its_way(client):
    wanted = [
        {"name": "label", "parameters": {"binary_data": True}},
        {"name": "id"},
        {"name": "margin", "parameters": {"binary_data": False}},
    ]
    response = infer(client, tensor(), outputs=wanted, parameters={"binary_data_output": True, "ids": ["o-1", "o-2"]})
    found = outputs(response)
    assert list(found) == ["label", "id", "margin"]
    assert found["id"] == ["o-1", "o-2"]
    head = json.loads(response.content[: int(response.headers["inference-header-content-length"])])
    assert [("data" in output) for output in head["outputs"]] == [False, False, True]


def test_labels_that_are_numbers_stay_numbers(client):
    found = outputs(infer(client, tensor(values=[[1.0, 2.0], [5.0, 1.0]]), model="trio"))
    assert found["label"].tolist() == [20, 10]
    assert found["label"].dtype == np.int64
    assert found["probability"].shape == (2, 3)


def test_what_is_the_callers_comes_back(client):
    answer = infer(client, tensor(), id="mine", parameters={"ids": ["v2-a", "v2-b"]}).json()
    assert answer["id"] == "mine"
    assert (answer["model_name"], answer["model_version"]) == ("toy", "10")
    assert json.loads(answer["parameters"]["ids"]) == ["v2-a", "v2-b"]
    assert answer["parameters"]["threshold"] == 0.5
    assert "id" not in infer(client, tensor()).json()
    assert all(isinstance(value, str | int | float | bool) for value in answer["parameters"].values())


def test_a_version_can_be_named(client):
    assert outputs(infer(client, tensor(), model="toy/versions/9"))["margin"].tolist() == [[-1.0], [8.25]]
    assert infer(client, tensor(), model="toy/versions/8").status_code == 404
    refused = infer(client, tensor(), model="nobody")
    assert refused.status_code == 404
    assert refused.json()["error"].startswith("Request for unknown model")


def test_a_repeated_id_is_answered_from_the_records(client):
    first = outputs(infer(client, tensor(), parameters={"ids": ["again-1", "again-2"]}))
    before = counts(client)
    second = infer(client, tensor(), parameters={"ids": ["again-1", "again-2"]})
    assert outputs(second)["probability"].tolist() == first["probability"].tolist()
    assert counts(client) == before
    other = infer(client, tensor(), model="toy/versions/9", parameters={"ids": ["again-1", "fresh-1"]})
    found = outputs(other)
    assert json.loads(other.json()["parameters"]["model_versions"]) == ["10", "9"]
    assert found["probability"][0].tolist() == first["probability"][0].tolist()
    assert np.isnan(found["margin"][0, 0])
    assert found["margin"][1, 0] == 8.25


def counts(client):
    """What the monitor has counted of the toy's predictions, scores and drift."""
    names = ("plumbline_predictions", "plumbline_score", "plumbline_feature_obs", "plumbline_sensitive")
    return {
        key: number
        for key, number in samples(client.get("/metrics").text).items()
        if key[0].startswith(names) and set(TOY.items()) <= set(key[1])
    }


def counted(client, ask):
    before = counts(client)
    assert ask().status_code == 200
    return {key: number - before.get(key, 0) for key, number in counts(client).items() if number != before.get(key, 0)}


GROUPS = [{"sex": "female", "age_band": "50+"}, {"sex": "declined"}]


@pytest.mark.parametrize("way", ["parameter", "text", "tensors", "tensors of bytes"])
def test_the_monitor_counts_as_it_does_for_instances(client, way):
    expected = counted(client, lambda: client.predict({"instances": INSTANCES, "sensitive_features": GROUPS}))
    assert len(expected) > 4
    binary = way == "tensors of bytes"
    groups = [
        tensor("sensitive_features.sex", ["female", "declined"], "BYTES", binary=binary),
        tensor("sensitive_features.age_band", ["50+", ""], "BYTES", binary=binary),
    ]
    ask = {
        "parameter": lambda: infer(client, tensor(), parameters={"sensitive_features": GROUPS}),
        "text": lambda: infer(client, tensor(), parameters={"sensitive_features": json.dumps(GROUPS)}),
    }.get(way, lambda: infer(client, tensor(), *groups))
    assert counted(client, ask) == expected


def test_outcomes_find_what_was_answered(client):
    ids = json.loads(infer(client, tensor()).json()["parameters"]["ids"])
    sent = {"outcomes": [{"id": id_, "label": "fraud"} for id_ in ids]}
    answer = client.request("POST", "/v1/models/toy:outcomes", json=sent).json()
    assert answer["joined"] == 2


@pytest.mark.parametrize("encoding", ENCODERS)
def test_compressed_bodies_are_read(client, encoding):
    content, headers = body(tensor(binary=True))
    headers |= {"content-encoding": "gzip" if encoding == "gzip" else "deflate"}
    response = client.request("POST", "/v2/models/toy/infer", content=ENCODERS[encoding](content), headers=headers)
    assert outputs(response)["margin"].tolist() == [[margin] for margin in MARGINS]


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0.5, deflate", "deflate"),
        ("gzip;q=0, br", None),
        ("identity", None),
        ("br, gzip;q=x", None),
    ],
)
def test_responses_are_compressed_if_asked(client, accepted, encoding):
    response = infer(client, tensor(), parameters={"binary_data_output": True}, headers={"accept-encoding": accepted})
    assert response.headers.get("content-encoding") == encoding
    assert outputs(response)["margin"].tolist() == [[margin] for margin in MARGINS]


def test_without_an_explainer_there_are_no_such_outputs(client):
    assert infer(client, tensor(), parameters={"explain": True}).status_code == 501
    assert infer(client, tensor(), outputs=[{"name": "values"}]).status_code == 400


def test_a_failing_row_is_named_as_a_row(client):
    refused = infer(client, tensor(values=[[1.0], [9.0]]), model="brittle")
    assert refused.status_code == 500
    assert refused.json()["error"].startswith("inputs: row 1: ")


def test_a_callers_own_timeout_holds(client):
    late = tensor(values=[[0.0, 2_000_000.0]])
    assert infer(client, late, model="slow", parameters={"timeout": 20_000}).status_code == 504


def test_values_that_are_refused_are_counted(client):
    def refused(reason):
        name = "plumbline_refused_values_total"
        return samples(client.get("/metrics").text)[
            name, tuple(sorted((TOY | {"feature": "hour", "reason": reason}).items()))
        ]

    before = {reason: refused(reason) for reason in ("range", "type", "absent")}
    infer(client, tensor(values=[[0, 24, 0, 0, 0]]))
    infer(client, tensor(values=[[0, 1.5, 0, 0, 0]]))
    infer(client, *named(hour=None))
    assert {reason: refused(reason) - number for reason, number in before.items()} == dict.fromkeys(before, 1)


def test_both_protocols_share_a_batch(client):
    """Statistics count requests and rows whatever the protocol."""

    def stats():
        [found] = client.get("/v2/models/toy/versions/10/stats").json()["model_stats"]
        return found

    before = stats()
    infer(client, tensor())
    client.predict(request())
    after = stats()
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 2
    assert after["execution_count"] - before["execution_count"] == 2
    assert sum(batch["compute_infer"]["count"] for batch in after["batch_stats"]) == after["execution_count"]
    spent = {name: duration["ns"] for name, duration in after["inference_stats"].items()}
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert sum(spent[name] for name in parts) <= spent["success"] + spent["fail"]


def test_failures_are_counted_too(client):
    def failed():
        [found] = client.get("/v2/models/brittle/stats").json()["model_stats"]
        return found["inference_stats"]["fail"]["count"]

    before = failed()
    infer(client, tensor(values=[[9.0]]), model="brittle")
    assert failed() == before + 1
