"""Whatever does not fit gets a clear refusal: the right status, and one sentence that says where and what."""

import json

import pytest
from toy import ROW, TOY_FEATURES, request, write_toy

DEEP = 5000


def text(body, **replacements):
    """`body` as JSON, with placeholders replaced by what json.dumps would not write."""
    written = json.dumps(body)
    for name, literal in replacements.items():
        written = written.replace(f'"{name}"', literal)
    return written.encode()


def without(name):
    return {"instances": [{key: value for key, value in ROW.items() if key != name}]}


def second(change):
    return request({}, change)


BODY = {
    "empty": (b"", "body: valid JSON"),
    "blank": (b" \n", "body: valid JSON"),
    "cut off": (b'{"instances": [', "body: valid JSON"),
    "trailing text": (json.dumps(request()).encode() + b"x", "body: valid JSON"),
    "single quotes": (b"{'instances': []}", "body: valid JSON"),
    "byte order mark": (b"\xef\xbb\xbf" + json.dumps(request()).encode(), "body: valid JSON"),
    "utf-16": (json.dumps(request()).encode("utf-16"), "body: valid JSON"),
    "bad utf-8 in a value": (text(request({"entry_mode": "X"})).replace(b"X", b"\xff"), "body: valid JSON"),
    "bad utf-8 in a key": (b'{"\xff": 1}', "body: valid JSON"),
    "lone surrogate in a category": (text(request({"entry_mode": "\ud800"})), "body: valid JSON"),
    "lone surrogate in an id": (text(request(ids=["\udfff"])), "body: valid JSON"),
    "lone surrogate in a key": (b'{"\\ud800": 1}', "body: valid JSON"),
    "deep arrays": (b"[" * DEEP + b"]" * DEEP, "body: "),
    "deep objects": (b'{"instances":' * DEEP + b"1" + b"}" * DEEP, "body: "),
    "deep value": (text(request({"amount": "X"}), X="[" * DEEP + "]" * DEEP), "body: "),
    "deep unknown key": (b'{"instances": [], "x": ' + b"[" * DEEP + b"]" * DEEP + b"}", "body: "),
    "null": (b"null", "body: a JSON object"),
    "list": (b"[]", "body: a JSON object"),
    "number": (b"1", "body: a JSON object"),
    "string": (b'"instances"', "body: a JSON object"),
    "no instances": ({}, "instances: a list of 1 to 1000"),
    "zero instances": ({"instances": []}, "instances: a list of 1 to 1000"),
    "instances null": ({"instances": None}, "instances: a list of 1 to 1000"),
    "instances an object": ({"instances": ROW}, "instances: a list of 1 to 1000"),
    "instance a list": ({"instances": [ROW, list(ROW.values())]}, "instances[1]: an object"),
    "instance null": ({"instances": [None]}, "instances[0]: an object"),
    "unknown field": (request(instance_ids=["a"]), "body: unknown field"),
    "misspelt field": (request(id=["a"]), "body: unknown field; did you mean ids?"),
    "misspelt instances": ({"instance": [ROW]}, "body: unknown field; did you mean instances?"),
    "explain a number": (request(explain=1), "explain: true"),
    "explain a string": (request(explain="true"), "explain: true"),
    "explain null": (request(explain=None), "explain: true"),
}
FEATURE = {
    "missing": (without("hour"), "instances[0].hour: missing; a whole number from 0 to 23"),
    "nullable missing": (without("balance"), "instances[0].balance: missing; a finite number or null"),
    "extra key": (second({"shade": 1}), "instances[1]: unknown field; known are: amount, hour"),
    "extra misspelt key": (second({"ammount": 1}), "instances[1]: unknown field; did you mean amount?"),
    "misspelt key": (
        {"instances": [without("amount")["instances"][0] | {"amuont": 1}]},
        "instances[0]: unknown field; did you mean amount?",
    ),
    "other case": (
        {"instances": [without("amount")["instances"][0] | {"Amount": 1}]},
        "instances[0]: unknown field; did you mean amount?",
    ),
    "numeric a string": (second({"amount": "1"}), "instances[1].amount: a finite number from 0 to 1000 EUR"),
    "numeric a boolean": (second({"amount": True}), "instances[1].amount: a finite number"),
    "numeric null": (second({"amount": None}), "instances[1].amount: a finite number"),
    "numeric a list": (second({"amount": [1]}), "instances[1].amount: a finite number"),
    "numeric an object": (second({"amount": {}}), "instances[1].amount: a finite number"),
    "below": (second({"amount": -0.001}), "instances[1].amount: a finite number from 0 to 1000 EUR"),
    "above": (second({"amount": 1000.001}), "instances[1].amount: a finite number from 0 to 1000 EUR"),
    "nan": (second({"balance": float("nan")}), "instances[1].balance: a finite number or null"),
    "infinity": (second({"balance": float("inf")}), "instances[1].balance: a finite number or null"),
    "minus infinity": (second({"balance": float("-inf")}), "instances[1].balance: a finite number or null"),
    "nan string": (second({"balance": "NaN"}), "instances[1].balance: a finite number or null"),
    "beyond float32": (second({"balance": 1e39}), "instances[1].balance: a finite number or null"),
    "beyond float64": (text(second({"balance": "X"}), X="1e400"), "instances[1].balance: a finite number or null"),
    "400 digits": (text(second({"balance": "X"}), X="9" * 400), "instances[1].balance: a finite number or null"),
    "integer a fraction": (second({"hour": 3.5}), "instances[1].hour: a whole number from 0 to 23"),
    "integer nearly": (second({"hour": 3.0000000000000004}), "instances[1].hour: a whole number from 0 to 23"),
    "integer above": (second({"hour": 24}), "instances[1].hour: a whole number from 0 to 23"),
    "integer below": (second({"hour": -1}), "instances[1].hour: a whole number from 0 to 23"),
    "integer a boolean": (second({"hour": True}), "instances[1].hour: a whole number"),
    "integer a string": (second({"hour": "3"}), "instances[1].hour: a whole number"),
    "integer of 400 digits": (text(second({"hour": "X"}), X="9" * 400), "instances[1].hour: a whole number"),
    "binary two": (second({"cross_border": 2}), "instances[1].cross_border: 0, 1, false or true"),
    "binary a half": (second({"cross_border": 0.5}), "instances[1].cross_border: 0, 1, false or true"),
    "binary nearly": (second({"cross_border": 5.5e-15}), "instances[1].cross_border: 0, 1, false or true"),
    "binary a string": (second({"cross_border": "yes"}), "instances[1].cross_border: 0, 1, false or true"),
    "binary null": (second({"cross_border": None}), "instances[1].cross_border: 0, 1, false or true"),
    "unknown category": (
        second({"entry_mode": "swipe"}),
        'instances[1].entry_mode: one of "chip", "contactless", "online" is expected',
    ),
    "category by index": (second({"entry_mode": 1}), "instances[1].entry_mode: one of"),
    "category in other case": (second({"entry_mode": "Chip"}), "instances[1].entry_mode: one of"),
    "category null": (second({"entry_mode": None}), "instances[1].entry_mode: one of"),
}
BESIDE = {
    "ids too few": (request({}, {}, ids=["a"]), "ids: one entry per instance"),
    "ids too many": (request(ids=["a", "b"]), "ids: one entry per instance"),
    "ids empty": (request(ids=[]), "ids: one entry per instance"),
    "ids null": (request(ids=None), "ids: a list"),
    "ids a string": (request(ids="a"), "ids: a list"),
    "id a number": (request({}, {}, ids=["a", 1]), "ids[1]: a string of 1 to 64 characters"),
    "id null": (request(ids=[None]), "ids[0]: a string of 1 to 64 characters"),
    "id with a NUL": (request(ids=["a\0b"]), "ids[0]: a string of 1 to 64 characters"),
    "id empty": (request(ids=[""]), "ids[0]: a string of 1 to 64 characters"),
    "id with NUL": (request(ids=["a\0b"]), "ids[0]: a string of 1 to 64 characters is expected, none of them NUL"),
    "id too long": (request(ids=["x" * 65]), "ids[0]: a string of 1 to 64 characters"),
    "id twice": (request({}, {}, ids=["a", "a"]), "ids: each id"),
    "groups too few": (request({}, {}, sensitive_features=[{}]), "sensitive_features: one entry per instance"),
    "groups too many": (request(sensitive_features=[{}, {}]), "sensitive_features: one entry per instance"),
    "groups null": (request(sensitive_features=None), "sensitive_features: a list"),
    "groups an object": (request(sensitive_features={"sex": "male"}), "sensitive_features: a list"),
    "groups entry a string": (request(sensitive_features=["male"]), "sensitive_features[0]: an object"),
    "group undeclared": (
        request({}, {}, sensitive_features=[{}, {"gender": "male"}]),
        "sensitive_features[1]: unknown sensitive feature; declared are: sex, age_band",
    ),
    "group a number": (request(sensitive_features=[{"sex": 1}]), "sensitive_features[0].sex: a string"),
    "group null": (request(sensitive_features=[{"sex": None}]), "sensitive_features[0].sex: a string"),
}
BAD = {
    f"{part} {name}": case
    for part, cases in (("body", BODY), ("feature", FEATURE), ("beside", BESIDE))
    for name, case in cases.items()
}


def assert_error(response, status, beginning=""):
    """Exactly one key, `error`, with a sentence that begins with the place."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].startswith(beginning)
    assert "Traceback" not in body["error"]


@pytest.mark.parametrize(("body", "beginning"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_refused_with_where_and_what(client, body, beginning):
    """400, naming the place and what is expected there."""
    assert_error(client.predict(body), 400, beginning)


def test_too_many_instances_are_refused_as_too_large(client):
    """DESIGN section 3: 413 is for the body limit and the instance limit."""
    assert_error(client.predict(request(*[{}] * 1001)), 413, "instances: ")


def test_a_message_states_the_bounds_exactly(serve, tmp_path):
    """A bound that is rounded in the message would send the caller to another error."""
    amount = TOY_FEATURES[0] | {"minimum": -1234567.5, "maximum": 16777215}
    write_toy(tmp_path, features=[amount, *TOY_FEATURES[1:]])
    message = serve(tmp_path).predict(request({"amount": 1e9})).json()["error"]
    assert message == "instances[0].amount: a finite number from -1234567.5 to 16777215 EUR is expected"


def test_a_model_without_sensitive_features_says_that_it_declares_none(client):
    """An undeclared name is refused also where there is nothing to list."""
    response = client.predict({"instances": [{"x": 0, "y": 0}], "sensitive_features": [{"sex": "male"}]}, model="trio")
    assert_error(response, 400, "sensitive_features[0]: unknown sensitive feature; declared are: none")


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/jsonp"},
        {"content-type": ""},
        {"content-encoding": "gzip"},
    ],
    ids=str,
)
def test_another_media_type_is_refused(client, headers):
    """415, also for JSON in an encoding that is not undone here."""
    assert_error(client.predict(request(), headers=headers), 415, "content-")


def test_a_body_at_the_limit_is_read_and_one_byte_more_is_not(serve):
    """The limit counts bytes, not instances."""
    body = json.dumps(request()).encode()
    client = serve(max_body_bytes=len(body))
    assert client.predict(body).status_code == 200
    assert_error(client.predict(body + b" "), 413, "body: at most")


def test_a_body_without_content_length_is_counted_while_it_is_read(serve):
    """Chunks that exceed the limit together are refused."""

    async def chunks():
        for _ in range(100):
            yield b" " * 100

    response = serve(max_body_bytes=1000).request("POST", "/v1/models/toy:predict", content=chunks())
    assert_error(response, 413, "body: at most 1000 bytes")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/nope:predict"),
        ("POST", "/v1/models/nope/versions/1:predict"),
        ("POST", "/v1/models/toy/versions/11:predict"),
        ("POST", "/v1/models/toy/versions/09:predict"),
        ("POST", "/v1/models/toy/versions/-1:predict"),
        ("POST", f"/v1/models/toy/versions/{'9' * 5000}:predict"),
        ("POST", "/v1/models/toy/versions/latest:predict"),
        ("POST", "/v1/models/toy/versions/٩:predict"),
        ("POST", "/v1/models/toy:classify"),
        ("POST", "/v1/models/toy:PREDICT"),
        ("POST", "/v1/models/toy:predict:predict"),
        ("POST", "/v1/models/toy:predict/"),
        ("POST", "/v1/models/toy/versions/10:classify"),
        ("POST", "/v1/models/:predict"),
        ("POST", "/v1/models/toy%2Fversions%2F10/x:predict"),
        ("GET", "/v1/models/nope"),
        ("GET", "/v1/models/nope/card"),
        ("GET", "/v1/models/toy/versions/11"),
        ("GET", "/v1/models/toy/nothing"),
        ("GET", "/v1/models/%00"),
        ("GET", "/v1/models/%ff"),
        ("GET", "/v1/models/../../etc/passwd"),
        ("GET", "/static-offline-docs/../../__init__.py"),
        ("GET", "/static-offline-docs/..%2F..%2F__init__.py"),
        ("GET", "/"),
        ("GET", "/redoc"),
        ("GET", "/v1/models/"),
    ],
)
def test_what_is_not_there_is_404(client, method, path):
    """Unknown model, version, verb or path, before the body is looked at."""
    assert_error(client.request(method, path, content=b"{"), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/models/toy:predict", "POST"),
        ("PUT", "/v1/models/toy:predict", "POST"),
        ("DELETE", "/v1/models/toy/versions/10:predict", "POST"),
        ("OPTIONS", "/v1/models/toy:predict", "POST"),
        ("BREW", "/v1/models/toy:predict", "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/toy", "GET"),
        ("POST", "/v1/models/toy/card", "GET"),
        ("POST", "/v2/health/ready", "GET"),
        ("POST", "/v2/health/live", "GET"),
        ("POST", "/metrics", "GET"),
        ("POST", "/openapi.json", "GET"),
    ],
)
def test_a_wrong_method_is_405_and_names_the_right_one(client, method, path, allowed):
    """With an Allow header that lists it."""
    response = client.request(method, path)
    assert_error(response, 405)
    assert allowed in response.headers["allow"].split(", ")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/toy", "/v2/health/live", "/v2/health/ready", "/metrics"])
def test_head_is_answered_like_get(client, path):
    """RFC 9110 9.1: GET and HEAD must be supported; load balancers probe with HEAD."""
    response = client.request("HEAD", path)
    assert response.status_code == 200
    assert response.content == b""


MEGABYTES = 10 * 2**20 - 1000


def many_keys():
    return b",".join(b'"k%d":1' % number for number in range(700_000))


# Functions, so that only one of these lives at a time.
HOSTILE = {
    "unknown keys at the top": lambda: b"{" + many_keys() + b"}",
    "unknown keys in an instance": lambda: b'{"instances":[{' + many_keys() + b"}]}",
    "one long unknown key": lambda: b'{"' + b"k" * MEGABYTES + b'":1}',
    "one long key in an instance": lambda: text(request({"k" * MEGABYTES: 1})),
    "one long category": lambda: text(request({"entry_mode": "x" * MEGABYTES})),
    "one long id": lambda: text(request(ids=["x" * MEGABYTES])),
    "one long group": lambda: text(request(sensitive_features=[{"sex": "x" * MEGABYTES}])),
    "millions of empty instances": lambda: b'{"instances":[' + b"{}," * 3_000_000 + b"{}]}",
    "millions of numbers": lambda: b'{"instances":[' + b"1," * 5_000_000 + b"1]}",
    "millions of ids": lambda: text(request(ids="X"), X='["a"' + ',"a"' * 2_000_000 + "]"),
    "millions of groups": lambda: text(request(sensitive_features="X"), X="[{}" + ",{}" * 3_000_000 + "]"),
    "an integer of millions of digits": lambda: text(request({"amount": "X"}), X="9" * MEGABYTES),
    "an exponent of millions of digits": lambda: text(request({"balance": "X"}), X="1e" + "9" * MEGABYTES),
    "a minus of millions of digits": lambda: text(request({"amount": "X"}), X="-0." + "9" * MEGABYTES),
    "millions of brackets": lambda: b"[" * MEGABYTES,
    "millions of blanks": lambda: b" " * MEGABYTES,
    "millions of escapes": lambda: b'{"instances":"' + b"\\u0000" * (MEGABYTES // 6) + b'"}',
    "one key over and over": lambda: b"{" + b'"instances":[],' * 600_000 + b'"instances":[]}',
}


@pytest.mark.parametrize("made", HOSTILE.values(), ids=HOSTILE)
def test_ten_megabytes_of_nonsense_are_refused(client, made):
    """Every size up to the limit gets a short refusal, and none is the fault of the service."""
    body = made()
    assert len(body) <= 10 * 2**20
    response = client.predict(body)
    assert_error(response, 400)
    assert len(response.content) < 1000


def test_a_number_of_millions_of_digits_within_the_range_is_answered(client):
    """Long, and still a number from 0 to 1000."""
    response = client.predict(text(request({"amount": "X"}), X="0." + "0" * MEGABYTES))
    assert response.json()["predictions"][0]["probability"] == 0.5
