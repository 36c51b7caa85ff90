"""Requests that share a batch, a queue or a failing model: each gets its own answer, or its own refusal."""

import asyncio
import math

import pytest
from exposition import value
from starlette.requests import Request
from toy import request, write_leaky

from service.api.http_errors import plumbline_error
from service.errors import QueueFull


def probabilities(response):
    assert response.status_code == 200, response.text
    return [prediction["probability"] for prediction in response.json()["predictions"]]


def test_concurrent_requests_share_one_run_and_each_gets_its_own_answer(serve):
    """Sixty-four callers with different rows; some runs of the model, not one for each."""
    client = serve()
    bodies = [request({"balance": number / 20}) for number in range(64)]
    alone = [probabilities(client.predict(body)) for body in bodies]
    runs = value(client.get("/metrics").text, "plumbline_batch_rows_count", model_name="toy", model_version="10")
    together = [probabilities(response) for response in client.together(*bodies)]
    assert together == [pytest.approx(expected, abs=1e-7) for expected in alone]
    after = value(client.get("/metrics").text, "plumbline_batch_rows_count", model_name="toy", model_version="10")
    assert runs == 64
    assert after - runs < 64


@pytest.mark.parametrize(
    ("model", "good", "bad", "message"),
    [
        ("toy", [{"amount": 2}, {"amount": 0}], {"balance": 3e38}, "not finite"),
        ("toy", [{"amount": 2}, {"balance": -3e37}], {"balance": -3e38}, "not finite"),
        ("brittle", [{"slot": 1}, {"slot": 0}], {"slot": 4}, "failed"),
    ],
)
def test_a_row_that_fails_fails_only_its_own_request(client, model, good, bad, message):
    """The graph raises or overflows on one row; the others of the same batch are answered as if it were not there."""

    def body(*rows):
        return request(*rows) if model == "toy" else {"instances": list(rows)}

    alone = probabilities(client.predict(body(*good), model=model))
    first, failed, last = client.together(body(good[0]), body(good[1], bad, good[0]), body(good[1]), model=model)
    assert probabilities(first) + probabilities(last) == pytest.approx(alone, abs=1e-7)
    assert failed.status_code == 500
    assert failed.json().keys() == {"error"}
    assert failed.json()["error"].startswith("instances[1]: ")
    assert message in failed.json()["error"]


def test_everyone_fails_alone_when_every_row_fails(client):
    """And the model answers the next request."""
    responses = client.together(*[{"instances": [{"slot": 9}]}] * 5, model="brittle")
    assert [response.status_code for response in responses] == [500] * 5
    assert probabilities(client.predict({"instances": [{"slot": 0}]}, model="brittle")) == [0.5]


def test_a_full_queue_refuses_at_once_and_says_when_to_try_again(serve):
    """503 with Retry-After; those that fit are answered, and so is everyone afterwards."""
    client = serve(max_instances=4, max_queue_rows=4)
    responses = client.together(*[request({}, {}, {})] * 3)
    assert sorted(response.status_code for response in responses) == [200, 503, 503]
    for response in responses:
        if response.status_code == 503:
            assert response.json() == {"error": "4 rows are waiting already"}
            assert int(response.headers["retry-after"]) >= 1
    assert client.predict(request({}, {}, {}, {})).status_code == 200


def test_a_full_queue_of_one_model_does_not_refuse_for_another(serve):
    """Each model has its own queue."""
    client = serve(max_instances=1, max_queue_rows=1)
    slow = client.together(*[{"instances": [{"level": 0, "turns": 100_000}]}] * 3, model="slow")
    assert 503 in [response.status_code for response in slow]
    assert client.predict(request()).status_code == 200


def test_more_load_than_a_slow_model_takes_is_refused_at_the_bound(serve):
    """Refused at once, not queued: what waits stays within the bound, and all that was let in is answered."""
    client = serve(max_instances=2, max_batch_rows=2, max_queue_rows=8)
    body = {"instances": [{"level": 0, "turns": 20_000}] * 2}
    responses = client.together(*[body] * 40, model="slow")
    answered = [response for response in responses if response.status_code == 200]
    refused = [response for response in responses if response.status_code == 503]
    assert len(answered) + len(refused) == 40
    assert len(answered) >= 4  # as many as may wait
    assert refused
    for response in refused:
        assert response.json() == {"error": "8 rows are waiting already"}
        assert response.headers["retry-after"].isdecimal()
        assert int(response.headers["retry-after"]) >= 1
    assert probabilities(client.predict(body, model="slow")) == [0.5, 0.5]


@pytest.mark.parametrize(("estimate", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (61.5, "62")])
def test_the_time_to_come_back_is_in_whole_seconds_rounded_up(estimate, header):
    """And at least one: an estimate below a second is no reason to come back at once."""
    refusal = QueueFull("busy", retry_after_seconds=estimate)
    response = asyncio.run(plumbline_error(Request({"type": "http"}), refusal))
    assert (response.status_code, response.headers["retry-after"]) == (503, header)


def test_an_answer_that_comes_too_late_is_a_504(serve):
    """The deadline counts while the model runs, and the other models are not held up."""
    client = serve(request_timeout_seconds=0.05)
    response = client.predict({"instances": [{"level": 0, "turns": 500_000}]}, model="slow")
    assert response.status_code == 504
    assert response.json().keys() == {"error"}
    assert "deadline" in response.json()["error"]
    assert client.predict(request()).status_code == 200


def test_requests_that_wait_behind_a_slow_run_meet_their_deadline_too(serve):
    """The run in front of them takes longer than they may wait."""
    client = serve(request_timeout_seconds=0.2, max_batch_rows=1)
    slow = {"instances": [{"level": 0, "turns": 800_000}]}
    responses = client.together(slow, slow, slow, model="slow")
    assert [response.status_code for response in responses] == [504] * 3


def test_rows_beyond_one_batch_are_all_answered(serve):
    """More rows at once than a batch holds: several runs, every answer in its place."""
    client = serve(max_batch_rows=2)
    bodies = [request({"amount": number}, {"amount": number + 0.5}, {"amount": number + 0.25}) for number in range(7)]
    found = [probabilities(response) for response in client.together(*bodies)]
    for number, answers in enumerate(found):
        amounts = (number, number + 0.5, number + 0.25)
        assert answers == pytest.approx([1 / (1 + math.exp(-amount / 2)) for amount in amounts], abs=1e-6)


def test_a_graph_that_loses_rows_never_answers_one_caller_with_anothers_row(serve, tmp_path):
    """A row too few would move every later answer of the batch to the wrong person."""
    write_leaky(tmp_path)
    client = serve(tmp_path)
    kept, lost, last = client.together(*({"instances": [{"x": x}]} for x in (1, -1, 2)), model="leaky")
    assert lost.status_code == 500
    for response, margin in ((kept, 1), (last, 2)):
        assert probabilities(response) == pytest.approx([1 / (1 + math.exp(-margin))], abs=1e-6)
