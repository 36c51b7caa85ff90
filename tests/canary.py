"""Requests that carry a canary through every way of succeeding and failing; nothing of it may come out anywhere.

For a service of the toys with LIMITS. A case is (method, path, headers, body, expected status).
"""

import json
import struct

import pyarrow as pa
from rows import ARROW, CSV, PARQUET, arrow, csv, parquet, table
from toy import request

TEXT, KEY, NUMBER = "quetzalcoatl", "quetzal_key", 7734501
NEEDLES = ("quetzal", "7734501")
LIMITS = {"max_instances": 4, "max_queue_rows": 4, "max_body_bytes": 5000, "request_timeout_seconds": 0.5}
JSON = {"content-type": "application/json"}


def _cases():
    predict = "/v1/models/toy:predict"
    # About a second on any machine, so that the deadline of LIMITS passes.
    late = {"instances": [{"level": NUMBER, "turns": 2_000_000}], "sensitive_features": [{}]}
    row = request()["instances"][0]
    posts = {
        "answered with ids": (request(ids=["a"], sensitive_features=[{"sex": TEXT}]), 200),
        "answered with a number": (request({"balance": NUMBER}, sensitive_features=[{"age_band": str(NUMBER)}]), 200),
        "answered with groups": (
            request({"balance": -NUMBER}, sensitive_features=[{"sex": TEXT, "age_band": TEXT}]),
            200,
        ),
        "malformed": (b'{"instances": [{"' + KEY.encode() + b'": ' + str(NUMBER).encode() + b", " + TEXT.encode(), 400),
        "trailing": (json.dumps(request()).encode() + TEXT.encode(), 400),
        "bad utf-8": (f'{{"{KEY}": "{TEXT}'.encode() + b'\xff"}', 400),
        "deep": (f'{{"{KEY}":'.encode() * 250 + b"1" + b"}" * 250, 400),
        "a string": (json.dumps(TEXT).encode(), 400),
        "a number": (str(NUMBER).encode(), 400),
        "a list": ([TEXT, NUMBER], 400),
        "a key at the top": (request(**{KEY: TEXT}), 400),
        "a key instead of instances": ({KEY: [row]}, 400),
        "instances a string": ({"instances": TEXT}, 400),
        "instance a string": ({"instances": [TEXT]}, 400),
        "a key in an instance": (request({KEY: NUMBER}), 400),
        "a key similar to a feature": (request({"amount_quetzal": NUMBER}), 400),
        "a key instead of a feature": (
            {"instances": [{KEY: NUMBER} | {k: v for k, v in row.items() if k != "hour"}]},
            400,
        ),
        "numeric a string": (request({"amount": TEXT}), 400),
        "numeric out of range": (request({"amount": NUMBER}), 400),
        "numeric beyond float32": (request({"balance": float(f"{NUMBER}e60")}), 400),
        "numeric an object": (request({"amount": {KEY: TEXT}}), 400),
        "integer out of range": (request({"hour": NUMBER}), 400),
        "integer a fraction": (request({"hour": NUMBER + 0.5}), 400),
        "binary a number": (request({"cross_border": NUMBER}), 400),
        "binary a string": (request({"cross_border": TEXT}), 400),
        "category": (request({"entry_mode": TEXT}), 400),
        "category a number": (request({"entry_mode": NUMBER}), 400),
        "too many instances": (request(*[{"balance": NUMBER}] * 5), 413),
        "ids too many": (request(ids=[TEXT, KEY]), 400),
        "id too long": (request(ids=[TEXT * 6]), 400),
        "id a number": (request(ids=[NUMBER]), 400),
        "id twice": (request({}, {}, ids=[TEXT, TEXT]), 400),
        "group key": (request(sensitive_features=[{KEY: TEXT}]), 400),
        "group a number": (request(sensitive_features=[{"sex": NUMBER}]), 400),
        "group too long": (request(sensitive_features=[{"sex": TEXT * 20}]), 400),
        "groups too many": (request(sensitive_features=[{"sex": TEXT}] * 2), 400),
        "explain a string": (request(explain=TEXT), 400),
        "explain not offered": (request({"balance": NUMBER}, explain=True), 501),
        "not finite": (request({"balance": float(f"2.{NUMBER}e38")}), 500),
        "too large": (TEXT.encode() * 500, 413),
    }
    for name, (body, status) in posts.items():
        yield name, ("POST", predict, JSON, body, status)
    for name, model, body, status in (
        ("the graph fails", "brittle", {"instances": [{"slot": NUMBER}]}, 500),
        ("the graph fails on a later row", "brittle", {"instances": [{"slot": 1}, {"slot": NUMBER}]}, 500),
        ("too late", "slow", late, 504),
    ):
        yield name, ("POST", f"/v1/models/{model}:predict", JSON, body, status)
    yield from _tensors()
    yield from _binary_tensors()
    yield from _files()
    body = request()
    for name, path, status in (
        ("verb", f"/v1/models/toy:{TEXT}", 404),
        ("version", f"/v1/models/toy/versions/{TEXT}:predict", 404),
        ("version number", f"/v1/models/toy/versions/{NUMBER}:predict", 404),
        ("version verb", f"/v1/models/toy/versions/10:{TEXT}", 404),
        ("path", f"/{TEXT}/{NUMBER}", 404),
        ("query of an answer", f"{predict}?{KEY}={TEXT}&n={NUMBER}", 200),
    ):
        yield name, ("POST", path, JSON, body, status)
    for name, headers, status in (
        ("media type", {"content-type": f"application/{TEXT}"}, 415),
        ("encoding", JSON | {"content-encoding": TEXT}, 415),
        ("headers of an answer", JSON | {"x-request-id": TEXT, "user-agent": TEXT, "cookie": f"{KEY}={NUMBER}"}, 200),
        ("charset", {"content-type": f"application/json; charset={TEXT}"}, 200),
        ("traceparent", JSON | {"traceparent": TEXT, "x-forwarded-for": TEXT, "forwarded": f"for={TEXT}"}, 200),
    ):
        yield name, ("POST", predict, headers, body, status)
    for name, method, path, status in (
        ("query of a refusal", "GET", f"{predict}?{KEY}={TEXT}", 405),
        ("query of a list", "GET", f"/v1/models?{KEY}={TEXT}", 200),
        ("query of a description", "GET", f"/v1/models/toy?{KEY}={TEXT}", 200),
        ("query of the metrics", "GET", f"/metrics?{KEY}={TEXT}", 200),
        ("query of the docs", "GET", f"/docs?{KEY}={TEXT}", 200),
        ("version of a description", "GET", f"/v1/models/toy/versions/{TEXT}", 404),
        ("static file", "GET", f"/static-offline-docs/{TEXT}.js", 404),
    ):
        yield name, (method, path, {}, b"", status)


def _tensors():
    """The same on the way of tensors."""
    infer = "/v2/models/toy/infer"
    matrix = {"name": "X", "datatype": "FP32", "shape": [1, 5], "data": [0, 0, 0, 0, 2]}
    groups = {"name": "sensitive_features.sex", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
    category = {"name": "entry_mode", "datatype": "BYTES", "shape": [1], "data": [TEXT]}

    def of(*inputs, **fields):
        return {"inputs": list(inputs)} | fields

    for name, (body, status) in {
        "answered": (of(matrix, groups, outputs=[{"name": "margin"}]), 200),
        "answered with ids": (of(matrix, outputs=[{"name": "label"}], parameters={"priority": NUMBER}), 200),
        "unknown input": (of({**matrix, "name": TEXT}), 400),
        "similar input": (of({**category, "name": "entry_mode_quetzal"}), 400),
        "unknown group": (of(matrix, {**groups, "name": f"sensitive_features.{KEY}"}), 400),
        "datatype": (of({**matrix, "datatype": TEXT}), 400),
        "shape": (of({**matrix, "shape": [NUMBER, 5]}), 413),
        "width": (of({**matrix, "shape": [1, NUMBER]}), 400),
        "texts": (of({**matrix, "data": [TEXT] * 5}), 400),
        "out of range": (of({**matrix, "data": [NUMBER] * 5}), 400),
        "not exact": (of({**matrix, "datatype": "FP64", "data": [NUMBER + 0.1] * 5}), 400),
        "beyond": (of({**matrix, "datatype": "INT8", "data": [NUMBER] * 5}), 400),
        "category": (of(category), 400),
        "field": (of(matrix, **{KEY: TEXT}), 400),
        "id": (of(matrix, id=TEXT * 50), 400),
        "parameter": (of(matrix, parameters={KEY: TEXT}), 400),
        "explain": (of(matrix, parameters={"explain": TEXT}), 400),
        "explain in a string": (of(matrix, parameters={"explain": json.dumps({KEY: NUMBER})}), 400),
        "ids": (of(matrix, parameters={"ids": [TEXT, KEY]}), 400),
        "groups": (of(matrix, parameters={"sensitive_features": [{KEY: TEXT}]}), 400),
        "output": (of(matrix, outputs=[{"name": TEXT}]), 400),
        "binary size": (of({**matrix, "data": None, "parameters": {"binary_data_size": NUMBER}}), 400),
        "malformed": (b'{"inputs": [' + TEXT.encode(), 400),
    }.items():
        yield f"tensors: {name}", ("POST", infer, JSON, body, status)
    for name, headers, status in (
        ("length of json", {"inference-header-content-length": str(NUMBER)}, 400),
        ("length of json a text", {"inference-header-content-length": TEXT}, 400),
        ("content-encoding", {"content-encoding": TEXT}, 415),
        ("lying content-encoding", {"content-encoding": "gzip"}, 400),
        ("accept-encoding", {"accept-encoding": TEXT}, 200),
        ("content-type", {"content-type": TEXT}, 415),
    ):
        yield f"tensors: {name}", ("POST", infer, JSON | headers, of(matrix), status)
    failing = {"name": "X", "datatype": "FP32", "shape": [1, 1], "data": [NUMBER]}
    yield "tensors: the graph fails", ("POST", "/v2/models/brittle/infer", JSON, of(failing), 500)


def _binary_tensors():
    """Tensors as bytes behind their JSON, which is how the clients of others send them."""
    infer = "/v2/models/toy/infer"
    texts = struct.pack("<i", len(TEXT)) + TEXT.encode()
    numbers = struct.pack("<5f", 0, 0, 0, 0, 2)
    matrix = {"name": "X", "datatype": "FP32", "shape": [1, 5]}
    groups = {"name": "sensitive_features.sex", "datatype": "BYTES", "shape": [1]}
    category = {"name": "entry_mode", "datatype": "BYTES", "shape": [1]}
    for name, (inputs, data, status) in {
        "answered": ([(matrix, 20), (groups, len(texts))], numbers + texts, 200),
        "answered with a number": ([(matrix, 20)], struct.pack("<5f", 0, 0, 0, 0, NUMBER), 200),
        "out of range": ([(matrix, 20)], struct.pack("<5f", NUMBER, 0, 0, 0, 2), 400),
        "category": ([(category, len(texts))], texts, 400),
        "not UTF-8": ([(groups, len(texts)), (matrix, 20)], texts[:-1] + b"\xff" + numbers, 400),
        "length of a text": ([(groups, len(texts))], struct.pack("<i", NUMBER) + texts[4:], 400),
        "size": ([(matrix, NUMBER)], numbers, 400),
        "size a text": ([(matrix, TEXT)], numbers, 400),
        "bytes left over": ([(matrix, 20)], numbers + TEXT.encode(), 400),
        "data as well": ([(matrix | {"data": [TEXT]}, 20)], numbers, 400),
    }.items():
        tensors = [tensor | {"parameters": {"binary_data_size": size}} for tensor, size in inputs]
        head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
        headers = JSON | {"inference-header-content-length": str(len(head))}
        yield f"binary tensors: {name}", ("POST", infer, headers, head + data, status)


def _files():
    """Rows of files: good ones, bad ones, columns that are the caller's own, and what is no file."""
    score = "/v1/models/toy:score"
    forms = {"arrow": (arrow, ARROW), "csv": (csv, CSV), "parquet": (parquet, PARQUET)}
    own = table({"balance": NUMBER}).append_column(KEY, pa.array([TEXT]))
    bad = {
        "number": table({}, {"amount": NUMBER}),
        "whole number": table({}, {"hour": NUMBER}),
        "fraction": table({"hour": NUMBER + 0.5}, hour=pa.float64()),
        "category": table({}, {"entry_mode": TEXT}),
        "type": table().set_column(0, "amount", [[TEXT]]),
        "column": own,
        "column like a feature": table().rename_columns(["amount_quetzal", *table().column_names[1:]]),
    }
    for form, (write, headers) in forms.items():
        for name, rows in bad.items():
            yield f"{form}: {name}", ("POST", score, headers, write(rows), 400)
        yield f"{form}: ignored", ("POST", f"{score}?ignore={KEY}", headers, write(own), 200)
        yield f"{form}: ignored and unknown", ("POST", f"{score}?ignore={TEXT},{KEY}", headers, write(own), 200)
        body = write(own)
        yield f"{form}: cut off", ("POST", f"{score}?ignore={KEY}", headers, body[: len(body) // 2], 400)
        yield f"{form}: other bytes", ("POST", score, headers, TEXT.encode() * 20, 400)
        yield f"{form}: query", ("POST", f"{score}?{KEY}={TEXT}", headers, body, 400)
        yield f"{form}: explain", ("POST", f"{score}?explain={TEXT}", headers, body, 400)
        slots = write(pa.table({"slot": [NUMBER]}))
        yield f"{form}: the graph fails", ("POST", "/v1/models/brittle:score", headers, slots, 500)
    dictionary = table({"entry_mode": TEXT}, entry_mode=pa.dictionary(pa.int8(), pa.string()))
    named = own.replace_schema_metadata({KEY: TEXT})
    later = arrow(table({}, {}, {"hour": NUMBER, "entry_mode": TEXT}), batch_rows=2)
    header, _, line = csv(table()).partition(b"\n")
    for name, headers, body, status in (
        ("arrow: dictionary", ARROW, arrow(dictionary), 400),
        ("arrow: metadata", ARROW, arrow(named), 400),
        ("arrow: later row", ARROW, later, 200),
        ("csv: ragged", CSV, header + b"\n" + line + line[:-1] + b"," + TEXT.encode() + b"\n", 400),
        ("csv: not UTF-8", CSV, header + b"\n" + line + TEXT.encode() + b"\xff,1,0,chip,1\n", 400),
        ("csv: open quote", CSV, header + b"\n" + line + b'"' + TEXT.encode(), 400),
        ("csv: header alone", CSV, TEXT.encode() + b"," + KEY.encode() + b"\n", 400),
        ("parquet: footer", PARQUET, b"PAR1" + TEXT.encode() + struct.pack("<i", NUMBER) + b"PAR1", 400),
        ("another media type", {"content-type": f"text/{TEXT}"}, arrow(own), 415),
        ("encoding", ARROW | {"content-encoding": TEXT}, arrow(own), 415),
    ):
        yield name if name.startswith(tuple(forms)) else f"file: {name}", ("POST", score, headers, body, status)
    yield "file: version", ("POST", f"/v1/models/toy/versions/{NUMBER}:score", ARROW, arrow(own), 404)


CASES = dict(_cases())


def content(body):
    return body if isinstance(body, bytes) else json.dumps(body).encode()
