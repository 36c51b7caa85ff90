"""More paths for the canary of `canary`: what is said about people, in predictions, explanations, outcomes and reports.

For `told`, the toy with an explainer and a reference, beside the toys. A case is (method, path, headers, body, status).
"""

import json

from canary import JSON, KEY, NUMBER, TEXT
from toy import request

PREDICT, EXPLAIN = "/v1/models/told:predict", "/v1/models/told:explain"
OUTCOMES = "/v1/models/told:outcomes"
FAIRNESS, DRIFT = "/v1/models/told/fairness", "/v1/models/told/drift"
GROUPS = {"sex": TEXT, "age_band": f"{TEXT} {NUMBER}"}
HTML = {"accept": "text/html"}


def item(**changes):
    return {"outcomes": [{"id": "known", "label": "fraud"} | changes]}


def _predictions():
    def told(*changes, groups=GROUPS, **fields):
        return request(*changes, sensitive_features=[groups] * max(1, len(changes)), **fields)

    yield "undeclared groups", PREDICT, told(ids=["known"]), 200
    yield "undeclared groups again", PREDICT, told(ids=["known"]), 200
    yield "undeclared groups of another instance", PREDICT, told({"balance": 9}, ids=["known"]), 400
    yield "a declared group beside an undeclared one", PREDICT, told(groups=GROUPS | {"sex": "female"}), 200
    yield "declined beside an undeclared group", PREDICT, told(groups=GROUPS | {"sex": "declined"}), 200
    yield "undeclared groups, explained", PREDICT, told(explain=True), 200
    yield "undeclared groups, explained if positive", PREDICT, told({}, {"amount": 5}, explain={"if": "positive"}), 200
    yield "undeclared groups, by the verb", EXPLAIN, told(), 200
    yield "undeclared groups, of a version", "/v1/models/told/versions/1:explain", told(), 200
    yield "undeclared groups, explained in no time", PREDICT, told(explain={"deadline_ms": 1}), 200
    yield "undeclared groups, asked wrongly", PREDICT, told(explain={"if": TEXT}), 400
    yield "undeclared groups beside a bad value", PREDICT, told({"hour": -1}), 400
    yield "undeclared groups, explained, beside a bad value", EXPLAIN, told({"hour": -1}), 400
    yield "undeclared groups of too many", PREDICT, told({}, {}) | {"instances": request()["instances"]}, 400
    yield "an undeclared feature", PREDICT, told(groups={KEY: TEXT}), 400
    yield "a group that is a list", EXPLAIN, told(groups={"sex": [TEXT]}), 400
    yield "a group that is missing", EXPLAIN, told(groups={"sex": None, KEY: NUMBER}), 400
    yield "groups that are text", PREDICT, request(sensitive_features=TEXT), 400
    yield "a row of groups that is text", PREDICT, request(sensitive_features=[TEXT]), 400


def _outcomes():
    deep = f'{{"{KEY}":'.encode() * 250 + b"1" + b"}" * 250
    yield "an outcome of nobody", item(id=TEXT), 200
    yield "an outcome of nobody, corrected", item(id=str(NUMBER), correction=True), 200
    yield "an id too long", item(id=TEXT * 6), 400
    yield "an empty id", item(id=""), 400
    yield "an id that is a number", item(id=NUMBER), 400
    yield "an id that is an object", item(id={KEY: TEXT}), 400
    yield "an id beyond unicode", b'{"outcomes": [{"id": "' + TEXT.encode() + b'\\ud800", "label": "fraud"}]}', 400
    yield "an undeclared label", item(label=TEXT), 400
    yield "a label that is a number", item(label=NUMBER), 400
    yield "a label that is a fraction", item(label=NUMBER + 0.5), 400
    yield "a label that is huge", f'{{"outcomes": [{{"id": "a", "label": {str(NUMBER) * 600}}}]}}'.encode(), 400
    yield "a label that is a list", item(label=[TEXT]), 400
    yield "a label that is an object", item(label={KEY: NUMBER}), 400
    yield "a label that is true", item(label=True), 400
    yield "a label in other letters", item(label="FRAUD"), 400
    yield "a label that is null", item(label=None), 400
    yield "a correction that is text", item(correction=TEXT), 400
    yield "a correction that is a number", item(correction=NUMBER), 400
    yield "a correction that is null", item(correction=None), 400
    yield "an unknown key of an outcome", item(**{KEY: TEXT}), 400
    yield "an unknown key beside outcomes", item() | {KEY: NUMBER}, 400
    yield "an outcome without an id", {"outcomes": [{"label": TEXT}]}, 400
    yield "an outcome without a label", {"outcomes": [{"id": TEXT}]}, 400
    yield "an outcome that is text", {"outcomes": [TEXT]}, 400
    yield "an outcome that is a list", {"outcomes": [[TEXT, KEY]]}, 400
    yield "no outcomes", {"outcomes": []}, 400
    yield "outcomes that are text", {"outcomes": TEXT}, 400
    yield "outcomes that are an object", {"outcomes": {KEY: TEXT}}, 400
    yield "outcomes by another name", {KEY: item()["outcomes"]}, 400
    yield "a body that is text", json.dumps(TEXT).encode(), 400
    yield "a body that is a list", [TEXT, NUMBER], 400
    yield "a body that is null", b"null", 400
    yield "an empty body", b"", 400
    yield "a body that breaks off", b'{"outcomes": [{"id": "' + TEXT.encode(), 400
    yield "a body that goes on", json.dumps(item()).encode() + TEXT.encode(), 400
    yield "a body that is not UTF-8", b'{"outcomes": [{"id": "' + TEXT.encode() + b'\xff", "label": "fraud"}]}', 400
    yield "a deep body", deep, 400
    yield "too many outcomes", {"outcomes": item(id=TEXT)["outcomes"] * 5}, 413
    yield "a large body", TEXT.encode() * 500, 413


def _reports():
    yield "a window of text", f"window={TEXT}", {}, 400
    yield "a window of a number", f"window={NUMBER}", {}, 400
    yield "a window too long", f"window={NUMBER}d", {}, 400
    yield "a window of nothing", "window=", {}, 400
    yield "two windows", f"window=1d&window={TEXT}", {}, 400
    yield "a window behind a zero byte", f"window=1d%00{TEXT}", {}, 400
    yield "an undeclared feature of a report", f"sensitive_feature={TEXT}", {}, 400
    yield "an undeclared feature of a page", f"sensitive_feature={TEXT}", HTML, 400
    yield "a version that never was", f"version={TEXT}", {}, 404
    yield "a version of a number", f"version={NUMBER}", HTML, 404
    yield "an unknown parameter", f"{KEY}={NUMBER}", {}, 400
    yield "an encoded parameter", f"%71{KEY[1:]}={TEXT}", {}, 400
    yield "a parameter beyond UTF-8", f"window=%FF{TEXT}", {}, 400
    yield "headers of a report", "window=1h", {"accept": f"text/{TEXT}", "cookie": f"{KEY}={TEXT}"}, 200
    yield "headers of a page", "window=1h", {"accept": f"text/html;q={NUMBER}", "referer": TEXT}, 200


def _cases():
    for name, path, body, status in _predictions():
        yield name, ("POST", path, JSON, body, status)
    for name, body, status in _outcomes():
        yield name, ("POST", OUTCOMES, JSON, body, status)
    for name, query, headers, status in _reports():
        yield name, ("GET", f"{FAIRNESS}?{query}", headers, b"", status)
        yield f"{name} of drift", ("GET", f"{DRIFT}?{query}", headers, b"", status)
    for name, headers, status in (
        ("outcomes of another type", {"content-type": f"text/{TEXT}"}, 415),
        ("outcomes in an encoding", JSON | {"content-encoding": TEXT}, 415),
        (
            "outcomes with headers",
            JSON | {"x-request-id": TEXT, "traceparent": TEXT, "baggage": f"{KEY}={NUMBER}"},
            200,
        ),
    ):
        yield name, ("POST", f"{OUTCOMES}?{KEY}={TEXT}", headers, item(), status)
    yield "outcomes of a version", ("POST", f"/v1/models/told/versions/{NUMBER}:outcomes", JSON, item(id=TEXT), 404)
    yield "a report of a version", ("GET", f"/v1/models/told/versions/1/fairness?{KEY}={TEXT}", {}, b"", 404)
    yield "a report that is posted", ("POST", f"{FAIRNESS}?window={TEXT}", JSON, item(id=TEXT), 405)


CASES = dict(_cases())
