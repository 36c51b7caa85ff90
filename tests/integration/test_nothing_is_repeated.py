"""A canary key, string and number go through every path; body, log and metrics show nothing of them."""

import canary
import pytest
from exposition import series
from inprocess import serving
from toy import request


@pytest.fixture(scope="module")
def limited(toys):
    """The toys under limits low enough to reach."""
    with serving(toys, device="cpu", log_requests=True, **canary.LIMITS) as client:
        yield client


def assert_silent(text):
    assert not [needle for needle in canary.NEEDLES if needle in text.lower()]


@pytest.mark.parametrize(("method", "path", "headers", "body", "status"), canary.CASES.values(), ids=canary.CASES)
def test_nothing_submitted_comes_back(limited, capfd, method, path, headers, body, status):
    """Not in the response with its headers, not in the log, not as a label."""
    response = limited.request(method, path, headers=headers, content=canary.content(body))
    assert response.status_code == status
    assert_silent(response.text + str(response.headers))
    assert_silent(series(limited.get("/metrics").text))
    output = capfd.readouterr()
    assert_silent(output.out + output.err)
    assert "/metrics" in output.out


def test_a_full_queue_repeats_nothing(limited, capfd):
    """The refusal for want of room is one more path."""
    body = request(*[{"balance": canary.NUMBER}] * 3, sensitive_features=[{"sex": canary.TEXT}] * 3)
    responses = limited.together(body, body)
    assert sorted(response.status_code for response in responses) == [200, 503]
    output = capfd.readouterr()
    assert_silent("".join(response.text for response in responses) + output.out + output.err)


def test_callers_ids_come_back_and_are_logged_nowhere(limited, capfd):
    """An id may name a person: its only way is back to its caller."""
    response = limited.predict(request(ids=[canary.TEXT]))
    assert response.json()["predictions"][0]["id"] == canary.TEXT
    output = capfd.readouterr()
    assert_silent(output.out + output.err + series(limited.get("/metrics").text))


def test_an_unknown_model_is_named_and_only_there(limited, capfd):
    """The one exception: the model name in the path comes back in the body, and goes nowhere else."""
    response = limited.predict(request(), model=canary.TEXT)
    assert response.status_code == 404
    assert response.json().keys() == {"error"}
    output = capfd.readouterr()
    assert_silent(output.out + output.err + series(limited.get("/metrics").text))
