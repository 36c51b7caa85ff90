"""A request that is sent again with the same ids: the same answer, counted once, wherever and whenever it arrives."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import toy
from auditlog import AuditLog
from explained import add_explainer, linear_explainer
from exposition import total
from inprocess import serving

BODY = toy.request(
    {"balance": 1},
    {"amount": 7, "hour": 3},
    {"cross_border": 1},
    ids=["a", "b", "c"],
    sensitive_features=[{"sex": "female"}, {"sex": "male"}, {"sex": "female"}],
    explain=True,
)


@pytest.fixture
def serve():
    """Serve in this process, where no process need end: `serve(url, models, **settings)`."""
    with ExitStack() as stack:
        yield lambda url, models, **settings: stack.enter_context(
            serving(models, device="cpu", records_url=url, **settings)
        )


@pytest.fixture
def models(tmp_path):
    """The toy with explanations."""
    add_explainer(toy.write_toy(tmp_path / "models"), linear_explainer())
    return tmp_path / "models"


def counted(*servers):
    """Predictions and explained rows over all replicas."""
    scrapes = [server.get("/metrics").text for server in servers]
    return tuple(
        sum(total(scrape, name, sensitive_feature="sex") for scrape in scrapes)
        for name in ("plumbline_predictions_total", "plumbline_attribution_rows_total")
    )


def stored(url, manifests):
    with AuditLog.opened(url, manifests) as log:
        return log.stored()


def test_a_retry_is_answered_as_before_and_counts_once(start, url, models, manifests):
    """With explanations, in part or in another order too; the record stays as it was."""
    server = start(url, models, explain_sample_ratio=0)
    answer = server.predict(BODY).json()
    assert len(answer["explanations"]) == 3
    before = stored(url, manifests)
    assert server.predict(BODY).json() == answer
    backwards = {key: values[::-1] if isinstance(values, list) else values for key, values in BODY.items()}
    found = server.predict(backwards).json()
    assert found["predictions"] == answer["predictions"][::-1]
    assert [entry["values"] for entry in found["explanations"]] == [
        entry["values"] for entry in answer["explanations"][::-1]
    ]
    assert counted(server.http) == (3, 3)
    more = toy.request(*BODY["instances"], {}, ids=["a", "b", "c", "d"])
    assert server.predict(more).json()["predictions"][:3] == answer["predictions"]
    assert counted(server.http) == (4, 3)
    after = stored(url, manifests)
    assert before.items() <= after.items()
    assert after.keys() - before.keys() == {"d"}


def test_an_id_of_another_instance_is_refused_without_being_quoted(serve, url, models, manifests):
    """400 that names the place; nothing of the request is recorded or counted."""
    server = serve(url, models, explain_sample_ratio=0)
    assert server.predict(toy.request(ids=["quetzalcoatl"])).status_code == 200
    refused = server.predict(toy.request({}, {"amount": 9}, ids=["new", "quetzalcoatl"]))
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("ids[1]: ")
    assert "quetzalcoatl" not in refused.text
    assert stored(url, manifests).keys() == {"quetzalcoatl"}
    assert counted(server) == (1, 0)


def test_concurrent_retries_count_once(start, url, models, manifests):
    """The same request eight times at once: eight equal answers."""
    server = start(url, models, explain_sample_ratio=0)
    with ThreadPoolExecutor(8) as executor:
        responses = list(executor.map(server.predict, [BODY] * 8))
    assert [response.status_code for response in responses] == [200] * 8
    first = responses[0].json()
    for response in responses[1:]:
        assert response.json()["predictions"] == first["predictions"]
        assert [entry["values"] for entry in response.json()["explanations"]] == [
            entry["values"] for entry in first["explanations"]
        ]
    assert counted(server.http) == (3, 3)
    assert stored(url, manifests).keys() == {"a", "b", "c"}


def test_a_retry_may_go_to_another_replica_and_arrive_after_a_restart(start, postgresql, models, manifests):
    """One answer and one count over all of them, also if all are asked at once."""
    replicas = [start(postgresql, models, explain_sample_ratio=0) for _ in range(2)]
    answer = replicas[0].predict(BODY).json()
    assert replicas[1].predict(BODY).json() == answer
    with ThreadPoolExecutor(8) as executor:
        other = {**BODY, "ids": ["d", "e", "f"]}
        turned = {key: values[::-1] if isinstance(values, list) else values for key, values in other.items()}
        futures = [
            executor.submit(replicas[number % 2].predict, turned if number % 4 > 1 else other) for number in range(16)
        ]
        assert {future.result().status_code for future in futures} == {200}
    assert counted(*(replica.http for replica in replicas)) == (6, 6)
    replicas[0].stop()
    again = start(postgresql, models, explain_sample_ratio=0)
    assert again.predict(BODY).json() == answer
    assert counted(again.http) == (0, 0)
    assert stored(postgresql, manifests).keys() == {"a", "b", "c", "d", "e", "f"}


def test_a_retry_after_an_upgrade_gets_the_first_answer(serve, url, tmp_path):
    """From the version that decided, with its threshold; an explanation of the new version would not fit."""
    models = tmp_path / "models"
    toy.write_toy(models, version=1)
    body = toy.request({"balance": 3}, ids=["a"])
    answer = serve(url, models).predict(body).json()
    add_explainer(toy.write_toy(models, version=2, bias=-9.0, threshold=0.25), linear_explainer())
    upgraded = serve(url, models)
    found = upgraded.predict(body | {"explain": True}).json()
    assert found["predictions"] == [answer["predictions"][0] | {"model_version": "1"}]
    assert found["explanations"] == [{"status": "skipped", "reason": "retry"}]
    assert counted(upgraded)[0] == 0


def test_an_id_that_a_database_cannot_hold_is_the_callers_mistake(serve, url, toys):
    """400, not the 503 that would have it sent again for ever; strange ids that can be held are."""
    server = serve(url, toys)
    for path, body in (
        ("/v1/models/toy:predict", toy.request(ids=["a\0b"])),
        ("/v1/models/toy:outcomes", {"outcomes": [{"id": "a\0b", "label": "fraud"}]}),
    ):
        response = server.request("POST", path, json=body)
        assert response.status_code == 400
        assert "none of them NUL" in response.json()["error"]
    ids = ["\x01", "Zürich 😀", "%s %(id)s", "'; DROP TABLE predictions; --", "\\", "erased:0"]
    assert server.predict(toy.request(*[{}] * len(ids), ids=ids)).status_code == 200
    outcomes = {"outcomes": [{"id": id_, "label": "fraud"} for id_ in ids]}
    joined = server.request("POST", "/v1/models/toy:outcomes", json=outcomes)
    assert joined.json()["joined"] == len(ids)
