"""Malformed requests of the Open Inference Protocol: the right status, one sentence, no memory."""

import gzip
import json
import tracemalloc
import zlib

import pytest
from tensors import ROWS, body, infer, named, raw, tensor

LENGTH = "inference-header-content-length"
LIMIT = 10 * 2**20


def changed(**fields):
    """The matrix with other fields."""
    given, data = tensor()
    return given | fields, data


def binary(size=40, data=None, **fields):
    given, whole = tensor(binary=True)
    return given | {"parameters": {"binary_data_size": size}} | fields, whole if data is None else data


REFUSED = {
    "no inputs": ([], {}, 400, "inputs: a list"),
    "inputs an object": ([], {"inputs": {}}, 400, "inputs: a list"),
    "too many inputs": ([tensor(str(number)) for number in range(9)], {}, 400, "inputs: a list"),
    "an input a number": ([(7, b"")], {}, 400, "inputs[0]: an object"),
    "no name": ([changed(name=None)], {}, 400, "inputs[0].name: a string"),
    "name a number": ([changed(name=5)], {}, 400, "inputs[0].name: a string"),
    "unknown input": ([changed(name="Z")], {}, 400, "inputs[0]: unknown input; known are: X, amount"),
    "misspelt input": ([*named(amount=None), tensor("amuont", [1, 2])], {}, 400, "inputs[4]: unknown input; did you"),
    "the same twice": ([tensor(), tensor()], {}, 400, "inputs[1].name: each input"),
    "a feature beside X": ([tensor(), *named()[:1]], {}, 400, "inputs[0]: X stands for all"),
    "a missing feature": (named(hour=None), {}, 400, "inputs: hour is missing; a whole number"),
    "only groups": ([tensor("sensitive_features.sex", ["male"], "BYTES")], {}, 400, "inputs: X, or one"),
    "unknown group": ([tensor(), tensor("sensitive_features.z", ["a", "b"], "BYTES")], {}, 400, "inputs[1]: unknown"),
    "groups as numbers": ([tensor(), tensor("sensitive_features.sex", [1, 2])], {}, 400, "inputs[1].datatype: BYTES"),
    "groups twice": (
        [tensor(), tensor("sensitive_features.sex", ["male"] * 2, "BYTES")],
        {"parameters": {"sensitive_features": [{}, {}]}},
        400,
        "parameters.sensitive_features: ",
    ),
    "group too long": (
        [tensor(), tensor("sensitive_features.sex", ["m" * 300] * 2, "BYTES")],
        {},
        400,
        "parameters: sensitive_features[0].sex: ",
    ),
    "rows differ": (named(hour=([1], "FP32")), {}, 400, "inputs[1].shape: as many rows"),
    "unsupported datatype": ([changed(datatype="BF16")], {}, 400, "inputs[0].datatype: one of BOOL"),
    "datatype a list": ([changed(datatype=[])], {}, 400, "inputs[0].datatype: one of BOOL"),
    "matrix of texts": ([tensor(values=["a"] * 10, datatype="BYTES", shape=[2, 5])], {}, 400, "inputs[0].datatype: a"),
    "category of numbers": (named(entry_mode=([0, 1], "INT64")), {}, 400, "inputs[3].datatype: BYTES"),
    "numbers of texts": (named(hour=(["1", "2"], "BYTES")), {}, 400, "inputs[1].datatype: a numeric one"),
    "no shape": ([changed(shape=None)], {}, 400, "inputs[0].shape: one or two"),
    "shape of no axis": ([changed(shape=[])], {}, 400, "inputs[0].shape: one or two"),
    "shape of three": ([changed(shape=[2, 5, 1])], {}, 400, "inputs[0].shape: one or two"),
    "negative shape": ([changed(shape=[-1, 5])], {}, 400, "inputs[0].shape: one or two"),
    "shape of fractions": ([changed(shape=[2.0, 5])], {}, 400, "inputs[0].shape: one or two"),
    "shape of bools": ([changed(shape=[True, 5])], {}, 400, "inputs[0].shape: one or two"),
    "no rows": ([changed(shape=[0, 5], data=[])], {}, 400, "inputs[0].shape: one or two"),
    "wrong product": ([changed(shape=[2, 4])], {}, 400, "inputs[0].data: as many values"),
    "transposed": ([changed(shape=[5, 2])], {}, 400, "inputs[0].data: as many values"),
    "ragged": ([changed(data=[[1, 2, 3, 4, 5, 6], [1, 2, 3, 4]])], {}, 400, "inputs[0].data: as many values"),
    "nested too deep": ([changed(data=[ROWS])], {}, 400, "inputs[0].data: as many values"),
    "half nested": ([changed(data=[[0] * 5, 1])], {}, 400, "inputs[0].data: as many values"),
    "enormous product": ([changed(shape=[1000, 10**30])], {}, 400, "inputs[0].data: as many values"),
    "wrong width": ([tensor(values=[[1, 2, 3]])], {}, 400, "inputs[0].shape: [n, 5]"),
    "a flat matrix": ([changed(shape=[10], data=[0] * 10)], {}, 400, "inputs[0].shape: [n, 5]"),
    "a wide feature": ([*named()[1:], tensor("amount", [[1, 2], [3, 4]])], {}, 400, "inputs[4].shape: [n] or [n, 1]"),
    "too many rows": ([changed(shape=[1001, 5])], {}, 413, "inputs[0].shape: at most 1000 rows"),
    "far too many rows": ([changed(shape=[10**30, 5])], {}, 413, "inputs[0].shape: at most 1000 rows"),
    "no data": ([changed(data=None)], {}, 400, "inputs[0].data: a list"),
    "data a number": ([changed(data=1)], {}, 400, "inputs[0].data: a list"),
    "texts as numbers": ([changed(data=["1"] * 10)], {}, 400, "inputs[0].data: values of the datatype FP32"),
    "bools as numbers": ([changed(data=[True] * 10)], {}, 400, "inputs[0].data: values of the datatype FP32"),
    "fractions as integers": ([changed(datatype="INT32", data=[0.5] * 10)], {}, 400, "inputs[0].data: values of the d"),
    "null as an integer": ([changed(datatype="INT32", data=[None] * 10)], {}, 400, "inputs[0].data: values of the da"),
    "beyond the datatype": ([changed(datatype="INT8", data=[300] * 10)], {}, 400, "inputs[0].data: values of the data"),
    "beyond any datatype": ([changed(data=[10**400] * 10)], {}, 400, "inputs[0].data: values of the datatype FP32"),
    "numbers as texts": (named(entry_mode=([0, 1], "BYTES")), {}, 400, "inputs[3].data: strings"),
    "not exact": (
        [tensor(values=[[0.1, 0, 0, 0, 0]], datatype="FP64")],
        {},
        400,
        "inputs[0]: FP64 values that FP32 holds exactly",
    ),
    "integers not exact": (
        [tensor(values=[[2**24 + 1, 0, 0, 0, 0]], datatype="INT64")],
        {},
        400,
        "inputs[0]: INT64 values that FP32 holds exactly",
    ),
    "out of range": ([tensor(values=[[0] * 5, [1001, 0, 0, 0, 0]])], {}, 400, "inputs[0]: row 1, amount: a finite n"),
    "missing where it must not": ([tensor(values=[[None, 0, 0, 0, 0]])], {}, 400, "inputs[0]: row 0, amount: a fini"),
    "infinite": ([tensor(values=[[0, 0, 0, 0, 1e300]])], {}, 400, "inputs[0]: row 0, balance: a finite number or NaN"),
    "unknown category": (named(entry_mode=(["chip", "fax"], "BYTES")), {}, 400, "inputs[3]: row 1, entry_mode: one of"),
    "a missing category": (named(entry_mode=(["chip", None], "BYTES")), {}, 400, "inputs[3]: row 1, entry_mode: one"),
    "shared memory": ([changed(parameters={"shared_memory_region": "r"})], {}, 400, "inputs[0].parameters: shared mem"),
    "parameters a list": ([changed(parameters=[1])], {}, 400, "inputs[0].parameters: an object"),
    "both ways": ([(tensor(binary=True)[0] | {"data": ROWS}, tensor(binary=True)[1])], {}, 400, "inputs[0]: either"),
    "size a text": ([binary(size="40")], {}, 400, "inputs[0].parameters.binary_data_size: a number"),
    "size negative": ([binary(size=-1)], {}, 400, "inputs[0].parameters.binary_data_size: a number"),
    "truncated": ([binary(data=b"\0" * 39)], {}, 400, "inputs[0]: binary_data_size is more than the body holds"),
    "more than is named": ([binary(data=b"\0" * 41)], {}, 400, "body: it holds"),
    "size not that of the shape": ([binary(size=36, data=b"\0" * 36)], {}, 400, "inputs[0]: binary_data_size is not"),
    "size enormous": ([binary(size=10**30)], {}, 400, "inputs[0]: binary_data_size is more than"),
    "unknown field": ([tensor()], {"input": []}, 400, "body: unknown field; did you mean inputs?"),
    "id a number": ([tensor()], {"id": 5}, 400, "id: a string"),
    "id too long": ([tensor()], {"id": "i" * 129}, 400, "id: a string"),
    "parameters a text": ([tensor()], {"parameters": "p"}, 400, "parameters: an object"),
    "unknown parameter": (
        [tensor()],
        {"parameters": {"sensitive_feature": []}},
        400,
        "parameters: unknown",
    ),
    "explain a word": ([tensor()], {"parameters": {"explain": "please"}}, 400, "parameters: explain: true, false or"),
    "ids too few": ([tensor()], {"parameters": {"ids": ["a"]}}, 400, "parameters: ids: one entry per instance"),
    "ids alike": ([tensor()], {"parameters": {"ids": '["a", "a"]'}}, 400, "parameters: ids: each id may"),
    "timeout a fraction": ([tensor()], {"parameters": {"timeout": 1.5}}, 400, "parameters.timeout: a whole number"),
    "timeout of nothing": ([tensor()], {"parameters": {"timeout": 0}}, 400, "parameters.timeout: a whole number"),
    "binary output a number": ([tensor()], {"parameters": {"binary_data_output": 1}}, 400, "parameters.binary_data_o"),
    "unknown output": (
        [tensor()],
        {"outputs": [{"name": "lable"}]},
        400,
        "outputs[0]: unknown output; did you",
    ),
    "outputs a text": ([tensor()], {"outputs": "label"}, 400, "outputs: a list"),
    "an output a text": ([tensor()], {"outputs": ["label"]}, 400, "outputs[0].name: a string"),
    "an output twice": ([tensor()], {"outputs": [{"name": "label"}] * 2}, 400, "outputs[1]: each output"),
    "classification": (
        [tensor()],
        {"outputs": [{"name": "margin", "parameters": {"classification": 1}}]},
        400,
        "outputs[0].parameters: classification",
    ),
}


@pytest.mark.parametrize(("tensors", "fields", "status", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(client, tensors, fields, status, message):
    response = infer(client, *tensors, **fields)
    assert response.status_code == status
    assert response.json().keys() == {"error"}
    assert response.json()["error"].startswith(message)


def post(client, content, **headers):
    made = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request("POST", "/v2/models/toy/infer", content=content, headers=made)


WHOLE, HEADERS = body(tensor(binary=True))
JSON = body(tensor())[0]


@pytest.mark.parametrize("length", ["", "x", "-1", "0", "1e3", str(10**30), str(len(WHOLE) + 1), "\u0665".encode()])
def test_a_length_of_json_that_cannot_be_is_refused(client, length):
    response = post(client, WHOLE, inference_header_content_length=length)
    assert response.status_code == 400
    assert response.json()["error"].startswith(LENGTH)


@pytest.mark.parametrize("length", [1, 20, len(WHOLE) - 1, len(WHOLE)])
def test_a_length_of_json_that_is_wrong_is_refused(client, length):
    response = post(client, WHOLE, inference_header_content_length=str(length))
    assert response.status_code == 400
    assert response.json()["error"].startswith("body: valid JSON")


def test_binary_tensors_need_the_length_of_the_json(client):
    assert post(client, WHOLE).status_code == 400
    assert post(client, WHOLE[: -len(raw([0] * 10, "FP32"))]).json()["error"].startswith("inputs[0]: binary_data_size")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"7", b"{", b'{"inputs": [}', b"\xff\xfe", b"[" * 100_000, b'{"inputs": "\\ud800"}'],
)
def test_what_is_no_json_object_is_refused(client, content):
    response = post(client, content)
    assert response.status_code == 400
    assert response.json()["error"].startswith("body: ")


BYTES = raw(["chip", "online"], "BYTES")


@pytest.mark.parametrize(
    "data",
    [
        BYTES[:-1],
        BYTES + b"\0",
        BYTES[:4],
        b"",
        b"\xff\xff\xff\xff" + BYTES[4:],
        raw([b"\xff", "online"], "BYTES"),
        raw(["chip", "online", "chip"], "BYTES"),
        b"\0" * 7,
    ],
)
def test_texts_that_are_cut_or_lie_about_their_length_are_refused(client, data):
    given = {"name": "entry_mode", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(data)}}
    response = infer(client, (given, data), (named()[0][0], b""))
    assert response.status_code == 400
    assert response.json()["error"].startswith("inputs[0]: ")


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("gzip", JSON),
        ("deflate", JSON),
        ("gzip", zlib.compress(JSON)),
        ("deflate", gzip.compress(JSON)),
        ("gzip", gzip.compress(JSON)[:-1]),
        ("deflate", zlib.compress(JSON)[:-1]),
        ("gzip", gzip.compress(JSON) + b"x"),
        ("gzip", gzip.compress(JSON) * 2),
        ("deflate", zlib.compress(JSON) + b"x"),
        ("gzip", b""),
        ("deflate", b""),
        ("deflate", b"x"),
        ("gzip", gzip.compress(JSON)[:-4] + b"\0\0\0\0"),
    ],
)
def test_an_encoding_that_is_not_the_bodys_is_refused(client, encoding, content):
    response = post(client, content, content_encoding=encoding)
    assert response.status_code == 400
    assert response.json()["error"].startswith("content-encoding: ")


def test_encodings_on_lines_of_their_own_are_a_list(client):
    """Of which the last line is not all: a body that was encoded twice is not inflated once and read."""
    twice = gzip.compress(zlib.compress(JSON))
    for one, other in (("deflate", "gzip"), ("identity", "gzip"), ("br", "gzip")):
        headers = [("content-type", "application/json"), ("content-encoding", one), ("content-encoding", other)]
        response = client.request("POST", "/v2/models/toy/infer", content=twice, headers=headers)
        assert response.status_code == 415
        assert response.json()["error"].startswith("content-encoding: ")


@pytest.mark.parametrize(
    "header", [{"content_encoding": "br"}, {"content_encoding": "gzip, gzip"}, {"content_type": "text/csv"}]
)
def test_what_is_not_spoken_here_is_refused(client, header):
    assert post(client, JSON, **header).status_code == 415


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_refused_before_it_goes_off(client, encoding):
    """It would become twenty times the limit; little more than the limit is ever held."""
    encoder = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    bomb = b"".join(encoder.compress(b" " * 2**20) for _ in range(200)) + encoder.flush()
    assert len(bomb) < LIMIT / 4
    tracemalloc.start()
    try:
        response = post(client, bomb, content_encoding=encoding)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert response.status_code == 413
    assert response.json().keys() == {"error"}
    assert peak < 3 * LIMIT


def test_claims_of_size_take_no_memory(client):
    claims = [
        changed(shape=[1000, 2**40], data=[]),
        binary(size=2**40, data=b"", shape=[1000, 2**30]),
        (
            tensor()[0]
            | {"datatype": "BYTES", "shape": [1000, 2**40], "parameters": {"binary_data_size": 0}, "data": None},
            b"",
        ),
    ]
    tracemalloc.start()
    try:
        answers = [infer(client, claim) for claim in claims]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [answer.status_code for answer in answers] == [400] * 3
    assert peak < 2**21


def test_a_body_over_the_limit_is_refused_whole_or_in_chunks(client):
    async def chunks():
        for _ in range(11):
            yield b" " * 2**20

    assert post(client, b" " * (LIMIT + 1)).status_code == 413
    assert post(client, chunks()).status_code == 413


def test_errors_have_the_shape_that_the_protocol_asks_for(client):
    for path in ("/v2/models/nobody", "/v2/models/nobody/infer", "/v2/models/toy/versions/7/ready", "/v2/nothing"):
        response = client.get(path)
        assert response.status_code in (404, 405)
        assert list(json.loads(response.content)) == ["error"]
