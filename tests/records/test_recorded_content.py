"""What of a request is in the records: the decision and declared groups; content only where a setting asks."""

import json

import numpy as np
import pytest
import toy
from auditlog import AuditLog
from explained import add_explainer, linear_explainer
from inprocess import serving

from service.manifest import Manifest
from service.records.counts import attribution_sums

TEXT, NUMBER = "quetzalcoatl", 7734501
BODY = toy.request(
    {"balance": 1.25, "entry_mode": "online", "hour": 23, "cross_border": 1},
    {"balance": None, "amount": 0.1},
    ids=["a", "b"],
    sensitive_features=[{"sex": "female", "age_band": TEXT}, {"age_band": "declined"}],
    explain=True,
)


@pytest.fixture
def recorded(url, tmp_path, manifests):
    """The rows that requests leave: `recorded(*bodies, **settings)`."""
    add_explainer(toy.write_toy(tmp_path / "models"), linear_explainer())

    def record(*bodies, **settings):
        with serving(tmp_path / "models", device="cpu", records_url=url, **settings) as client:
            answers = [client.predict(body) for body in bodies]
        assert {answer.status_code for answer in answers} == {200}
        with AuditLog.opened(url, manifests) as log:
            return log.stored(), [answer.json() for answer in answers]

    return record


def test_a_record_is_the_decision_and_declared_groups(recorded):
    """Undeclared values become `other`, absent ones `unknown`; no feature and no explanation is kept."""
    rows, [answer] = recorded(BODY)
    for prediction in answer["predictions"]:
        row = rows[prediction["id"]]
        assert (row.predicted, row.score) == (prediction["label"], prediction["probability"])
        assert (row.features, row.explanation, row.probabilities, row.actual) == (None, None, None, None)
    assert json.loads(rows["a"].groups) == {"sex": "female", "age_band": "other"}
    assert json.loads(rows["b"].groups) == {"sex": "unknown", "age_band": "declined"}


def test_features_and_explanations_are_kept_where_settings_ask(recorded):
    """Features as they were posted, explanations as they were answered."""
    plain = toy.request(ids=["c"])
    rows, [answer, _] = recorded(BODY, plain, record_features=True, record_explanations=True)
    for number, id_ in enumerate(BODY["ids"]):
        assert json.loads(rows[id_].features) == BODY["instances"][number]
        assert json.loads(rows[id_].explanation) == answer["explanations"][number]
    assert json.loads(rows["c"].features) == plain["instances"][0]
    assert rows["c"].explanation is None


def test_nothing_that_was_posted_is_in_the_file(tmp_path, toys):
    """Not in the tables, not in the write-ahead log: neither values nor undeclared groups."""
    with serving(toys, device="cpu", records_url=f"sqlite:///{tmp_path}/records.db") as client:
        body = toy.request({"balance": NUMBER}, sensitive_features=[{"sex": TEXT}])
        assert client.predict(body).status_code == 200
        content = b"".join(path.read_bytes() for path in tmp_path.glob("records.db*"))
    assert b"fraud" in content
    assert TEXT.encode() not in content
    assert str(NUMBER).encode() not in content


def test_a_retry_of_a_model_of_many_classes_gets_every_probability_again(url, toys):
    """From the record, also if the package is another one by then; ids of other models do not matter."""
    body = {"instances": [{"x": 1, "y": -1}, {"x": 0, "y": 2}], "ids": ["a", "b"]}
    with serving(toys, device="cpu", records_url=url) as client:
        assert client.predict(toy.request(ids=["a"])).status_code == 200
        answer = client.predict(body, "trio").json()
        assert client.predict(body, "trio").json() == answer
    with serving(toys, device="cpu", records_url=url) as client:
        assert client.predict(body, "trio").json() == answer
        outcomes = {"outcomes": [{"id": "a", "label": 30}, {"id": "b", "label": 10}]}
        joined = client.request("POST", "/v1/models/trio:outcomes", json=outcomes)
        assert joined.json()["joined"] == 2


def test_sums_of_explanations_are_saved_when_the_service_ends(url, tmp_path):
    """One after another on the same database: they add up, by group, to what was answered."""
    folder = toy.write_toy(tmp_path / "models")
    add_explainer(folder, linear_explainer())
    expected = np.zeros(5)
    for run in range(2):
        with serving(tmp_path / "models", device="cpu", records_url=url, explain_sample_ratio=0) as client:
            answer = client.predict(BODY | {"ids": [f"{run} a", f"{run} b"]}).json()
            expected += np.squeeze(answer["explanations"][0]["values"])
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    with AuditLog.opened(url, [manifest]) as log:
        found = attribution_sums(log.engine, [log.package], since=0)
    of_women = [total for total in found if json.loads(total.groups)["sex"] == "female"]
    assert sum(total.n for total in found) == 4
    assert sum(total.n for total in of_women) == 2
    assert np.sum([total.sums for total in of_women], axis=0) == pytest.approx(expected)
