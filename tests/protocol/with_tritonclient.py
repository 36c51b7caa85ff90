"""Run in the environment of clients: what tritonclient[http] does, unmodified, against a running service.

python with_tritonclient.py http://127.0.0.1:8000
"""

import asyncio
import json
from functools import partial
from urllib.parse import urlsplit

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from checking import URL, Package, check, refusal, report
from tritonclient.utils import InferenceServerException

ADDRESS = urlsplit(URL).netloc
diagnosis, transaction = Package("diagnosis"), Package("transaction")
client = triton.InferenceServerClient(ADDRESS)


def matrix(package, *, module=triton, binary=True, dtype=np.float32, datatype="FP32"):
    tensor = module.InferInput("X", list(package.X.shape), datatype)
    tensor.set_data_from_numpy(package.X.astype(dtype), binary_data=binary)
    return [tensor]


def named(package, *, binary=True):
    """One tensor for each feature; those of categories as strings."""
    tensors = []
    for column, feature in enumerate(package.features):
        if "categories" in feature:
            values = np.array([row[feature["name"]] for row in package.instances], np.object_)
        else:
            values = package.X[:, column].copy()
        tensors.append(
            triton.InferInput(feature["name"], [len(values)], "BYTES" if "categories" in feature else "FP32")
        )
        tensors[-1].set_data_from_numpy(values, binary_data=binary)
    return tensors


def outputs(*names, binary, module=triton):
    return [module.InferRequestedOutput(name, binary_data=binary) for name in names]


def assert_right(result, package):
    column = package.manifest["classes"].index(package.manifest["positive_class"])
    assert (result.as_numpy("probability")[:, column] == package.probabilities()).all()
    labels = [text.decode() if isinstance(text, bytes) else text for text in result.as_numpy("label")]
    assert labels == package.labels()


@check
def health():
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("diagnosis")
    assert client.is_model_ready("diagnosis", "1")
    assert not client.is_model_ready("diagnosis", "7")
    assert not client.is_model_ready("nobody")


@check
def server_metadata():
    metadata = client.get_server_metadata()
    assert metadata["name"] == "triton"  # the setting of this server
    assert {"binary_tensor_data", "statistics"} <= set(metadata["extensions"])


@check
def model_metadata():
    metadata = client.get_model_metadata("diagnosis")
    assert metadata["inputs"][0]["name"] == "X"
    assert metadata["inputs"][0]["shape"] == [-1, 30]
    assert {"margin", "probability", "label", "values"} <= {output["name"] for output in metadata["outputs"]}
    assert client.get_model_config("diagnosis")["input"][0]["dims"] == [30]


@check
def unknown_model():
    for ask in (client.get_model_metadata, client.get_inference_statistics):
        error = refusal(InferenceServerException, partial(ask, "nobody"))
        assert "Request for unknown model" in error.message()


@check
def binary_both_ways():
    assert_right(client.infer("diagnosis", matrix(diagnosis)), diagnosis)
    assert_right(client.infer("transaction", matrix(transaction), model_version="1"), transaction)


@check
def json_both_ways():
    wanted = outputs("probability", "label", binary=False)
    assert_right(client.infer("diagnosis", matrix(diagnosis, binary=False), outputs=wanted), diagnosis)
    assert_right(client.infer("transaction", matrix(transaction, binary=False), outputs=wanted), transaction)


@check
def mixed():
    wanted = outputs("probability", binary=True) + outputs("label", binary=False)
    assert_right(client.infer("diagnosis", matrix(diagnosis, binary=False), outputs=wanted), diagnosis)
    tensors = named(transaction)
    tensors[::2] = named(transaction, binary=False)[::2]
    assert_right(client.infer("transaction", tensors, outputs=wanted), transaction)


@check
def requested_outputs_only():
    response = client.infer("diagnosis", matrix(diagnosis), outputs=outputs("label", "margin", binary=True))
    assert [output["name"] for output in response.get_response()["outputs"]] == ["label", "margin"]
    assert response.as_numpy("margin").shape == (3, 1)


@check
def strings():
    for binary in (True, False):
        assert_right(client.infer("transaction", named(transaction, binary=binary)), transaction)


@check
def compression():
    for asked in ("gzip", "deflate", None):
        for answered in ("gzip", "deflate", None):
            result = client.infer(
                "diagnosis",
                matrix(diagnosis),
                request_compression_algorithm=asked,
                response_compression_algorithm=answered,
            )
            assert_right(result, diagnosis)
            result = client.infer(
                "diagnosis",
                matrix(diagnosis, binary=False),
                outputs=outputs("probability", "label", binary=False),
                request_compression_algorithm=asked,
                response_compression_algorithm=answered,
            )
            assert_right(result, diagnosis)


@check
def request_id_and_parameters():
    sensitive = [{"age_band": "18-29"}] * 3
    ids = ["triton-1", "triton-2", "triton-3"]
    parameters = {"ids": ids, "sensitive_features": sensitive}
    for given in (parameters, {name: json.dumps(value) for name, value in parameters.items()}):
        response = client.infer("transaction", matrix(transaction), request_id="mine", parameters=given).get_response()
        assert response["id"] == "mine"
        assert json.loads(response["parameters"]["ids"]) == ids
        assert response["parameters"]["threshold"] == transaction.manifest["threshold"]


@check
def sensitive_features_as_tensors():
    groups = triton.InferInput("sensitive_features.age_band", [3, 1], "BYTES")
    groups.set_data_from_numpy(np.array([["18-29"], ["50+"], [""]], np.object_))
    assert_right(client.infer("transaction", [*matrix(transaction), groups]), transaction)


@check
def explanations():
    expected = transaction.predict(explain=True)["explanations"]
    names = ("values", "base_values", "error_std", "explanation_status", "probability", "label")
    for wanted, parameters in ((None, {"explain": True}), (outputs(*names, binary=True), None)):
        result = client.infer("transaction", matrix(transaction), outputs=wanted, parameters=parameters)
        assert_right(result, transaction)
        for name in ("values", "base_values", "error_std"):
            assert (result.as_numpy(name) == np.array([entry[name] for entry in expected], np.float32)).all()
        assert result.as_numpy("explanation_status").tolist() == [b"exact"] * 3
        assert result.get_response()["parameters"]["explain"] == "exact"


@check
def other_datatypes():
    whole = Package("transaction")
    whole.X = np.floor(whole.X)
    expected = client.infer("transaction", matrix(whole)).as_numpy("margin")
    for dtype, datatype in ((np.float64, "FP64"), (np.float16, "FP16")):
        if (whole.X.astype(dtype) == whole.X).all() or dtype == np.float64:
            result = client.infer("transaction", matrix(whole, dtype=dtype, datatype=datatype))
            assert (result.as_numpy("margin") == expected).all()


@check
def refusals_are_understood():
    empty = [triton.InferInput("X", [3, 30], "FP32")]
    error = refusal(InferenceServerException, lambda: client.infer("diagnosis", empty))
    assert error.status() == "400"
    assert error.message().startswith("inputs[0]")


@check
def asynchronous_with_gevent():
    pool = triton.InferenceServerClient(ADDRESS, concurrency=4)
    asked = [pool.async_infer("diagnosis", matrix(diagnosis)) for _ in range(8)]
    for pending in asked:
        assert_right(pending.get_result(timeout=20), diagnosis)
    pool.close()


@check
def asyncio_client():
    async def ask():
        async with triton_aio.InferenceServerClient(ADDRESS) as aio:
            assert await aio.is_server_live()
            assert await aio.is_server_ready()
            assert await aio.is_model_ready("diagnosis")
            assert (await aio.get_server_metadata())["name"] == "triton"
            assert (await aio.get_model_metadata("diagnosis"))["platform"] == "onnxruntime_onnx"
            for asked in ("gzip", "deflate", None):
                for answered in ("gzip", "deflate", None):
                    for wanted in (None, outputs("probability", "label", binary=False, module=triton_aio)):
                        result = await aio.infer(
                            "diagnosis",
                            matrix(diagnosis, module=triton_aio),
                            outputs=wanted,
                            request_compression_algorithm=asked,
                            response_compression_algorithm=answered,
                        )
                        assert_right(result, diagnosis)

    asyncio.run(ask())


@check
def statistics():
    def counted():
        [stats] = client.get_inference_statistics("diagnosis")["model_stats"]
        return stats

    before = counted()
    client.infer("diagnosis", matrix(diagnosis))
    after = counted()
    assert after["name"] == "diagnosis"
    assert after["version"] == "1"
    assert after["inference_count"] == before["inference_count"] + 3
    assert after["execution_count"] == before["execution_count"] + 1
    assert after["last_inference"] >= before["last_inference"] > 0
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert after["inference_stats"][name]["count"] == before["inference_stats"][name]["count"] + 1
        assert after["inference_stats"][name]["ns"] >= before["inference_stats"][name]["ns"]
    assert {model["name"] for model in client.get_inference_statistics()["model_stats"]} >= {"diagnosis", "transaction"}


report()
