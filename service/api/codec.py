"""Validated rows and answers <-> NumPy arrays. Knows the column order of `X` and nothing else."""

from collections.abc import Sequence
from typing import Any, NamedTuple

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


class Decisions(NamedTuple):
    """n decisions: the index of the predicted class and the score of each.

    The score is the probability of the positive class; without one, that of the predicted class.
    """

    predicted: list[int]
    scores: list[float]


def decide(manifest: Manifest, probability: Floats) -> Decisions:
    """`probability` `(n, K)` -> decisions.

    Binary: positive iff probability >= threshold. Multi-class: the most probable.
    """
    if manifest.task == "multiclass":
        winners: list[int] = probability.argmax(axis=1).tolist()
        columns = winners if manifest.positive_class is None else [manifest.positive_index] * len(winners)
        return Decisions(winners, [row[column] for row, column in zip(probability.tolist(), columns, strict=True)])
    index, threshold = manifest.positive_index, manifest.threshold
    assert threshold is not None
    scores: list[float] = probability[:, index].tolist()
    return Decisions([index if score >= threshold else 1 - index for score in scores], scores)


def prediction(
    manifest: Manifest, id_: str, predicted: int, score: float, probabilities: list[float]
) -> dict[str, Any]:
    """One answer. `probabilities` `(K,)` stand in that of a multi-class model, by class."""
    if manifest.task == "multiclass":
        names = [str(label) for label in manifest.classes]
        by_class = dict(zip(names, probabilities, strict=True))
        return {"id": id_, "label": manifest.classes[predicted], "probabilities": by_class}
    label = manifest.classes[predicted]
    return {"id": id_, "label": label, "probability": score, "threshold": manifest.threshold}


def predictions(
    manifest: Manifest, ids: Sequence[str], decisions: Decisions, probability: Floats
) -> list[dict[str, Any]]:
    """One answer per row, as `prediction` has it."""
    rows: list[list[float]] = probability.tolist()
    return [
        prediction(manifest, id_, predicted, score, row)
        for id_, predicted, score, row in zip(ids, decisions.predicted, decisions.scores, rows, strict=True)
    ]
