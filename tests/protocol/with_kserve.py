"""Run in the environment of clients: what KServe's InferenceRESTClient does, unmodified, against a running service.

python with_kserve.py http://127.0.0.1:8000
"""

import asyncio

import httpx
import numpy as np
from checking import URL, Package, check, refusal, report
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceRESTClient, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

diagnosis, transaction = Package("diagnosis"), Package("transaction")


def ask(question):
    """What `await question(client)` gives."""

    async def run():
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        try:
            return await question(client)
        finally:
            await client.close()

    return asyncio.run(run())


def matrix(package, *, binary):
    tensor = InferInput("X", list(package.X.shape), "FP32")
    tensor.set_data_from_numpy(package.X, binary_data=binary)
    return [tensor]


def assert_right(response, package):
    column = package.manifest["classes"].index(package.manifest["positive_class"])
    probability = response.get_output_by_name("probability").as_numpy()
    assert (probability[:, column].astype(np.float32) == package.probabilities()).all()


@check
def health():
    assert ask(lambda client: client.is_server_live(URL)) is True
    assert ask(lambda client: client.is_server_ready(URL)) is True
    assert ask(lambda client: client.is_model_ready(URL, "diagnosis")) is True
    assert ask(lambda client: client.is_model_ready(URL, "nobody")) is False


@check
def infer():
    for binary in (True, False):
        for parameters in ({"binary_data_output": True}, None):
            request = InferRequest(
                "diagnosis", matrix(diagnosis, binary=binary), request_id="mine", parameters=parameters
            )
            response = ask(lambda client, request=request: client.infer(URL, request, "diagnosis"))
            assert response.id == "mine"
            assert response.model_name == "diagnosis"
            assert_right(response, diagnosis)


@check
def requested_outputs():
    for binary in (True, False):
        wanted = [RequestedOutput("probability", {"binary_data": binary})]
        request = InferRequest("diagnosis", matrix(diagnosis, binary=binary), request_outputs=wanted)
        response = ask(lambda client, request=request: client.infer(URL, request, "diagnosis"))
        assert [output.name for output in response.outputs] == ["probability"]
        assert_right(response, diagnosis)


@check
def strings():
    for binary in (True, False):
        tensors = []
        for column, feature in enumerate(transaction.features):
            categories = "categories" in feature
            tensors.append(InferInput(feature["name"], [3], "BYTES" if categories else "FP32"))
            values = [row[feature["name"]] for row in transaction.instances] if categories else transaction.X[:, column]
            tensors[-1].set_data_from_numpy(
                np.array(values, np.object_ if categories else np.float32), binary_data=binary
            )
        request = InferRequest("transaction", tensors, parameters={"explain": True})
        response = ask(lambda client, request=request: client.infer(URL, request, "transaction"))
        assert_right(response, transaction)
        assert response.get_output_by_name("values").as_numpy().shape == (3, len(transaction.features), 1)
        assert response.parameters["explain"] == "exact"


@check
def refusals_are_understood():
    request = InferRequest("diagnosis", [InferInput("Y", [1], "FP32", [1.0])])
    error = refusal(httpx.HTTPStatusError, lambda: ask(lambda client: client.infer(URL, request, "diagnosis")))
    assert error.response.status_code == 400
    assert "inputs[0]: unknown input" in str(error)


report()
