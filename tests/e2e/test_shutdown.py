"""The end of a server: unready first, what runs is finished, then the port closes."""

import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from exposition import value
from servers import STOP_SECONDS, eventually
from toy import request

# Uvicorn ends by the signal that stopped it, once everything is closed.
CLEAN = (0, -signal.SIGTERM, 128 + signal.SIGTERM)


def slow(turns):
    return {"instances": [{"level": 7734501, "turns": turns}]}


@pytest.fixture
def caller():
    with ThreadPoolExecutor() as executor:
        yield executor


def in_flight(server, number):
    """Wait until so many requests run, the scrape not counted."""
    assert eventually(lambda: value(server.metrics(), "plumbline_http_requests_in_flight") == number + 1)


def test_an_idle_server_stops_at_sigterm(start):
    """Closed in order, not killed; an idle connection does not keep it."""
    server = start()
    assert server.predict(request()).status_code == 200
    assert server.stop() in CLEAN
    assert "Application shutdown complete" in server.log
    assert "Traceback" not in server.log


def test_sigint_stops_it_as_well(start):
    """Ctrl-C at a terminal, without a stack trace."""
    server = start()
    server.process.send_signal(signal.SIGINT)
    server.process.wait(STOP_SECONDS)
    assert "Application shutdown complete" in server.log
    assert "Traceback" not in server.log


def test_a_draining_server_is_unready_and_still_answers(start):
    """Load balancers take notice while requests go on; then it ends by itself."""
    server = start(drain_seconds=4)
    assert server.http.get("/v2/health/ready").status_code == 200
    server.process.send_signal(signal.SIGTERM)
    assert eventually(lambda: server.http.get("/v2/health/ready").status_code == 503)
    ready = server.http.get("/v2/health/ready")
    assert "shutting down" in ready.json()["error"]
    assert server.http.get("/v2/health/live").status_code == 200
    assert server.predict(request()).status_code == 200
    with socket.create_connection(("127.0.0.1", server.port), timeout=5):
        pass  # new connections are still taken
    assert server.process.wait(STOP_SECONDS) in CLEAN


def test_a_second_sigterm_ends_the_draining(start):
    """An operator in a hurry need not wait."""
    server = start(drain_seconds=300)
    server.process.send_signal(signal.SIGTERM)
    assert eventually(lambda: server.http.get("/v2/health/ready").status_code == 503)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(STOP_SECONDS) in CLEAN


def test_requests_under_way_are_finished(start, caller):
    """SIGTERM while the model runs: the answers still come, and the port closes for others."""
    server = start()
    running = [caller.submit(server.predict, slow(1_500_000), "slow") for _ in range(3)]
    in_flight(server, 3)
    server.process.send_signal(signal.SIGTERM)
    assert [future.result().status_code for future in running] == [200, 200, 200]
    assert server.process.wait(STOP_SECONDS) in CLEAN
    assert "Traceback" not in server.log
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_requests_that_take_too_long_do_not_keep_the_server(start, caller):
    """After `shutdown_seconds` they are told so; the log says it without values or stack traces."""
    server = start(shutdown_seconds=1)
    future = caller.submit(server.predict, slow(4_000_000), "slow")
    in_flight(server, 1)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(STOP_SECONDS) in CLEAN
    response = future.result()
    assert (response.status_code, response.json()) == (503, {"error": "the service is shutting down"})
    assert response.headers["retry-after"] == "1"
    assert "7734501" not in server.log
    assert "Traceback" not in server.log
