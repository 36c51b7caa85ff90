"""Packages with a reference that a person can check: for every kind of feature of the toy, and for `told` groups.

`online` is a category that no reference row had, `50+` a group without reference rows, and `age_band` has no
calibrator of its own.
"""

import json

import toy

FEATURES = [
    {
        "name": "amount",
        "kind": "numeric",
        "edges": [0.5, 10.17, 100.0, 500.0],
        "counts": {"underflow": 30, "bins": [90, 160, 100], "overflow": 20},
        "observed": {"minimum": 0.0, "maximum": 900.0},
    },
    {
        "name": "hour",
        "kind": "integer",
        "edges": [6.0, 12.0, 18.0, 23.0],
        "counts": {"underflow": 40, "bins": [120, 160, 80], "overflow": 0},
    },
    {"name": "cross_border", "kind": "binary", "categories": ["0", "1"], "counts": {"bins": [360, 40]}},
    {
        "name": "entry_mode",
        "kind": "categorical",
        "categories": ["chip", "contactless", "online"],
        "counts": {"bins": [250, 150, 0]},
    },
    {
        "name": "balance",
        "kind": "numeric",
        "edges": [-50.0, 0.0, 1.5, 40.0],
        "counts": {"underflow": 20, "bins": [100, 140, 80], "overflow": 25, "missing": 35},
    },
]
SCORES = [
    {
        "class": "fraud",
        "edges": [0.05, 0.25, 0.5, 0.75, 0.95],
        "counts": {"underflow": 60, "bins": [140, 100, 50, 30], "overflow": 20},
    }
]
GROUPS = {
    "sex": {
        "female": {"n": 160, "positives": 32, "scores": {"underflow": 20, "bins": [60, 40, 20, 12], "overflow": 8}},
        "male": {"n": 240, "positives": 40, "scores": {"underflow": 40, "bins": [80, 60, 30, 18], "overflow": 12}},
    },
    "age_band": {
        "18-29": {"n": 150, "positives": 30, "scores": {"underflow": 20, "bins": [50, 40, 20, 12], "overflow": 8}},
        "30-49": {"n": 250, "positives": 42, "scores": {"underflow": 40, "bins": [90, 60, 30, 18], "overflow": 12}},
    },
}
CALIBRATORS = {
    "pooled": {"method": "isotonic", "n": 400, "scores": [0.1, 0.4, 0.9], "probabilities": [0.05, 0.3, 0.8]},
    "groups": {
        "sex": {
            "female": {"method": "isotonic", "n": 160, "scores": [0.2, 0.7], "probabilities": [0.1, 0.9]},
        }
    },
}
ATTRIBUTIONS = {
    "n": 400,
    "features": [
        {"name": "amount", "share": 0.4, "deviation": 0.5},
        {"name": "hour", "share": 0.1, "deviation": 0.2},
        {"name": "cross_border", "share": 0.2, "deviation": 0.3},
        {"name": "entry_mode", "share": 0.05, "deviation": 0.1},
        {"name": "balance", "share": 0.25, "deviation": 0.4},
    ],
}
PARTS = {"scores": SCORES, "groups": GROUPS, "calibrators": CALIBRATORS, "attributions": ATTRIBUTIONS}


def reference(**parts):
    """The content of `reference.json` for the toy; a part that is None is left out."""
    made = {"n": 400, "data_fingerprint": f"sha256:{'f' * 64}", "features": FEATURES} | PARTS | parts
    return {name: part for name, part in made.items() if part is not None}


def add_reference(folder, **parts):
    """Put a reference into the package `folder`, and its digest into the manifest."""
    (folder / "reference.json").write_text(json.dumps(reference(**parts)))
    toy.seal(folder)
    return folder
