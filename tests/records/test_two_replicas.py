"""Two replicas on one PostgreSQL: whichever is told, and however often, everything counts exactly once."""

import asyncio
import random
import time
from functools import partial

import toy
from auditlog import DAY, AuditLog
from callers import Callers
from exposition import total
from servers import eventually

PREDICTIONS, BATCH, CALLERS = 10_000, 500, 8
PEOPLE = [{"sex": sex, "age_band": age} for sex in ("female", "male") for age in ("18-29", "30-49", "50+")]


def predictions(number):
    """The body of request `number`: BATCH rows of every group, half of them fraud."""
    rows = range(number * BATCH, (number + 1) * BATCH)
    return toy.request(
        *({"balance": row % 4} for row in rows),
        ids=[f"{row:05}" for row in rows],
        sensitive_features=[PEOPLE[row % len(PEOPLE)] for row in rows],
    )


def deliveries():
    """Every outcome twice, each time in another order and in batches of another size."""
    made = []
    for seed, size in ((1, 300), (2, 470)):
        outcomes = [{"id": f"{row:05}", "label": toy_label(row)} for row in range(PREDICTIONS)]
        random.Random(seed).shuffle(outcomes)
        made += [outcomes[start : start + size] for start in range(0, PREDICTIONS, size)]
    random.Random(3).shuffle(made)
    return made


def toy_label(row):
    return "fraud" if row % 3 else "legitimate"


async def deliver(ports):
    """Everything from CALLERS at once; what each replica answered."""
    async with Callers(ports[0]) as first, Callers(ports[1]) as second:
        replicas = first, second

        async def work(calls):
            return [await call() for call in calls]

        async def together(calls):
            done = await asyncio.gather(*(work(calls[start::CALLERS]) for start in range(CALLERS)))
            return [answer for answers in done for answer in answers]

        chance = random.Random(4)
        predicted = await together(
            [partial(chance.choice(replicas).predict, predictions(number)) for number in range(PREDICTIONS // BATCH)]
        )
        joined = await together([partial(chance.choice(replicas).outcomes, batch) for batch in deliveries()])
    return predicted, joined


def test_outcomes_count_exactly_once_over_replicas(start, postgresql, manifests):
    """Ten thousand predictions, each outcome delivered twice to random replicas, in different batches and orders, at
    the same time: metrics, database and answers agree."""
    replicas = start(postgresql), start(postgresql)
    predicted, joined = asyncio.run(deliver([server.port for server in replicas]))
    assert {status for status, _ in predicted + joined} == {200}
    assert sum(counts["joined"] for _, counts in joined) == PREDICTIONS
    assert sum(counts["duplicate"] for _, counts in joined) == PREDICTIONS

    scrapes = [server.metrics() for server in replicas]
    for feature in ("sex", "age_band"):
        labels = {"model_name": "toy", "model_version": "10", "sensitive_feature": feature}
        for name in ("plumbline_predictions_total", "plumbline_outcomes_total"):
            assert sum(total(scrape, name, **labels) for scrape in scrapes) == PREDICTIONS
        wrong = {"actual": "legitimate"}
        expected = sum(toy_label(row) == "legitimate" for row in range(PREDICTIONS))
        assert sum(total(scrape, "plumbline_outcomes_total", **labels, **wrong) for scrape in scrapes) == expected
    assert min(total(scrape, "plumbline_outcomes_total", sensitive_feature="sex") for scrape in scrapes) > 0
    for result in ("joined", "duplicate"):
        received = [total(scrape, "plumbline_outcomes_received_total", result=result) for scrape in scrapes]
        assert sum(received) == PREDICTIONS

    with AuditLog.opened(postgresql, manifests) as log:
        stored = log.stored()
    assert {id_: row.actual for id_, row in stored.items()} == {
        f"{row:05}": toy_label(row) for row in range(PREDICTIONS)
    }


def test_an_outcome_counts_under_the_version_that_predicted(start, url):
    """Also when that was before a restart, and also if a newer version answers by default."""
    server = start(url)
    body = toy.request(ids=["old"], sensitive_features=[{"sex": "female"}])
    assert server.predict(body, "toy/versions/9").status_code == 200
    assert server.predict(toy.request(ids=["new"])).status_code == 200
    server.stop()
    again = start(url)
    outcomes = [{"id": "old", "label": "fraud"}, {"id": "new", "label": "legitimate"}]
    counts = again.http.post("/v1/models/toy:outcomes", json={"outcomes": outcomes}).json()
    assert counts["joined"] == 2
    scrape = again.metrics()
    labels = {"sensitive_feature": "sex", "group": "female", "actual": "fraud"}
    assert total(scrape, "plumbline_outcomes_total", model_version="9", **labels) == 1
    assert total(scrape, "plumbline_outcomes_total", model_version="9", sensitive_feature="sex") == 1
    assert total(scrape, "plumbline_outcomes_total", model_version="10", sensitive_feature="sex") == 1


def test_predictions_past_their_retention_go_by_themselves(start, url, manifests):
    """A service that starts deletes what is too old, and answers meanwhile."""
    with AuditLog.opened(url, manifests) as log:
        log.append(*(f"old {number}" for number in range(3000)), at=time.time() - 3 * DAY)
        log.append("young", at=time.time() - DAY)
        server = start(url, retention_days=2)
        assert server.predict(toy.request(ids=["now"])).status_code == 200
        assert eventually(lambda: log.stored().keys() == {"young", "now"})
    assert '"rows":3000' in server.log
