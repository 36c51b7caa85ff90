"""A package whose decision is its only feature, and people who pass through the service with it.

So that a table of known decisions, outcomes and groups goes the whole way: requests, records, counts, report.
"""

from pathlib import Path

import toy
from onnx import helper

JSON = {"content-type": "application/json"}
ROWS_PER_REQUEST = 1000


def model():
    """margin = 20 score - 10: a score of 0 is decided 0, a score of 1 is decided 1."""
    nodes = [
        helper.make_node("Mul", ["X", "slope"], ["steep"]),
        helper.make_node("Sub", ["steep", "middle"], ["margin"]),
        *toy.LOGIT,
    ]
    return toy.model(nodes, [toy.constant("slope", 20.0), toy.constant("middle", 10.0), toy.ONE], width=1, classes=2)


def write(root, name, references, *, groups, intersections=(), **manifest):
    """Package `name`, which takes `groups` {sensitive feature: groups}; the positive class 1 is the favourable one."""
    return toy.write(
        Path(root) / name / "1",
        model(),
        [[0.0], [1.0], [0.25]],
        **{
            "features": [{"name": "score", "kind": "numeric", "minimum": 0, "maximum": 1}],
            "classes": [0, 1],
            "positive_class": 1,
            "favourable_outcome": 1,
            "sensitive_features": [
                {"name": feature, "groups": list(groups[feature]), "reference_group": reference}
                for feature, reference in references.items()
            ],
            "intersections": [list(names) for names in intersections],
        }
        | manifest,
    )


def post(http, path, body):
    response = http.request("POST", path, json=body, headers=JSON)
    assert response.status_code == 200, response.text
    return response.json()


def predict(http, name, rows):
    """Post `rows`, dictionaries of id, score and groups; the answers must be the scores."""
    for start in range(0, len(rows), ROWS_PER_REQUEST):
        part = rows[start : start + ROWS_PER_REQUEST]
        body = {
            "instances": [{"score": row["score"]} for row in part],
            "ids": [row["id"] for row in part],
            "sensitive_features": [row["groups"] for row in part],
        }
        answers = post(http, f"/v1/models/{name}:predict", body)["predictions"]
        assert [(answer["id"], answer["label"]) for answer in answers] == [(row["id"], row["score"]) for row in part]


def label(http, name, rows):
    """Post the outcomes of those `rows` that have an actual class; each must be joined."""
    labelled = [row for row in rows if row["actual"] is not None]
    for start in range(0, len(labelled), ROWS_PER_REQUEST):
        part = [{"id": row["id"], "label": row["actual"]} for row in labelled[start : start + ROWS_PER_REQUEST]]
        assert post(http, f"/v1/models/{name}:outcomes", {"outcomes": part})["joined"] == len(part)


def report(http, name, **query):
    """The JSON report."""
    response = http.get(f"/v1/models/{name}/fairness", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def feature_of(report, name):
    """The part of a report about one sensitive feature, and its groups by name."""
    (feature,) = (found for found in report["sensitive_features"] if found["name"] == name)
    return feature, {group["group"]: group for group in feature["groups"]}
