"""What `/v2` says of the server and its models, and how `/openapi.json` describes inference."""

import tomllib
from pathlib import Path

import jsonschema
import pytest
from tensors import FEATURES, infer, tensor
from toy import SENSITIVE_FEATURES, seal, toy_model, write_toy

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_server_says_what_it_is(client, serve):
    found = client.get("/v2").json()
    assert found["name"] == "plumbline"
    assert found["version"] == tomllib.loads(PYPROJECT.read_text())["project"]["version"]
    assert {"binary_tensor_data", "statistics", "parameters"} <= set(found["extensions"])
    assert serve(server_name="triton").get("/v2").json()["name"] == "triton"


def test_a_model_says_what_it_takes_and_gives(client):
    found = client.get("/v2/models/toy").json()
    assert (found["name"], found["versions"], found["platform"]) == ("toy", ["9", "10"], "onnxruntime_onnx")
    assert [(each["name"], each["datatype"], each["shape"]) for each in found["inputs"]] == [("X", "FP32", [-1, 5])]
    assert {each["name"]: each["shape"] for each in found["outputs"]} == {
        "margin": [-1, 1],
        "probability": [-1, 2],
        "label": [-1],
        "id": [-1],
    }
    features = {each["name"]: each for each in found["parameters"]["instead_of_X"]}
    assert list(features) == list(FEATURES)
    assert features["amount"]["parameters"]["unit"] == "EUR"
    assert features["entry_mode"]["datatype"] == "BYTES"
    groups = [each["name"] for each in found["parameters"]["sensitive_features"]]
    assert groups == [f"sensitive_features.{feature['name']}" for feature in SENSITIVE_FEATURES]
    assert client.get("/v2/models/toy/versions/9").json() == found


def test_what_is_described_is_what_answers_hold(client):
    for model, row in (("toy", [0] * 5), ("trio", [0, 1])):
        described = {each["name"]: each for each in client.get(f"/v2/models/{model}").json()["outputs"]}
        answered = infer(client, tensor(values=[row]), model=model, outputs=[{"name": name} for name in described])
        for output in answered.json()["outputs"]:
            assert output["datatype"] == described[output["name"]]["datatype"]
            assert output["shape"] == [1, *described[output["name"]]["shape"][1:]]


def test_the_configuration_has_dimensions_without_rows(client):
    found = client.get("/v2/models/toy/config").json()
    assert found["input"] == [{"name": "X", "data_type": "TYPE_FP32", "dims": [5]}]
    assert [output["data_type"] for output in found["output"]] == ["TYPE_FP32", "TYPE_FP32", "TYPE_STRING"]
    assert found["max_batch_size"] == 1000


@pytest.mark.parametrize("suffix", ["", "/ready", "/config", "/stats"])
def test_unknown_models_and_versions_are_not_found(client, suffix):
    for path in ("nobody", "toy/versions/8", "toy/versions/x"):
        response = client.get(f"/v2/models/{path}{suffix}")
        assert response.status_code == 404
        assert response.json()["error"].startswith("Request for unknown model")


def test_ready_is_of_the_model(client, serve, tmp_path):
    assert client.get("/v2/models/toy/ready").json() == {"name": "toy", "ready": True}
    assert client.get("/v2/models/toy/versions/9/ready").status_code == 200
    write_toy(tmp_path)
    broken = write_toy(tmp_path, name="broken")
    (broken / "model.onnx").write_bytes(toy_model(bias=1.0))
    seal(broken)
    served = serve(tmp_path)
    assert served.get("/v2/models/toy/ready").status_code == 200
    refused = served.get("/v2/models/broken/ready")
    assert refused.status_code == 503
    assert refused.json().keys() == {"error"}


def test_statistics_of_all_models_stand_in_one_list(client):
    found = client.get("/v2/models/stats").json()["model_stats"]
    assert [(each["name"], each["version"]) for each in found] == [
        ("brittle", "1"),
        ("slow", "1"),
        ("toy", "9"),
        ("toy", "10"),
        ("trio", "1"),
    ]
    [one] = client.get("/v2/models/trio/versions/1/stats").json()["model_stats"]
    assert set(one["inference_stats"]) == {
        "success",
        "fail",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
    }


@pytest.mark.parametrize("path", ["/v2/models/toy/infer", "/v2/models/toy/versions/9/infer", "/v2/models/trio/infer"])
def test_the_document_describes_inference_with_an_example_that_works(client, path):
    operation = client.get("/openapi.json").json()["paths"][path]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    jsonschema.validate(content["example"], content["schema"])
    response = client.request("POST", path, json=content["example"])
    assert response.status_code == 200
    jsonschema.validate(response.json(), operation["responses"]["200"]["content"]["application/json"]["schema"])
    assert {"400", "413", "415", "503", "504"} <= operation["responses"].keys()
