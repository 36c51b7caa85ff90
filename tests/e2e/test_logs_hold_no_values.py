"""What a real server writes to its log while the canary goes through every path, in both formats."""

import json

import canary
import pytest
from toy import request


@pytest.fixture(params=["json", "console"])
def logging(start, request):
    """A server that logs every request, under limits low enough to reach."""
    return start(log_format=request.param, log_requests="true", log_level="debug", **canary.LIMITS)


def test_nothing_submitted_is_logged(logging):
    """Every way of succeeding and failing leaves its line, without a key, a value, an id, a query or a header."""
    surprises = []
    for name, (method, path, headers, body, status) in canary.CASES.items():
        response = logging.http.request(method, path, headers=headers, content=canary.content(body))
        assert not [needle for needle in canary.NEEDLES if needle in response.text.lower()], name
        if response.status_code != status:
            surprises.append((name, response.status_code))
    assert logging.predict(request(ids=[canary.TEXT])).status_code == 200
    logging.stop()
    assert not [needle for needle in canary.NEEDLES if needle in logging.log.lower()]
    for end in (":predict", ":score", "/infer"):
        asked = [case for case in canary.CASES.values() if case[0] == "POST" and case[1].endswith(f"/toy{end}")]
        assert logging.log.count(f"/models/{{name}}{end}") >= len(asked) > 20
    assert "Traceback" not in logging.log
    assert surprises == []


def test_a_line_of_the_json_log_is_an_object_with_ids_sizes_and_times(start):
    """One object per line, ours and the server's alike; the generated id is there, a caller's own is not."""
    server = start(log_requests="true")
    generated = server.predict(request({}, {})).json()["predictions"][0]["id"]
    server.predict(request(ids=["order-8812"]))
    server.stop()
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    first, second = (line for line in lines if line["event"] == "request")
    assert first["first_id"] == generated
    assert (first["model_name"], first["model_version"], first["rows"], first["status"]) == ("toy", "10", 2, 200)
    assert first["body_bytes"] > 100
    assert first["seconds"] > 0
    assert not second.get("first_id")
    assert "order-8812" not in server.log


def test_answered_requests_are_not_logged_unless_asked_for(start):
    """Refused ones are, with their status."""
    server = start()
    server.predict(request())
    server.predict({})
    server.stop()
    found = [json.loads(line) for line in server.log.splitlines() if '"request"' in line]
    assert [line["status"] for line in found] == [400]
