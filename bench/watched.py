"""A model of 30 features with its reference, and inferences of it: what the monitor counts, without a model."""

from typing import Any

import numpy as np

from service.manifest import Manifest
from service.monitor.counters import Counters
from service.monitor.monitor import Inference
from service.reference import Reference

FEATURES = 30
NUMERIC = 24
BATCH_ROWS = 64
BATCHES = 8
BINS = 10
NO_DIGEST = "sha256:" + 64 * "0"
SEXES, AGE_BANDS = ["female", "male"], ["18-29", "30-49", "50+"]
CATEGORIES = ["chip", "contactless", "online"]


def manifest(name: str = "watched") -> Manifest:
    """Numeric features, some of them nullable, and categories; two sensitive features and their intersection."""
    features: list[dict[str, Any]] = [
        {"name": f"x{number}", "kind": "numeric", "nullable": number % 4 == 0}
        if number < NUMERIC
        else {"name": f"x{number}", "kind": "categorical", "categories": CATEGORIES}
        for number in range(FEATURES)
    ]
    return Manifest.model_validate(
        {
            "name": name,
            "version": "1",
            "task": "binary",
            "link": "logit",
            "created_at": "2026-11-22T00:00:00Z",
            "description": "Thirty features.",
            "classes": ["no", "yes"],
            "positive_class": "yes",
            "favourable_outcome": "yes",
            "threshold": 0.5,
            "features": features,
            "sensitive_features": [
                {"name": "sex", "groups": SEXES, "reference_group": "male"},
                {"name": "age_band", "groups": AGE_BANDS, "reference_group": "30-49"},
            ],
            "intersections": [["sex", "age_band"]],
            "digests": dict.fromkeys(("model.onnx", "golden.json", "reference.json"), NO_DIGEST),
            "provenance": {"seed": 0, "data_fingerprint": "none"},
        }
    )


def reference() -> Reference:
    """Ten bins of each numeric feature and of the score, calibrators and attribution shares."""
    edges = np.linspace(-2, 2, BINS + 1).astype(np.float32).tolist()
    scores = np.linspace(0, 1, BINS + 1).astype(np.float32).tolist()
    counts = {"bins": [100] * BINS}
    curve = {"method": "isotonic", "n": 1000, "scores": np.linspace(0, 1, 50).tolist()}
    curve["probabilities"] = (np.linspace(0, 1, 50) ** 2).tolist()
    return Reference.model_validate(
        {
            "n": 1000,
            "data_fingerprint": "none",
            "features": [
                {"name": f"x{number}", "kind": "numeric", "edges": edges, "counts": counts}
                if number < NUMERIC
                else {
                    "name": f"x{number}",
                    "kind": "categorical",
                    "categories": CATEGORIES,
                    "counts": {"bins": [400, 400, 200]},
                }
                for number in range(FEATURES)
            ],
            "scores": [{"class": "yes", "edges": scores, "counts": counts}],
            "groups": {
                name: {group: {"n": 1000, "positives": 300, "scores": counts} for group in groups}
                for name, groups in (("sex", SEXES), ("age_band", AGE_BANDS))
            },
            "calibrators": {"pooled": curve, "groups": {"sex": dict.fromkeys(SEXES, curve)}},
            "attributions": {
                "n": 1000,
                "features": [
                    {"name": f"x{number}", "share": 1 / FEATURES, "deviation": 0.1} for number in range(FEATURES)
                ],
            },
        }
    )


def counters(*, drift: bool, name: str = "watched") -> Counters:
    """Those of such a model, with or without a reference to see drift against."""
    return Counters(manifest(name), reference() if drift else None)


def inferences(counters: Counters, seed: int = 0) -> list[Inference]:
    """BATCHES requests of BATCH_ROWS rows, as many as the monitor may count at once."""
    dice = np.random.default_rng(seed)
    made = []
    for _ in range(BATCHES):
        X = dice.normal(size=(BATCH_ROWS, FEATURES)).astype(np.float32)
        X[:, NUMERIC:] = dice.integers(0, len(CATEGORIES), (BATCH_ROWS, FEATURES - NUMERIC))
        score = dice.random(BATCH_ROWS, np.float32)
        people = [{"sex": str(dice.choice(SEXES)), "age_band": str(dice.choice(AGE_BANDS))} for _ in score]
        made.append(
            Inference(
                counters,
                [counters.groups.of(person) for person in people],
                (score >= 0.5).astype(int).tolist(),
                score.tolist(),
                X=X,
                probability=np.stack([1 - score, score], axis=1),
            )
        )
    return made
