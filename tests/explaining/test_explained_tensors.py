"""Explanations as output tensors of the Open Inference Protocol are those of `:predict`."""

import numpy as np
from tensors import INSTANCES, ROWS, infer, outputs, tensor


def test_explanations_are_tensors(serve_explained):
    client = serve_explained()
    expected = client.predict({"instances": INSTANCES, "explain": True}).json()["explanations"]
    for parameters in ({"explain": True}, {"explain": "true"}, {"explain": {"top_k": 2}}):
        response = infer(client, tensor(), parameters=parameters)
        found = outputs(response)
        for name in ("values", "base_values", "error_std"):
            assert found[name].tolist() == np.array([entry[name] for entry in expected], np.float32).tolist()
        assert found["values"].shape == (2, 5, 1)
        assert found["explanation_status"] == [entry["status"] for entry in expected]
        assert response.json()["parameters"]["explain"] == "exact"


def test_asking_for_values_asks_for_an_explanation(serve_explained):
    client = serve_explained()
    wanted = [{"name": "values"}]
    assert outputs(infer(client, tensor(), outputs=wanted))["values"].shape == (2, 5, 1)
    assert infer(client, tensor(), outputs=wanted, parameters={"explain": False}).status_code == 400


def test_rows_without_an_explanation_are_nan(serve_explained):
    client = serve_explained()
    rows = [ROWS[0], [0, 0, 0, 0, -9]]
    response = infer(client, tensor(values=rows), parameters={"explain": {"if": "negative"}})
    found = outputs(response)
    assert found["explanation_status"] == ["skipped", "exact"]
    assert np.isnan(found["values"][0]).all()
    assert np.isfinite(found["values"][1]).all()
    assert response.json()["parameters"]["explain"] == "mixed"
