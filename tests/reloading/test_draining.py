"""A model that serves no longer answers what it was asked, and what it counted is saved before it goes."""

import asyncio
import gc
import json
import shutil
import sqlite3
import weakref

import pytest
import toy
from inprocess import JSON
from structlog.testing import capture_logs

SLOW = {"instances": [{"level": 1.5, "turns": 1_000_000}]}


def unloaded(logs):
    return [line["model"] for line in logs if line["event"] == "model unloaded"]


def post(client, body, model):
    return client.http.post(f"/v1/models/{model}:predict", content=json.dumps(body), headers=JSON)


@pytest.fixture
def slow(operator):
    """A service of `slow` 1, with `fail` to make its runs fail."""
    toy.write_slow(operator.models)
    operator.serve()
    return operator


def test_a_request_under_way_is_answered_by_the_model_that_it_met(slow) -> None:
    """The model is unloaded meanwhile, and goes when the answer has left."""
    client = slow.client

    async def unload_under_way():
        under_way = asyncio.create_task(post(client, SLOW, "slow"))
        await asyncio.sleep(0.02)
        assert (await client.http.post("/v2/repository/models/slow/unload")).status_code == 200
        assert (await post(client, SLOW, "slow")).status_code == 404
        assert not under_way.done()
        assert unloaded(logs) == []
        return await under_way

    with capture_logs() as logs:
        answered = client.run(unload_under_way())
        assert slow.eventually(lambda: unloaded(logs) == ["slow/1"])
    assert answered.status_code == 200
    assert answered.json()["model_version"] == "1"


def test_requests_that_wait_for_a_run_are_answered_too(slow) -> None:
    """Those behind the one that runs, in the queue of the model that goes."""
    client = slow.client

    async def unload_with_a_queue():
        under_way = [asyncio.create_task(post(client, SLOW, "slow")) for _ in range(5)]
        await asyncio.sleep(0.02)
        assert (await client.http.post("/v2/repository/models/slow/unload")).status_code == 200
        return await asyncio.gather(*under_way)

    assert [response.status_code for response in client.run(unload_with_a_queue())] == [200] * 5


def test_a_model_that_has_gone_is_gone(operator) -> None:
    """Session, queue, counters and schema: nothing refers to them, also after requests that failed."""
    toy.write_brittle(operator.models)
    client = operator.serve()
    assert client.predict({"instances": [{"slot": 1}]}, model="brittle").status_code == 200
    assert client.predict({"instances": [{"slot": 99}]}, model="brittle").status_code == 500
    assert client.predict({"instances": [{"slot": "x"}]}, model="brittle").status_code == 400
    client.get("/openapi.json")
    service = client.app.state.service
    [model] = service.repository
    counters = service.recorder.watched(model).counters
    left = [weakref.ref(one) for one in (model, model.session, model.batcher, counters)]
    del model, counters
    operator.unload("brittle")
    operator.until_gone(1, "brittle")
    gc.collect()
    assert [reference() for reference in left] == [None] * 4


@pytest.mark.parametrize(
    "rows", ["8,1,1,chip,\n" * 3, "8,1,1,chip,\n" * 70_000 + "x,1,1,chip,\n"], ids=["whole", "ended"]
)
def test_a_model_that_scored_files_goes_as_well(operator, rows) -> None:
    """Whole ones, and those that end early."""
    operator.write()
    client = operator.serve()
    content = "amount,hour,cross_border,entry_mode,balance\n" + rows
    answered = client.request("POST", "/v1/models/toy:score", content=content, headers={"content-type": "text/csv"})
    assert answered.status_code == 200
    operator.unload()
    operator.until_gone(1)


def test_series_of_a_version_are_there_until_it_has_gone(slow) -> None:
    """What it still counts can be scraped; then they vanish, all of them."""
    client = slow.client
    assert client.predict(SLOW, "slow").status_code == 200

    async def scrape_under_way():
        under_way = asyncio.create_task(post(client, SLOW, "slow"))
        await asyncio.sleep(0.02)
        await client.http.post("/v2/repository/models/slow/unload")
        scraped = (await client.http.get("/metrics")).text
        await under_way
        return scraped

    scraped = client.run(scrape_under_way())
    assert 'plumbline_label_delay_seconds_count{model_name="slow",model_version="1"}' in scraped
    assert 'plumbline_batch_rows_count{model_name="slow",model_version="1"}' in scraped
    slow.until_gone(1, "slow")


def test_counts_are_saved_before_the_model_goes(operator, committed, records) -> None:
    """Slots for drift and sums of explanations, also those of an explanation that nobody asked for."""
    shutil.copytree(committed / "progression", operator.models / "progression")
    rows = (operator.models / "progression" / "1" / "replay.jsonl").read_text().splitlines()[:20]
    instances = [json.loads(row)["instance"] for row in rows]
    client = operator.serve(records_url=records, explain_sample_ratio=1)
    for _ in range(2):  # the second time beside what was counted the first time
        assert client.predict({"instances": instances}, model="progression").status_code == 200
        assert operator.unload("progression").status_code == 200
        operator.until_gone(1, "progression")
        assert operator.load("progression").status_code == 200
    with sqlite3.connect(records.removeprefix("sqlite:///")) as database:
        [[explained]] = database.execute("SELECT sum(rows) FROM attributions").fetchall()
        sources = database.execute("SELECT count(DISTINCT replica) FROM drift_counts").fetchall()
    database.close()
    assert explained == 40
    assert sources == [(2,)]
    report = client.get("/v1/models/progression/drift").json()
    assert {feature["n"] for feature in report["features"]} == {40}


def test_counts_of_a_model_on_its_way_are_in_the_reports(operator, committed) -> None:
    """A report is made of what was saved, and saves what was counted just now."""
    shutil.copytree(committed / "progression", operator.models / "progression")
    row = (operator.models / "progression" / "1" / "replay.jsonl").read_text().splitlines()[0]
    client = operator.serve(suppress_small_cells=False)
    body = {"instances": [json.loads(row)["instance"]]}

    async def hold():
        service = client.app.state.service
        [held] = service.repository
        await post(client, body, "progression")
        await client.http.post("/v2/repository/models/progression/unload")
        await client.http.post("/v2/repository/models/progression/load")
        report = (await client.http.get("/v1/models/progression/drift")).json()
        del held
        return report

    assert {feature["n"] for feature in client.run(hold())["features"]} == {1}


def test_what_is_counted_at_the_shutdown_is_saved(operator, committed, records, tmp_path) -> None:
    """Of a model that was still on its way."""
    shutil.copytree(committed / "progression", operator.models / "progression")
    row = (operator.models / "progression" / "1" / "replay.jsonl").read_text().splitlines()[0]
    body = {"instances": [json.loads(row)["instance"]], "explain": True}
    client = operator.serve(records_url=records)

    async def hold():
        [held] = client.app.state.service.repository
        await post(client, body, "progression")
        await client.http.post("/v2/repository/models/progression/unload")
        return held

    held = client.run(hold())
    operator.stop()
    assert held.key == "progression/1"
    with sqlite3.connect(records.removeprefix("sqlite:///")) as database:
        assert database.execute("SELECT sum(rows) FROM attributions").fetchall() == [(1,)]
        assert database.execute("SELECT count(*) FROM drift_counts").fetchall() == [(1,)]
    database.close()


def test_without_records_a_model_goes_as_well(operator) -> None:
    """There is nothing to save."""
    operator.write()
    operator.serve(audit="off")
    operator.answer()
    operator.unload()
    operator.until_gone(1)
    operator.load()
    assert operator.answer()[0] == "1"


def test_a_caller_who_reads_slowly_is_counted_before_the_model_goes(operator) -> None:
    """It stays until the last byte has left and the answer is counted."""
    operator.write()
    client = operator.serve()
    app = client.app
    service = app.state.service
    read = asyncio.Event()
    body = json.dumps(toy.request(sensitive_features=[{"sex": "male"}])).encode()

    async def slowly():
        [model] = service.repository
        source = service.recorder.watched(model).counters
        gone = weakref.ref(model)
        del model
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/models/toy:predict",
            "headers": [(b"content-type", b"application/json")],
            "query_string": b"",
        }
        sent = []

        async def receive():
            return {"type": "http.request", "body": body}

        async def send(message):
            sent.append(message["type"])
            if message["type"] == "http.response.body":
                await read.wait()

        answering = asyncio.create_task(app.middleware_stack(scope, receive, send))
        while len(sent) < 2:
            await asyncio.sleep(0.001)
        await client.http.post("/v2/repository/models/toy/unload")
        await asyncio.sleep(0.05)
        assert gone() is not None
        read.set()
        await answering
        while gone() is not None:
            await asyncio.sleep(0.01)
        return source.predictions.sum()

    assert client.run(slowly()) == 1
