"""Requests that carry a canary through every way of succeeding and failing; nothing of it may come out anywhere.

For a service of the toys with LIMITS. A case is (method, path, headers, body, expected status).
"""

import json

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


CASES = dict(_cases())


def content(body):
    return body if isinstance(body, bytes) else json.dumps(body).encode()
