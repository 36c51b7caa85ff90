"""Validated rows and answers <-> NumPy arrays. Knows the column order of `X` and nothing else."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.manifest import Feature, Manifest

Floats = NDArray[np.float32]


def matrix(instances: Sequence[dict[str, Any]]) -> Floats:
    """Instances whose values stand in manifest order -> `X` `(n, d)` float32; None becomes NaN."""
    return np.array([list(instance.values()) for instance in instances], np.float32)


def instance(features: Sequence[Feature], row: Sequence[float | None]) -> dict[str, Any]:
    """One row of `X` as a caller would have posted it."""
    return {feature.name: _value(feature, number) for feature, number in zip(features, row, strict=True)}


def _value(feature: Feature, number: float | None) -> Any:
    if number is None:
        return None
    if feature.categories is not None:
        return feature.categories[int(number)]
    return int(number) if feature.kind in ("integer", "binary") else number


def posted(features: Sequence[Feature], row: Floats) -> list[Any]:
    """One row of `X` `(d,)` as a caller posts it, numbers in the shortest form that gives the same float32."""
    numbers = [None if np.isnan(number) else float(str(number)) for number in row]
    return [_value(feature, number) for feature, number in zip(features, numbers, strict=True)]


def predictions(manifest: Manifest, ids: Sequence[str], probability: Floats) -> list[dict[str, Any]]:
    """`probability` `(n, K)` -> one object per row.

    Binary: `probability` of the positive class, label positive iff it is >= threshold. Multi-class: `probabilities` by
    class, label the most probable.
    """
    if manifest.task == "multiclass":
        names = [str(label) for label in manifest.classes]
        winners: list[int] = probability.argmax(axis=1).tolist()
        return [
            {"id": id_, "label": manifest.classes[winner], "probabilities": dict(zip(names, row, strict=True))}
            for id_, winner, row in zip(ids, winners, probability.tolist(), strict=True)
        ]
    index, threshold = manifest.positive_index, manifest.threshold
    assert threshold is not None
    positive, negative = manifest.classes[index], manifest.classes[1 - index]
    column: list[float] = probability[:, index].tolist()
    return [
        {"id": id_, "label": positive if p >= threshold else negative, "probability": p, "threshold": threshold}
        for id_, p in zip(ids, column, strict=True)
    ]
