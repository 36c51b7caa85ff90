"""Frozen bins and counts that drift is measured against: `reference.json`.

Counted on the validation and held-out rows, never on training rows, on which a model is surer than it will be in use.

    {"n": 228, "data_fingerprint": "sha256:...",
     "features": [{"name": "amount", "kind": "numeric", "edges": [e_0, ..., e_k],
                   "counts": {"underflow": 0, "bins": [k counts], "overflow": 0, "missing": 0},
                   "observed": {"minimum": 0.5, "maximum": 812.0}},
                  {"name": "entry_mode", "kind": "categorical", "categories": ["chip", "online"],
                   "counts": {"bins": [2 counts], "other": 0, "missing": 0}}],
     "scores": [{"class": "fraud", "edges": [...], "counts": {"underflow": 0, "bins": [...], "overflow": 0}}],
     "groups": {"age_band": {"18-29": {"n": 120, "positives": 3}}}}

Bin i holds edges[i] <= x < edges[i+1]; underflow is below edges[0], overflow from edges[k] on, which is the float32
next above the largest value. `observed` is the range of the *training* rows: outside it the model extrapolates.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.task import Declaration, FloatMatrix, Floats, Integers, Rows, Splits
from service.manifest import Feature, Label

REFERENCE_BINS = 10


def reference(declaration: Declaration, splits: Splits, probability: Floats) -> dict[str, Any]:
    """The content of `reference.json`; `probability` `(n,)` is that of the positive class for `splits.unseen`."""
    rows = splits.unseen
    return frozen_counts(
        declaration.features,
        rows.X,
        training=splits.training.X,
        scores={declaration.positive_class: probability},
        groups={name: base_rates(rows, name) for name in rows.groups},
        data_fingerprint=splits.fingerprint(),
    )


def frozen_counts(
    features: Sequence[Feature],
    X: FloatMatrix,
    *,
    training: FloatMatrix,
    scores: Mapping[Label, Floats],
    groups: Mapping[str, Mapping[str, Mapping[str, int]]],
    data_fingerprint: str,
) -> dict[str, Any]:
    """The same from its parts: rows `X` `(n, d)`, and for each class to be watched its probability `(n,)`."""
    return {
        "n": len(X),
        "data_fingerprint": data_fingerprint,
        "features": [_feature(feature, X[:, i], training[:, i]) for i, feature in enumerate(features)],
        "scores": [_score(label, probability) for label, probability in scores.items()],
        "groups": groups,
    }


def _score(label: Label, probability: Floats) -> dict[str, Any]:
    edges = equal_count_edges(probability)
    return {"class": label, "edges": edges.tolist(), "counts": _named(bin_counts(probability, edges))}


def _feature(feature: Feature, values: NDArray[np.float32], training: NDArray[np.float32]) -> dict[str, Any]:
    present, missing = values[~np.isnan(values)], int(np.isnan(values).sum())
    if feature.kind in ("binary", "categorical"):
        categories = feature.categories or ["0", "1"]
        counts = np.bincount(present.astype(np.int64), minlength=len(categories))
        return {
            "name": feature.name,
            "kind": feature.kind,
            "categories": categories,
            "counts": {"bins": counts.tolist(), "other": 0, "missing": missing},
        }
    edges = equal_count_edges(present)
    seen = training[~np.isnan(training)]
    return {
        "name": feature.name,
        "kind": feature.kind,
        "edges": edges.tolist(),
        "counts": {**_named(bin_counts(present, edges)), "missing": missing},
        "observed": {"minimum": float(seen.min()), "maximum": float(seen.max())} if len(seen) else None,
    }


def equal_count_edges(values: NDArray[np.floating[Any]]) -> Floats:
    """Edges `(k+1,)` of at most ten bins, each with a tenth of `values` `(n,)` or more; exact in float32.

    A value that many rows share fills a bin of its own, so that a mostly zero feature keeps its zeros apart.
    """
    if not len(values):
        return np.array([0.0, 1.0])
    distinct, counts = np.unique(values.astype(np.float32), return_counts=True)
    least = len(values) / REFERENCE_BINS
    starts: list[np.float32] = []
    held = least
    for value, count in zip(distinct, counts, strict=True):
        if held >= least:
            starts.append(value)
            held = 0
        held += count
    if held < least and len(starts) > 1:
        starts.pop()
    return np.array([*starts, np.nextafter(distinct[-1], np.float32(np.inf))], np.float64)


def bin_counts(values: NDArray[np.floating[Any]], edges: Floats) -> Integers:
    """Counts `(k+2,)` of `values` `(n,)`, none missing: underflow, the k bins, overflow."""
    index = np.searchsorted(edges, values.astype(np.float32).astype(np.float64), side="right")
    return np.bincount(index, minlength=len(edges) + 1)


def _named(counts: Integers) -> dict[str, Any]:
    return {"underflow": int(counts[0]), "bins": counts[1:-1].tolist(), "overflow": int(counts[-1])}


def base_rates(rows: Rows, sensitive_feature: str) -> dict[str, dict[str, int]]:
    """Per group that occurs: how many rows, and how many of them positive."""
    values = rows.groups[sensitive_feature]
    return {
        str(group): {"n": int((values == group).sum()), "positives": int(rows.y[values == group].sum())}
        for group in np.unique(values)
    }
