"""References made by hand, with the manifests they belong to: what drift is measured against."""

import json

from declared import NO_DIGEST, declared

from service.reference import Reference

REFERENCE_DIGEST = "sha256:0123456789abcdef" + 48 * "0"
FEATURES = [
    {"name": "amount", "kind": "numeric", "unit": "EUR", "nullable": True},
    {"name": "hour", "kind": "integer"},
    {"name": "abroad", "kind": "binary"},
    {"name": "entry", "kind": "categorical", "categories": ["chip", "missing", "online"], "nullable": True},
]
SEX = ("sex", ("female", "male"))
AGE_BAND = ("age_band", ("18-29", "30-49", "50+"))
# The first float32 above 1.
BEYOND_ONE = 1.0000001192092896

PARTS = [
    {
        "name": "amount",
        "kind": "numeric",
        "edges": [0.5, 10.0, 100.0, 1600.0],
        "counts": {"bins": [300, 400, 200], "missing": 100},
        "observed": {"minimum": 0.5, "maximum": 1599.0},
    },
    {"name": "hour", "kind": "integer", "edges": [0, 6, 24], "counts": {"bins": [250, 750]}},
    {"name": "abroad", "kind": "binary", "categories": ["0", "1"], "counts": {"bins": [900, 100]}},
    {
        "name": "entry",
        "kind": "categorical",
        "categories": ["chip", "missing", "online"],
        "counts": {"bins": [600, 380, 0], "missing": 20},
    },
]
SCORES = [{"class": "yes", "edges": [0.0, 0.25, 0.5, BEYOND_ONE], "counts": {"bins": [500, 300, 200]}}]
GROUPS = {
    "sex": {
        "female": {"n": 400, "positives": 90, "scores": {"bins": [150, 150, 100]}},
        "male": {"n": 590, "positives": 110, "scores": {"bins": [345, 145, 100]}},
        "unknown": {"n": 10, "positives": 1, "scores": {"bins": [5, 5, 0]}},
    },
    "age_band": {
        "18-29": {"n": 500, "positives": 100, "scores": {"bins": [250, 150, 100]}},
        "50+": {"n": 500, "positives": 101, "scores": {"bins": [250, 150, 100]}},
    },
}
CALIBRATORS = {
    "pooled": {"method": "isotonic", "n": 1000, "scores": [0.1, 0.5, 0.9], "probabilities": [0.05, 0.4, 0.95]},
    "groups": {
        "sex": {"female": {"method": "sigmoid", "n": 400, "scores": [0.0, 0.8, 1.0], "probabilities": [0.1, 0.7, 0.8]}}
    },
}
ATTRIBUTIONS = {
    "n": 500,
    "features": [
        {"name": name, "share": share, "deviation": 0.5}
        for name, share in (("amount", 0.4), ("hour", 0.3), ("abroad", 0.2), ("entry", 0.1))
    ],
}


def frozen_manifest(*sensitive_features, features=FEATURES, **changes):
    """A manifest of `FEATURES`, with the digest of a reference; sex and age bands unless other groups are named."""
    files = dict.fromkeys(["model.onnx", "golden.json", "explainer.onnx"], NO_DIGEST)
    changes = {"digests": files | {"reference.json": REFERENCE_DIGEST}} | changes
    return declared(*(sensitive_features or (SEX, AGE_BAND)), features=features, explained=True, **changes)


def document(**changes):
    """The content of a reference.json that belongs to `frozen_manifest`; a part changed to None is left out."""
    parts = {
        "n": 1000,
        "data_fingerprint": "sha256:f00d",
        "features": PARTS,
        "scores": SCORES,
        "groups": GROUPS,
        "calibrators": CALIBRATORS,
        "attributions": ATTRIBUTIONS,
    } | changes
    return json.loads(json.dumps({name: part for name, part in parts.items() if part is not None}))


def frozen(**changes):
    """The same as the service reads it."""
    return Reference.model_validate(document(**changes))
