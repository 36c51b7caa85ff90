"""PostgreSQL gone and back: nothing is decided that cannot be recorded, or nothing that was accepted is lost."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from auditlog import AuditLog
from callers import Callers, open_loop
from explained import add_explainer, linear_explainer
from exposition import total, value
from servers import eventually
from toy import request, write_toy

CANARY = "quetzalcoatl"


def ready(server):
    return server.http.get("/v2/health/ready").status_code


def counted(server):
    """Predictions of every version and group."""
    return total(server.metrics(), "plumbline_predictions_total", sensitive_feature="sex")


def stored(url, manifests):
    with AuditLog.opened(url, manifests) as log:
        return log.stored()


def body(*ids):
    return request(*[{}] * len(ids), ids=list(ids), sensitive_features=[{"sex": "female"}] * len(ids))


def test_predictions_are_refused_while_the_database_is_down(start, postgresql, postgresql_server, manifests):
    """503 with Retry-After that names the records and quotes nothing; ready again without anybody asking."""
    server = start(postgresql)
    assert server.predict(body("before")).status_code == 200
    with postgresql_server.stopped():
        for _ in range(3):
            refused = server.predict(body(CANARY))
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"].startswith("records: ")
            assert CANARY not in refused.text
            assert "INSERT" not in refused.text
        assert ready(server) == 503
        assert "records" in server.http.get("/v2/health/ready").json()["error"]
        assert server.http.get("/v2/health/live").status_code == 200
        outcome = {"outcomes": [{"id": "before", "label": "fraud"}]}
        assert server.http.post("/v1/models/toy:outcomes", json=outcome).status_code == 503
    assert eventually(lambda: ready(server) == 200)
    assert server.predict(body("after")).status_code == 200
    assert counted(server) == 2
    assert stored(postgresql, manifests).keys() == {"before", "after"}
    assert CANARY not in server.log
    assert "Traceback" not in server.log


def test_predictions_wait_within_a_bound_while_the_database_is_down(start, postgresql, postgresql_server, manifests):
    """With `after_response`: 200 while there is room, then 503; what was acknowledged is recorded and counted later."""
    server = start(postgresql, audit="after_response", max_instances=10, max_audit_rows=50)
    acknowledged = []

    def predict(number):
        ids = [f"{number}-{row}" for row in range(10)]
        response = server.predict(body(*ids))
        if response.status_code == 200:
            acknowledged.extend(prediction["id"] for prediction in response.json()["predictions"])
        return response

    assert predict(0).status_code == 200
    assert eventually(lambda: value(server.metrics(), "plumbline_audit_queue_rows") == 0)
    with postgresql_server.stopped():
        responses = [predict(number) for number in range(1, 9)]
        assert [response.status_code for response in responses] == [200] * 5 + [503] * 3
        for refused in responses[5:]:
            assert int(refused.headers["retry-after"]) >= 1
            assert "recorded" in refused.json()["error"]
        assert value(server.metrics(), "plumbline_audit_queue_rows") == 50
        assert counted(server) == 10
        assert ready(server) == 200
    assert eventually(lambda: value(server.metrics(), "plumbline_audit_queue_rows") == 0)
    assert predict(9).status_code == 200
    assert len(acknowledged) == 70
    assert eventually(lambda: counted(server) == len(acknowledged))
    assert stored(postgresql, manifests).keys() == set(acknowledged)


def test_what_waits_at_the_end_is_recorded_if_the_database_comes_back(start, postgresql, postgresql_server, manifests):
    """SIGTERM while it is down: the service ends when everything accepted is in the database."""
    server = start(postgresql, audit="after_response")
    with postgresql_server.stopped(), ThreadPoolExecutor() as executor:
        assert server.predict(body("a", "b")).status_code == 200
        stopping = executor.submit(server.stop)
        assert eventually(lambda: "Shutting down" in server.log)
        postgresql_server.start()
        stopping.result()
    assert stored(postgresql, manifests).keys() == {"a", "b"}


@pytest.mark.parametrize(("audit", "status"), [("before_response", 503), ("after_response", 200)])
def test_a_service_may_start_before_its_database(start, postgresql, postgresql_server, manifests, audit, status):
    """It starts, refuses or accepts as configured, and makes the tables when the database is there."""
    with postgresql_server.stopped():
        server = start(postgresql, audit=audit)
        assert ready(server) == status
        assert server.http.get("/v2/health/live").status_code == 200
        assert server.predict(body("early")).status_code == status
    assert eventually(lambda: ready(server) == 200)
    assert server.predict(body("late")).status_code == 200
    expected = {"late"} if status == 503 else {"early", "late"}
    assert eventually(lambda: counted(server) == len(expected))
    assert stored(postgresql, manifests).keys() == expected


def test_a_service_does_not_start_on_tables_of_another_release(start, postgresql, postgresql_server):
    """It ends at once, and says what to do."""
    start(postgresql).stop()
    postgresql_server.execute("UPDATE plumbline_schema SET version = 99", postgresql.rpartition("/")[2])
    with pytest.raises(AssertionError, match="schema version 99"):
        start(postgresql)


def test_a_database_that_does_not_come_back_does_not_keep_the_service(start, tmp_path, postgresql, postgresql_server):
    """Not longer than `shutdown_seconds`, also with attributions to save; the log says how much is lost."""
    add_explainer(write_toy(tmp_path / "models"), linear_explainer())
    server = start(postgresql, tmp_path / "models", audit="after_response", shutdown_seconds=1)
    assert server.predict(body("before") | {"explain": True}).status_code == 200
    with postgresql_server.stopped():
        assert server.predict(body("a", "b")).status_code == 200
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 10
    assert "records lost at shutdown" in server.log


def test_a_crash_of_the_database_under_load_loses_nothing(start, postgresql, postgresql_server, manifests):
    """Stopped in the middle of commits and started again: what was accepted is recorded and counted, each once."""
    server = start(postgresql, audit="after_response")
    acknowledged = []

    async def load():
        async with Callers(server.port) as callers:

            async def call(number):
                status, content = await callers.predict(request({"balance": number % 7}))
                assert status == 200
                acknowledged.append(content["predictions"][0]["id"])

            await open_loop(call, rate=400, most=800, until=lambda: False)

    with ThreadPoolExecutor() as executor:
        loading = executor.submit(asyncio.run, load())
        for moment in (200, 400):
            assert eventually(lambda moment=moment: len(acknowledged) > moment)
            with postgresql_server.stopped():
                pass
        loading.result()
    assert eventually(lambda: counted(server) == len(acknowledged))
    assert stored(postgresql, manifests).keys() == set(acknowledged)
