"""Drift of packages that are not the toy: three classes, and the committed ones with the rows that they come with."""

import json

import drift_truth
import numpy as np
import pytest
import toy
from drift_traffic import Sent, body, post
from referenced import reference
from scraping import scrape
from servers import CHECKOUT

COMMITTED = CHECKOUT / "models" / "repository"
NAMES = ["diagnosis", "progression", "transaction"]


def write_trio(root, **manifest):
    """Three classes with a reference for two of them."""
    folder = toy.write_trio(root)
    edges, counts = [0.1, 0.5, 0.9], {"underflow": 10, "bins": [20, 30], "overflow": 40}
    features = [
        {"name": name, "kind": "numeric", "edges": [-1.0, 0.0, 1.0], "counts": {"bins": [50, 50]}} for name in "xy"
    ]
    scores = [{"class": label, "edges": edges, "counts": counts} for label in (10, 30)]
    parts = {"features": features, "scores": scores, "groups": None, "calibrators": None, "attributions": None}
    (folder / "reference.json").write_text(json.dumps(reference(n=100, **parts)))
    toy.seal(folder, **manifest)
    return folder


@pytest.mark.parametrize("positive", [None, 30, 20], ids=["no positive class", "positive 30", "positive 20"])
def test_each_class_with_a_reference_is_compared(serve, tmp_path, positive) -> None:
    """By its own probability; by group that of the positive class, where there is one with a reference."""
    people = {"positive_class": positive, "sensitive_features": toy.SENSITIVE_FEATURES if positive else None}
    package = drift_truth.Package(write_trio(tmp_path / "models", **people))
    client = serve()
    chance = np.random.default_rng(1)
    instances = [{"x": float(x), "y": float(y)} for x, y in chance.normal(0, 3, (250, 2)).round(3)]
    answer = client.predict(body(instances), model="trio").json()["predictions"]
    found = client.get("/v1/models/trio/drift").json()
    assert [entry["class"] for entry in found["scores"]] == ["10", "30"]
    text = scrape(client)
    for entry in found["scores"]:
        bins = package.scores[entry["class"]]
        counts = bins.count([prediction["probabilities"][entry["class"]] for prediction in answer])
        assert [part["n"] for part in entry["bins"]] == counts.tolist()
        assert entry["psi"] == pytest.approx(bins.compare(counts, 2)["psi"])
        series = text.of("plumbline_score_observations_total", **package.own, **{"class": entry["class"]})
        assert [number for _, number in series] == counts.tolist()
    by_group = text.sum("plumbline_group_score_observations_total", sensitive_feature="sex", group="unknown")
    assert by_group == (250 if positive == 30 else 0)
    assert (found["group_scores"], found["performance"], found["attribution"]) == ([], [], None)


@pytest.fixture(scope="module")
def replay():
    """{model: the rows that its package comes with}."""
    return {
        name: [json.loads(line) for line in (COMMITTED / name / "1" / "replay.jsonl").read_text().splitlines()]
        for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_committed_packages_are_compared_with_their_references(serve, replay, name) -> None:
    """Their own rows, in every bin of every feature, score and group."""
    package = drift_truth.Package(COMMITTED / name / "1")
    client = serve(COMMITTED)
    rows = replay[name]
    instances, groups = [row["instance"] for row in rows], [row["sensitive_features"] for row in rows]
    sent = Sent(package)
    for start in range(0, len(rows), 64):
        post(client, sent, body(instances[start : start + 64], groups[start : start + 64]), model=name)
    found = client.get(f"/v1/models/{name}/drift").json()
    assert found["n"] == len(rows)
    for number, entry in enumerate(found["features"]):
        counts, bins = sent.of_feature(number), package.features[number]
        assert [part["n"] for part in entry["bins"]] == counts.tolist(), entry["feature"]
        for statistic, numbers in bins.compare(counts, len(found["features"])).items():
            assert entry[statistic] == pytest.approx(numbers, rel=1e-6), (entry["feature"], statistic)
        assert entry["shares"].keys() == bins.shares(counts, len(found["features"])).keys()
    assert [part["n"] for part in found["scores"][0]["bins"]] == sent.of_scores().tolist()
    for part in found["group_scores"]:
        for group in part["groups"]:
            assert group["n"] == sent.of_group_scores(part["sensitive_feature"], group["group"]).sum()


def test_rows_like_those_of_the_reference_show_no_drift(serve, replay) -> None:
    """A thousand unseen rows of the largest package: nothing is called drift."""
    client = serve(COMMITTED)
    rows = replay["transaction"][:1000]
    client.predict(body([row["instance"] for row in rows]), model="transaction")
    found = client.get("/v1/models/transaction/drift").json()
    drifted = [entry["feature"] for entry in found["features"] if entry["state"] == "drift"]
    assert (drifted, found["scores"][0]["state"]) == ([], "ok")
