"""Properties of the Open Inference Protocol: arrays survive; broken requests are refused and echo nothing."""

import gzip
import json
import math

import numpy as np
import pytest
from canary import KEY, NEEDLES, NUMBER, TEXT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensors import DATATYPES, FEATURES, INSTANCES, body, infer, outputs, raw, tensor

from service.api.v2.tensors import NUMERIC, as_float32, datatype_of, read_tensors, to_bytes, to_json
from service.errors import InvalidRequest

SHAPES = st.one_of(
    st.tuples(st.integers(1, 6)),
    st.tuples(st.integers(1, 6), st.integers(1, 4)),
)
ARRAYS = st.sampled_from(sorted(DATATYPES)).flatmap(lambda name: arrays.arrays(DATATYPES[name], SHAPES))
CALLS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(values, *, binary, nested=False):
    """The tensor of a request that a client would make of `values`."""
    shape, name = list(values.shape), datatype_of(values)
    if binary:
        data = to_bytes(values)
        made = {"name": "a", "datatype": name, "shape": shape, "parameters": {"binary_data_size": len(data)}}
        [found] = read_tensors([made], memoryview(data), most=1, max_rows=6)
    else:
        data = values.tolist() if nested else to_json(values)
        [found] = read_tensors(
            [{"name": "a", "datatype": name, "shape": shape, "data": data}], memoryview(b""), most=1, max_rows=6
        )
    return found


@CALLS
@given(ARRAYS)
def test_any_array_comes_through_as_bytes_and_as_json(values):
    for found in (read(values, binary=True), read(values, binary=False), read(values, binary=False, nested=True)):
        assert found.shape == values.shape
        assert found.values.dtype == values.dtype
        np.testing.assert_array_equal(found.values, values.ravel())


@CALLS
@given(arrays.arrays(np.uint8, st.integers(1, 40)), st.sampled_from(sorted(DATATYPES)))
def test_bytes_are_taken_as_they_are_or_not_at_all(data, name):
    """Whatever the bytes, they are the values; a size that does not divide is refused."""
    content, size = data.tobytes(), np.dtype(DATATYPES[name]).itemsize
    made = {
        "name": "a",
        "datatype": name,
        "shape": [max(1, len(content) // size)],
        "parameters": {"binary_data_size": len(content)},
    }
    try:
        [found] = read_tensors([made], memoryview(content), most=1, max_rows=40)
    except InvalidRequest:
        assert len(content) % size or len(content) < size
        return
    if name == "BOOL":
        assert found.values.tolist() == [byte != 0 for byte in content]
    else:
        assert found.values.tobytes() == content


TEXTS = st.lists(st.text(), min_size=1, max_size=6)


@CALLS
@given(TEXTS)
def test_any_text_comes_through_as_bytes_and_as_json(texts):
    for data, made in (
        (to_bytes(texts), {"parameters": {"binary_data_size": len(to_bytes(texts))}}),
        (b"", {"data": to_json(texts)}),
    ):
        given_tensor = {"name": "a", "datatype": "BYTES", "shape": [len(texts)]} | made
        [found] = read_tensors([given_tensor], memoryview(data), most=1, max_rows=6)
        assert [text or "" for text in found.values] == texts
    assert to_bytes(texts) == raw(texts, "BYTES")


@CALLS
@given(ARRAYS)
def test_a_cast_is_exact_or_refused(values):
    """Compared with Python's own numbers, which are exact."""
    numbers = [None if number != number else number for number in values.ravel().tolist()]
    with np.errstate(over="ignore"):
        cast = [None if number != number else number for number in values.ravel().astype(np.float32).tolist()]
    exact = all(a == b for a, b in zip(numbers, cast, strict=True))
    sent = read(values, binary=True)
    if not exact:
        with pytest.raises(InvalidRequest, match=r"^inputs\[0\]: "):
            as_float32(sent)
    else:
        found = as_float32(sent)
        np.testing.assert_array_equal(found, values.ravel().astype(np.float32))


FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
ROW = st.fixed_dictionaries(
    {
        "amount": st.floats(0, 1000, width=32),
        "hour": st.integers(0, 23),
        "cross_border": st.booleans(),
        "entry_mode": st.sampled_from(["chip", "contactless", "online"]),
        "balance": st.none() | st.floats(-(2.0**60), 2.0**60, width=32),
    }
)


def number(value):
    if isinstance(value, str):
        return ["chip", "contactless", "online"].index(value)
    return None if value is None else float(value)


@CALLS
@given(st.lists(ROW, min_size=1, max_size=5), st.booleans())
def test_the_same_rows_have_the_same_answer_in_both_protocols(client, rows, binary):
    expected = client.predict({"instances": rows}).json()["predictions"]
    matrix = tensor(values=[[number(row[name]) for name in FEATURES] for row in rows], binary=binary)
    named = [
        tensor(
            name,
            [row[name] if name == "entry_mode" else number(row[name]) for row in rows],
            "BYTES" if name == "entry_mode" else "FP32",
            binary=binary,
        )
        for name in FEATURES
    ]
    for inputs in ([matrix], named):
        found = outputs(infer(client, *inputs, parameters={"binary_data_output": binary}))
        assert found["probability"][:, 1].tolist() == [row["probability"] for row in expected]
        assert found["label"] == [row["label"] for row in expected]


ODD = [5.5e-15, 1.0000001, 0.1, -1.0, 0.5, 23.5, 24.0, 1000.5, 1e39, -1e39, math.nan, math.inf]
VALUE = st.sampled_from(ODD) | FLOAT32


@CALLS
@given(st.sampled_from(FEATURES), VALUE)
def test_a_number_is_refused_in_both_protocols_or_in_none(client, name, value):
    """NaN is `null` there; a category is its name there, and its index here."""
    place = FEATURES.index(name)
    with np.errstate(over="ignore"):
        value = float(np.float32(value))
    row = [float(number(INSTANCES[0][feature])) for feature in FEATURES]
    row[place] = value
    posted = None if math.isnan(value) else value
    if name == "entry_mode":
        posted = ["chip", "contactless", "online"][int(value)] if value in (0, 1, 2) else "none of them"
    body_text = json.dumps({"instances": [INSTANCES[0] | {name: posted}]})
    there = client.predict(body_text.encode())
    here = [infer(client, tensor(values=[row], binary=binary)) for binary in (False, True)]
    assert [answer.status_code == 400 for answer in here] == [there.status_code == 400] * 2
    if there.status_code == 400 and name != "entry_mode" and math.isfinite(value):
        expected = there.json()["error"].partition(": ")[2].replace("null", "NaN")
        assert {answer.json()["error"] for answer in here} == {f"inputs[0]: row 0, {name}: {expected}"}


CANARIES = [TEXT, KEY, NUMBER, [TEXT], {KEY: NUMBER}, NUMBER + 0.5, -NUMBER, [[NUMBER]], None, True, 2**70, "", [], {}]


def places(node, path=()):
    """Every place of a JSON value."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield from places(child, (*path, key))


def replaced(node, path, value):
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = replaced(node[path[0]], path[1:], value)
    return copy


GOOD, TAIL = (
    {
        "id": "a",
        "inputs": [
            tensor("amount", [1.0, 2.0])[0],
            tensor("hour", [1, 2], "INT64", binary=True)[0],
            tensor("cross_border", [True, False], "BOOL")[0],
            tensor("entry_mode", ["chip", "online"], "BYTES", binary=True)[0],
            tensor("balance", [[1.0], [None]])[0],
            tensor("sensitive_features.sex", ["male", "female"], "BYTES")[0],
        ],
        "outputs": [{"name": "margin", "parameters": {"binary_data": True}}],
        "parameters": {"ids": None, "explain": False, "timeout": 9_000_000, "binary_data_output": False},
    },
    tensor("hour", [1, 2], "INT64", binary=True)[1] + tensor("entry_mode", ["chip", "online"], "BYTES", binary=True)[1],
)


def send(client, head, tail, length, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    made = {"inference-header-content-length": str(length)} | headers
    return client.request("POST", "/v2/models/toy/infer", content=head + tail, headers=made)


def test_what_is_broken_below_was_whole(client):
    head = json.dumps(GOOD).encode()
    assert send(client, head, TAIL, len(head)).status_code == 200


@settings(CALLS, max_examples=400)
@given(st.data())
def test_a_request_with_other_parts_is_answered_or_refused_and_echoes_nothing(client, capfd, data):
    request = GOOD
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(places(request))))
        request = replaced(request, path, data.draw(st.sampled_from(CANARIES)))
    head = json.dumps(request).encode()
    own_id = isinstance(request, dict) and request.get("id") in (TEXT, KEY)  # that one comes back, in an answer
    assert_silent(send(client, head, TAIL, len(head)), capfd, echoes=own_id)


@settings(CALLS, max_examples=400)
@given(st.data())
def test_a_request_of_other_bytes_is_answered_or_refused(client, capfd, data):
    head = json.dumps(GOOD).encode()
    whole = bytearray(head + TAIL)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                whole[place] = data.draw(st.integers(0, 255))
            case "cut":
                del whole[place : place + data.draw(st.integers(1, 8))]
            case "insert":
                whole[place:place] = data.draw(st.binary(max_size=8)) + TEXT.encode()
    length = data.draw(st.just(len(head)) | st.integers(0, len(whole) + 2))
    assert_silent(send(client, bytes(whole), b"", length), capfd, echoes=True)


@settings(CALLS, max_examples=200)
@given(st.data())
def test_a_compressed_request_of_other_bytes_is_answered_or_refused(client, capfd, data):
    head = json.dumps(GOOD).encode()
    whole = bytearray(gzip.compress(head + TAIL))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.just(len(whole)) | st.integers(0, len(whole))) :]
    encoding = data.draw(st.sampled_from(["gzip", "deflate"]))
    assert_silent(send(client, bytes(whole), b"", len(head), content_encoding=encoding), capfd)


def assert_silent(response, capfd, *, echoes=False):
    assert response.status_code in (200, 400, 413, 501), response.text
    if response.status_code != 200:
        assert response.json().keys() == {"error"}
        echoes = False
    output = capfd.readouterr()
    said = ("" if echoes else response.content.decode("latin-1")) + output.out + output.err
    assert not [needle for needle in NEEDLES if needle in said.lower()]


def test_the_datatypes_of_the_protocol_are_known():
    assert NUMERIC.keys() == DATATYPES.keys()
    assert body(tensor())[1] == {"content-type": "application/json"}
