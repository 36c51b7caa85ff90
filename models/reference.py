"""Frozen bins and counts that drift is measured against: `reference.json`, whose form `service.reference` states.

Counted on the validation and held-out rows, never on training rows, on which a model is surer than it will be in use.
Bin i holds edges[i] <= x < edges[i+1]; underflow is below edges[0], overflow from edges[k] on, which is the float32
next above the largest value. `observed` is the range of the *training* rows: outside it the model extrapolates.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration import calibrators
from models.explainer.calibrate import explain_rows
from models.explainer.served import run_single_threaded
from models.task import Declaration, FloatMatrix, Floats, Integers, Rows, Splits
from service.manifest import Feature, Label

REFERENCE_BINS = 10
# Explaining more would tell no more about the shares.
MOST_EXPLAINED = 2000


def reference(declaration: Declaration, splits: Splits, probability: Floats, explainer: bytes) -> dict[str, Any]:
    """The content of `reference.json`; `probability` `(n,)` is that of the positive class for `splits.unseen`."""
    rows = splits.unseen
    return frozen_counts(
        declaration.features,
        rows,
        training=splits.training.X,
        scores={declaration.positive_class: probability},
        positive_class=declaration.positive_class,
        labelled=True,
        attributions=attributions(explainer, 0, declaration.features, rows.X),
        data_fingerprint=splits.fingerprint(),
    )


def frozen_counts(
    features: Sequence[Feature],
    rows: Rows,
    *,
    training: FloatMatrix,
    scores: Mapping[Label, Floats],
    positive_class: Label | None,
    labelled: bool,
    attributions: dict[str, Any] | None,
    data_fingerprint: str,
) -> dict[str, Any]:
    """The same from its parts: n `rows`, and for each class to be watched its probability `(n,)`.

    `rows.y` is about `positive_class` against the rest, and means something where the rows are `labelled`.
    """
    score = None if positive_class is None else scores.get(positive_class)
    made = {
        "n": len(rows),
        "data_fingerprint": data_fingerprint,
        "features": [_feature(feature, rows.X[:, i], training[:, i]) for i, feature in enumerate(features)],
        "scores": [_score(label, probability) for label, probability in scores.items()],
        "groups": {name: _groups(rows, name, score, labelled=labelled) for name in rows.groups},
    }
    if score is not None and labelled:
        found = calibrators(score, rows.y == 1, rows.groups)
        made |= {} if found is None else {"calibrators": found}
    return made | ({} if attributions is None else {"attributions": attributions})


def attributions(explainer: bytes, column: int, features: Sequence[Feature], X: FloatMatrix) -> dict[str, Any] | None:
    """Each feature's share of the mean |SHAP value|, from at most MOST_EXPLAINED of the rows `X` `(n, d)`.

    `column` is that of the class whose values count. None where all values are 0.

    A share is a ratio of means a_f / t of one sample, t = sum of a; by the delta method its standard error from n rows
    is sd(|value_f| - share_f * total) / t / sqrt(n), of which `deviation` is all but the last factor.
    """
    chosen = np.unique(np.linspace(0, len(X) - 1, MOST_EXPLAINED).round().astype(int))
    size = np.abs(explain_rows(run_single_threaded(explainer), X[chosen]).values[:, :, column])  # (n, d)
    total = size.sum(axis=1)
    if not total.any():
        return None
    share = size.mean(axis=0) / total.mean()
    deviation = (size - share * total[:, None]).std(axis=0) / total.mean()
    return {
        "n": len(chosen),
        "features": [
            {"name": feature.name, "share": round(float(share[i]), 9), "deviation": round(float(deviation[i]), 9)}
            for i, feature in enumerate(features)
        ],
    }


def _score(label: Label, probability: Floats) -> dict[str, Any]:
    edges = score_edges(probability)
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


def score_edges(probability: Floats) -> Floats:
    """The same for probabilities `(n,)`, with inner edges midway between neighbours.

    The last bits of a probability depend on its batch: an edge on a value that many rows share would part them.
    """
    edges, distinct = equal_count_edges(probability), np.unique(probability.astype(np.float32)).astype(np.float64)
    below = distinct[np.searchsorted(distinct, edges[1:-1]) - 1]
    edges[1:-1] = ((below + edges[1:-1]) / 2).astype(np.float32)
    return np.unique(edges)


def bin_counts(values: NDArray[np.floating[Any]], edges: Floats) -> Integers:
    """Counts `(k+2,)` of `values` `(n,)`, none missing: underflow, the k bins, overflow."""
    index = np.searchsorted(edges, values.astype(np.float32).astype(np.float64), side="right")
    return np.bincount(index, minlength=len(edges) + 1)


def _named(counts: Integers) -> dict[str, Any]:
    return {"underflow": int(counts[0]), "bins": counts[1:-1].tolist(), "overflow": int(counts[-1])}


def _groups(rows: Rows, sensitive_feature: str, score: Floats | None, *, labelled: bool) -> dict[str, dict[str, Any]]:
    """Per group that occurs: how many rows, how many of them positive, and their scores in the bins of all scores."""
    values = rows.groups[sensitive_feature]
    edges = None if score is None else score_edges(score)
    made: dict[str, dict[str, Any]] = {}
    for group in np.unique(values):
        mine = values == group
        made[str(group)] = {"n": int(mine.sum())}
        if labelled:
            made[str(group)]["positives"] = int(rows.y[mine].sum())
        if score is not None and edges is not None:
            made[str(group)]["scores"] = _named(bin_counts(score[mine], edges))
    return made
