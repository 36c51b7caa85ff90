"""A real server whose models are exchanged again and again while requests come in at a steady rate."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest
import steady
import toy
from servers import eventually, running

RATE = 500
RELOADS = 20
MANY_RELOADS = 200
WARM_UP_RELOADS = 30
# Half a megabyte is usual. A toy that is not let go takes 250 kB and a thread, and a hundred are loaded.
GROWTH_KB = 8192
PREDICT = "/v1/models/toy:predict"
PATHS = (PREDICT, PREDICT, "/v1/models/toy/versions/1:predict")


class Moved:
    """A repository of `toy` 1, to which `toy` 2 is moved and from which it is moved away again."""

    def __init__(self, folder):
        self.models = folder / "models"
        toy.write_toy(self.models, version=1, bias=-4.0)
        self._aside = toy.write_toy(folder / "aside", version=2, bias=-3.0)
        self._there = self.models / "toy" / "2"

    def move(self):
        """The other way each time."""
        if self._there.exists():
            self._there.rename(self._aside)
        else:
            self._aside.rename(self._there)

    async def reload(self, http):
        """Move, and have the service see it."""
        self.move()
        response = await http.post("/v2/repository/models/toy/load")
        assert response.status_code == 200, response.text


@pytest.fixture
def moved(tmp_path):
    return Moved(tmp_path)


@pytest.fixture
def server(tmp_path, moved):
    with running(tmp_path / "log", moved.models, repository_control="true") as server:
        yield server


def client(server):
    return httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20)


def test_no_request_fails_and_each_answer_is_of_one_version(server, moved, record_testsuite_property) -> None:
    """Twenty reloads between two versions at five hundred requests a second, or as many as the machine gives."""
    probabilities = {}

    async def live():
        done = asyncio.Event()
        body = toy.request(explain=False, sensitive_features=[{"sex": "female"}])
        load = asyncio.create_task(steady.send(server.port, [(path, body) for path in PATHS], rate=RATE, until=done))
        async with client(server) as http:
            for _ in range(RELOADS):
                await asyncio.sleep(0.1)
                await moved.reload(http)
                alone = (await http.post(PREDICT, json=body)).json()
                probabilities[alone["model_version"]] = alone["predictions"][0]["probability"]
                assert (await http.get("/v2/health/ready")).status_code == 200
        done.set()
        return await load

    stream = asyncio.run(live())
    record_testsuite_property("reload_requests_per_second", round(stream.rate))
    record_testsuite_property("reload_p99_ms", round(1000 * stream.late(0.99), 1))
    assert stream.errors == []
    assert {status for status, _, _ in stream.answers} == {200}
    found = set()
    for _, answer, _ in stream.answers:
        answered = json.loads(answer)
        found.add((answered["model_version"], answered["predictions"][0]["probability"]))
    assert found == set(probabilities.items())
    assert len(found) == 2
    assert eventually(lambda: server.log.count('"event":"model unloaded"') == RELOADS // 2)
    assert "Traceback" not in server.log


def test_every_decision_of_both_versions_is_recorded_once(server, moved) -> None:
    """None is lost in an exchange, none counted twice: the reports add up to what was answered."""

    async def live():
        done = asyncio.Event()
        body = toy.request(sensitive_features=[{"sex": "female"}])
        load = asyncio.create_task(steady.send(server.port, [(PREDICT, body)], rate=200, until=done))
        async with client(server) as http:
            for _ in range(10):
                await asyncio.sleep(0.1)
                await moved.reload(http)
        done.set()
        return await load

    stream = asyncio.run(live())
    answered = [json.loads(answer)["model_version"] for _, answer, _ in stream.answers]
    for version in ("1", "2"):
        report = server.http.get(f"/v1/models/toy/fairness?version={version}").json()
        [sex] = [feature for feature in report["sensitive_features"] if feature["name"] == "sex"]
        [female] = [group for group in sex["groups"] if group["group"] == "female"]
        assert female["n"] == answered.count(version) > 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc, which is not here")
def test_memory_does_not_grow(server, moved) -> None:
    """Two hundred reloads under some load, after a warm-up; nor do threads."""

    async def live():
        done = asyncio.Event()
        load = asyncio.create_task(steady.send(server.port, [(PREDICT, toy.request())], rate=100, until=done))
        async with client(server) as http:
            for _ in range(WARM_UP_RELOADS):
                await moved.reload(http)
            before = status(server)
            for _ in range(MANY_RELOADS):
                await moved.reload(http)
        done.set()
        stream = await load
        assert stream.errors == []
        assert {status for status, _, _ in stream.answers} == {200}
        return before

    kilobytes, threads = asyncio.run(live())
    unloaded = (WARM_UP_RELOADS + MANY_RELOADS) // 2
    assert eventually(lambda: server.log.count('"event":"model unloaded"') == unloaded)
    # The pool that trims memory keeps some threads; a thread for each model would be a hundred.
    assert eventually(lambda: status(server)[1] <= threads + 10), status(server)
    assert status(server)[0] - kilobytes < GROWTH_KB
    metrics = server.metrics()
    assert 'model_version="1"' in metrics
    assert 'model_version="2"' not in metrics


def status(server):
    """Resident memory in kB, and the number of threads."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]), int(lines["Threads"])
