"""`/metrics`: which series there are from the start, what they count, and where their labels come from."""

import pytest
from exposition import samples, value
from toy import digest, request

PREDICT = "/v1/models/{name}:predict"
TOY = {"model_name": "toy", "model_version": "10"}


def metrics(client):
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return response.text


def requests(text, status, *, method="POST", route=PREDICT):
    return value(text, "plumbline_http_requests_total", route=route, method=method, status=str(status))


def test_model_series_exist_before_the_first_request(serve, toys):
    """A series that is first seen at 5 has an increase of 0."""
    text = metrics(serve())
    for name, version in (("toy", "9"), ("toy", "10"), ("trio", "1"), ("brittle", "1"), ("slow", "1")):
        labels = {"model_name": name, "model_version": version}
        assert value(text, "plumbline_batch_rows_count", **labels) == 0
        assert value(text, "plumbline_batch_duration_seconds_count", **labels) == 0
        assert value(text, "plumbline_queue_rows", **labels) == 0
        assert value(text, "plumbline_model_ready", **labels) == 1
        model = digest(toys / name / version / "model.onnx")
        info = {"digest": model, "provider": "CPUExecutionProvider", "device": "cpu"}
        assert value(text, "plumbline_model_info", **labels, **info) == 1


@pytest.mark.parametrize("status", [200, 400, 413, 415, 500, 503, 504])
def test_predict_series_exist_before_the_first_request(serve, status):
    """The first failure after a start must count: an alert on `increase()` never sees a series that starts at 1."""
    assert requests(metrics(serve()), status) == 0


def test_known_requests_give_known_counts(serve):
    """Three good, two refused, one failed."""
    client = serve()
    for rows in (1, 2, 5):
        client.predict(request(*[{}] * rows))
    for body in (b"{", request({"amount": -1})):
        client.predict(body)
    client.predict({"instances": [{"slot": 9}]}, model="brittle")
    text = metrics(client)
    assert [requests(text, status) for status in (200, 400, 500)] == [3, 2, 1]
    assert value(text, "plumbline_batch_rows_count", **TOY) == 3
    assert value(text, "plumbline_batch_rows_sum", **TOY) == 8
    assert value(text, "plumbline_batch_rows_bucket", le="2.0", **TOY) == 2
    assert value(text, "plumbline_batch_duration_seconds_count", **TOY) == 3
    assert value(text, "plumbline_http_request_duration_seconds_count", route=PREDICT) == 6
    assert value(text, "plumbline_http_requests_in_flight") == 1  # the scrape itself


def test_warming_up_is_not_counted_as_traffic(serve):
    """Runs before the first request are nobody's."""
    assert (
        sum(number for (name, _), number in samples(metrics(serve())).items() if name.startswith("plumbline_batch"))
        == 0
    )


def test_a_route_is_counted_by_its_pattern(serve):
    """Names of models, unknown paths and odd methods make no series of their own."""
    client = serve()
    for method, path in (
        ("POST", "/v1/models/nope:predict"),
        ("POST", "/v1/models/other:predict"),
        ("POST", "/v1/models/toy/versions/10:predict"),
        ("GET", "/v1/models/nope"),
        ("GET", "/one"),
        ("GET", "/two"),
        ("POST", "/v1/models/toy:verb"),
        ("BREW", "/v1/models/toy:predict"),
        ("WHEN", "/v1/models/toy:predict"),
    ):
        client.request(method, path)
    text = metrics(client)
    assert requests(text, 404) == 2
    assert requests(text, 400, route="/v1/models/{name}/versions/{version}:predict") == 1
    assert requests(text, 404, method="GET", route="/v1/models/{name}") == 1
    assert requests(text, 404, method="GET", route="unmatched") == 2
    assert requests(text, 404, route="unmatched") == 1
    assert requests(text, 405, method="other") == 2


def test_the_static_files_of_the_documentation_are_not_unmatched(serve):
    """A page that was found has a route."""
    client = serve()
    assert client.get("/static-offline-docs/swagger-ui.css").status_code == 200
    assert requests(metrics(client), 200, method="GET", route="unmatched") is None


def test_every_series_is_ours_and_finite(serve):
    """One prefix, counters end in `_total`, no `_created`, no NaN."""
    client = serve()
    client.predict(request())
    for (name, _), number in samples(metrics(client)).items():
        assert name.startswith(("plumbline_", "process_", "python_"))
        assert not name.endswith("_created")
        assert number == number


def test_two_applications_count_apart(serve):
    """The registry belongs to the application."""
    first, second = serve(), serve()
    first.predict(request())
    assert requests(metrics(first), 200) == 1
    assert not requests(metrics(second), 200)
