"""The committed packages, explained by the service: every unseen row, and what a client does with the answer."""

import json
from pathlib import Path

import numpy as np
import pytest
from inprocess import serving

REPOSITORY = Path(__file__).parents[2] / "models" / "repository"
ALGORITHMS = {"diagnosis": "stratified_wls", "progression": "enumeration", "transaction": "tree"}


@pytest.fixture(scope="module")
def client():
    """The committed packages served in this process."""
    with serving(REPOSITORY, device="cpu") as client:
        yield client


def unseen(model):
    lines = (REPOSITORY / model / "1" / "replay.jsonl").read_text().splitlines()
    return [json.loads(line)["instance"] for line in lines]


@pytest.mark.parametrize("model", ALGORITHMS)
def test_every_unseen_row_is_explained_and_adds_up(client, model) -> None:
    """base value + sum of values is the margin behind the probability that was answered, to 1e-5."""
    rows = unseen(model)[:400]
    answer = client.predict({"instances": rows, "explain": True}, model=model).json()
    assert len(answer["explanations"]) == len(rows)
    for prediction, entry in zip(answer["predictions"], answer["explanations"], strict=True):
        assert entry["algorithm"] == ALGORITHMS[model]
        assert entry["status"] == ("estimate" if model == "diagnosis" else "exact")
        margin = entry["base_values"][0] + sum(value for (value,) in entry["values"])
        assert margin == pytest.approx(entry["fx"][0], abs=1e-5 * max(1, abs(margin)))
        assert 1 / (1 + np.exp(-margin)) == pytest.approx(prediction["probability"], abs=1e-5)
        assert all(reason["value"] > 0 for reason in entry["reasons"])
        assert len(entry["reasons"]) <= 4


@pytest.mark.parametrize("model", ALGORITHMS)
def test_same_row_has_the_same_explanation_alone_and_in_any_batch(client, model) -> None:
    """Identical bytes, whatever else is in the request."""
    rows = unseen(model)[:5]
    together = client.predict({"instances": rows, "explain": True}, model=model).json()["explanations"]
    for row, entry in zip(rows, together, strict=True):
        alone = client.predict({"instances": [row], "explain": True}, model=model).json()["explanations"]
        assert json.dumps(alone) == json.dumps([entry])


def test_shap_reads_the_answer_as_its_own(client) -> None:
    """shap.Explanation takes the fields as they are."""
    shap = pytest.importorskip("shap")
    body = {"instances": unseen("transaction")[:1], "explain": True}
    (entry,) = client.predict(body, model="transaction").json()["explanations"]
    explanation = shap.Explanation(
        values=np.array(entry["values"]),
        base_values=np.array(entry["base_values"]),
        data=np.array(entry["data"], dtype=object),
        feature_names=entry["feature_names"],
    )
    assert explanation.shape == (19, 1)
    assert explanation.feature_names[0] == "amount"


def test_clients_at_once_get_what_they_would_get_alone(client) -> None:
    """32 callers mixing models, rows and flags: every explanation equals its serial twin."""
    flags = [True, False, {"top_k": 3}, {"if": "positive"}]
    requests = [
        (model, {"instances": [row], "explain": flags[index % 4]})
        for index in range(11)
        for model, row in ((model, unseen(model)[index]) for model in ALGORITHMS)
    ]
    serial = [client.predict(body, model=model).json().get("explanations") for model, body in requests]
    parallel = [answer.json().get("explanations") for answer in client.mixed(*requests)]
    assert parallel == serial
    assert sum(entries is not None for entries in serial) >= 24
